package main

import (
	"context"
	"strings"

	"github.com/fluxcd/pkg/oci"
	"github.com/google/go-containerregistry/pkg/crane"
)

// The commands of `flux push|pull|list artifact`, by the client those are made of. Registries are reached over plain HTTP.
func init() {
	commands["oci-push"] = command{"oci-push HOST/REPOSITORY:TAG DIR", 2, ociPush}
	commands["oci-pull"] = command{"oci-pull HOST/REPOSITORY:TAG DIR", 2, ociPull}
	commands["oci-list"] = command{"oci-list HOST/REPOSITORY", 1, ociList}
	commands["oci-digest"] = command{"oci-digest HOST/REPOSITORY:TAG", 1, ociDigest}
}

func ociClient() *oci.Client {
	return oci.NewClient(append(oci.DefaultOptions(), crane.Insecure))
}

func ociPush(args []string) (map[string]any, error) {
	meta := oci.Metadata{Source: "https://example.com/flux", Revision: "main@sha1:abc", Created: "2026-01-02T03:04:05Z"}
	digest, err := ociClient().Push(context.Background(), args[0], args[1], oci.WithPushMetadata(meta))
	return map[string]any{"digest": digest}, err
}

func ociPull(args []string) (map[string]any, error) {
	meta, err := ociClient().Pull(context.Background(), args[0], args[1])
	if err != nil {
		return nil, err
	}
	return map[string]any{"digest": meta.Digest, "source": meta.Source, "revision": meta.Revision}, nil
}

func ociList(args []string) (map[string]any, error) {
	found, err := ociClient().List(context.Background(), args[0], oci.ListOptions{})
	if err != nil {
		return nil, err
	}
	lines := make([]string, 0, len(found))
	for _, meta := range found {
		lines = append(lines, strings.Join([]string{meta.URL, meta.Digest, meta.Source, meta.Revision}, " "))
	}
	return map[string]any{"tags": lines}, nil
}

func ociDigest(args []string) (map[string]any, error) {
	digest, err := crane.Digest(args[0], ociClient().GetOptions()...)
	return map[string]any{"digest": digest}, err
}

package main

import (
	"context"
	"net/url"
	"os"
	"path/filepath"

	"github.com/fluxcd/pkg/git"
	"github.com/fluxcd/pkg/git/gogit"
	"github.com/fluxcd/pkg/git/repository"
)

func init() {
	commands["git"] = command{"git URL BRANCH KEY|- KNOWN_HOSTS|- OUT", 5, cloneAndArchive}
}

// cloneAndArchive follows source-controller's gitCheckout and reconcileArtifact: clone a branch at depth 1 into a fresh
// directory, then archive it.
func cloneAndArchive(args []string) (map[string]any, error) {
	address, err := url.Parse(args[0])
	if err != nil {
		return nil, err
	}
	data := map[string][]byte{}
	if args[2] != "-" {
		if data["identity"], err = os.ReadFile(args[2]); err != nil {
			return nil, err
		}
		if data["known_hosts"], err = os.ReadFile(args[3]); err != nil {
			return nil, err
		}
	}
	auth, err := git.NewAuthOptions(*address, data)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(args[4]), "gitrepository-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	client, err := gogit.NewClient(dir, auth, gogit.WithDiskStorage(), gogit.WithInsecureCredentialsOverHTTP())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	config := repository.CloneConfig{
		CheckoutStrategy: repository.CheckoutStrategy{Branch: args[1]},
		ShallowClone:     true,
	}
	if _, err := client.Clone(context.Background(), args[0], config); err != nil {
		return nil, err
	}
	return archive([]string{dir, args[4]})
}

package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/artifact/config"
	"github.com/fluxcd/pkg/artifact/storage"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// bucket follows reconcileSource and reconcileArtifact of source-controller's Bucket: list with minio-go, digest the etags,
// and unless the revision is the given one, fetch every object with a hundred workers into a directory, and archive that.
func init() {
	commands["bucket"] = command{"bucket ENDPOINT KEY SECRET BUCKET REVISION OUT", 6, bucket}
}

func bucket(args []string) (map[string]any, error) {
	endpoint, key, secret, name, known, out := args[0], args[1], args[2], args[3], args[4], args[5]
	ctx := context.Background()
	client, err := minio.New(endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(key, secret, ""), Secure: false, BucketLookup: minio.BucketLookupAuto,
	})
	if err != nil {
		return nil, err
	}
	if exists, err := client.BucketExists(ctx, name); err != nil || !exists {
		return nil, fmt.Errorf("no bucket: %w", err)
	}
	index := map[string]string{}
	for object := range client.ListObjects(ctx, name, minio.ListObjectsOptions{Recursive: true}) {
		if object.Err != nil {
			return nil, object.Err
		}
		if !strings.HasSuffix(object.Key, "/") && object.Key != ".sourceignore" {
			index[object.Key] = object.ETag
		}
	}
	if revision(index) == known {
		return map[string]any{"revision": known, "size": 0}, nil
	}
	work, err := os.MkdirTemp(filepath.Dir(out), "bucket-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	if err := fetch(ctx, client, name, index, work); err != nil {
		return nil, err
	}
	store, err := storage.New(&config.Options{
		StoragePath: filepath.Dir(out), StorageAddress: "localhost:0", StorageAdvAddress: "localhost:0",
		ArtifactRetentionRecords: 2, ArtifactDigestAlgo: "sha256",
	})
	if err != nil {
		return nil, err
	}
	artifact := meta.Artifact{Path: filepath.Base(out)}
	if err := store.Archive(&artifact, work, nil); err != nil {
		return nil, err
	}
	return map[string]any{"revision": revision(index), "digest": artifact.Digest, "size": artifact.Size}, nil
}

func revision(index map[string]string) string {
	keys := make([]string, 0, len(index))
	for key := range index {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	digest := sha256.New()
	for _, key := range keys {
		fmt.Fprintf(digest, "%s %s\n", key, index[key])
	}
	return fmt.Sprintf("sha256:%x", digest.Sum(nil))
}

func fetch(ctx context.Context, client *minio.Client, name string, index map[string]string, work string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		workers := semaphore.NewWeighted(100)
		for key := range index {
			if err := workers.Acquire(ctx, 1); err != nil {
				return err
			}
			group.Go(func() error {
				defer workers.Release(1)
				path := filepath.Join(work, filepath.FromSlash(key))
				stat, err := client.StatObject(ctx, name, key, minio.GetObjectOptions{})
				if err != nil {
					return err
				}
				options := minio.GetObjectOptions{}
				if err := options.SetMatchETag(stat.ETag); err != nil {
					return err
				}
				return client.FGetObject(ctx, name, key, path, options)
			})
		}
		return nil
	})
	return group.Wait()
}

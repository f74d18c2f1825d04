// Flux's own code, behind one small program, for the benchmarks to measure fluxsrc against.
//
//	flux-peer archive DIR OUT   pack a directory as source-controller does for a Git repository
//
// Each command prints one line of JSON on standard output.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/artifact/config"
	"github.com/fluxcd/pkg/artifact/storage"
	"github.com/fluxcd/pkg/sourceignore"
)

type command struct {
	usage string
	args  int
	run   func(args []string) (map[string]any, error)
}

var commands = map[string]command{
	"archive": {"archive DIR OUT", 2, archive},
}

func main() {
	if len(os.Args) > 1 {
		if c, ok := commands[os.Args[1]]; ok && len(os.Args) == c.args+2 {
			start := time.Now()
			result, err := c.run(os.Args[2:])
			if err == nil {
				result["seconds"] = time.Since(start).Seconds() // without the start of the process
				err = json.NewEncoder(os.Stdout).Encode(result)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "flux-peer:", err)
				os.Exit(1)
			}
			return
		}
	}
	for _, c := range commands {
		fmt.Fprintln(os.Stderr, "usage: flux-peer", c.usage)
	}
	os.Exit(2)
}

// archive follows reconcileArtifact of source-controller's GitRepository: patterns from the tree, then Storage.Archive.
func archive(args []string) (map[string]any, error) {
	dir, err := filepath.Abs(args[0])
	if err != nil {
		return nil, err
	}
	out, err := filepath.Abs(args[1])
	if err != nil {
		return nil, err
	}
	store, err := storage.New(&config.Options{
		StoragePath:              filepath.Dir(out),
		StorageAddress:           "localhost:0",
		StorageAdvAddress:        "localhost:0",
		ArtifactRetentionRecords: 2,
		ArtifactDigestAlgo:       "sha256",
	})
	if err != nil {
		return nil, err
	}
	domain := strings.Split(dir, string(filepath.Separator))
	patterns, err := sourceignore.LoadIgnorePatterns(dir, domain)
	if err != nil {
		return nil, err
	}
	artifact := meta.Artifact{Path: filepath.Base(out)}
	if err := store.Archive(&artifact, dir, storage.SourceIgnoreFilter(patterns, domain)); err != nil {
		return nil, err
	}
	return map[string]any{"digest": artifact.Digest, "size": artifact.Size}, nil
}

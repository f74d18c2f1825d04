// Flux's fetcher, the code by which kustomize-controller and helm-controller read artifacts, behind a small program.
//
//	flux-fetch URL DIGEST DIR   download an artifact, verify it, unpack it into a directory
package main

import (
	"fmt"
	"os"

	"github.com/fluxcd/pkg/http/fetch"
	"github.com/fluxcd/pkg/tar"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: flux-fetch URL DIGEST DIR")
		os.Exit(2)
	}
	fetcher := fetch.New(fetch.WithRetries(0), fetch.WithUntar(tar.WithMaxUntarSize(tar.UnlimitedUntarSize)))
	if err := fetcher.Fetch(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "flux-fetch:", err)
		os.Exit(1)
	}
}

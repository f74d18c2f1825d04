#!/usr/bin/env bash
# The registries and tools of the OCI tests: Debian's from apt, Go's built into $GOBIN unless they are there.
source "$(dirname "$0")/common.sh"

with_go
from_apt docker-registry docker-registry skopeo skopeo openssl openssl zstd zstd git git
build crane github.com/google/go-containerregistry@v0.22.1 ./cmd/crane
build oras oras.land/oras@v1.2.0 ./cmd/oras
# By the path it had before it got a domain of its own, which not every proxy reaches. Its go.mod says another name than its
# path, so that only its own directory can be built; without extensions.
CGO_ENABLED=0 build zot github.com/project-zot/zot@v1.4.3 ./cmd/zot -tags containers_image_openpgp
# Flux's own client, as in the benchmarks; go.mod pins it.
(cd benchmarks/peers/flux && go build -o "$GOBIN/flux-peer" .)

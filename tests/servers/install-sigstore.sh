#!/usr/bin/env bash
# The servers of the keyless tests, built into $GOBIN: Fulcio, Rekor 2 over files, the timestamp authority.
# cosign has an install script of its own.
source "$(dirname "$0")/common.sh"

with_go
build fulcio github.com/sigstore/fulcio@v1.8.8 . -buildvcs=false -ldflags=-s
# v2.4 wants Go 1.27, and so does v2.1.5 of the timestamp authority.
build rekor-server-posix github.com/sigstore/rekor-tiles/v2@v2.3.0 ./cmd/rekor-server/posix -buildvcs=false -ldflags=-s
build timestamp-server github.com/sigstore/timestamp-authority/v2@v2.1.2 ./cmd/timestamp-server -buildvcs=false -ldflags=-s

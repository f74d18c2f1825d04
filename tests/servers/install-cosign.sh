#!/usr/bin/env bash
# cosign 3, which writes and reads its old layout as well, built into $GOBIN.
# It is large: its clients of all the clouds' key services make some minutes of compiling.
source "$(dirname "$0")/common.sh"

with_go
build cosign github.com/sigstore/cosign/v3@v3.1.3 ./cmd/cosign -ldflags=-s

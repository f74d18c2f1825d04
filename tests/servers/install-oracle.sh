#!/usr/bin/env bash
# Flux's own decisions on ignore rules and version ranges, as a program; go.mod pins them.
set -euo pipefail
cd "$(dirname "$0")/peers/oracle"

export GOBIN="${GOBIN:-$(go env GOPATH)/bin}"
mkdir -p "$GOBIN"
go build -o "$GOBIN/flux-oracle" .

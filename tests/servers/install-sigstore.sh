#!/usr/bin/env bash
# The servers of the keyless tests, built into $GOBIN: Fulcio, Rekor 2 over files, the timestamp authority.
# Returns at once if there is nothing to do. cosign has an install script of its own.
set -euo pipefail
fulcio_version=v1.8.8
rekor_version=v2.3.0      # v2.4 wants Go 1.27
timestamp_version=v2.1.2  # v2.1.5, too
export GOBIN="${GOBIN:-$(go env GOPATH)/bin}"
mkdir -p "$GOBIN"

build() { # PROGRAM MODULE VERSION PACKAGE
    [[ -x $GOBIN/$1 ]] && return
    # Not `go install …@version`: that also asks the module proxy for a list of versions, which not every proxy has.
    local directory
    directory=$(cd / && go mod download -json "$2@$3" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
    (cd "$directory" && go build -buildvcs=false -ldflags=-s -o "$GOBIN/$1" "$4")
}

build fulcio github.com/sigstore/fulcio "$fulcio_version" .
build rekor-server-posix github.com/sigstore/rekor-tiles/v2 "$rekor_version" ./cmd/rekor-server/posix
build timestamp-server github.com/sigstore/timestamp-authority/v2 "$timestamp_version" ./cmd/timestamp-server

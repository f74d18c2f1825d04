#!/usr/bin/env bash
# What reads from our server in its tests, besides the registries' tools that install-oci.sh brings.
set -euo pipefail
cd "$(dirname "$0")/../.."

from_apt() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null && return
    (
        flock 9
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -qq --no-install-recommends -y "$2" ||
            { apt-get update -qq && apt-get install -qq --no-install-recommends -y "$2"; }
    ) 9>"${TMPDIR:-/tmp}/fluxsrc-apt.lock"
}

from_apt curl curl
from_apt wrk wrk
from_apt go golang-go
export GOBIN="${GOBIN:-$(go env GOPATH)/bin}"
mkdir -p "$GOBIN"
# The code by which Flux's controllers read artifacts; go.mod pins it.
(cd tests/servers/peers/fetch && go build -o "$GOBIN/flux-fetch" .)

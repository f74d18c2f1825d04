#!/usr/bin/env bash
# What reads from our server in its tests, besides the registries' tools that install-oci.sh brings.
source "$(dirname "$0")/common.sh"

with_go
from_apt curl curl wrk wrk
# The code by which Flux's controllers read artifacts; go.mod pins it.
(cd tests/servers/peers/fetch && go build -o "$GOBIN/flux-fetch" .)

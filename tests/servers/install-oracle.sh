#!/usr/bin/env bash
# Flux's own decisions on ignore rules and version ranges, as a program; go.mod pins them.
source "$(dirname "$0")/common.sh"

with_go
(cd tests/servers/peers/oracle && go build -o "$GOBIN/flux-oracle" .)

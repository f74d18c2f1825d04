#!/usr/bin/env bash
# notation, the Notary Project's own tool, built into $GOBIN; and openssl, ssh-keygen and a registry.
source "$(dirname "$0")/common.sh"

with_go
from_apt openssl openssl ssh-keygen openssh-client docker-registry docker-registry
build notation github.com/notaryproject/notation@v1.3.2 ./cmd/notation

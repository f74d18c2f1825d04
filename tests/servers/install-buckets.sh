#!/usr/bin/env bash
# The object stores of the bucket tests: MinIO and fake-gcs-server built into $GOBIN, Azurite from npm, linked from there.
source "$(dirname "$0")/common.sh"
azurite_version=3.35.0

azurite() {
    [[ ! -x $GOBIN/azurite-blob ]] || return 0
    npm install --silent --no-audit --no-fund --prefix "$GOBIN/../azurite-$azurite_version" "azurite@$azurite_version"
    ln -sf "../azurite-$azurite_version/node_modules/.bin/azurite-blob" "$GOBIN/azurite-blob"
}

with_go
from_apt npm npm
build minio github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c .
build fake-gcs-server github.com/fsouza/fake-gcs-server@v1.56.1 .
azurite

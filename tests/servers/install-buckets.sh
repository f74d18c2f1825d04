#!/usr/bin/env bash
# The object stores of the bucket tests: MinIO and fake-gcs-server built into $GOBIN, Azurite from npm, linked from there.
# One function for each; it returns at once if there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/../.."
minio_version=v0.0.0-20260212201848-7aac2a2c5b7c
fake_gcs_version=v1.56.1
azurite_version=3.35.0

from_apt() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null && return
    (
        flock 9
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -qq --no-install-recommends -y "$2" ||
            { apt-get update -qq && apt-get install -qq --no-install-recommends -y "$2"; }
    ) 9>"${TMPDIR:-/tmp}/fluxsrc-apt.lock"
}

# Not `go install …@version`: that also asks the module proxy for a list of versions, which not every proxy has.
build() { # PROGRAM MODULE VERSION PACKAGE
    [[ -x $GOBIN/$1 ]] && return
    local directory
    directory=$(cd / && go mod download -json "$2@$3" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
    (cd "$directory" && go build -o "$GOBIN/$1" "$4")
}

azurite() {
    [[ -x $GOBIN/azurite-blob ]] && return
    npm install --silent --no-audit --no-fund --prefix "$GOBIN/../azurite-$azurite_version" "azurite@$azurite_version"
    ln -sf "../azurite-$azurite_version/node_modules/.bin/azurite-blob" "$GOBIN/azurite-blob"
}

from_apt go golang-go
from_apt npm npm
export GOBIN="${GOBIN:-$(go env GOPATH)/bin}"
mkdir -p "$GOBIN"
build minio github.com/minio/minio "$minio_version" .
build fake-gcs-server github.com/fsouza/fake-gcs-server "$fake_gcs_version" .
azurite

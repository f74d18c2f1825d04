#!/usr/bin/env bash
# The registries and tools of the OCI tests: Debian's from apt, Go's built into $GOBIN unless they are there.
# One function for each; it returns at once if there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/../.."
crane_version=v0.22.1
oras_version=v1.2.0
zot_version=v1.4.3

from_apt() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null && return
    (
        flock 9
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -qq --no-install-recommends -y "$2" ||
            { apt-get update -qq && apt-get install -qq --no-install-recommends -y "$2"; }
    ) 9>"${TMPDIR:-/tmp}/fluxsrc-apt.lock"
}

debian() {
    from_apt docker-registry docker-registry
    from_apt skopeo skopeo
    from_apt openssl openssl
    from_apt zstd zstd
    from_apt git git
    from_apt go golang-go
}

crane() {
    [[ -x $GOBIN/crane ]] || go install "github.com/google/go-containerregistry/cmd/crane@$crane_version"
}

oras() {
    [[ -x $GOBIN/oras ]] && return
    # Not `go install …@version`: that also asks the module proxy for a list of versions, which not every proxy has.
    local directory
    directory=$(cd / && go mod download -json "oras.land/oras@$oras_version" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
    (cd "$directory" && go build -o "$GOBIN/oras" ./cmd/oras)
}

# By the path it had before it got a domain of its own, which not every proxy reaches. Its go.mod says another name than its
# path, so that only its own directory can be built; without extensions.
zot() {
    [[ -x $GOBIN/zot ]] && return
    local directory
    directory=$(cd / && go mod download -json "github.com/project-zot/zot@$zot_version" |
        sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
    (cd "$directory" && CGO_ENABLED=0 go build -tags containers_image_openpgp -o "$GOBIN/zot" ./cmd/zot)
}

# Flux's own client, as in the benchmarks.
flux() {
    (cd benchmarks/peers/flux && go build -o "$GOBIN/flux-peer" .)
}

debian
export GOBIN="${GOBIN:-$(go env GOPATH)/bin}"
mkdir -p "$GOBIN"
crane
oras
zot
flux

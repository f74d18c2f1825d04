#!/usr/bin/env bash
# The servers of the Git tests: git with its http-backend and daemon, OpenSSH, git-lfs and a server for it.
# One function for each; it returns at once if there is nothing to do.
set -euo pipefail
lfs_version=v0.4.0

debian() {
    local missing=() program package
    while read -r program package; do
        PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null || missing+=("$package")
    done <<'PACKAGES'
git git
ssh-keygen openssh-client
sshd openssh-server
git-lfs git-lfs
go golang-go
PACKAGES
    [[ ${#missing[@]} -gt 0 ]] || return 0
    local as_root=()
    [[ $(id -u) -eq 0 ]] || as_root=(sudo)
    (
        flock 9
        "${as_root[@]}" apt-get update -qq
        DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
    ) 9>"${TMPDIR:-/tmp}/fluxsrc-apt.lock"
}

# git-lfs's own test server, at its last release, which is older than Go modules: it gets a go.mod of ours.
lfs_test_server() {
    [[ -x $GOBIN/lfs-test-server ]] && return
    local source build
    source=$(cd / && go mod download -json "github.com/git-lfs/lfs-test-server@$lfs_version" |
        sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
    build=$(mktemp -d)
    cp -r "$source/." "$build"
    chmod -R u+w "$build"
    cat >"$build/go.mod" <<'MODULE'
module github.com/git-lfs/lfs-test-server

go 1.16

require (
	github.com/GeertJohan/go.rice v1.0.3
	github.com/boltdb/bolt v1.3.1
	github.com/gorilla/context v1.1.2
	github.com/gorilla/mux v1.8.1
	golang.org/x/sys v0.15.0
)
MODULE
    (cd "$build" && go build -mod=mod -o "$GOBIN/lfs-test-server" .)
    rm -rf "$build"
}

debian
export GOBIN="${GOBIN:-$(go env GOPATH)/bin}"
mkdir -p "$GOBIN"
lfs_test_server

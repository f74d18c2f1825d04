#!/usr/bin/env bash
# The servers of the Git tests: git with its http-backend and daemon, OpenSSH, git-lfs and a server for it.
source "$(dirname "$0")/common.sh"
lfs_version=v0.4.0

# git-lfs's own test server, at its last release, which is older than Go modules: it gets a go.mod of ours.
lfs_test_server() {
    [[ ! -x $GOBIN/lfs-test-server ]] || return 0
    local source build
    source=$(module "github.com/git-lfs/lfs-test-server@$lfs_version")
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

with_go
from_apt git git ssh-keygen openssh-client sshd openssh-server git-lfs git-lfs
lfs_test_server

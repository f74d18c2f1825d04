#!/usr/bin/env bash
# The API server of the controller's tests: etcd from Debian, kube-apiserver built into $GOBIN unless it is there.
# One function for each; it returns at once if there is nothing to do.
set -euo pipefail
kubernetes_version=1.35.0

debian() {
    local missing=() program package
    while read -r program package; do
        command -v "$program" >/dev/null || missing+=("$package")
    done <<'PACKAGES'
etcd etcd-server
git git
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

# The program alone, not all of Kubernetes: nine minutes of processor time. Its module refers to its parts by paths in
# its repository, so it is built from a module of ours, which refers to the same parts as they are published.
kube_apiserver() {
    [[ -x $GOBIN/kube-apiserver ]] && return
    local source build
    source=$(cd / && go mod download -json "k8s.io/kubernetes@v$kubernetes_version" |
        sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
    build=$(mktemp -d)
    {
        sed -e 's#^module .*#module fluxsrc.example/kube-apiserver#' \
            -e "s#=> \./staging/src/\(.*\)#=> \1 v0.${kubernetes_version#*.}#" "$source/go.mod"
        echo "require k8s.io/kubernetes v$kubernetes_version"
    } >"$build/go.mod"
    cp "$source/go.sum" "$build"
    chmod u+w "$build/go.sum"
    (cd "$build" && go build -mod=mod -ldflags='-s -w' -o "$GOBIN/kube-apiserver" k8s.io/kubernetes/cmd/kube-apiserver)
    rm -rf "$build"
}

debian
export GOBIN="${GOBIN:-$(go env GOPATH)/bin}"
mkdir -p "$GOBIN"
kube_apiserver

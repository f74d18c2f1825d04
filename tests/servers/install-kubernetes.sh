#!/usr/bin/env bash
# The API server of the controller's tests: etcd from Debian, kube-apiserver built into $GOBIN unless it is there.
source "$(dirname "$0")/common.sh"
kubernetes_version=1.35.0

# The program alone, not all of Kubernetes: nine minutes of processor time. Its module refers to its parts by paths in
# its repository, so it is built from a module of ours, which refers to the same parts as they are published.
kube_apiserver() {
    [[ ! -x $GOBIN/kube-apiserver ]] || return 0
    local source build
    source=$(module "k8s.io/kubernetes@v$kubernetes_version")
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

with_go
from_apt etcd etcd-server git git
kube_apiserver

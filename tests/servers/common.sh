# Sourced by the install scripts, which .ci/run finds by their name; this one is not called like them. Each function returns
# at once if there is nothing to do, and each script may run alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# Install Debian's packages of which a program is missing; one at a time on this machine, as apt has but one lock.
from_apt() { # PROGRAM PACKAGE ...
    local missing=() as_root=()
    while [[ $# -gt 0 ]]; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null || missing+=("$2")
        shift 2
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    [[ $(id -u) -eq 0 ]] || as_root=(sudo)
    (
        flock 9
        "${as_root[@]}" apt-get update -qq
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    ) 9>"${TMPDIR:-/tmp}/fluxsrc-apt.lock"
}

# Where programs are built to: $GOBIN, or Go's own place.
with_go() {
    from_apt go golang-go
    export GOBIN="${GOBIN:-$(go env GOPATH)/bin}"
    mkdir -p "$GOBIN"
}

# Where the source of a module lies. For `go build` in it, and not `go install MODULE@VERSION`: that also asks the module
# proxy for a list of versions, which not every proxy has.
module() { # MODULE@VERSION
    (cd / && go mod download -json "$1") | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p'
}

build() { # PROGRAM MODULE@VERSION PACKAGE [FLAG ...]
    [[ ! -x $GOBIN/$1 ]] || return 0
    local directory
    directory=$(module "$2")
    (cd "$directory" && go build "${@:4}" -o "$GOBIN/$1" "$3")
}

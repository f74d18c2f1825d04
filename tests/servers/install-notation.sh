#!/usr/bin/env bash
# notation, the Notary Project's own tool, built into $GOBIN; and openssl and ssh-keygen. Returns at once if there is nothing to do.
set -euo pipefail
notation_version=v1.3.2
export GOBIN="${GOBIN:-$(go env GOPATH)/bin}"
mkdir -p "$GOBIN"

missing=()
while read -r program package; do
    command -v "$program" >/dev/null || missing+=("$package")
done <<'PACKAGES'
openssl openssl
ssh-keygen openssh-client
docker-registry docker-registry
PACKAGES
if [[ ${#missing[@]} -gt 0 ]]; then
    as_root=()
    [[ $(id -u) -eq 0 ]] || as_root=(sudo)
    (
        flock 9
        "${as_root[@]}" apt-get update -qq
        DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
    ) 9>"${TMPDIR:-/tmp}/fluxsrc-apt.lock"
fi

[[ -x $GOBIN/notation ]] && exit 0
# Not `go install …@version`: that also asks the module proxy for a list of versions, which not every proxy has.
directory=$(cd / && go mod download -json "github.com/notaryproject/notation@$notation_version" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
(cd "$directory" && go build -o "$GOBIN/notation" ./cmd/notation)

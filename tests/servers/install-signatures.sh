#!/usr/bin/env bash
# The tools of the signature tests: git, GnuPG and OpenSSH's ssh-keygen. Returns at once if there is nothing to do.
set -euo pipefail

missing=()
while read -r program package; do
    command -v "$program" >/dev/null || missing+=("$package")
done <<'PACKAGES'
git git
gpg gnupg
ssh-keygen openssh-client
PACKAGES
[[ ${#missing[@]} -gt 0 ]] || exit 0
as_root=()
[[ $(id -u) -eq 0 ]] || as_root=(sudo)
(
    flock 9
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
) 9>"${TMPDIR:-/tmp}/fluxsrc-apt.lock"

#!/usr/bin/env bash
# The servers of test_git_servers.py: git with its http-backend and daemon, and OpenSSH.
set -euo pipefail
if command -v git >/dev/null && command -v ssh-keygen >/dev/null && PATH="$PATH:/usr/sbin" command -v sshd >/dev/null; then
    exit 0
fi
as_root=()
[[ $(id -u) -eq 0 ]] || as_root=(sudo)
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq git openssh-server openssh-client

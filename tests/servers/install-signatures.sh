#!/usr/bin/env bash
# The tools of the signature tests: git, GnuPG and OpenSSH's ssh-keygen.
source "$(dirname "$0")/common.sh"

from_apt git git gpg gnupg ssh-keygen openssh-client

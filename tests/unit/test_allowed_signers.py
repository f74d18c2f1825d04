"""Lines of `allowed_signers` as people write them; each verdict here is `ssh-keygen`'s."""

import pytest

from fluxsrc.errors import ConfigurationError
from fluxsrc.signatures.allowed_signers import AllowedSigners

KIND, BLOB = "ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIMNFHAlXYpvJwyRWoQVxJx3r0tJZqNUoaPvqSJLSR3gm"


@pytest.mark.parametrize(
    ("line", "principals"),
    [
        (f"ssh-admin@corp.example {KIND} {BLOB}", ("ssh-admin@corp.example",)),
        (f"ecdsa-team@corp.example,ada {KIND} {BLOB}", ("ecdsa-team@corp.example", "ada")),
        (f"sk-holders,ssh-rsa {KIND} {BLOB}", ("sk-holders", "ssh-rsa")),
        (f'"ada@example.com" {KIND} {BLOB}', ("ada@example.com",)),
        (f"ada@example.com\t{KIND}\t{BLOB}  Ada's 15\" laptop", ("ada@example.com",)),
        (f'ada@example.com namespaces="git" {KIND} {BLOB} said "here" ', ("ada@example.com",)),
        (f"{KIND} {BLOB} ada@example.com", None),
    ],
)
def test_a_line_is_taken_apart(line, principals):
    [signer] = AllowedSigners.parse(line).signers
    assert (signer.principals, signer.key.algorithm) == (principals, KIND)


@pytest.mark.parametrize(
    "line",
    [
        f'"ada lovelace",ada@example.com {KIND} {BLOB}',
        f'"ada@example.com {KIND} {BLOB}',
        f'ada@example.com namespaces="git {KIND} {BLOB}',
        f'ada@example.com namespaces="git", valid-after="20200101Z" {KIND} {BLOB}',
        f"ada@example.com eve@example.com {KIND} {BLOB}",
        f"ada@example.com ssh-rsa {BLOB}",
        f"ada@example.com {KIND}",
        f"ssh-admin@corp.example {BLOB}",
    ],
)
def test_what_ssh_keygen_does_not_understand_is_an_error(line):
    with pytest.raises(ConfigurationError, match="line 1"):
        AllowedSigners.parse(line)

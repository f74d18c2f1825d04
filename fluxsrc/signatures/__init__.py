"""Signature formats, and the policies that are made of them: SSH and OpenPGP signatures of Git's commits and tags.

Bytes in, verdicts out: no gpg or ssh-keygen is run, no keyring, agent or home directory is looked at, and no key is trusted but
those a policy is given. Needs the extra `verify`.
"""

from fluxsrc.signatures.allowed_signers import AllowedSigner, AllowedSigners
from fluxsrc.signatures.git import GitEvidence, GitSignature, SignedWhat
from fluxsrc.signatures.openpgp import OpenPGPKeys
from fluxsrc.signatures.verdict import Check, Signer

__all__ = [
    "AllowedSigner",
    "AllowedSigners",
    "Check",
    "GitEvidence",
    "GitSignature",
    "OpenPGPKeys",
    "SignedWhat",
    "Signer",
]

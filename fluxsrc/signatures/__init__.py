"""Signature formats, and the policies that are made of them: of Git's commits and tags, and of what lies in registries.

Bytes in, verdicts out: no gpg or ssh-keygen is run, no keyring, agent or home directory is looked at, and no key is trusted but
those a policy is given. Needs the extra `verify`.
"""

from typing import TYPE_CHECKING

from fluxsrc._lazy import names_of

if TYPE_CHECKING:
    from fluxsrc.signatures.allowed_signers import AllowedSigner, AllowedSigners
    from fluxsrc.signatures.cosign import CosignKeySignature
    from fluxsrc.signatures.git import GitEvidence, GitSignature, SignedWhat
    from fluxsrc.signatures.identity import Identity, identities_from_flux
    from fluxsrc.signatures.keyless import CosignKeylessSignature
    from fluxsrc.signatures.kinds import SignatureKind
    from fluxsrc.signatures.oci import OCIEvidence, SignatureRecord
    from fluxsrc.signatures.openpgp import OpenPGPKeys
    from fluxsrc.signatures.publickeys import PublicKey
    from fluxsrc.signatures.trustedroot import TrustedRoot
    from fluxsrc.signatures.verdict import Check, OCICheck, Signer
else:
    __getattr__, __dir__ = names_of(
        __name__,
        {
            "AllowedSigner": "allowed_signers",
            "AllowedSigners": "allowed_signers",
            "Check": "verdict",
            "CosignKeySignature": "cosign",
            "CosignKeylessSignature": "keyless",
            "GitEvidence": "git",
            "GitSignature": "git",
            "Identity": "identity",
            "OCICheck": "verdict",
            "OCIEvidence": "oci",
            "OpenPGPKeys": "openpgp",
            "PublicKey": "publickeys",
            "SignatureKind": "kinds",
            "SignatureRecord": "oci",
            "SignedWhat": "git",
            "Signer": "verdict",
            "TrustedRoot": "trustedroot",
            "identities_from_flux": "identity",
        },
    )

__all__ = [
    "AllowedSigner",
    "AllowedSigners",
    "Check",
    "CosignKeySignature",
    "CosignKeylessSignature",
    "GitEvidence",
    "GitSignature",
    "Identity",
    "OCICheck",
    "OCIEvidence",
    "OpenPGPKeys",
    "PublicKey",
    "SignatureKind",
    "SignatureRecord",
    "SignedWhat",
    "Signer",
    "TrustedRoot",
    "identities_from_flux",
]

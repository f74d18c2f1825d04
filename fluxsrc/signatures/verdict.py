"""The numbered checks of signatures in Git and in registries, and what becomes known of a signer."""

import datetime as dt
import enum

import attrs

from fluxsrc.errors import VerificationError

__all__ = ["Check", "OCICheck", "Signer", "failed"]


class Check(enum.IntEnum):
    """What is checked, in this order; see `fluxsrc.signatures.git.GitSignature`."""

    OBJECT = 1
    TAG = 2
    SIGNATURE = 3
    FORM = 4
    ALGORITHM = 5
    KEY = 6
    TIME = 7
    SIGNER = 8
    CRYPTOGRAPHY = 9


class OCICheck(enum.IntEnum):
    """What is checked of a signature in a registry, whichever its layout. Policies pass over what they have no use for.

    1. The manifest is the one whose digest was resolved.
    2. There is a signature, in a layout that the policy accepts.
    3. It is well-formed, of limited size, and strict JSON, DER or CBOR.
    4. Its algorithms are allowed, and those of its key.
    5. Its certificate leads to a trusted root, and was valid.
    6. The transparency log has it.
    7. Whoever signed is who was asked for: a name in the certificate, or simply one of the keys.
    8. The signature holds over exactly the signed bytes.
    9. The signed bytes name exactly the digest that was resolved, and the repository where one is asked for.
    10. The signed annotations are those that are asked for.
    """

    OBJECT = 1
    SIGNATURE = 2
    FORM = 3
    ALGORITHM = 4
    CERTIFICATE = 5
    LOG = 6
    SIGNER = 7
    CRYPTOGRAPHY = 8
    SUBJECT = 9
    ANNOTATIONS = 10


@attrs.frozen
class Signer:
    """Who signed.

    Attributes:
        name: A principal of the allowed signers, a user id of the OpenPGP key, or "" where the key has no name.
        key: The key's fingerprint, as ssh-keygen or gpg shows it.
        when: When, as the signed data says: before `now`, but still the signer's word.
        scheme: "ssh" or "openpgp".
        algorithm: Of the signature.
    """

    name: str
    key: str
    when: dt.datetime
    scheme: str
    algorithm: str


def failed(check: enum.IntEnum, message: str, *, hint: str | None = None) -> VerificationError:
    """The error of a check, to raise."""
    return VerificationError(f"check {check.value} ({check.name.lower()}): {message}", check=check.value, hint=hint)

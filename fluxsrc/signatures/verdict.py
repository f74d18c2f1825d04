"""The numbered checks of a Git signature, and what becomes known of its signer."""

import datetime as dt
import enum

import attrs

from fluxsrc.errors import VerificationError

__all__ = ["Check", "Signer", "failed"]


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


def failed(check: Check, message: str, *, hint: str | None = None) -> VerificationError:
    """The error of a check, to raise."""
    return VerificationError(f"check {check.value} ({check.name.lower()}): {message}", check=check.value, hint=hint)

"""SSH signatures, as `ssh-keygen -Y sign` makes them (OpenSSH's PROTOCOL.sshsig), held against allowed signers."""

import base64
import binascii
import datetime as dt
import hashlib
import re
import struct
from collections.abc import Sequence
from typing import Final, Self

import attrs

from fluxsrc.signatures.allowed_signers import AllowedSigner, AllowedSigners, matches
from fluxsrc.signatures.sshkeys import KeyFormatError, SSHPublicKey, WireReader
from fluxsrc.signatures.verdict import Check, Signer, failed

__all__ = ["BEGIN", "SSHSignature", "verify_ssh"]

BEGIN: Final = b"-----BEGIN SSH SIGNATURE-----"
_ARMOR: Final = re.compile(
    rb"-----BEGIN SSH SIGNATURE-----\n((?:[A-Za-z0-9+/]{1,76}\n)*[A-Za-z0-9+/]{1,76}={0,2}\n)-----END SSH SIGNATURE-----\n?"
)
_MAX_ARMORED: Final = 64 * 1024
_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_HASHES: Final = frozenset({"sha256", "sha512"})


@attrs.frozen
class SSHSignature:
    """A signature, taken apart but not verified.

    Attributes:
        key: The wire format of the key it says it was made with.
        namespace: What kind of thing was signed.
        hash: What the message is hashed with first.
        signature: The signature itself, in the wire format.
    """

    key: bytes = attrs.field(repr=False)
    namespace: str
    hash: str
    signature: bytes = attrs.field(repr=False)

    @classmethod
    def parse(cls, armored: bytes) -> Self:
        """Read an armored signature: one block, and nothing around it.

        Raises:
            VerificationError: 4: it is none, or damaged.
        """
        found = _ARMOR.fullmatch(armored) if len(armored) <= _MAX_ARMORED else None
        if found is None:
            raise failed(Check.FORM, "not one armored SSH signature")
        try:
            data = base64.b64decode(found[1].replace(b"\n", b""), validate=True)
            reader = WireReader(data)
            _check_start(reader)
            key, namespace = reader.string(), reader.text()
            _check_reserved(reader)
            parsed = cls(key, namespace, reader.text(), reader.string())
            reader.end()
        except (KeyFormatError, binascii.Error) as exc:
            raise failed(Check.FORM, f"the SSH signature is damaged: {exc}") from None
        return parsed

    def signed(self, message: bytes) -> bytes:
        """The bytes that the key signs for a message."""
        digest = hashlib.new(self.hash, message).digest()
        parts = (self.namespace.encode(), b"", self.hash.encode(), digest)
        return _MAGIC + b"".join(struct.pack(">I", len(part)) + part for part in parts)


def verify_ssh(
    armored: bytes,
    message: bytes,
    allowed: AllowedSigners,
    *,
    when: dt.datetime,
    now: dt.datetime,
    identities: Sequence[str] = (),
    namespace: str = "git",
) -> Signer:
    """Hold a signature against the allowed signers.

    Args:
        armored: The signature.
        message: What it should be over.
        allowed: Who may sign.
        when: When it was made, as the signed content says.
        now: The time of verification. The key has to be valid at both: the first is the signer's to choose.
        identities: Names one of which has to be the signer's; empty is any.
        namespace: What kind of thing the message is.

    Raises:
        VerificationError: 4 to 9: a check failed.
        MissingExtraError: There is nothing to check it with.
    """
    signature = SSHSignature.parse(armored)
    if signature.namespace != namespace:
        raise failed(Check.ALGORITHM, f"signed in the namespace {signature.namespace[:60]!a}, not {namespace!a}")
    if signature.hash not in _HASHES:
        raise failed(Check.ALGORITHM, f"the hash {signature.hash[:60]!a} is not one of {', '.join(sorted(_HASHES))}")
    entries = [entry for entry in allowed.signers if entry.key.blob == signature.key]
    if not entries:
        raise failed(Check.KEY, f"signed with {_shown(signature.key)}, which is not among the allowed signers")
    problems = []
    for entry in entries:  # a key may be there more than once, with other names, times or namespaces
        problem = _objection(entry, namespace, when, now, identities)
        if problem is None:
            algorithm = entry.key.verify(signature.signature, signature.signed(message))
            return Signer(_name(entry, identities), entry.key.fingerprint, when, "ssh", algorithm)
        problems.append(problem)
    raise failed(*problems[0])


def _objection(
    entry: AllowedSigner, namespace: str, when: dt.datetime, now: dt.datetime, identities: Sequence[str]
) -> tuple[Check, str] | None:
    shown = entry.key.fingerprint
    if entry.namespaces is not None and not matches(namespace, entry.namespaces):
        return Check.KEY, f"{shown} may not sign in the namespace {namespace!a}"
    for moment in (when, now):
        if entry.valid_after is not None and moment < entry.valid_after:
            return Check.TIME, f"{shown} is valid after {entry.valid_after:%Y-%m-%d %H:%M} UTC only"
        if entry.valid_before is not None and moment >= entry.valid_before:
            return Check.TIME, f"{shown} was valid before {entry.valid_before:%Y-%m-%d %H:%M} UTC only"
    if when > now + dt.timedelta(minutes=5):
        return Check.TIME, f"signed in the future, at {when:%Y-%m-%d %H:%M} UTC"
    if identities and not any(matches(identity, entry.principals or ()) for identity in identities):
        return Check.SIGNER, f"{shown} does not sign for {' or '.join(identities)}"
    return None


def _name(entry: AllowedSigner, identities: Sequence[str]) -> str:
    """The identity that was asked for, or else what the file says."""
    asked = next((identity for identity in identities if matches(identity, entry.principals or ())), None)
    return asked or ",".join(entry.principals or ())


def _check_start(reader: WireReader) -> None:
    if reader.take(len(_MAGIC)) != _MAGIC or reader.uint32() != _VERSION:
        raise KeyFormatError("it is of an unknown version")


def _check_reserved(reader: WireReader) -> None:
    """What is reserved has to be empty, or a later meaning would be passed over."""
    if reader.string():
        raise KeyFormatError("it uses what is reserved")


def _shown(blob: bytes) -> str:
    return f"the key {SSHPublicKey('', blob).fingerprint}"

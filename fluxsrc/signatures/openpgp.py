"""OpenPGP signatures, held against given public keys: no gpg, no keyring, no home directory, no trust but the caller's.

Packets, bindings, revocations and mathematics are Sequoia's (`pysequoia`, see decision 0029). What Sequoia leaves to policy is
decided here: what a signature may look like, and that a key must be good now as well as when it signed.
"""

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from fluxsrc.errors import ConfigurationError, FluxSrcError, MissingExtraError, VerificationError
from fluxsrc.signatures.openpgp_packets import holds_since_renewed
from fluxsrc.signatures.verdict import Check, Signer, failed

if TYPE_CHECKING:
    from pysequoia import Cert, Sig
    from pysequoia.packet import Packet

__all__ = ["BEGIN", "OpenPGPKeys", "verify_openpgp"]

BEGIN: Final = b"-----BEGIN PGP SIGNATURE-----"
_END: Final = b"-----END PGP SIGNATURE-----"
_KEY_BLOCK: Final = re.compile(
    r"^-----BEGIN PGP PUBLIC KEY BLOCK-----$.*?^-----END PGP PUBLIC KEY BLOCK-----$", re.MULTILINE | re.DOTALL
)
_MAX_KEYS: Final = 4 * 1024 * 1024
_MAX_ARMORED: Final = 64 * 1024
_VERSIONS: Final = (4, 6)
_HASHES: Final = frozenset({"SHA256", "SHA384", "SHA512", "SHA3_256", "SHA3_512"})
_ALGORITHMS: Final = frozenset({"RSAEncryptSign", "RSASign", "ECDSA", "EdDSA", "Ed25519", "Ed448"})
_CLOCK_SKEW: Final = dt.timedelta(minutes=5)


@attrs.frozen
class OpenPGPKeys:
    """Public keys that are trusted.

    Attributes:
        armored: Their text, as `gpg --armor --export` writes it; several blocks may follow each other.
    """

    armored: str = attrs.field(repr=lambda text: f"<{len(text)} characters>")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take over armored public keys.

        Raises:
            ConfigurationError: There is none, one is damaged, or one is secret.
            MissingExtraError: There is nothing to read them with.
        """
        if len(text) > _MAX_KEYS:
            raise ConfigurationError(f"the OpenPGP keys are larger than {_MAX_KEYS:,} bytes")
        text = text.replace("\r\n", "\n")
        if "PRIVATE KEY BLOCK" in text:
            raise ConfigurationError("this is a secret key", hint="give the public one: gpg --armor --export KEY")
        keys = cls("\n".join(_KEY_BLOCK.findall(text)))
        _certificates(keys)
        return keys

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Of the primary keys, sorted."""
        return tuple(sorted(_certificates(self)))


def verify_openpgp(
    armored: bytes, message: bytes, keys: OpenPGPKeys, *, now: dt.datetime, identities: Sequence[str] = ()
) -> Signer:
    """Hold a detached signature against public keys.

    Args:
        armored: The signature.
        message: What it should be over.
        keys: Who may sign.
        now: The time of verification. The key has to be valid then too: the time of signing is the signer's to choose.
        identities: Addresses one of which has to be in a user id of the key; empty is any.

    Raises:
        VerificationError: 4 to 9: a check failed.
        MissingExtraError: There is nothing to check it with.
    """
    signature = _signature(armored)
    with _sequoia(Check.ALGORITHM, "the OpenPGP signature uses what is not known"):
        when = _check_form(signature)
    with _sequoia(Check.KEY, "the OpenPGP key is not fit for use"):
        certificate = _find(signature, _certificates(keys))
        signing_key = _check_key(certificate, signature, when, now)
    with _sequoia(Check.TIME, "the OpenPGP signature's times cannot be read"):
        _check_signature_times(when, signature.expiration, now)
    with _sequoia(Check.SIGNER, "the OpenPGP key has no name that can be read"):
        name = _name(certificate, identities)
    _check_cryptography(armored, signature, message, certificate, signing_key)
    return Signer(
        name,
        signing_key.upper(),
        when,
        "openpgp",
        f"{_word(signature.key_algorithm)}-{_word(signature.hash_algorithm)}",
    )


def _signature(armored: bytes) -> "Sig":
    """Check 4: exactly one signature packet in one armored block, and nothing around it."""
    text = armored.strip(b"\n")
    whole = text.startswith(BEGIN + b"\n") and text.endswith(b"\n" + _END) and text.count(b"-----BEGIN") == 1
    if not whole or len(armored) > _MAX_ARMORED:
        raise failed(Check.FORM, "not one armored OpenPGP signature")
    pysequoia = _pysequoia()
    with _sequoia(Check.FORM, "the OpenPGP signature is damaged"):
        packets = list(pysequoia.packet.PacketPile.from_bytes(armored))
        if len(packets) != 1 or packets[0].tag != pysequoia.packet.Tag.Signature:
            raise failed(Check.FORM, f"not one signature, but {len(packets)} packets")
        signature: Sig = pysequoia.Sig.from_bytes(armored)
        return signature


def _check_form(signature: "Sig") -> dt.datetime:
    """Check 5; returns the time of signing."""
    kind, hashed, algorithm = (
        _word(word) for word in (signature.signature_type, signature.hash_algorithm, signature.key_algorithm)
    )
    if signature.version not in _VERSIONS:
        raise failed(Check.ALGORITHM, f"an OpenPGP signature of version {signature.version}")
    if kind != "Binary":
        raise failed(Check.ALGORITHM, f"an OpenPGP signature of the type {kind}, not over binary content")
    if hashed not in _HASHES:
        raise failed(Check.ALGORITHM, f"the hash {hashed} is not one of {', '.join(sorted(_HASHES))}")
    if algorithm not in _ALGORITHMS:
        raise failed(Check.ALGORITHM, f"a signature by {algorithm}, not one of {', '.join(sorted(_ALGORITHMS))}")
    if signature.created is None:
        raise failed(Check.FORM, "the OpenPGP signature does not say when it was made")
    return signature.created


def _find(signature: "Sig", certificates: "dict[str, Cert]") -> "Cert":
    """Check 6, first part: the certificate that has the key which the signature names."""
    issuers = {name.lower() for name in (signature.issuer_fingerprint, signature.issuer_key_id) if name}
    for certificate in certificates.values():
        if any(issuers & _names(packet) for packet in _packets(certificate)):
            return certificate
    shown = (signature.issuer_fingerprint or signature.issuer_key_id or "a key that it does not name").upper()
    raise failed(Check.KEY, f"signed by {shown}, which is none of the {len(certificates)} trusted OpenPGP keys")


def _check_key(certificate: "Cert", signature: "Sig", when: dt.datetime, now: dt.datetime) -> str:
    """Checks 6 and 7: not revoked, not expired, be it primary key or subkey; returns its fingerprint.

    Sequoia judges bindings, back-signatures, key flags and revocations for the time of signing. This is about now.
    """
    shown = certificate.fingerprint.upper()
    if certificate.is_revoked:
        raise failed(Check.KEY, f"the OpenPGP key {shown} is revoked")
    _check_times(shown, certificate.expiration, when, now)
    issuers = {name.lower() for name in (signature.issuer_fingerprint, signature.issuer_key_id) if name}
    packets = iter(_packets(certificate))
    key = next(packet for packet in packets if issuers & _names(packet))
    fingerprint = key.fingerprint
    assert fingerprint is not None
    if fingerprint == certificate.fingerprint:
        return fingerprint
    newest: Packet | None = None
    for packet in packets:  # the signatures that follow the subkey, up to the next key
        kind = _word(packet.signature_type) if packet.signature_type is not None else ""
        if _names(packet):
            break
        if kind == "SubkeyRevocation":
            raise failed(Check.KEY, f"the OpenPGP subkey {fingerprint.upper()} is revoked")
        if kind == "SubkeyBinding" and (newest is None or _created(packet) >= _created(newest)):
            newest = packet
    if newest is None:
        raise failed(Check.KEY, f"the OpenPGP subkey {fingerprint.upper()} is not bound to its primary key")
    period = newest.key_validity_period
    if period and key.key_created is not None:
        _check_times(fingerprint.upper(), key.key_created + period, when, now)
    return fingerprint


def _check_times(shown: str, expiration: dt.datetime | None, when: dt.datetime, now: dt.datetime) -> None:
    if expiration is not None and expiration <= max(now, when):
        raise failed(Check.TIME, f"the OpenPGP key {shown} expired at {expiration:%Y-%m-%d %H:%M} UTC")


def _check_signature_times(when: dt.datetime, expiration: dt.datetime | None, now: dt.datetime) -> None:
    if when > now + _CLOCK_SKEW:
        raise failed(Check.TIME, f"signed in the future, at {when:%Y-%m-%d %H:%M} UTC")
    if expiration is not None and expiration <= now:
        raise failed(Check.TIME, f"the signature expired at {expiration:%Y-%m-%d %H:%M} UTC")


def _check_cryptography(
    armored: bytes, signature: "Sig", message: bytes, certificate: "Cert", signing_key: str
) -> None:
    """Check 9."""
    try:
        valid = _valid(signature, message, certificate)
    except VerificationError:
        with _sequoia(Check.CRYPTOGRAPHY, "the OpenPGP signature cannot be read"):
            [body] = [packet.body or b"" for packet in _pysequoia().packet.PacketPile.from_bytes(armored)]
            packets = [(_word(packet.tag), packet.body or b"") for packet in _packets(certificate)]
        if not holds_since_renewed(body, message, packets, signing_key):
            raise
        return
    if (certificate.fingerprint, signing_key) not in valid:
        raise failed(Check.CRYPTOGRAPHY, "the signature holds for another key than the one that was checked")


def _valid(signature: "Sig", message: bytes, certificate: "Cert") -> set[tuple[str, str]]:
    """Check 9, by Sequoia: certificate and key of each signature that holds."""
    with _sequoia(
        Check.CRYPTOGRAPHY,
        f"the signature by {certificate.fingerprint.upper()} is not one over this content, "
        "or the key could not sign at that time",
    ):
        result = _pysequoia().verify(bytes=message, store=lambda _ids: [certificate], signature=signature)
        return {(valid.certificate.lower(), valid.signing_key.lower()) for valid in result.valid_sigs}


def _name(certificate: "Cert", identities: Sequence[str]) -> str:
    """Check 8; returns the identity that was asked for, or the first user id."""
    names = [str(user_id) for user_id in certificate.user_ids]
    if not identities:
        return names[0] if names else ""
    addresses = {name.rpartition("<")[2].rstrip(">").strip().lower() for name in names}
    for identity in identities:
        if identity.lower() in addresses:
            return identity
    raise failed(Check.SIGNER, f"{certificate.fingerprint.upper()} does not sign for {' or '.join(identities)}")


def _certificates(keys: OpenPGPKeys) -> "dict[str, Cert]":
    """By fingerprint; of copies of one key the union, so that a revocation in any of them counts."""
    found: dict[str, Cert] = {}
    for block in _KEY_BLOCK.findall(keys.armored):
        try:
            with _sequoia(Check.KEY, "damaged"):
                certificates = _pysequoia().Cert.split_bytes(block.encode())
                for certificate in certificates:
                    name = certificate.fingerprint
                    found[name] = found[name].merge(certificate) if name in found else certificate
        except VerificationError as exc:
            raise ConfigurationError("an OpenPGP public key cannot be read") from exc
    if not found:
        raise ConfigurationError("there is no armored OpenPGP public key", hint="gpg --armor --export KEY")
    return found


def _packets(certificate: "Cert") -> "list[Packet]":
    with _sequoia(Check.KEY, "an OpenPGP key cannot be read"):
        return list(_pysequoia().packet.PacketPile.from_bytes(bytes(certificate)))


def _names(packet: "Packet") -> set[str]:
    """Fingerprint and key id, if it is a key."""
    return {name.lower() for name in (packet.fingerprint, packet.key_id) if name}


def _created(packet: "Packet") -> dt.datetime:
    return packet.signature_created or dt.datetime.min.replace(tzinfo=dt.UTC)


def _word(value: object) -> str:
    """`HashAlgorithm.SHA256` is "SHA256"."""
    return str(value).rpartition(".")[2]


@contextmanager
def _sequoia(check: Check, message: str) -> Iterator[None]:
    """Whatever Sequoia does not like is a failed check; so is a panic, which Python sees as a `BaseException`."""
    try:
        yield
    except FluxSrcError:
        raise
    except BaseException as exc:
        if not isinstance(exc, Exception) and type(exc).__name__ != "PanicException":
            raise
        reason = str(exc).partition("\n")[0][:200]  # a backtrace may follow
        raise failed(check, f"{message}: {reason}") from None


def _pysequoia() -> Any:
    try:
        import pysequoia  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise MissingExtraError("checking OpenPGP signatures", extra="verify") from exc
    return pysequoia

"""Certificate chains as the Notary Project specifies them, with the mathematics of `cryptography`.

What is certified, for what, until when, with which algorithms: stricter than the specification where it leaves a choice, since a
chain that is refused is signed again, and one that is accepted is not looked at any more.
"""

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from fluxsrc.errors import ConfigurationError, MissingExtraError, VerificationError
from fluxsrc.signatures.verdict import OCICheck, failed

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.x509.oid import ObjectIdentifier

__all__ = ["Chain", "RevocationList", "parse_certificates", "require_cryptography"]

_RSA: Final = {2048: "PS256", 3072: "PS384", 4096: "PS512"}
_CURVES: Final = {"secp256r1": ("ES256", 32), "secp384r1": ("ES384", 48), "secp521r1": ("ES512", 66)}
_HASHES: Final = frozenset({"sha256", "sha384", "sha512"})
_MIN_RSA_BITS: Final = 2048
_MAX_RSA_BITS: Final = 8192
_MAX_BYTES: Final = 1 << 20


def require_cryptography() -> None:
    """Raise `MissingExtraError` unless `cryptography` is there."""
    try:
        import cryptography.x509  # noqa: F401, PLC0415 - an extra
    except ImportError as exc:
        raise MissingExtraError("checking notation signatures", extra="verify") from exc


def parse_certificates(data: bytes) -> tuple[bytes, ...]:
    """The certificates in a file, PEM or DER, each in DER.

    Raises:
        ConfigurationError: There is none, or it is damaged.
        MissingExtraError: There is nothing to read them with.
    """
    require_cryptography()
    from cryptography import x509  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    if len(data) > _MAX_BYTES:
        raise ConfigurationError(f"the certificates are larger than {_MAX_BYTES:,} bytes")
    try:
        if b"-----BEGIN " in data:
            found = x509.load_pem_x509_certificates(data)
        else:
            found = [x509.load_der_x509_certificate(data)]
        return tuple(each.public_bytes(Encoding.DER) for each in found)
    except Exception as exc:  # noqa: BLE001 - whatever a parser of other people's bytes raises, they are no certificates
        raise ConfigurationError(f"not certificates: {exc}"[:200]) from None


@attrs.frozen
class Chain:
    """A chain of certificates, from the signer's to a root that signed itself. Nothing says yet that the root is trusted."""

    _certificates: "tuple[x509.Certificate, ...]" = attrs.field(repr=False)

    @classmethod
    def parse(cls, chain: Sequence[bytes]) -> Self:
        """Read and check a chain, but for trust, time and revocation.

        Raises:
            VerificationError: 3: one is no certificate. 4: an algorithm or a key is too weak, or of an unknown kind. 5: they are
                not a chain, or not for signing code.
            MissingExtraError: There is nothing to read them with.
        """
        require_cryptography()
        from cryptography import x509  # noqa: PLC0415 - an extra

        try:
            found = cls(tuple(x509.load_der_x509_certificate(each) for each in chain))
            found._check()
        except VerificationError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever a parser of other people's bytes raises, they are no chain
            raise failed(OCICheck.FORM, f"the certificate chain is damaged: {type(exc).__name__}") from None
        return found

    @property
    def algorithm(self) -> str:
        """The one signature algorithm that goes with the signer's key: what the envelope says has to be this."""
        from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415 - an extra

        key = self._certificates[0].public_key()
        if isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA:
            return _RSA[key.key_size]
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return _CURVES[key.curve.name][0]

    @property
    def fingerprint(self) -> str:
        """sha256 of the signer's certificate, hexadecimal: notation's thumbprint."""
        return hashlib.sha256(self._der(0)).hexdigest()

    @property
    def subject(self) -> str:
        """The signer's distinguished name."""
        return self._certificates[0].subject.rfc4514_string()

    @property
    def attributes(self) -> list[list[tuple[str, str]]]:
        """The signer's distinguished name, taken apart: for each part its attributes, as OID and value."""
        return [
            [(each.oid.dotted_string, str(each.value)) for each in part] for part in self._certificates[0].subject.rdns
        ]

    def holds(self, signature: bytes, signed: bytes) -> bool:
        """Whether the signature is the signer's over these bytes, by the algorithm of the key."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature  # noqa: PLC0415
        from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512  # noqa: PLC0415

        hashed = {"256": SHA256(), "384": SHA384(), "512": SHA512()}[self.algorithm[2:]]
        key = self._certificates[0].public_key()
        try:
            if isinstance(key, rsa.RSAPublicKey):
                pss = padding.PSS(padding.MGF1(hashed), hashed.digest_size)
                key.verify(signature, signed, pss, hashed)
            else:
                assert isinstance(key, ec.EllipticCurvePublicKey)
                size = _CURVES[key.curve.name][1]
                if len(signature) != 2 * size:
                    return False
                numbers = int.from_bytes(signature[:size]), int.from_bytes(signature[size:])
                key.verify(encode_dss_signature(*numbers), signed, ec.ECDSA(hashed))
        except (InvalidSignature, ValueError):
            return False
        return True

    def trusted_by(self, anchors: Iterable[bytes]) -> bool:
        """Whether one of these is in the chain: what comes above it does not matter then."""
        trusted = frozenset(anchors)
        return any(self._der(number) in trusted for number in range(len(self._certificates)))

    def check_time(self, moment: dt.datetime, what: str) -> None:
        """Whether all of them are valid at a moment.

        Raises:
            VerificationError: 5: one is not.
        """
        for certificate in self._certificates:
            first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            if not first <= moment <= last:
                raise failed(
                    OCICheck.CERTIFICATE,
                    f"the certificate of {_name(certificate)} is valid from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} "
                    f"UTC, and not {what}, {moment:%Y-%m-%d %H:%M}",
                )

    def check_revocation(self, lists: "Sequence[RevocationList]", now: dt.datetime) -> None:
        """Whether none of them is revoked; those that nobody could revoke are not.

        Raises:
            VerificationError: 5: one is, or could be, and there is no list that tells.
        """
        for certificate, issuer in zip(self._certificates, self._certificates[1:], strict=False):
            answers = [each.revoked(certificate, issuer, now) for each in lists]
            if True in answers:
                raise failed(OCICheck.CERTIFICATE, f"the certificate of {_name(certificate)} is revoked")
            if False not in answers and _is_revocable(certificate):
                raise failed(
                    OCICheck.CERTIFICATE,
                    f"the certificate of {_name(certificate)} could be revoked, and no current list of its issuer is given",
                    hint='give crls=, or override "revocation" in the trust policy',
                )

    def _check(self) -> None:
        certificates = self._certificates
        for number, certificate in enumerate(certificates):
            _check_algorithms(certificate)
            if number:
                _check_ca(certificate, below=number - 1)
            issuer = certificates[min(number + 1, len(certificates) - 1)]
            if not _issued(certificate, issuer):
                raise failed(OCICheck.CERTIFICATE, f"{_name(certificate)} is not certified by {_name(issuer)}")
            if issuer is not certificate and certificate.subject == certificate.issuer:
                raise failed(OCICheck.CERTIFICATE, f"{_name(certificate)} certifies itself in the middle of the chain")
        _check_leaf(certificates[0])

    def _der(self, number: int) -> bytes:
        from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - an extra

        return self._certificates[number].public_bytes(Encoding.DER)


@attrs.frozen
class RevocationList:
    """A certificate revocation list, in DER.

    Attributes:
        der: Its bytes.
    """

    der: bytes = attrs.field(repr=False)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a list, PEM or DER.

        Raises:
            ConfigurationError: It is none.
            MissingExtraError: There is nothing to read it with.
        """
        require_cryptography()
        from cryptography import x509  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

        try:
            read = x509.load_pem_x509_crl if b"-----BEGIN " in data else x509.load_der_x509_crl
            return cls(read(data).public_bytes(Encoding.DER))
        except Exception as exc:  # noqa: BLE001 - as above
            raise ConfigurationError(f"not a revocation list: {exc}"[:200]) from None

    def revoked(self, certificate: "x509.Certificate", issuer: "x509.Certificate", now: dt.datetime) -> bool | None:
        """Whether the list says so; None if it cannot tell: it is another issuer's, not current, or not a full one."""
        from cryptography import x509  # noqa: PLC0415 - an extra

        crl = x509.load_der_x509_crl(self.der)
        key: Any = issuer.public_key()
        if (
            crl.issuer != issuer.subject
            or getattr(crl.signature_hash_algorithm, "name", None) not in _HASHES
            or not _may(issuer, "crl_sign")
            or not crl.is_signature_valid(key)
            # A list of some reasons, of some certificates, or of changes only: nothing here says what is not in it.
            or any(extension.critical for extension in crl.extensions)
            or crl.next_update_utc is None
            or not crl.last_update_utc <= now <= crl.next_update_utc
        ):
            return None
        return crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None


def _issued(certificate: "x509.Certificate", issuer: "x509.Certificate") -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra

    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _check_algorithms(certificate: "x509.Certificate") -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415 - an extra

    hashed = certificate.signature_hash_algorithm
    if hashed is None or hashed.name not in _HASHES:
        raise failed(
            OCICheck.ALGORITHM, f"the certificate of {_name(certificate)} is signed with {hashed and hashed.name}"
        )
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
        return
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return
    raise failed(OCICheck.ALGORITHM, f"the key of {_name(certificate)} is too weak, or of a kind that is not allowed")


def _check_leaf(certificate: "x509.Certificate") -> None:
    from cryptography import x509  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415
    from cryptography.x509.oid import ExtendedKeyUsageOID as Purpose  # noqa: PLC0415

    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size not in _RSA:
        raise failed(OCICheck.ALGORITHM, f"an RSA key of {key.key_size} bits; the specification has {sorted(_RSA)}")
    constraints = _extension(certificate, x509.BasicConstraints.oid)
    if constraints is not None and constraints.value.ca:
        raise failed(OCICheck.CERTIFICATE, f"{_name(certificate)} is an authority, not a signer")
    usage = _extension(certificate, x509.KeyUsage.oid)
    if usage is None or not usage.critical or not usage.value.digital_signature:
        raise failed(OCICheck.CERTIFICATE, f"the certificate of {_name(certificate)} is not for digital signatures")
    others = ("key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign")
    if any(getattr(usage.value, name) for name in others):
        raise failed(OCICheck.CERTIFICATE, f"the certificate of {_name(certificate)} is for more than signatures")
    purposes = _extension(certificate, x509.ExtendedKeyUsage.oid)
    if purposes is None:
        return
    excluded = {
        Purpose.ANY_EXTENDED_KEY_USAGE,
        Purpose.SERVER_AUTH,
        Purpose.CLIENT_AUTH,
        Purpose.EMAIL_PROTECTION,
        Purpose.TIME_STAMPING,
        Purpose.OCSP_SIGNING,
    }
    if Purpose.CODE_SIGNING not in purposes.value or excluded & set(purposes.value):
        raise failed(
            OCICheck.CERTIFICATE, f"the certificate of {_name(certificate)} is not for signing code, or for more"
        )


def _check_ca(certificate: "x509.Certificate", *, below: int) -> None:
    """An authority, with so many authorities below it."""
    from cryptography import x509  # noqa: PLC0415 - an extra

    constraints = _extension(certificate, x509.BasicConstraints.oid)
    if constraints is None or not constraints.critical or not constraints.value.ca:
        raise failed(OCICheck.CERTIFICATE, f"{_name(certificate)} is not an authority")
    length = constraints.value.path_length
    if length is not None and length < below:
        raise failed(OCICheck.CERTIFICATE, f"{_name(certificate)} may have {length} authorities below it, not {below}")
    usage = _extension(certificate, x509.KeyUsage.oid)
    if usage is None or not usage.critical or not usage.value.key_cert_sign:
        raise failed(OCICheck.CERTIFICATE, f"the certificate of {_name(certificate)} is not for signing certificates")


def _extension(certificate: "x509.Certificate", oid: "ObjectIdentifier") -> Any:
    """An extension; and a critical one that nobody here understands is an error, whichever is asked for."""
    from cryptography import x509  # noqa: PLC0415 - an extra

    known = {x509.BasicConstraints.oid, x509.KeyUsage.oid, x509.ExtendedKeyUsage.oid}
    found = None
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in known:
            raise failed(
                OCICheck.CERTIFICATE,
                f"the certificate of {_name(certificate)} has the critical extension {extension.oid.dotted_string}",
            )
        if extension.oid == oid:
            found = extension
    return found


def _may(certificate: "x509.Certificate", usage: str) -> bool:
    from cryptography import x509  # noqa: PLC0415 - an extra

    extension = _extension(certificate, x509.KeyUsage.oid)
    return extension is not None and bool(getattr(extension.value, usage))


def _is_revocable(certificate: "x509.Certificate") -> bool:
    """Whether it says where one could ask."""
    from cryptography import x509  # noqa: PLC0415 - an extra
    from cryptography.x509.oid import AuthorityInformationAccessOID  # noqa: PLC0415

    if _extension(certificate, x509.CRLDistributionPoints.oid) is not None:
        return True
    access = _extension(certificate, x509.AuthorityInformationAccess.oid)
    return access is not None and any(each.access_method == AuthorityInformationAccessOID.OCSP for each in access.value)


def _name(certificate: "x509.Certificate") -> str:
    return f"{certificate.subject.rfc4514_string()[:200]!a}"

"""What one certificate has to be like: its algorithms and key, and what it is for. The mathematics is `cryptography`'s.

After the Notary Project's requirements, and stricter where these leave a choice: a chain that is refused is signed again, and one
that is accepted is not looked at any more.
"""

import enum
from typing import TYPE_CHECKING, Any, Final

from fluxsrc.errors import ConfigurationError, MissingExtraError
from fluxsrc.signatures.verdict import OCICheck, failed

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.x509.oid import ObjectIdentifier

__all__ = [
    "CURVES",
    "HASHES",
    "RSA_SIZES",
    "Purpose",
    "check_algorithms",
    "check_authority",
    "check_signer",
    "extension_of",
    "is_issued_by",
    "may",
    "name_of",
    "parse_certificates",
    "require_cryptography",
]

RSA_SIZES: Final = {2048: "PS256", 3072: "PS384", 4096: "PS512"}
"""The signature algorithm that goes with a signer's key of so many bits."""
CURVES: Final = {"secp256r1": ("ES256", 32), "secp384r1": ("ES384", 48), "secp521r1": ("ES512", 66)}
"""The algorithm that goes with a curve, and how many bytes its numbers have."""
HASHES: Final = frozenset({"sha256", "sha384", "sha512"})
_MIN_RSA_BITS: Final = 2048
_MAX_RSA_BITS: Final = 8192
_MAX_BYTES: Final = 1 << 20


class Purpose(enum.Enum):
    """What the key at the end of a chain signs."""

    CODE = "signing code"
    TIME = "timestamps"


def require_cryptography() -> None:
    """Raise `MissingExtraError` unless `cryptography` is there."""
    try:
        import cryptography.x509  # noqa: F401, PLC0415 - an extra
    except ImportError as exc:
        raise MissingExtraError("checking notation signatures", extra="verify") from exc


def parse_certificates(data: bytes) -> "tuple[x509.Certificate, ...]":
    """The certificates in a file, PEM or DER.

    Raises:
        ConfigurationError: There is none, or it is damaged.
        MissingExtraError: There is nothing to read them with.
    """
    require_cryptography()
    from cryptography import x509  # noqa: PLC0415 - an extra

    if len(data) > _MAX_BYTES:
        raise ConfigurationError(f"the certificates are larger than {_MAX_BYTES:,} bytes")
    try:
        pem = b"-----BEGIN " in data
        found = tuple(x509.load_pem_x509_certificates(data)) if pem else (x509.load_der_x509_certificate(data),)
        for each in found:  # these are parsed on use, and damaged ones shall be noticed here
            tuple(each.extensions), each.subject.rdns, each.issuer.rdns, each.public_key()
        return found
    except Exception as exc:  # noqa: BLE001 - whatever a parser of other people's bytes raises, they are no certificates
        raise ConfigurationError(f"not certificates: {exc}"[:200]) from None


def is_issued_by(certificate: "x509.Certificate", issuer: "x509.Certificate") -> bool:
    """Whether it has the issuer's name and a signature by its key."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415 - an extra

    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def check_algorithms(certificate: "x509.Certificate") -> None:
    """Whether hash and key are strong enough.

    Raises:
        VerificationError: 4: they are not, or of another kind.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415 - an extra

    hashed = certificate.signature_hash_algorithm
    if hashed is None or hashed.name not in HASHES:
        raise failed(
            OCICheck.ALGORITHM, f"the certificate of {name_of(certificate)} is signed with {hashed and hashed.name}"
        )
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
        return
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in CURVES:
        return
    raise failed(OCICheck.ALGORITHM, f"the key of {name_of(certificate)} is too weak, or of a kind that is not allowed")


def check_signer(certificate: "x509.Certificate", purpose: Purpose) -> None:
    """Whether it is for signing this, and for nothing else.

    Raises:
        VerificationError: 4: the key is of a size that is not specified. 5: it is for something else.
    """
    from cryptography import x509  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size not in RSA_SIZES:
        raise failed(
            OCICheck.ALGORITHM, f"an RSA key of {key.key_size} bits; the specification has {sorted(RSA_SIZES)}"
        )
    constraints = extension_of(certificate, x509.BasicConstraints.oid)
    if constraints is not None and constraints.value.ca:
        raise failed(OCICheck.CERTIFICATE, f"{name_of(certificate)} is an authority, not a signer")
    usage = extension_of(certificate, x509.KeyUsage.oid)
    critical = usage is not None and (usage.critical or purpose is Purpose.TIME)
    if not critical or not usage.value.digital_signature:
        raise failed(OCICheck.CERTIFICATE, f"the certificate of {name_of(certificate)} is not for digital signatures")
    others = ("key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign")
    if any(getattr(usage.value, name) for name in others):
        raise failed(OCICheck.CERTIFICATE, f"the certificate of {name_of(certificate)} is for more than signatures")
    if not _fits(extension_of(certificate, x509.ExtendedKeyUsage.oid), purpose):
        raise failed(
            OCICheck.CERTIFICATE, f"the certificate of {name_of(certificate)} is not for {purpose.value}, or for more"
        )


def _fits(purposes: Any, purpose: Purpose) -> bool:
    """Whether the extended key usage allows this purpose. RFC 3161 wants timestamps alone there, and critical."""
    from cryptography.x509.oid import ExtendedKeyUsageOID as Use  # noqa: PLC0415 - an extra

    if purpose is Purpose.TIME:
        return purposes is not None and purposes.critical and list(purposes.value) == [Use.TIME_STAMPING]
    excluded = {
        Use.ANY_EXTENDED_KEY_USAGE,
        Use.SERVER_AUTH,
        Use.CLIENT_AUTH,
        Use.EMAIL_PROTECTION,
        Use.TIME_STAMPING,
        Use.OCSP_SIGNING,
    }
    return purposes is None or (Use.CODE_SIGNING in purposes.value and not excluded & set(purposes.value))


def check_authority(certificate: "x509.Certificate", *, below: int, purpose: Purpose) -> None:
    """Whether it may certify others, with so many authorities below it.

    Raises:
        VerificationError: 5: it may not.
    """
    from cryptography import x509  # noqa: PLC0415 - an extra

    name = name_of(certificate)
    constraints = extension_of(certificate, x509.BasicConstraints.oid)
    if constraints is None or not constraints.critical or not constraints.value.ca:
        raise failed(OCICheck.CERTIFICATE, f"{name} is not an authority")
    length = constraints.value.path_length
    if length is not None and length < below:
        raise failed(OCICheck.CERTIFICATE, f"{name} may have {length} authorities below it, not {below}")
    usage = extension_of(certificate, x509.KeyUsage.oid)
    critical = usage is not None and (usage.critical or purpose is Purpose.TIME)
    if not critical or not usage.value.key_cert_sign:
        raise failed(OCICheck.CERTIFICATE, f"the certificate of {name} is not for signing certificates")


def extension_of(certificate: "x509.Certificate", oid: "ObjectIdentifier") -> Any:
    """An extension, or None; and a critical one that nobody here understands is an error, whichever is asked for.

    Raises:
        VerificationError: 5: there is such a critical one.
    """
    from cryptography import x509  # noqa: PLC0415 - an extra

    known = {x509.BasicConstraints.oid, x509.KeyUsage.oid, x509.ExtendedKeyUsage.oid}
    found = None
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in known:
            raise failed(
                OCICheck.CERTIFICATE,
                f"the certificate of {name_of(certificate)} has the critical extension {extension.oid.dotted_string}",
            )
        if extension.oid == oid:
            found = extension
    return found


def may(certificate: "x509.Certificate", usage: str) -> bool:
    """Whether its key usage says so."""
    from cryptography import x509  # noqa: PLC0415 - an extra

    extension = extension_of(certificate, x509.KeyUsage.oid)
    return extension is not None and bool(getattr(extension.value, usage))


def name_of(certificate: "x509.Certificate") -> str:
    """Its subject, for messages."""
    return f"{certificate.subject.rfc4514_string()[:200]!a}"

"""`PublicKey`: an ECDSA, RSA or Ed25519 key as OpenSSL and cosign write it, and signatures held against it."""

import base64
import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from fluxsrc._units import why
from fluxsrc.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

__all__ = ["MAX_RSA_BITS", "MIN_RSA_BITS", "PublicKey", "parse_public_keys", "read_public_keys"]

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
_MIN_EXPONENT: Final = 65537
_MAX_BYTES: Final = 1 << 20
_ED25519_SIGNATURE: Final = 64
_BLOCK: Final = re.compile(
    r"-----BEGIN (?P<kind>[A-Z0-9 ]{1,40})-----\s*\n(?P<body>[A-Za-z0-9+/=\s]+)-----END (?P=kind)-----[ \t]*\r?(?:\n|\Z)"
)
# A curve's own hash first. SHA-256 besides: cosign 2 signs with it whatever the curve, unless told otherwise.
_CURVES: Final = {"secp256r1": ("sha256",), "secp384r1": ("sha384", "sha256"), "secp521r1": ("sha512", "sha256")}


@attrs.frozen
class PublicKey:
    """A key that signatures are checked with. Which algorithms count is the key's to say, never a signature's.

    - ECDSA on P-256 with SHA-256, on P-384 with SHA-384 or SHA-256, on P-521 with SHA-512 or SHA-256.
    - RSA of 2048 to 8192 bits, PKCS #1 v1.5 with SHA-256.
    - Ed25519 (pure).

    Attributes:
        der: Its SubjectPublicKeyInfo: keys are the same if these bytes are.
    """

    der: bytes = attrs.field(repr=False)

    @classmethod
    def from_der(cls, data: bytes) -> "PublicKey":
        """Read a SubjectPublicKeyInfo.

        Raises:
            ConfigurationError: It is none, of an unknown kind, too weak, or not written as DER has it.
            MissingExtraError: There is nothing to read it with.
        """
        key = cls(data)
        key._load()
        return key

    @property
    def fingerprint(self) -> str:
        """`SHA256:…` of its DER, in base64 as ssh-keygen shows one; cosign's `hint` is the same with padding."""
        return "SHA256:" + self.hint.rstrip("=")

    @property
    def hint(self) -> str:
        """What a Sigstore bundle calls it."""
        return base64.b64encode(hashlib.sha256(self.der).digest()).decode()

    @property
    def pem(self) -> str:
        """As a file has it."""
        body = base64.b64encode(self.der).decode()
        lines = [body[at : at + 64] for at in range(0, len(body), 64)]
        return "\n".join(("-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""))

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The signature algorithms that fit it, the preferred one first: `("ecdsa-p256-sha256",)`."""
        key = self._load()
        match _kind(key):
            case "ec":
                if TYPE_CHECKING:
                    assert isinstance(key, ec.EllipticCurvePublicKey)
                curve = f"p{key.curve.key_size}"
                return tuple(f"ecdsa-{curve}-{name}" for name in _CURVES[key.curve.name])
            case "rsa":
                return ("rsa-pkcs1v15-sha256",)
            case _:
                return ("ed25519",)

    def verify(self, signature: bytes, message: bytes) -> str | None:
        """The algorithm by which the signature is this key's over the message; None if it is not.

        Raises:
            MissingExtraError: There is nothing to check it with.
        """
        return next((name for name in self.algorithms if self._holds(name, signature, message)), None)

    def _holds(self, algorithm: str, signature: bytes, message: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.utils import (  # noqa: PLC0415
            decode_dss_signature,
            encode_dss_signature,
        )
        from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512  # noqa: PLC0415

        hashed: HashAlgorithm = {"sha384": SHA384, "sha512": SHA512}.get(algorithm.rpartition("-")[2], SHA256)()
        key = self._load()
        try:
            if isinstance(key, ec.EllipticCurvePublicKey):
                if encode_dss_signature(*decode_dss_signature(signature)) != signature:
                    return False  # one number, one way to write it
                key.verify(signature, message, ec.ECDSA(hashed))
            elif isinstance(key, rsa.RSAPublicKey):
                key.verify(signature, message, padding.PKCS1v15(), hashed)
            else:
                assert isinstance(key, ed25519.Ed25519PublicKey)
                if len(signature) != _ED25519_SIGNATURE:
                    return False
                key.verify(signature, message)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError, OverflowError):
            return False
        return True

    def _load(self) -> object:
        """The key as `cryptography` has it, after all checks of it."""
        try:
            from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - an extra
            from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415
            from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
                Encoding,
                PublicFormat,
                load_der_public_key,
            )
        except ImportError as exc:
            raise MissingExtraError("checking signatures", extra="verify") from exc
        try:
            key = load_der_public_key(self.der)
            again = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except (UnsupportedAlgorithm, ValueError, TypeError, OverflowError):
            raise ConfigurationError("not a public key that can be computed with") from None
        if again != self.der:
            # RSA keys of the PSS kind, compressed points, long forms: read here as one thing, and by others as another.
            raise ConfigurationError("the public key is not written in the one way that DER allows for its kind")
        if isinstance(key, rsa.RSAPublicKey):
            numbers = key.public_numbers()
            if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS or numbers.e < _MIN_EXPONENT:
                raise ConfigurationError(f"an RSA key of {key.key_size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} will do")
        elif isinstance(key, ec.EllipticCurvePublicKey):
            if key.curve.name not in _CURVES:
                raise ConfigurationError(f"a key on {key.curve.name}", hint="P-256, P-384 and P-521 are supported")
        elif not isinstance(key, ed25519.Ed25519PublicKey):
            raise ConfigurationError("a public key of a kind that cosign has none of", hint="ECDSA, RSA or Ed25519")
        return key


def parse_public_keys(text: str) -> tuple[PublicKey, ...]:
    """The keys in a PEM text: one block `PUBLIC KEY` or more, and nothing else in armor.

    Raises:
        ConfigurationError: There is none, or a block is something else: a certificate, a private key.
        MissingExtraError: There is nothing to read them with.
    """
    if len(text) > _MAX_BYTES:
        raise ConfigurationError(f"the public keys are larger than {_MAX_BYTES:,} bytes")
    keys = []
    for block in _BLOCK.finditer(text):
        if block["kind"] != "PUBLIC KEY":
            raise ConfigurationError(
                f"a PEM block {block['kind']!r} where a PUBLIC KEY was expected",
                hint="cosign public-key --key …, or openssl pkey -pubout, writes one",
            )
        try:
            data = base64.b64decode("".join(block["body"].split()), validate=True)
        except ValueError:
            raise ConfigurationError("a PEM block that is not base64") from None
        keys.append(PublicKey.from_der(data))
    if not keys or len(keys) != text.count("-----BEGIN "):
        raise ConfigurationError("not a public key in PEM, or a damaged one")
    return tuple(dict.fromkeys(keys))


def read_public_keys(path: str | os.PathLike[str]) -> tuple[PublicKey, ...]:
    """The keys in a file; see `parse_public_keys`.

    Raises:
        ConfigurationError: The file cannot be read, or is none of public keys.
        MissingExtraError: There is nothing to read them with.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MAX_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"cannot read the public keys in {path}: {why(exc)}") from exc
    try:
        return parse_public_keys(text)
    except MissingExtraError:
        raise
    except ConfigurationError as exc:
        raise ConfigurationError(f"{path}: {exc.message}", hint=exc.hint) from None


def _kind(key: object) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415 - an extra

    return "ec" if isinstance(key, ec.EllipticCurvePublicKey) else "rsa" if isinstance(key, rsa.RSAPublicKey) else "ed"

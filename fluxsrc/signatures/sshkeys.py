"""SSH public keys in the wire format of RFC 4253, and the check of one signature with one. `cryptography` does the mathematics."""

import base64
import hashlib
import struct
from typing import TYPE_CHECKING, Final, Self

import attrs

from fluxsrc.errors import MissingExtraError
from fluxsrc.signatures.verdict import Check, failed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

__all__ = ["MIN_RSA_BITS", "KeyFormatError", "SSHPublicKey", "WireReader"]

MIN_RSA_BITS: Final = 2048
_MAX_RSA_BITS: Final = 16384
_ED25519: Final = "ssh-ed25519"
_RSA: Final = "ssh-rsa"
_SK_ED25519: Final = "sk-ssh-ed25519@openssh.com"
_SK_ECDSA: Final = "sk-ecdsa-sha2-nistp256@openssh.com"
_CURVES: Final = {
    "ecdsa-sha2-nistp256": ("nistp256", 32),
    "ecdsa-sha2-nistp384": ("nistp384", 48),
    "ecdsa-sha2-nistp521": ("nistp521", 66),
    _SK_ECDSA: ("nistp256", 32),
}
_USER_PRESENT: Final = 0x01
_ED25519_KEY, _ED25519_SIGNATURE = 32, 64


class KeyFormatError(ValueError):
    """Bytes are not what they should be. Never leaves this package."""


class WireReader:
    """Reads RFC 4251's data types, strictly, from bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        """So many bytes."""
        end = self._at + count
        if end > len(self._data):
            raise KeyFormatError("it ends too early")
        taken, self._at = self._data[self._at : end], end
        return taken

    def uint32(self) -> int:
        """A number of four bytes."""
        return int(struct.unpack(">I", self.take(4))[0])

    def string(self) -> bytes:
        """A string, by its length."""
        return self.take(self.uint32())

    def text(self) -> str:
        """A string that is printable ASCII."""
        try:
            text = self.string().decode("ascii")
        except UnicodeDecodeError:
            raise KeyFormatError("a name is not ASCII") from None
        if not text.isprintable():
            raise KeyFormatError("a name is not printable")
        return text

    def positive(self) -> int:
        """A multiple-precision integer above zero, in its shortest form."""
        data = self.string()
        if not data or data[0] & 0x80 or (data[0] == 0 and (len(data) == 1 or not data[1] & 0x80)):
            raise KeyFormatError("a number is not positive, or not in its shortest form")
        return int.from_bytes(data)

    def end(self) -> None:
        """Nothing may be left."""
        if self._at != len(self._data):
            raise KeyFormatError("something follows it")


@attrs.frozen
class SSHPublicKey:
    """A key that signatures are checked with.

    Attributes:
        algorithm: Its kind, such as "ssh-ed25519".
        blob: Its wire format: keys are the same if these bytes are.
    """

    algorithm: str
    blob: bytes = attrs.field(repr=False)

    @classmethod
    def parse(cls, blob: bytes) -> Self:
        """Read a key's wire format, and refuse kinds that nothing can be checked with.

        Raises:
            KeyFormatError: It is damaged, of an unknown kind, or too weak.
        """
        algorithm = WireReader(blob).text()
        key = cls(algorithm, blob)
        if algorithm.endswith("-cert-v01@openssh.com"):
            raise KeyFormatError("certificates are not supported: name the keys themselves")
        if algorithm not in (_ED25519, _RSA, _SK_ED25519, *_CURVES):
            raise KeyFormatError(f"keys of the kind {algorithm[:60]!a} are not supported")
        key._fields()
        return key

    @property
    def fingerprint(self) -> str:
        """As ssh-keygen shows it: `SHA256:…`."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).rstrip(b"=").decode()

    def verify(self, signature: bytes, message: bytes) -> str:
        """Check a signature in the wire format; return its algorithm.

        Raises:
            VerificationError: 4: it is damaged. 5: its algorithm is not one of this key. 9: it does not hold.
            MissingExtraError: There is nothing to check it with.
        """
        try:
            reader = WireReader(signature)
            algorithm = reader.text()
            allowed = ("rsa-sha2-256", "rsa-sha2-512") if self.algorithm == _RSA else (self.algorithm,)
            if algorithm not in allowed:
                raise failed(
                    Check.ALGORITHM, f"a signature by {algorithm[:60]!a} is not one of an {self.algorithm} key"
                )
            value = reader.string()
            if self.algorithm.startswith("sk-"):
                flags, counter = reader.take(1), reader.take(4)
                if not flags[0] & _USER_PRESENT:
                    raise failed(Check.ALGORITHM, "nobody touched the security key for this signature")
                application = self._fields()[-1]
                assert isinstance(application, bytes)
                message = _sha256(application) + flags + counter + _sha256(message)
            reader.end()
            held = self._holds(algorithm, value, message)
        except KeyFormatError as exc:
            raise failed(Check.FORM, f"the signature is damaged: {exc}") from None
        if not held:
            raise failed(Check.CRYPTOGRAPHY, f"the signature by {self.fingerprint} is not one over this content")
        return algorithm

    def _fields(self) -> tuple[int | bytes, ...]:
        """What follows the name, checked."""
        reader = WireReader(self.blob)
        algorithm = reader.text()
        fields: tuple[int | bytes, ...]
        if algorithm == _RSA:
            exponent, modulus = reader.positive(), reader.positive()
            if not MIN_RSA_BITS <= modulus.bit_length() <= _MAX_RSA_BITS:
                raise KeyFormatError(f"an RSA key of {modulus.bit_length()} bits; at least {MIN_RSA_BITS} are needed")
            fields = (exponent, modulus)
        elif algorithm in _CURVES:
            curve, size = _CURVES[algorithm]
            name, point = reader.text(), reader.string()
            if name != curve or len(point) != 1 + 2 * size or point[0] != 4:  # noqa: PLR2004 - SEC 1: uncompressed
                raise KeyFormatError(f"not a point on {curve}")
            fields = (point,)
        else:
            fields = (reader.string(),)
            if len(fields[0]) != _ED25519_KEY:
                raise KeyFormatError("not an Ed25519 key")
        if algorithm.startswith("sk-"):
            fields += (reader.string(),)
        reader.end()
        return fields

    def _holds(self, algorithm: str, value: bytes, message: bytes) -> bool:
        try:
            from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415 - an extra
            from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa  # noqa: PLC0415
            from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature  # noqa: PLC0415
            from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512  # noqa: PLC0415
        except ImportError as exc:
            raise MissingExtraError("checking SSH signatures", extra="verify") from exc
        fields = self._fields()
        try:
            if algorithm.startswith("rsa-"):
                exponent, modulus = fields
                assert isinstance(exponent, int)
                assert isinstance(modulus, int)
                size = (modulus.bit_length() + 7) // 8
                rsa_key: rsa.RSAPublicKey = rsa.RSAPublicNumbers(exponent, modulus).public_key()
                digest: HashAlgorithm = SHA512() if algorithm == "rsa-sha2-512" else SHA256()
                rsa_key.verify(value.rjust(size, b"\0"), message, padding.PKCS1v15(), digest)
            elif algorithm in _CURVES:
                curve, hashed = {
                    "nistp256": (ec.SECP256R1(), SHA256()),
                    "nistp384": (ec.SECP384R1(), SHA384()),
                    "nistp521": (ec.SECP521R1(), SHA512()),
                }[_CURVES[algorithm][0]]
                point = fields[0]
                assert isinstance(point, bytes)
                numbers = WireReader(value)
                der = encode_dss_signature(numbers.positive(), numbers.positive())
                numbers.end()
                ec_key: ec.EllipticCurvePublicKey = ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
                ec_key.verify(der, message, ec.ECDSA(hashed))
            else:
                public = fields[0]
                assert isinstance(public, bytes)
                if len(value) != _ED25519_SIGNATURE:
                    raise KeyFormatError("not an Ed25519 signature")
                ed25519.Ed25519PublicKey.from_public_bytes(public).verify(value, message)
        except InvalidSignature:
            return False
        except (UnsupportedAlgorithm, ValueError) as exc:
            if isinstance(exc, KeyFormatError):
                raise
            raise KeyFormatError("the key is not one that can be computed with") from None
        return True


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()

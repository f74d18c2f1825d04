"""Whether one OpenPGP signature holds, and nothing else: version 4 packets, taken apart to their numbers (RFC 4880, 5.2 and 5.5).

Sequoia judges a signature by what its key said of itself when it was made. GnuPG, when a key is renewed, puts what it says now
in the place of what it said then; so of a renewed key there is nothing to judge older signatures by. This is for them.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

import attrs

from fluxsrc.errors import MissingExtraError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import utils

__all__ = ["holds_since_renewed"]

_VERSION: Final = 4
_RSA: Final = (1, 3)
_ECDSA, _EDDSA, _ED25519 = 19, 22, 27
_HASHES: Final = {8: "sha256", 9: "sha384", 10: "sha512"}
_NISTP: Final = {"2a8648ce3d030107": 256, "2b81040022": 384, "2b81040023": 521}
_ED25519_OID: Final = "2b06010401da470f01"
_MIN_RSA_BITS: Final = 2048
_CREATED, _FLAGS, _EMBEDDED = 2, 27, 32
_HARMLESS: Final = frozenset({_CREATED, 3, 9, 11, 16, 20, 21, 22, 23, 25, 26, _FLAGS, 28, 30, _EMBEDDED, 33, 34})
"""Kinds of subpackets that say nothing, for somebody else, against a signature; notations (20) do where they are critical."""
_NOTATION: Final = 20
_SIGN: Final = 0x02
_BINARY: Final = 0x00
_OF_ITSELF: Final = frozenset({0x10, 0x11, 0x12, 0x13, 0x1F})
_BINDING: Final = frozenset({0x18})
_NAME_REVOKED: Final = 0x30
_BACK: Final = 0x19


class _Reader:
    """Reads big-endian fields, strictly; a `ValueError` where there is not enough."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise ValueError("it ends too early")
        self._at += count
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count))

    def mpi(self) -> int:
        bits = self.number(2)
        value = self.number((bits + 7) // 8)
        if value.bit_length() != bits:
            raise ValueError("a number is not in its shortest form")
        return value

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError("something follows it")


@attrs.frozen
class KeyPacket:
    """A public key or subkey.

    Attributes:
        body: The packet's.
        created: When it was made, in seconds since 1970.
        algorithm: Its number.
        material: What its algorithm computes with.
    """

    body: bytes
    created: int
    algorithm: int
    material: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a packet's body.

        Raises:
            ValueError: It is none of version 4.
        """
        reader = _Reader(body)
        if reader.number(1) != _VERSION:
            raise ValueError("not a key of version 4")
        return cls(body, reader.number(4), reader.number(1), reader.rest())

    @property
    def fingerprint(self) -> str:
        """Its name."""
        return hashlib.sha1(_framed(self), usedforsecurity=False).hexdigest()  # what version 4 names keys by


@attrs.frozen
class SignaturePacket:
    """A signature.

    Attributes:
        kind: What kind of thing it is over.
        created: When it was made, in seconds since 1970.
        may_sign: Whether the key that it is about may sign.
        embedded: The body of a signature within it, by that key; None if there is none.
    """

    kind: int
    created: int
    may_sign: bool
    embedded: bytes | None
    _algorithm: int
    _hash: str
    _trailer: bytes
    _left: bytes
    _values: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a packet's body.

        Raises:
            ValueError: It is none of version 4, by an unknown hash, or asks for what is not understood here.
        """
        reader = _Reader(body)
        version, kind, algorithm, hashed_with = (reader.number(1) for _ in range(4))
        if version != _VERSION or hashed_with not in _HASHES:
            raise ValueError("not a signature of version 4 by a good hash")
        length = reader.number(2)
        hashed = dict(_subpackets(reader.take(length)))
        loose = dict(_subpackets(reader.take(reader.number(2))))
        start = body[: 6 + length]
        if len(hashed.get(_CREATED, b"")) != 4:  # noqa: PLR2004 - a time
            raise ValueError("it does not say when it was made")
        return cls(
            kind=kind,
            created=int.from_bytes(hashed[_CREATED]),
            may_sign=bool((hashed.get(_FLAGS) or b"\0")[0] & _SIGN),
            embedded=hashed.get(_EMBEDDED, loose.get(_EMBEDDED)),
            algorithm=algorithm,
            hash=_HASHES[hashed_with],
            trailer=start + b"\x04\xff" + len(start).to_bytes(4),
            left=reader.take(2),
            values=reader.rest(),
        )

    def holds(self, key: KeyPacket, content: bytes) -> bool:
        """Whether it is this key's over this content.

        Raises:
            ValueError: Its numbers are none, or the key is too weak or of a kind that is not known here.
            MissingExtraError: There is nothing to check it with.
        """
        try:
            from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415 - an extra
            from cryptography.hazmat.primitives.asymmetric import utils  # noqa: PLC0415
            from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512  # noqa: PLC0415
        except ImportError as exc:
            raise MissingExtraError("checking OpenPGP signatures", extra="verify") from exc
        digest = hashlib.new(self._hash, content + self._trailer).digest()
        if digest[:2] != self._left or self._algorithm != key.algorithm:
            return False
        hashed = utils.Prehashed({"sha256": SHA256(), "sha384": SHA384(), "sha512": SHA512()}[self._hash])
        try:
            self._check(key, digest, hashed)
        except InvalidSignature:
            return False
        except (UnsupportedAlgorithm, OverflowError) as exc:
            raise ValueError("its numbers are none") from exc
        return True

    def _check(self, key: KeyPacket, digest: bytes, hashed: "utils.Prehashed") -> None:
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils  # noqa: PLC0415 - an extra

        values, material = _Reader(self._values), _Reader(key.material)
        if key.algorithm in _RSA:
            modulus, exponent, number = material.mpi(), material.mpi(), values.mpi()
            if modulus.bit_length() < _MIN_RSA_BITS:
                raise ValueError("a weak RSA key")
            size = (modulus.bit_length() + 7) // 8
            rsa_key: rsa.RSAPublicKey = rsa.RSAPublicNumbers(exponent, modulus).public_key()
            rsa_key.verify(number.to_bytes(size), digest, padding.PKCS1v15(), hashed)
        elif key.algorithm == _ECDSA:
            curve = {256: ec.SECP256R1(), 384: ec.SECP384R1(), 521: ec.SECP521R1()}[_curve(material)]
            point = material.mpi()
            encoded = point.to_bytes((point.bit_length() + 7) // 8)
            ec_key: ec.EllipticCurvePublicKey = ec.EllipticCurvePublicKey.from_encoded_point(curve, encoded)
            ec_key.verify(utils.encode_dss_signature(values.mpi(), values.mpi()), digest, ec.ECDSA(hashed))
        elif key.algorithm == _EDDSA:
            if material.take(material.number(1)).hex() != _ED25519_OID:
                raise ValueError("EdDSA on another curve than Ed25519")
            native = material.mpi().to_bytes(33)
            if native[0] != 0x40:  # noqa: PLR2004 - a point in its native form
                raise ValueError("a point in an unknown form")
            signature = values.mpi().to_bytes(32) + values.mpi().to_bytes(32)
            ed25519.Ed25519PublicKey.from_public_bytes(native[1:]).verify(signature, digest)
        elif key.algorithm == _ED25519:
            ed25519.Ed25519PublicKey.from_public_bytes(material.take(32)).verify(values.take(64), digest)
        else:
            raise ValueError("a key of a kind that is not known here")
        material.end()
        values.end()


def holds_since_renewed(
    signature: bytes, message: bytes, certificate: Sequence[tuple[str, bytes]], signing_key: str
) -> bool:
    """Whether a signature that is older than what its key says of itself now is good all the same.

    1. The primary key says so itself, of one of its names or of itself.
    2. A subkey is bound to it, and says so too.
    3. One of these is newer than the signature: or else it is not the renewal for which Sequoia refused.
    4. By what is said now the key may sign, and it was there when it signed.
    5. The signature, over binary content, holds.

    That the key is not revoked, nor has expired, is to be checked before.

    Args:
        signature: The body of the signature packet.
        message: What it should be over.
        certificate: Tag and body of each of its packets.
        signing_key: The fingerprint, in lower case.

    Raises:
        MissingExtraError: There is nothing to check it with.
    """
    try:
        made = SignaturePacket.parse(signature)
        primary = KeyPacket.parse(certificate[0][1])
        says = _newest(certificate, primary, primary.fingerprint)  # 1
        binds = says if signing_key == primary.fingerprint else _newest(certificate, primary, signing_key)  # 2
        if says is None or binds is None or made.kind != _BINARY:
            return False
        renewed = max(says[1].created, binds[1].created) > made.created  # 3
        key, said = binds
        return renewed and said.may_sign and key.created <= made.created and made.holds(key, message)  # 4, 5
    except (ValueError, IndexError):
        return False


def _newest(
    certificate: Sequence[tuple[str, bytes]], primary: KeyPacket, name: str
) -> tuple[KeyPacket, SignaturePacket] | None:
    """A key by its fingerprint, and the newest that the primary key says of it; None if it says nothing."""
    found: tuple[KeyPacket, SignaturePacket] | None = None
    key, content = primary, _framed(primary)
    for tag, body in certificate[1:]:
        if tag == "PublicSubkey":
            key = KeyPacket.parse(body)
            content = _framed(primary) + _framed(key)
        elif tag == "UserID":
            key, content = primary, _framed(primary) + b"\xb4" + len(body).to_bytes(4) + body
        elif tag == "Signature" and key.fingerprint == name:
            with suppress(ValueError):  # by somebody else, or in a way that is not understood here
                said = SignaturePacket.parse(body)
                newer = found is None or said.created >= found[1].created
                if said.kind == _NAME_REVOKED and said.holds(primary, content):
                    content = b""
                elif newer and _says(said, primary, key, content):
                    found = key, said
        else:
            content = b""
    return found


def _says(said: SignaturePacket, primary: KeyPacket, key: KeyPacket, content: bytes) -> bool:
    """Whether it is the primary key's word on a key; where a subkey may sign, it has to agree."""
    if not content or said.kind not in (_BINDING if key is not primary else _OF_ITSELF):
        return False
    if not said.holds(primary, content):
        return False
    if key is primary or not said.may_sign:
        return True
    back = SignaturePacket.parse(said.embedded or b"")
    return back.kind == _BACK and back.holds(key, content)


def _framed(key: KeyPacket) -> bytes:
    """A key as it is hashed."""
    return b"\x99" + len(key.body).to_bytes(2) + key.body


def _curve(material: _Reader) -> int:
    try:
        return _NISTP[material.take(material.number(1)).hex()]
    except KeyError:
        raise ValueError("a key on a curve that is not known here") from None


def _subpackets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each kind with its content; a kind that is there twice, but for notations, is refused: which of them counts?"""
    reader = _Reader(data)
    left, seen = len(data), set()
    while left:
        first = reader.number(1)
        size, used = first, 1
        if first == 255:  # noqa: PLR2004 - RFC 4880, 5.2.3.1
            size, used = reader.number(4), 5
        elif first >= 192:  # noqa: PLR2004
            size, used = ((first - 192) << 8) + reader.number(1) + 192, 2
        content = reader.take(size)
        left -= used + size
        if not content:
            raise ValueError("an empty subpacket")
        kind, critical = content[0] & 0x7F, content[0] & 0x80
        if (critical and (kind not in _HARMLESS or kind == _NOTATION)) or (kind in seen and kind != _NOTATION):
            raise ValueError("it asks for what is not understood here")
        seen.add(kind)
        yield kind, content[1:]

"""`Digest`: an algorithm and a hash in hexadecimal, `sha256:…`."""

import hashlib
import re
from typing import Final

import attrs

from fluxsrc.errors import ConfigurationError

__all__ = ["Digest"]

# OCI's registered algorithms, and Git's; lengths in hexadecimal digits.
_LENGTHS: Final = {"sha1": 40, "sha256": 64, "sha384": 96, "sha512": 128, "blake3": 64}
_HEX: Final = re.compile(r"[0-9a-f]+")


@attrs.frozen(order=True)
class Digest:
    """A digest as OCI and Flux write it.

    >>> Digest.parse("sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709").algorithm
    'sha1'
    >>> str(Digest.of(b""))
    'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

    Attributes:
        algorithm: One of sha1, sha256, sha384, sha512, blake3.
        hex: The hash, lower-case hexadecimal, of exactly the algorithm's length.
    """

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """Read `algorithm:hex`; `parse(str(d)) == d`.

        Raises:
            ConfigurationError: The algorithm is unknown, or the hash has the wrong length or letters.
        """
        algorithm, colon, value = text.partition(":")
        length = _LENGTHS.get(algorithm)
        if not colon or length is None:
            raise ConfigurationError(
                f"not a digest: {text[:80]!r}", hint=f"write ALGORITHM:HEX with {', '.join(_LENGTHS)}"
            )
        if len(value) != length or not _HEX.fullmatch(value):
            raise ConfigurationError(f"not a {algorithm} digest: {text[:80]!r}", hint=f"{length} lower-case hex digits")
        return cls(algorithm, value)

    @classmethod
    def of(cls, data: bytes) -> "Digest":
        """The sha256 digest of some bytes."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    @classmethod
    def sha256(cls, value: str) -> "Digest":
        """A sha256 digest from its 64 hexadecimal digits."""
        return cls.parse(f"sha256:{value}")

    @property
    def short(self) -> str:
        """The first twelve digits, for people."""
        return self.hex[:12]

    def __repr__(self) -> str:
        return f"Digest.parse({str(self)!r})"

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

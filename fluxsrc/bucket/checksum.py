"""Holding content against what the service says about it: size always, a checksum where there is one."""

import hashlib
import zlib
from typing import Any, Final

from fluxsrc.bucket.protocol import BucketObject, Content
from fluxsrc.errors import DigestMismatchError, SourceChangedError

__all__ = ["CHECKED", "Checker"]


class _CRC32:
    """CRC-32 with the face of a hash."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | bytearray) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


CHECKED: Final = ("sha256", "md5", "sha1", "crc32")
"""What can be checked at the speed of a network. CRC32C and CRC64NVME are not among it: Python has them in slow only."""


class Checker:
    """Counts and hashes one object's parts as they come."""

    def __init__(self, item: BucketObject, path: str) -> None:
        self._item = item
        self._path = path
        self._size = 0
        self._expected = item.checksum
        self._hash: Any = None

    def update(self, content: Content) -> None:
        """Take the next part; of the last one, only if all of the object is right.

        Raises:
            SourceChangedError: There is more than was listed.
            DigestMismatchError: It was the last one, and the whole is not what the service says.
        """
        if self._size == 0:
            self._expected = content.checksum or self._expected
            self._hash = _hash(self._expected)
        self._size += len(content.data)
        if self._hash is not None:
            self._hash.update(content.data)
        if self._size > self._item.size:
            raise SourceChangedError(f"{self._item.key!a}: {self._size} bytes came where {self._item.size} were listed")
        if self._size == self._item.size and self._hash is not None:
            actual = f"{str(self._expected).partition(':')[0]}:{self._hash.hexdigest()}"
            if actual != self._expected:
                raise DigestMismatchError(
                    f"{self._item.key!a} is not what the service says it is: {actual} came, not {self._expected}",
                    expected=str(self._expected),
                    actual=actual,
                    path=self._path,
                    hint="it was damaged on the way or at rest; try again, and ask the service's operator",
                )


def _hash(checksum: str | None) -> Any:
    name = (checksum or "").partition(":")[0]
    if name == "crc32":
        return _CRC32()
    return hashlib.new(name, usedforsecurity=False) if name in CHECKED else None

"""Holding content against what the service says about it: size always, a checksum where there is one."""

import hashlib
import logging
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Final

from fluxsrc.bucket.protocol import BucketObject, Content
from fluxsrc.errors import DigestMismatchError, SourceChangedError

__all__ = ["CHECKED", "Checker"]

_log: Final = logging.getLogger("fluxsrc.bucket")

CHECKED: Final = ("sha256", "md5", "sha1", "crc64nvme", "crc32c", "crc32")
"""What can be checked, the strongest first."""

Extend = Callable[[bytes, int], int]
"""The checksum of some bytes behind others, whose checksum is known."""


class _CRC:
    """A cyclic redundancy check with the face of a hash."""

    def __init__(self, extend: Extend, digits: int) -> None:
        self._extend = extend
        self._digits = digits
        self._value = 0

    def update(self, data: bytes | bytearray) -> None:
        # The libraries take nothing but bytes, or copy by themselves.
        self._value = self._extend(bytes(data), self._value)

    def hexdigest(self) -> str:
        return f"{self._value:0{self._digits}x}"


def _castagnoli() -> Extend:
    google = import_module("google_crc32c")
    if google.implementation != "c":
        raise ModuleNotFoundError(name="google_crc32c")  # in Python it takes minutes for what takes seconds to download
    extend: Extend = lambda data, value: google.extend(value, data)  # noqa: E731 - the arguments are the other way round
    return extend


def _of_aws(name: str) -> Callable[[], Extend]:
    def load() -> Extend:
        extend: Extend = getattr(import_module("awscrt.checksums"), name)
        return extend

    return load


_CRCS: Final[dict[str, tuple[int, Sequence[Callable[[], Extend]]]]] = {
    "crc32": (8, (lambda: zlib.crc32,)),
    "crc32c": (8, (_castagnoli, _of_aws("crc32c"))),
    "crc64nvme": (16, (_of_aws("crc64nvme"),)),
}
"""Digits, and who may know how: Python itself has but the first one."""


@cache
def _extend(name: str) -> Extend | None:
    """How to compute one, by whatever is installed; said once, if nothing is."""
    for load in _CRCS[name][1]:
        try:
            return load()
        except (ImportError, AttributeError):
            continue
    _log.warning(
        "objects whose only checksum is %s are not checked but for their size: pip install 'fluxsrc[%s]'",
        name,
        "s3" if name == "crc64nvme" else "gcs",
    )
    return None


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
    if name in _CRCS:
        extend = _extend(name)
        return None if extend is None else _CRC(extend, _CRCS[name][0])
    return hashlib.new(name, usedforsecurity=False) if name in CHECKED else None

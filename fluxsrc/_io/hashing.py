"""Streams that hash and count what passes through them."""

import hashlib
from typing import BinaryIO, Final, Protocol

from fluxsrc.digest import Digest

__all__ = ["CHUNK", "HashingReader", "HashingWriter", "digest_of"]

CHUNK: Final = 1 << 20
"""Bytes read at a time: large enough to leave the interpreter behind, small enough to stay in a cache."""

_Buffer = bytes | bytearray | memoryview


class _Sink(Protocol):
    def write(self, data: _Buffer, /) -> object: ...


class HashingWriter:
    """Passes bytes on to a sink that takes all of them, hashing and counting.

    Attributes:
        size: Bytes so far.
    """

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: _Buffer, /) -> int:
        """Write all of it; return how many bytes that was."""
        view = memoryview(data)
        self._sink.write(view)
        # After the write: what was not written must not be counted.
        self._hash.update(view)
        self.size += view.nbytes
        return view.nbytes

    @property
    def digest(self) -> Digest:
        """sha256 of everything so far."""
        return Digest("sha256", self._hash.hexdigest())


class HashingReader:
    """Reads from a stream, hashing and counting what was read.

    Attributes:
        size: Bytes so far.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        """As the stream's own."""
        data = self._stream.read(size)
        self._hash.update(data)
        self.size += len(data)
        return data

    @property
    def digest(self) -> Digest:
        """sha256 of everything so far."""
        return Digest("sha256", self._hash.hexdigest())


def digest_of(stream: BinaryIO) -> tuple[Digest, int]:
    """Read a stream to its end; return the sha256 digest and the number of bytes."""
    digest = hashlib.sha256()
    size = 0
    while data := stream.read(CHUNK):
        digest.update(data)
        size += len(data)
    return Digest("sha256", digest.hexdigest()), size

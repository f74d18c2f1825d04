"""`reading`: a blob as a stream while it arrives, whose end is reached only if the blob is what its digest says.

Hashing, unpacking and writing to disk overlap with the download, and nothing is written twice. Whoever reads must treat
what comes as unverified until the stream has ended: unpack into a place that nobody sees, and show it after the end.
"""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from fluxsrc._lazy import later
from fluxsrc.errors import ContentError, LimitExceededError, OperationCancelledError
from fluxsrc.oci.manifest import Descriptor
from fluxsrc.oci.repository import Repository
from fluxsrc.tarball.tree import Spool

if TYPE_CHECKING:
    import queue
else:
    queue = later("queue")

__all__ = ["BlobStream", "reading"]

_SMALL: Final = 256 * 1024
"""Bytes up to which a blob is downloaded first and read then: a thread would cost more than it saves."""
_QUEUED: Final = 8
_PATIENCE: Final = 0.5
"""Seconds to wait for a download that nobody wants any more."""


class BlobStream(io.RawIOBase):
    """What `reading` gives: forwards only, with a look at the first bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._ahead = memoryview(b"")

    def readable(self) -> bool:
        """True."""
        return True

    def peek(self, size: int) -> bytes:
        """The next bytes, `size` at least unless there are fewer, without moving on."""
        while len(self._ahead) < size and (piece := next(self._pieces, b"")):
            self._ahead = memoryview(bytes(self._ahead) + piece)
        return bytes(self._ahead[:size])

    def drain(self) -> None:
        """Read to the end, for nothing but what the end may raise."""
        for _ in self._pieces:
            pass

    def read(self, size: int | None = -1, /) -> bytes:
        """Some of the next bytes, at most `size`; all of them if it is negative or None."""
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        if not self._ahead:
            self._ahead = memoryview(next(self._pieces, b""))
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return bytes(data)


@contextmanager
def reading(repository: Repository, blob: Descriptor) -> Iterator[BlobStream]:
    """The blob's bytes as they arrive.

    Its stream raises what `Repository.fetch` raises, a mismatch of the digest in place of its end.
    """
    if blob.size <= _SMALL:
        spool = Spool()
        try:
            repository.fetch(blob, spool)
            yield BlobStream(iter((spool.read_at(0, blob.size),)))
        finally:
            spool.close()
        return
    pipe = _Pipe()
    worker = threading.Thread(target=pipe.fill, args=(repository, blob), name="fluxsrc-fetch", daemon=True)
    worker.start()
    stream = BlobStream(pipe.pieces())
    try:
        yield stream
    except LimitExceededError:
        raise  # the rest of a bomb is not worth having
    except ContentError:
        # Whoever reads may stumble over damaged bytes before the digest tells that they are damaged. That is the better
        # thing to say: it raises here, or what was said stands.
        stream.drain()
        raise
    finally:
        pipe.abandon()
        # It has ended already, or is about to at the next piece. If the server is silent, closing the repository's
        # connections ends it: nobody waits for that here.
        worker.join(_PATIENCE)


class _Pipe:
    """A bounded queue between the thread that downloads and the one that reads."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(_QUEUED)
        self._abandoned = False

    def fill(self, repository: Repository, blob: Descriptor) -> None:
        end: BaseException | None = None
        try:
            repository.fetch(blob, self)
        except BaseException as exc:  # noqa: BLE001 - raised again below, where the stream is read
            end = exc
        self._queue.put(end)

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        if self._abandoned:
            raise OperationCancelledError("nobody reads any more")
        self._queue.put(bytes(data))  # the buffer is used again for the next piece
        return len(data)

    def pieces(self) -> Iterator[bytes]:
        while True:
            piece = self._queue.get()
            if isinstance(piece, BaseException):
                raise piece
            if piece is None:
                return
            yield piece

    def abandon(self) -> None:
        """Let the writer end: make room until it has seen that nobody reads."""
        self._abandoned = True
        with self._queue.mutex:
            self._queue.queue.clear()
            self._queue.maxsize = 0
            self._queue.not_full.notify_all()


def as_binary(stream: BlobStream) -> BinaryIO:
    """The stream as the type that readers of archives ask for."""
    return cast("BinaryIO", stream)

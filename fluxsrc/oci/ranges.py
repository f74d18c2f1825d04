"""The rest of a large blob over several connections, where one of them is slow.

A registry behind an object store often gives each connection so much and no more. One connection begins; if it turns
out slow, the rest is fetched in segments, a few at a time, and handed on in order. Memory is a few segments, whatever the
blob's size.
"""

import re
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import attrs

from fluxsrc._io.http import Attempts, Response
from fluxsrc._lazy import later
from fluxsrc.errors import RemoteProtocolError, TransportError
from fluxsrc.oci.manifest import Descriptor
from fluxsrc.oci.repository import Verifier
from fluxsrc.oci.session import Session

if TYPE_CHECKING:
    from concurrent import futures
else:
    futures = later("concurrent.futures")

__all__ = ["Pace", "check_range", "receive_ranges"]

_CONNECTIONS: Final = 4
_SEGMENT: Final = 4 * 1024 * 1024
_PIECE: Final = 512 * 1024
_PROBE: Final = 4 * 1024 * 1024
"""Bytes after which a connection's speed is known well enough."""
_WORTH: Final = 32 * 1024 * 1024
"""Bytes still to come for which more connections are worth their handshakes."""
_FAST: Final = 150e6
"""Bytes per second from which our own work, and not the connection, is what takes time."""
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


@attrs.define(eq=False, repr=False)
class Pace:
    """Tells once, after a while, whether a download would profit from more connections.

    Only the time spent waiting for the connection counts. A reader who is slow himself, with unpacking, gets no more
    connections.

    Attributes:
        total: Bytes of the blob.
        is_slow: What was found.
    """

    total: int
    is_slow: bool = False
    _received: int = 0
    _seconds: float = 0.0
    _known: bool = False

    def begin(self, response: Response) -> None:
        """A connection is about to deliver."""
        self._received, self._seconds = 0, 0.0
        self._known = self._known or (response.headers.get("accept-ranges") or "").lower() != "bytes"

    def read(self, response: Response, buffer: memoryview) -> int:
        """Read from it, and look at the clock."""
        begun = time.monotonic()
        count = response.readinto(buffer)
        self._seconds += time.monotonic() - begun
        self._received += count
        return count

    def turns_out_slow(self, done: int) -> bool:
        """Whether to stop here, and go on with `receive_ranges`."""
        if self._known or self._received < _PROBE:
            return False
        self._known = True
        self.is_slow = self.total - done >= _WORTH and self._received < _FAST * self._seconds
        return self.is_slow


def check_range(response: Response, offset: int, what: str) -> None:
    """Hold a partial response against what was asked for.

    Raises:
        RemoteProtocolError: It is another part.
    """
    found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range") or "")
    if found is None or int(found[1]) != offset:
        raise RemoteProtocolError(f"cannot {what}: another range than was asked for", url=response.url)


def receive_ranges(session: Session, blob: Descriptor, verifier: Verifier) -> None:
    """Everything that the verifier has not seen yet.

    Raises:
        RemoteProtocolError: The registry said that it has ranges, and has not.
        TransportError: A segment could not be had.
    """
    offsets = iter(range(verifier.size, blob.size, _SEGMENT))
    waiting: deque[futures.Future[bytearray]] = deque()
    with futures.ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="fluxsrc-range") as pool:
        try:
            while True:
                while len(waiting) <= _CONNECTIONS and (offset := next(offsets, None)) is not None:
                    waiting.append(pool.submit(_segment, session, blob, offset))
                if not waiting:
                    return
                segment = memoryview(waiting.popleft().result())
                for start in range(0, len(segment), _PIECE):
                    verifier.write(segment[start : start + _PIECE])
                session.operation.report("receive", verifier.size, blob.size, detail=session.name)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _segment(session: Session, blob: Descriptor, offset: int) -> bytearray:
    data = bytearray(min(_SEGMENT, blob.size - offset))
    attempts = Attempts(session.operation, "receive")
    done = 0
    while done < len(data):
        begun = done
        try:
            for count in _range(session, blob, offset + done, memoryview(data)[done:]):
                done += count
        except TransportError as exc:
            attempts.failed(exc, progress=done > begun)
    return data


def _range(session: Session, blob: Descriptor, offset: int, space: memoryview) -> Iterator[int]:
    """Fill the space with the blob's bytes from an offset on; yields how many came, each time some came."""
    what = f"read the blob {blob.digest} of {session.name}"
    headers = {"Range": f"bytes={offset}-{offset + len(space) - 1}"}
    with session.request("GET", session.url(f"blobs/{blob.digest}"), phase="receive", headers=headers) as response:
        if response.status == 200:  # noqa: PLR2004 - all of it
            raise RemoteProtocolError(f"cannot {what}: all of it where a range was asked for", url=response.url)
        if response.status != 206:  # noqa: PLR2004 - partial content
            raise session.error(response, what)
        check_range(response, offset, what)
        while space:
            count = response.readinto(space)
            if not count:
                raise TransportError(f"cannot {what}: a range was cut short", url=response.url)
            space = space[count:]
            yield count

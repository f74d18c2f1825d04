"""Git's pkt-lines: the framing of its wire protocol, over any stream of bytes."""

import enum
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from fluxsrc.errors import RemoteProtocolError, TransportError

__all__ = ["DELIM_PKT", "FLUSH_PKT", "ByteStream", "Mark", "PktReader", "pkt", "pkts"]

FLUSH_PKT: Final = b"0000"
DELIM_PKT: Final = b"0001"
MAX_PKT: Final = 65520
_HEAD: Final = 4
_BUFFER: Final = 256 * 1024


class ByteStream(Protocol):
    """What comes from the other side."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Read at least one byte; 0 at the end.

        Raises:
            SourceError: The connection broke, the deadline passed, or the other side says no.
        """
        ...


class Mark(enum.Enum):
    """A pkt-line that is not data but punctuation."""

    FLUSH = 0
    DELIM = 1
    END = 2


_MARKS: Final = {mark.value: mark for mark in Mark}


def pkt(line: bytes | str) -> bytes:
    r"""One line, framed.

    >>> pkt("hello\n")
    b'000ahello\n'
    """
    data = line.encode() if isinstance(line, str) else line
    assert len(data) <= MAX_PKT - _HEAD
    return b"%04x%s" % (len(data) + _HEAD, data)


def pkts(lines: Iterable[str]) -> bytes:
    """Several lines, each framed, each ended by a newline."""
    return b"".join(pkt(f"{line}\n") for line in lines)


class PktReader:
    """Reads pkt-lines from a stream.

    Args:
        stream: Where bytes come from.
        url: The remote's, redacted, for messages.
    """

    def __init__(self, stream: ByteStream, *, url: str) -> None:
        self._stream = stream
        self._url = url
        self._buffer = memoryview(bytearray(_BUFFER))
        self._start = 0
        self._end = 0

    def read(self) -> bytes | Mark:
        """The next line's data as it is, or a mark.

        Raises:
            RemoteProtocolError: What comes is no pkt-line.
            TransportError: The stream ends before the line does.
        """
        if self._end - self._start < _HEAD:
            self._fill(_HEAD)
        head = bytes(self._buffer[self._start : self._start + _HEAD])
        try:
            size = int(head, 16) if head.isalnum() else -1
        except ValueError:
            size = -1
        if size < _HEAD:
            mark = _MARKS.get(size)
            if mark is None:
                raise RemoteProtocolError(f"{self._url} does not speak git's protocol: it sent {head!a}", url=self._url)
            self._start += _HEAD
            return mark
        if size > MAX_PKT:
            raise RemoteProtocolError(f"{self._url} sent a line of {size} bytes, more than a line has", url=self._url)
        if self._end - self._start < size:
            self._fill(size)
        data = bytes(self._buffer[self._start + _HEAD : self._start + size])
        self._start += size
        return data

    def lines(self) -> Iterator[bytes]:
        """The lines up to the next mark, without their newlines; the mark is taken."""
        while not isinstance(line := self.read(), Mark):
            yield line.removesuffix(b"\n")

    def rest(self) -> Iterator[bytes]:
        """Everything up to the end of the stream, unframed."""
        if self._end > self._start:
            yield bytes(self._buffer[self._start : self._end])
            self._start = self._end
        while count := self._stream.readinto(self._buffer):
            yield bytes(self._buffer[:count])

    def _fill(self, size: int) -> None:
        """Have at least `size` bytes in the buffer."""
        have = self._end - self._start
        if self._start + size > len(self._buffer):
            self._buffer[:have] = bytes(self._buffer[self._start : self._end])
            self._start, self._end = 0, have
        while have < size:
            count = self._stream.readinto(self._buffer[self._end :])
            if not count:
                where = "in the middle of an answer" if have else "before its answer was complete"
                raise TransportError(f"{self._url} closed the connection {where}", url=self._url)
            self._end += count
            have += count

"""What comes back for requests that were sent together on one connection, read without touching it.

It is the reader of a fast path (see `pump`), so it knows one kind of response: the one that is as plain as can be.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["Answer", "Reader", "Request", "parse_head"]

_MAX_HEAD: Final = 64 << 10
_MAX_UNWANTED: Final = 64 << 10
"""Bytes of an error's body that are cheaper to skip than a new connection is to open."""
_OK: Final = 200
_LENGTH: Final = re.compile(r"[0-9]{1,15}")
_PLAIN_HEAD: Final = re.compile(rb"HTTP/1\.1 [1-5][0-9]{2}[^\r\n\0]*(?:\r\n[-!#$%&'*+.^_`|~0-9A-Za-z]+:[^\r\n\0]*)*")
"""No space before a colon, no line folded onto the next, no bare line end: those are where smuggling begins."""


class Request(NamedTuple):
    """One GET.

    Attributes:
        target: Path and query, encoded.
        fields: Header lines besides Host, each with its line end: nothing checks them again.
        length: Bytes that the body must have.
    """

    target: str
    fields: str
    length: int


class Answer(NamedTuple):
    """What was hoped for.

    Attributes:
        headers: By lower-case name; of a repeated one, the last.
        body: All of it.
    """

    headers: dict[str, str]
    body: bytes


class Reader:
    """Reads the answers to some requests, in order.

    Attributes:
        finished: Whether it wants no more bytes: all answers are there, or it met something it does not understand.
        complete: Whether every request was answered, hoped for or not.
        reusable: Whether the connection can carry more requests.
    """

    def __init__(self, requests: Sequence[Request], answers: list[Answer | None]) -> None:
        self.finished = self.complete = self.reusable = False
        self._requests = requests
        self._answers = answers
        self._place = 0
        self._data = bytearray()
        self._start = 0
        self._head: tuple[int, dict[str, str], int] | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes from the connection; fills in the answers."""
        self._data += data
        while not self.finished and self._step():
            pass
        if self._start > len(self._data) // 2:
            del self._data[: self._start]
            self._start = 0

    def _step(self) -> bool:
        """Read one head or one body; false if there is not enough of it yet."""
        if self._head is None:
            end = self._data.find(b"\r\n\r\n", self._start)
            if end < 0:
                self.finished = len(self._data) - self._start > _MAX_HEAD
                return False
            self._head = parse_head(bytes(self._data[self._start : end]))
            self._start = end + 4
            if self._head is None:
                self.finished = True
                return False
        status, headers, length = self._head
        request = self._requests[self._place]
        hoped = status == _OK and length == request.length
        if not hoped and length > _MAX_UNWANTED:
            self.finished = True
            return False
        if len(self._data) - self._start < length:
            return False
        if hoped:
            self._answers[self._place] = Answer(headers, bytes(self._data[self._start : self._start + length]))
        self._head = None
        self._start += length
        self._place += 1
        self.complete = self._place == len(self._requests)
        keep = "close" not in headers.get("connection", "").lower()
        self.finished = self.complete or not keep
        # Bytes beyond the end belong to nobody: such a connection is not trusted with another request.
        self.reusable = self.complete and keep and self._start == len(self._data)
        return True


def parse_head(head: bytes) -> tuple[int, dict[str, str], int] | None:
    r"""Status, header fields and length of the body, of a response that is as plain as can be; None for any other.

    >>> parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: x")
    (200, {'content-length': '4', 'etag': 'x'}, 4)
    """
    if not _PLAIN_HEAD.fullmatch(head):
        return None
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in [field.partition(":") for field in lines]}
    length = headers.get("content-length", "")
    repeated = len(headers) != len(lines) and head.lower().count(b"\r\ncontent-length:") > 1
    if not _LENGTH.fullmatch(length) or repeated or "transfer-encoding" in headers or int(line[9:12]) < _OK:
        return None
    return int(line[9:12]), headers, int(length)

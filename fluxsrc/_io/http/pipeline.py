"""Many small GETs over one connection, sent together: what makes ten thousand small objects cheap.

This is the fast path of a slow one. It understands only the answer one hopes for: 200, a body of the length that was
expected, a connection that stays open. Whatever else comes back is no result here, and the caller asks again with
`HTTPClient.request`, which knows redirects, errors, retries, and every other way to send a body. GET is idempotent, so
asking twice is harmless.
"""

from collections.abc import Sequence
from typing import Final

import attrs

from fluxsrc._io.http.bound import Bound
from fluxsrc._io.http.client import HTTPClient
from fluxsrc._io.http.network import Channel
from fluxsrc.auth import redact_url
from fluxsrc.errors import TransportError
from fluxsrc.operation import Operation

__all__ = ["Answer", "Request", "get_many", "parse_head"]

_READ: Final = 256 << 10
_MAX_HEAD: Final = 64 << 10
_MAX_UNWANTED: Final = 64 << 10
"""Bytes of an error's body that are cheaper to skip than a new connection is to open."""


@attrs.frozen
class Request:
    """One GET.

    Attributes:
        target: Path and query, encoded.
        fields: Header lines besides Host, each with its line end: nothing checks them again.
        length: Bytes that the body must have.
    """

    target: str
    fields: str
    length: int


@attrs.frozen
class Answer:
    """What was hoped for.

    Attributes:
        headers: By lower-case name.
        body: All of it.
    """

    headers: dict[str, str]
    body: bytes


def get_many(
    http: HTTPClient, base: str, requests: Sequence[Request], *, operation: Operation, phase: str
) -> list[Answer | None]:
    """Send the requests, and read what comes back; None in the place of each that needs the slow path.

    Args:
        http: Whose connections are used.
        base: A URL of the server all requests go to.
        requests: Not more than the server will read before it answers: some dozen.
        operation: The deadline and the cancel switch.
        phase: For messages.

    Raises:
        TransportTimeoutError: The deadline passed.
        OperationCancelledError: The operation was cancelled.
    """
    answers: list[Answer | None] = [None] * len(requests)
    bound = Bound(operation, phase, redact_url(base), http.idle)
    try:
        with http.lend(base, bound) as loan:
            host = loan.host
            text = "".join([f"GET {r.target} HTTP/1.1\r\nHost: {host}\r\n{r.fields}\r\n" for r in requests])
            loan.channel.send(text.encode("ascii"), bound)
            loan.reusable = _receive(loan.channel, requests, answers, bound)
    except TransportError as exc:
        if isinstance(exc, TimeoutError):
            raise
    return answers


def _receive(channel: Channel, requests: Sequence[Request], answers: list[Answer | None], bound: Bound) -> bool:
    """Fill in the answers; whether the connection can be used again."""
    block = memoryview(bytearray(_READ))
    data = bytearray()
    start = 0
    for place, request in enumerate(requests):
        while (end := data.find(b"\r\n\r\n", start)) < 0:
            if len(data) - start > _MAX_HEAD or not (count := channel.recv_into(block, bound)):
                return False
            data += block[:count]
        head = parse_head(bytes(data[start:end]))
        if head is None:
            return False
        status, headers, length = head
        start = end + 4
        hoped = status == 200 and length == request.length  # noqa: PLR2004 - OK
        if not hoped and length > _MAX_UNWANTED:
            return False
        while len(data) - start < length:
            if not (count := channel.recv_into(block, bound)):
                return False
            data += block[:count]
        if hoped:
            answers[place] = Answer(headers, bytes(data[start : start + length]))
        start += length
        if "close" in headers.get("connection", "").lower():
            return False
    return start == len(data)  # bytes beyond the end belong to nobody: such a connection is not trusted again


def parse_head(head: bytes) -> tuple[int, dict[str, str], int] | None:
    r"""Status, header fields and length of the body, of a response that is as plain as can be; None for any other.

    >>> parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: x")
    (200, {'content-length': '4', 'etag': 'x'}, 4)
    """
    if not head.startswith(b"HTTP/1.1 "):
        return None
    line, *lines = head.decode("latin-1").split("\r\n")
    status = line[9:12]
    headers: dict[str, str] = {}
    for field in lines:
        name, colon, value = field.partition(":")
        name = name.lower()
        # A space before the colon, a line folded onto the next, a bare line feed: here is where smuggling begins.
        if not colon or not name or name != name.strip() or "\n" in field or "\r" in field or "\0" in field:
            return None
        if name in headers:
            if name == "content-length":
                return None
            headers[name] += f", {value.strip()}"
        else:
            headers[name] = value.strip()
    length = headers.get("content-length", "")
    plain = status.isdigit() and status.isascii() and length.isdigit() and length.isascii() and len(length) < 16  # noqa: PLR2004 - a length that fits
    if not plain or int(status) < 200 or "transfer-encoding" in headers:  # noqa: PLR2004 - informational
        return None
    return int(status), headers, int(length)

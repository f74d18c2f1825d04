"""One HTTP/1.1 exchange on one channel: write the request, read the head, then the body.

h11 writes requests and parses heads and chunked bodies. Bodies of a known length, which is what large ones are, are read
straight from the channel into the caller's buffer. Each exchange has a parser of its own, so nothing of one response can
reach into the next.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import attrs
import h11

from fluxsrc._io.http.bound import Bound
from fluxsrc._io.http.network import Channel
from fluxsrc.errors import ConfigurationError, RemoteProtocolError, SourceError, TransportError

__all__ = ["Body", "Content", "Headers", "exchange"]

Content = bytes | Callable[[], Iterable[bytes]]
"""A request body: bytes, or a callable that starts it anew for each attempt."""

_MAX_HEAD: Final = 64 * 1024
_MAX_INFORMATIONAL: Final = 8
_READ: Final = 64 * 1024
_NO_BODY: Final = frozenset({204, 304})


@attrs.frozen(repr=False)
class Headers:
    """Header fields in the order they came; names compare without case."""

    _items: tuple[tuple[str, str], ...] = attrs.field(repr=False)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of this name."""
        return next(iter(self.get_all(name)), default)

    def get_all(self, name: str) -> Sequence[str]:
        """Every value of this name, in order."""
        lower = name.lower()
        return [value for key, value in self._items if key == lower]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(key == name.lower() for key, _ in self._items)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._items)


class Body:
    """The body of one response, read as it comes.

    Attributes:
        length: Bytes in all, None where the server did not say.
        reusable: After the end: whether the connection can carry another exchange.
    """

    def __init__(
        self, channel: Channel, parser: h11.Connection, bound: Bound, length: int | None, *, keep: bool
    ) -> None:
        self.length = length
        self.reusable = False
        self._channel = channel
        self._parser = parser
        self._bound = bound
        self._keep = keep
        self._received = 0
        self._ended = False
        # What came in one packet with the head. Of a chunked body, the parser keeps it.
        self._pending = memoryview(parser.trailing_data[0] if length is not None else b"")
        self.done = False
        if length == 0:
            self._finish()

    @property
    def left(self) -> int | None:
        """Bytes still to come, None where nobody knows."""
        return None if self.length is None else self.length - self._received

    def readinto(self, buffer: memoryview) -> int:
        """Read at least one byte; 0 at the end, and only if nothing is missing.

        Raises:
            TransportError: The connection was cut before the end.
            RemoteProtocolError: The chunks are malformed.
        """
        if self.done or not buffer:
            return 0
        count = self._read_known(buffer) if self.length is not None else self._read_chunked(buffer)
        self._received += count
        if self._received == self.length:
            self._finish()
        return count

    def _read_known(self, buffer: memoryview) -> int:
        assert self.length is not None
        buffer = buffer[: self.length - self._received]
        if self._pending:
            return self._take(buffer)
        count = self._channel.recv_into(buffer, self._bound)
        if not count:
            raise self._cut()
        return count

    def _read_chunked(self, buffer: memoryview) -> int:
        while not self._pending:
            event = _next_event(self._parser, self._bound, ended=self._ended)
            if event is h11.NEED_DATA:
                data = self._channel.recv(_READ, self._bound)
                self._ended = not data
                _receive(self._parser, data, self._bound)
            elif isinstance(event, h11.Data):
                self._pending = memoryview(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._pending = memoryview(self._parser.trailing_data[0])
                self._finish()
                return 0
            else:
                raise RemoteProtocolError(f"{self._bound.url}: the connection went astray", url=self._bound.url)
        return self._take(buffer)

    def _take(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._pending))
        buffer[:count] = self._pending[:count]
        self._pending = self._pending[count:]
        return count

    def _cut(self) -> SourceError:
        of = f" of {self.length:,}" if self.length is not None else ""
        return TransportError(
            f"{self._bound.url}: the connection was cut after {self._received:,}{of} bytes", url=self._bound.url
        )

    def _finish(self) -> None:
        self.done = True
        # Bytes beyond the end belong to nobody: such a connection is not trusted with another request.
        self.reusable = self._keep and not self._pending


def exchange(
    channel: Channel,
    method: str,
    target: str,
    headers: list[tuple[str, str]],
    content: Content | None,
    bound: Bound,
) -> tuple[int, Headers, Body]:
    """Send one request and read the head of its response.

    Raises:
        TransportError: The connection broke.
        RemoteProtocolError: The answer is not HTTP.
        ConfigurationError: A header cannot be sent.
    """
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
    try:
        head = parser.send(h11.Request(method=method, target=target, headers=headers))
    except (h11.LocalProtocolError, UnicodeError):
        head = None  # the library's text quotes the header, which may be a secret: it is not chained
    if head is None:
        raise ConfigurationError(f"{bound.url}: a header or the path has characters that HTTP cannot carry")
    sent = _send(channel, parser, head, content, bound)
    status, version, received = _read_head(channel, parser, bound)
    names = {name.lower() for name, _ in received}
    tokens = {t.strip().lower() for name, value in received if name == "connection" for t in value.split(",")}
    keep = sent and version == b"1.1" and "close" not in tokens
    length: int | None = None
    if method == "HEAD" or status in _NO_BODY:
        length = 0
    elif "content-length" in names and "transfer-encoding" not in names:
        length = int(next(value for name, value in received if name == "content-length"))
    # A body without either ends where the connection does, as in HTTP/1.0.
    keep = keep and (length is not None or "transfer-encoding" in names)
    body = Body(channel, parser, bound, length, keep=keep)
    return status, Headers(tuple(received)), body


def _send(channel: Channel, parser: h11.Connection, head: bytes, content: Content | None, bound: Bound) -> bool:
    """Write the request; False if the server answered, or hung up, before it was complete."""
    try:
        if content is None or isinstance(content, bytes):
            data = parser.send(h11.Data(data=content)) if content else b""
            channel.send(head + (data or b"") + (parser.send(h11.EndOfMessage()) or b""), bound)
            return True
        channel.send(head, bound)
        for chunk in content():
            if channel.readable():
                return False  # a server that refuses an upload says so early; it may never read the rest
            channel.send(parser.send(h11.Data(data=chunk)) or b"", bound)
        channel.send(parser.send(h11.EndOfMessage()) or b"", bound)
    except TransportError as exc:
        # 1. A broken pipe often hides an answer such as 413: read on, and let the missing answer be the error.
        # 2. A passed deadline or silence is the end.
        if isinstance(exc, TimeoutError) or not channel.readable():
            raise
        return False
    except h11.LocalProtocolError as exc:
        raise ConfigurationError(f"{bound.url}: the body is not as long as was declared") from exc
    return True


def _read_head(channel: Channel, parser: h11.Connection, bound: Bound) -> tuple[int, bytes, list[tuple[str, str]]]:
    informational = 0
    while True:
        event = _next_event(parser, bound)
        if event is h11.NEED_DATA:
            data = channel.recv(_READ, bound)
            if not data:
                raise TransportError(f"{bound.url}: the connection was closed without an answer", url=bound.url)
            _receive(parser, data, bound)
        elif isinstance(event, h11.Response):
            fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers]
            return event.status_code, event.http_version, fields
        elif isinstance(event, h11.InformationalResponse) and informational < _MAX_INFORMATIONAL:
            informational += 1
        else:
            raise RemoteProtocolError(f"{bound.url}: the answer is not an HTTP response", url=bound.url)


def _next_event(parser: h11.Connection, bound: Bound, *, ended: bool = False) -> object:
    try:
        return parser.next_event()
    except h11.RemoteProtocolError as exc:
        if ended:
            failure: SourceError = TransportError(f"{bound.url}: the connection was cut", url=bound.url)
        else:
            failure = RemoteProtocolError(f"{bound.url}: the answer is not HTTP: {exc}", url=bound.url)
        raise failure from exc


def _receive(parser: h11.Connection, data: bytes, bound: Bound) -> None:
    try:
        parser.receive_data(data)
    except (RuntimeError, h11.ProtocolError) as exc:
        raise RemoteProtocolError(f"{bound.url}: data after the end", url=bound.url) from exc

"""`HTTPBucketClient`: the one client of all services over HTTP. What is different about each is its `Dialect`.

So one deadline, one way to retry, one pool of connections, one window and one set of tests hold for all of them.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from fluxsrc._io.http import Headers, HTTPClient, Response, retrying, status_error
from fluxsrc._io.http.bound import Bound
from fluxsrc._io.http.pipeline import Answer, Request
from fluxsrc._io.http.pump import Pump
from fluxsrc.auth import Proxy, Secret, TLSConfig
from fluxsrc.bucket.batch import PumpedBatch
from fluxsrc.bucket.dialect import Ask, Delimiter, Dialect, Failure
from fluxsrc.bucket.protocol import Batch, BatchReader, BucketClient, BucketObject, Content, LevelLister
from fluxsrc.errors import ConfigurationError, FluxSrcError, RemoteProtocolError, SourceChangedError, TransportError
from fluxsrc.operation import Operation

__all__ = ["HTTPBucketClient", "connect"]

_MAX_PAGE: Final = 32 << 20
"""Bytes of a page: thousands of keys of 1,024 bytes, percent-encoded, and what is around them."""
_MAX_ERROR: Final = 64 << 10
_CONNECTIONS: Final = 32
_BY_KEY: Final = 16
"""Pages that are asked for by key, where a service is quicker that way, before a listing is long."""
_QUICK: Final = 0.15
"""Seconds within which such a page comes in the mean, or it is not quicker."""
_PATIENCE: Final = 0.3
"""Seconds that they may take longer in all, for the first one waits for much besides: as long as a token would make wait."""
_OK: Final = 200
_PARTIAL: Final = 206
_T = TypeVar("_T")


@contextlib.contextmanager
def connect(dialect: Dialect, operation: Operation, *, tls: TLSConfig, proxy: Proxy | None) -> Iterator[BucketClient]:
    """A client for the time of one operation."""
    with HTTPClient(tls=tls, proxy=proxy) as http:
        if isinstance(dialect, Delimiter):
            client: HTTPBucketClient = _LeveledClient(dialect, dialect, http, operation)
        else:
            client = HTTPBucketClient(dialect, http, operation)
        with contextlib.closing(client):
            yield client


class HTTPBucketClient:
    """See `BucketClient` and `BatchReader`."""

    def __init__(self, dialect: Dialect, http: HTTPClient, operation: Operation) -> None:
        self.jumps = dialect.jumps
        self._dialect = dialect
        self._http = http
        self._operation = operation
        self._pump: Pump | None = None

    def close(self) -> None:
        """Close the connections of batches."""
        if self._pump is not None:
            self._pump.close()

    def pages(self, prefix: str = "", *, after: str = "") -> Generator[Sequence[BucketObject], None, None]:
        """See `BucketClient`."""
        dialect = self._dialect
        token, slack = None, _PATIENCE
        for _ in range(_BY_KEY):
            started = time.monotonic()
            page, token, headers = self._page(partial(dialect.list, prefix, after, None), dialect.page)
            slack -= time.monotonic() - started - _QUICK
            yield page
            if token is None:
                return
            if not (slack > 0 and page and dialect.prefers_keys(headers)):
                break
            after = page[-1].key
        yield from self._pages(partial(dialect.list, prefix, after), dialect.page, token)

    def read(self, item: BucketObject, /, start: int = 0, length: int | None = None) -> Content:
        """See `BucketClient`."""
        length = item.size - start if length is None else length
        content = retrying(partial(self._read, item, start, length), operation=self._operation, phase="receive")
        if start == 0 and length < item.size and item.checksum is None and content.checksum is None:
            known = retrying(partial(self._described, item), operation=self._operation, phase="receive")
            content = content._replace(checksum=known)
        return content

    def start(self, items: Sequence[BucketObject], executor: Executor, /) -> Batch | None:
        """See `BatchReader`."""
        asks = self._dialect.read(items)
        server = asks[0].server
        if self._http.proxy is not None and server.startswith("http:"):
            return None  # a proxy that forwards plain http wants other targets
        if self._pump is None:
            bound = Bound(self._operation, "receive", self._dialect.url, self._http.idle)
            self._pump = Pump(self._http, server, executor, bound, connections=_CONNECTIONS)
        if not self._pump.healthy:
            return None
        requests = [Request(ask.target, _lines(ask.headers), item.size) for ask, item in zip(asks, items, strict=True)]
        job = self._pump.submit(requests)
        return PumpedBatch(
            items, self._pump, job, self._accept, self.read, executor, self._operation, self._dialect.url
        )

    def _accept(self, item: BucketObject, answer: Answer) -> Content | None:
        if not self._dialect.is_same(item, answer.headers):
            return None
        return Content(answer.body, self._dialect.checksum(item, answer.headers))

    def _pages(
        self,
        make: Callable[[str | None], Ask],
        parse: Callable[[bytes], tuple[Sequence[_T], str | None]],
        token: str | None = None,
    ) -> Generator[Sequence[_T], None, None]:
        while True:
            page, following, _ = self._page(partial(make, token), parse)
            yield page
            if following is None:
                return
            if following == token:
                raise RemoteProtocolError(f"{self._dialect.url}: the listing goes in circles", url=self._dialect.url)
            token = following

    def _page(
        self, make: Callable[[], Ask], parse: Callable[[bytes], tuple[Sequence[_T], str | None]]
    ) -> tuple[Sequence[_T], str | None, Headers]:
        """A page, the token of the next one, and the header fields."""
        return retrying(partial(self._page_once, make, parse), operation=self._operation, phase="list")

    def _page_once(
        self, make: Callable[[], Ask], parse: Callable[[bytes], tuple[Sequence[_T], str | None]]
    ) -> tuple[Sequence[_T], str | None, Headers]:
        with self._get(make, "list") as response:
            if response.status != _OK:
                raise self._error(response, None)
            data = response.read(_MAX_PAGE)
        try:
            return *parse(data), response.headers
        except ValueError as exc:
            problem = str(exc)
        # Outside of the handler: some of these errors hold all of the answer, and it may quote what was sent.
        raise RemoteProtocolError(f"{self._dialect.url} answers no listing: {problem}", url=self._dialect.url)

    def _read(self, item: BucketObject, start: int, length: int) -> Content:
        part = None if length == item.size else f"bytes={start}-{start + length - 1}"
        with self._get(lambda: self._dialect.read([item], part)[0], "receive") as response:
            if response.status == _OK and part is not None:
                raise RemoteProtocolError(f"{self._dialect.url} sends no parts of objects", url=self._dialect.url)
            if response.status != (_OK if part is None else _PARTIAL):
                raise self._error(response, item)
            if not self._dialect.is_same(item, response.headers):
                raise self._changed(item)
            return Content(self._receive(response, item, start, length), self._dialect.checksum(item, response.headers))

    def _described(self, item: BucketObject) -> str | None:
        """What the service says about all of an object whose parts do not tell."""
        ask = self._dialect.describe(item)
        if ask is None:
            return None
        with self._get(lambda: ask, "receive") as response:
            # Not every service that speaks S3 knows this request; those that do not have no checksum to tell either.
            if response.status != _OK:
                return None
            if not self._dialect.is_same(item, response.headers):
                raise self._changed(item)
            return self._dialect.checksum(item, response.headers)

    def _receive(self, response: Response, item: BucketObject, start: int, length: int) -> bytearray:
        """All bytes of a part, in one piece of memory."""
        url = self._dialect.url
        given = response.headers.get("content-range") or ""
        size = given.rpartition("/")[2]
        if response.length not in (None, length) or size not in ("", "*", str(item.size)):
            raise self._changed(item)
        if given and given.partition("/")[0].replace("=", " ") != f"bytes {start}-{start + length - 1}":
            raise RemoteProtocolError(f"{item.key!a} of {url}: not the part that was asked for", url=url)
        data = bytearray(length)
        view, done = memoryview(data), 0
        while count := response.readinto(view[done:]):
            done += count
        if done != length:
            raise TransportError(f"{item.key!a} of {url}: {done} bytes came, not {length}", url=url)
        return data

    def _get(self, make: Callable[[], Ask], phase: str) -> Response:
        for last in (False, True):
            ask = make()
            # A redirect is never followed: where else a bucket may be is for the dialect to find out, and nobody else is
            # to see a signature.
            response = self._http.request(
                ask.method,
                ask.server + ask.target,
                operation=self._operation,
                phase=phase,
                headers=ask.headers,
                follow=False,
            )
            if last or not self._dialect.elsewhere(response):
                break
            response.close()
        return response

    def _error(self, response: Response, item: BucketObject | None) -> FluxSrcError:
        """What a response that is no success means."""
        url = self._dialect.url
        where = f"read {item.key!a} of {url}" if item is not None else f"list {url}"
        failure = Failure(response.status, response.headers, _beginning(response))
        known = self._dialect.error(failure, where)
        if known is not None:
            return known
        if item is not None and response.status in (404, 412, 416):
            return self._changed(item)
        return status_error(response, where, detail="")

    def _changed(self, item: BucketObject) -> SourceChangedError:
        url = self._dialect.url
        return SourceChangedError(f"{item.key!a} is gone, or not what it was when {url} was listed", url=url)


class _LeveledClient(HTTPBucketClient):
    """See `LevelLister`."""

    def __init__(self, dialect: Dialect, delimiter: Delimiter, http: HTTPClient, operation: Operation) -> None:
        super().__init__(dialect, http, operation)
        self._delimiter = delimiter

    def names(self, prefix: str, /) -> Generator[Sequence[str], None, None]:
        """See `LevelLister`."""
        return self._pages(partial(self._delimiter.list_level, prefix), self._delimiter.level)


def _beginning(response: Response) -> bytes:
    data = b""
    for chunk in response.iter_bytes():
        data += chunk
        if len(data) >= _MAX_ERROR:
            break
    return data[:_MAX_ERROR]


def _lines(fields: Mapping[str, str | Secret]) -> str:
    """Header fields as lines.

    Raises:
        ConfigurationError: A value would break out of its line.
    """
    values = {name: value.reveal() if isinstance(value, Secret) else value for name, value in fields.items()}
    text = "".join([f"{name}: {value}\r\n" for name, value in values.items()])
    if text.count("\n") != len(values) or text.count("\r") != len(values) or not text.isascii():
        raise ConfigurationError("a credential or an etag has characters that HTTP cannot carry")
    return text


if TYPE_CHECKING:

    def _(client: _LeveledClient) -> tuple[BucketClient, BatchReader, LevelLister]:
        return client, client, client

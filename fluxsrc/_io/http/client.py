"""`HTTPClient`: requests over kept-alive connections, with redirects that give no credential away."""

import base64
import ssl
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Final, Protocol, Self
from urllib.parse import quote, urljoin, urlsplit

import attrs

from fluxsrc._io.http.bound import IDLE_TIMEOUT, Bound
from fluxsrc._io.http.message import Body, Content, Headers, exchange
from fluxsrc._io.http.network import Channel, connect, start_tls
from fluxsrc._io.http.proxy import connect_through, forwards_plain_http, proxy_authorization
from fluxsrc._io.http.tls import tls_context
from fluxsrc.auth import Origin, Proxy, Secret, TLSConfig, redact_url
from fluxsrc.errors import ConfigurationError, LimitExceededError, RemoteProtocolError, TransportError
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.operation import Operation

__all__ = ["HTTPClient", "Response", "Transport"]

_CHUNK: Final = 256 * 1024
_DRAIN: Final = 64 * 1024
"""Bytes of an unwanted body that are cheaper to read than a new connection is to open."""
_MAX_IDLE_SECONDS: Final = 50.0
"""Servers commonly close idle connections after 60."""
_EXCERPT: Final = 4096
_PRIVATE: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_REDIRECTS_OF_ALL_METHODS: Final = frozenset({307, 308})


class Response:
    """A response whose body is still on the wire: read it, or leave its context; then the connection is free.

    Attributes:
        status: The status code.
        headers: The header fields.
        url: Where it came from after redirects, redacted.
        location: The same as an address; it may hold a signature, so show it to nobody.
    """

    def __init__(
        self,
        status: int,
        headers: Headers,
        target: "_Target",
        body: Body,
        client: "HTTPClient",
        channel: Channel,
        secrets: tuple[str, ...],
    ) -> None:
        self.status = status
        self.headers = headers
        self.url = target.shown
        self.location = target.url
        self._body = body
        self._client = client
        self._channel: Channel | None = channel
        self._origin = target.origin
        self._secrets = secrets
        self._release_when_done()

    @property
    def length(self) -> int | None:
        """Bytes of the body, None where the server did not say."""
        return self._body.length

    def readinto(self, buffer: memoryview) -> int:
        """Read at least one byte into the buffer; 0 at the end.

        Raises:
            TransportError: The connection was cut, or the deadline passed.
            RemoteProtocolError: The body is malformed.
        """
        if self._channel is None:
            return 0
        try:
            count = self._body.readinto(buffer)
        except BaseException:
            self._discard()
            raise
        self._release_when_done()
        return count

    def iter_bytes(self, size: int = _CHUNK) -> Iterator[bytes]:
        """The body in pieces of at most `size`; raises as `readinto` does."""
        buffer = memoryview(bytearray(size))
        while count := self.readinto(buffer):
            yield bytes(buffer[:count])

    def read(self, limit: int, *, name: str = "max_manifest_bytes") -> bytes:
        """The whole body, in memory.

        Args:
            limit: Bytes it may have.
            name: The limit's name in `Limits`, for the message.

        Raises:
            LimitExceededError: It is longer.
        """
        data = bytearray()
        if (self.length or 0) <= limit:
            for chunk in self.iter_bytes():
                data += chunk
                if len(data) > limit:
                    break
        if max(len(data), self.length or 0) > limit:
            self._discard()
            raise LimitExceededError(
                f"{self.url}: an answer of more than {limit:,} bytes", limit=name, allowed=limit, actual=self.length
            )
        return bytes(data)

    def excerpt(self, size: int = _EXCERPT) -> str:
        """The beginning of an error's body as printable text, without the secrets that were sent; may be empty."""
        data = bytearray()
        for chunk in self.iter_bytes(size):
            data += chunk
            if len(data) >= size:
                break
        text = bytes(data[:size]).decode(errors="replace")
        for secret in self._secrets:
            text = text.replace(secret, "**********")
        return "".join(char if char.isprintable() else " " for char in text).strip()

    def close(self) -> None:
        """Give the connection back: read out what little is left of the body, or else close it."""
        if self._channel is None:
            return
        left = self._body.left
        try:
            if left is None or left > _DRAIN:
                return
            for _ in self.iter_bytes():
                pass
        except TransportError:
            pass  # nobody wanted the rest
        finally:
            self._discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:
            self._discard()

    def _release_when_done(self) -> None:
        if self._body.done and self._channel is not None:
            channel, self._channel = self._channel, None
            self._client._give_back(self._origin, channel, reusable=self._body.reusable)  # noqa: SLF001 - same room

    def _discard(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


class Transport(Protocol):
    """What the backends need of an HTTP client. Thread-safe."""

    def request(
        self,
        method: str,
        url: str,
        /,
        *,
        operation: Operation,
        phase: str,
        headers: Mapping[str, str | Secret] | None = None,
        content: Content | None = None,
        follow: bool = True,
        idle: float | None = None,
    ) -> Response:
        """Send a request and return its response, whatever its status.

        Args:
            method: In capitals.
            url: http or https, without user name or password.
            operation: The deadline and cancel switch, for the body of the response too.
            phase: What this is part of, for messages.
            headers: Values that are a `Secret`, and those of Authorization and Cookie, go to this URL's origin only.
                `Content-Length` with a callable `content` declares its size; without it the body is sent in chunks.
            content: The body.
            follow: Whether redirects are followed.
            idle: Seconds of silence to bear, where the server is known to think for long; the client's own otherwise.

        Raises:
            TransportError: The connection could not be made, or broke.
            RemoteProtocolError: The answer is not HTTP, redirects in circles, or redirects from https to http.
        """
        ...


@attrs.define(eq=False)
class HTTPClient(AbstractContextManager["HTTPClient"]):
    """A `Transport` with a pool of kept-alive connections for each origin. Leaving its context closes them.

    It asks the environment for nothing: no proxy variables, no `.netrc`. It keeps no cookies.

    Attributes:
        tls: How servers prove who they are, and how we do.
        proxy: For all connections, or None.
        limits: `max_redirects` applies.
        user_agent: How we introduce ourselves.
        idle: Seconds of complete silence after which a connection counts as dead.
    """

    tls: TLSConfig = attrs.field(factory=TLSConfig)
    proxy: Proxy | None = None
    limits: Limits = DEFAULT_LIMITS
    user_agent: str = "fluxsrc"
    idle: float = IDLE_TIMEOUT
    _pools: dict[Origin, list[Channel]] = attrs.field(factory=dict, init=False, repr=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)
    _busy: "weakref.WeakSet[Channel]" = attrs.field(factory=weakref.WeakSet, init=False, repr=False)
    _context: ssl.SSLContext | None = attrs.field(default=None, init=False, repr=False)
    _closed: bool = attrs.field(default=False, init=False)

    def request(
        self,
        method: str,
        url: str,
        /,
        *,
        operation: Operation,
        phase: str,
        headers: Mapping[str, str | Secret] | None = None,
        content: Content | None = None,
        follow: bool = True,
        idle: float | None = None,
    ) -> Response:
        """Send a request and return its response, whatever its status. See `Transport`."""
        target = _Target.of(url)
        origin, sent = target.origin, dict(headers or {})
        for _ in range(self.limits.max_redirects + 1):
            bound = Bound(operation, phase, target.shown, self.idle if idle is None else idle)
            response = self._once(method, target, sent, content, bound)
            location = response.headers.get("location")
            followed = _REDIRECTS if method in ("GET", "HEAD") else _REDIRECTS_OF_ALL_METHODS
            if not follow or response.status not in followed or location is None:
                return response
            response.close()
            target = _redirected(target, location)
            if target.origin != origin:
                # Once they would have left their origin they are gone for good, even if a later hop leads back.
                sent = {name: value for name, value in sent.items() if not _is_private(name, value)}
        raise RemoteProtocolError(
            f"{bound.url}: more than {self.limits.max_redirects} redirects",
            url=bound.url,
            hint="Limits(max_redirects=...)",
        )

    def borrow(self, url: str, bound: Bound) -> tuple[Channel, str]:
        """A connection to the server of a URL, for good, and what belongs into the Host field on it.

        For whoever speaks HTTP by himself; not through a proxy that forwards plain http, which needs other targets.

        Raises:
            TransportError: The connection could not be made.
        """
        origin = _Target.of(url).origin
        return self._idle_channel(origin) or self._open(origin, bound), _host(origin)

    def close(self) -> None:
        """Close idle connections, and cut those in use: whoever waits on one in another thread gets a `TransportError`."""
        with self._lock:
            self._closed = True
            idle = [channel for pool in self._pools.values() for channel in pool]
            busy = list(self._busy)
            self._pools.clear()
        for channel in idle:
            channel.close()
        for channel in busy:
            channel.cut()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _once(
        self, method: str, target: "_Target", headers: Mapping[str, str | Secret], content: Content | None, bound: Bound
    ) -> Response:
        origin = target.origin
        forwarded = self.proxy is not None and origin.scheme == "http" and forwards_plain_http(self.proxy)
        fields, secrets = self._fields(origin, headers, content, forwarded=forwarded)
        line = f"http://{_host(origin)}{target.path}" if forwarded else target.path
        while True:
            channel = self._idle_channel(origin)
            reused = channel is not None
            if channel is None:
                channel = self._open(origin, bound)
            with self._lock:
                self._busy.add(channel)
            try:
                status, received, body = exchange(channel, method, line, fields, content, bound)
                return Response(status, received, target, body, self, channel, secrets)
            except BaseException as exc:
                channel.close()
                # The server may close a kept-alive connection just as we write to it. That says nothing about the
                # server, and of an idempotent request nothing is lost by asking once more on a fresh connection.
                stale = reused and isinstance(exc, TransportError) and not isinstance(exc, TimeoutError)
                if not (stale and method in _IDEMPOTENT):
                    raise

    def _fields(
        self, origin: Origin, headers: Mapping[str, str | Secret], content: Content | None, *, forwarded: bool
    ) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
        """The header fields to send, and the secrets among them."""
        fields = [("Host", _host(origin))]
        names = {name.lower() for name in headers}
        if "user-agent" not in names:
            fields.append(("User-Agent", self.user_agent))
        if "accept" not in names:
            fields.append(("Accept", "*/*"))
        if "accept-encoding" not in names:
            fields.append(("Accept-Encoding", "identity"))  # digests are of the bytes as they are stored
        secrets: list[str] = []
        for name, value in headers.items():
            text = value.reveal() if isinstance(value, Secret) else value
            if _is_private(name, value):
                secrets += _secrets_in(text)
            fields.append((name, text))
        if isinstance(content, bytes):
            fields.append(("Content-Length", str(len(content))))
        elif content is not None and "content-length" not in names:
            fields.append(("Transfer-Encoding", "chunked"))
        if forwarded and self.proxy is not None and (authorization := proxy_authorization(self.proxy)):
            fields.append(("Proxy-Authorization", authorization))
            secrets += _secrets_in(authorization)
        return fields, tuple(secrets)

    def _open(self, origin: Origin, bound: Bound) -> Channel:
        secure = origin.scheme == "https"
        port = origin.port or (443 if secure else 80)
        if self.proxy is None:
            channel = connect(origin.host, port, bound)
        else:
            tunnel = secure or not forwards_plain_http(self.proxy)
            context = self._tls() if urlsplit(self.proxy.url).scheme == "https" else None
            channel = connect_through(self.proxy, origin.host, port, context, bound, tunnel=tunnel)
        if not secure:
            return channel
        try:
            return start_tls(channel, self._tls(), origin.host, bound)
        except BaseException:
            channel.close()
            raise

    def _tls(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                self._context = tls_context(self.tls)
            return self._context

    def _idle_channel(self, origin: Origin) -> Channel | None:
        while True:
            with self._lock:
                if self._closed:
                    raise ConfigurationError("this HTTP client is closed")
                pool = self._pools.get(origin)
                if not pool:
                    return None
                channel = pool.pop()
            if time.monotonic() - channel.idle_since < _MAX_IDLE_SECONDS and not channel.readable():
                return channel
            channel.close()

    def _give_back(self, origin: Origin, channel: Channel, *, reusable: bool) -> None:
        with self._lock:
            self._busy.discard(channel)
        if reusable:
            channel.idle_since = time.monotonic()
            with self._lock:
                if not self._closed:
                    self._pools.setdefault(origin, []).append(channel)
                    return
        channel.close()


def _secrets_in(value: str) -> list[str]:
    """What of a secret header must not come back in a text: itself, its token, and the password inside of a Basic one."""
    scheme, _, token = value.partition(" ")
    found = [value, token]
    if scheme.lower() == "basic":
        with suppress(ValueError):
            found.append(base64.b64decode(token).decode().partition(":")[2])
    return [text for text in found if text]


def _is_private(name: str, value: str | Secret) -> bool:
    return isinstance(value, Secret) or name.lower() in _PRIVATE


@attrs.frozen
class _Target:
    """A URL, taken apart once.

    Attributes:
        url: As it was given.
        origin: Whom to talk to.
        path: What to ask for, query included.
        shown: The URL for people.
    """

    url: str
    origin: Origin
    path: str
    shown: str

    @classmethod
    def of(cls, url: str) -> "_Target":
        origin = Origin.of(url)
        parts = urlsplit(url)
        shown = redact_url(url)
        if origin.scheme not in ("http", "https"):
            raise ConfigurationError(f"not an http or https URL: {shown}")
        if parts.username is not None:
            raise ConfigurationError(
                f"{shown}: user name and password do not belong into the URL", hint="give them as credentials"
            )
        return cls(url, origin, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), shown)


def _host(origin: Origin) -> str:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    default = {"http": 80, "https": 443}[origin.scheme]
    return host if origin.port in (None, default) else f"{host}:{origin.port}"


def _redirected(source: _Target, location: str) -> _Target:
    """Where a redirect leads.

    Raises:
        RemoteProtocolError: Nowhere we follow.
    """
    shown = source.shown
    target = None
    try:
        url = urljoin(source.url, quote(location, safe="%/:=&?~#+!$,;'@()*[]"), allow_fragments=True)
        target = _Target.of(url.partition("#")[0])
    except ValueError:  # ConfigurationError is one: the server chose this URL, not the caller
        pass
    if target is None:
        raise RemoteProtocolError(f"{shown} redirects to an address that is none", url=shown)
    if source.origin.scheme == "https" and target.origin.scheme != "https":
        raise RemoteProtocolError(f"{shown} redirects from https to plain http, to {target.origin}", url=shown)
    return target

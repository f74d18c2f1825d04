"""`HTTPClient`: requests over kept-alive connections, with redirects that give no credential away."""

import base64
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from fluxsrc._io.http.bound import IDLE_TIMEOUT, Bound
from fluxsrc._io.http.message import Content, exchange
from fluxsrc._io.http.network import Channel, connect, start_tls
from fluxsrc._io.http.pool import Pool
from fluxsrc._io.http.response import Response
from fluxsrc._io.http.target import Target, host_field, redirected
from fluxsrc._lazy import later
from fluxsrc.auth import Origin, Proxy, Secret, TLSConfig
from fluxsrc.errors import RemoteProtocolError, TransportError
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.operation import Operation

if TYPE_CHECKING:
    import ssl

    from fluxsrc._io.http import proxy as proxies
    from fluxsrc._io.http import tls as trust
else:
    proxies, trust = later("fluxsrc._io.http.proxy"), later("fluxsrc._io.http.tls")

__all__ = ["HTTPClient", "Transport"]

_PRIVATE: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
_REPEATABLE: Final = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST"})
"""What may arrive twice. Each POST of this library asks: for a token, for references, where to put or to find something."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_REDIRECTS_OF_ALL_METHODS: Final = frozenset({307, 308})


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


@attrs.define(eq=False, repr=False)
class HTTPClient(AbstractContextManager["HTTPClient"]):
    """A `Transport` with a pool of kept-alive connections. Leaving its context lends them to the process's next client.

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
    _pool: Pool = attrs.field(
        default=attrs.Factory(lambda self: Pool(self.tls, self.proxy), takes_self=True), init=False, repr=False
    )
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)
    _context: "ssl.SSLContext | None" = attrs.field(default=None, init=False, repr=False)

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
        target = Target.of(url)
        origin, sent = target.origin, dict(headers or {})
        for _ in range(self.limits.max_redirects + 1):
            bound = Bound(operation, phase, target.shown, self.idle if idle is None else idle)
            response = self._once(method, target, sent, content, bound)
            location = response.headers.get("location")
            followed = _REDIRECTS if method in ("GET", "HEAD") else _REDIRECTS_OF_ALL_METHODS
            if not follow or response.status not in followed or location is None:
                return response
            response.close()
            target = redirected(target, location)
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
        origin = Target.of(url).origin
        return self._pool.take(origin) or self._open(origin, bound), host_field(origin)

    def close(self) -> None:
        """Let go of idle connections, and cut those in use: who waits on one in another thread gets a `TransportError`."""
        self._pool.close()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _once(
        self, method: str, target: Target, headers: Mapping[str, str | Secret], content: Content | None, bound: Bound
    ) -> Response:
        origin = target.origin
        forwarded = self.proxy is not None and origin.scheme == "http" and proxies.forwards_plain_http(self.proxy)
        fields, secrets = self._fields(origin, headers, content, forwarded=forwarded)
        line = f"http://{host_field(origin)}{target.path}" if forwarded else target.path
        while True:
            channel = self._pool.take(origin)
            reused = channel is not None
            if channel is None:
                channel = self._open(origin, bound)
            self._pool.note_busy(channel)
            try:
                status, received, body = exchange(channel, method, line, fields, content, bound)
                return Response(status, received, target, body, channel, self._pool, secrets)
            except BaseException as exc:
                channel.close()
                # The server may close a kept-alive connection just as we write to it. That says nothing about the
                # server, and nothing is lost by asking once more on a fresh connection.
                stale = reused and isinstance(exc, TransportError) and not isinstance(exc, TimeoutError)
                if not (stale and method in _REPEATABLE):
                    raise

    def _fields(
        self, origin: Origin, headers: Mapping[str, str | Secret], content: Content | None, *, forwarded: bool
    ) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
        """The header fields to send, and the secrets among them."""
        fields = [("Host", host_field(origin))]
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
        if forwarded and self.proxy is not None and (authorization := proxies.proxy_authorization(self.proxy)):
            fields.append(("Proxy-Authorization", authorization))
            secrets += _secrets_in(authorization)
        return fields, tuple(secrets)

    def _open(self, origin: Origin, bound: Bound) -> Channel:
        secure = origin.scheme == "https"
        port = origin.port or (443 if secure else 80)
        if self.proxy is None:
            channel = connect(origin.host, port, bound)
        else:
            tunnel = secure or not proxies.forwards_plain_http(self.proxy)
            context = self._tls() if proxies.wants_tls(self.proxy) else None
            channel = proxies.connect_through(self.proxy, origin.host, port, context, bound, tunnel=tunnel)
        if not secure:
            return channel
        try:
            return start_tls(channel, self._tls(), origin.host, bound)
        except BaseException:
            channel.close()
            raise

    def _tls(self) -> "ssl.SSLContext":
        with self._lock:
            if self._context is None:
                self._context = trust.tls_context(self.tls)
            return self._context


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

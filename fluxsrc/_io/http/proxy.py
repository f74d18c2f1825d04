"""Connections through a proxy: CONNECT for http and https proxies, RFC 1928 and 1929 for SOCKS5."""

import base64
import struct
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import h11

from fluxsrc._io.http.bound import Bound
from fluxsrc._io.http.network import Channel, connect, start_tls
from fluxsrc.auth import Origin, Proxy, redact_url
from fluxsrc.errors import AuthenticationError, ConfigurationError, RemoteProtocolError, TransportError

if TYPE_CHECKING:
    import ssl

__all__ = ["connect_through", "forwards_plain_http", "proxy_authorization", "wants_tls"]

_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_VERSION: Final = 5
_NO_AUTHENTICATION: Final = 0
_USERNAME_PASSWORD: Final = 2
_MAX_LINE: Final = 16 * 1024
_MAX_FIELD: Final = 255
_REPLIES: Final = (
    "succeeded",
    "general failure",
    "not allowed by its rules",
    "network unreachable",
    "host unreachable",
    "connection refused",
    "time to live expired",
    "command not supported",
    "address type not supported",
)


def forwards_plain_http(proxy: Proxy) -> bool:
    """Whether http URLs go to this proxy as requests with an absolute target, rather than through a tunnel."""
    return _place(proxy).scheme in ("http", "https")


def wants_tls(proxy: Proxy) -> bool:
    """Whether one talks TLS with this proxy."""
    return _place(proxy).scheme == "https"


def proxy_authorization(proxy: Proxy) -> str | None:
    """The value of `Proxy-Authorization`, or None without credentials."""
    if proxy.username is None:
        return None
    password = proxy.password.reveal() if proxy.password is not None else ""
    return "Basic " + base64.b64encode(f"{proxy.username}:{password}".encode()).decode()


def connect_through(
    proxy: Proxy, host: str, port: int, context: "ssl.SSLContext | None", bound: Bound, *, tunnel: bool
) -> Channel:
    """A connection to the proxy, and if `tunnel`, through it to host and port.

    Host names travel to the proxy and are looked up there: behind a proxy, our own resolver often knows none of them.

    Args:
        proxy: The proxy.
        host: The server.
        port: Its port.
        context: For TLS to an https proxy.
        bound: The deadline.
        tunnel: False for plain http through an http proxy, which forwards requests.

    Raises:
        AuthenticationError: The proxy does not take the credentials.
        TransportError: The proxy, or the server behind it, cannot be reached.
        RemoteProtocolError: The proxy answers nonsense.
    """
    place = _place(proxy)
    channel = connect(place.host, place.port or _PORTS[place.scheme], bound)
    try:
        if place.scheme == "https":
            assert context is not None
            channel = start_tls(channel, context, place.host, bound)
        if place.scheme.startswith("socks"):
            _socks5(channel, proxy, host, port, bound)
        elif tunnel:
            _http_connect(channel, proxy, host, port, bound)
    except BaseException:
        channel.close()
        raise
    return channel


def _place(proxy: Proxy) -> Origin:
    try:
        place = Origin.of(proxy.url)
        if place.scheme in _PORTS and urlsplit(proxy.url).username is None:
            return place
    except ConfigurationError:
        pass  # what is said below is true of it, too
    raise ConfigurationError(
        f"not a proxy: {redact_url(proxy.url)}",
        hint="http://, https:// or socks5://HOST[:PORT], with user name and password in fields of their own",
    )


def _http_connect(channel: Channel, proxy: Proxy, host: str, port: int, bound: Bound) -> None:
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    headers = [("Host", authority)]
    authorization = proxy_authorization(proxy)
    if authorization is not None:
        headers.append(("Proxy-Authorization", authorization))
    connection = h11.Connection(h11.CLIENT)
    request = connection.send(h11.Request(method="CONNECT", target=authority, headers=headers))
    channel.send(request or b"", bound)
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as exc:
            raise RemoteProtocolError(f"the proxy {channel.peer} does not speak HTTP", url=bound.url) from exc
        if event is h11.NEED_DATA:
            connection.receive_data(_line(channel, bound))
        elif isinstance(event, h11.Response):
            break
    if event.status_code == 407:  # noqa: PLR2004 - Proxy Authentication Required
        raise AuthenticationError(f"the proxy {channel.peer} wants other credentials", url=bound.url)
    if not 200 <= event.status_code < 300:  # noqa: PLR2004 - success
        raise TransportError(f"the proxy {channel.peer} refuses {authority}: status {event.status_code}", url=bound.url)


def _line(channel: Channel, bound: Bound) -> bytes:
    """One line, and not a byte more: behind the last one the server may be talking already, as those of SSH do."""
    line = b""
    while not line.endswith(b"\n") and len(line) < _MAX_LINE:
        line += _exactly(channel, 1, bound)
    return line


def _socks5(channel: Channel, proxy: Proxy, host: str, port: int, bound: Bound) -> None:
    method = _NO_AUTHENTICATION if proxy.username is None else _USERNAME_PASSWORD
    channel.send(bytes((_VERSION, 1, method)), bound)
    version, chosen = _exactly(channel, 2, bound)
    if version != _VERSION:
        raise RemoteProtocolError(f"the proxy {channel.peer} does not speak SOCKS5", url=bound.url)
    if chosen != method:
        raise AuthenticationError(f"the proxy {channel.peer} wants another way to log in", url=bound.url)
    if proxy.username is not None:
        password = proxy.password.reveal() if proxy.password is not None else ""
        channel.send(b"\x01" + _field(proxy.username) + _field(password), bound)
        if _exactly(channel, 2, bound)[1] != 0:
            raise AuthenticationError(f"the proxy {channel.peer} wants other credentials", url=bound.url)
    channel.send(bytes((_VERSION, 1, 0, 3)) + _field(host) + struct.pack(">H", port), bound)
    version, reply, _, address_type = _exactly(channel, 4, bound)
    if reply:
        why = _REPLIES[reply] if reply < len(_REPLIES) else f"reply {reply}"
        raise TransportError(f"the proxy {channel.peer} cannot reach {host}:{port}: {why}", url=bound.url)
    length = {1: 4, 4: 16}.get(address_type)
    if length is None:
        length = _exactly(channel, 1, bound)[0]
    _exactly(channel, length + 2, bound)


def _field(text: str) -> bytes:
    data = text.encode()
    if len(data) > _MAX_FIELD:
        raise ConfigurationError("host names, user names and passwords of SOCKS5 are 255 bytes at most")
    return bytes((len(data),)) + data


def _exactly(channel: Channel, size: int, bound: Bound) -> bytes:
    data = b""
    while len(data) < size:
        chunk = channel.recv(size - len(data), bound)
        if not chunk:
            raise TransportError(f"the proxy {channel.peer} closed the connection", url=bound.url)
        data += chunk
    return data

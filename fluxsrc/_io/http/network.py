"""Sockets under a deadline: name look-up, connecting, TLS, reading and writing, each step cancellable.

Sockets never block: every wait goes through `Bound`. That is the one place where time passes.

`ssl` takes as long to load as a request to a near server: a plain connection asks for nothing of it until it breaks.
"""

import os
import select
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from fluxsrc._io.http.bound import Bound
from fluxsrc._lazy import later
from fluxsrc.errors import CertificateError, RemoteProtocolError, SourceError, TransportError

if TYPE_CHECKING:
    import queue
    import ssl

    from fluxsrc._io.http import layered
else:
    queue, ssl, layered = later("queue"), later("ssl"), later("fluxsrc._io.http.layered")

__all__ = ["Channel", "connect", "start_tls"]

_ADDRESS_TIMEOUT: Final = 10.0
"""Seconds for one of several addresses of a host; the last one may use all that is left."""


@attrs.define(eq=False, repr=False)
class Channel:
    """One connection, plain or TLS.

    Attributes:
        sock: What to wait for.
        duplex: What to read and write: the socket itself, or TLS around it.
        peer: Host and port, for messages.
        born: When it was made.
        idle_since: When it was given back to its pool.
    """

    sock: socket.socket
    duplex: "socket.socket | layered.LayeredTLS"
    peer: str
    born: float = attrs.field(factory=time.monotonic)
    idle_since: float = 0.0

    def recv_into(self, buffer: memoryview, bound: Bound) -> int:
        """Read at least one byte; 0 means the other side closed.

        Raises:
            TransportError: The connection broke.
        """
        while True:
            bound.check()
            try:
                return self.duplex.recv_into(buffer)
            except BlockingIOError:
                event = select.POLLIN
            except ssl.SSLWantReadError:
                event = select.POLLIN
            except ssl.SSLWantWriteError:
                event = select.POLLOUT
            except ssl.SSLEOFError:
                return 0  # closed without a goodbye; the framing above decides whether that cuts something short
            except OSError as exc:
                failure = _broken(exc, self.peer, bound)
                break
            bound.wait(self.sock, event)
        raise failure

    def recv(self, size: int, bound: Bound) -> bytes:
        """Read one to `size` bytes; empty means the other side closed."""
        buffer = bytearray(size)
        count = self.recv_into(memoryview(buffer), bound)
        return bytes(memoryview(buffer)[:count])

    def send(self, data: bytes | bytearray | memoryview, bound: Bound) -> None:
        """Write all of the bytes.

        Raises:
            TransportError: The connection broke.
        """
        rest = memoryview(data)
        while rest:
            bound.check()
            try:
                rest = rest[self.duplex.send(rest) :]
                continue
            except BlockingIOError:
                event = select.POLLOUT
            except ssl.SSLWantWriteError:
                event = select.POLLOUT
            except ssl.SSLWantReadError:
                event = select.POLLIN
            except OSError as exc:
                failure = _broken(exc, self.peer, bound)
                break
            bound.wait(self.sock, event)
        else:
            return
        raise failure

    def readable(self) -> bool:
        """Whether there is something to read now; on an idle connection that means it was closed."""
        pending = getattr(self.duplex, "pending", None)  # what TLS holds, no socket knows of
        if pending is not None and pending():
            return True
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        return bool(poller.poll(0))

    def cut(self) -> None:
        """End the connection under whoever is using it in another thread; the descriptor stays his to close."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close at once; never raises, never waits."""
        with suppress(OSError):
            self.sock.close()


def connect(host: str, port: int, bound: Bound) -> Channel:
    """Open a TCP connection to the first address of a host that answers.

    Raises:
        TransportError: No such host, or no address of it accepts.
    """
    peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    addresses = _addresses(host, port, bound)
    failure: SourceError = TransportError(f"{host} has no address", url=bound.url)
    for place, (family, address) in enumerate(addresses, 1):
        patience = bound.idle if place == len(addresses) else min(_ADDRESS_TIMEOUT, bound.idle)
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            _connect(sock, address, bound._replace(idle=patience))
            return Channel(sock, sock, peer)
        except BaseException as exc:
            sock.close()
            if isinstance(exc, TransportError) and not isinstance(exc, TimeoutError):
                failure = exc  # silence: the next address may answer
            elif isinstance(exc, OSError) and not isinstance(exc, SourceError):
                failure = _broken(exc, peer, bound, verb="connect to")
            else:
                raise
    raise failure


def _connect(sock: socket.socket, address: Any, bound: Bound) -> None:
    sock.setblocking(False)
    with suppress(BlockingIOError):
        sock.connect(address)
    bound.wait(sock, select.POLLOUT)
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _addresses(host: str, port: int, bound: Bound) -> list[tuple[int, Any]]:
    """Look up a host, in a thread of its own: the resolver knows no deadline and cannot be interrupted."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, host)
            return [(family, (host, port))]
    answer: queue.SimpleQueue[list[tuple[int, Any]] | str] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as exc:
            answer.put(exc.strerror or "look-up failed")
        except UnicodeError:
            answer.put("not a host name")
        else:
            answer.put([(family, address) for family, _, _, _, address in found])

    threading.Thread(target=look_up, name="fluxsrc-resolve", daemon=True).start()
    give_up = time.monotonic() + bound.idle
    found: list[tuple[int, Any]] | str | None = None
    while found is None:
        if time.monotonic() >= give_up:
            raise TransportError(f"looking up {host} took too long", url=bound.url)
        with suppress(queue.Empty):
            found = answer.get(timeout=bound.slice(bound.idle))
    if isinstance(found, str):
        raise TransportError(f"cannot find the host {host}: {found}", url=bound.url)
    return found


def start_tls(channel: Channel, context: "ssl.SSLContext", host: str, bound: Bound) -> Channel:
    """Shake hands over a connection; over one that is TLS already, a second layer inside the first.

    Raises:
        CertificateError: The server's certificate is not trusted, or it wants one of ours.
        RemoteProtocolError: The other side does not speak TLS.
    """
    duplex: ssl.SSLSocket | layered.LayeredTLS
    try:
        if isinstance(channel.sock, ssl.SSLSocket):
            duplex = layered.LayeredTLS.over(channel.sock, context, host)
            secured = Channel(channel.sock, duplex, channel.peer)
        else:
            duplex = context.wrap_socket(channel.sock, server_hostname=host, do_handshake_on_connect=False)
            secured = Channel(duplex, duplex, channel.peer)
    except OSError as exc:  # closed or reset before the first byte
        failure = _broken(exc, channel.peer, bound, verb="talk TLS with")
    else:
        try:
            return _handshake(secured, duplex, bound)
        except BaseException:
            secured.close()
            raise
    raise failure


def _handshake(channel: Channel, duplex: "ssl.SSLSocket | layered.LayeredTLS", bound: Bound) -> Channel:
    while True:
        bound.check()
        try:
            duplex.do_handshake()
            return channel
        except ssl.SSLWantReadError:
            event = select.POLLIN
        except ssl.SSLWantWriteError:
            event = select.POLLOUT
        except OSError as exc:
            failure = _broken(exc, channel.peer, bound, verb="talk TLS with")
            break
        bound.wait(channel.sock, event)
    raise failure


def _broken(exc: OSError, peer: str, bound: Bound, *, verb: str = "talk with") -> SourceError:
    """The error for what the operating system or OpenSSL said. Their texts hold no secret, only codes."""
    where = bound.url
    if isinstance(exc, ssl.SSLCertVerificationError):
        return CertificateError(
            f"the certificate of {peer} is not trusted: {exc.verify_message}",
            url=where,
            hint="give its CA with TLSConfig(ca=...)",
        )
    if isinstance(exc, ssl.SSLEOFError):
        return TransportError(f"cannot {verb} {peer}: the connection was closed", url=where)
    if isinstance(exc, ssl.SSLError):
        reason = (exc.reason or "unknown").replace("_", " ").lower()
        if "certificate" in reason or "unknown ca" in reason:
            return CertificateError(
                f"{peer} does not accept our certificate: {reason}",
                url=where,
                hint="give one with TLSConfig(certificate=..., key=...)",
            )
        plain = "version number" in reason or "http" in reason or "record layer" in reason
        hint = "does it speak plain HTTP? then say so" if plain else None
        return RemoteProtocolError(f"cannot {verb} {peer}: {reason}", url=where, hint=hint)
    return TransportError(f"cannot {verb} {peer}: {exc.strerror or type(exc).__name__}", url=where)

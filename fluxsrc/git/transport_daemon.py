"""Connections that last: `git://`, and whatever else carries bytes both ways to a `git-upload-pack`."""

from typing import Final, Protocol, Self

import attrs

from fluxsrc._io.http.bound import Bound
from fluxsrc._io.http.network import Channel, connect
from fluxsrc.git.address import GitAddress
from fluxsrc.git.pktline import ByteStream, pkt
from fluxsrc.operation import Operation

__all__ = ["Duplex", "DuplexConnection", "open_daemon"]

_PORT: Final = 9418


class Duplex(ByteStream, Protocol):
    """Bytes both ways, under the deadline of the operation it was opened for."""

    def send(self, data: bytes, /) -> None:
        """Send all of the bytes."""
        ...

    def obey(self, operation: Operation | None, /) -> None:
        """Go on under another operation; with None, rest."""
        ...

    def close(self) -> None:
        """Let go; never raises."""
        ...


@attrs.define(eq=False)
class DuplexConnection:
    """A `Connection` to an `upload-pack` that listens on the other end of a duplex."""

    url: str
    _duplex: Duplex
    stateless: bool = attrs.field(default=False, init=False)
    memorable: bool = attrs.field(default=False, init=False)

    def discover(self) -> ByteStream:
        """It speaks first."""
        return self._duplex

    def request(self, body: bytes) -> ByteStream:
        """Send a request; the answer follows all that was said before."""
        self._duplex.send(body)
        return self._duplex

    def obey(self, operation: Operation | None, /) -> None:
        """Go on under another operation."""
        self._duplex.obey(operation)

    def close(self) -> None:
        """Close the duplex."""
        self._duplex.close()


@attrs.define(eq=False)
class _SocketDuplex:
    _channel: Channel
    _url: str
    _bound: Bound | None

    @classmethod
    def open(cls, host: str, port: int, *, url: str, operation: Operation) -> Self:
        bound = Bound(operation, "fetch", url)
        return cls(connect(host, port, bound), url, bound)

    def send(self, data: bytes, /) -> None:
        assert self._bound is not None
        self._channel.send(data, self._bound)

    def readinto(self, buffer: memoryview, /) -> int:
        assert self._bound is not None
        return self._channel.recv_into(buffer, self._bound)

    def obey(self, operation: Operation | None, /) -> None:
        self._bound = None if operation is None else Bound(operation, "fetch", self._url)

    def close(self) -> None:
        self._channel.close()


def open_daemon(address: GitAddress, *, operation: Operation) -> DuplexConnection:
    """Connect to a `git daemon`. It knows neither credentials nor encryption.

    Raises:
        TransportError: It cannot be reached.
    """
    port = address.port or _PORT
    duplex = _SocketDuplex.open(address.host, port, url=address.url, operation=operation)
    host = address.host if address.port is None else f"{address.host}:{port}"
    try:
        duplex.send(pkt(f"git-upload-pack {address.path}\0host={host}\0\0version=2\0"))
    except BaseException:
        duplex.close()
        raise
    return DuplexConnection(address.url, duplex)

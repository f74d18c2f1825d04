"""TLS inside TLS, for an https server behind an https proxy: `ssl` wraps sockets, but not twice."""

import ssl
from contextlib import suppress
from typing import Final, cast

import attrs

__all__ = ["LayeredTLS"]

_RECORD: Final = 16 * 1024


@attrs.define(eq=False, repr=False)
class LayeredTLS:
    """Looks like a non-blocking `ssl.SSLSocket`, and talks through another one."""

    _outer: ssl.SSLSocket
    _incoming: ssl.MemoryBIO
    _outgoing: ssl.MemoryBIO
    _tls: ssl.SSLObject
    _unsent: bytearray = attrs.field(factory=bytearray, init=False)

    @classmethod
    def over(cls, outer: ssl.SSLSocket, context: ssl.SSLContext, host: str) -> "LayeredTLS":
        """A second layer, its handshake still to do."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        return cls(outer, incoming, outgoing, context.wrap_bio(incoming, outgoing, server_hostname=host))

    def do_handshake(self) -> None:
        """One step; `SSLWantReadError` and `SSLWantWriteError` ask for another."""
        while True:
            self._flush()
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
            self._fill()
        self._flush()

    def recv_into(self, buffer: memoryview, /) -> int:
        """As a socket's."""
        while True:
            self._flush()
            try:
                return cast(
                    "int", self._tls.read(len(buffer), cast("bytearray", buffer))
                )  # any writable buffer will do
            except ssl.SSLZeroReturnError:
                return 0
            except ssl.SSLWantReadError:
                pass
            self._fill()

    def send(self, data: memoryview, /) -> int:
        """As a socket's."""
        self._flush()  # before anything new is accepted: what raises here is offered again by the caller
        count = self._tls.write(data[:_RECORD])
        with suppress(ssl.SSLWantWriteError):  # accepted already; the next call goes on
            self._flush()
        return count

    def _fill(self) -> None:
        """Feed what the outer layer has; if it has nothing, its own `SSLWantReadError` goes up to who can wait."""
        chunk = self._outer.recv(_RECORD)
        if chunk:
            self._incoming.write(chunk)
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        self._unsent += self._outgoing.read()
        while self._unsent:
            del self._unsent[: self._outer.send(self._unsent)]

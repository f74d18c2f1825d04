"""What uvicorn is told not to put up with: heads without end, clients that never finish asking, and such that take nothing.

uvicorn ends connections that are idle between two requests, and no others; its compiled parser keeps all of a head, however
long that is. A client that sends a byte now and then, or does not read, would keep its connection, and with it a descriptor
and up to `PIECE` bytes, for ever.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import attrs

__all__ = ["Patience", "bounded"]

_log: Final = logging.getLogger("fluxsrc.server")

_SECONDS: Final = 60.0
"""How long nothing may move. As nginx has it, for heads and between two pieces of an answer."""
_MAX_HEAD: Final = 65_536


@attrs.frozen(eq=False)
class _Seen:
    """Where a connection stood when it was looked at, and since when.

    Attributes:
        request: The last one whose head was complete.
        unsent: Bytes that the client has not taken.
        since: By the monotonic clock.
    """

    request: object
    unsent: int
    since: float


class Patience:
    """Looks at uvicorn's connections every now and then, and aborts those where it is the client that nothing comes from.

    Args:
        connections: Those there are: the protocols of uvicorn's server.
        clock: A monotonic one.
    """

    def __init__(self, connections: Callable[[], Collection[Any]], clock: Callable[[], float] = time.monotonic) -> None:
        self._connections = connections
        self._clock = clock
        self._seen: Mapping[Any, _Seen] = {}

    async def __call__(self) -> None:
        """Look once."""
        now = self._clock()
        found = {each: seen for each in list(self._connections()) if (seen := self._look(each, now)) is not None}
        self._seen = found
        for each, seen in found.items():
            if now - seen.since >= _SECONDS:
                _log.info(
                    "a client was given up: %s", "it takes nothing" if seen.unsent else "it does not finish asking"
                )
                each.transport.abort()

    def _look(self, connection: Any, now: float) -> _Seen | None:
        """None while it is for us to go on."""
        request, unsent = connection.cycle, connection.transport.get_write_buffer_size()
        if _is_asked(connection) and not unsent:
            return None
        before = self._seen.get(connection)
        same = before is not None and before.request is request and before.unsent == unsent
        return before if same else _Seen(request, unsent, now)


def bounded(protocol: type[asyncio.Protocol]) -> type[asyncio.Protocol]:
    """One of uvicorn's protocols for HTTP/1.1, which then ends connections whose heads are too long."""
    receive: Callable[[Any, bytes], None] = protocol.data_received

    def data_received(self: Any, data: bytes) -> None:
        receive(self, data)
        self.head = 0 if _is_asked(self) else self.head + len(data)
        if self.head > _MAX_HEAD:
            _log.info("a client was given up: it asks with more than %d bytes", _MAX_HEAD)
            self.transport.abort()

    return type("Bounded", (protocol,), {"__doc__": protocol.__doc__, "head": 0, "data_received": data_received})


def _is_asked(connection: Any) -> bool:
    """Whether there is a request without a complete answer."""
    return connection.cycle is not None and not connection.cycle.response_complete

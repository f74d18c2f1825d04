"""`RestingChannels`: connections that rest between two clients, so that polling a server shakes hands once.

Sources are values: each look at one is a client of its own, which lives as long as the look. What it leaves idle is lent to
whoever asks the same server next, in the same way: origin, trust, client certificate and proxy are part of the name. That
is all that a connection knows of us; credentials go with each request.
"""

import atexit
import os
import threading
import time
from typing import Final, NamedTuple

from fluxsrc._io.http.network import Channel
from fluxsrc.auth import Origin, Proxy, TLSConfig

__all__ = ["RESTING", "RestingChannels", "Route", "is_good"]

MAX_RESTING: Final = 32
"""Connections that rest at a time, all servers together."""
MAX_REST: Final = 50.0
"""Seconds for which one may be idle: servers commonly close idle connections after 60."""
MAX_AGE: Final = 900.0
"""Seconds after which one is not lent again: names, trust and client certificates change."""


class Route(NamedTuple):
    """Everything that decides whom a connection reaches, and as whom."""

    origin: Origin
    tls: TLSConfig
    proxy: Proxy | None


class RestingChannels:
    """Thread-safe. Opens nothing itself.

    Garbage is collected at any moment, also while the lock is held, and what then goes may be a client that gives its
    connections to this very place. So the lock is reentrant, and each step leaves what the next one can begin with.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._resting: dict[Channel, Route] = {}  # the last is the one that came last

    def __len__(self) -> int:
        return len(self._resting)

    def take(self, route: Route) -> Channel | None:
        """A connection for this route that still looks good, if one rests; it is the caller's now."""
        while True:
            with self._lock:
                channels = reversed(list(self._resting))
                channel = next((channel for channel in channels if self._resting.get(channel) == route), None)
                if channel is None:
                    return None
                taken = self._resting.pop(channel, None)
            if taken is not None and is_good(channel):
                return channel
            channel.close()

    def give(self, route: Route, channel: Channel) -> None:
        """Let an idle connection rest; the one that rested for longest makes room."""
        with self._lock:
            self._resting[channel] = route
            surplus = list(self._resting)[:-MAX_RESTING]
            for old in surplus:
                self._resting.pop(old, None)
        for old in surplus:
            old.close()

    def close(self) -> None:
        """Close all that rest."""
        with self._lock:
            resting, self._resting = self._resting, {}
        for channel in resting:
            channel.close()

    def forget(self) -> None:
        """In a forked child: what rests is the parent's. Closing our copies says nothing to the servers."""
        self._lock = threading.RLock()  # some thread that is not here may have held it
        self.close()


def is_good(channel: Channel) -> bool:
    """Whether an idle connection is worth a try: neither old, nor idle for long, nor closed by the other side."""
    now = time.monotonic()
    return now - channel.idle_since < MAX_REST and now - channel.born < MAX_AGE and not channel.readable()


RESTING: Final = RestingChannels()
"""The process's own."""
atexit.register(RESTING.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=RESTING.forget)

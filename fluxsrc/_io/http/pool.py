"""`Pool`: the connections of a client, idle ones for each origin and those in use."""

import threading
import time
import weakref
from typing import Final

from fluxsrc._io.http.network import Channel
from fluxsrc.auth import Origin
from fluxsrc.errors import ConfigurationError

__all__ = ["Pool"]

_MAX_IDLE_SECONDS: Final = 50.0
"""Servers commonly close idle connections after 60."""


class Pool:
    """Thread-safe. Opens nothing itself."""

    def __init__(self) -> None:
        self._idle: dict[Origin, list[Channel]] = {}
        self._busy: weakref.WeakSet[Channel] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = False

    def take(self, origin: Origin) -> Channel | None:
        """An idle connection that still looks good.

        Raises:
            ConfigurationError: The pool is closed.
        """
        while True:
            with self._lock:
                if self._closed:
                    raise ConfigurationError("this HTTP client is closed")
                idle = self._idle.get(origin)
                if not idle:
                    return None
                channel = idle.pop()
            if time.monotonic() - channel.idle_since < _MAX_IDLE_SECONDS and not channel.readable():
                return channel
            channel.close()

    def note_busy(self, channel: Channel) -> None:
        """It is in use; `close` cuts it."""
        with self._lock:
            self._busy.add(channel)

    def give_back(self, origin: Origin, channel: Channel, *, reusable: bool) -> None:
        """It is not in use any more: keep it for the next request, or close it."""
        with self._lock:
            self._busy.discard(channel)
        if reusable:
            channel.idle_since = time.monotonic()
            with self._lock:
                if not self._closed:
                    self._idle.setdefault(origin, []).append(channel)
                    return
        channel.close()

    def close(self) -> None:
        """Close idle connections, and cut those in use."""
        with self._lock:
            self._closed = True
            idle = [channel for channels in self._idle.values() for channel in channels]
            busy = list(self._busy)
            self._idle.clear()
        for channel in idle:
            channel.close()
        for channel in busy:
            channel.cut()

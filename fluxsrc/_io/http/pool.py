"""`Pool`: the connections of a client, idle ones for each origin and those in use."""

import threading
import time
import weakref

from fluxsrc._io.http.network import Channel
from fluxsrc._io.http.resting import RESTING, Route, is_good
from fluxsrc.auth import Origin, Proxy, TLSConfig
from fluxsrc.errors import ConfigurationError

__all__ = ["Pool"]


class Pool:
    """Thread-safe. Opens nothing itself."""

    def __init__(self, tls: TLSConfig, proxy: Proxy | None) -> None:
        self._tls = tls
        self._proxy = proxy
        self._idle: dict[Origin, list[Channel]] = {}
        self._busy: weakref.WeakSet[Channel] = weakref.WeakSet()
        self._lock = threading.RLock()  # see `RestingChannels`: an answer that nobody closed ends at any moment
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
                channel = idle.pop() if idle else None
            if channel is None:
                return RESTING.take(self._route(origin))
            if is_good(channel):
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
        """Let idle connections rest for the next client, and cut those in use."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, {}
            busy = list(self._busy)
        for origin, channels in idle.items():
            for channel in channels:
                RESTING.give(self._route(origin), channel)
        for channel in busy:
            channel.cut()

    def _route(self, origin: Origin) -> Route:
        return Route(origin, self._tls, self._proxy)

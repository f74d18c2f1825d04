"""`SSHPool`: connections that rest between two conversations, so that polling a source logs in once.

Logging in costs ten times what asking for references does, on both sides. A connection is lent to one conversation at a
time, and only to whoever would log in with the very same things: host, account, private key, known hosts, proxy. So a
rotated key, or a changed known_hosts, is another connection.

Few are kept, not for long, and none beyond an age after which a key that the server has revoked meanwhile stops working.
A process's children inherit none of them.
"""

import atexit
import hashlib
import json
import os
import threading
import time
from functools import partial
from typing import Final

import attrs

from fluxsrc.auth import Proxy, SSHKey
from fluxsrc.git.ssh_connection import SSHConnection

__all__ = ["IDLE_CONNECTIONS", "SSHPool", "pool_key"]

MAX_IDLE: Final = 16
"""Connections that rest at a time; each has a thread and a socket."""
MAX_REST: Final = 300.0
"""Seconds that one rests before it is closed."""
MAX_AGE: Final = 900.0
"""Seconds after which one is not lent again."""


@attrs.frozen(eq=False)
class _Resting:
    key: str
    connection: SSHConnection


class SSHPool:
    """Connections that rest. Thread-safe, and reentrant: what garbage collection ends while the lock is held comes here."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._resting: list[_Resting] = []  # the last is the one that came last
        self._abandoned: list[SSHConnection] = []

    def __len__(self) -> int:
        return len(self._resting)

    def take(self, key: str) -> SSHConnection | None:
        """A connection for this key, if one rests; it is the caller's now."""
        with self._lock:
            item = next((each for each in reversed(self._resting) if each.key == key), None)
            if item is None or item not in self._resting:
                return None
            self._resting.remove(item)
        if item.connection.alive and time.monotonic() - item.connection.born < MAX_AGE:
            return item.connection
        item.connection.close()
        return None

    def give(self, key: str, connection: SSHConnection) -> None:
        """Let a connection rest, or close it, if it is of no use any more."""
        if not connection.alive or time.monotonic() - connection.born >= MAX_AGE:
            connection.close()
            return
        item = _Resting(key, connection)
        with self._lock:
            self._resting.append(item)
            surplus = self._resting[:-MAX_IDLE]
            del self._resting[:-MAX_IDLE]
        connection.rest(MAX_REST, partial(self._expire, item))
        for old in surplus:
            old.connection.close()

    def close(self) -> None:
        """Close all that rest."""
        with self._lock:
            resting, self._resting = self._resting, []
        for wait in (False, True):  # all of them at the same time
            for item in resting:
                item.connection.close(wait=wait)

    def forget(self) -> None:
        """In a forked child: what rests is the parent's."""
        self._lock = threading.RLock()  # some thread that is not here may have held it
        resting, self._resting = self._resting, []
        for item in resting:
            item.connection.abandon()
            self._abandoned.append(item.connection)  # its finalizers would disturb the parent's event loop

    def _expire(self, item: _Resting) -> None:
        with self._lock:
            if item not in self._resting:
                return  # lent again
            self._resting.remove(item)
        item.connection.close()


def pool_key(host: str, port: int, username: str, key: SSHKey, proxy: Proxy | None, idle: float) -> str:
    """A name for everything that decides whom a connection reaches, and as whom; it tells nothing of the secrets."""
    parts: list[object] = [host.lower(), port, username, idle, key.identity.reveal(), key.known_hosts]
    parts.append(key.passphrase.reveal() if key.passphrase else None)
    if proxy is not None:
        parts += [proxy.url, proxy.username, proxy.password.reveal() if proxy.password else None]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


IDLE_CONNECTIONS: Final = SSHPool()
"""The process's own: sources are values, made anew whenever somebody looks at one."""
atexit.register(IDLE_CONNECTIONS.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=IDLE_CONNECTIONS.forget)

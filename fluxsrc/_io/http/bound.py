"""`Bound`: what every blocking step of one HTTP exchange obeys."""

import select
import socket
import time
from typing import Final, NamedTuple

from fluxsrc.errors import TransportError
from fluxsrc.operation import Operation

__all__ = ["IDLE_TIMEOUT", "Bound"]

IDLE_TIMEOUT: Final = 60.0
"""Seconds without a single byte after which a connection counts as dead, whatever the deadline still allows."""
_CANCEL_POLL: Final = 0.05
"""Seconds between two looks at a cancel switch while waiting."""


class Bound(NamedTuple):
    """The deadline and the cancel switch of an operation, as they apply to sockets.

    A socket's own timeout starts anew with each byte, so a server that drips one byte a second never trips it. Here the
    deadline is absolute, and looked at before every wait and after every read.

    Attributes:
        operation: The one deadline and cancel switch.
        phase: What is being done, for messages.
        url: On what, redacted.
        idle: Seconds of complete silence to bear.
    """

    operation: Operation
    phase: str
    url: str
    idle: float = IDLE_TIMEOUT

    def check(self) -> None:
        """Raise if the operation should stop."""
        self.operation.check(self.phase, url=self.url)

    def slice(self, at_most: float) -> float:
        """Seconds to block at most before looking again.

        Raises:
            OperationCancelledError: The operation was cancelled.
            TransportTimeoutError: Its deadline passed.
        """
        if self.operation.cancel is not None:
            at_most = min(at_most, _CANCEL_POLL)
        left = self.operation.remaining(self.phase, at_most=at_most, url=self.url)
        return at_most if left is None else left

    def wait(self, sock: socket.socket, event: int) -> None:
        """Block until the socket is ready for `select.POLLIN` or `select.POLLOUT`.

        Raises:
            TransportError: Nothing happened for `idle` seconds.
        """
        poller = select.poll()
        poller.register(sock, event)
        give_up = time.monotonic() + self.idle
        while not poller.poll(self.slice(self.idle) * 1000):
            if time.monotonic() >= give_up:
                raise TransportError(f"{self.url} was silent for {self.idle:g} s during {self.phase}", url=self.url)

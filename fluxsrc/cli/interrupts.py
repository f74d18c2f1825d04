"""Ctrl-C and SIGTERM: ask the running operation to stop and clean up, but do not wait for it for long."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

import attrs

from fluxsrc.errors import OperationCancelledError

__all__ = ["GRACE", "Interrupted", "Interrupts"]

GRACE: Final = 3.0
"""Seconds an operation has to notice that it is cancelled before it is torn out of whatever it waits for."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal ended the command. Not an `Exception`, so that nothing on the way mistakes it for a failure."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = int(number)


@attrs.define(eq=False, repr=False)
class Interrupts:
    """What the signals of one run do.

    While an operation runs, the first signal cancels it; another one, or the end of the grace period, interrupts it where
    it stands. Everywhere else the first signal interrupts. Either way all contexts close, and no temporary file stays.
    """

    _cancel: threading.Event = attrs.field(init=False, factory=threading.Event)
    _cooperative: bool = attrs.field(init=False, default=False)
    _received: int | None = attrs.field(init=False, default=None)
    _patience: threading.Timer | None = attrs.field(init=False, default=None)

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals while this is open, and leave them as they were."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's business; a thread that calls `main` has other means
            return
        before = [signal.signal(number, self._handle) for number in _SIGNALS]
        try:
            yield
        finally:
            for number, previous in zip(_SIGNALS, before, strict=True):
                signal.signal(number, previous)

    @contextlib.contextmanager
    def cancelling(self) -> Iterator[threading.Event]:
        """The `cancel` of an operation that runs while this is open.

        Raises:
            Interrupted: A signal came, and the operation stopped.
        """
        self._cooperative = True
        try:
            yield self._cancel
        except OperationCancelledError:
            if self._received is None:
                raise
        finally:
            self._cooperative = False
            if self._patience is not None:
                self._patience.cancel()
        if self._received is not None:
            raise Interrupted(self._received)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._received is None:
            self._received = number
            self._cancel.set()
            if self._cooperative:
                self._patience = threading.Timer(GRACE, self._insist)
                self._patience.daemon = True
                self._patience.start()
                return
        raise Interrupted(self._received)

    def _insist(self) -> None:
        # A signal, and to the main thread: it also ends a system call that waits for a silent server.
        signal.pthread_kill(threading.main_thread().ident or 0, self._received or signal.SIGINT)

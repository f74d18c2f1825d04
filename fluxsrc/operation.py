"""`Operation`: the one deadline, cancel switch and progress callback of a call."""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import attrs

from fluxsrc.errors import ConfigurationError, OperationCancelledError, TransportTimeoutError

__all__ = ["DEFAULT_TIMEOUT", "Operation", "Progress"]

DEFAULT_TIMEOUT: Final = 300.0
"""Seconds a call may take in all when the caller says nothing."""


@attrs.frozen
class Progress:
    """One report of how far a phase has come.

    Attributes:
        phase: "resolve", "list", "negotiate", "receive", "index", "pack", "store", "upload", "extract", …
        done: Units done so far.
        total: Units in all, or None where nobody knows.
        unit: "bytes" or "objects".
        detail: What is being worked on, redacted, for people; may be empty.
    """

    phase: str
    done: int
    total: int | None = None
    unit: str = "bytes"
    detail: str = ""


@attrs.define(eq=False)
class Operation:
    """What every blocking phase of one call obeys. Made per call, shared by its threads; never stored or pickled.

    Attributes:
        timeout: Seconds for the whole call, from the moment this object is made; None waits for ever.
        cancel: A `threading.Event`, or a callable that returns true once the caller has lost interest.
        progress: Called with `Progress`, from any thread; keep it quick.
        memo: What one step learned and a later one of the same call can use, by source: a listing, a connection.
    """

    timeout: float | None = DEFAULT_TIMEOUT
    cancel: threading.Event | Callable[[], bool] | None = None
    progress: Callable[[Progress], None] | None = None
    memo: dict[Any, Any] = attrs.field(init=False, factory=dict, repr=False)
    _deadline: float | None = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise ConfigurationError(f"timeout must be positive seconds, not {self.timeout!r}")
        self._deadline = None if self.timeout is None else time.monotonic() + self.timeout

    def check(self, phase: str, *, url: str | None = None) -> None:
        """Raise if the call should stop; cheap enough for every chunk.

        Raises:
            OperationCancelledError: `cancel` says so.
            TransportTimeoutError: The deadline passed.
        """
        if self.cancelled:
            raise OperationCancelledError(f"cancelled during {phase}")
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise self.timed_out(phase, url=url)

    @property
    def cancelled(self) -> bool:
        """Whether the caller has lost interest."""
        cancel = self.cancel
        if cancel is None:
            return False
        return cancel.is_set() if isinstance(cancel, threading.Event) else bool(cancel())

    def remaining(self, phase: str, *, at_most: float | None = None, url: str | None = None) -> float | None:
        """Seconds left, for the timeout of a blocking call; None for no bound.

        Raises:
            OperationCancelledError: `cancel` says so.
            TransportTimeoutError: None are left.
        """
        self.check(phase, url=url)
        if self._deadline is None:
            return at_most
        left = max(self._deadline - time.monotonic(), 0.001)
        return left if at_most is None else min(left, at_most)

    def part(self, timeout: float) -> "Operation":
        """A part of this call that gets so many seconds, or what is left of the call's: whichever ends first."""
        part = Operation(timeout, self.cancel, self.progress)
        part.memo = self.memo
        if self._deadline is not None and self._deadline < time.monotonic() + timeout:
            part.timeout, part._deadline = self.timeout, self._deadline  # what it says of its end is true, too
        return part

    def timed_out(self, phase: str, *, url: str | None = None) -> TransportTimeoutError:
        """The error for a deadline that passed during this phase."""
        where = f" {url}" if url else ""
        return TransportTimeoutError(
            f"timed out after {self.timeout:g} s during {phase}{where}"
            if self.timeout
            else f"timed out during {phase}{where}",
            url=url,
            phase=phase,
            hint="give it more time with timeout=, or see why the remote is slow",
        )

    def report(self, phase: str, done: int, total: int | None = None, *, unit: str = "bytes", detail: str = "") -> None:
        """Tell the progress callback, if there is one."""
        if self.progress is not None:
            self.progress(Progress(phase, done, total, unit, detail))

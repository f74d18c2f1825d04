"""Trying again: with growing, jittered pauses, as long as the one deadline allows."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import attrs

from fluxsrc._lazy import later
from fluxsrc.errors import RateLimitedError, TransportError
from fluxsrc.operation import Operation

if TYPE_CHECKING:
    import random
else:
    random = later("random")

__all__ = ["Attempts", "RetryPolicy", "retrying"]

_T = TypeVar("_T")
_SLICE: Final = 0.05


class RetryPolicy(NamedTuple):
    """How often and how patiently.

    Attributes:
        attempts: Tries in all.
        base: Seconds of the first pause, at most; each further one may be twice as long.
        cap: Seconds of the longest pause that we choose ourselves.
        patience: Seconds of the longest `Retry-After` that is honoured; a longer one is the caller's to decide.
    """

    attempts: int = 5
    base: float = 0.5
    cap: float = 15.0
    patience: float = 60.0

    def pause(self, attempt: int, error: TransportError) -> float | None:
        """Seconds to wait after this failed attempt (the first is 1), or None to give up."""
        if attempt >= self.attempts or isinstance(error, TimeoutError):
            return None
        if isinstance(error, RateLimitedError) and error.retry_after is not None:
            # A little later than asked for, and not all clients at once.
            return error.retry_after + random.uniform(0, self.base) if error.retry_after <= self.patience else None
        return min(self.cap, self.base * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1)


DEFAULT_POLICY: Final = RetryPolicy()


@attrs.define(eq=False, repr=False)
class Attempts:
    """Counts the failures of something that is tried again, and waits after each.

    Attributes:
        operation: The one deadline.
        phase: What is tried, for messages.
        policy: How often and how patiently.
    """

    operation: Operation
    phase: str
    policy: RetryPolicy = DEFAULT_POLICY
    _failures: int = attrs.field(default=0, init=False)

    def failed(self, error: TransportError, *, progress: bool = False) -> None:
        """Wait before the next attempt, or raise the error if there should be none.

        If the pause would outlast the deadline, the error is raised at once instead of after a wait in vain.

        Args:
            error: What went wrong.
            progress: Whether this attempt got so much further that the failures before it should not count.
        """
        self._failures = 1 if progress else self._failures + 1
        pause = self.policy.pause(self._failures, error)
        left = self.operation.remaining(self.phase)
        if pause is None or (left is not None and left <= pause):
            raise error
        _sleep(pause, self.operation, self.phase)


def retrying(call: Callable[[], _T], *, operation: Operation, phase: str, policy: RetryPolicy = DEFAULT_POLICY) -> _T:
    """Call something idempotent until it succeeds, fails for good, or the operation ends.

    Only a `TransportError` is worth another try, and a passed deadline is not.
    """
    attempts = Attempts(operation, phase, policy)
    while True:
        try:
            return call()
        except TransportError as exc:
            attempts.failed(exc)


def _sleep(seconds: float, operation: Operation, phase: str) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        operation.check(phase)
        time.sleep(left if operation.cancel is None else min(left, _SLICE))

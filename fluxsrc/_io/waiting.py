"""Waiting for other threads without losing sight of the deadline."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError
from contextlib import contextmanager
from typing import Final, TypeVar

from fluxsrc.operation import Operation

__all__ = ["POLL", "alone", "result_of", "within"]

_T = TypeVar("_T")
POLL: Final = 0.05
"""Seconds between two looks at a cancel switch while waiting."""


@contextmanager
def alone(lock: threading.Lock, operation: Operation, phase: str, *, url: str | None = None) -> Iterator[None]:
    """Hold a lock while the block runs, unless the operation ends before it is free."""
    while not lock.acquire(timeout=POLL):
        operation.check(phase, url=url)
    try:
        yield
    finally:
        lock.release()


def result_of(future: "Future[_T]", operation: Operation, phase: str, *, url: str) -> _T:
    """What a future gives, or the end of the operation, whichever comes first."""
    at_most = None if operation.cancel is None else POLL
    while not future.done():
        patience = operation.remaining(phase, at_most=at_most, url=url)  # what it raises is a TimeoutError, too
        try:
            return future.result(patience)
        except NotYetError:
            if future.done():
                break  # the call itself ended with a TimeoutError
    return future.result()


def within(call: "Callable[[], _T]", operation: Operation, phase: str, *, url: str) -> _T:
    """What a call gives that knows nothing of our deadline, as those of other libraries do.

    It runs on a thread of its own, which is left to itself if the operation ends first.
    """
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as exc:  # noqa: BLE001 - whoever waits for it raises it
            future.set_exception(exc)

    threading.Thread(target=run, name=f"fluxsrc-{phase}", daemon=True).start()
    return result_of(future, operation, phase, url=url)

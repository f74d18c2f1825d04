"""Waiting for other threads without losing sight of the deadline."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError
from typing import Final, TypeVar

from fluxsrc.operation import Operation

__all__ = ["result_of", "within"]

_T = TypeVar("_T")
_POLL: Final = 0.05


def result_of(future: "Future[_T]", operation: Operation, phase: str, *, url: str) -> _T:
    """What a future gives, or the end of the operation, whichever comes first."""
    at_most = None if operation.cancel is None else _POLL
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

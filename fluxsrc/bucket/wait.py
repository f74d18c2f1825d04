"""Waiting for other threads without losing sight of the deadline."""

from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError
from typing import Final, TypeVar

from fluxsrc.operation import Operation

__all__ = ["result_of"]

_T = TypeVar("_T")
_POLL: Final = 0.05


def result_of(future: "Future[_T]", operation: Operation, phase: str, *, url: str) -> _T:
    """What a future gives, or the end of the operation, whichever comes first."""
    at_most = None if operation.cancel is None else _POLL
    while not future.done():
        try:
            return future.result(operation.remaining(phase, at_most=at_most, url=url))
        except NotYetError:
            if future.done():
                break  # the call itself ended with a TimeoutError
    return future.result()

"""`Threads`: an executor for many looks, of which most are short and some hang for ever.

Python runs one thread at a time, and each step from one to the next costs more than the work between two steps of a look
that finds nothing new: eight threads take twice the processor time that one takes for the same looks. So a thread that
ends a look takes the next one itself, and another thread helps only where work has waited for some milliseconds: looks that
wait for the network are soon side by side.

The threads do not keep a process alive: one that hangs for ever must not hold up its end.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

__all__ = ["Threads"]

P = ParamSpec("P")
T = TypeVar("T")
_Step = Callable[[], Any]

_PATIENCE: Final = 0.005
"""Seconds for which work waits for a thread that is at work."""


class Threads(Executor):
    """As many threads as the work needs, and as there is work at the same time at most: whoever submits it bounds that.

    Args:
        name: Of the threads.
    """

    def __init__(self, name: str) -> None:
        self._name: Final = name
        self._changed = threading.Condition()
        self._work: deque[tuple[float, Callable[[], _Step]]] = deque()  # each with when it is late
        self._threads: list[threading.Thread] = []
        self._free = 0
        self._watched = False
        """Whether a free thread waits for work to be late."""
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Do something in a thread, soon.

        Raises:
            RuntimeError: After `shutdown`, or where no thread can be had.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("nothing is begun after shutdown")
            self._see_to_it()
            self._work.append((time.monotonic() + _PATIENCE, lambda: _do(future, lambda: fn(*args, **kwargs))))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - as in Executor; what was submitted is begun
        """Let the threads end when they have done what they do, and what was submitted before."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if wait:
            for thread in self._threads:
                thread.join()

    def _see_to_it(self) -> None:
        """Have a free thread look after the work, one that there is or a new one."""
        if not self._free:
            thread = threading.Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
            thread.start()
            self._threads.append(thread)
            self._free += 1
        elif not self._watched:
            self._changed.notify()

    def _serve(self) -> None:
        work = self._next(at_work=False)
        while work is not None:
            tell = work()
            with self._changed:
                self._free += 1  # before anybody hears of it: whoever then submits the next need not make a thread
            tell()
            del work, tell  # what is done is not kept while there is nothing else to do
            work = self._next(at_work=True)

    def _next(self, *, at_work: bool) -> Callable[[], _Step] | None:
        with self._changed:
            while True:
                left = self._work[0][0] - time.monotonic() if self._work else 0.0
                if self._work and (at_work or left <= 0 or self._free == len(self._threads)):
                    self._free -= 1
                    _, work = self._work.popleft()
                    if self._work:
                        with suppress(RuntimeError):  # no thread can be had: then it waits for this one
                            self._see_to_it()
                    return work
                if self._closed and not self._work:
                    return None
                at_work = False
                if self._work and not self._watched:
                    self._watched = True
                    self._changed.wait(left)
                    self._watched = False
                else:
                    self._changed.wait()


def _do(future: "Future[Any]", work: _Step) -> _Step:
    """Do it, unless it was cancelled; return what tells of it."""
    if not future.set_running_or_notify_cancel():
        return lambda: None
    try:
        return partial(future.set_result, work())
    except BaseException as exc:  # noqa: BLE001 - raised again by whoever asks for the result
        return partial(future.set_exception, exc)

"""`Threads`: an executor whose threads do not keep a process alive: one that hangs for ever must not hold up its end."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

__all__ = ["Threads"]

P = ParamSpec("P")
T = TypeVar("T")
_Step = Callable[[], Any]


class Threads(Executor):
    """As many threads as there is work at the same time: whoever submits it bounds that.

    Args:
        name: Of the threads.
    """

    def __init__(self, name: str) -> None:
        self._name: Final = name
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[Callable[[], _Step] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Do something in a thread, at once: in an idle one, or else in a new one.

        Raises:
            RuntimeError: After `shutdown`, or where no thread can be had.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("nothing is begun after shutdown")
            if self._idle:
                self._idle -= 1
            else:
                thread = threading.Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
                thread.start()
                self._threads.append(thread)
            self._work.put(lambda: _do(future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - as in Executor; nothing waits that could be cancelled
        """Let the threads end when they have done what they do."""
        with self._lock:
            threads = [] if self._closed else self._threads
            self._closed = True
        for _ in threads:
            self._work.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            tell = work()
            with self._lock:
                self._idle += 1  # before anybody hears of it: whoever then submits the next need not make a thread
            tell()
            del work, tell  # what is done is not kept while there is nothing else to do


def _do(future: "Future[Any]", work: _Step) -> _Step:
    """Do it, unless it was cancelled; return what tells of it."""
    if not future.set_running_or_notify_cancel():
        return lambda: None
    try:
        return partial(future.set_result, work())
    except BaseException as exc:  # noqa: BLE001 - raised again by whoever asks for the result
        return partial(future.set_exception, exc)

"""`Pool`: somebody's executor that does the looks, in processes or on machines; where it breaks, another takes its place."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future

from fluxsrc.events import Failure
from fluxsrc.managed import ManagedSource
from fluxsrc.reconcile.work import Outcome, look
from fluxsrc.store import Store

__all__ = ["Pool"]


class Pool:
    """Looks, done by a `concurrent.futures.Executor`. Sources, store and outcomes travel as the executor has it.

    Args:
        executor: An executor, whose end is its owner's business; or what makes one, now and whenever its workers have died.
    """

    def __init__(self, executor: Executor | Callable[[], Executor]) -> None:
        self._make = None if isinstance(executor, Executor) else executor
        self._executor = executor if isinstance(executor, Executor) else None
        self._lock = threading.Lock()

    def submit(
        self,
        managed: ManagedSource,
        store: Store,
        done: Callable[[Callable[[], Outcome]], object],
        *,
        first: bool,
    ) -> None:
        """Have somebody look at a source.

        Args:
            managed: The source.
            store: Where its artifact goes.
            done: Called at the end, in a thread of the executor's, with what gives the outcome; for another thread to call.
            first: As `look` has it.
        """
        executor, began = None, time.monotonic()
        try:
            executor = self._current()
            future = executor.submit(look, managed, store, first=first)  # without a cancel switch: it does not travel
        except Exception as exc:  # noqa: BLE001 - a foreign executor's own errors: shut down, unreachable, out of processes
            future = Future()
            future.set_exception(BrokenExecutor(str(exc)) if isinstance(exc, RuntimeError) else exc)
        future.add_done_callback(lambda _: done(lambda: self._outcome(managed, future, executor, began)))

    def _outcome(
        self, managed: ManagedSource, future: "Future[Outcome]", executor: Executor | None, began: float
    ) -> Outcome:
        try:
            # As a value: what ended a worker, even `SystemExit`, must not end who asks.
            error = future.exception(timeout=0)
        except CancelledError:
            why = "the executor dropped the work"
        else:
            if error is None:
                return future.result()
            why = f"the executor failed: {type(error).__name__}: {error}"  # unpicklable, lost, shut down
            if isinstance(error, BrokenExecutor):
                self._replace(executor)
                why = f"the worker died: {error}"
        failure = Failure.worker(why[:500])
        return Outcome(key=managed.key, failure=failure, seconds=time.monotonic() - began)

    def _current(self) -> Executor:
        with self._lock:
            if self._executor is None:
                assert self._make is not None
                self._executor = self._make()
            return self._executor

    def _replace(self, broken: Executor | None) -> None:
        with self._lock:
            if self._make is None or broken is None or self._executor is not broken:
                return
            self._executor = None
        broken.shutdown(wait=False, cancel_futures=True)

    def close(self, *, wait: bool) -> None:
        """End the executor, if it was made here."""
        with self._lock:
            executor = self._executor
            if self._make is None or executor is None:
                return
            self._executor = None
        executor.shutdown(wait=wait, cancel_futures=True)

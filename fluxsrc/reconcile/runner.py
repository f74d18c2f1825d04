"""`Reconciler`: drives a `Schedule` with a clock and workers, and tells a `Ledger` what happened. Thin on purpose.

One thread, the *loop*, owns the ledger and everybody's callbacks; it sleeps until something happened or somebody's time comes.
The looks are done by a `Crew` of threads, or by a `Pool`, which is somebody else's executor:

1. A look that is due is taken out of the schedule: by the thread of the crew that does it, or by the loop for the pool.
2. Its end frees its slot at once, so that the same thread can take the next look without waiting for the loop.
3. The loop hears of it, together with all else that happened meanwhile, and tells schedule and ledger how it ended.
"""

import contextlib
import datetime as dt
import logging
import math
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from functools import partial
from types import TracebackType
from typing import Final, Self

import attrs

from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.errors import ConfigurationError, FluxSrcError
from fluxsrc.events import Event, Failure, GarbageCollected
from fluxsrc.managed import ManagedSource
from fluxsrc.reconcile.crew import Crew
from fluxsrc.reconcile.ledger import Ledger
from fluxsrc.reconcile.pool import Pool
from fluxsrc.reconcile.retention import Retention
from fluxsrc.reconcile.schedule import Policy, Schedule
from fluxsrc.reconcile.work import Outcome, look, timeout_of
from fluxsrc.status import SourceStatus
from fluxsrc.store import Store

__all__ = ["Reconciler"]

_log: Final = logging.getLogger("fluxsrc.reconcile")
_NAME: Final = "fluxsrc-source"
_TICK: Final = 5.0
"""Seconds the loop sleeps at most: it looks for lost workers then."""


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@attrs.define(eq=False)
class _Run:
    """A look under way."""

    managed: ManagedSource
    before: Artifact | None
    """What it had when the look began, if that was known."""
    end: float
    """When it is given up."""
    cancel: threading.Event
    lost: bool = False


class Reconciler:
    """Keeps many sources up to date in one store.

    Either call `run_once`, or use it as a context, which runs it in a thread of its own:

    ```python
    from fluxsrc import MemorySource, MemoryStore
    from fluxsrc.managed import ManagedSource
    from fluxsrc.reconcile import Reconciler

    podinfo = ManagedSource(name="podinfo", source=MemorySource({"app.yaml": "kind: Deployment"}), interval=60)
    with Reconciler(MemoryStore(), [podinfo]) as reconciler:
        assert reconciler.wait(lambda statuses: all(status.ready for status in statuses.values()), timeout=10)
    ```

    Thread-safe. Callbacks are called one after the other, from the thread that runs it: keep them quick.

    Args:
        store: Where artifacts go.
        sources: What to keep up to date.
        policy: How often, how many at once, how patiently. An executor of your own has its own bound: then nothing is in
            overtime.
        executor: What does the work: any `concurrent.futures.Executor`, or a callable that makes one, which is then called
            again if the workers die. Threads of its own if it is not given. With processes or machines, sources and store
            travel by pickle, and a stop waits for what they are doing.
        on_event: Called with each event.
        on_status: Called with each source's status when it changes.
        on_removed: Called with the key of each source that is taken away, or was known and is not given any more.
        retention: What becomes of old artifacts; None keeps all.
        known: How an earlier process left the sources, as `SavedStatuses` has it.
        clock: Seconds that never go backwards.
        now: The time of day, with a zone, for statuses.
        dice: A number from 0 to 1, for jitter.
    """

    def __init__(
        self,
        store: Store,
        sources: Iterable[ManagedSource] = (),
        *,
        policy: Policy | None = None,
        executor: "Executor | Callable[[], Executor] | None" = None,
        on_event: Callable[[Event], object] | None = None,
        on_status: Callable[[SourceStatus], object] | None = None,
        on_removed: Callable[[SourceKey], object] | None = None,
        retention: Retention | None = None,
        known: Iterable[SourceStatus] = (),
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], dt.datetime] = _utc_now,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._policy = Policy() if policy is None else policy
        if executor is not None:
            # More than its workers can take would wait in its queue, while the time of each look runs.
            self._policy = attrs.evolve(self._policy, overtime=0)
        self._schedule = Schedule(self._policy)
        self._pool = None if executor is None else Pool(executor)
        self._crew = Crew(_NAME, self._take_look)
        self._retention = retention
        self._clock, self._dice = clock, dice
        self._ledger = Ledger(now, on_event, on_status, on_removed, known)
        self._lock = threading.RLock()
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._heard = False
        """Whether something had happened when the loop listened last."""
        self._waits: tuple[ManagedSource, ...] = ()
        self._runs: dict[SourceKey, _Run] = {}
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None
        self._collecting: Future[GarbageCollected] | None = None
        self._collect_at = self._clock() + (retention.every if retention is not None else 0.0)
        self.apply(sources)

    # --- what to do ---

    def apply(self, sources: Iterable[ManagedSource]) -> None:
        """These sources, and no others; may be called at any time. What the ones taken away had made stays in the store.

        Raises:
            ConfigurationError: Two have one key, or they depend on each other in a circle; nothing is changed.
        """
        given = list(sources)
        needed = {key for managed in given for key in managed.depends_on}
        ready = [key for key in needed if self._has_artifact(key)]
        with self._lock:
            self._schedule.apply(given, self._clock(), ready=ready)
            self._waits = tuple(managed for managed in given if managed.depends_on)
        removed = self._ledger.apply(given)
        # Told by the thread that tells everything: so nothing is told of them afterwards.
        self._inbox.put(lambda: self._ledger.removed(removed))

    def request(self, key: SourceKey) -> bool:
        """Look at a source now. False if there is none of this key, or it is suspended."""
        with self._lock:
            known = self._schedule.request(key, self._clock())
        self._inbox.put(None)
        return known

    @property
    def statuses(self) -> Mapping[SourceKey, SourceStatus]:
        """How each source is doing, by key, sorted."""
        return self._ledger.statuses

    def wait(self, condition: Callable[[Mapping[SourceKey, SourceStatus]], bool], *, timeout: float) -> bool:
        """Wait until the statuses meet a condition; say whether they did within `timeout` seconds."""
        return self._ledger.wait(condition, timeout)

    # --- running ---

    def run_once(self) -> Mapping[SourceKey, SourceStatus]:
        """Look at each source once, after those it needs an artifact of; return how they are. Suspended ones are left alone."""
        if self._thread is not None:
            raise ConfigurationError("it runs already")
        with self._lock:
            self._schedule.begin_round(self._clock())
        try:
            while not self._cancel.is_set() and self._is_under_way():
                self._turn()
        finally:
            self._shut_down(self._policy.grace)
        if self._retention is not None:
            self._ledger.emit(self._retention.apply(self._store))
        return self.statuses

    def start(self) -> None:
        """Run in a thread of its own until `stop`."""
        if self._thread is not None:
            raise ConfigurationError("it runs already")
        self._thread = threading.Thread(target=self._loop, name="fluxsrc-reconcile", daemon=True)
        self._thread.start()

    def stop(self, *, grace: float | None = None) -> bool:
        """Begin nothing more, cancel what is under way, and wait for it.

        Args:
            grace: Seconds to wait; the policy's if not given.

        Returns:
            Whether everything came to its end. What did not is left to itself; it begins again only after it came back.
        """
        self._cancel.set()
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        return self._shut_down(self._policy.grace if grace is None else grace)

    def cancel(self) -> None:
        """Make a `run_once` in another thread, or a signal's, come to its end early."""
        self._cancel.set()
        self._inbox.put(None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- the loop ---

    def _loop(self) -> None:
        while not self._cancel.is_set():
            self._collect()
            self._turn(math.inf if self._retention is None else self._collect_at)

    def _turn(self, until: float = math.inf) -> None:
        """See that what is due begins; wait for something to happen, at most until a time; handle all that has."""
        self._begin()
        self._receive(min(until, self._next_time()) - self._clock())
        self._give_up_lost()

    def _is_under_way(self) -> bool:
        """Whether a look may still come back, or begin now; else what is left waits for what did not come."""
        with self._lock:
            wake = self._schedule.wake_at()
            return any(not run.lost for run in self._runs.values()) or (wake is not None and wake <= self._clock())

    def _next_time(self) -> float:
        """When something has to be done even if nothing happens."""
        now = self._clock()
        with self._lock:
            wake = self._schedule.wake_at()
            times = [now + _TICK, *(run.end for run in self._runs.values() if not run.lost)]
        if wake is not None:
            times.append(max(wake, now + self._crew.pause))  # what is due now, the crew was called to
        return min(times)

    def _receive(self, timeout: float) -> None:
        """Wait for something to happen, then handle all that has."""
        # While the crew is at it, more happens every moment: to be woken for each by itself would hold the crew up.
        if self._heard and self._crew.at_work and timeout > 0:
            time.sleep(min(timeout, self._crew.pause))
            timeout = 0.0
        self._heard = False
        try:
            message = self._inbox.get(timeout=timeout) if timeout > 0 else self._inbox.get_nowait()
            self._heard = True
            while True:
                if message is not None:
                    message()
                message = self._inbox.get_nowait()
        except queue.Empty:
            pass

    # --- looks ---

    def _begin(self) -> None:
        """See that what is due begins."""
        with self._lock:
            waiting = [(each, self._schedule.missing(each.key)) for each in self._waits]
            wake = self._schedule.wake_at()
        for managed, missing in waiting:
            if missing is not None:
                self._ledger.waits(managed, missing)
        if wake is None or wake > self._clock():
            return
        if self._pool is not None:
            while (run := self._take()) is not None:
                self._pool.submit(run.managed, self._store, partial(self._come_back, run), first=run.before is None)
            return
        try:
            self._crew.call()
        except RuntimeError as exc:
            if (run := self._take()) is not None:
                failure = Failure.worker(f"no thread can be had: {exc}")
                self._come_back(run, partial(Outcome, key=run.managed.key, failure=failure))

    def _take(self) -> _Run | None:
        """A look that is due, if there is one and a slot for it; it counts as running."""
        with self._lock:
            if self._cancel.is_set():
                return None
            now = self._clock()
            for managed in self._schedule.start(now, at_most=1):
                limit = timeout_of(managed)
                end = math.inf if limit is None else now + limit + self._policy.grace
                run = _Run(managed, self._ledger.artifact(managed.key), end, self._cancel)
                self._runs[managed.key] = run
                if self._ledger.is_news(managed):
                    self._inbox.put(partial(self._ledger.begun, managed))
                return run
            return None

    def _take_look(self) -> Callable[[], object] | None:
        run = self._take()
        return None if run is None else partial(self._look, run)

    def _look(self, run: _Run) -> None:
        """In a thread of the crew."""
        managed = run.managed
        try:
            outcome = look(managed, self._store, run.cancel, first=run.before is None)
        except BaseException as exc:  # noqa: BLE001 - `look` has every `Exception`; whatever this is, the crew goes on
            outcome = Outcome(key=managed.key, failure=Failure.worker(f"{type(exc).__name__}: {exc}"))
        self._come_back(run, lambda: outcome)

    def _come_back(self, run: _Run, outcome: Callable[[], Outcome]) -> None:
        """In any thread: a look is over. Its slot is for the next one; the loop will hear of it."""
        with self._lock:
            self._schedule.leave_slot(run.managed.key)
        self._inbox.put(partial(self._finish, run, outcome))

    def _finish(self, run: _Run, end: Callable[[], Outcome]) -> None:
        """A look came to its end, in time or not."""
        managed, key, outcome = run.managed, run.managed.key, end()
        with self._lock:
            del self._runs[key]
            gone = self._schedule.known(key) is None
            now = self._clock()
            retry_in = None
            if outcome.failure is None:
                self._schedule.succeeded(key, now, self._dice())
            else:
                retry_in = self._schedule.failed(key, outcome.failure, now, self._dice())
        stopped = outcome.failure is not None and outcome.failure.reason == "Cancelled" and run.cancel.is_set()
        if not gone and not stopped:
            self._ledger.ended(managed, outcome, retry_in, before=run.before)

    def _give_up_lost(self) -> None:
        """Free the slots of those that are far beyond their own timeout: a lost one must not delay the others."""
        now = self._clock()
        with self._lock:
            lost = [run for run in self._runs.values() if not run.lost and now > run.end]
            for run in lost:
                self._schedule.leave_slot(run.managed.key)
                run.lost = True
            wanted = [run for run in lost if self._schedule.known(run.managed.key) is not None]
        for run in wanted:
            failure = Failure.worker(f"it did not come back, {self._policy.grace:g} s after its own timeout")
            self._ledger.ended(run.managed, Outcome(key=run.managed.key, failure=failure), None)

    # --- collecting garbage ---

    def _collect(self) -> None:
        """Let the store clean up, in a worker of its own, when it is time."""
        retention = self._retention
        if retention is None or self._collecting is not None or self._clock() < self._collect_at:
            return
        self._collect_at = self._clock() + retention.every
        future: Future[GarbageCollected] = Future()
        self._collecting = future

        def work() -> None:
            try:
                future.set_result(retention.apply(self._store))
            except Exception as exc:  # noqa: BLE001 - reported below, in the loop's own thread
                future.set_exception(exc)
            self._inbox.put(self._collected)

        try:
            threading.Thread(target=work, name="fluxsrc-gc", daemon=True).start()
        except RuntimeError as exc:  # next time perhaps
            self._collecting = None
            _log.warning("collecting garbage has to wait, no thread can be had: %s", exc)

    def _collected(self) -> None:
        future, self._collecting = self._collecting, None
        assert future is not None
        error = future.exception()
        if error is not None:
            _log.warning("collecting garbage failed: %s", Failure.of(error).line)
        else:
            self._ledger.emit(future.result())

    # --- the end ---

    def _shut_down(self, grace: float) -> bool:
        """Begin nothing more, and wait for what is under way; report what came to its end."""
        end = self._clock() + grace
        with self._lock:
            self._cancel.set()
            self._schedule.end_round()
        self._receive(0.0)
        while any(not run.lost for run in self._runs.values()) and (left := end - self._clock()) > 0:
            self._receive(min(left, _TICK))
        with self._lock:
            for run in self._runs.values():
                run.lost = True  # and does not begin again before it came back
                self._schedule.leave_slot(run.managed.key)
            whole = not self._runs
        (self._crew if self._pool is None else self._pool).close(wait=whole)
        self._crew, self._cancel = Crew(_NAME, self._take_look), threading.Event()
        flush = getattr(self._store, "flush", None)
        if flush is not None:
            with contextlib.suppress(FluxSrcError):  # index.json is a convenience; the records are what counts
                flush()
        return whole

    def _has_artifact(self, key: SourceKey) -> bool:
        try:
            return self._store.lookup(key) is not None
        except FluxSrcError:
            return False  # its own look will say why

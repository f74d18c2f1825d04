"""`Ledger`: each source's status, and who is told of what happens."""

import datetime as dt
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs

from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.events import Event, FetchFailed, NewArtifact, Reconciled, Recovered, RefMoved
from fluxsrc.managed import ManagedSource
from fluxsrc.reconcile.work import Outcome
from fluxsrc.status import SourceStatus

__all__ = ["Ledger"]

_log: Final = logging.getLogger("fluxsrc.reconcile")


class Ledger:
    """Thread-safe to read; one thread writes."""

    def __init__(
        self,
        now: Callable[[], dt.datetime],
        on_event: Callable[[Event], object] | None,
        on_status: Callable[[SourceStatus], object] | None,
        on_removed: Callable[[SourceKey], object] | None = None,
        known: Iterable[SourceStatus] = (),
    ) -> None:
        self._now = now
        self._on_event = on_event
        self._on_status = on_status
        self._on_removed = on_removed
        self._changed = threading.Condition()
        self._statuses: dict[SourceKey, SourceStatus] = {status.key: status for status in known}

    def apply(self, sources: Iterable[ManagedSource]) -> list[SourceKey]:
        """These sources, and no others. Returns those that are no more, for `removed`."""
        with self._changed:
            before, after = self._statuses, dict[SourceKey, SourceStatus]()
            for managed in sorted(sources, key=lambda managed: managed.key):
                status = before.get(managed.key) or SourceStatus(key=managed.key)
                after[managed.key] = attrs.evolve(status, suspended=managed.suspend)
            self._statuses = after  # whole: some read it without the lock, and what is not in it is new to them
            self._changed.notify_all()
            return [key for key in before if key not in self._statuses]

    def removed(self, keys: Iterable[SourceKey]) -> None:
        """Tell of sources that were taken away and did not come back since."""
        with self._changed:
            gone = [key for key in keys if key not in self._statuses]
        for key in gone:
            self._call(self._on_removed, key)

    @property
    def statuses(self) -> Mapping[SourceKey, SourceStatus]:
        """By key, sorted."""
        with self._changed:
            return dict(self._statuses)

    def wait(self, condition: Callable[[Mapping[SourceKey, SourceStatus]], bool], timeout: float) -> bool:
        """Wait until the statuses meet a condition; say whether they did."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(dict(self._statuses)), timeout)

    def artifact(self, key: SourceKey) -> Artifact | None:
        """What a source has, if that is known. May be asked by anybody, as `is_news`."""
        status = self._statuses.get(key)
        return None if status is None else status.artifact

    def is_news(self, managed: ManagedSource) -> bool:
        """Whether anybody is to be told that a look begins."""
        return not self._status(managed).is_settled(managed.generation, request=managed.requested_at)

    def begun(self, managed: ManagedSource) -> None:
        """A look begins."""
        status = self._status(managed)
        begun = status.started(managed.generation, self._now(), request=managed.requested_at)
        if begun is not status:
            self._set(begun)

    def waits(self, managed: ManagedSource, missing: SourceKey) -> None:
        """A source waits for another one."""
        status = self._status(managed)
        if status.artifact is None:
            waiting = status.waiting(missing, managed.generation, self._now())
            if waiting != status:
                self._set(waiting)

    def ended(
        self, managed: ManagedSource, outcome: Outcome, retry_in: float | None, *, before: Artifact | None = None
    ) -> None:
        """A look came to its end.

        Args:
            managed: At which source.
            outcome: How it ended.
            retry_in: Seconds until the next attempt, after a failure.
            before: What was known of it when the look began; it may have been taken away and given anew since.
        """
        status = self._status(managed)
        key, artifact, failure = outcome.key, outcome.artifact, outcome.failure
        previous = status.artifact or before or outcome.previous
        # A store that remembers gives the same object each time.
        unchanged = artifact is not None and (artifact is previous or artifact == previous)
        now = self._now()
        if self._on_event is not None:
            self.emit(
                Reconciled(
                    key=key,
                    seconds=outcome.seconds,
                    received=outcome.received,
                    unchanged=unchanged,
                    failure=failure,
                    observed=now.timestamp(),
                )
            )
        if failure is not None:
            self._set(
                status.failed(
                    failure,
                    managed.generation,
                    now,
                    revision=outcome.revision,
                    request=managed.requested_at,
                )
            )
            _log.warning("%s: %s", key, failure.line, extra={"fluxsrc_key": str(key), "fluxsrc_reason": failure.reason})
            self.emit(FetchFailed(key=key, failure=failure, failures=status.failures + 1, retry_in=retry_in))
            return
        assert artifact is not None
        self._set(status.succeeded(artifact, managed.generation, now, request=managed.requested_at))
        old, new = None if previous is None else previous.revision, artifact.revision
        if old is not None and new.pointer is not None and old.pointer == new.pointer and old.digest != new.digest:
            self.emit(
                RefMoved(key=key, pointer=new.pointer, old=old, new=new, observed=artifact.observed, url=artifact.url)
            )
        if previous is None or previous.digest != artifact.digest:
            facts = {"fluxsrc_key": str(key), "fluxsrc_revision": str(new), "fluxsrc_digest": str(artifact.digest)}
            _log.info("%s: stored %s", key, new, extra=facts)
            self.emit(NewArtifact(key=key, artifact=artifact, previous=previous))
        if status.failures:
            self.emit(Recovered(key=key, artifact=artifact, failures=status.failures))

    def emit(self, event: Event) -> None:
        """Tell of an event."""
        self._call(self._on_event, event)

    def _status(self, managed: ManagedSource) -> SourceStatus:
        # Without the lock: `wait` holds it while it asks its caller, who may have to wait for whoever asks here.
        return self._statuses.get(managed.key) or SourceStatus(key=managed.key)

    def _set(self, status: SourceStatus) -> None:
        with self._changed:
            current = self._statuses.get(status.key)
            if current is None:
                return
            if status.suspended != current.suspended:  # since this one was made out of what was known
                status = attrs.evolve(status, suspended=current.suspended)
            self._statuses[status.key] = status
            self._changed.notify_all()
        self._call(self._on_status, status)

    def _call(self, callback: "Callable[[Any], object] | None", value: Any) -> None:
        if callback is not None:
            try:
                callback(value)
            except Exception:  # noqa: BLE001 - whatever a callback does, the sources go on
                _log.exception("a callback failed on %s", type(value).__name__)

"""`Metrics`: what a reconciler's events come to, for Prometheus. Needs the extra `metrics`."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from fluxsrc.artifact import SourceKey
from fluxsrc.errors import MissingExtraError
from fluxsrc.events import Event, FetchFailed, GarbageCollected, NewArtifact, Reconciled, RefMoved

__all__ = ["Metrics"]

_SOURCE: Final = ("kind", "namespace", "name")
_BUCKETS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


class Metrics:
    """A callback for `Reconciler(on_event=…)`. Thread-safe.

    | metric | labels | what |
    |---|---|---|
    | `fluxsrc_reconcile_duration_seconds` | kind, result | histogram: how long looks take; result is new, unchanged or failed |
    | `fluxsrc_received_bytes_total` | kind, namespace, name | content received |
    | `fluxsrc_cache_hits_total` | kind, namespace, name | looks that found the store up to date |
    | `fluxsrc_failures_total` | kind, namespace, name, stage, reason | failed looks |
    | `fluxsrc_new_artifacts_total` | kind, namespace, name | artifacts that differ from the one before |
    | `fluxsrc_ref_moves_total` | kind, namespace, name | names that point at something else than before |
    | `fluxsrc_last_success_age_seconds` | kind, namespace, name | since the last look that succeeded |
    | `fluxsrc_collected_bytes_total` | | what garbage collection gave back |

    Args:
        registry: Where to register; prometheus-client's own if it is not given.
        now: Seconds since the epoch.

    Raises:
        MissingExtraError: prometheus-client is not installed.
    """

    def __init__(self, registry: Any = None, *, now: Callable[[], float] = time.time) -> None:
        try:
            import prometheus_client as prometheus  # noqa: PLC0415 - belongs to an extra
        except ImportError:
            raise MissingExtraError("Prometheus metrics", extra="metrics") from None
        registry = prometheus.REGISTRY if registry is None else registry
        counter = prometheus.Counter
        self._now = now
        self._lock = threading.Lock()
        self._successes: dict[SourceKey, float] = {}
        self._duration = prometheus.Histogram(
            "fluxsrc_reconcile_duration_seconds",
            "How long looks at sources take.",
            ("kind", "result"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._received = counter("fluxsrc_received_bytes", "Content received.", _SOURCE, registry=registry)
        self._hits = counter("fluxsrc_cache_hits", "Looks that found the store up to date.", _SOURCE, registry=registry)
        self._failures = counter(
            "fluxsrc_failures", "Looks that failed.", (*_SOURCE, "stage", "reason"), registry=registry
        )
        self._artifacts = counter("fluxsrc_new_artifacts", "New artifacts.", _SOURCE, registry=registry)
        self._moves = counter("fluxsrc_ref_moves", "Names that moved.", _SOURCE, registry=registry)
        self._age = prometheus.Gauge(
            "fluxsrc_last_success_age_seconds", "Since the last look that succeeded.", _SOURCE, registry=registry
        )
        self._collected = counter("fluxsrc_collected_bytes", "Bytes removed by collection.", registry=registry)

    def __call__(self, event: Event) -> None:
        """Count an event."""
        match event:
            case Reconciled():
                self._reconciled(event)
            case FetchFailed():
                stage, reason = event.failure.stage.value, event.failure.reason
                self._failures.labels(*_labels(event.key), stage, reason).inc()
            case NewArtifact():
                self._artifacts.labels(*_labels(event.key)).inc()
            case RefMoved():
                self._moves.labels(*_labels(event.key)).inc()
            case GarbageCollected():
                self._collected.inc(event.bytes)

    def _reconciled(self, event: Reconciled) -> None:
        result = "failed" if event.failure is not None else "unchanged" if event.unchanged else "new"
        self._duration.labels(event.key.kind, result).observe(event.seconds)
        labels = _labels(event.key)
        if event.received:
            self._received.labels(*labels).inc(event.received)
        if event.unchanged:
            self._hits.labels(*labels).inc()
        if event.failure is None:
            with self._lock:
                known = event.key in self._successes
                self._successes[event.key] = event.observed
            if not known:
                self._age.labels(*labels).set_function(partial(self._age_of, event.key))

    def _age_of(self, key: SourceKey) -> float:
        with self._lock:
            success = self._successes.get(key)
        return float("nan") if success is None else max(0.0, self._now() - success)

    def forget(self, key: SourceKey) -> None:
        """Drop what is known of a source that is no more: it must not look older and older for ever."""
        with self._lock:
            self._successes.pop(key, None)
        labels = _labels(key)
        for metric in (self._received, self._hits, self._artifacts, self._moves, self._age):
            try:
                metric.remove(*labels)
            except KeyError:
                continue
        self._failures.remove_by_labels(dict(zip(_SOURCE, labels, strict=True)))


def _labels(key: SourceKey) -> tuple[str, str, str]:
    return key.kind, key.namespace, key.name

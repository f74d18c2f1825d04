"""One look at one source: what a worker does, in a thread, another process or another machine. Values in, values out."""

import threading
import time
from collections.abc import Callable

import attrs

from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.errors import FluxSrcError
from fluxsrc.events import Failure
from fluxsrc.managed import ManagedSource
from fluxsrc.operation import DEFAULT_TIMEOUT, Operation, Progress
from fluxsrc.produce import RESOLVED
from fluxsrc.revision import Revision
from fluxsrc.store import Store
from fluxsrc.tracing import span

__all__ = ["Outcome", "look", "timeout_of"]


@attrs.frozen(kw_only=True)
class Outcome:
    """What one look came to.

    Attributes:
        key: Whose.
        artifact: What it has now, or None if it failed.
        previous: What the store held before, if that was asked for.
        failure: What failed, or None.
        revision: What the source points at, if it came that far.
        seconds: How long it took.
        received: Bytes of content received, as far as the source reports them.
    """

    key: SourceKey
    artifact: Artifact | None = None
    previous: Artifact | None = None
    failure: Failure | None = None
    revision: Revision | None = None
    seconds: float = 0.0
    received: int = 0


class _Meter:
    """Adds up what the reports of progress say was received."""

    def __init__(self) -> None:
        self.total = 0
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self, progress: Progress) -> None:
        if progress.phase == "receive" and progress.unit == "bytes":
            with self._lock:
                # Less than before is a new stream, or one that began anew: its bytes travelled as well.
                self.total += progress.done - self._last if progress.done >= self._last else progress.done
                self._last = progress.done


def timeout_of(managed: ManagedSource) -> float | None:
    """Seconds that one look may take: the source's own timeout."""
    timeout: float | None = getattr(managed.source, "timeout", DEFAULT_TIMEOUT)
    return timeout


def look(
    managed: ManagedSource,
    store: Store,
    cancel: threading.Event | Callable[[], bool] | None = None,
    *,
    first: bool = True,
) -> Outcome:
    """Bring one source up to date. Raises nothing: whatever goes wrong is a `Failure`.

    Args:
        managed: The source.
        store: Where its artifact goes.
        cancel: Set once nobody wants it any more.
        first: Whether to look up what the store had before; whoever asked before knows.
    """
    meter = _Meter()
    operation = Operation(timeout_of(managed), cancel, meter)
    start = time.perf_counter()
    artifact = previous = failure = None
    with span("fluxsrc.reconcile", key=lambda: str(managed.key), url=lambda: managed.source.url) as facts:
        try:
            previous = store.lookup(managed.key) if first else None
            artifact = managed.source.produce_artifact(
                store, name=managed.name, namespace=managed.namespace, operation=operation
            )
        except FluxSrcError as exc:
            failure = Failure.of(exc)
        except Exception as exc:  # noqa: BLE001 - one broken source must not take the others with it
            failure = Failure.of(exc)
        if failure is not None:
            facts |= {"fluxsrc.stage": failure.stage.value, "fluxsrc.reason": failure.reason}
        elif artifact is not None:
            facts |= {"fluxsrc.revision": str(artifact.revision), "fluxsrc.received": meter.total}
    return Outcome(
        key=managed.key,
        artifact=artifact,
        previous=previous,
        failure=failure,
        revision=operation.memo.get(RESOLVED),
        seconds=time.perf_counter() - start,
        received=meter.total,
    )

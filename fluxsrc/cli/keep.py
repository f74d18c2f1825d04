"""`reconcile`: keep the sources of a file up to date, show how they are, and leave that for `get`."""

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from fluxsrc._units import plural
from fluxsrc.artifact import SourceKey
from fluxsrc.cli.described import Described, takes_manifests
from fluxsrc.cli.documents import artifact_document, time_text
from fluxsrc.cli.failures import BUG
from fluxsrc.cli.options import STORE_VARIABLE, optional_store, seconds
from fluxsrc.cli.pins import Pins, lock_options
from fluxsrc.cli.render import echo, table
from fluxsrc.cli.sections import command
from fluxsrc.cli.session import Session, common_options, pass_session
from fluxsrc.errors import ConfigurationError, FluxSrcError
from fluxsrc.events import (
    Event,
    Failure,
    FetchFailed,
    GarbageCollected,
    NewArtifact,
    Reconciled,
    Recovered,
    RefMoved,
    Stage,
)
from fluxsrc.reconcile import Policy, Reconciler, Retention, SavedStatuses
from fluxsrc.status import SourceStatus
from fluxsrc.stores import LocalStore

__all__ = ["reconcile"]

_HEAD: Final = ("kind", "name", "revision", "suspended", "ready", "message")
_CODES: Final[Mapping[Stage, int]] = {
    Stage.CONFIGURATION: 2,
    Stage.FETCH: 3,
    Stage.WORKER: 3,
    Stage.VERIFICATION: 4,
    Stage.CONTENT: 4,
    Stage.STORAGE: 5,
    Stage.BUG: BUG,
}
_NOT_READY: Final = 3
_LOOK_AT_FILES: Final = 2.0
"""Seconds between two looks at the manifests' files."""


@command()
@takes_manifests()
@optional_store
@click.option("--once", is_flag=True, help="Look at each source once, and end with exit code 0 if all are ready.")
@click.option("--concurrency", type=click.IntRange(min=1), default=8, show_default=True, help="Sources at a time.")
@click.option("--keep", type=click.IntRange(min=1), help="Let all but this many artifacts of each source go.")
@click.option(
    "--ttl",
    type=seconds,
    metavar="DURATION",
    default="60s",
    show_default=True,
    help="With --keep: but none younger than this.",
)
@lock_options
@common_options
@pass_session
def reconcile(
    session: Session,
    described: Described,
    store: Path | None,
    concurrency: int,
    keep: int | None,
    ttl: float,
    pins: Pins,
    *,
    once: bool,
) -> int:
    """Keep the sources that manifests describe up to date in a store, until Ctrl-C.

    On a terminal a table shows how they are; elsewhere each event is a line, with --json a JSON object. Changes of the files
    take effect at once.

    With --locked a source that is not what the lock file says is a failure; with --frozen nobody is asked where sources point.
    """
    if store is None:
        raise ConfigurationError("which store?", hint=f"give --store DIR, or set {STORE_VARIABLE}")
    retention = None if keep is None else Retention(records=keep, ttl=ttl)
    live = sys.stdout.isatty() and not session.json
    with LocalStore(store) as target, session.cancelling() as cancel:
        sources, saved = pins.of_all(described.load()), SavedStatuses(target, owner=described.name)
        reconciler = Reconciler(
            target,
            sources,
            policy=Policy(concurrency=concurrency),
            retention=retention,
            on_event=None if live else _printer(as_json=session.json),
            on_status=saved.save,
            on_removed=saved.forget,
            known=saved.load({*saved.kept(), *(each.key for each in sources)}),
        )
        _save_suspended(reconciler, saved)
        with _table(reconciler) if live else contextlib.nullcontext():
            if once:
                with _forwarding(cancel, reconciler.cancel):
                    statuses = reconciler.run_once()
            else:
                _run(reconciler, described, pins, saved, cancel)
                statuses = reconciler.statuses
    if live:
        echo(table(_HEAD, [_row(status) for status in statuses.values()]))
    return _exit_code(statuses) if once else 0


def _save_suspended(reconciler: Reconciler, saved: SavedStatuses) -> None:
    """No look will say so."""
    for status in reconciler.statuses.values():
        if status.suspended:
            saved.save(status)


def _run(
    reconciler: Reconciler, described: Described, pins: Pins, saved: SavedStatuses, cancel: threading.Event
) -> None:
    """Until the signal; with a look at the files now and then."""
    text = described.texts(), pins.text()
    with reconciler:
        while not cancel.wait(_LOOK_AT_FILES):
            try:
                fresh = described.texts(), pins.text()
                if fresh != text:
                    text = fresh
                    reconciler.apply(pins.of_all(described.load()))
                    _save_suspended(reconciler, saved)
            except FluxSrcError as exc:  # what runs goes on as it was described before
                echo(f"error: {Failure.of(exc)}", err=True)


@contextlib.contextmanager
def _forwarding(event: threading.Event, call: Callable[[], None]) -> Iterator[None]:
    """Call something when an event is set while this is open."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            if event.is_set():
                call()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _exit_code(statuses: Mapping[SourceKey, SourceStatus]) -> int:
    """0 if all are ready, else that of the first one that is not."""
    for status in statuses.values():
        if not status.ready and not status.suspended:
            return _NOT_READY if status.failure is None else _CODES[status.failure.stage]
    return 0


# --- events as lines -------------------------------------------------------------------------------------------------


def _printer(*, as_json: bool) -> Callable[[Event], None]:
    def show(event: Event) -> None:
        if as_json:
            click.echo(json.dumps(_document(event)))
        elif (line := _line(event)) is not None:
            echo(line)

    return show


def _line(event: Event) -> str | None:
    """What people read; that nothing changed is no line."""
    match event:
        case NewArtifact():
            return f"{event.key}: new artifact {event.artifact.revision} {event.artifact.content_digest}"
        case RefMoved():
            return f"{event.key}: {event.pointer} moved from {event.old.digest} to {event.new.digest}"
        case FetchFailed():
            again = "" if event.retry_in is None else f" (again in {event.retry_in:.0f} s)"
            return f"{event.key}: {event.failure.line}{again}"
        case Recovered():
            return f"{event.key}: recovered after {plural(event.failures, 'failure')}"
        case GarbageCollected() if event.blobs:
            return f"collected {plural(event.blobs, 'blob')}, {event.bytes:,} bytes"
        case Reconciled() if event.unchanged:
            return f"{event.key}: unchanged"
    return None


def _document(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = {"event": type(event).__name__}
    if not isinstance(event, GarbageCollected):
        found["source"] = str(event.key)
    match event:
        case NewArtifact():
            found["artifact"] = artifact_document(event.artifact)
            found["previous"] = None if event.previous is None else str(event.previous.revision)
        case RefMoved():
            found |= {"pointer": event.pointer, "old": str(event.old), "new": str(event.new)}
            found |= {"observed": time_text(event.observed), "url": event.url}
        case FetchFailed():
            failure = event.failure
            found |= {"stage": failure.stage.value, "reason": failure.reason, "message": failure.message}
            found |= {"hint": failure.hint, "failures": event.failures, "retry_in": event.retry_in}
        case Recovered():
            found |= {"revision": str(event.artifact.revision), "failures": event.failures}
        case GarbageCollected():
            found |= {"retired": event.retired, "blobs": event.blobs, "bytes": event.bytes}
        case Reconciled():
            found |= {"seconds": round(event.seconds, 6), "received": event.received, "unchanged": event.unchanged}
            found["failed"] = event.failure is not None
    return found


# --- tables ----------------------------------------------------------------------------------------------------------


def _row(status: SourceStatus) -> tuple[str, ...]:
    revision = "" if status.artifact is None else status.artifact.revision.short
    known = status.conditions.get("Ready")
    ready = "Unknown" if known is None else known.word
    message = status.message.splitlines()[0] if status.message else ""
    return status.key.kind, f"{status.key.namespace}/{status.key.name}", revision, str(status.suspended), ready, message


@contextlib.contextmanager
def _table(reconciler: Reconciler) -> Iterator[None]:
    """A table that is drawn anew while this is open; gone afterwards."""
    from rich.console import Console  # noqa: PLC0415 - slow to import, and needed on a terminal only
    from rich.live import Live  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    def draw() -> Table:
        drawn = Table(box=None, pad_edge=False)
        for column in _HEAD:
            drawn.add_column(column, no_wrap=column != _HEAD[-1])  # room is taken from the messages, not from the names
        for status in reconciler.statuses.values():
            style = "green" if status.ready else "red" if status.failure is not None else "yellow"
            drawn.add_row(
                *(
                    Text(cell, style=style if column == "ready" else "", overflow="ellipsis", no_wrap=True)
                    for column, cell in zip(_HEAD, _row(status), strict=True)
                )
            )
        return drawn

    with Live(console=Console(), get_renderable=draw, refresh_per_second=4, transient=True):
        yield

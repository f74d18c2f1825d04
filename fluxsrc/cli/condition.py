"""`get`: how the sources of a store are doing, as the last `reconcile` left them. Asks no remote."""

import datetime as dt
from typing import Any, Final

import attrs

from fluxsrc.cli.described import Described, takes_manifests
from fluxsrc.cli.documents import artifact_document, signed_by, time_text
from fluxsrc.cli.options import existing_store
from fluxsrc.cli.render import echo, echo_json, table
from fluxsrc.cli.sections import command
from fluxsrc.cli.session import Session, common_options, pass_session
from fluxsrc.reconcile import SavedStatuses
from fluxsrc.status import SourceStatus
from fluxsrc.stores import LocalStore

__all__ = ["get"]

_HEAD: Final = ("kind", "name", "revision", "suspended", "ready", "age", "checked", "signed by", "message")
_UNITS: Final = (("d", 86400), ("h", 3600), ("m", 60))


@command()
@takes_manifests(required=False)
@existing_store
@common_options
@pass_session
def get(session: Session, described: Described, store: LocalStore) -> None:
    """Show the sources of a store and how they are, as `flux get sources` does: what the last `reconcile` found.

    With --file also those that are described there and have nothing yet. Asks no remote.
    """
    managed = {each.key: each for each in described.load()} if described.given else {}
    keys = sorted({*store.sources(), *store.statuses(), *managed})
    known = {status.key: status for status in SavedStatuses(store).load(keys)}
    statuses = []
    for key in keys:
        status = known.get(key) or SourceStatus(key=key, artifact=store.lookup(key))
        statuses.append(attrs.evolve(status, suspended=managed[key].suspend) if key in managed else status)
    if session.json:
        echo_json({"store": str(store.path), "sources": [_document(status) for status in statuses]})
        return
    now = dt.datetime.now(dt.UTC)
    echo(table(_HEAD, [_row(status, now) for status in statuses]))


def _ready(status: SourceStatus) -> bool:
    """As of the last look; an artifact that no reconciler has looked at was up to date when it was made."""
    return status.artifact is not None and (status.ready or "Ready" not in status.conditions)


def _message(status: SourceStatus) -> str:
    """One line: of a failure, the first word is what failed."""
    if status.artifact is None and status.ready:
        return "its artifact is not in the store any more"
    if status.message:
        return status.message.splitlines()[0]
    if status.artifact is None:
        return "no artifact yet"
    return f"stored {time_text(status.artifact.observed) or ''}".rstrip()


def _row(status: SourceStatus, now: dt.datetime) -> tuple[str, ...]:
    key, artifact = status.key, status.artifact
    return (
        key.kind,
        f"{key.namespace}/{key.name}",
        "" if artifact is None else artifact.revision.short,
        str(status.suspended),
        str(_ready(status)),
        "" if artifact is None or artifact.observed is None else _ago(artifact.observed, now),
        "" if status.checked is None else _ago(status.checked, now),
        "" if artifact is None else signed_by(artifact),
        _message(status),
    )


def _ago(moment: dt.datetime, now: dt.datetime) -> str:
    """How long ago that was, in the largest unit that it fills.

    >>> _ago(dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC), dt.datetime(2026, 1, 4, 4, tzinfo=dt.UTC))
    '2d'
    """
    seconds = max(0, round((now - moment).total_seconds()))
    return next((f"{seconds // size}{unit}" for unit, size in _UNITS if seconds >= size), f"{seconds}s")


def _document(status: SourceStatus) -> dict[str, Any]:
    failure, artifact = status.failure, status.artifact
    said: dict[str, Any] | None = None
    if failure is not None:
        said = {"stage": failure.stage.value, "reason": failure.reason, "message": failure.message}
        said |= {"hint": failure.hint, "failures": status.failures}
    return {
        "source": str(status.key),
        "suspended": status.suspended,
        "ready": _ready(status),
        "message": _message(status),
        "checked": time_text(status.checked),
        "failure": said,
        "conditions": [condition.document() for condition in status.conditions.values()],
        "signed_by": None if artifact is None else signed_by(artifact) or None,
        "artifact": None if artifact is None else artifact_document(artifact),
    }

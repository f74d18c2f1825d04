"""`SavedStatuses`: how sources are doing, kept beside their artifacts: for whoever asks later, and for the next process."""

import datetime as dt
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from fluxsrc.artifact import SourceKey
from fluxsrc.errors import FluxSrcError
from fluxsrc.events import Failure, Stage
from fluxsrc.status import Condition, SourceStatus
from fluxsrc.stores import LocalStore

__all__ = ["SavedStatuses"]

_log: Final = logging.getLogger("fluxsrc.reconcile")

_Gist = tuple[dt.datetime | None, bool, Condition | None]


@attrs.define
class SavedStatuses:
    """The statuses in a store, for a `Reconciler`'s `on_status`, `on_removed` and `known`, and for everybody else.

    >>> from fluxsrc import LocalStore, MemorySource
    >>> from fluxsrc.managed import ManagedSource
    >>> from fluxsrc.reconcile import Reconciler
    >>> app = ManagedSource(name="app", source=MemorySource({"app.yaml": "kind: App"}))
    >>> saved = SavedStatuses(LocalStore("kept"))
    >>> known = saved.load([app.key, *saved.kept()])
    >>> _ = Reconciler(saved.store, [app], on_status=saved.save, on_removed=saved.forget, known=known).run_once()
    >>> [status.ready for status in SavedStatuses(LocalStore("kept")).load([app.key])]
    [True]

    Attributes:
        store: Where they are.
        owner: Who keeps them: several may keep theirs in one store, each under a name.
    """

    store: LocalStore
    owner: str = ""
    _written: dict[SourceKey, _Gist] = attrs.field(factory=dict, init=False, repr=False)

    def load(self, keys: Iterable[SourceKey]) -> list[SourceStatus]:
        """Those of these sources of which something is known, each with what the store has of it now."""
        found = []
        for key in keys:
            document = self.store.status(key)
            if document is not None and (status := _status(key, document)) is not None:
                self._written[key] = _gist(status)
                found.append(attrs.evolve(status, artifact=self.store.lookup(key)))
        return found

    def kept(self) -> list[SourceKey]:
        """The sources of which this owner keeps a status, whether they are still looked at or not."""
        return [key for key in self.store.statuses() if (self.store.status(key) or {}).get("owner") == self.owner]

    def forget(self, key: SourceKey) -> None:
        """Keep nothing of a source any more; its artifacts stay. What cannot be removed is logged."""
        self._written.pop(key, None)
        try:
            self.store.forget_status(key)
        except FluxSrcError as error:
            _log.warning("the status of %s stays: %s", key, error)

    def save(self, status: SourceStatus) -> None:
        """Keep a status, unless it only says that a look is under way. What cannot be written is logged: the sources go on."""
        gist, ready = _gist(status), status.conditions.get("Ready")
        under_way = ready is not None and ready.status is None and not status.suspended
        if under_way or self._written.get(status.key, (None, False, None)) == gist:
            return
        try:
            self.store.write_status(status.key, {"owner": self.owner, **_document(status)})
        except FluxSrcError as error:
            _log.warning("the status of %s is not kept: %s", status.key, error)
        else:
            self._written[status.key] = gist


def _gist(status: SourceStatus) -> _Gist:
    return status.checked, status.suspended, status.conditions.get("Ready")


def _document(status: SourceStatus) -> dict[str, Any]:
    return {
        "suspended": status.suspended,
        "checked": None if status.checked is None else status.checked.isoformat(),
        "failures": status.failures,
        "failure": None if status.failure is None else attrs.asdict(status.failure),
        "status": status.document(),
    }


def _status(key: SourceKey, document: Mapping[str, Any]) -> SourceStatus | None:
    try:
        failure, checked = document["failure"], document["checked"]
        return attrs.evolve(
            SourceStatus.from_document(key, document["status"]),
            suspended=bool(document["suspended"]),
            checked=None if checked is None else dt.datetime.fromisoformat(checked),
            failures=int(document["failures"]),
            failure=None if failure is None else Failure(**failure | {"stage": Stage(failure["stage"])}),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None  # nobody else's remark is worth a failure

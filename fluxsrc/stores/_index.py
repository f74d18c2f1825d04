"""`index.json`, kept in step with the histories: a note for each change, all notes worked off at once.

`index.json` grows with the number of sources, so that writing it anew with each artifact would make every `put` slower
the more sources there are. A `put` appends one line to `index.journal` instead. While the list is small, the journal is
worked off at once; later it is for `flush`:

1. Alone: set the journal aside. No writer is between its note and its record, so each note's record is in place.
2. For each source that is named: read its record, replace its entry.
3. Replace `index.json`, then drop what was set aside. A crash before that repeats 2 and 3.
"""

import atexit
import json
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from fluxsrc._io.atomic import store_errors, write_all
from fluxsrc._lazy import later
from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.errors import ConfigurationError, StoreError
from fluxsrc.stores._layout import Layout
from fluxsrc.stores._oci import documents, merge_index, own_key
from fluxsrc.stores._records import Record, damaged

if TYPE_CHECKING:
    import logging
else:
    logging = later("logging")

__all__ = [
    "FlushAtExit",
    "current_artifact",
    "flush",
    "flush_if_small",
    "load_index",
    "note_change",
    "read_record",
    "rebuild",
]

_LOGGER: Final = "fluxsrc.stores"
_SMALL: Final = 64 * 1024
"""Bytes of `index.json`, about 130 sources, up to which each `put` writes it anew: what that costs has a bound."""
_SMALL_PATIENCE: Final = 0.2
"""Seconds that a `put` waits for that; a collector holds the index's lock for longer."""


def read_record(layout: Layout, key: SourceKey) -> Record:
    """A source's history; an empty one if it has none."""
    path = layout.record(key)
    data = layout.read(path)
    return Record(key) if data is None else Record.from_json(data, where=str(path))


def current_artifact(layout: Layout, key: SourceKey) -> Artifact | None:
    """The newest artifact of a source's history, or None."""
    path = layout.record(key)
    data = layout.read(path)
    return None if data is None else Record.current_from_json(data, where=str(path))


def note_change(layout: Layout, key: SourceKey) -> None:
    """Note that a source's entry in `index.json` will be out of date. The caller holds the store's lock."""
    with layout.journal_locked(), store_errors("write", layout.journal):
        descriptor = os.open(
            layout.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
        )
        try:
            write_all(descriptor, f"{key}\n".encode())
        finally:
            os.close(descriptor)


class FlushAtExit:
    """Flushes when the process ends normally; armed by the first `put`, not by being made.

    Not when the store is garbage: that may be at any moment, in any thread, under any lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed = False

    def arm(self, layout: Layout) -> None:
        """Flush this store when the process ends; once, however often it is asked."""
        with self._lock:
            if not self._armed:
                self._armed = True
                atexit.register(_flush_quietly, layout)

    def __reduce__(self) -> "tuple[type[FlushAtExit], tuple[()]]":
        return FlushAtExit, ()  # a copy in another process arms itself


def _flush_quietly(layout: Layout) -> None:
    try:
        if os.path.exists(layout.root):  # else a temporary directory that is gone by now
            flush(layout)
    except StoreError as exc:
        logging.getLogger(_LOGGER).warning("index.json stays out of date until the next flush: %s", exc)


def flush(layout: Layout) -> None:
    """Bring `index.json` up to date; free if it is."""
    aside = _aside(layout)
    with store_errors("look at", layout.root):
        if not layout.journal.exists() and not aside.exists():
            return
    with layout.index_locked():
        _set_aside(layout, aside)  # 1
        keys = _keys(layout.read(aside) or b"")
        changes = _current(layout, keys)  # 2
        if changes:
            layout.write(layout.index_json, merge_index(load_index(layout), changes))  # 3
        with store_errors("remove", aside):
            aside.unlink(missing_ok=True)


def flush_if_small(layout: Layout) -> bool:
    """Bring `index.json` up to date if that costs little, and say whether it is now; where not, the notes stay."""
    try:
        if layout.index_json.stat().st_size > _SMALL:
            return False
        flush(attrs.evolve(layout, lock_timeout=min(layout.lock_timeout, _SMALL_PATIENCE)))
    except (OSError, StoreError) as exc:
        logging.getLogger(_LOGGER).debug("index.json stays out of date for now: %s", exc)
        return False
    return True


def rebuild(layout: Layout) -> None:
    """Make our part of `index.json` anew from the histories, and every manifest and config they need.

    This heals what a power cut can do to files that are not fsynced because records suffice to write them again. The
    caller holds the index's lock.
    """
    aside = _aside(layout)
    _set_aside(layout, aside)
    index = load_index(layout)
    changes = _current(layout, {*_keys_in(index), *layout.source_keys()})
    with layout.writing():
        for artifact in changes.values():
            if artifact is not None:
                _heal_documents(layout, artifact)
    updated = merge_index(index, changes)
    if updated != layout.read(layout.index_json):
        layout.write(layout.index_json, updated)
    with store_errors("remove", aside):
        aside.unlink(missing_ok=True)


def _current(layout: Layout, keys: Iterable[SourceKey]) -> dict[SourceKey, Artifact | None]:
    current: dict[SourceKey, Artifact | None] = {}
    for key in keys:
        # One damaged history must not keep all others from the index; its own entry stays, and `verify` tells.
        with suppress(StoreError):
            current[key] = current_artifact(layout, key)
    return current


def load_index(layout: Layout) -> dict[str, Any]:
    """`index.json` as it stands.

    Raises:
        StoreError: It is not an OCI index.
    """
    try:
        value = json.loads(layout.read(layout.index_json) or b'{"manifests":[]}')
        if isinstance(value, dict) and all(isinstance(entry, dict) for entry in value["manifests"]):
            return value
    except (KeyError, TypeError, ValueError):
        pass
    raise damaged(str(layout.index_json))


def _aside(layout: Layout) -> Path:
    return layout.root / "index.journal.flushing"


def _set_aside(layout: Layout, aside: Path) -> None:
    with layout.alone(), store_errors("write", aside):
        if not layout.journal.exists():
            return
        if aside.exists():  # an earlier flush did not get through: its notes still count
            data = (layout.read(aside) or b"") + (layout.read(layout.journal) or b"")
            layout.write(aside, data, durable=False)
            layout.journal.unlink()
        else:
            layout.journal.rename(aside)


def _keys(journal: bytes) -> Iterable[SourceKey]:
    for line in sorted(set(journal.decode(errors="replace").split("\n"))):
        try:
            yield SourceKey.parse(line)
        except ConfigurationError:
            continue  # the empty last line, or one that a power cut tore


def _keys_in(index: dict[str, Any]) -> Iterable[SourceKey]:
    for entry in index["manifests"]:
        key = own_key(entry)
        if key is not None:
            yield key


def _heal_documents(layout: Layout, artifact: Artifact) -> None:
    found = documents(artifact)
    for document in (found.config, found.manifest):
        path = layout.blob(document.digest)
        try:
            intact = layout.read(path) == document.data
        except StoreError:
            intact = False
        if not intact:
            layout.write(path, document.data, durable=False)

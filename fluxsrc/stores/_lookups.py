"""`Lookups`: the current artifacts of sources, as their records said when they were last read.

A reconciler asks for each source at each look, and nearly always hears what it heard the last time. A record is replaced, never
written in place: the same file says the same. Which file it is, its inode's number, size and times say, asked of the open
file: opening is when a network file system looks whether another machine replaced it.

An inode's number is given again, perhaps to the very next record. That one has other times, unless both were written within
one tick of the kernel's clock; so what a file says that is no older than that is not remembered.
"""

import os
import threading
import time
from typing import Final, NamedTuple

from fluxsrc._io.atomic import OPEN_REGULAR, open_regular, store_errors
from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.errors import ArtifactNotFoundError
from fluxsrc.stores._blobs import is_blob
from fluxsrc.stores._layout import Layout
from fluxsrc.stores._records import Record

__all__ = ["Lookups"]

_CLOCK_TICK_NS: Final = 20_000_000
"""The kernel's coarse clock, by which files have their times, moves at least this often."""
_MOST: Final = 10_000
"""Sources whose artifacts are remembered, at some 2 KiB each; beyond, those that were read first are forgotten."""
_MOST_DETAILS: Final = 100
"""Skipped paths and annotations of an artifact that is remembered: there may be a million."""

_State = tuple[int, int, int, int, int]


class _Known(NamedTuple):
    path: str
    state: _State
    artifact: Artifact
    blob: str

    def is_current(self) -> bool:
        """Whether the record is still the file that was read; False also if that cannot be told."""
        try:
            descriptor = os.open(self.path, OPEN_REGULAR)
        except OSError:
            return False
        try:
            return _state(os.fstat(descriptor)) == self.state
        except OSError:
            return False
        finally:
            os.close(descriptor)


def _state(found: os.stat_result) -> _State:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Lookups:
    """Thread-safe. Belongs to one store; a copy of it in another process remembers nothing."""

    def __init__(self) -> None:
        self._known: dict[SourceKey, _Known] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def __reduce__(self) -> "tuple[type[Lookups], tuple[()]]":
        return Lookups, ()

    def held(self, layout: Layout, key: SourceKey) -> Artifact | None:
        """The newest artifact of a source's history, if there is one and its blob is there.

        Raises:
            StoreError: The record cannot be read, or is damaged.
        """
        known = self._known.get(key)
        if known is None or not known.is_current():
            known = self._read(layout, key)
        while known is not None and not is_blob(known.blob, known.artifact.size):
            # Gone, or replaced and swept since its record was read: then there is another one.
            last, known = known, self._read(layout, key)
            if known is None or known.artifact == last.artifact:
                return None
        return None if known is None else known.artifact

    def _read(self, layout: Layout, key: SourceKey) -> _Known | None:
        self._forget(key)
        path = layout.record(key)
        try:
            descriptor = open_regular(path, what=path.name)
        except ArtifactNotFoundError:
            return None
        with store_errors("read", path), os.fdopen(descriptor, "rb") as stream:
            found = os.fstat(descriptor)
            data = stream.read()
        artifact = Record.current_from_json(data, where=str(path))
        if artifact is None:
            return None
        known = _Known(str(path), _state(found), artifact, str(layout.blob(artifact.digest)))
        if _is_small(artifact) and time.time_ns() - found.st_ctime_ns >= _CLOCK_TICK_NS:
            self._remember(key, known)
        return known

    def _remember(self, key: SourceKey, known: _Known) -> None:
        with self._lock:
            if key not in self._known and len(self._known) >= _MOST:
                del self._known[next(iter(self._known))]
            self._known[key] = known

    def _forget(self, key: SourceKey) -> None:
        with self._lock:
            self._known.pop(key, None)


def _is_small(artifact: Artifact) -> bool:
    return len(artifact.skipped) + len(artifact.annotations) <= _MOST_DETAILS

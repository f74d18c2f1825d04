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
from pathlib import Path
from typing import Final

import attrs

from fluxsrc._io.atomic import open_regular, store_errors
from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.errors import ArtifactNotFoundError
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


@attrs.frozen
class _Known:
    path: Path
    state: _State
    artifact: Artifact


class Lookups:
    """Thread-safe. Belongs to one store; a copy of it in another process remembers nothing."""

    def __init__(self) -> None:
        self._known: dict[SourceKey, _Known] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def __reduce__(self) -> "tuple[type[Lookups], tuple[()]]":
        return Lookups, ()

    def current(self, layout: Layout, key: SourceKey) -> Artifact | None:
        """The newest artifact of a source's history, or None.

        Raises:
            StoreError: The record cannot be read, or is damaged.
        """
        known = self._known.get(key)
        path = layout.record(key) if known is None else known.path
        try:
            descriptor = open_regular(path, what=path.name)
        except ArtifactNotFoundError:
            self._forget(key)
            return None
        try:
            with store_errors("read", path):
                found = os.fstat(descriptor)
                state = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
                if known is not None and known.state == state:
                    return known.artifact
                with os.fdopen(descriptor, "rb", closefd=False) as stream:
                    data = stream.read()
        finally:
            os.close(descriptor)
        artifact = Record.current_from_json(data, where=str(path))
        if artifact is None or not _is_small(artifact) or time.time_ns() - found.st_ctime_ns < _CLOCK_TICK_NS:
            self._forget(key)
        else:
            self._remember(key, _Known(path, state, artifact))
        return artifact

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

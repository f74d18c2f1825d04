"""`MountedSnapshot`: one snapshot with others mounted in its directories, still sorted, still lazy."""

import datetime as dt
import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from fluxsrc.entry import Entry, Skipped, check_path
from fluxsrc.errors import UnsafeEntryError
from fluxsrc.recipe import Choice
from fluxsrc.revision import Revision
from fluxsrc.snapshot import ShownSnapshot
from fluxsrc.source import Snapshot

__all__ = ["Collisions", "MountedSnapshot"]


class Collisions(Choice):
    """What becomes of a path that two snapshots have, or that is a file in one and a directory in the other.

    ERROR refuses; BASE keeps what was there before; MOUNT takes what is mounted, of several the last.
    """

    ERROR = "error"
    BASE = "base"
    MOUNT = "mount"


def _mounts(value: Iterable[tuple[str, Snapshot]]) -> tuple[tuple[str, Snapshot], ...]:
    return tuple((path and check_path(path), snapshot) for path, snapshot in value)


@attrs.define(eq=False, kw_only=True)
class MountedSnapshot(ShownSnapshot):
    """A snapshot made of others. Directories that exist on both sides are merged.

    Attributes:
        revision: What this is a snapshot of.
        base: What everything is mounted into.
        mounts: Snapshots by directory; "" merges with the root.
        collisions: What becomes of paths that are there twice.
        replaces: Paths that the base reports as skipped, and that the mounts bring after all.
    """

    revision: Revision
    base: Snapshot
    mounts: tuple[tuple[str, Snapshot], ...] = attrs.field(converter=_mounts)
    collisions: Collisions = attrs.field(default=Collisions.ERROR, converter=Collisions)
    replaces: frozenset[str] = frozenset()

    @property
    def created(self) -> dt.datetime | None:
        """The base's time."""
        return self.base.created

    @property
    def tree_id(self) -> str | None:
        """A hash over the parts' names; None if one has none."""
        parts = [("", self.base.tree_id), *((path, snapshot.tree_id) for path, snapshot in self.mounts)]
        if any(name is None for _, name in parts):
            return None
        text = "\n".join(f"{path}\0{name}" for path, name in parts)
        return "mounted:" + hashlib.sha256(f"{self.collisions}\n{text}".encode(errors="surrogateescape")).hexdigest()

    @property
    def annotations(self) -> Mapping[str, str]:
        """The base's, and where what was mounted comes from."""
        revisions = {f"dev.fluxsrc.mount.{path or '.'}": str(snapshot.revision) for path, snapshot in self.mounts}
        return MappingProxyType({**self.base.annotations, **revisions})

    @property
    def skipped(self) -> Sequence[Skipped]:
        """Everybody's."""
        found = [item for item in self.base.skipped if item.path not in self.replaces]
        for path, snapshot in self.mounts:
            found += [attrs.evolve(item, path=_join(path, item.path)) for item in snapshot.skipped]
        return tuple(sorted(found, key=lambda item: item.path.encode(errors="surrogateescape")))

    @property
    def verification(self) -> tuple[tuple[str, str], ...]:
        """The base's: nobody vouched for the whole."""
        return self.base.verification

    def ignore_files(self) -> Mapping[str, str]:
        """Everybody's, each governing where it is mounted. Of one directory with two, the one that `collisions` keeps."""
        found = dict(self.base.ignore_files())
        for path, snapshot in self.mounts:
            for directory, text in snapshot.ignore_files().items():
                where = _join(path, directory)
                if where not in found or self.collisions is Collisions.MOUNT:
                    found[where] = text
        return found

    def entries(self) -> Iterator[Entry]:
        """Everybody's entries, sorted.

        Raises:
            UnsafeEntryError: A path is there twice, and `collisions` is ERROR.
        """
        streams = [_ranked(0, "", self.base)]
        streams += [_ranked(rank, path, snapshot) for rank, (path, snapshot) in enumerate(self.mounts, 1)]
        merged = heapq.merge(*streams, key=lambda ranked: ranked[0])
        if self.collisions is Collisions.ERROR:
            return self._strict(merged)
        return self._choosing(merged)

    def _strict(self, merged: "Iterator[tuple[bytes, int, Entry]]") -> Iterator[Entry]:
        files: set[bytes] = set()
        last = b""
        for key, _, entry in merged:
            if key == last or not files.isdisjoint(_directories(key)):
                raise UnsafeEntryError(
                    f"{entry.path} is there already, or a file is where its directory should be",
                    path=entry.path,
                    hint="choose collisions='base' or 'mount', or mount elsewhere",
                )
            last = key
            files.add(key)
            yield entry

    def _choosing(self, merged: "Iterator[tuple[bytes, int, Entry]]") -> Iterator[Entry]:
        """Of each path the one of the preferred snapshot; a file against a directory likewise. Holds the listing."""
        prefer = min if self.collisions is Collisions.BASE else max
        chosen: dict[bytes, tuple[int, Entry]] = {}
        for key, rank, entry in merged:
            other = chosen.get(key)
            chosen[key] = (rank, entry) if other is None else prefer((rank, entry), other, key=lambda pair: pair[0])
        below: dict[bytes, int] = {}
        for key, (rank, _) in chosen.items():
            for directory in _directories(key):
                if directory in chosen:
                    below[directory] = prefer(rank, below.get(directory, rank))
        losers = {path for path, rank in below.items() if prefer(rank, chosen[path][0]) != chosen[path][0]}
        winners = below.keys() - losers
        for key, (_, entry) in chosen.items():
            if key not in losers and winners.isdisjoint(_directories(key)):
                yield entry


def _ranked(rank: int, path: str, snapshot: Snapshot) -> Iterator[tuple[bytes, int, Entry]]:
    for entry in snapshot.entries():
        moved = attrs.evolve(entry, path=check_path(f"{path}/{entry.path}")) if path else entry
        yield moved.path.encode(), rank, moved


def _join(path: str, below: str) -> str:
    return f"{path}/{below}" if path and below else path or below


def _directories(path: bytes) -> Iterator[bytes]:
    at = path.find(b"/")
    while at >= 0:
        yield path[:at]
        at = path.find(b"/", at + 1)


if TYPE_CHECKING:

    def _(snapshot: MountedSnapshot) -> Snapshot:
        return snapshot

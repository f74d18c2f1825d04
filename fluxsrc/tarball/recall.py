"""Single contents out of an earlier archive, for the groups of which only some entries changed.

A group with one changed entry cannot be copied as it is; but what did not change in it need not be asked of the source
again. Where reading costs a request, that is the difference between ten requests and four hundred.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fluxsrc.entry import Entry, Mode
from fluxsrc.tarball.groups import LARGE
from fluxsrc.tarball.headers import BLOCK, header, padded
from fluxsrc.tarball.index import NAME_BYTES, Group, Place

__all__ = ["Recall", "entry_names"]

_SIZE: Final = slice(124, 135)
_TYPE: Final = slice(156, 157)
_EXTENDED: Final = b"x"


def entry_names(entries: Sequence[Entry]) -> bytes:
    """A short name of each entry and its content, one after the other; nothing if a content has no name."""
    names = [_name(entry) for entry in entries]
    return b"" if None in names else b"".join(name for name in names if name is not None)


def _name(entry: Entry) -> bytes | None:
    if entry.content_id is None or entry.mode is Mode.SYMLINK:
        return None
    return hashlib.sha256(f"{int(entry.mode)} {entry.content_id}\0{entry.path}".encode()).digest()[:NAME_BYTES]


class Recall:
    """Finds entries in an earlier archive."""

    def __init__(self, groups: Mapping[str, Group], load: Callable[[Place], bytes | None]) -> None:
        """Of the groups of an archive, by the paths they begin with, and of a function that inflates a block."""
        self._groups = groups
        self._load = load
        # An index says nothing about order; one that is out of it was not made by us, and finds less.
        self._firsts = sorted(groups)
        self._group: Group | None = None
        self._members: dict[int, tuple[int, int]] = {}
        self._data = b""

    def has(self, entry: Entry) -> bool:
        """Whether this entry, with this content, is in the archive."""
        return self._find(entry) is not None

    def read(self, entry: Entry) -> bytes | None:
        """The content of a small entry, or None: it is large, or not there after all."""
        found = self._find(entry)
        if found is None or entry.size > LARGE:
            return None
        group, number = found
        if group is not self._group:
            self._open(group)
        start, length = self._members.get(number, (0, 0))
        head = header(entry.path.encode(), entry.mode, entry.size)
        # The header says path, mode and size. It must stand exactly there: a content may hold the header of another file.
        if self._data[start : start + len(head)] != head or length != len(head) + padded(entry.size):
            return None
        return self._data[start + len(head) : start + len(head) + entry.size]

    def _find(self, entry: Entry) -> tuple[Group, int] | None:
        name = _name(entry)
        place = bisect_right(self._firsts, entry.path) - 1
        if name is None or place < 0:
            return None
        group = self._groups[self._firsts[place]]
        at = group.names.find(name)
        while at >= 0 and at % NAME_BYTES:
            at = group.names.find(name, at + 1)
        return None if at < 0 else (group, at // NAME_BYTES)

    def _open(self, group: Group) -> None:
        """Inflate a run of small files, and find where each begins and how long it is, header and padding included."""
        self._group, self._members, self._data = group, {}, b""
        data = self._load(group.blocks[0]) if len(group.blocks) == 1 else None
        if data is None:
            return
        self._data = data
        start = position = number = 0
        while position + BLOCK <= len(data):
            head = data[position : position + BLOCK]
            extended = head[_TYPE] == _EXTENDED
            position += BLOCK + padded(int(head[_SIZE], 8))
            if not extended:
                self._members[number] = (start, position - start)
                start, number = position, number + 1

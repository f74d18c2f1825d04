"""Single contents out of an earlier archive, for the groups of which only some entries changed.

A group with one changed entry cannot be copied as it is; but what did not change in it need not be asked of the source
again. Where reading costs a request, that is the difference between ten requests and four hundred.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Final

from fluxsrc.entry import Entry, Mode
from fluxsrc.tarball.groups import LARGE
from fluxsrc.tarball.headers import BLOCK, header, padded
from fluxsrc.tarball.index import Group, Place

__all__ = ["Recall"]

_SIZE: Final = slice(124, 135)
_TYPE: Final = slice(156, 157)
_EXTENDED: Final = b"x"


class Recall:
    """Finds entries in an earlier archive."""

    def __init__(self, groups: Mapping[str, Group], load: Callable[[Place], bytes | None]) -> None:
        """Of the groups of an archive, by the paths they begin with, and of a function that inflates a block."""
        self._groups = groups
        self._load = load
        # An index says nothing about order; one that is out of it was not made by us, and finds less.
        self._firsts = sorted(groups)
        self._numbers: dict[str, Mapping[str, list[int]]] = {}
        self._group: Group | None = None
        self._members: list[tuple[int, int]] = []
        self._data = b""

    def has(self, entry: Entry) -> bool:
        """Whether this content is in the archive, where this entry would be."""
        group = self._group_at(entry.path)
        return group is not None and entry.content_id in self._numbers_by_id(group)

    def read(self, entry: Entry) -> bytes | None:
        """The content of a small entry, or None: it is large, or not there after all."""
        group = self._group_at(entry.path)
        if group is None or entry.content_id is None or entry.mode is Mode.SYMLINK:
            return None
        numbers = self._numbers_by_id(group).get(entry.content_id)
        if not numbers or (size := entry.size) > LARGE:
            return None
        if group is not self._group:
            self._open(group)
        # The header says path, mode and size. It must stand where a member begins: a content may hold another's header.
        head = header(entry.path.encode(), entry.mode, size)
        for number in numbers:
            start, length = self._members[number] if number < len(self._members) else (0, 0)
            content = start + len(head)
            if length == len(head) + padded(size) and self._data[start:content] == head:
                return self._data[content : content + size]
        return None

    def _group_at(self, path: str) -> Group | None:
        place = bisect_right(self._firsts, path) - 1
        return self._groups[self._firsts[place]] if place >= 0 else None

    def _numbers_by_id(self, group: Group) -> Mapping[str, list[int]]:
        """Which of the group's entries have a content of this name."""
        numbers = self._numbers.get(group.first)
        if numbers is None:
            numbers = {}
            ids = group.content_ids.split("\n")
            if len(ids) == group.count:  # else a name has a line break in it
                for number, content_id in enumerate(ids):
                    numbers.setdefault(content_id, []).append(number)
            self._numbers[group.first] = numbers
        return numbers

    def _open(self, group: Group) -> None:
        """Inflate a run of small files, and find where each begins and how long it is, header and padding included."""
        self._group, self._members, self._data = group, [], b""
        data = self._load(group.blocks[0]) if len(group.blocks) == 1 else None
        if data is None:
            return
        self._data = data
        start = position = 0
        while position + BLOCK <= len(data):
            head = data[position : position + BLOCK]
            extended = head[_TYPE] == _EXTENDED
            position += BLOCK + padded(int(head[_SIZE], 8))
            if not extended:
                self._members.append((start, position - start))
                start = position

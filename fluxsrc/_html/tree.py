"""`Tree`: a listing of files as directories that unfold, each with what is in it; short for any number of files."""

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final

import attrs

from fluxsrc._html.markup import Html, join, tag
from fluxsrc._units import plural, size

__all__ = ["Leaf", "Tree"]

_MAX_COUNTED: Final = 50_000
"""Files that are looked at: beyond, asking for all sizes takes longer than anybody waits for a picture."""
_MAX_ROWS: Final = 1000
_MAX_CHILDREN: Final = 100
"""Rows of one directory, so that a large one does not use up those of all others."""
_MAX_DEPTH: Final = 24
_ALL_OPEN: Final = 30
"""Trees of no more rows are shown unfolded."""

Leaf = tuple[str, int, str]
"""A file: its path, its size, and a word for what kind of file it is, "" for the usual kind."""


class _Directory:
    """What is below one directory, and how many of its rows are shown."""

    __slots__ = ("directories", "files", "leaves", "shown", "size")

    def __init__(self) -> None:
        self.directories: dict[str, _Directory] = {}
        self.leaves: list[Leaf] = []
        self.files = 0
        self.size = 0
        self.shown = 0

    def add(self, size: int) -> "_Directory":
        self.files += 1
        self.size += size
        return self

    def step(self) -> tuple[str, "_Directory"] | None:
        """The only thing in here, if that is a directory."""
        if self.leaves or len(self.directories) != 1:
            return None
        return next(iter(self.directories.items()))


@attrs.frozen
class Tree:
    """Directories and files.

    Attributes:
        files: How many were counted.
        size: Their bytes.
        complete: Whether these are all.
    """

    files: int
    size: int
    complete: bool
    _root: _Directory = attrs.field(repr=False)

    @classmethod
    def of(cls, leaves: Iterable[Leaf], /) -> "Tree":
        """The tree of some files; of more than fifty thousand, only the first ones are looked at."""
        root = _Directory()
        remaining = iter(leaves)
        for path, count, kind in islice(remaining, _MAX_COUNTED):
            *parents, name = path.split("/")
            here = root.add(count)
            for parent in parents:
                here = here.directories.setdefault(parent, _Directory()).add(count)
            here.leaves.append((name, count, kind))
        return cls(root.files, root.size, next(remaining, None) is None, root)

    @property
    def summary(self) -> str:
        """In one line."""
        more = "" if self.complete else "more than "
        return f"{more}{plural(self.files, 'file')}, {more}{size(self.size)}"

    def html(self) -> Html:
        """The tree, the part of it that is worth a page; what is left out is counted where it would be."""
        rows = _plan(self._root)
        left_out = "" if self.complete else "There are more files; they were not looked at."
        return join(_list(self._root, unfold=0 if rows > _ALL_OPEN else _MAX_DEPTH), left_out and _left_out(left_out))


def _plan(root: _Directory) -> int:
    """Deal out the rows, level by level: what is near the root goes first."""
    rows = 0
    waiting = deque([(root, 0)])
    while waiting:
        directory, depth = waiting.popleft()
        children = len(directory.directories) + len(directory.leaves)
        directory.shown = 0 if depth > _MAX_DEPTH else min(children, _MAX_CHILDREN, _MAX_ROWS - rows)
        rows += directory.shown
        for child in islice(_sorted(directory), directory.shown):
            waiting.append((_walk(child)[1], depth + 1))
    return rows


def _sorted(directory: _Directory) -> Iterable["_Directory"]:
    return (child for _, child in sorted(directory.directories.items()))


def _walk(directory: _Directory) -> tuple[str, _Directory]:
    """Through directories that hold nothing but one directory: they share a row."""
    names = ""
    while (step := directory.step()) is not None:
        names, directory = f"{names}{step[0]}/", step[1]
    return names, directory


def _list(directory: _Directory, *, unfold: int) -> Html:
    rows = []
    files, count = directory.files, directory.size
    for name, child in islice(sorted(directory.directories.items()), directory.shown):
        rows.append(_directory(name, child, unfold=unfold))
        files, count = files - child.files, count - child.size
    for name, bytes_, kind in islice(sorted(directory.leaves), max(0, directory.shown - len(rows))):
        rows.append(tag("li", _row(name, size(bytes_), kind), class_="fx-leaf"))
        files, count = files - 1, count - bytes_
    if files:
        more = "more " if rows else ""
        rows.append(_left_out(f"{files:,} {more}{'file' if files == 1 else 'files'} not shown, {size(count)}"))
    return tag("ul", *rows, class_="fx-tree")


def _directory(name: str, directory: _Directory, *, unfold: int) -> Html:
    names, inner = _walk(directory)
    summary = tag("summary", _row(f"{name}/{names}", f"{plural(directory.files, 'file')}, {size(directory.size)}", ""))
    return tag("li", tag("details", summary, _list(inner, unfold=unfold - 1), open=unfold > 0))


def _row(name: str, right: str, kind: str) -> Html:
    label = join(" ", tag("span", kind, class_="fx-badge")) if kind else None
    return join(tag("bdi", name), label, " ", tag("span", right, class_="fx-side"))


def _left_out(what: str) -> Html:
    return tag("li", tag("span", what, class_="fx-note"), class_="fx-leaf")

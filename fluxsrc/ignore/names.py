"""`NameTable`: which of thousands of rules for one name has the last word, mostly by looking it up."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

import attrs

from fluxsrc.ignore.glob import Chunks

__all__ = ["NameIndex", "NameTable", "Probe", "chunks_match"]

Probe: TypeAlias = Callable[[str], int]
"""A name to the number of the last rule that matches it, -1 for none."""

_Lookup: TypeAlias = tuple[tuple[int, dict[str, int]], ...]
_Candidates: TypeAlias = tuple[tuple[int, Chunks], ...]


class NameTable:
    """Rules for the name of one file or directory. Later rules have higher numbers and the last word.

    Names, `*.suffix` and `prefix*` cost one look-up for each *length* in use, however many they are; `pre*fix` is
    tried only on names that begin, or end, with the right letter; what is left is asked of the probes.
    """

    __slots__ = (
        "_by_first",
        "_by_last",
        "_chunked",
        "_everything",
        "_floating",
        "_names",
        "_prefixes",
        "_probes",
        "_suffixes",
    )

    def __init__(self, globs: Iterable[tuple[int, Chunks]], probes: Iterable[Probe] = ()) -> None:
        self._everything = -1
        self._names: dict[str, int] = {}
        self._probes = tuple(probes)
        suffixes: dict[int, dict[str, int]] = {}
        prefixes: dict[int, dict[str, int]] = {}
        by_first: dict[str, list[tuple[int, Chunks]]] = {}
        by_last: dict[str, list[tuple[int, Chunks]]] = {}
        floating: list[tuple[int, Chunks]] = []
        for rule, chunks in sorted(globs):  # ascending: the last one written wins
            match chunks:
                case (name,):
                    self._names[name] = rule
                case ("", ""):
                    self._everything = rule
                case ("", suffix):
                    suffixes.setdefault(len(suffix), {})[suffix] = rule
                case (prefix, ""):
                    prefixes.setdefault(len(prefix), {})[prefix] = rule
                case (first, *_, last):
                    if first:
                        by_first.setdefault(first[0], []).append((rule, chunks))
                    elif last:
                        by_last.setdefault(last[-1], []).append((rule, chunks))
                    else:
                        floating.append((rule, chunks))
        self._suffixes: _Lookup = tuple(sorted(suffixes.items()))
        self._prefixes: _Lookup = tuple(sorted(prefixes.items()))
        self._by_first: dict[str, _Candidates] = {first: tuple(reversed(some)) for first, some in by_first.items()}
        self._by_last: dict[str, _Candidates] = {last: tuple(reversed(some)) for last, some in by_last.items()}
        self._floating: _Candidates = tuple(reversed(floating))
        self._chunked = bool(by_first or by_last or floating)

    def best(self, name: str) -> int:
        """The number of the last rule that matches the name, -1 for none."""
        best = self._names.get(name, -1)
        if self._everything > best:
            best = self._everything
        for length, table in self._suffixes:
            found = table.get(name[-length:], -1)
            if found > best:
                best = found
        for length, table in self._prefixes:
            found = table.get(name[:length], -1)
            if found > best:
                best = found
        if self._chunked:
            for candidates in (
                self._by_first.get(name[:1], ()),
                self._by_last.get(name[-1:], ()),
                self._floating,
            ):
                for rule, chunks in candidates:
                    if rule <= best:
                        break
                    if chunks_match(chunks, name):
                        best = rule
                        break
        for probe in self._probes:
            found = probe(name)
            if found > best:
                best = found
        return best


@attrs.frozen
class NameIndex:
    """The same rules twice: those that can match a file, and all of them, for directories."""

    files: NameTable
    dirs: NameTable


def chunks_match(chunks: Chunks, name: str) -> bool:
    """Does the name match these chunks with a star between each two? Leftmost finds suffice; nothing is tried twice."""
    first, *middle, last = chunks
    at, end = len(first), len(name) - len(last)
    if at > end or not name.startswith(first) or not name.endswith(last):
        return False
    for chunk in middle:
        at = name.find(chunk, at, end)
        if at < 0:
            return False
        at += len(chunk)
    return True

"""`name_probe`: which of thousands of rules for one name has the last word, mostly by looking it up."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from fluxsrc.ignore.glob import Chunks

__all__ = ["NO_RULE", "NameIndex", "Probe", "best_of", "chunks_match", "name_probe"]

NO_RULE: Final = -1

Probe: TypeAlias = Callable[[str], int]
"""A name to the number of the last rule that matches it, or NO_RULE. Later rules have higher numbers."""


class NameIndex(NamedTuple):
    """The same rules twice: those that can match a file, and all of them, for directories."""

    files: Probe
    dirs: Probe


def best_of(probes: Sequence[Probe], at_least: int = NO_RULE) -> Probe:
    """One probe for several; `at_least` is a rule that matches every name."""
    if at_least == NO_RULE and len(probes) == 1:
        return probes[0]

    def probe(name: str) -> int:
        best = at_least
        for some in probes:
            found = some(name)
            if found > best:  # noqa: PLR1730 - max() is a call, and this runs for every path
                best = found
        return best

    return probe


def name_probe(globs: Iterable[tuple[int, Chunks]], others: Sequence[Probe] = ()) -> Probe:
    """A probe for globs of literals and stars, and whatever other probes there are.

    A plain name is one look-up. The globs with stars are sorted by the letter a name must begin or end with, so that a
    name meets only those that stand a chance; among them, `prefix*` and `*.suffix` are one look-up for each length in use.
    """
    names, everything, starred = _sorted_out(globs)
    lasts = _by_letter([(rule, chunks) for rule, chunks in starred if chunks[-1]], lambda chunks: chunks[-1][-1])
    open_ended = [(rule, chunks) for rule, chunks in starred if not chunks[-1]]
    firsts = _by_letter([(rule, chunks) for rule, chunks in open_ended if chunks[0]], lambda chunks: chunks[0][0])
    rest = (*_starred([(rule, chunks) for rule, chunks in open_ended if not chunks[0]]), *others)

    def by_name_and_end(name: str) -> int:
        best = names.get(name, everything)
        some = lasts.get(name[-1:])
        if some is None or (found := some(name)) < best:
            return best
        return found

    if not firsts and not rest:
        return by_name_and_end  # most ignore files are like this

    def probe(name: str) -> int:
        best = by_name_and_end(name)
        some = firsts.get(name[:1])
        if some is not None and (found := some(name)) > best:
            best = found
        for some in rest:
            if (found := some(name)) > best:
                best = found
        return best

    return probe


def _sorted_out(globs: Iterable[tuple[int, Chunks]]) -> tuple[dict[str, int], int, list[tuple[int, Chunks]]]:
    """The plain names, the rule that matches every name, and the rest."""
    names: dict[str, int] = {}
    everything = NO_RULE
    starred: list[tuple[int, Chunks]] = []
    for rule, chunks in sorted(globs):  # ascending: the last one written wins
        if len(chunks) == 1:
            names[chunks[0]] = rule
        elif chunks == ("", ""):
            everything = rule
            names.clear()
        else:
            starred.append((rule, chunks))
    return names, everything, starred


def _by_letter(globs: Sequence[tuple[int, Chunks]], letter: Callable[[Chunks], str]) -> dict[str, Probe]:
    """A probe for each letter that these globs ask for."""
    sorted_out: dict[str, list[tuple[int, Chunks]]] = {}
    for rule, chunks in globs:
        sorted_out.setdefault(letter(chunks), []).append((rule, chunks))
    return {some: best_of(_starred(found)) for some, found in sorted_out.items()}


def _starred(globs: Iterable[tuple[int, Chunks]]) -> list[Probe]:
    """Probes for globs with at least one star."""
    suffixes: dict[int, dict[str, int]] = {}
    prefixes: dict[int, dict[str, int]] = {}
    mixed: list[tuple[int, Chunks]] = []
    for rule, chunks in globs:
        match chunks:
            case ("", suffix):
                suffixes.setdefault(len(suffix), {})[suffix] = rule
            case (prefix, ""):
                prefixes.setdefault(len(prefix), {})[prefix] = rule
            case _:
                mixed.append((rule, chunks))
    mixed.reverse()

    def by_suffix(name: str) -> int:
        return max([table.get(name[-length:], NO_RULE) for length, table in suffixes.items()])

    def by_prefix(name: str) -> int:
        return max([table.get(name[:length], NO_RULE) for length, table in prefixes.items()])

    def by_trying(name: str) -> int:
        return next((rule for rule, chunks in mixed if chunks_match(chunks, name)), NO_RULE)

    kinds = ((suffixes, by_suffix), (prefixes, by_prefix), (mixed, by_trying))
    return [probe for some, probe in kinds if some]


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

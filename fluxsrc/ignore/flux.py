"""Flux's reading of a pattern (its `gitignore` package on Go's `filepath.Match`), and rules for paths in its dialect."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

import attrs

from fluxsrc.ignore.glob import Wild, as_lookups
from fluxsrc.ignore.names import NameIndex, NameTable, Probe
from fluxsrc.ignore.parsing import Rule

__all__ = ["FluxPaths", "GoGlob", "Part", "flux_names", "parse_glob", "parse_parts"]

_RUNE_ERROR: Final = 0xFFFD
_ASCII: Final = 0x80
_MAX_MEMBERS: Final = 16
_MAX_CACHED: Final = 64


@attrs.frozen
class _AnyRune:
    """`?`: one rune, or one byte that is not part of any."""

    def matches(self, rune: int) -> bool:  # noqa: ARG002
        return True


@attrs.frozen
class _RuneSet:
    """`[a-z]`, `[^a-z]`: one rune in, or outside, these ranges."""

    negated: bool
    ranges: tuple[tuple[int, int], ...]

    def matches(self, rune: int) -> bool:
        return any(low <= rune <= high for low, high in self.ranges) is not self.negated


GoItem: TypeAlias = "str | frozenset[str] | Wild | _AnyRune | _RuneSet"


def parse_glob(pattern: str) -> list[GoItem] | None:
    """The items of a pattern of `filepath.Match`, or None where Go says it is bad.

    Args:
        pattern: Byte text.
    """
    items: list[GoItem] = []
    at, end = 0, len(pattern)
    while at < end:
        byte = pattern[at]
        at += 1
        if byte == "\\":
            if at == end:
                return None
            items.append(pattern[at])
            at += 1
        elif byte == "*":
            if not items or items[-1] is not Wild.STAR:
                items.append(Wild.STAR)
        elif byte == "?":
            items.append(_AnyRune())
        elif byte == "[":
            parsed = _parse_set(pattern, at)
            if parsed is None:
                return None
            found, at = parsed
            items.append(found)
        else:
            items.append(byte)
    return items


def _parse_set(pattern: str, at: int) -> "tuple[frozenset[str] | _RuneSet, int] | None":
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[tuple[int, int]] = []
    while not (ranges and pattern.startswith("]", at)):
        low = _escaped(pattern, at)
        if low is None:
            return None
        first, at = low
        last = first
        if pattern.startswith("-", at):
            high = _escaped(pattern, at + 1)
            if high is None:
                return None
            last, at = high
        ranges.append((first, last))
    if not negated and all(last < _ASCII for _, last in ranges):
        members = frozenset(chr(rune) for first, last in ranges for rune in range(first, last + 1))
        if 0 < len(members) <= _MAX_MEMBERS:
            return members, at + 1
    return _RuneSet(negated, tuple(ranges)), at + 1


def _escaped(pattern: str, at: int) -> tuple[int, int] | None:
    """One rune of a set, perhaps escaped, and where the next thing is: Go wants there to be one."""
    if pattern[at : at + 1] in ("", "-", "]"):
        return None
    if pattern[at] == "\\":
        at += 1
        if at == len(pattern):
            return None
    rune, width = _rune(pattern, at)
    at += width
    if (rune == _RUNE_ERROR and width == 1) or at == len(pattern):
        return None
    return rune, at


def _rune(text: str, at: int) -> tuple[int, int]:
    """Go's `utf8.DecodeRune` on byte text: the rune and its width; a byte that begins none is U+FFFD of width 1."""
    lead = ord(text[at])
    if lead < _ASCII:
        return lead, 1
    width = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4  # noqa: PLR2004 - the lead bytes of UTF-8
    try:
        return ord(text[at : at + width].encode("latin-1").decode("utf-8")), width
    except (UnicodeDecodeError, TypeError):
        return _RUNE_ERROR, 1


class GoGlob:
    """`filepath.Match` for one name, step by step as Go does it.

    Not only the set of matching names counts. Go tries a star byte by byte, so what follows it may begin in the middle
    of a rune: `*[^é]` matches `é`. It takes the first place where the items up to the next star fit, and never a later one.
    """

    __slots__ = ("_chunks", "first", "last")

    def __init__(self, items: Sequence[GoItem]) -> None:
        self._chunks: list[tuple[bool, list[GoItem]]] = [(False, [])]
        for item in items:
            if item is Wild.STAR:
                self._chunks.append((True, []))
            else:
                self._chunks[-1][1].append(item)
        self.first = items[0] if isinstance(items[0], str) else ""
        self.last = items[-1] if isinstance(items[-1], str) else ""

    def matches(self, name: str) -> bool:
        """Does the whole name match? At most items times bytes steps."""
        if not name.startswith(self.first) or not name.endswith(self.last):
            return False
        at = 0
        final = len(self._chunks) - 1
        for number, (starred, chunk) in enumerate(self._chunks):
            if starred and not chunk and number == final:
                return True
            for begin in range(at, len(name) + 1) if starred else (at,):
                after = _fit(chunk, name, begin)
                if after >= 0 and (number < final or after == len(name)):
                    at = after
                    break
            else:
                return False
        return True


def _fit(chunk: Sequence[GoItem], name: str, at: int) -> int:
    """Where the name goes on behind the chunk, or -1."""
    end = len(name)
    for item in chunk:
        if at == end:
            return -1
        if isinstance(item, str):
            if name[at] != item:
                return -1
            at += 1
        elif isinstance(item, frozenset):
            if name[at] not in item:
                return -1
            at += 1
        elif isinstance(item, (_AnyRune, _RuneSet)):
            rune, width = _rune(name, at)
            if not item.matches(rune):
                return -1
            at += width
    return at


@attrs.frozen
class Part:
    """One step of a path rule: a glob for the next component, or for the next one that matches."""

    glob: tuple[GoItem, ...]
    anywhere: bool


def parse_parts(pattern: str) -> tuple[Part, ...] | None:
    """The steps of a pattern with a slash; None where Flux never matches it."""
    parts: list[Part] = []
    components = pattern.split("/")
    anywhere = False
    for at, component in enumerate(components):
        if not component:
            anywhere = False
        elif component == "**":
            anywhere = True
        elif "**" in component or (glob := parse_glob(component)) is None:
            return None
        else:
            parts.append(Part(tuple(glob), anywhere))
            anywhere = False
    return tuple(parts) or None


def flux_names(rules: Sequence[tuple[int, Rule, Sequence[GoItem]]]) -> NameIndex | None:
    """The rules for one name each, ready to be asked."""
    if not rules:
        return None

    def table(wanted: Callable[[Rule], bool]) -> NameTable:
        return _table((number, items) for number, rule, items in rules if wanted(rule))

    return NameIndex(files=table(lambda rule: not rule.dir_only), dirs=table(lambda _: True))


def _table(rules: Iterable[tuple[int, Sequence[GoItem]]]) -> NameTable:
    globs, run = [], []
    for number, items in rules:
        lookups = as_lookups(items)
        if lookups is None:
            run.append((number, GoGlob(items)))
        else:
            globs += [(number, chunks) for chunks in lookups]
    return NameTable(globs, [_probe(run)] if run else ())


def _probe(globs: list[tuple[int, GoGlob]]) -> Probe:
    globs.reverse()

    def probe(name: str) -> int:
        return next((number for number, glob in globs if glob.matches(name)), -1)

    return probe


_State: TypeAlias = tuple[tuple[int, int], ...]


class FluxPaths:
    """Rules that look at paths. The state of a directory: which rules are still alive there, and at which of their parts.

    Flux never goes back: `**/a/b` is decided by the first `a` on the way. So each rule is at one part only, and a rule whose
    parts have all matched decides everything below.
    """

    def __init__(self, rules: Sequence[tuple[int, Rule, tuple[Part, ...]]]) -> None:
        self._rules = rules
        self._tables = [[_table([(0, part.glob)]).best for part in parts] for _, _, parts in rules]
        self._indexes: dict[_State, NameIndex | None] = {}
        self.start: _State = tuple((at, 0) for at in range(len(rules)))
        self.state_bytes = 80 * len(rules)

    def enter(self, state: _State, name: str) -> _State:
        """The state of the sub-directory of this name."""
        alive = []
        for at, number in state:
            parts = self._rules[at][2]
            if self._tables[at][number](name) >= 0:
                if number + 1 < len(parts):
                    alive.append((at, number + 1))
            elif parts[number].anywhere:
                alive.append((at, number))
        return tuple(alive)

    def names(self, state: _State) -> NameIndex | None:
        """The rules whose last part is next, for the names in a directory of this state."""
        ahead = tuple((at, number) for at, number in state if number + 1 == len(self._rules[at][2]))
        if not ahead:
            return None
        try:
            return self._indexes[ahead]
        except KeyError:
            if len(self._indexes) >= _MAX_CACHED:
                self._indexes.clear()
            index = flux_names([(*self._rules[at][:2], self._rules[at][2][number].glob) for at, number in ahead])
            self._indexes[ahead] = index
            return index

    def reincludes(self, state: _State) -> int:
        """The number of the last rule that may keep something below, -1 for none."""
        return max((self._rules[at][0] for at, _ in state if self._rules[at][1].negated), default=-1)

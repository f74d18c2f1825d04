"""Flux's reading of a pattern (its `gitignore` package on Go's `filepath.Match`), and rules for paths in its dialect."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

import attrs

from fluxsrc.ignore.automaton import sieve
from fluxsrc.ignore.glob import Chunks, Item, Wild, as_lookups
from fluxsrc.ignore.names import NO_RULE, NameIndex, Probe, name_probe
from fluxsrc.ignore.parsing import Rule

__all__ = ["FluxPaths", "GoGlob", "Part", "flux_names", "parse_glob", "parse_parts"]

_RUNE_ERROR: Final = 0xFFFD
_ASCII: Final = 0x80
_MAX_MEMBERS: Final = 16
_MAX_CACHED: Final = 64
_FEW: Final = 8
"""Globs that are better tried one by one."""


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

    __slots__ = ("_chunks", "_needed", "first", "last")

    def __init__(self, items: Sequence[GoItem]) -> None:
        self._chunks: list[tuple[bool, list[GoItem]]] = [(False, [])]
        for item in items:
            if item is Wild.STAR:
                self._chunks.append((True, []))
            else:
                self._chunks[-1][1].append(item)
        self.first = items[0] if isinstance(items[0], str) else ""
        self.last = items[-1] if isinstance(items[-1], str) else ""
        runs = "".join(item if isinstance(item, str) else "/" for item in items).split("/")
        self._needed = max(runs, key=len)  # no literal of a name is a slash

    def matches(self, name: str) -> bool:
        """Does the whole name match? At most items times bytes steps."""
        if self._needed not in name or not name.startswith(self.first) or not name.endswith(self.last):
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
    for component in components:
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

    def probe(wanted: Callable[[Rule], bool]) -> Probe:
        return _name_probe((number, items) for number, rule, items in rules if wanted(rule))

    return NameIndex(files=probe(lambda rule: not rule.dir_only), dirs=probe(lambda _: True))


def _name_probe(rules: Iterable[tuple[int, Sequence[GoItem]]]) -> Probe:
    globs: list[tuple[int, Chunks]] = []
    run: list[tuple[int, Sequence[GoItem]]] = []
    for number, items in rules:
        lookups = as_lookups(items)
        if lookups is None:
            run.append((number, items))
        else:
            globs += [(number, chunks) for chunks in lookups]
    if not run:
        return name_probe(globs)
    trying = _trying([(number, GoGlob(items)) for number, items in run])
    if len(run) <= _FEW:
        return name_probe(globs, [trying])
    # Where each rune is a byte, Go's steps and the plain meaning of the glob come to the same, so all can run at once.
    together = sieve([(number, [_ascii(item) for item in items]) for number, items in run])
    return name_probe(globs, [lambda name: together(name) if name.isascii() else trying(name)])


def _ascii(item: GoItem) -> Item:
    if isinstance(item, (_AnyRune, _RuneSet)):
        return frozenset(chr(rune) for rune in range(_ASCII) if item.matches(rune))
    return item


def _trying(globs: list[tuple[int, GoGlob]]) -> Probe:
    """Try only the globs that could begin, or end, with the name's own letter."""
    by_first: dict[str, list[tuple[int, GoGlob]]] = {}
    by_last: dict[str, list[tuple[int, GoGlob]]] = {}
    for number, glob in reversed(globs):
        where, key = (by_first, glob.first) if glob.first else (by_last, glob.last)
        where.setdefault(key, []).append((number, glob))

    def probe(name: str) -> int:
        best = NO_RULE
        for candidates in (by_first.get(name[:1]), by_last.get(name[-1:]), by_last.get("")):
            for number, glob in candidates or ():
                if number <= best:
                    break
                if glob.matches(name):
                    best = number
                    break
        return best

    return probe


def _literal(glob: Sequence[GoItem]) -> str | None:
    return "".join(str(item) for item in glob) if all(isinstance(item, str) for item in glob) else None


@attrs.frozen(eq=False)
class _Place:
    """One part of one path rule, waiting for a component."""

    rule: int
    part: int
    literal: str | None
    probe: Probe
    anywhere: bool
    is_last: bool


_State: TypeAlias = tuple[_Place, ...]


class FluxPaths:
    """Rules that look at paths. The state of a directory: which rules are still alive there, and at which of their parts.

    Flux never goes back: `**/a/b` is decided by the first `a` on the way. So each rule is at one part only, and a rule whose
    parts have all matched decides everything below.
    """

    def __init__(self, rules: Sequence[tuple[int, Rule, tuple[Part, ...]]]) -> None:
        self._rules = rules
        # Each place in a rule is one object, made once: the literal it waits for, or else the question to ask.
        self._places = [
            [
                _Place(
                    number, at, _literal(part.glob), _name_probe([(0, part.glob)]), part.anywhere, at + 1 == len(parts)
                )
                for at, part in enumerate(parts)
            ]
            for number, (_, _, parts) in enumerate(rules)
        ]
        self._indexes: dict[_State, NameIndex | None] = {}
        self.start: _State = tuple(places[0] for places in self._places)

    def enter(self, state: _State, name: str) -> _State:
        """The state of the sub-directory of this name."""
        alive = []
        for place in state:
            if name == place.literal or (place.literal is None and place.probe(name) >= 0):
                if not place.is_last:
                    alive.append(self._places[place.rule][place.part + 1])
            elif place.anywhere:
                alive.append(place)
        return tuple(alive)

    def names(self, state: _State) -> NameIndex | None:
        """The rules whose last part is next, for the names in a directory of this state."""
        ahead = tuple(place for place in state if place.is_last)
        if not ahead:
            return None
        try:
            return self._indexes[ahead]
        except KeyError:
            if len(self._indexes) >= _MAX_CACHED:
                self._indexes.clear()
            waiting = [self._rules[place.rule] for place in ahead]
            index = flux_names([(number, rule, parts[-1].glob) for number, rule, parts in waiting])
            self._indexes[ahead] = index
            return index

    def reincludes(self, state: _State) -> int:
        """The number of the last rule that may keep something below, -1 for none."""
        waiting = [self._rules[place.rule] for place in state]
        return max((number for number, rule, _ in waiting if rule.negated), default=NO_RULE)

    def size(self, state: _State) -> int:
        """About how many bytes the state takes."""
        return 8 * len(state)

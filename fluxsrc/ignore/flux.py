"""Rules for names and for paths in Flux's dialect, compiled."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

import attrs

from fluxsrc.ignore.automaton import sieve
from fluxsrc.ignore.glob import Chunks, Item, as_lookups
from fluxsrc.ignore.gomatch import AnyRune, GoGlob, GoItem, RuneSet, parse_glob
from fluxsrc.ignore.names import NO_RULE, NameIndex, Probe, name_probe
from fluxsrc.ignore.parsing import Rule

__all__ = ["FluxPaths", "Part", "flux_names", "parse_parts"]

_MAX_CACHED: Final = 64
_FEW: Final = 8
"""Globs that are better tried one by one."""


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
    if isinstance(item, (AnyRune, RuneSet)):
        return frozenset(chr(rune) for rune in range(0x80) if item.matches(rune))
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

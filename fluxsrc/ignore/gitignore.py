"""Rules for names and for paths in git's dialect, compiled."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from fluxsrc.ignore.automaton import Automaton, bits, sieve
from fluxsrc.ignore.glob import Chunks, Item, Wild, as_lookups
from fluxsrc.ignore.names import NO_RULE, NameIndex, Probe, name_probe
from fluxsrc.ignore.parsing import Rule

__all__ = ["GitPaths", "git_names"]

_MAX_CACHED: Final = 64


def git_names(rules: Sequence[tuple[int, Rule, list[Item]]]) -> NameIndex | None:
    """The rules that look at names only, ready to be asked.

    Args:
        rules: Number, rule and items of each, ascending.
    """
    if not rules:
        return None
    run = [(number, rule, items) for number, rule, items in rules if as_lookups(items) is None]

    def probe(wanted: Callable[[Rule], bool]) -> Probe:
        globs = [(n, chunks) for n, rule, items in rules if wanted(rule) for chunks in as_lookups(items) or ()]
        chosen = [(number, items) for number, rule, items in run if wanted(rule)]
        return name_probe(globs, [sieve(chosen)] if chosen else ())

    return NameIndex(files=probe(lambda rule: not rule.dir_only), dirs=probe(lambda _: True))


def _from_state(automaton: Automaton, state: int, ends: dict[int, int]) -> Probe:
    """Let the automaton go on from a state; `ends` maps its accepting bits to the numbers of rules."""
    accepting = bits(ends, automaton.width)

    def probe(name: str) -> int:
        reached = automaton.advance(state, name) & accepting
        return ends[reached.bit_length() - 1] if reached else NO_RULE

    return probe


class GitPaths:
    """Rules that look at paths. The state of a directory is what its path, and the slash behind it, have matched so far."""

    def __init__(self, rules: Sequence[tuple[int, Rule, list[Item]]]) -> None:
        self._rules = rules
        self._automaton = automaton = Automaton(items for _, _, items in rules)
        self._lookups = [as_lookups(_last_part(items)) for _, _, items in rules]
        self._lasts = {bit: at for at, bit in enumerate(automaton.lasts)}
        self._indexes: dict[int, NameIndex | None] = {}
        self.start = automaton.begin(range(len(rules)))

    def enter(self, state: int, name: str) -> int:
        """The state of the sub-directory of this name."""
        return self._automaton.advance(state, name + "/")

    def names(self, state: int) -> NameIndex | None:
        """What is left of the rules for the names in a directory of this state."""
        ahead = state & self._automaton.ahead
        if not ahead:
            return None
        try:
            return self._indexes[ahead]
        except KeyError:
            if len(self._indexes) >= _MAX_CACHED:
                self._indexes.clear()
            self._indexes[ahead] = index = self._index(ahead)
            return index

    def _index(self, ahead: int) -> NameIndex:
        """A rule whose last part is just ahead is looked up; one that is further, or not that simple, is run."""
        simple = [at for bit in _set_bits(ahead) if (at := self._lasts.get(bit)) is not None and self._lookups[at]]
        begin = ahead & ~bits([self._automaton.lasts[at] for at in simple], self._automaton.width)

        def probe(wanted: Callable[[Rule], bool]) -> Probe:
            globs: list[tuple[int, Chunks]] = []
            for at in simple:
                number, rule, _ = self._rules[at]
                if wanted(rule):
                    globs += [(number, chunks) for chunks in self._lookups[at] or ()]
            if not begin:
                return name_probe(globs)
            accepts = self._automaton.accepts
            ends = {accepts[at]: number for at, (number, rule, _) in enumerate(self._rules) if wanted(rule)}
            return name_probe(globs, [_from_state(self._automaton, begin, ends)])

        return NameIndex(files=probe(lambda rule: not rule.dir_only), dirs=probe(lambda _: True))

    def reincludes(self, state: int) -> int:  # noqa: ARG002
        """Nothing below an excluded directory comes back in git."""
        return NO_RULE

    def size(self, state: int) -> int:
        """About how many bytes the state takes."""
        return state.bit_length() >> 3


def _last_part(items: Sequence[Item]) -> Sequence[Item]:
    for at in range(len(items) - 1, -1, -1):
        if items[at] in ("/", Wild.DIRS):
            return items[at + 1 :]
    return items


def _set_bits(state: int) -> Iterator[int]:
    """The numbers of the set bits, in linear time."""
    for at, byte in enumerate(state.to_bytes(state.bit_length() // 8 + 1, "little")):
        while byte:
            low = byte & -byte
            yield at * 8 + low.bit_length() - 1
            byte ^= low  # noqa: PLW2901

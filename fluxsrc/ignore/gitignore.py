"""Git's reading of a pattern (`dir.c`, `wildmatch.c`), quirks included, and rules for paths in git's dialect."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from fluxsrc.ignore.automaton import Automaton, bits
from fluxsrc.ignore.glob import Chunks, Item, Wild, as_lookups
from fluxsrc.ignore.names import NameIndex, NameTable, Probe
from fluxsrc.ignore.parsing import Rule

__all__ = ["GitPaths", "git_names", "parse_pattern", "parse_wildmatch"]

_SPECIAL: Final = frozenset("*?[\\")
_ANY: Final = frozenset(map(chr, range(256))) - {"/"}
_MAX_CACHED: Final = 64

_ALPHA: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGIT: Final = frozenset("0123456789")
_GRAPH: Final = frozenset(map(chr, range(0x21, 0x7F)))
_CLASSES: Final = {
    "alnum": _ALPHA | _DIGIT,
    "alpha": _ALPHA,
    "blank": frozenset(" \t"),
    "cntrl": frozenset(map(chr, range(0x20))) | {"\x7f"},
    "digit": _DIGIT,
    "graph": _GRAPH,
    "lower": frozenset("abcdefghijklmnopqrstuvwxyz"),
    "print": _GRAPH | {" "},
    "punct": _GRAPH - _ALPHA - _DIGIT,
    "space": frozenset(" \t\n\r"),  # git's own ctype: no vertical tab, no form feed
    "upper": frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    "xdigit": frozenset("0123456789abcdefABCDEF"),
}


def parse_pattern(pattern: str) -> tuple[bool, list[Item] | None]:
    """Does this pattern look at names only, and what is it made of? None: git never matches it.

    Args:
        pattern: Byte text without a leading `!` and without its one trailing slash.
    """
    if "/" not in pattern:
        return True, parse_wildmatch(pattern, pathname=False) if pattern else None
    pattern = pattern.removeprefix("/")
    # Git compares what is in front of the first special character itself and hands only the rest to wildmatch, for which
    # that rest is a whole pattern. Hence `a**/b` is `a`, then `**/b`: it matches `ab`.
    plain = next((at for at, byte in enumerate(pattern) if byte in _SPECIAL), len(pattern))
    rest = parse_wildmatch(pattern[plain:], pathname=True)
    if rest is None or not pattern:
        return False, None
    items: list[Item] = [*pattern[:plain], *rest]
    if items[0] is Wild.DIRS and "/" not in items[1:] and Wild.DIRS not in items[1:]:
        return True, items[1:] or None  # `**/name` is `name`
    return False, items


def parse_wildmatch(pattern: str, *, pathname: bool) -> list[Item] | None:
    """The items of a pattern in wildmatch's syntax, or None where it can never match."""
    items: list[Item] = []
    at, end = 0, len(pattern)
    while at < end:
        byte = pattern[at]
        at += 1
        if byte == "\\":
            if at == end:
                return None
            items.append(pattern[at])
            at += 1
        elif byte == "?":
            items.append(_ANY)
        elif byte == "*":
            before = at - 2
            while at < end and pattern[at] == "*":
                at += 1
            is_component = (
                pathname
                and at - before > 2  # noqa: PLR2004 - two stars and more
                and (before < 0 or pattern[before] == "/")
                and (at == end or pattern[at] == "/" or pattern.startswith("\\/", at))
            )
            if not is_component:
                items.append(Wild.STAR)
            elif at < end and pattern[at] == "/":
                at += 1
                if not items or items[-1] is not Wild.DIRS:  # `**/**/` is `**/`
                    items.append(Wild.DIRS)
            else:
                items.append(Wild.DEEP)
        elif byte == "[":
            parsed = _parse_set(pattern, at)
            if parsed is None:
                return None
            members, at = parsed
            items.append(members)
        else:
            items.append(byte)
    return items


def _parse_set(pattern: str, at: int) -> tuple[frozenset[str], int] | None:
    """The members of a bracket expression whose `[` is just before `at`, and where it ends."""
    end = len(pattern)
    negated = pattern[at : at + 1] in ("!", "^") and at < end
    if negated:
        at += 1
    members: set[str] = set()
    previous = ""  # what a range could begin with
    first = True
    while True:
        if at >= end:
            return None
        byte = pattern[at]
        if byte == "]" and not first:
            break
        first = False
        if byte == "\\":
            at += 1
            if at >= end:
                return None
            previous = pattern[at]
            members.add(previous)
        elif byte == "-" and previous and pattern[at + 1 : at + 2] not in ("", "]"):
            at += 1
            if pattern[at] == "\\":
                at += 1
                if at >= end:
                    return None
            members.update(map(chr, range(ord(previous), ord(pattern[at]) + 1)))
            previous = ""
        elif pattern.startswith("[:", at):
            close = pattern.find("]", at + 2)
            if close < 0:
                return None
            if close == at + 2 or pattern[close - 1] != ":":
                members.add("[")  # not a class after all; go on behind the bracket
                previous = "["
            else:
                named = _CLASSES.get(pattern[at + 2 : close - 1])
                if named is None:
                    return None
                members |= named
                previous = ""
                at = close
        else:
            previous = byte
            members.add(byte)
        at += 1
    found = (_ANY - members) if negated else (frozenset(members) - {"/"})
    return found, at + 1


def git_names(rules: Sequence[tuple[int, Rule, list[Item]]]) -> NameIndex | None:
    """The rules that look at names only, ready to be asked.

    Args:
        rules: Number, rule and items of each, ascending.
    """
    if not rules:
        return None
    run = [(number, rule, items) for number, rule, items in rules if as_lookups(items) is None]
    automaton = Automaton(items for _, _, items in run) if run else None

    def table(wanted: Callable[[Rule], bool]) -> NameTable:
        globs = [(n, chunks) for n, rule, items in rules if wanted(rule) for chunks in as_lookups(items) or ()]
        chosen = [at for at, (_, rule, _) in enumerate(run) if wanted(rule)]
        if automaton is None or not chosen:
            return NameTable(globs)
        ends = {automaton.accepts[at]: run[at][0] for at in chosen}
        return NameTable(globs, [_probe(automaton, automaton.begin(chosen), ends)])

    return NameIndex(files=table(lambda rule: not rule.dir_only), dirs=table(lambda _: True))


def _probe(automaton: Automaton, start: int, ends: dict[int, int]) -> Probe:
    """Run the automaton over a name; `ends` maps its accepting bits to the numbers of rules."""
    accepting = bits(ends, automaton.width)

    def probe(name: str) -> int:
        reached = automaton.advance(start, name) & accepting
        return ends[reached.bit_length() - 1] if reached else -1

    return probe


class GitPaths:
    """Rules that look at paths. The state of a directory is what its path, and the slash behind it, have matched so far."""

    def __init__(self, rules: Sequence[tuple[int, Rule, list[Item]]]) -> None:
        self._rules = rules
        self._automaton = automaton = Automaton(items for _, _, items in rules)
        self._lookups = [as_lookups(_last_part(items)) for _, _, items in rules]
        self._lasts = {bit: at for at, bit in enumerate(automaton.lasts)}
        self._last_bits = bits(_ranges(automaton.lasts, automaton.accepts), automaton.width)
        self._indexes: dict[int, NameIndex | None] = {}
        self.start = automaton.begin(range(len(rules)))
        self.state_bytes = automaton.width // 8

    def enter(self, state: int, name: str) -> int:
        """The state of the sub-directory of this name."""
        return self._automaton.advance(state, name + "/")

    def names(self, state: int) -> NameIndex | None:
        """What is left of the rules for the names in a directory of this state."""
        ahead = state & self._last_bits
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

        def table(wanted: Callable[[Rule], bool]) -> NameTable:
            globs: list[tuple[int, Chunks]] = []
            for at in simple:
                number, rule, _ = self._rules[at]
                if wanted(rule):
                    globs += [(number, chunks) for chunks in self._lookups[at] or ()]
            if not begin:
                return NameTable(globs)
            accepts = self._automaton.accepts
            ends = {accepts[at]: number for at, (number, rule, _) in enumerate(self._rules) if wanted(rule)}
            return NameTable(globs, [_probe(self._automaton, begin, ends)])

        return NameIndex(files=table(lambda rule: not rule.dir_only), dirs=table(lambda _: True))

    def reincludes(self, state: int) -> int:  # noqa: ARG002
        """Nothing below an excluded directory comes back in git."""
        return -1


def _last_part(items: Sequence[Item]) -> Sequence[Item]:
    for at in range(len(items) - 1, -1, -1):
        if items[at] in ("/", Wild.DIRS):
            return items[at + 1 :]
    return items


def _ranges(firsts: Iterable[int], lasts: Iterable[int]) -> Iterator[int]:
    for first, last in zip(firsts, lasts, strict=True):
        yield from range(first, last + 1)


def _set_bits(state: int) -> Iterator[int]:
    """The numbers of the set bits, in linear time."""
    for at, byte in enumerate(state.to_bytes(state.bit_length() // 8 + 1, "little")):
        while byte:
            low = byte & -byte
            yield at * 8 + low.bit_length() - 1
            byte ^= low  # noqa: PLW2901

"""`Automaton`: thousands of globs at once over one text, in a number of steps that no pattern can raise.

A glob with several stars invites backtracking, and backtracking invites patterns that never end. This machine reads
each byte of the text once. Its state is the set of all positions, in all patterns, that the text so far can have reached:
one bit for each position, in one Python integer. One byte of text is a handful of operations on that integer, whatever
the patterns are.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from fluxsrc.ignore.glob import Item, Wild
from fluxsrc.ignore.names import NO_RULE, Probe

__all__ = ["Automaton", "bits", "sieve"]

_SLASH: Final = "/"


class Automaton:
    """A set of patterns, numbered by their order; later ones have higher bits, so the last word is the highest bit.

    Attributes:
        starts: For each pattern, its first bit.
        accepts: For each pattern, the bit that is set when all of it has matched.
        lasts: For each pattern, the bit where the part behind its last slash begins.
        ahead: All bits from which a text without a slash may complete a pattern.
        width: The number of bits.
    """

    def __init__(self, patterns: Iterable[Sequence[Item]]) -> None:
        self.starts: list[int] = []
        self.accepts: list[int] = []
        self.lasts: list[int] = []
        deep: list[int] = []
        shallow: list[int] = []
        skip: list[int] = []
        ahead: list[int] = []
        literals: dict[str, list[int]] = {}
        sets: dict[frozenset[str], list[int]] = {}
        bit = 0
        for items in patterns:
            self.starts.append(bit)
            self.lasts.append(bit)
            reachable = bit
            for item in items:
                if item is Wild.STAR:
                    shallow.append(bit)
                    continue
                if item is Wild.DEEP:
                    deep.append(bit)
                    continue
                if item is Wild.DIRS:
                    deep.append(bit)
                    skip.append(bit)
                    literals.setdefault(_SLASH, []).append(bit)
                elif isinstance(item, str):
                    literals.setdefault(item, []).append(bit)
                else:
                    sets.setdefault(item, []).append(bit)
                bit += 1
                if item in (_SLASH, Wild.DIRS):
                    self.lasts[-1] = bit
                    # A text without a slash can pass `**/` only by skipping it: what is in front stays within reach.
                    reachable = bit if item == _SLASH else reachable
            ahead.extend(range(reachable, bit + 1))
            self.accepts.append(bit)
            bit += 1
        self.width = bit
        self._steps = _Steps(literals, sets, bit)
        self._stay_at_slash = bits(deep, bit)
        self._stay = self._stay_at_slash | bits(shallow, bit)
        self._skip = bits(skip, bit)
        self.ahead = bits(ahead, bit) & ~self._skip

    def begin(self, patterns: Iterable[int]) -> int:
        """The state in which none of the text has been read, for these patterns only."""
        state = bits([self.starts[number] for number in patterns], self.width)
        return state | (state & self._skip) << 1

    def advance(self, state: int, text: str) -> int:
        """The state after this text. `len(text)` steps at most; fewer once no pattern can match any more."""
        steps, skip = self._steps, self._skip
        for byte in text:
            stay = self._stay_at_slash if byte == _SLASH else self._stay
            arrived = (state & steps[byte]) << 1
            # Only on arrival may `**/` match nothing: `a/**/b` is not `a/xb`. One skip is enough, as runs of `**/` are
            # one item, so no skip leads to another.
            state = arrived | (arrived & skip) << 1 | state & stay
            if not state:
                break
        return state


class _Steps(dict[str, int]):
    """For each byte, the bits of the positions that accept it; made when the byte is first seen."""

    def __init__(self, literals: dict[str, list[int]], sets: dict[frozenset[str], list[int]], width: int) -> None:
        super().__init__()
        self._literals = literals
        self._sets = sets
        self._width = width

    def __missing__(self, byte: str) -> int:
        positions = list(self._literals.get(byte, ()))
        for members, where in self._sets.items():
            if byte in members:
                positions += where
        self[byte] = step = bits(positions, self._width)
        return step


def bits(positions: Iterable[int], width: int) -> int:
    """The integer with these bits set, in linear time."""
    buffer = bytearray(width // 8 + 1)
    for position in positions:
        buffer[position >> 3] |= 1 << (position & 7)
    return int.from_bytes(buffer, "little")


def sieve(rules: Sequence[tuple[int, Sequence[Item]]]) -> Probe:
    """A probe that runs those patterns only that a name with these first and last letters could match.

    Args:
        rules: Number and items of each, ascending.
    """
    automaton = Automaton(items for _, items in rules)
    by_first: dict[str, list[int]] = {}
    by_last: dict[str, list[int]] = {}
    for at, (_, items) in enumerate(rules):
        where, end = (by_last, items[-1]) if isinstance(items[-1], str) else (by_first, items[0])
        where.setdefault(end if isinstance(end, str) else "", []).append(at)
    always = automaton.begin(by_first.pop("", ()))
    firsts = {letter: automaton.begin(some) for letter, some in by_first.items()}
    lasts = {letter: automaton.begin(some) for letter, some in by_last.items()}
    ends = dict(zip(automaton.accepts, (number for number, _ in rules), strict=True))
    accepting = bits(ends, automaton.width)

    def probe(name: str) -> int:
        start = always | firsts.get(name[:1], 0) | lasts.get(name[-1:], 0)
        reached = start and automaton.advance(start, name) & accepting
        return ends[reached.bit_length() - 1] if reached else NO_RULE

    return probe

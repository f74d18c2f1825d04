"""Go's `filepath.Match` for one name: Flux's globs."""

from collections.abc import Sequence
from typing import Final, TypeAlias

import attrs

from fluxsrc.ignore.glob import Wild

__all__ = ["AnyRune", "GoGlob", "GoItem", "RuneSet", "parse_glob"]

_RUNE_ERROR: Final = 0xFFFD
_ASCII: Final = 0x80
_MAX_MEMBERS: Final = 16


@attrs.frozen
class AnyRune:
    """`?`: one rune, or one byte that is not part of any."""

    def matches(self, rune: int) -> bool:  # noqa: ARG002
        """Always."""
        return True


@attrs.frozen
class RuneSet:
    """`[a-z]`, `[^a-z]`: one rune in, or outside, these ranges."""

    negated: bool
    ranges: tuple[tuple[int, int], ...]

    def matches(self, rune: int) -> bool:
        """Is the rune one of them?"""
        return any(low <= rune <= high for low, high in self.ranges) is not self.negated


GoItem: TypeAlias = "str | frozenset[str] | Wild | AnyRune | RuneSet"


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
            items.append(AnyRune())
        elif byte == "[":
            parsed = _parse_set(pattern, at)
            if parsed is None:
                return None
            found, at = parsed
            items.append(found)
        else:
            items.append(byte)
    return items


def _parse_set(pattern: str, at: int) -> "tuple[frozenset[str] | RuneSet, int] | None":
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
    return RuneSet(negated, tuple(ranges)), at + 1


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
        elif isinstance(item, (AnyRune, RuneSet)):
            rune, width = _rune(name, at)
            if not item.matches(rune):
                return -1
            at += width
    return at

"""Git's reading of a pattern (`dir.c`, `wildmatch.c`), quirks included: text to items."""

from typing import Final

from fluxsrc.ignore.glob import Item, Wild

__all__ = ["parse_pattern", "parse_wildmatch"]

_SPECIAL: Final = frozenset("*?[\\")
_ANY: Final = frozenset(map(chr, range(256))) - {"/"}
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
    at = 0
    while at < len(pattern):
        byte = pattern[at]
        at += 1
        if byte == "*":
            wild, at = _parse_stars(pattern, at, pathname=pathname)
            if wild is not Wild.DIRS or items[-1:] != [Wild.DIRS]:  # `**/**/` is `**/`
                items.append(wild)
        elif byte == "[":
            parsed = _parse_set(pattern, at)
            if parsed is None:
                return None
            members, at = parsed
            items.append(members)
        elif byte == "\\":
            if at == len(pattern):
                return None
            items.append(pattern[at])
            at += 1
        else:
            items.append(_ANY if byte == "?" else byte)
    return items


def _parse_stars(pattern: str, at: int, *, pathname: bool) -> tuple[Wild, int]:
    """The run whose first star is just before `at`. Only as a whole component may two stars cross slashes."""
    begin = at - 1
    while pattern.startswith("*", at):
        at += 1
    begins_component = begin == 0 or pattern[begin - 1] == "/"
    if not pathname or at - begin == 1 or not begins_component:
        return Wild.STAR, at
    if pattern.startswith("/", at):
        return Wild.DIRS, at + 1
    return Wild.DEEP if at == len(pattern) or pattern.startswith("\\/", at) else Wild.STAR, at


def _parse_set(pattern: str, at: int) -> tuple[frozenset[str], int] | None:
    """The members of the bracket expression whose `[` is just before `at`, and what is behind it; None: malformed."""
    negated = pattern[at : at + 1] in {"!", "^"}
    at += negated
    members: set[str] = set()
    before = ""  # what a range could begin with
    first = at
    while at == first or not pattern.startswith("]", at):  # a bracket in the first place is a member
        if pattern.startswith("-", at) and before and pattern[at + 1 : at + 2] not in {"", "]"}:
            last, at = _member(pattern, at + 1)
            members.update(map(chr, range(ord(before), ord(last) + 1)) if last else ())
            before = ""
        elif (close := _class_end(pattern, at)) > 0:
            last = pattern[at + 2 : close - 1]
            members |= _CLASSES.get(last, frozenset())
            at = close + 1 if last in _CLASSES else len(pattern)
            before = ""
        else:
            before, at = _member(pattern, at)
            members.add(before)
        if at >= len(pattern):
            return None
    return (_ANY - members) if negated else (frozenset(members) - {"/"}), at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    """One byte of a set, perhaps escaped, and what is behind it; an empty one where the pattern ends."""
    at += pattern.startswith("\\", at)
    return pattern[at : at + 1], at + 1


def _class_end(pattern: str, at: int) -> int:
    """Where the `[:class:]` that begins here has its last bracket; the pattern's end if it has none; 0: no class."""
    if not pattern.startswith("[:", at):
        return 0
    close = pattern.find("]", at + 2)
    if close < 0:
        return len(pattern)
    return close if close > at + 2 and pattern[close - 1] == ":" else 0

"""What a parsed glob is made of, and when it is simple enough to be looked up instead of run.

Both dialects match *bytes*. Here bytes are text whose characters are all below 256 ("byte text", latin-1): for ASCII
that is the text itself, at no cost, and every string method of Python works on it.
"""

import enum
import itertools
from collections.abc import Sequence
from typing import Final, TypeAlias

__all__ = ["Chunks", "Item", "Wild", "as_lookups", "byte_text", "shown"]

_MAX_ALTERNATIVES: Final = 16
"""Names one glob may stand for and still be looked up: enough for `[Bb]in` and `*.py[cod]`."""


class Wild(enum.Enum):
    """An item of a glob that matches a run of bytes."""

    STAR = "*"
    """Any run without a slash."""
    DEEP = "**"
    """Any run, slashes included."""
    DIRS = "**/"
    """Nothing, or any run that ends in a slash."""


Item: TypeAlias = "str | frozenset[str] | Wild"
"""One byte, one byte out of a set, or a run."""

Chunks: TypeAlias = tuple[str, ...]
"""A glob of literals and stars only, cut at the stars: `*.yaml` is ("", ".yaml"), a plain name has one chunk."""


def byte_text(text: str) -> str:
    """The text's UTF-8 bytes as byte text; undecodable bytes (`surrogateescape`) come out as they were."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    except UnicodeEncodeError:
        # Half of a surrogate pair: no file is named so, but a verdict must not fail.
        return text.encode("utf-8", "surrogatepass").decode("latin-1")


def shown(raw: str) -> str:
    """Byte text as text for people: the inverse of `byte_text`."""
    return raw if raw.isascii() else raw.encode("latin-1").decode("utf-8", "surrogateescape")


def as_lookups(items: Sequence[object]) -> list[Chunks] | None:
    """The glob as a few chunk lists that together match the same names, or None if it must be run.

    Only for a glob that is held against one name: without slashes, every run is a star.
    """
    alternatives = 1
    for item in items:
        if isinstance(item, frozenset):
            alternatives *= len(item)
            if not 0 < alternatives <= _MAX_ALTERNATIVES:
                return None
        elif not isinstance(item, (str, Wild)):
            return None
    choices = [sorted(item) if isinstance(item, frozenset) else [item] for item in items]
    return [_cut(choice) for choice in itertools.product(*choices)]


def _cut(items: Sequence[object]) -> Chunks:
    chunks: list[list[str]] = [[]]
    for item in items:
        if isinstance(item, str):
            chunks[-1].append(item)
        elif chunks[-1] or len(chunks) == 1:  # neighbouring runs are one
            chunks.append([])
    return tuple("".join(chunk) for chunk in chunks)

"""Lines to rules: what each dialect takes from an ignore file, before any glob is understood."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from fluxsrc.ignore.glob import byte_text, shown
from fluxsrc.recipe import Dialect

__all__ = ["Rule", "parse_rules"]

_BOM: Final = byte_text("\ufeff")
_FLUX_LINE_BYTES: Final = 64 * 1024
"""Go's `bufio.MaxScanTokenSize`: a line and its newline must fit, or reading ends there, silently."""
_GO_SPACE: Final = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
"""Unicode White_Space, as in Go's `strings.TrimSpace`; Python's `str.strip` takes four control characters more."""


class Rule(NamedTuple):
    """One line of an ignore file.

    Attributes:
        text: The line, as its dialect reads it.
        file: Where it stands, for people.
        line: Its number there, from 1.
        base: The directory it governs, as byte text; "" is the root.
        negated: It keeps what it matches.
        dir_only: It matches directories only.
        pattern: The glob, as byte text, without the marks of the two above.
    """

    text: str
    file: str
    line: int
    base: str
    negated: bool
    dir_only: bool
    pattern: str


def parse_rules(dialect: Dialect, text: str, *, file: str, base: str = "") -> Iterator[Rule]:
    """The rules of one ignore file, in its order.

    Args:
        dialect: Whose reading.
        text: The file's content; undecodable bytes as `surrogateescape` leaves them.
        file: Its name, for people.
        base: The directory it governs, as byte text.
    """
    lines = _git_lines if dialect is Dialect.GITIGNORE else _flux_lines
    for number, line in lines(byte_text(text)):
        pattern = line.removeprefix("!")
        yield Rule(
            text=shown(line),
            file=file,
            line=number,
            base=base,
            negated=line.startswith("!"),
            dir_only=pattern.endswith("/"),
            pattern=pattern.removesuffix("/"),
        )


def _git_lines(text: str) -> Iterator[tuple[int, str]]:
    """As git's `add_patterns_from_buffer`: one byte order mark, one CR of each line, and unescaped spaces at its end go."""
    for number, line in enumerate(text.removeprefix(_BOM).split("\n"), 1):
        if not line or line.startswith("#"):
            continue
        line = line.removesuffix("\r").partition("\0")[0]  # C strings end at a NUL  # noqa: PLW2901
        if line := _without_trailing_spaces(line):
            yield number, line


def _without_trailing_spaces(line: str) -> str:
    bare = line.rstrip(" ")
    if len(bare) == len(line):
        return line
    # An odd number of backslashes before the spaces escapes the first of them.
    backslashes = len(bare) - len(bare.rstrip("\\"))
    return bare + " " if backslashes % 2 else bare


def _flux_lines(text: str) -> Iterator[tuple[int, str]]:
    """As Flux's `ReadPatterns` and `ParsePattern`."""
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) >= _FLUX_LINE_BYTES:
            return
        line = line.removesuffix("\r")  # noqa: PLW2901
        if line.startswith("#") or not shown(line).strip(_GO_SPACE):
            continue
        yield number, line if line.endswith("\\ ") else line.rstrip(" ")

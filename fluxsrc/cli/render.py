"""Values as text for people: sizes, facts, tables. The same with and without a terminal, so that pipes see what eyes see."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click

from fluxsrc._units import plural, size

__all__ = ["echo", "echo_json", "facts", "plural", "size", "table", "visible"]

_SUSPECT: Final = re.compile(r"[^\n\t\x20-\x7e]")
"""What has to be looked at: all but plain ASCII, which is most of the text."""


def echo(text: str, *, err: bool = False) -> None:
    """Print text that may quote what others wrote: names, annotations, certificates, what a server says."""
    click.echo(visible(text), err=err)


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    r"""Names and values, one pair a line, values aligned; a value of several lines stays in its column.

    >>> print(facts([("files", "2"), ("skipped", "a\nb")]))
    files    2
    skipped  a
             b
    """
    rows = list(pairs)
    width = max((len(name) for name, _ in rows), default=0) + 2
    return "\n".join(f"{name:<{width}}" + value.replace("\n", "\n" + " " * width) for name, value in rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()) -> str:
    r"""Columns as wide as they need to be, never cut, under a line of names; each row is one line.

    Args:
        head: The columns' names.
        rows: The cells, as many in each row as there are names.
        right: Columns to align to the right.

    >>> print(table(("tag", "source"), [("1.0", "a\nb")]))
    tag  source
    1.0  a\nb
    """
    lines = [tuple(head), *(tuple(visible(cell).replace("\n", r"\n") for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]

    def cell(line: Sequence[str], column: int) -> str:
        return line[column].rjust(widths[column]) if column in right else line[column].ljust(widths[column])

    return "\n".join("  ".join(cell(line, column) for column in range(len(head))).rstrip() for line in lines)


def visible(text: str) -> str:
    r"""Text that a terminal shows and does not obey: whoever writes a file must not write to the screen of its readers.

    >>> visible("a\x1b[2J\tb\n")
    'a\\x1b[2J\tb\n'
    """
    return _SUSPECT.sub(
        lambda found: found[0] if found[0].isprintable() else found[0].encode("unicode_escape").decode(), text
    )


def echo_json(document: Any) -> None:
    """Print one document. Text that is not UTF-8 (a path of a hostile archive) is escaped, so that it stays JSON."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=True))

"""A step as lines for people, with colors on a terminal, and as data for programs."""

import sys
from collections.abc import Iterator
from typing import Any

import click

from fluxsrc.cli.demo.tour import Fact, Step
from fluxsrc.cli.render import facts, size
from fluxsrc.digest import Digest
from fluxsrc.revision import Revision

__all__ = ["document", "show"]

_INDENT = "   "
_DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def show(number: int, step: Step) -> None:
    """Print it, and an empty line."""
    lines = [*_lines(number, step), ("", "")]
    if not sys.stdout.isatty():
        click.echo("\n".join(text for text, _ in lines))
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import, and needed on a terminal only
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    for text, style in lines:
        console.print(Text(text, style=style))


def document(step: Step) -> dict[str, Any]:
    """All of it, digests in full."""
    return {
        "title": step.title,
        "commands": list(step.commands),
        "facts": {name: value if isinstance(value, int) else str(value) for name, value in step.facts.items()},
        "diff": step.diff,
    }


def _lines(number: int, step: Step) -> Iterator[tuple[str, str]]:
    """Lines and their styles."""
    yield f"{number}. {step.title}", "bold"
    for command in step.commands:
        yield f"{_INDENT}$ {command}", "cyan"
    if step.facts:
        for line in facts((name, _text(fact)) for name, fact in step.facts.items()).splitlines():
            yield _INDENT + line, ""
    for line in step.diff.splitlines():
        # The two lines that name the file begin like lines of it.
        style = "bold" if line.startswith(("diff ", "--- ", "+++ ")) else _DIFF_STYLES.get(line[:1], "")
        yield _INDENT + line, style


def _text(fact: Fact) -> str:
    if isinstance(fact, Digest):
        return f"{fact.algorithm}:{fact.short}"
    if isinstance(fact, Revision):
        return fact.short
    return size(fact) if isinstance(fact, int) else fact

"""`diff` and `cat`: look into sources and artifacts, wherever they are."""

import base64
import os
import sys
from pathlib import Path
from typing import Any

import click

from fluxsrc import inspect
from fluxsrc.cli.options import optional_store
from fluxsrc.cli.remotes import Remotes, SourceMaker, makes_sources
from fluxsrc.cli.render import echo, echo_json, plural, visible
from fluxsrc.cli.sections import command
from fluxsrc.cli.session import Session, common_options, pass_session
from fluxsrc.cli.targets import target
from fluxsrc.entry import Mode, given_path
from fluxsrc.inspect import Change, ChangeKind, Stored
from fluxsrc.source import Source

__all__ = ["cat", "diff"]

_DIFFERENT = 1
"""The exit code of `diff --exit-code`, as of every diff."""
_MARKS = {ChangeKind.ADDED: "A", ChangeKind.REMOVED: "D", ChangeKind.CHANGED: "M", ChangeKind.MODE: "T"}


@command()
@click.argument("old")
@click.argument("new")
@click.option("--names", is_flag=True, help="Only the paths, each with A, D, M or T: added, removed, changed, mode.")
@click.option("--context", type=click.IntRange(min=0), default=3, show_default=True, help="Lines around a change.")
@click.option("--exit-code", is_flag=True, help="End with 1 if anything differs.")
@makes_sources
@optional_store
@common_options
@pass_session
def diff(
    session: Session,
    old: str,
    new: str,
    context: int,
    make_source: SourceMaker,
    remotes: Remotes,
    timeout: float,
    store: Path | None,
    *,
    names: bool,
    exit_code: bool,
) -> int:
    """Compare the files of any two sources or artifacts: in registries, in Git, in buckets, on disk, in a store.

    OLD and NEW are URLs, or digests of artifacts in --store. What is compared is what an artifact would hold.
    """
    del remotes  # make_source knows them
    one = target(old, store, make_source, beside=(new,))
    other = target(new, store, make_source, beside=(old,))
    with session.operation(timeout) as operation:
        changes = list(inspect.diff(one, other, context=context, operation=operation))
    if session.json:
        urls = {"old": _url(one), "new": _url(other)}
        echo_json(urls | {"changes": [_document(change) for change in changes]})
    elif names:
        _write("".join(f"{_MARKS[change.kind]}  {change.path}\n" for change in changes))
    else:
        _write("".join(inspect.unified(changes)), colors=True)
        echo(_summary(changes), err=True)
    return _DIFFERENT if changes and exit_code else 0


@command()
@click.argument("what")
@click.argument("path")
@makes_sources
@optional_store
@common_options
@pass_session
def cat(
    session: Session,
    what: str,
    path: str,
    make_source: SourceMaker,
    remotes: Remotes,
    timeout: float,
    store: Path | None,
) -> None:
    """Print the file PATH of WHAT, the URL of a source or the digest of an artifact in --store."""
    del remotes  # make_source knows them
    path = given_path(path.strip("/"))
    found = target(what, store, make_source)
    to_terminal = sys.stdout.isatty()
    # Whatever goes straight through is not held in memory; but then no progress bar may be drawn among it.
    with session.operation(timeout, quiet=True) as operation:
        pieces = inspect.cat(found, path, operation=operation)
        if not session.json and not to_terminal:
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            return
        data = b"".join(pieces)
    if session.json:
        echo_json({"url": _url(found), "path": path, "size": len(data)} | _content(data))
    else:
        _write(data.decode(errors="replace"))


def _content(data: bytes) -> dict[str, str]:
    try:
        return {"encoding": "utf-8", "content": data.decode()}
    except UnicodeDecodeError:
        return {"encoding": "base64", "content": base64.b64encode(data).decode()}


def _url(found: Source | Stored) -> str:
    return found.artifact.url if isinstance(found, Stored) else found.url


def _write(text: str, *, colors: bool = False) -> None:
    """Text as it is for a pipe; for a terminal nothing that it would obey, and in colors."""
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(text.encode(errors="surrogateescape"))
        return
    text = visible(text)
    if colors and not os.environ.get("NO_COLOR"):
        text = "\n".join(map(_colored, text.split("\n")))
    click.echo(text, nl=False)


def _colored(line: str) -> str:
    if line.startswith(("diff --git ", "--- ", "+++ ")):
        return click.style(line, bold=True)
    color = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    return line if color is None else click.style(line, fg=color)


def _summary(changes: list[Change]) -> str:
    if not changes:
        return "no differences"
    counted = [(kind.value, sum(change.kind is kind for change in changes)) for kind in ChangeKind]
    return f"{plural(len(changes), 'path')}: " + ", ".join(f"{count:,} {name}" for name, count in counted if count)


def _document(change: Change) -> dict[str, Any]:
    """One path that differs."""

    def mode(value: Mode | None) -> str | None:
        return None if value is None else f"{value:o}"

    return {
        "kind": change.kind.value,
        "path": change.path,
        "old_mode": mode(change.old_mode),
        "new_mode": mode(change.new_mode),
        "old_size": change.old_size,
        "new_size": change.new_size,
        "text": change.text,
    }

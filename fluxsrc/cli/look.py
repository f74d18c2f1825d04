"""`resolve`, `ls`, `explain`: look at a source and leave no trace."""

from typing import Any

import click

from fluxsrc.cli.documents import revision_document, skipped_documents
from fluxsrc.cli.remotes import takes_source
from fluxsrc.cli.render import echo, echo_json, facts, plural, size, table
from fluxsrc.cli.sections import command
from fluxsrc.cli.session import Session, common_options, pass_session
from fluxsrc.entry import Mode, Skipped, given_path
from fluxsrc.errors import PathNotFoundError
from fluxsrc.ignore import IgnoreRules
from fluxsrc.select import select
from fluxsrc.source import Snapshot, Source
from fluxsrc.verify import Facts

__all__ = ["explain", "ls", "resolve"]


@command()
@takes_source
@common_options
@pass_session
def resolve(session: Session, source: Source, timeout: float) -> None:
    """Show the revision a source points at now, without fetching any content.

    With --verify-key it is verified as well, and what was found out is told.
    """
    verification: Facts | None = None
    with session.operation(timeout) as operation:
        revision = source.resolve_revision(operation=operation)
        if getattr(source, "verify", None) is not None:
            with source.fetch(revision, operation=operation) as snapshot:
                verification = snapshot.verification
    if session.json:
        document: dict[str, Any] = {"url": source.url, "kind": source.kind} | revision_document(revision)
        if verification is not None:
            document["verification"] = [list(pair) for pair in verification]
        echo_json(document)
        return
    echo(str(revision))
    for name, value in verification or ():
        echo(f"verified: {name}: {value}", err=True)


@command()
@takes_source
@common_options
@pass_session
def ls(session: Session, source: Source, timeout: float) -> None:
    """List the files an artifact of a source would hold, with their sizes; nothing is unpacked."""
    skipped: list[Skipped] = []
    with session.operation(timeout) as operation, source.fetch(operation=operation) as snapshot:
        files = [(entry.mode, entry.size, entry.path) for entry in select(snapshot, source.recipe, skipped)]
        revision = snapshot.revision
        skipped += snapshot.skipped
    total = sum(count for _, count, _ in files)
    if session.json:
        listing = [{"path": path, "mode": f"{mode:o}", "size": count} for mode, count, path in files]
        document = {"url": source.url} | revision_document(revision) | {"files": listing, "total_size": total}
        echo_json(document | {"skipped": skipped_documents(skipped)})
        return
    rows = [(f"{mode:o}", f"{count:,}", path) for mode, count, path in files]
    echo(table(("mode", "bytes", "path"), rows, right=frozenset({1})))
    echo(f"{plural(len(files), 'file')}, {size(total)}, at {revision.short}", err=True)
    if skipped:
        echo(f"skipped: {plural(len(skipped), 'path')}; see pull, or --json", err=True)


@command()
@takes_source
@click.argument("path")
@common_options
@pass_session
def explain(session: Session, source: Source, path: str, timeout: float) -> None:
    """Say whether PATH of a source is in its artifact, and which ignore rule, in which file and line, decides it."""
    path = given_path(path.strip("/"))
    with session.operation(timeout) as operation, source.fetch(operation=operation) as snapshot:
        recipe = source.recipe
        rules = IgnoreRules(dialect=recipe.dialect, files=snapshot.ignore_files(), extra=recipe.ignore)
        match = rules.explain(path)
        excluded = match is not None and match.excluded
        mode = None if excluded else _mode(snapshot, source, path)
    kept = not excluded
    verdict = "excluded" if excluded else "kept"
    if mode is Mode.SYMLINK:
        verdict = f"kept by the ignore rules; a symbolic link, and for those the policy is '{recipe.symlinks}'"
    if session.json:
        rule = match and {
            "rule": match.rule,
            "file": match.file,
            "line": match.line,
            "negated": match.negated,
        }
        document = {"url": source.url, "path": path, "excluded": excluded, "dialect": recipe.dialect.value}
        echo_json(document | {"rule": rule, "mode": None if mode is None else f"{mode:o}"})
        return
    because = str(match) if match else "no rule matches"
    echo(facts([("path", path), ("verdict", verdict), ("rule" if match else "because", because)]))
    if kept and mode is None:
        echo("a directory: each file in it has a verdict of its own", err=True)


def _mode(snapshot: Snapshot, source: Source, path: str) -> Mode | None:
    """The mode of a path that the rules keep; None for a directory.

    Raises:
        PathNotFoundError: The revision has no such path: most likely it was misspelt.
    """
    for entry in snapshot.entries():
        if entry.path == path:
            return entry.mode
        if entry.path.startswith(f"{path}/"):
            return None
    raise PathNotFoundError(
        f"{snapshot.revision.short} has no {path}",
        url=source.url,
        hint="paths are relative to the root of the artifact; `fluxsrc ls` shows them all",
    )

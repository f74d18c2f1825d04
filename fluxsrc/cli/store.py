"""`store …`: look after a store of artifacts."""

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path

import click

from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.cli.documents import artifact_document, signed_by, time_text
from fluxsrc.cli.failures import EXIT_CODES
from fluxsrc.cli.options import existing_store, seconds
from fluxsrc.cli.paths import Place
from fluxsrc.cli.place import save_archive, unpack_tree
from fluxsrc.cli.render import echo, echo_json, facts, plural, size, table
from fluxsrc.cli.session import Session, common_options, pass_session
from fluxsrc.digest import Digest
from fluxsrc.errors import ArtifactNotFoundError, ConfigurationError, StoreError
from fluxsrc.stores import LocalStore

__all__ = ["store"]

_NUMBERS = frozenset({4, 5})
_log = logging.getLogger("fluxsrc.cli")


class _Group(click.Group):
    """Its commands are shown in the order they have here: first what is looked at, then what changes."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Group, invoke_without_command=True)
@common_options
@click.pass_context
def store(ctx: click.Context) -> None:
    """Look after a store of artifacts: a directory that is also an OCI image layout."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@store.command("list")
@existing_store
@common_options
@pass_session
def list_(session: Session, store: LocalStore) -> None:
    """List the sources, and each one's current artifact."""
    current = []
    for key in store.sources():
        try:
            artifact = store.lookup(key)
        except StoreError as exc:  # the others are as they were
            _log.warning("%s", exc)
            continue
        if artifact is None:
            _log.warning("%s has no whole current artifact; see `fluxsrc store verify`", key)
        else:
            current.append(artifact)
    if session.json:
        echo_json({"store": str(store.path), "artifacts": [artifact_document(artifact) for artifact in current]})
        return
    rows = [(str(artifact.key), *_columns(artifact)) for artifact in current]
    echo(_table("source", rows, current, right=_NUMBERS))


@store.command()
@click.argument("source")
@existing_store
@common_options
@pass_session
def history(session: Session, store: LocalStore, source: str) -> None:
    """List the artifacts of SOURCE, the newest and current one first.

    SOURCE is KIND/NAMESPACE/NAME as `store list` shows it, or its NAME where only one source has it.
    """
    key = _key(store, source)
    artifacts = store.history(key)
    if session.json:
        echo_json({"key": str(key), "artifacts": [artifact_document(artifact) for artifact in artifacts]})
        return
    rows = [(str(number), *_columns(artifact)) for number, artifact in enumerate(artifacts)]
    echo(_table("#", rows, artifacts, right=_NUMBERS | {0}))


@store.command()
@existing_store
@common_options
@pass_session
def verify(session: Session, store: LocalStore) -> int:
    """Hash every blob and check every reference. Changes nothing; ends with exit code 5 if anything is wrong."""
    report = store.verify()
    if session.json:
        problems = [{"kind": each.kind.value, "path": each.path, "detail": each.detail} for each in report.problems]
        echo_json(
            {
                "clean": report.clean,
                "sources": report.sources,
                "blobs": report.blobs,
                "bytes": report.bytes,
                "problems": problems,
                "orphaned": list(report.orphaned),
                "leftovers": list(report.leftovers),
                "unknown": list(report.unknown),
            }
        )
    else:
        for problem in report.problems:
            echo(f"{problem.kind}: {problem.path}: {problem.detail}")
        echo(
            facts(
                [
                    (
                        "checked",
                        f"{plural(report.sources, 'source')}, {plural(report.blobs, 'blob')}, {size(report.bytes)}",
                    ),
                    ("problems", f"{len(report.problems):,}" if report.problems else "none"),
                    (
                        "for gc",
                        f"{plural(len(report.orphaned), 'orphan')}, {plural(len(report.leftovers), 'leftover')}",
                    ),
                    ("unknown", plural(len(report.unknown), "file")),
                ]
            )
        )
    return 0 if report.clean else EXIT_CODES[StoreError]


@store.command(short_help="Remove what nothing refers to any more.")
@click.option("--keep", type=click.IntRange(min=1), help="First let all but this many artifacts of each source retire.")
@click.option(
    "--ttl", type=seconds, metavar="DURATION", default="0", help="With --keep: but none younger than this, such as 72h."
)
@click.option(
    "--grace",
    type=seconds,
    metavar="DURATION",
    default="1h",
    show_default=True,
    help="Spare what was wanted within this time.",
)
@click.option("--dry-run", is_flag=True, help="Only count what would go.")
@existing_store
@common_options
@pass_session
def gc(session: Session, store: LocalStore, keep: int | None, ttl: float, grace: float, *, dry_run: bool) -> None:
    """Remove the blobs that no history, pin or lease refers to, and what crashed writers left."""
    if keep is not None and dry_run:
        raise ConfigurationError("--keep changes histories, and --dry-run changes nothing", hint="say one of the two")
    retired = 0 if keep is None else store.retain(records=keep, ttl=ttl)
    report = store.gc(grace=grace, dry_run=dry_run)
    if session.json:
        echo_json(
            {
                "retired": retired,
                "removed_blobs": report.blobs,
                "removed_bytes": report.bytes,
                "removed_leftovers": report.leftovers,
                "kept_blobs": report.kept,
                "young_blobs": report.young,
                "dry_run": report.dry_run,
            }
        )
        return
    removed = f"{plural(report.blobs, 'blob')}, {size(report.bytes)}, {plural(report.leftovers, 'leftover')}"
    rows = [("retired", plural(retired, "artifact"))] * (keep is not None)
    rows += [("would remove" if dry_run else "removed", removed), ("kept", plural(report.kept, "blob"))]
    echo(facts([*rows, ("too young", plural(report.young, "blob"))]))


@store.command()
@click.argument("artifact")
@click.option("--output", metavar="DIRECTORY", type=Place(path_type=Path), help="Unpack it into this directory.")
@click.option("--replace", is_flag=True, help="Let --output replace a directory that holds something else.")
@click.option("--archive", type=Place(dir_okay=False, path_type=Path), help="Save it as this file.")
@existing_store
@common_options
@pass_session
def export(
    session: Session, store: LocalStore, artifact: str, output: Path | None, archive: Path | None, *, replace: bool
) -> None:
    """Take ARTIFACT out of the store, verified.

    ARTIFACT is a source, for its current artifact, or the content digest, stored digest or manifest digest of any.
    """
    if output is None and archive is None:
        raise ConfigurationError("where should the artifact go?", hint="give --output or --archive")
    found = _artifact(store, artifact)
    with session.operation(None) as operation:
        if output is not None:
            unpack_tree(store, found, output, replace=replace, operation=operation)
        if archive is not None:
            save_archive(store, found, archive)
    places = {"output": output, "archive": archive}
    if session.json:
        texts = {name: None if place is None else str(place) for name, place in places.items()}
        echo_json(artifact_document(found) | texts)
    else:
        rows = [(name, str(place)) for name, place in places.items() if place is not None]
        echo(facts([("revision", str(found.revision)), ("content", str(found.content_digest)), *rows]))


def _table(first: str, rows: Sequence[tuple[str, ...]], artifacts: Sequence[Artifact], *, right: frozenset[int]) -> str:
    """Artifacts under their columns; who signed them as the last one, if anybody did."""
    signers = [signed_by(artifact) for artifact in artifacts]
    head = (first, "observed", "revision", "content", "files", "size")
    if not any(signers):
        return table(head, rows, right=right)
    return table((*head, "signed by"), [(*row, by) for row, by in zip(rows, signers, strict=True)], right=right)


def _columns(artifact: Artifact) -> tuple[str, str, str, str, str]:
    return (
        time_text(artifact.observed) or "",
        artifact.revision.short,
        f"{artifact.content_digest.algorithm}:{artifact.content_digest.short}",
        f"{artifact.files:,}",
        size(artifact.size),
    )


def _artifact(store: LocalStore, text: str) -> Artifact:
    if ":" in text:
        return store.find(Digest.parse(text))
    artifact = store.lookup(_key(store, text))
    if artifact is None:
        raise ArtifactNotFoundError(
            f"{text} has no whole current artifact", path=str(store.path), hint="pull it again; see `store verify`"
        )
    return artifact


def _key(store: LocalStore, text: str) -> SourceKey:
    """The source of this key or name.

    Raises:
        ArtifactNotFoundError: There is none, or several have the name.
    """
    keys = list(store.sources())
    found = [key for key in keys if text in (str(key), key.name)]
    if len(found) == 1:
        return found[0]
    if found:
        what, hint = f"the store has {len(found)} sources named {text!r}", f"write one of: {', '.join(map(str, found))}"
    else:
        names = [key.name for key in keys]
        near = [name for name in names if name.startswith(text)] or difflib.get_close_matches(text, names, n=1)
        what = f"the store has no source {text!r}"
        hint = "`fluxsrc store list` shows them" + (f"; did you mean {near[0]}?" if near else "")
    raise ArtifactNotFoundError(what, path=str(store.path), hint=hint)

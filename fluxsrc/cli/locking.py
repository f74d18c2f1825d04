"""`lock`: write down what the sources of a file are, check that they still are, take exactly that."""

from pathlib import Path
from typing import Any

import click

from fluxsrc.cli.described import Described, takes_manifests
from fluxsrc.cli.documents import artifact_document
from fluxsrc.cli.failures import EXIT_CODES
from fluxsrc.cli.options import a_store, common_options, optional_store, timeout_option
from fluxsrc.cli.render import echo_json, facts, plural
from fluxsrc.cli.session import Session, pass_session
from fluxsrc.errors import ConfigurationError, SourceChangedError, SourceError
from fluxsrc.lock import Locked, LockFile, produce_locked
from fluxsrc.operation import Operation

__all__ = ["lock"]


@click.command()
@takes_manifests()
@optional_store
@click.option(
    "--lock-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default="fluxsrc.lock",
    show_default=True,
    help="The file to write, or to hold the sources against.",
)
@click.option("--check", is_flag=True, help="Write nothing: say which sources are not what is locked.")
@click.option(
    "--locked", is_flag=True, help="Put what is locked into the store; fail if a source points elsewhere by now."
)
@click.option("--frozen", is_flag=True, help="Put what is locked into the store, without asking where sources point.")
@timeout_option
@common_options
@pass_session
def lock(
    session: Session,
    described: Described,
    store: Path | None,
    lock_file: Path,
    timeout: float,
    *,
    check: bool,
    locked: bool,
    frozen: bool,
) -> int:
    """Write revision and content digest of each source that manifests describe into a file, to be committed.

    With --check, --locked or --frozen, hold the sources against that file instead. --frozen touches no network for what the
    store has.
    """
    if check + locked + frozen > 1:
        raise ConfigurationError("--check, --locked and --frozen are three different things", hint="say one of them")
    if (locked or frozen) and store is None:
        raise ConfigurationError("where should the artifacts go?", hint="give --store DIR")
    with session.operation(timeout) as operation:
        if check:
            return _check(session, described, LockFile.load(lock_file), operation)
        if locked or frozen:
            assert store is not None
            return _take(session, described, LockFile.load(lock_file), store, operation, frozen=frozen)
        return _write(session, described, lock_file, store, operation)


def _write(session: Session, described: Described, file: Path, store: Path | None, operation: Operation) -> int:
    found = {}
    with a_store(store) as target:
        for each in described.load():
            artifact = each.source.produce_artifact(
                target, name=each.name, namespace=each.namespace, operation=operation
            )
            found[str(each.key)] = Locked.of(each.source, artifact)
    fresh = LockFile(found)
    changed = fresh.save(file)
    if session.json:
        echo_json({"lock_file": str(file), "changed": changed, "locked": sorted(found)})
    else:
        rows = [(name, f"{each.revision} {each.content_digest}") for name, each in fresh.sources.items()]
        click.echo(facts([*rows, ("lock file", f"{file}{'' if changed else ' (as it was)'}")]))
    return 0


def _check(session: Session, described: Described, locked: LockFile, operation: Operation) -> int:
    problems: list[dict[str, Any]] = []
    names = []
    for each in described.load():
        name = str(each.key)
        names.append(name)
        try:
            entry = locked.need(name, each.source)
        except ConfigurationError as exc:
            problems.append({"source": name, "problem": "NotLocked", "message": str(exc)})
            continue
        try:
            revision = each.source.resolve_revision(operation=operation)
        except SourceError as exc:
            problems.append({"source": name, "problem": exc.reason, "message": str(exc)})
            continue
        if revision != entry.revision:
            message = f"points at {revision}; locked is {entry.revision}"
            problems.append({"source": name, "problem": "RefMoved", "message": message})
    problems += [
        {"source": name, "problem": "Stale", "message": "locked, and described no more"} for name in locked.stale(names)
    ]
    if session.json:
        echo_json({"clean": not problems, "problems": problems})
    else:
        for problem in problems:
            click.echo(f"{problem['source']}: {problem['problem']}: {problem['message']}")
        click.echo(f"{plural(len(names), 'source')}, {plural(len(problems), 'problem')}", err=True)
    return EXIT_CODES[SourceError] if problems else 0


def _take(
    session: Session, described: Described, locked: LockFile, store: Path, operation: Operation, *, frozen: bool
) -> int:
    artifacts = []
    moved: list[SourceChangedError] = []
    with a_store(store) as target:
        for each in described.load():
            entry = locked.need(str(each.key), each.source)
            try:
                artifacts.append(produce_locked(each, target, entry, frozen=frozen, operation=operation))
            except SourceChangedError as exc:
                moved.append(exc)
    if moved:
        rest = f"; and {len(moved) - 1} more, see --check" if len(moved) > 1 else ""
        raise SourceChangedError(f"{moved[0].message}{rest}", url=moved[0].url, hint=moved[0].hint)
    if session.json:
        echo_json({"artifacts": [artifact_document(artifact) for artifact in artifacts]})
    else:
        click.echo(facts([(str(each.key), f"{each.revision} {each.content_digest}") for each in artifacts]))
    return 0

"""`pull` and `build`: make artifacts, and put them where they are wanted."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fluxsrc._lazy import later
from fluxsrc.artifact import Artifact
from fluxsrc.cli.documents import artifact_document
from fluxsrc.cli.options import a_store, optional_store, recipe_options, timeout_option
from fluxsrc.cli.paths import Place
from fluxsrc.cli.pins import Pins, lock_options
from fluxsrc.cli.place import apart, save_archive, unpack_tree
from fluxsrc.cli.remotes import takes_source
from fluxsrc.cli.render import echo, echo_json, facts, plural, size
from fluxsrc.cli.sections import command
from fluxsrc.cli.session import Session, common_options, pass_session
from fluxsrc.errors import ConfigurationError
from fluxsrc.produce import source_key
from fluxsrc.source import Source

if TYPE_CHECKING:
    from fluxsrc import directory
else:
    directory = later("fluxsrc.directory")  # `pull` loads only what its URL names

__all__ = ["build", "pull"]

_SHOWN = 10
"""Skipped paths that a person is shown; a program gets all of them."""


@command()
@takes_source
@click.option(
    "--output", metavar="DIRECTORY", type=Place(path_type=Path), help="Unpack the artifact into this directory."
)
@click.option("--replace", is_flag=True, help="Let --output replace a directory that holds something else.")
@click.option("--archive", type=Place(dir_okay=False, path_type=Path), help="Save the artifact as this file.")
@optional_store
@lock_options
@click.option("--lock", is_flag=True, help="Write into the lock file what the source is now.")
@common_options
@pass_session
def pull(
    session: Session,
    source: Source,
    timeout: float,
    output: Path | None,
    archive: Path | None,
    store: Path | None,
    pins: Pins,
    *,
    replace: bool,
) -> None:
    """Resolve a source, make an artifact of it, and put that where it is wanted.

    An --output that already holds exactly this content is left alone. Without --store the artifact is made in a temporary
    store; with one, an artifact that is there already is not made again, and an earlier one makes the next one cheaper.

    What --lock has written, --locked and --frozen take. --frozen touches no network for what the store has.
    """
    if output is None and archive is None and store is None:
        raise ConfigurationError("where should the artifact go?", hint="give --output, --archive or --store")
    lock_file = pins.file if pins.in_use else None
    placed = {"output": output, "archive": archive, "store": store, "lock_file": lock_file}
    source, left_out = apart(source, {f"--{name.replace('_', '-')}": place for name, place in placed.items()})
    with a_store(store) as target, session.operation(timeout) as operation:
        known = target.lookup(source_key(source))
        artifact = pins.of(source).produce_artifact(target, operation=operation)
        unchanged = known == artifact
        if output is not None:
            untouched = not unpack_tree(target, artifact, output, replace=replace, operation=operation)
        if archive is not None:
            save_archive(target, artifact, archive)
    pins.approve(source, artifact)  # last: what could not be put where it is wanted is nothing to approve
    if session.json:
        texts = {name: None if place is None else str(place) for name, place in placed.items()}
        echo_json(artifact_document(artifact) | {"unchanged": unchanged, "left_out": left_out} | texts)
        return
    for path in left_out:
        echo(f"left out: {path}, which this command writes", err=True)
    notes = {
        "output": " (held exactly this already)" if output is not None and untouched else "",
        "store": f" as {artifact.key}" + (" (held it already)" if unchanged else ""),
    }
    places = [(name, f"{place}{notes.get(name, '')}") for name, place in placed.items() if place is not None]
    _show(artifact, [(name.replace("_", " "), text) for name, text in places])


@command()
@click.argument("path", type=Place(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", required=True, type=Place(dir_okay=False, path_type=Path), help="The archive to write.")
@recipe_options
@timeout_option
@common_options
@pass_session
def build(session: Session, path: Path, output: Path, recipe: dict[str, Any], timeout: float) -> None:
    """Pack the directory PATH into an archive: equal trees give equal content digests, on every machine.

    The archive itself is never part of it, wherever it is written.
    """
    source, _ = apart(directory.DirectorySource(str(path), **recipe, timeout=timeout), {"--output": output})
    with a_store(None) as target:
        with session.operation(timeout) as operation:
            artifact = source.produce_artifact(target, operation=operation)
        save_archive(target, artifact, output)
    if session.json:
        echo_json(artifact_document(artifact) | {"archive": str(output)})
    else:
        _show(artifact, [("archive", str(output))])


def _show(artifact: Artifact, places: list[tuple[str, str]]) -> None:
    """What was made of what, what is missing from it, and where it is now."""
    skipped = [
        f"{item.path} ({item.reason}{': ' if item.detail else ''}{item.detail})" for item in artifact.skipped[:_SHOWN]
    ]
    if len(artifact.skipped) > _SHOWN:
        skipped.append(f"and {len(artifact.skipped) - _SHOWN:,} more; --json shows all")
    rows = [
        ("source", artifact.url),
        ("revision", str(artifact.revision)),
        ("content", str(artifact.content_digest)),
        ("digest", f"{artifact.digest}, {size(artifact.size)}"),
        ("files", f"{artifact.files:,}, {size(artifact.content_size)} as a tar"),
        ("skipped", "\n".join([f"{plural(len(artifact.skipped), 'path')}:", *skipped]) if skipped else "nothing"),
        *(
            [("verified", "\n".join(f"{name}: {value}" for name, value in artifact.verification))]
            * bool(artifact.verification)
        ),
        *places,
    ]
    echo(facts(rows))

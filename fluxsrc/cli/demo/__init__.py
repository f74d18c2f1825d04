"""`demo`: a tour on real code paths, without network. Read `fluxsrc.cli.demo.tour`: it is a tutorial."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import click

from fluxsrc._io.atomic import store_errors
from fluxsrc._io.temporary import temporary_directory
from fluxsrc.cli.demo.scene import lay_out
from fluxsrc.cli.demo.show import document, show
from fluxsrc.cli.demo.tour import tour
from fluxsrc.cli.paths import Place
from fluxsrc.cli.render import echo_json
from fluxsrc.cli.sections import command
from fluxsrc.cli.session import Session, common_options, pass_session
from fluxsrc.errors import ConfigurationError
from fluxsrc.stores import LocalStore

__all__ = ["demo"]


@command()
@click.option(
    "--output",
    type=Place(path_type=Path),
    help="Do it in this directory, new or empty, and leave everything there to play with.",
)
@common_options
@pass_session
def demo(session: Session, output: Path | None) -> None:
    """Show in two minutes what this is about: one tree in Git, in a bucket and in a registry; a promotion, a rollback.

    Everything happens in a temporary directory and needs no network. The commands that are shown work in the directory
    that --output names.
    """
    steps = []
    with _place(output) as directory, contextlib.chdir(directory), session.operation(quiet=True) as operation:
        with store_errors("write", directory):
            lay_out(Path())
        with LocalStore("store") as store:
            for step in tour(store, operation):
                steps.append(document(step))
                if not session.json:
                    show(len(steps), step)
    if session.json:
        echo_json({"output": None if output is None else str(output), "steps": steps})
    elif output is None:
        click.echo("All of it was temporary: --output DIR keeps it, to play with.", err=True)
    else:
        click.echo(f"All of it is in {output}: go there, and try the commands.", err=True)


@contextlib.contextmanager
def _place(output: Path | None) -> Iterator[Path]:
    """Where it happens. What fails leaves nothing behind."""
    if output is None:
        with temporary_directory() as temporary:
            yield temporary
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        occupied = any(output.iterdir())
    except OSError as exc:
        raise ConfigurationError(f"cannot use {output}: {exc.strerror}", hint="choose another --output") from exc
    if occupied:
        raise ConfigurationError(f"{output} holds something else", hint="choose an empty or new directory")
    try:
        yield output
    except BaseException:
        shutil.rmtree(output, ignore_errors=True)
        raise

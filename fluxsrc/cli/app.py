"""The root command: a table of commands that are loaded when they are used, and one door for every error."""

import codecs
import errno
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from fluxsrc import __version__
from fluxsrc._lazy import later
from fluxsrc.cli.failures import describe, exit_code
from fluxsrc.cli.interrupts import Interrupted
from fluxsrc.cli.remarks import remarks_shown
from fluxsrc.cli.render import echo
from fluxsrc.cli.session import Session, common_options
from fluxsrc.errors import ConfigurationError, FluxSrcError, StoreError

if TYPE_CHECKING:
    import difflib
    import traceback
else:  # for mistakes only
    difflib, traceback = later("difflib"), later("traceback")

__all__ = ["COMMANDS", "Row", "root", "run"]

_BROKEN_PIPE: Final = 141
"""What a shell reports of a program that SIGPIPE ended."""
_COMPLETION: Final = "_FLUXSRC_COMPLETE"
"""Set by the completion script of a shell: `_FLUXSRC_COMPLETE=bash_source fluxsrc` prints that script."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_WIDE: Final = 100
"""Columns that help takes where the terminal has them."""


class Row(NamedTuple):
    """Where a command lives, and its line in `fluxsrc --help`, so that showing the help loads none of them.

    Attributes:
        module: Below `fluxsrc.cli`.
        help: One line.
        function: Its name there, where that is not the command's.
    """

    module: str
    help: str
    function: str | None = None


COMMANDS: Final = {
    "resolve": Row("look", "Show the revision a source points at now."),
    "ls": Row("look", "List the files an artifact of a source would hold."),
    "explain": Row("look", "Say which ignore rule decides about a path."),
    "pull": Row("make", "Make an artifact of a source: unpack it, save it, store it."),
    "build": Row("make", "Pack a directory into an archive file."),
    "diff": Row("compare", "Compare the files of any two sources or artifacts."),
    "cat": Row("compare", "Print one file of a source or an artifact."),
    "push": Row("publish", "Publish a source or a stored artifact in a registry."),
    "sign": Row("sign", "Sign what is in a registry."),
    "tag": Row("publish", "Let more tags point at what a reference names."),
    "promote": Row("publish", "Let a tag point at what another reference names."),
    "list": Row("tags", "List the tags of a repository, with what they are.", "list_"),
    "history": Row("tags", "List what a source was over time, as a store saw it."),
    "candidates": Row("tags", "List what a tag could be rolled back to."),
    "delete": Row("publish", "Delete a tag or a manifest."),
    "reconcile": Row("keep", "Keep the sources of a file up to date in a store."),
    "get": Row("condition", "Show the sources of a store, as `flux get sources` does."),
    "lock": Row("locking", "Write down what the sources of a file are, or check them."),
    "serve": Row("serve", "Serve a store over HTTP: at Flux's URLs, and as a registry."),
    "demo": Row("demo", "See what this is about: a tour of two minutes, without network."),
    "store": Row("store", "Look after a store of artifacts."),
}
"""Every command, in the order of the help."""


class _Root(click.Group):
    """A group whose commands are imported one by one, on use: each needs only a part of the library."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        row = COMMANDS.get(name)
        if row is None:
            return None
        command: click.Command = getattr(import_module(f"fluxsrc.cli.{row.module}"), row.function or name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if near := difflib.get_close_matches(args[0], COMMANDS, n=1) if args[0] not in COMMANDS else None:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.help) for name, row in COMMANDS.items()])


@click.group(
    cls=_Root,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDE},
)
@common_options
@click.version_option(__version__, prog_name="fluxsrc", message="%(prog)s %(version)s")
@click.pass_context
def root(ctx: click.Context) -> None:
    """Turn Git repositories, OCI artifacts, buckets and directories into verified, content-addressed artifacts.

    A URL is git+file://PATH, git+https://…, git+ssh://…, USER@HOST:PATH, oci://HOST/REPOSITORY:TAG, oci-layout:PATH:NAME,
    s3://…, gs://…, az://…, file://PATH or a plain path. Options go into its query (?branch=main, ?semver=1.x), a sub-tree
    into its fragment (#path=deploy/prod).
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(words: Sequence[str]) -> int:
    """Run one command. Every error ends here, in one shape, with its exit code."""
    _prepare_streams()
    session = Session.of(words)
    try:
        with session.signals_handled(), remarks_shown(as_json=session.json):
            code = _invoke(words, session)
            sys.stdout.flush()
    except BrokenPipeError:
        _give_stdout_up()  # whoever read us has seen enough
        return _BROKEN_PIPE
    except (Exception, KeyboardInterrupt, Interrupted) as exc:  # noqa: BLE001 - the one door: nothing leaves a program unreported
        if session.debug:
            traceback.print_exception(exc)
        error = _in_our_terms(exc)
        if isinstance(exc, OSError) and exc.errno in _FULL:
            _give_stdout_up()
        echo(describe(error, as_json=session.json, debug=session.debug), err=True)
        return exit_code(error)
    return code if isinstance(code, int) else 0


def _prepare_streams() -> None:
    """Whatever streams the program was started with, printing does not fail.

    Where stdin, stdout or stderr is closed, the null device takes its place: else the next file that is opened would get
    the number, and be written to by whoever prints. What an encoding other than UTF-8 lacks is escaped, as stderr does.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for good
    if isinstance(sys.stdout, io.TextIOWrapper) and codecs.lookup(sys.stdout.encoding).name != "utf-8":
        sys.stdout.reconfigure(errors="backslashreplace")


def _give_stdout_up() -> None:
    """What is still buffered must not fail again when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _invoke(words: Sequence[str], session: Session) -> object:
    if _COMPLETION in os.environ:
        root.main(list(words), prog_name="fluxsrc")  # answers the shell, and exits
    try:
        # What click's own `main` adds to these two lines is a door for errors, and there is one already.
        with root.make_context("fluxsrc", list(words), obj=session) as context:
            return root.invoke(context)
    except click.exceptions.Exit as exc:
        return exc.exit_code


def _in_our_terms(exc: BaseException) -> BaseException:
    """The error, translated where it comes from click or the keyboard."""
    if isinstance(exc, click.UsageError):
        command = exc.ctx.command_path if exc.ctx is not None else "fluxsrc"
        return ConfigurationError(exc.format_message(), hint=f"see {command} --help")
    if isinstance(exc, click.ClickException):
        return ConfigurationError(exc.format_message())
    if isinstance(exc, click.Abort | KeyboardInterrupt):
        return Interrupted()
    if isinstance(exc, OSError) and exc.errno in _FULL and not isinstance(exc, FluxSrcError):
        return StoreError(f"cannot write: {exc.strerror}", hint="free some space or raise the quota")
    return exc

"""Options that commands share, as decorators."""

import enum
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from fluxsrc import stores
from fluxsrc._io.atomic import store_errors
from fluxsrc._io.temporary import temporary_directory
from fluxsrc.cli.paths import Place
from fluxsrc.cli.sections import connection_option, content_option
from fluxsrc.errors import ArtifactNotFoundError, ConfigurationError
from fluxsrc.operation import DEFAULT_TIMEOUT
from fluxsrc.recipe import Compression, Dialect, SymlinkPolicy

__all__ = [
    "STORE_VARIABLE",
    "a_store",
    "existing_store",
    "local_store",
    "named_values",
    "optional_local_store",
    "optional_store",
    "recipe_options",
    "seconds",
    "timeout_option",
]

STORE_VARIABLE: Final = "FLUXSRC_STORE"
"""The environment variable that names a store where `--store` is not given. Read here, and nowhere in the library."""

Decorated = Callable[..., Any]

_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}


def seconds(text: str) -> float:
    """A duration.

    >>> seconds("90"), seconds("5m"), seconds("1h30m")
    (90.0, 300.0, 5400.0)
    """
    if not text or not re.fullmatch(r"\d+(\.\d+)?|(\d+h)?(\d+m)?(\d+(\.\d+)?s)?", text, re.ASCII):
        raise click.BadParameter(f"{text!r} is not a duration; write 90, 90s, 5m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(r"([\d.]+)([smh]?)", text))


def named_values(pairs: Iterable[str], option: str) -> dict[str, str]:
    """The values of a repeatable option `NAME=VALUE`.

    Raises:
        ConfigurationError: One is not of this form, or a name is given twice.
    """
    values = {}
    for pair in pairs:
        name, mark, value = pair.partition("=")
        if not name or not mark:
            raise ConfigurationError(f"not an annotation: {pair[:80]!r}", hint=f"write {option} NAME=VALUE")
        if name in values:
            raise ConfigurationError(f"the annotation {name} is given twice")
        values[name] = value
    return values


def timeout_option(command: Decorated) -> Decorated:
    """`--timeout`: how long all of it may take."""
    return connection_option(
        "--timeout",
        type=seconds,
        metavar="DURATION",
        default=f"{DEFAULT_TIMEOUT:g}s",
        show_default=True,
        help="How long all of it may take: 90s, 5m, 1h30m.",
    )(command)


def _choice(values: type[enum.StrEnum]) -> click.Choice[str]:
    return click.Choice([each.value for each in values])  # of the members themselves, click would take the names


def recipe_options(command: Decorated) -> Decorated:
    """What decides, besides the revision, what an artifact holds. The command is given them as `recipe`, a dict."""

    @functools.wraps(command)
    def with_recipe(*args: Any, ignore: tuple[str, ...], **kwargs: Any) -> Any:
        recipe = {name: kwargs.pop(name) for name in ("dialect", "symlinks", "compression")}
        return command(*args, recipe={"ignore": "\n".join(ignore) or None, **recipe}, **kwargs)

    for option in (
        content_option(
            "--compression",
            type=_choice(Compression),
            default=Compression.GZIP.value,
            show_default=True,
            help="How the archive is compressed.",
        ),
        content_option(
            "--symlinks",
            type=_choice(SymlinkPolicy),
            default=SymlinkPolicy.SKIP.value,
            show_default=True,
            help="What becomes of symbolic links.",
        ),
        content_option(
            "--dialect",
            type=_choice(Dialect),
            default=Dialect.GITIGNORE.value,
            show_default=True,
            help="Whose verdicts ignore rules give: git's own, or Flux's with its default exclusions.",
        ),
        content_option(
            "--ignore",
            multiple=True,
            metavar="RULE",
            help="Leave out what this rule in gitignore syntax matches; it overrules .sourceignore files. Repeatable.",
        ),
    ):
        with_recipe = option(with_recipe)
    return with_recipe


_store_argument: Final = click.option(
    "--store",
    type=Place(file_okay=False, path_type=Path),
    help=f"The store's directory; ${STORE_VARIABLE} if it is not given.",
)


def optional_store(command: Decorated) -> Decorated:
    """`--store`, or the environment variable in its place. The command is given `store`, a path or None."""

    @functools.wraps(command)
    def with_store(*args: Any, store: Path | None, **kwargs: Any) -> Any:
        return command(*args, store=store or _store_of_environment(), **kwargs)

    return _store_argument(with_store)


def existing_store(command: Decorated) -> Decorated:
    """The same, for commands about a store that is there already. The command is given `store`, a `LocalStore`."""

    @functools.wraps(command)
    def with_store(*args: Any, store: Path | None, **kwargs: Any) -> Any:
        store = store or _store_of_environment()
        if store is None:
            raise ConfigurationError("which store?", hint=f"give --store DIR, or set {STORE_VARIABLE}")
        return command(*args, store=local_store(store), **kwargs)

    return _store_argument(with_store)


def optional_local_store(command: Decorated) -> Decorated:
    """The same, for commands that can do without. The command is given `store`, a `LocalStore` or None."""

    @functools.wraps(command)
    def with_store(*args: Any, store: Path | None, **kwargs: Any) -> Any:
        return command(*args, store=None if store is None else local_store(store), **kwargs)

    return optional_store(with_store)


def local_store(directory: Path) -> "stores.LocalStore":
    """The store in a directory that is there.

    Raises:
        ArtifactNotFoundError: It is not.
        ConfigurationError: Something else is there.
        StoreError: Nobody may look.
    """
    with store_errors("look at", directory):
        if not directory.is_dir():
            # A store makes its directory by itself; asked about its content, a misspelt path must not pass for empty.
            raise ArtifactNotFoundError(f"there is no store at {directory}", path=str(directory))
        if not any((directory / name).exists() for name in ("oci-layout", "blobs")) and any(directory.iterdir()):
            raise ConfigurationError(f"{directory} is no store: it has other files, and no oci-layout")
    return stores.LocalStore(directory)


def _store_of_environment() -> Path | None:
    value = os.environ.get(STORE_VARIABLE)
    return Path(value) if value else None


@contextmanager
def a_store(directory: Path | None) -> "Iterator[stores.LocalStore]":
    """The store in this directory; without one, a store that lasts as long as the context."""
    if directory is not None:
        with stores.LocalStore(directory) as store:
            yield store
        return
    # Not beside the output: that may lie inside the directory which is the source, and would then be packed with it.
    with temporary_directory() as temporary:
        yield stores.LocalStore(temporary / "store", durable=False)

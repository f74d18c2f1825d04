"""Options that commands share, as decorators."""

import functools
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from fluxsrc.errors import ConfigurationError
from fluxsrc.operation import DEFAULT_TIMEOUT
from fluxsrc.recipe import Compression, Dialect, SymlinkPolicy
from fluxsrc.store import Store
from fluxsrc.stores import LocalStore
from fluxsrc.urls import source_from_url

__all__ = [
    "STORE_VARIABLE",
    "a_store",
    "common_options",
    "recipe_options",
    "store_option",
    "takes_source",
    "timeout_option",
]

STORE_VARIABLE: Final = "FLUXSRC_STORE"
"""The environment variable that names a store where `--store` is not given. Read here, and nowhere in the library."""

Decorated = Callable[..., Any]

_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}


class _Duration(click.ParamType):
    """Seconds: "90", "90s", "5m" or "1h30m"."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        if not re.fullmatch(r"(\d+(\.\d+)?[smh]?)|((\d+h)?(\d+m)?(\d+s)?)", value) or not value:
            self.fail(f"{value!r} is not a duration; write 90, 90s, 5m or 1h30m", param, ctx)
        return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)([smh]?)", value))


def common_options(command: Decorated) -> Decorated:
    """`--json` and `--debug`; `Session.of` reads them, so that they also rule over mistakes in the other options."""
    command = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of a failure.")(
        command
    )
    return click.option("--json", is_flag=True, expose_value=False, help="Print one JSON document.")(command)


def timeout_option(command: Decorated) -> Decorated:
    """`--timeout`: how long all of it may take."""
    return click.option(
        "--timeout",
        type=_Duration(),
        default=DEFAULT_TIMEOUT,
        show_default="5m",
        help="How long all of it may take: 90s, 5m, 1h30m.",
    )(command)


def recipe_options(command: Decorated) -> Decorated:
    """What decides, besides the revision, what an artifact holds. The command is given them as `recipe`, a dict."""

    @functools.wraps(command)
    def with_recipe(*args: Any, ignore: tuple[str, ...], **kwargs: Any) -> Any:
        recipe = {name: kwargs.pop(name) for name in ("dialect", "symlinks", "compression")}
        return command(*args, recipe={"ignore": "\n".join(ignore) or None, **recipe}, **kwargs)

    for option in (
        click.option(
            "--compression",
            type=click.Choice([*Compression]),
            default=Compression.GZIP,
            show_default=True,
            help="How the archive is compressed.",
        ),
        click.option(
            "--symlinks",
            type=click.Choice([*SymlinkPolicy]),
            default=SymlinkPolicy.SKIP,
            show_default=True,
            help="What becomes of symbolic links.",
        ),
        click.option(
            "--dialect",
            type=click.Choice([*Dialect]),
            default=Dialect.GITIGNORE,
            show_default=True,
            help="Whose verdicts ignore rules give: git's own, or Flux's with its default exclusions.",
        ),
        click.option(
            "--ignore",
            multiple=True,
            metavar="RULE",
            help="Leave out what this rule in gitignore syntax matches; it overrules .sourceignore files. Repeatable.",
        ),
    ):
        with_recipe = option(with_recipe)
    return with_recipe


def takes_source(command: Decorated) -> Decorated:
    """The argument URL and all options of a source. The command is given `source` and `timeout`."""

    @functools.wraps(command)
    def with_source(*args: Any, url: str, recipe: dict[str, Any], timeout: float, **kwargs: Any) -> Any:
        source = source_from_url(url, **recipe, timeout=timeout)
        return command(*args, source=source, timeout=timeout, **kwargs)

    return click.argument("url")(timeout_option(recipe_options(with_source)))


def store_option(*, required: bool) -> Callable[[Decorated], Decorated]:
    """`--store`, or the environment variable in its place. The command is given `store`, a path or None."""

    def decorate(command: Decorated) -> Decorated:
        @functools.wraps(command)
        def with_store(*args: Any, store: Path | None, **kwargs: Any) -> Any:
            if store is None and os.environ.get(STORE_VARIABLE):
                store = Path(os.environ[STORE_VARIABLE])
            if store is None and required:
                raise ConfigurationError("which store?", hint=f"give --store DIR, or set {STORE_VARIABLE}")
            return command(*args, store=store, **kwargs)

        return click.option(
            "--store",
            type=click.Path(file_okay=False, path_type=Path),
            help=f"The store's directory; ${STORE_VARIABLE} if it is not given.",
        )(with_store)

    return decorate


@contextmanager
def a_store(directory: Path | None) -> Iterator[Store]:
    """The store in this directory; without one, a store that lasts as long as the context."""
    if directory is not None:
        yield LocalStore(directory)
        return
    # Not beside the output: that may lie inside the directory which is the source, and would then be packed with it.
    with tempfile.TemporaryDirectory(prefix="fluxsrc-") as temporary:
        yield LocalStore(Path(temporary) / "store")

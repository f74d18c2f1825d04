"""The option `--file`: manifests as the sources of a command."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fluxsrc._units import why
from fluxsrc.errors import ConfigurationError
from fluxsrc.managed import ManagedSource
from fluxsrc.manifests import load_manifests

__all__ = ["Described", "takes_manifests"]


class Described:
    """The files that `--file` names, read anew each time: they may change while a command runs."""

    def __init__(self, files: tuple[str, ...]) -> None:
        self._files = files
        self._standard_input: str | None = None

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return bool(self._files)

    @property
    def name(self) -> str:
        """What tells these files from others."""
        return " ".join(sorted(file if file == "-" else str(Path(file).absolute()) for file in self._files))

    def texts(self) -> tuple[str, ...]:
        """What is in each.

        Raises:
            ConfigurationError: One cannot be read.
        """
        return tuple(self._read(file) for file in self._files)

    def load(self) -> tuple[ManagedSource, ...]:
        """The sources in them.

        Raises:
            ConfigurationError: There is none: most likely what should have written them failed, or is not done yet.
        """
        found = load_manifests(self.texts(), local=True)
        if not found:
            raise ConfigurationError(f"there is no source in {', '.join(self._files)}")
        return found

    def _read(self, file: str) -> str:
        if file == "-":
            if self._standard_input is None:
                self._standard_input = sys.stdin.read()
            return self._standard_input
        try:
            return Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"cannot read {file}: {why(exc)}") from exc


def takes_manifests(*, required: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--file`; the command is given `described`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_manifests(*args: Any, file: tuple[str, ...], **kwargs: Any) -> Any:
            return command(*args, described=Described(file), **kwargs)

        return click.option(
            "-f",
            "--file",
            multiple=True,
            required=required,
            metavar="FILE",
            help="Manifests of Flux's API, YAML or JSON; - is standard input. Repeatable.",
        )(with_manifests)

    return decorate

"""`--lock`, `--locked`, `--frozen`: the options that write a lock file, or hold a command's sources against it."""

import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from fluxsrc._lazy import later
from fluxsrc.artifact import Artifact
from fluxsrc.cli.paths import Place
from fluxsrc.errors import ConfigurationError
from fluxsrc.produce import source_key
from fluxsrc.source import Source

if TYPE_CHECKING:
    from fluxsrc import lock as locking
    from fluxsrc.managed import ManagedSource
else:
    locking = later("fluxsrc.lock")  # most commands are about no lock file

__all__ = ["LOCK_FILE", "Pins", "lock_options"]

LOCK_FILE: Final = Path("fluxsrc.lock")
"""The lock file where none is named."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Pins:
    """What the options say.

    Attributes:
        named: The lock file, if one is named.
        locked: The sources must be what is locked.
        frozen: What is locked is taken, and nobody is asked what the sources are.
        write: What the sources are is written down.
    """

    named: Path | None
    locked: bool
    frozen: bool
    write: bool = False

    def __attrs_post_init__(self) -> None:
        if self.locked and self.frozen:
            raise ConfigurationError("--locked and --frozen are two different things", hint="say one of them")
        if self.write and self.holds:
            raise ConfigurationError("--lock writes what --locked and --frozen take", hint="say one of them")
        if self.named is not None and not self.in_use:
            raise ConfigurationError("--lock-file: what for?", hint="say --locked or --frozen as well")

    @property
    def holds(self) -> bool:
        """Whether sources are held against the file."""
        return self.locked or self.frozen

    @property
    def in_use(self) -> bool:
        """Whether there is a lock file at all."""
        return self.holds or self.write

    @property
    def file(self) -> Path:
        """The lock file."""
        return LOCK_FILE if self.named is None else self.named

    def text(self) -> str:
        """What the file says, to see whether that changed; empty without the options."""
        return str(locking.LockFile.load(self.file)) if self.holds else ""

    def of(self, source: Source) -> Source:
        """A source of a URL as it is locked; itself without the options.

        Raises:
            ConfigurationError: There is no lock file, or it has another source or none.
        """
        if not self.holds:
            return source
        locked = locking.LockFile.load(self.file).find(str(source_key(source)), source)
        return locking.LockedSource(source, locked, frozen=self.frozen)

    def approve(self, source: Source, artifact: Artifact) -> None:
        """Write down what a source is, beside what the file has; without the option, nothing.

        Raises:
            ConfigurationError: What is there is no lock file.
            StoreError: It cannot be written.
        """
        if self.write:
            file = locking.LockFile.load(self.file) if os.path.lexists(self.file) else locking.LockFile()
            locking.LockFile({**file.sources, str(artifact.key): locking.Locked.of(source, artifact)}).save(self.file)

    def of_all(self, sources: "Iterable[ManagedSource]") -> "tuple[ManagedSource, ...]":
        """The same of sources with names; the file is read once."""
        if not self.holds:
            return tuple(sources)
        file = locking.LockFile.load(self.file)
        return tuple(
            attrs.evolve(
                each,
                source=locking.LockedSource(each.source, file.need(str(each.key), each.source), frozen=self.frozen),
            )
            for each in sources
        )


def lock_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--locked`, `--frozen`, `--lock-file`. The command is given `pins`."""

    @functools.wraps(command)
    def with_pins(
        *args: Any, lock_file: Path | None, locked: bool, frozen: bool, lock: bool = False, **kwargs: Any
    ) -> Any:
        return command(*args, pins=Pins(named=lock_file, locked=locked, frozen=frozen, write=lock), **kwargs)

    for option in (
        click.option(
            "--lock-file",
            type=Place(dir_okay=False, path_type=Path),
            help=f"The lock file, if it is not {LOCK_FILE}.",
        ),
        click.option("--frozen", is_flag=True, help="Take what is locked, without asking where sources point."),
        click.option("--locked", is_flag=True, help="Take what is locked; fail if a source points elsewhere by now."),
    ):
        with_pins = option(with_pins)
    return with_pins

"""The command line, `fluxsrc`: thin, it parses, calls the library and prints. It needs the extra `cli`."""

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from fluxsrc.errors import MissingExtraError

__all__ = ["main"]

_NEEDED: Final = ("click", "rich")
_STOPPED: Final = 130
"""The exit code after Ctrl-C."""
_NEW_OBJECTS: Final = 20_000
"""New objects between two looks for garbage. With Python's own 700 it looks some 80 times while modules are loaded, which are
none: a tenth of the time a short command takes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code.

    Args:
        arguments: The words after the program's name; those of this process, if none are given.
    """
    if any(find_spec(name) is None for name in _NEEDED):
        missing = MissingExtraError("the command line", extra="cli")
        print(f"error: {missing.message}\n  hint: {missing.hint}", file=sys.stderr)
        return 2
    try:
        with _collecting_seldom():
            # Loaded here and not above: without the extra there must still be a `main` that says what is missing.
            run = import_module("fluxsrc.cli.app").run
            exit_code: int = run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:  # while all that was loaded; from then on `run` looks after signals
        print("stopped by SIGINT", file=sys.stderr)
        return _STOPPED
    return exit_code


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)

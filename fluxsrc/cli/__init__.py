"""The command line, `fluxsrc`: thin, it parses, calls the library and prints. It needs the extra `cli`."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from fluxsrc.errors import MissingExtraError

__all__ = ["main"]

_NEEDED: Final = ("click", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code.

    Args:
        arguments: The words after the program's name; those of this process, if none are given.
    """
    if any(find_spec(name) is None for name in _NEEDED):
        missing = MissingExtraError("the command line", extra="cli")
        print(f"error: {missing.message}\n  hint: {missing.hint}", file=sys.stderr)
        return 2
    # Loaded here and not above: without the extra there must still be a `main` that says what is missing.
    exit_code: int = import_module("fluxsrc.cli.app").run(sys.argv[1:] if arguments is None else list(arguments))
    return exit_code

"""`Session`: what the commands of one run share: who reads the output, and the operations that can be interrupted."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import click

from fluxsrc.cli.interrupts import Interrupts
from fluxsrc.cli.progress import showing_progress
from fluxsrc.operation import DEFAULT_TIMEOUT, Operation

__all__ = ["Session", "common_options", "pass_session"]


@attrs.frozen(eq=False, repr=False)
class Session:
    """One run of the program.

    Attributes:
        json: A program reads the output: one JSON document, and nothing else.
        debug: Failures show their traceback.
    """

    json: bool = False
    debug: bool = False
    _interrupts: Interrupts = attrs.field(factory=Interrupts)

    @classmethod
    def of(cls, words: Sequence[str]) -> "Session":
        """The session that these arguments ask for.

        Asked of the words and not of click, so that a mistake in the words themselves is reported the same way.
        """
        options = words[: words.index("--")] if "--" in words else words
        return cls("--json" in options, "--debug" in options)

    def signals_handled(self) -> contextlib.AbstractContextManager[None]:
        """Ctrl-C and SIGTERM end the run in order while this is open."""
        return self._interrupts.handled()

    def cancelling(self) -> contextlib.AbstractContextManager[threading.Event]:
        """The event that Ctrl-C and SIGTERM set while this is open, for what makes its own operations."""
        return self._interrupts.cancelling()

    @contextlib.contextmanager
    def operation(self, timeout: float | None = DEFAULT_TIMEOUT, *, quiet: bool = False) -> Iterator[Operation]:
        """An operation with progress on a terminal, cancelled by Ctrl-C.

        Args:
            timeout: Seconds for all that is done with it.
            quiet: Draw no progress: while it runs, something else is printed.
        """
        with contextlib.ExitStack() as stack:
            cancel = stack.enter_context(self._interrupts.cancelling())
            report = None
            if sys.stderr.isatty() and not self.json and not quiet:
                report = stack.enter_context(showing_progress())
            yield Operation(timeout, cancel, report)


pass_session = click.make_pass_decorator(Session)


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json` and `--debug`, before a command's name and after it.

    `Session.of` reads them, so that they also rule over mistakes in the other options.
    """
    command = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of a failure.")(
        command
    )
    return click.option("--json", is_flag=True, expose_value=False, help="Print one JSON document.")(command)

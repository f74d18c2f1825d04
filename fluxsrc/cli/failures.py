"""How a failure looks to a person, to a program, and to the shell."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from fluxsrc._lazy import later
from fluxsrc.cli.interrupts import Interrupted
from fluxsrc.errors import (
    ConfigurationError,
    ContentError,
    FluxSrcError,
    OperationCancelledError,
    RateLimitedError,
    RefMovedError,
    SourceError,
    StoreError,
)

if TYPE_CHECKING:
    from fluxsrc.cli import hints
else:
    hints = later("fluxsrc.cli.hints")  # many patterns, and most commands do not fail

__all__ = ["BUG", "EXIT_CODES", "describe", "exit_code"]

EXIT_CODES: Final[Mapping[type[FluxSrcError], int]] = {
    ConfigurationError: 2,
    SourceError: 3,
    ContentError: 4,
    StoreError: 5,
    OperationCancelledError: 130,
}
"""One per first-level error class: the shell learns who can fix it."""

BUG: Final = 70
"""For an error that fluxsrc did not foresee (`EX_SOFTWARE`)."""


def exit_code(error: BaseException) -> int:
    """What the process ends with."""
    if isinstance(error, Interrupted):
        return 128 + error.signal
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), BUG)


def describe(error: BaseException, *, as_json: bool, debug: bool = False) -> str:
    """What failed, where, and what to do: as lines for a person, or as one JSON document.

    Args:
        error: The failure.
        as_json: For a program.
        debug: Whether the traceback was shown already, and need not be offered.
    """
    facts = _facts(error, debug=debug)
    if as_json:
        return json.dumps({"error": facts})
    # Who stopped it knows: for `serve` and `reconcile` that is the way to end them.
    lines = [facts["message"] if isinstance(error, Interrupted) else f"error: {facts['message']}"]
    lines += [f"  {name}: {facts[name]}" for name in ("where", "hint") if facts[name]]
    return "\n".join(lines)


def _facts(error: BaseException, *, debug: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "class": type(error).__name__,
        "reason": "Bug",
        "message": str(error) or type(error).__name__,
        "where": None,
        "hint": None,
        "retryable": False,
        "exit_code": exit_code(error),
    }
    if isinstance(error, FluxSrcError):
        facts |= {
            "reason": error.reason,
            "message": error.message,
            "where": getattr(error, "url", None) or getattr(error, "path", None),
            "hint": hints.advice(error),
            "retryable": error.retryable,
        }
        if isinstance(error, RateLimitedError):
            facts["retry_after"] = error.retry_after
        if isinstance(error, RefMovedError):
            facts |= {"old": error.old, "new": error.new}
    elif isinstance(error, Interrupted):
        facts["reason"] = OperationCancelledError.reason
    else:
        facts["message"] = f"a bug in fluxsrc: {facts['class']}: {error}"
        facts["hint"] = None if debug else "run it again with --debug, and report what it shows"
    return facts

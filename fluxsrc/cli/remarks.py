"""What the library remarks in its log, as lines on stderr: a program with no log of its own would lose it, or print it raw."""

import contextlib
import json
import logging
from collections.abc import Iterator

from fluxsrc.cli.render import echo

__all__ = ["remarks_shown"]


class _Remarks(logging.Handler):
    def __init__(self, *, as_json: bool) -> None:
        super().__init__(logging.WARNING)
        self._as_json = as_json

    def emit(self, record: logging.LogRecord) -> None:
        # A source's failures are events, and shown as such; whoever reads the log of a service needs them there as well.
        if hasattr(record, "fluxsrc_key"):
            return
        text = record.getMessage()
        echo(json.dumps({"warning": text}) if self._as_json else f"warning: {text}", err=True)


@contextlib.contextmanager
def remarks_shown(*, as_json: bool) -> Iterator[None]:
    """Show them while this is open: to a person, or to a program as one JSON object a line."""
    log = logging.getLogger("fluxsrc")
    handler = _Remarks(as_json=as_json)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)

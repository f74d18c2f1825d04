"""For tests that have to do with time: none fails because a machine is busy, and none waits for longer than it has to."""

import time

from fluxsrc.operation import Operation

PATIENCE = 60.0
"""Seconds after which what should have happened will not."""


def wait_until(claim):
    """Until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not claim():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)


def expire(operation: Operation) -> None:
    """Let its deadline be now: what should come before it has come, however slowly."""
    object.__setattr__(operation, "_deadline", time.monotonic())

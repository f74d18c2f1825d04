"""`converse`: one question to a program that keeps credentials, in bounded time, and an answer of bounded length."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

__all__ = ["converse"]

_MAX_ANSWER: Final = 64 * 1024


def converse(
    command: Sequence[str], question: bytes, *, timeout: float, environment: Mapping[str, str] | None = None
) -> tuple[bytes, int]:
    """What a program answers, and its exit status. It gets no terminal; what it says to stderr is not for us.

    Args:
        command: The program, looked for where PATH says, and its arguments. No shell sees them.
        question: For its standard input; fits into any pipe.
        timeout: Seconds for all of it. Then the program is ended, with all that it started.
        environment: Its environment; ours, if none is given.

    Raises:
        OSError: It cannot be run.
        subprocess.TimeoutExpired: It does not come to an end in time.
        ValueError: It does not come to an end of its answer.
    """
    end = time.monotonic() + timeout
    process = subprocess.Popen(  # noqa: S603 - no shell, and callers check the words
        command,
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # it may well say the password there
        env=environment,
        start_new_session=True,  # without a terminal, and a group that can be ended as a whole
    )
    with process:
        try:
            answer = _exchange(process, question, end, timeout)
            return answer, process.wait(timeout=max(0.0, end - time.monotonic()))
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
            raise


def _exchange(process: "subprocess.Popen[bytes]", question: bytes, end: float, timeout: float) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):  # it does not care for the question; its answer tells
        process.stdin.write(question)
    process.stdin.close()
    answer = b""
    poller = select.poll()
    poller.register(process.stdout, select.POLLIN)
    while len(answer) <= _MAX_ANSWER:
        if not poller.poll(max(0.0, end - time.monotonic()) * 1000):
            raise subprocess.TimeoutExpired(process.args, timeout)
        chunk = os.read(process.stdout.fileno(), _MAX_ANSWER)
        if not chunk:
            return answer
        answer += chunk
    raise ValueError("the answer has no end")

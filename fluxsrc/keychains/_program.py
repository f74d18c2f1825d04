"""`converse`: one question to a program that keeps credentials, in bounded time, and an answer of bounded length."""

import os
import select
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from fluxsrc._io.waiting import POLL
from fluxsrc.errors import AuthenticationError, ConfigurationError
from fluxsrc.operation import Operation

__all__ = ["DEFAULT_TIMEOUT", "converse"]

DEFAULT_TIMEOUT: Final = 30.0
"""Seconds that a program may think about its answer, unless the operation ends before."""
_MAX_ANSWER: Final = 64 * 1024


def converse(
    command: Sequence[str],
    question: bytes,
    *,
    operation: Operation,
    name: str,
    url: str,
    environment: Mapping[str, str] | None = None,
) -> tuple[bytes, int]:
    """What a program answers, and its exit status. It gets no terminal; what it says to stderr is not for us.

    It is asked the same once in an operation, which may need the credentials for each of many requests.

    Args:
        command: The program, looked for where PATH says, and its arguments. No shell sees them.
        question: For its standard input; fits into any pipe.
        operation: When it ends, the program is ended, with all that it started.
        name: The program's, for messages.
        url: What the question is about, for messages.
        environment: Its environment; ours, if none is given.

    Raises:
        ConfigurationError: It cannot be run.
        TransportTimeoutError: It does not come to an end in time.
        OperationCancelledError: Nobody wants to know any more.
        AuthenticationError: It does not come to an end of its answer.
    """
    phase = f"log in by {name}"
    operation.check(phase, url=url)
    known: tuple[bytes, int] | None = operation.memo.get((*command, question))
    if known is not None:
        return known
    try:
        process = subprocess.Popen(  # noqa: S603 - no shell, and callers check the words
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it may well say the password there
            env=environment,
            start_new_session=True,  # without a terminal, and a group that can be ended as a whole
        )
    except OSError as exc:
        raise ConfigurationError(
            f"cannot run {command[0]}, to be asked about {url}: {exc.strerror}",
            hint="is it installed, where PATH says?",
        ) from None

    def patience() -> float:
        left = operation.remaining(phase, at_most=POLL, url=url)
        assert left is not None
        return left

    with process:
        try:
            answer = _exchange(process, question, patience, endless=f"{name} answers nonsense for {url}, without end")
            while True:
                with suppress(subprocess.TimeoutExpired):
                    status = process.wait(timeout=patience())
                    operation.memo[*command, question] = answer, status
                    return answer, status
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
            raise


def _exchange(
    process: "subprocess.Popen[bytes]", question: bytes, patience: Callable[[], float], *, endless: str
) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):  # it does not care for the question; its answer tells
        process.stdin.write(question)
    process.stdin.close()
    answer = b""
    poller = select.poll()
    poller.register(process.stdout, select.POLLIN)
    while len(answer) <= _MAX_ANSWER:
        if poller.poll(patience() * 1000):
            chunk = os.read(process.stdout.fileno(), _MAX_ANSWER)
            if not chunk:
                return answer
            answer += chunk
    raise AuthenticationError(endless)

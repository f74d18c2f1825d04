"""Reading files as they were listed, and only so; run as a program, for another process (see `ahead`).

As a program, this file is all of the package that is loaded, and it imports only what every interpreter loads before its
first line (`typing` alone would double its start).
"""

import os
import sys

__all__ = ["NUMBER", "UNREAD", "StaleError", "open_listed", "read_listed", "receive", "send", "state_of"]

NUMBER = 8
"""Bytes of a length or size between the two processes."""
UNREAD = (1 << 64) - 1
"""The size of a file that could not be read as it was listed."""
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class StaleError(Exception):
    """A file is not as it was listed."""


def state_of(status: os.stat_result) -> str:
    """What a write to a file cannot leave as it was."""
    # Twice as fast as an f-string, which formats each number by a call.
    return "stat:%x-%x-%x-%x" % (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)  # noqa: UP031


def open_listed(path: str | bytes, state: str) -> int:
    """A descriptor of a file in this state; a link is not followed.

    Raises:
        StaleError: It is in another state.
        OSError: It cannot be opened.
    """
    descriptor = os.open(path, _OPEN_FLAGS)
    if state_of(os.fstat(descriptor)) != state:
        os.close(descriptor)
        raise StaleError
    return descriptor


def read_listed(path: str | bytes, state: str) -> bytes:
    """The whole content of a file in this state; one byte more if it grew meanwhile. Errors as of `open_listed`."""
    descriptor = os.open(path, _OPEN_FLAGS)
    try:
        status = os.fstat(descriptor)
        if state_of(status) != state:
            raise StaleError
        size = status.st_size
        # One byte more than there should be shows that it grew; a short read in the middle is allowed to happen.
        data = os.read(descriptor, size + 1)
        while 0 < len(data) < size and (more := os.read(descriptor, size + 1 - len(data))):
            data += more
    finally:
        os.close(descriptor)
    return data


def send(descriptor: int, message: bytes) -> None:
    """Write a message to a pipe."""
    rest = memoryview(len(message).to_bytes(NUMBER, sys.byteorder) + message)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def receive(descriptor: int) -> bytes:
    """The next message of a pipe.

    Raises:
        EOFError: The other side is gone.
    """
    return _exactly(descriptor, int.from_bytes(_exactly(descriptor, NUMBER), sys.byteorder))


def _exactly(descriptor: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(descriptor, size)
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _answer(root: bytes, request: bytes) -> bytes:
    """The sizes and then the contents of the files of a request: path and state of each, NUL between."""
    fields = iter(request.split(b"\0"))
    sizes: list[bytes] = []
    contents: list[bytes] = []
    for path, state in zip(fields, fields, strict=True):
        try:
            contents.append(read_listed(root + path, state.decode()))
            sizes.append(len(contents[-1]).to_bytes(NUMBER, sys.byteorder))
        except (OSError, StaleError):  # whoever asks reads it as well, and says what is wrong
            sizes.append(UNREAD.to_bytes(NUMBER, sys.byteorder))
    return b"".join(sizes + contents)


def main(root: bytes) -> None:
    """Answer each request until there is an empty one."""
    requests, answers = sys.stdin.fileno(), sys.stdout.fileno()
    request = receive(requests)
    while request:
        answer = _answer(root, request)
        # The next request is taken before this answer is given, so that the two sides never wait for each other to take.
        request = receive(requests)
        send(answers, answer)


if __name__ == "__main__":
    try:
        main(os.fsencode(sys.argv[1].rstrip("/")) + b"/")
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        sys.exit(1)  # the other process is gone, or about to go

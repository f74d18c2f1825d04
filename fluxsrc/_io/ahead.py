"""`ReadAhead`: many small files, read by a second process while this one works on those before.

Of small files, opening and reading takes most of the time, all of it with Python's lock coming and going, so that threads
cannot share it. Another process can. It is started once enough files have been read one after another and enough are
left, as an operating system begins to read ahead. Whatever goes wrong with it, the caller reads for itself: that is
slower, and nothing else.
"""

import contextlib
import fcntl
import os
import sys
import threading
from collections import deque
from collections.abc import Sequence
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from fluxsrc._io import listed
from fluxsrc._io.cores import cores
from fluxsrc._io.listed import NUMBER, UNREAD, receive, send
from fluxsrc._lazy import later

if TYPE_CHECKING:
    import subprocess
else:
    subprocess = later("subprocess")  # most directories are small

__all__ = ["File", "ReadAhead"]

_AFTER: Final = 256
"""Files read one after another before the process is started."""
_LEAD: Final = 512
"""Files that are read here while it starts."""
_WORTH: Final = 2048
"""Files that have to be left."""
_GAP: Final = 16
"""So many may be left out, and it still is one after another."""
_BATCH: Final = 128
"""Files in a request."""
_BATCH_BYTES: Final = 1024 * 1024
"""Bytes of their contents, more or less; and what a pipe holds where its size can be chosen."""
_LARGE: Final = 64 * 1024
"""Sending the content of a file of more bytes takes longer than opening it."""

File = tuple[str, int, int, str]
"""Path below the root, mode, size, and state as `fluxsrc._io.listed.state_of` has it."""


class ReadAhead:
    """Reads the files of a list in its order; a context that leaves no process behind. Any thread may call it."""

    def __init__(self, root: str, files: Sequence[File]) -> None:
        self._root = root
        self._files = files
        self._is_wanted = len(files) >= _WORTH and _is_possible()
        self._reader: _Reader | None = None
        self._contents: dict[int, bytes] = {}
        self._lock = threading.RLock()  # the generator that closes this may be collected in the midst of `read`
        self._next = 0
        self._in_order = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _exc: object, _traceback: TracebackType | None) -> None:
        with self._lock:
            self._is_wanted = False
            self._stop()

    def read(self, number: int) -> bytes | None:
        """The content of a file of the list, once, if it was read ahead; else the caller has to read it."""
        data = self._contents.pop(number, None)
        if data is not None or not self._is_wanted:
            return data
        with self._lock:
            if self._reader is None:
                self._notice(number)
                return None
            try:
                contents = self._reader.around(number)
            except (OSError, EOFError):
                self._is_wanted = False
                contents = None
            if contents is None:
                self._stop()
                return None
            self._contents = contents
            return contents.pop(number, None)

    def _notice(self, number: int) -> None:
        """A file is read by the caller: start the process if it is one of many in order."""
        self._in_order = self._in_order + 1 if 0 <= number - self._next < _GAP else 0
        self._next = number + 1
        if self._is_wanted and self._in_order >= _AFTER and len(self._files) - number >= _WORTH:
            self._in_order = 0
            try:
                self._reader = _Reader(self._root, self._files, number + _LEAD)
            except OSError:
                self._is_wanted = False

    def _stop(self) -> None:
        if self._reader is not None:
            self._reader.stop()
            self._reader = None
            self._contents = {}


@cache
def _is_possible() -> bool:
    """Whether a second process would help, and the interpreter's program is one that runs Python files."""
    program = os.path.basename(sys.executable or "")
    return cores() > 1 and program.startswith("python") and os.path.isfile(listed.__file__)


class _Request(NamedTuple):
    numbers: list[int]
    """The files that were asked for."""
    end: int
    """The first file after them that was not."""


class _Reader:
    """The process: reads a list's files, from one of them on, at most three requests ahead of who takes them."""

    def __init__(self, root: str, files: Sequence[File], first: int) -> None:
        self._files = files
        self._requests: deque[_Request] = deque()
        self._asked_to = self._answered_to = first
        self._is_asking = True
        self._owner = os.getpid()
        self._contents: dict[int, bytes] = {}
        self._program = subprocess.Popen(  # this interpreter, and a file of ours
            [sys.executable, "-I", "-S", listed.__file__, root],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._to, self._from = self._program.stdin.fileno(), self._program.stdout.fileno()
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):  # there are limits to what a user's pipes may hold
                fcntl.fcntl(self._from, fcntl.F_SETPIPE_SZ, _BATCH_BYTES)
        try:
            self._ask()
            self._ask()
        except BaseException:
            self.stop()
            raise

    def around(self, number: int) -> dict[int, bytes] | None:
        """The answer about a file and its neighbours, without those that could not be read; None if it is not near.

        Nor is there one in a forked child: two processes cannot read from one pipe.

        Raises:
            OSError, EOFError: The process is gone.
        """
        if number >= self._asked_to or os.getpid() != self._owner:
            return None
        while self._requests and number >= self._answered_to:
            self._receive()
        return self._contents

    def stop(self) -> None:
        """End it."""
        with self._program:
            self._program.kill()

    def _receive(self) -> None:
        answer = receive(self._from)
        numbers, self._answered_to = self._requests.popleft()
        start = len(numbers) * NUMBER
        sizes = memoryview(answer)[:start].cast("Q")
        self._contents = {}
        for number, size in zip(numbers, sizes, strict=True):
            if size != UNREAD:
                self._contents[number] = answer[start : (start := start + size)]
        self._ask()

    def _ask(self) -> None:
        """Send the next request; an empty one says that there are no more."""
        numbers: list[int] = []
        fields: list[str] = []
        total = 0
        number = self._asked_to
        while number < len(self._files) and len(numbers) < _BATCH and total < _BATCH_BYTES:
            path, _, size, state = self._files[number]
            if size <= _LARGE:
                numbers.append(number)
                fields += (path, state)
                total += size
            number += 1
        self._asked_to = number
        if numbers:
            self._requests.append(_Request(numbers, number))
        if self._is_asking:
            self._is_asking = bool(numbers)
            send(self._to, os.fsencode("\0".join(fields)))

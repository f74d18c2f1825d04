"""`ReadAhead`: obtains LFS files before they are asked for, a few at a time, and not too far ahead."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from fluxsrc.errors import FluxSrcError
from fluxsrc.git.lfs import LFSPointer
from fluxsrc.git.lfs_batch import BATCH_SIZE

__all__ = ["ReadAhead"]

WINDOW_BYTES: Final = 256 << 20
"""Bytes of files that are on their way, or here and not asked for yet. One file may be larger."""
_MAX_FAILURES: Final = 3


class ReadAhead:
    """Obtains files in the order in which they are expected, in threads of its own. Thread-safe; close it.

    It begins with the first file that is asked for, or once enough are expected for a whole question to the server; so that
    the first question is about many. It never runs further ahead than `WINDOW_BYTES`, however much is expected. What fails is
    left to whoever asks for that file, who tries again and is told why; after a few failures it stops.

    Args:
        obtain: Makes a file be here; raises what `LFSStore.open` does.
        concurrency: How many at a time.
    """

    def __init__(self, obtain: Callable[[LFSPointer], None], concurrency: int) -> None:
        self._obtain = obtain
        self._concurrency = concurrency
        self._changed = threading.Condition()
        self._expected: deque[LFSPointer] = deque()
        self._ahead: dict[str, int] = {}  # bytes of what was begun and is not asked for yet, by name
        self._asked: set[str] = set()
        self._threads: list[threading.Thread] = []
        self._failures = 0
        self._over = False

    def expect(self, pointer: LFSPointer) -> None:
        """Say that this file will be asked for, after those of which that was said before. Never blocks."""
        with self._changed:
            if self._over or self._is_known(pointer):
                return
            self._expected.append(pointer)
            self._changed.notify()
            if len(self._expected) >= BATCH_SIZE:
                self._begin()

    def asked(self, pointer: LFSPointer) -> None:
        """Say that this file is asked for now: there is room for another one."""
        with self._changed:
            self._asked.add(pointer.oid)
            self._ahead.pop(pointer.oid, None)
            self._begin()
            self._changed.notify_all()

    def close(self) -> None:
        """Begin nothing more, and wait for what was begun; whatever that waits for should be closed before."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _is_known(self, pointer: LFSPointer) -> bool:
        return pointer.oid in self._ahead or pointer.oid in self._asked

    def _begin(self) -> None:
        """With the lock held: start as many threads as there is work for."""
        while not self._over and len(self._threads) < min(self._concurrency, len(self._expected)):
            thread = threading.Thread(target=self._run, name="fluxsrc-lfs", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self) -> None:
        while (pointer := self._next()) is not None:
            try:
                self._obtain(pointer)
            except FluxSrcError:
                with self._changed:
                    self._failures += 1
                    self._over = self._over or self._failures >= _MAX_FAILURES
                    self._changed.notify_all()

    def _next(self) -> LFSPointer | None:
        """The next file, once there is room for it; None if there is nothing more to do."""
        with self._changed:
            while not self._over:
                while self._expected and self._is_known(self._expected[0]):
                    self._expected.popleft()
                if self._expected:
                    pointer = self._expected[0]
                    if not self._ahead or sum(self._ahead.values()) + pointer.size <= WINDOW_BYTES:
                        self._ahead[pointer.oid] = pointer.size
                        return self._expected.popleft()
                self._changed.wait()
        return None

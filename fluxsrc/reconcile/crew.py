"""`Crew`: threads that take work one after the other, of which most is short and some hangs for ever.

Python runs one thread at a time, and each step from one to the next costs more than the work between two steps of a look
that finds nothing new: eight threads take twice the processor time that one takes for the same looks. So one thread does
what is quick, and takes the next itself; others help where what is at work waits for the network:

1. Whoever came back *quickly* goes on, unless another one did since the last call. Then that one goes on alone.
2. Whoever was slow goes on: waiting costs nothing.
3. If nobody was quick from one call to the next, as many more take part as are at work: soon all slots are in use.

The threads do not keep a process alive: one that hangs for ever must not hold up its end.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Crew"]


class Crew:
    """As many threads as the work needs; how much there is at a time, whoever hands it out decides.

    Args:
        name: Of the threads.
        take: The next work, or None if there is none now. Called in the threads, as the work is; neither raises anything.
    """

    pause: Final = 0.01
    """Seconds between two calls while there is work to take."""
    quick: Final = 0.003
    """Seconds within which somebody came back quickly: longer than a look on this machine, shorter than a network is far."""

    def __init__(self, name: str, take: Callable[[], Callable[[], object] | None]) -> None:
        self._name: Final = name
        self._take: Final = take
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._resting = 0
        self._called = 0
        """How many of those that rest are to go to work."""
        self._quick: int | None = None
        """Which thread came back quickly since the last call."""
        self._closed = False

    @property
    def at_work(self) -> int:
        """Threads that do something, or look for something to do."""
        return len(self._threads) - self._resting

    def call(self) -> None:
        """There is work: see that somebody takes it. If it is still there after a `pause`, call again.

        Raises:
            RuntimeError: No thread can be had, and none is at work.
        """
        with self._changed:
            quick, self._quick = self._quick, None
            if quick is None or not self.at_work:
                for _ in range(max(1, self.at_work)):
                    if not self._add():
                        break

    def close(self, *, wait: bool) -> None:
        """Let the threads end once they have done what they do."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if wait:
            for thread in self._threads:
                thread.join()

    def _add(self) -> bool:
        if self._resting:
            self._resting -= 1
            self._called += 1
            self._changed.notify()
            return True
        thread = threading.Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self.at_work:
                raise
            return False
        self._threads.append(thread)
        return True

    def _serve(self) -> None:
        me = threading.get_ident()
        while True:
            work = self._take()
            while work is not None:
                began = time.monotonic()
                work()
                quick = time.monotonic() - began < self.quick
                work = self._take() if self._goes_on(me, quick=quick) else None
            if not self._rest(me):
                return

    def _goes_on(self, me: int, *, quick: bool) -> bool:
        with self._changed:
            if quick and self._quick is None:
                self._quick = me
            return not self._closed and (not quick or self._quick == me)

    def _rest(self, me: int) -> bool:
        """Wait until there is work; False if there will be none."""
        with self._changed:
            if self._quick == me:
                self._quick = None
            self._resting += 1
            self._changed.wait_for(lambda: self._called or self._closed)
            if self._closed:
                return False
            self._called -= 1
            return True

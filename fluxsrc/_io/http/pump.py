"""`Pump`: many small GETs over many connections, in one thread and without a lock to fight over.

Thousands of small objects are not bound by the network but by what the interpreter spends on each, and most of that is
threads that hand over to each other. So here one thread, the reader's own, serves all connections: it sends requests when
they are submitted, several at a time on each connection, and collects what came back when it needs it.

This is the fast path of a slow one. It understands only the answer one hopes for: 200, a body of the length that was
expected, a connection that stays open. Whatever else comes is no result here, and the caller asks again with
`HTTPClient.request`, which knows errors, retries, and every other way to send a body. GET is idempotent: asking twice
harms nothing.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Final

import attrs

from fluxsrc._io.http.bound import Bound
from fluxsrc._io.http.client import HTTPClient
from fluxsrc._io.http.network import Channel
from fluxsrc._io.http.pipeline import Answer, Reader, Request
from fluxsrc._lazy import later
from fluxsrc.errors import SourceError

if TYPE_CHECKING:
    import ssl
else:
    ssl = later("ssl")

__all__ = ["Job", "Pump"]

_BLOCK: Final = 256 << 10
_TICK: Final = 1.0
"""Seconds between two looks at connections that are silent."""
_MAX_FAILURES: Final = 16
"""Connections that may fail before the slow path is the better one for everything."""


@attrs.define(eq=False, repr=False)
class Job:
    """Some requests that travel together.

    Attributes:
        requests: What was asked.
        answers: What came; None where the slow path is needed. Complete once `done`.
        done: Whether nothing more will come.
    """

    requests: Sequence[Request]
    answers: list[Answer | None]
    done: bool = False


@attrs.define(eq=False, repr=False)
class _Wire:
    """A connection, and the job on it."""

    channel: Channel
    job: Job | None = None
    reader: Reader | None = None
    unsent: memoryview = attrs.field(factory=lambda: memoryview(b""))
    since: float = 0.0


class Pump:
    """Thread-safe; but one thread at a time pumps, and the others wait for it."""

    def __init__(self, http: HTTPClient, base: str, executor: Executor, bound: Bound, *, connections: int) -> None:
        self._http = http
        self._base = base
        self._executor = executor
        self._bound = bound
        self._max = connections
        self._lock = threading.RLock()
        self._selector = selectors.DefaultSelector()
        self._queue: deque[Job] = deque()
        self._idle: list[_Wire] = []
        self._wires: set[_Wire] = set()
        self._opening: set[Future[tuple[Channel, str]]] = set()
        self._host = ""
        self._failures = 0
        self._block = memoryview(bytearray(_BLOCK))
        # Connections are opened in other threads; one that is ready says so here.
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._ringer.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)

    @property
    def healthy(self) -> bool:
        """Whether it is worth using: a server that closes each connection after one answer is better asked one by one."""
        return self._failures < _MAX_FAILURES

    def submit(self, requests: Sequence[Request]) -> Job:
        """Send the requests as soon as a connection is free; never blocks."""
        job = Job(requests, [None] * len(requests))
        with self._lock:
            self._queue.append(job)
            self._assign()
        return job

    def wait(self, job: Job) -> None:
        """Until the job is done.

        Raises:
            TransportTimeoutError: The deadline passed.
            OperationCancelledError: The operation was cancelled.
        """
        while not job.done:
            with self._lock:
                if not job.done:
                    self._turn()

    def drop(self, job: Job) -> None:
        """Nobody wants the answers any more. What was sent already comes in anyway."""
        with self._lock, contextlib.suppress(ValueError):
            self._queue.remove(job)
            job.done = True

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for wire in list(self._wires):
                self._lose(wire)
            for future in self._opening:
                if not future.cancel() and future.done() and future.exception() is None:
                    future.result()[0].close()
            self._selector.close()
            self._bell.close()
            self._ringer.close()

    def _turn(self) -> None:
        """Wait until something happens, and deal with it."""
        events = self._selector.select(self._bound.slice(_TICK))
        for key, _ in events:
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._bell.recv(4096)
            elif key.data.unsent:
                self._send(key.data)
            else:
                self._receive(key.data)
        if not events:
            silent = time.monotonic() - self._bound.idle
            for wire in [wire for wire in self._wires if wire.job is not None and wire.since < silent]:
                self._lose(wire)
        self._adopt()
        self._assign()

    def _assign(self) -> None:
        """Give jobs to connections; open more of them while there are jobs left."""
        while self._queue and self._idle:
            self._begin(self._idle.pop(), self._queue.popleft())
        wanted = min(self._max, len(self._wires) + len(self._queue)) if self.healthy else 0
        while len(self._wires) + len(self._opening) < wanted:
            future = self._executor.submit(self._http.borrow, self._base, self._bound)
            self._opening.add(future)
            future.add_done_callback(self._ring)
        if self._queue and not self._wires and not self._opening:  # no connection to be had: the slow path says why
            for job in self._queue:
                job.done = True
            self._queue.clear()

    def _ring(self, _future: object) -> None:
        with contextlib.suppress(OSError):  # full: it rings already; closed: nobody listens
            self._ringer.send(b"!")

    def _adopt(self) -> None:
        """Take in the connections that were opened."""
        for future in [future for future in self._opening if future.done()]:
            self._opening.discard(future)
            if future.cancelled() or isinstance(future.exception(), SourceError):
                self._failures += 1
                continue
            channel, self._host = future.result()
            wire = _Wire(channel)
            self._wires.add(wire)
            self._idle.append(wire)
            self._selector.register(channel.sock, selectors.EVENT_READ, wire)

    def _begin(self, wire: _Wire, job: Job) -> None:
        wire.job, wire.reader = job, Reader(job.requests, job.answers)
        text = "".join([f"GET {r.target} HTTP/1.1\r\nHost: {self._host}\r\n{r.fields}\r\n" for r in job.requests])
        wire.unsent = memoryview(text.encode("ascii"))
        self._send(wire)

    def _send(self, wire: _Wire) -> None:
        wire.since = time.monotonic()
        event = selectors.EVENT_WRITE
        try:
            while wire.unsent:
                wire.unsent = wire.unsent[wire.channel.duplex.send(wire.unsent) :]
            event = selectors.EVENT_READ
        except BlockingIOError:
            pass
        except ssl.SSLWantWriteError:
            pass
        except ssl.SSLWantReadError:
            event = selectors.EVENT_READ
        except OSError:
            self._lose(wire)
            return
        if self._selector.get_key(wire.channel.sock).events != event:
            self._selector.modify(wire.channel.sock, event, wire)

    def _receive(self, wire: _Wire) -> None:
        wire.since = time.monotonic()
        if wire.reader is None:  # an idle connection has nothing to say but that it is closed
            self._lose(wire)
            return
        try:
            while count := wire.channel.duplex.recv_into(self._block):
                wire.reader.feed(self._block[:count])
                if wire.reader.finished:
                    break
            else:
                self._lose(wire)
                return
        except BlockingIOError:
            return
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            self._lose(wire)
            return
        self._end(wire)

    def _end(self, wire: _Wire) -> None:
        job, reader = wire.job, wire.reader
        assert job is not None
        assert reader is not None
        wire.job = wire.reader = None
        job.done = True
        if reader.reusable:
            self._idle.append(wire)
        else:
            self._failures += not reader.complete
            self._lose(wire)

    def _lose(self, wire: _Wire) -> None:
        """Give up a connection; what its job still lacks is for the slow path."""
        if wire.job is not None:
            wire.job.done = True
            wire.job = wire.reader = None
            self._failures += 1
        with contextlib.suppress(ValueError):
            self._idle.remove(wire)
        self._wires.discard(wire)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(wire.channel.sock)
        wire.channel.close()

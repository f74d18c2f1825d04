"""Reading many objects at once, in order, through a bounded window.

Small objects are requested before they are opened, a large one in parts while it is read; so many requests are on their
way at the same time, what they bring is handed out in order, and never more than a window's worth of it is in memory.
A part whose connection breaks is asked for again by the client: nothing starts over.

How far to look ahead is learned from the reader, as a kernel does it for files: each object that is opened right after
the one before it doubles the number of objects requested ahead, anything else starts over. Packing everything runs at
full width after a few objects, and a reader that opens ten of ten thousand costs ten requests. A reader that says what it
will open (`Entry.expect`) is believed, and from then on nothing is guessed.
"""

import io
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Any, BinaryIO, Final, cast

import attrs

from fluxsrc._io.waiting import result_of
from fluxsrc.bucket.checksum import Checker
from fluxsrc.bucket.protocol import Batch, BatchReader, BucketClient, BucketObject, Content
from fluxsrc.errors import FluxSrcError
from fluxsrc.operation import Operation

__all__ = ["PART", "WINDOW", "WORKERS", "Handle", "ReadAhead"]

WORKERS: Final = 32
"""Requests on their way at once."""
PART: Final = 8 << 20
"""Bytes of one request: so large that what a request costs is nothing beside it."""
WINDOW: Final = 48 << 20
"""Bytes that are requested and not read yet, at most (of small objects together, or of one large one)."""
_MAX_DEPTH: Final = 512
"""Objects that are requested and not opened yet, at most."""
_SMALL: Final = 64 << 10
_BATCH: Final = 8
"""Small objects that one worker reads in a row: handing over between threads costs as much as a request."""
_STRAGGLERS: Final = 64
"""Places that a reader with several threads may open out of order."""


@attrs.define(eq=False, repr=False)
class Handle:
    """One object of a listing, opened when it is its turn; by then it may be here already.

    Attributes:
        path: Of the entry.
        item: The object.
        place: Its number in the listing.
    """

    path: str
    item: BucketObject
    place: int
    _ahead: "ReadAhead" = attrs.field(repr=False)
    next: "Handle | None" = attrs.field(default=None, repr=False)
    batch: "Batch | None" = attrs.field(default=None, repr=False)
    place_in_batch: int = 0
    expected: bool = False
    opened: bool = False

    def expect(self) -> None:
        """It will be opened soon: request it, if there is room for it."""
        self._ahead.expect(self)

    def open(self) -> BinaryIO:
        """A stream over the object; its last byte is handed out only if all of them were right."""
        return cast("BinaryIO", io.BufferedReader(_Stream(self._ahead.parts(self)), 1 << 16))

    def read(self) -> bytes:
        """All of the object; for small ones."""
        return b"".join(self._ahead.parts(self))


class ReadAhead:
    """Gives handles to the objects of a listing, and requests what will be opened next. For one iteration.

    Handles are linked, each to its next one, and made when they are reached. What nobody holds any more is gone, however
    far apart asking for entries and opening them are.
    """

    def __init__(
        self,
        objects: Iterable[tuple[str, BucketObject]],
        client: BucketClient,
        executor: Executor,
        operation: Operation,
        *,
        url: str,
        on_bytes: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self._objects = iter(objects)
        self._client = client
        self._batches = client if isinstance(client, BatchReader) else None
        self._executor = executor
        self._operation = operation
        self._url = url
        self._on_bytes = on_bytes
        self._lock = threading.RLock()
        self._made = 0
        self._expected = 0
        self._depth = 0
        self._requested: dict[int, Handle] = {}
        self._bytes = 0
        self._told = False
        self._announced: deque[Handle] = deque()
        self._frontier: Handle | None = None
        self._frontier_place = 0

    def __iter__(self) -> Iterator[Handle]:
        handle = self._make()
        while handle is not None:
            yield handle
            handle = self._after(handle)

    def expect(self, handle: Handle) -> None:
        """Request this object, now or as soon as there is room; and guess no more."""
        with self._lock:
            self._announce(handle)
            if len(self._announced) >= _BATCH:
                self._request_announced()

    def expect_all(self) -> list[Handle]:
        """All handles; as many of them as there is room for are requested at once, and the others as these are opened."""
        handles = list(self)
        with self._lock:
            for handle in handles:
                self._announce(handle)
            self._request_announced()
        return handles

    def parts(self, handle: Handle) -> Iterator[bytes | bytearray]:
        """The content of an object, in order and checked; the last part comes only if all of it was right."""
        check = Checker(handle.item, handle.path)
        contents = self._stream(handle) if handle.item.size > PART else self._whole(handle)
        for content in contents:
            check.update(content)
            self._on_bytes(len(content.data))
            yield content.data

    def _whole(self, handle: Handle) -> Iterator[Content]:
        with self._lock:
            self._opened(handle)
            batch = self._forget(handle)
        if batch is not None:
            yield batch.content(handle.place_in_batch)
        elif handle.item.size:  # opened for a second time, or there was no room for it
            again = self._executor.submit(self._client.read, handle.item)
            yield result_of(again, self._operation, "receive", url=self._url)

    def _stream(self, handle: Handle) -> Iterator[Content]:
        with self._lock:
            self._opened(handle)
        size = handle.item.size
        starts = iter(range(0, size, PART))
        pending: deque[Future[Content]] = deque()
        try:
            while True:
                while len(pending) < WINDOW // PART and (start := next(starts, None)) is not None:
                    length = min(PART, size - start)
                    pending.append(self._executor.submit(self._client.read, handle.item, start, length))
                if not pending:
                    return
                yield result_of(pending.popleft(), self._operation, "receive", url=self._url)
        finally:
            for future in pending:
                future.cancel()

    def _make(self) -> Handle | None:
        found = next(self._objects, None)
        if found is None:
            return None
        self._made += 1
        return Handle(*found, self._made - 1, self)

    def _after(self, handle: Handle) -> Handle | None:
        with self._lock:
            if handle.next is None and handle.place == self._made - 1:
                handle.next = self._make()
            return handle.next

    def _opened(self, handle: Handle) -> None:
        """Learn from it, and request what is likely to come."""
        handle.opened = True
        if self._told:
            self._request_announced()
            return
        if handle.place == self._expected or handle.place in self._requested:
            self._depth = min(max(1, self._depth * 2), _MAX_DEPTH)
        else:
            self._depth = 1
            for stale in list(self._requested.values()):
                self._forget(stale, cancel=True)
            self._move_frontier(handle)
        self._expected = handle.place + 1
        while self._requested and (oldest := next(iter(self._requested))) < handle.place - _STRAGGLERS:
            self._forget(self._requested[oldest], cancel=True)
        if self._frontier_place <= handle.place:
            self._move_frontier(handle if handle.item.size <= PART else self._after(handle))
        # In large bites: filling up one by one would make batches of one. Not beside a large object: one window is enough.
        if handle.item.size <= PART and self._frontier_place - handle.place <= self._depth // 2:
            self._request(handle.place + self._depth)

    def _request(self, until: int) -> None:
        """Request objects from the frontier on, up to a place, a large object, or the end of the window."""
        batch: list[Handle] = []
        per_batch = min(_BATCH, 1 + self._depth // WORKERS)
        handle = self._frontier
        while handle is not None and handle.place < until and handle.item.size <= PART and self._bytes < WINDOW:
            if handle.item.size > _SMALL:
                self._submit([handle])
            elif handle.item.size:
                batch.append(handle)
                if len(batch) >= per_batch:
                    self._submit(batch)
                    batch = []
            handle = self._after(handle)
        self._submit(batch)
        self._move_frontier(handle)

    def _announce(self, handle: Handle) -> None:
        self._told = True
        if 0 < handle.item.size <= PART and not handle.expected:
            handle.expected = True
            self._announced.append(handle)

    def _request_announced(self) -> None:
        batch: list[Handle] = []
        # Half a window, for a large object may be on its way beside them.
        while self._announced and self._bytes < WINDOW // 2 and len(self._requested) < _MAX_DEPTH:
            handle = self._announced.popleft()
            if handle.opened:
                continue
            if handle.item.size > _SMALL:
                self._submit([handle])
            else:
                batch.append(handle)
                if len(batch) == _BATCH:
                    self._submit(batch)
                    batch = []
        self._submit(batch)

    def _move_frontier(self, handle: Handle | None) -> None:
        self._frontier = handle
        self._frontier_place = handle.place if handle is not None else self._made

    def _submit(self, batch: list[Handle]) -> None:
        if not batch:
            return
        items = [handle.item for handle in batch]
        started = None
        if len(items) > 1 and self._batches is not None:
            started = self._batches.start(items, self._executor)
        if started is None:
            future = self._executor.submit(_read_all, self._client, items)
            started = _Future(future, self._operation, self._url)
        for place, handle in enumerate(batch):
            handle.batch, handle.place_in_batch = started, place
            self._requested[handle.place] = handle
            self._bytes += handle.item.size

    def _forget(self, handle: Handle, *, cancel: bool = False) -> "Batch | None":
        batch, handle.batch = handle.batch, None
        if self._requested.pop(handle.place, None) is not None:
            self._bytes -= handle.item.size
        if cancel and batch is not None:
            batch.cancel()
        return batch


@attrs.frozen(eq=False, repr=False)
class _Future:
    """Objects that a thread reads one after the other: the batch of clients that know nothing better."""

    _future: Future[Sequence[Content | FluxSrcError]]
    _operation: Operation
    _url: str

    def content(self, place: int, /) -> Content:
        outcome = result_of(self._future, self._operation, "receive", url=self._url)[place]
        if isinstance(outcome, FluxSrcError):
            raise outcome
        return outcome

    def cancel(self) -> None:
        self._future.cancel()


def _read_all(client: BucketClient, items: Sequence[BucketObject]) -> Sequence[Content | FluxSrcError]:
    def read(item: BucketObject) -> Content | FluxSrcError:
        try:
            return client.read(item)
        except FluxSrcError as exc:  # of this one; the others may be well
            return exc

    return [read(item) for item in items]


class _Stream(io.RawIOBase):
    """Parts as a stream."""

    def __init__(self, parts: Iterator[bytes | bytearray]) -> None:
        super().__init__()
        self._parts = parts
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._parts, b""))
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        close = getattr(self._parts, "close", None)
        if close is not None:
            close()
        super().close()

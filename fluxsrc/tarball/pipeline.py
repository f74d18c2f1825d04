"""Digesting, compressing and writing at the same time, in order, with a bounded number of bytes in memory.

Hashing, deflating and file writes release the GIL, so that the thread that reads the source keeps a core to itself:

    caller ──batch──> compressing threads ──┬──> digest thread (one: a hash has an order)
                                            └──> write thread (one: a file has an order)

Blocks travel in batches. Whenever one of these threads comes back from C it wants the GIL, and takes it from the caller, who
releases it at every system call: some 100 µs each time, which at a dozen times a block costs more than the work itself.
"""

import hashlib
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self

from fluxsrc._io.cores import cores
from fluxsrc._lazy import later
from fluxsrc.digest import Digest
from fluxsrc.gzip import Block, crc32_combine
from fluxsrc.tarball.codec import Codec
from fluxsrc.tarball.index import Place

if TYPE_CHECKING:
    from concurrent import futures
else:
    futures = later("concurrent.futures")

__all__ = ["Pipeline", "Sink", "Written", "default_threads"]

_BATCH: Final = 2 * 1024 * 1024
"""Bytes before compression at which a batch is sent."""
_MAX_THREADS: Final = 8
"""More of them wait for the one that reads."""


class Sink(Protocol):
    """Where an archive goes: a file, an ingest. Called from one thread at a time, which is not always the same."""

    def write(self, data: bytes, /) -> Any:
        """Take all of the bytes."""
        ...


class Written(NamedTuple):
    """A block on its way out: what it holds, and what it is compressed to."""

    data: bytes
    block: Block


class _Pools(NamedTuple):
    """The threads, from the first whole batch on."""

    compressing: "futures.Executor"
    digesting: "futures.Executor"
    writing: "futures.Executor"

    @classmethod
    def of(cls, threads: int) -> "_Pools":
        counts = {"compress": threads, "digest": 1, "write": 1}
        return cls(*(futures.ThreadPoolExecutor(count, f"fluxsrc-{name}") for name, count in counts.items()))


def default_threads() -> int:
    """As many compressing threads as this process may use cores, within reason."""
    return min(cores(), _MAX_THREADS)


class Pipeline:
    """Takes the blocks of an archive, in order; a context that leaves no thread behind.

    Attributes:
        places: Where each block that was given is in the archive; complete after `finish`.
    """

    def __init__(self, sink: Sink, codec: Codec, threads: int) -> None:
        self.places: list[Place] = []
        self._sink = sink
        self._codec = codec
        self._digest = hashlib.sha256()
        self._size = self._crc = 0
        self._offset = len(codec.header)
        self._window = 2 * (threads + 2)
        self._batch: list[Callable[[], Written]] = []
        self._batch_size = 0
        self._pending: deque[futures.Future[None]] = deque()
        self._threads = threads
        self._pools: _Pools | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _exc: object, _traceback: TracebackType | None) -> None:
        for pool in self._pools or ():
            pool.shutdown(wait=True, cancel_futures=kind is not None)

    def write(self, data: bytes, *, thorough: bool = False) -> None:
        """The next block. Waits while too many are under way; raises what the sink raised for an earlier one.

        Args:
            data: The block.
            thorough: Compress it well.
        """
        self._add(partial(self._compressed, data, thorough=thorough), len(data))

    def splice(self, make: Callable[[], Written], size: int) -> None:
        """The next block, by a function that finds it already compressed; it is called where others are compressed."""
        self._add(make, size)

    def finish(self) -> tuple[Digest, int]:
        """Wait for all of it and end the archive; the digest and size of the content."""
        if self._pools is None:  # all of it is one batch, for which threads are not worth their start
            self._put(self._codec.header)
            batch = _made(self._batch)
            self._update(batch)
            self._write(batch)
        else:
            self._send()
            while self._pending:
                self._pending.popleft().result()
        self._put(self._codec.trailer(self._crc, self._size))
        return Digest("sha256", self._digest.hexdigest()), self._size

    def _add(self, block: Callable[[], Written], size: int) -> None:
        self._batch.append(block)
        self._batch_size += size
        if self._batch_size >= _BATCH:
            self._send()

    def _send(self) -> None:
        if self._pools is None:
            self._pools = _Pools.of(self._threads)
            self._pending.append(self._pools.writing.submit(self._put, self._codec.header))
        compressing, digesting, writing = self._pools
        batch = compressing.submit(_made, self._batch)
        self._batch, self._batch_size = [], 0
        self._pending.append(digesting.submit(lambda: self._update(batch.result())))
        self._pending.append(writing.submit(lambda: self._write(batch.result())))
        while len(self._pending) > self._window:
            self._pending.popleft().result()

    def _compressed(self, data: bytes, *, thorough: bool) -> Written:
        return Written(data, self._codec.compress(data, thorough=thorough))

    def _update(self, batch: list[Written]) -> None:
        self._digest.update(b"".join([written.data for written in batch]))

    def _write(self, batch: list[Written]) -> None:
        blocks = [written.block for written in batch]
        self._put(b"".join([block.payload for block in blocks]))
        for block in blocks:
            self._crc = crc32_combine(self._crc, block.crc, block.size)
            self._size += block.size
            self.places.append(Place(self._offset, len(block.payload), block.size, block.crc))
            self._offset += len(block.payload)

    def _put(self, data: bytes) -> None:
        if data:
            self._sink.write(data)


def _made(batch: list[Callable[[], Written]]) -> list[Written]:
    return [make() for make in batch]

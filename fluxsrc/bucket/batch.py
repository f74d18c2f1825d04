"""Batches of small objects over HTTP: the pump where it goes well, one by one where it does not."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Final

import attrs

from fluxsrc._io.http import HTTPClient
from fluxsrc._io.http.bound import Bound
from fluxsrc._io.http.pipeline import Answer, Request
from fluxsrc._io.http.pump import Job, Pump
from fluxsrc.bucket.protocol import Batch, BucketObject, Content
from fluxsrc.bucket.wait import result_of
from fluxsrc.operation import Operation

__all__ = ["Batches"]

_CONNECTIONS: Final = 32


@attrs.define(eq=False)
class Batches:
    """Starts batches for one client.

    Attributes:
        http: Whose connections are used.
        operation: The deadline and the cancel switch.
        url: For messages.
        prepare: Makes the requests for some objects.
        accept: Makes content of an answer, or None if it is not to be trusted.
        read: The slow path.
    """

    http: HTTPClient
    operation: Operation
    url: str
    prepare: Callable[[Sequence[BucketObject]], Sequence[Request]]
    accept: Callable[[BucketObject, Answer], Content | None]
    read: Callable[[BucketObject], Content]
    _pump: Pump | None = attrs.field(default=None, init=False)

    def start(self, items: Sequence[BucketObject], base: str, executor: Executor) -> Batch | None:
        """Request some objects from the server of `base`; None if that has not gone well before."""
        if self.http.proxy is not None and base.startswith("http:"):
            return None  # a proxy that forwards plain http wants other targets
        if self._pump is None:
            bound = Bound(self.operation, "receive", self.url, self.http.idle)
            self._pump = Pump(self.http, base, executor, bound, connections=_CONNECTIONS)
        if not self._pump.healthy:
            return None
        job = self._pump.submit(self.prepare(items))
        return _Batch(self, self._pump, job, items, executor)

    def close(self) -> None:
        """Close the connections."""
        if self._pump is not None:
            self._pump.close()


@attrs.define(eq=False)
class _Batch:
    _batches: Batches
    _pump: Pump
    _job: Job
    _items: Sequence[BucketObject]
    _executor: Executor
    _contents: Sequence[Content] | None = attrs.field(default=None, init=False)

    def result(self) -> Sequence[Content]:
        if self._contents is None:
            self._pump.wait(self._job)
            self._contents = self._accepted()
        return self._contents

    def _accepted(self) -> Sequence[Content]:
        batches = self._batches
        contents = [
            batches.accept(item, answer) if answer is not None else None
            for item, answer in zip(self._items, self._job.answers, strict=True)
        ]
        again = {
            place: self._executor.submit(batches.read, self._items[place])
            for place, content in enumerate(contents)
            if content is None
        }
        return [
            content if content is not None else result_of(again[place], batches.operation, "receive", url=batches.url)
            for place, content in enumerate(contents)
        ]

    def cancel(self) -> None:
        self._pump.drop(self._job)


if TYPE_CHECKING:

    def _(batch: _Batch) -> Batch:
        return batch

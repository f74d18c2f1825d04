"""A batch of small objects on its way through the pump; what does not come as hoped for is read one by one."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING

import attrs

from fluxsrc._io.http.pipeline import Answer
from fluxsrc._io.http.pump import Job, Pump
from fluxsrc._io.waiting import result_of
from fluxsrc.bucket.protocol import Batch, BucketObject, Content
from fluxsrc.operation import Operation

__all__ = ["PumpedBatch"]


@attrs.define(eq=False, repr=False)
class PumpedBatch:
    """See `Batch`.

    Attributes:
        items: The objects.
        pump: Who works on the job.
        job: Their requests.
        accept: What an answer is worth; None: read the object again.
        read: Reads one object, and knows about errors and retries.
        executor: For the reading again.
        operation: The deadline and the cancel switch.
        url: For messages.
    """

    items: Sequence[BucketObject]
    pump: Pump
    job: Job
    accept: Callable[[BucketObject, Answer], Content | None]
    read: Callable[[BucketObject], Content]
    executor: Executor
    operation: Operation
    url: str
    _contents: list[Content | Future[Content]] | None = attrs.field(default=None, init=False)

    def content(self, place: int, /) -> Content:
        """See `Batch`."""
        if self._contents is None:
            self.pump.wait(self.job)
            self._contents = list(map(self._settle, self.items, self.job.answers))
        content = self._contents[place]
        if isinstance(content, Content):
            return content
        return result_of(content, self.operation, "receive", url=self.url)

    def cancel(self) -> None:
        """See `Batch`."""
        self.pump.drop(self.job)

    def _settle(self, item: BucketObject, answer: Answer | None) -> "Content | Future[Content]":
        content = self.accept(item, answer) if answer is not None else None
        return self.executor.submit(self.read, item) if content is None else content


if TYPE_CHECKING:

    def _(batch: PumpedBatch) -> Batch:
        return batch

"""A batch of small objects on its way through the pump; what does not come as hoped for is read one by one."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import attrs

from fluxsrc._io.http.pipeline import Answer
from fluxsrc._io.http.pump import Job, Pump
from fluxsrc.bucket.protocol import Batch, BucketObject, Content
from fluxsrc.bucket.wait import result_of
from fluxsrc.operation import Operation

__all__ = ["PumpedBatch"]


@attrs.define(eq=False)
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
    _contents: Sequence[Content] | None = attrs.field(default=None, init=False)

    def result(self) -> Sequence[Content]:
        """See `Batch`."""
        if self._contents is None:
            self.pump.wait(self.job)
            self._contents = self._complete()
        return self._contents

    def cancel(self) -> None:
        """See `Batch`."""
        self.pump.drop(self.job)

    def _complete(self) -> Sequence[Content]:
        contents = [
            self.accept(item, answer) if answer is not None else None
            for item, answer in zip(self.items, self.job.answers, strict=True)
        ]
        again = {
            place: self.executor.submit(self.read, self.items[place])
            for place, content in enumerate(contents)
            if content is None
        }
        for place, future in again.items():
            contents[place] = result_of(future, self.operation, "receive", url=self.url)
        return [content for content in contents if content is not None]


if TYPE_CHECKING:

    def _(batch: PumpedBatch) -> Batch:
        return batch

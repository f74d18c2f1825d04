"""The contract of an object store: `Bucket`, and `BucketClient` for the time of one operation. Read this first."""

from collections.abc import Generator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, runtime_checkable

from fluxsrc.operation import Operation

__all__ = ["Batch", "BatchReader", "Bucket", "BucketClient", "BucketObject", "Content", "LevelLister"]


class BucketObject(NamedTuple):
    """One line of a listing. A tuple, because there may be a million of them.

    Attributes:
        key: Its name, as the service has it: any text at all.
        size: Bytes.
        etag: The service's name for this content, without quotes; it changes whenever the content does.
        checksum: "ALGORITHM:<hex>" of the content where the listing tells it: sha256, md5, sha1, crc64nvme, crc32c, crc32.
        version: What the precondition of a read is made of, where that is not the etag (a generation, a file's state).
    """

    key: str
    size: int
    etag: str
    checksum: str | None = None
    version: str | None = None


class Content(NamedTuple):
    """What a read gave.

    Attributes:
        data: The bytes that were asked for, all of them.
        checksum: As in `BucketObject`: of the *whole* object, where the service tells it with the bytes.
    """

    data: bytes | bytearray
    checksum: str | None = None


@runtime_checkable
class BucketClient(Protocol):
    """A bucket, connected for one operation.

    Thread-safe: many threads read at the same time. Obeys the operation's deadline and cancel switch in every blocking
    step, retries what is worth retrying itself, and raises only `FluxSrcError`, iterators included.
    """

    @property
    def jumps(self) -> bool:
        """Whether `pages(after=...)` costs no more than what it lists."""
        ...

    def pages(self, prefix: str = "", *, after: str = "") -> Generator[Sequence[BucketObject], None, None]:
        """The objects whose key begins with `prefix`, in pages; one request for each page, made when it is asked for.

        Closing the generator ends the listing.

        Sorted by the UTF-8 bytes of the keys if the service does that; `EtagIndex` sorts what is not. Never a delimiter:
        directories do not exist here, but keys that end in "/" do.

        Args:
            prefix: Plain text, not a directory.
            after: Only keys behind this one; it may come itself, too.

        Raises:
            RevisionNotFoundError: There is no such bucket.
        """
        ...

    def read(self, item: BucketObject, /, start: int = 0, length: int | None = None) -> Content:
        """A part of an object, if it is still the one that was listed.

        A part, not a stream: it can be asked for again when a connection breaks, many can be on their way at once, and
        each is small enough to hold (callers ask for some MiB at most).

        Args:
            item: As it was listed.
            start: First byte.
            length: Bytes; None is all from `start` on. The part lies inside the object and is not empty.

        Raises:
            SourceChangedError: The object is gone, or another one.
        """
        ...


class Batch(Protocol):
    """Some small objects on their way."""

    def content(self, place: int, /) -> Content:
        """All of the object at this place; waits for it. Raises as `BucketClient.read`, for each object on its own."""
        ...

    def cancel(self) -> object:
        """Nobody will ask for a content any more."""
        ...


@runtime_checkable
class BatchReader(Protocol):
    """What a `BucketClient` can do besides, if it has a cheaper way for many small objects than one by one."""

    def start(self, items: Sequence[BucketObject], executor: Executor, /) -> Batch | None:
        """Request some small objects, without waiting; None if it is better to `read` them after all.

        Args:
            items: None of them empty.
            executor: For what would block.
        """
        ...


@runtime_checkable
class LevelLister(Protocol):
    """What a `BucketClient` can do besides, if its service cannot begin a listing in the middle: list with a delimiter."""

    def names(self, prefix: str, /) -> Generator[Sequence[str], None, None]:
        """What there is right below: keys, and directories with their slash, in pages.

        Args:
            prefix: Of the names; nothing behind the first slash after it is listed.
        """
        ...


@runtime_checkable
class Bucket(Protocol):
    """Where a bucket is, and how to get in: an immutable value, thread-safe, picklable, comparable.

    It holds no open connection, and shows no secret in its repr.
    """

    @property
    def url(self) -> str:
        """Its address without a prefix, redacted: `s3://name?endpoint=…&region=…`."""
        ...

    def connect(self, operation: Operation, /) -> AbstractContextManager[BucketClient]:
        """A client for the time of one operation. Nothing needs to be sent before its first method is called.

        Raises:
            MissingExtraError: The library that knows the credentials is not installed.
            AuthenticationError: There are no credentials.
        """
        ...

"""The contract of a store: a content-addressed place for artifacts, with each source's history."""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import attrs

from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.digest import Digest
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.operation import Operation
from fluxsrc.revision import Revision

__all__ = ["Ingest", "Observation", "ObservingStore", "RefMoved", "Store"]


@attrs.frozen
class Observation:
    """The source was seen at this revision, from this moment on, until the next observation.

    Attributes:
        revision: What it pointed at.
        observed: When the store learned that, by its clock.
        url: Where it was seen.
    """

    revision: Revision
    observed: dt.datetime
    url: str | None = None


@attrs.frozen(kw_only=True)
class RefMoved:
    """A name points at something else than before: a branch's daily life, and of a tag something to look into.

    Attributes:
        key: Whose name.
        pointer: The branch or tag.
        old: What it pointed at.
        new: What it points at.
        observed: When that was seen, by the store's clock.
        url: Where it was seen.
    """

    key: SourceKey
    pointer: str
    old: Revision
    new: Revision
    observed: dt.datetime | None = None
    url: str | None = None


class Ingest(Protocol):
    """A blob on its way in: write, then hand to `Store.put`. Leaving its context without that discards it."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append all of the bytes; they are hashed and counted as they go."""
        ...

    @property
    def digest(self) -> Digest:
        """sha256 of what was written so far."""
        ...

    @property
    def size(self) -> int:
        """Bytes written so far."""
        ...


@runtime_checkable
class Store(Protocol):
    """Artifacts by content, and for each source its history, newest first.

    Thread-safe; a store on disk is also safe for many processes. Raises only `FluxSrcError`. Nothing that was put is
    half there: a crash at any instant leaves the old state or the new one. Bytes are verified before they are exposed.
    """

    def lookup(self, key: SourceKey, /) -> Artifact | None:
        """The source's current artifact, or None. Cheap: one small read."""
        ...

    def history(self, key: SourceKey, /) -> Sequence[Artifact]:
        """The source's artifacts, newest first; empty for a source that is not known."""
        ...

    def sources(self) -> Iterator[SourceKey]:
        """Every source that has a record, sorted."""
        ...

    def ingest(self) -> AbstractContextManager[Ingest]:
        """Begin to write a blob."""
        ...

    def put(self, artifact: Artifact, ingest: Ingest | None = None, /, *, index: bytes | None = None) -> Artifact:
        """Make an artifact durable and the source's current one.

        Args:
            artifact: What to record; its `digest` and `size` describe the blob.
            ingest: The blob just written, or None if the store already holds `artifact.digest`.
            index: The pack index, which lets the next artifact reuse this one's chunks.

        Returns:
            The artifact as recorded, with `manifest` and `observed` set.

        Raises:
            DigestMismatchError: The blob is not what `artifact` says.
            ArtifactNotFoundError: No `ingest`, and the blob is not there.
            StoreError: The disk is full, read-only, …; the old state stands.
        """
        ...

    def index(self, artifact: Artifact, /) -> bytes | None:
        """The pack index put with this artifact's content, or None."""
        ...

    def open(self, artifact: Artifact, /) -> BinaryIO:
        """The stored bytes, verified before the first one is handed out.

        Raises:
            ArtifactNotFoundError: The blob is not there.
            DigestMismatchError: It is there, and damaged.
        """
        ...

    def extract(
        self,
        artifact: Artifact,
        destination: Path,
        /,
        *,
        limits: Limits = DEFAULT_LIMITS,
        operation: Operation | None = None,
    ) -> None:
        """Unpack into a directory that does not exist yet or is empty: all of it, verified, or nothing.

        Args:
            artifact: What to unpack.
            destination: The directory.
            limits: How much is too much.
            operation: The deadline, cancel switch and progress callback; without one there is no deadline.

        Raises:
            ContentError: The archive is unsafe or over a limit; nothing is left behind.
        """
        ...


@runtime_checkable
class ObservingStore(Store, Protocol):
    """A store that remembers where each source was seen, however long ago those artifacts retired."""

    def observations(self, key: SourceKey, /) -> Sequence[Observation]:
        """Newest first; a name that moves to and fro is seen each time."""
        ...

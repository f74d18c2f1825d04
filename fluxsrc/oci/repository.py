"""`Repository`: what can be done with an OCI repository, whether a registry or a directory holds it.

Everything above this Protocol (sources, push, promote, list) works with both.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, NamedTuple, Protocol

from fluxsrc.digest import Digest
from fluxsrc.errors import DigestMismatchError, RemoteProtocolError
from fluxsrc.oci.manifest import Descriptor
from fluxsrc.operation import Operation

__all__ = ["BlobSource", "Document", "Repository", "Sink", "Verifier"]


class Sink(Protocol):
    """Where a blob goes: a file, a store's ingest."""

    def write(self, data: bytes | bytearray | memoryview, /) -> object:
        """Take all of the bytes."""
        ...


BlobSource = Callable[[], AbstractContextManager[BinaryIO]]
"""Opens a blob that is to be uploaded, anew for each attempt; a seekable stream."""


class Document(NamedTuple):
    """A manifest or index: its descriptor and its bytes, held against each other."""

    descriptor: Descriptor
    data: bytes


class Repository(Protocol):
    """One OCI repository. Thread-safe, open for one operation; raises only `FluxSrcError`.

    What is read by digest is held against that digest and its size before it is used or handed out.
    """

    @property
    def name(self) -> str:
        """`oci://HOST/REPOSITORY` or `oci-layout:PATH`: printable."""
        ...

    @property
    def operation(self) -> Operation:
        """What it is open for: a deadline, and a switch to cancel it."""
        ...

    def resolve(self, reference: str, /) -> Descriptor:
        """The descriptor a tag or a digest stands for; no more than one small request where possible.

        Raises:
            RevisionNotFoundError: There is no such tag or digest.
        """
        ...

    def document(self, reference: str, /) -> Document:
        """The manifest or index of a tag or a digest.

        Raises:
            RevisionNotFoundError: There is no such tag or digest.
            DigestMismatchError: The bytes are not of this digest.
        """
        ...

    def tags(self) -> Iterator[str]:
        """Every tag, in no particular order.

        Raises:
            LimitExceededError: There are more than `max_refs`.
        """
        ...

    def fetch(self, blob: Descriptor, sink: Sink, /) -> None:
        """Write a blob to the sink. It is good if this returns: nothing in it may be used before that.

        Raises:
            RevisionNotFoundError: The blob is not there.
            DigestMismatchError: The bytes are not of its digest or size.
        """
        ...

    def has(self, blob: Descriptor, /) -> bool:
        """Whether the blob or manifest is there."""
        ...

    def push(self, blob: Descriptor, source: BlobSource, /, *, mount_from: str | None = None) -> bool:
        """Put a blob there unless it is there already.

        Args:
            blob: Digest and size.
            source: Opens its bytes.
            mount_from: A repository of the same registry that holds it, so that no bytes travel.

        Returns:
            Whether bytes travelled.
        """
        ...

    def push_document(self, document: Document, /, *, tag: str | None = None) -> None:
        """Put a manifest or index there, whose parts are there already, and let a tag point at it."""
        ...

    def referrers(self, digest: Digest, /) -> list[Descriptor]:
        """The manifests whose subject is this digest: signatures, attestations, SBOMs.

        Raises:
            LimitExceededError: There are more than `max_referrers`.
        """
        ...

    def delete(self, reference: str, /) -> None:
        """Delete a manifest by digest, or only a tag.

        Raises:
            RevisionNotFoundError: It is not there.
            RemoteProtocolError: The registry does not allow it.
        """
        ...


class Verifier:
    """Hashes and counts what passes through to a sink, and holds it against a descriptor."""

    def __init__(self, blob: Descriptor, sink: Sink | None, *, where: str) -> None:
        self._blob = blob
        self._where = where
        self._write = None if sink is None else sink.write
        self._hash = hasher(blob.digest, where=where)
        self.size = 0

    def write(self, data: memoryview | bytes) -> None:
        """Pass on, unless it is more than there may be.

        Raises:
            DigestMismatchError: It is.
        """
        self.size += len(data)
        if self.size > self._blob.size:
            raise self._mismatch(f"more than {self._blob.size:,} bytes")
        self._hash.update(data)
        if self._write is not None:
            self._write(data)

    def finish(self) -> None:
        """Say that this was all.

        Raises:
            DigestMismatchError: Size or digest are not as described.
        """
        actual = f"{self._blob.digest.algorithm}:{self._hash.hexdigest()}"
        if self.size != self._blob.size:
            raise self._mismatch(f"{self.size:,} bytes instead of {self._blob.size:,}")
        if actual != str(self._blob.digest):
            raise self._mismatch(actual)

    def _mismatch(self, actual: str) -> DigestMismatchError:
        return DigestMismatchError(
            f"{self._where}: {self._blob.digest} turns out to be {actual}",
            expected=str(self._blob.digest),
            actual=actual,
        )


def hasher(digest: Digest, *, where: str) -> Any:
    """A hash of this digest's algorithm.

    Raises:
        RemoteProtocolError: Not one that OCI registers.
    """
    if digest.algorithm not in ("sha256", "sha512"):
        raise RemoteProtocolError(f"{where}: {digest.algorithm} is no digest algorithm of OCI", url=where)
    return hashlib.new(digest.algorithm)


def verified(data: bytes, digest: Digest, *, where: str) -> bytes:
    """The data, if it is of this digest.

    Raises:
        DigestMismatchError: It is not.
    """
    check = hasher(digest, where=where)
    check.update(data)
    if check.hexdigest() != digest.hex:
        actual = f"{digest.algorithm}:{check.hexdigest()}"
        raise DigestMismatchError(f"{where}: {digest} turns out to be {actual}", expected=str(digest), actual=actual)
    return data

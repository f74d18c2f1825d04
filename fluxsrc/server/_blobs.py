"""Blobs as a server gets at them, and how any store gives them: proven each time they are opened."""

from typing import BinaryIO, Protocol

import attrs

from fluxsrc.artifact import Artifact
from fluxsrc.digest import Digest
from fluxsrc.errors import StoreError
from fluxsrc.server._http import Content
from fluxsrc.store import Store

__all__ = ["Blob", "Blobs", "StreamBlobs", "whole"]


@attrs.frozen
class Blob:
    """A blob that is wanted.

    Attributes:
        digest: Of its bytes.
        size: How many there are.
        artifact: Whose archive it is, None for what only an OCI manifest refers to.
    """

    digest: Digest
    size: int
    artifact: Artifact | None = None


class Blobs(Protocol):
    """How a server gets at blobs. Thread-safe."""

    def open(self, blob: Blob, /) -> Content:
        """A blob's content. If it has a `proof`, not one byte is to be sent before that is there.

        Raises:
            ArtifactNotFoundError: It is not there.
            DigestMismatchError: It is there, and known to be damaged.
        """
        ...


class StreamBlobs:
    """The blobs of any store, which proves them each time it opens them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def open(self, blob: Blob, /) -> Content:
        assert blob.artifact is not None, "only a store of files holds blobs of other tools"
        return _Stream(self._store.open(blob.artifact))


class _Stream:
    path = None
    proof = None

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, offset: int, size: int, /) -> bytes:
        self._stream.seek(offset)
        return whole(self._stream.read(size), size, None)

    def read_at_once(self, offset: int, size: int, /) -> bytes | None:
        """Nobody knows of a stream whether it waits."""

    def close(self) -> None:
        self._stream.close()


def whole(data: bytes, size: int, path: str | None) -> bytes:
    """These bytes, of which there are to be so many.

    Raises:
        StoreError: There are fewer.
    """
    if len(data) != size:
        raise StoreError(f"{path or 'a blob'} became shorter while it was sent", path=path)
    return data

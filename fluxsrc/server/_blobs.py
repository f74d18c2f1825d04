"""Blobs as a server needs them: proven once, then opened at once, and never sent unproven.

A store proves a blob each time it is opened, which is right for whoever opens it once. A server opens the same blob a
thousand times, so it remembers what it has hashed, by everything the file system tells of the file: device, inode, size
and both times. Whatever replaces, heals or damages a blob changes one of these, and it is hashed anew.
"""

import contextlib
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import attrs

from fluxsrc._io.atomic import open_regular, store_errors
from fluxsrc._io.hashing import CHUNK
from fluxsrc.artifact import Artifact
from fluxsrc.digest import Digest
from fluxsrc.errors import DigestMismatchError, StoreError
from fluxsrc.server._http import Content
from fluxsrc.store import Store
from fluxsrc.stores import LocalStore

__all__ = ["Blob", "Blobs", "Unproven", "blobs_of"]

_REMEMBERED: Final = 16384
"""Blobs whose proof is remembered, about 300 bytes each."""
_HASHING: Final = 2
"""Blobs that are hashed at the same time; more would only get into each other's way, and into that of requests."""


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


@attrs.frozen
class Unproven:
    """The blob is there, and nobody has hashed it yet: ask `prove`, wait, and open it again."""

    blob: Blob


class Blobs(Protocol):
    """How a server gets at blobs. Thread-safe."""

    def open(self, blob: Blob, /) -> Content | Unproven:
        """Verified content.

        Raises:
            ArtifactNotFoundError: It is not there.
            DigestMismatchError: It is there, and damaged.
        """
        ...

    def prove(self, unproven: Unproven, /) -> Future[None]:
        """Hash it in the background, once for all who ask."""
        ...


def blobs_of(store: Store) -> Blobs:
    """The blobs of a store: by their files where it has files, else as the store opens them."""
    return _FileBlobs(store.blob_path) if isinstance(store, LocalStore) else _StreamBlobs(store)


# --- files -----------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Identity:
    """What the file system tells of a file. Times of change cannot be set back, those of modification can."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, descriptor: int) -> "_Identity":
        found = os.fstat(descriptor)
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@attrs.frozen
class _Verdict:
    """What a file was found to be."""

    identity: _Identity
    actual: str


class _FileBlobs:
    """The blobs of a directory."""

    def __init__(self, path_of: Callable[[Digest], Path]) -> None:
        self._path_of = path_of
        self._lock = threading.Lock()
        self._verdicts: OrderedDict[Digest, _Verdict] = OrderedDict()
        self._running: dict[Digest, Future[None]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def open(self, blob: Blob, /) -> Content | Unproven:
        path = self._path_of(blob.digest)
        with contextlib.ExitStack() as stack:
            descriptor = open_regular(path, what=str(blob.digest))
            stack.callback(os.close, descriptor)
            identity = _Identity.of(descriptor)
            with self._lock:
                verdict = self._verdicts.get(blob.digest)
                if verdict is None or verdict.identity != identity:
                    return Unproven(blob)
                self._verdicts.move_to_end(blob.digest)
            if verdict.actual != str(blob.digest) or identity.size != blob.size:
                raise DigestMismatchError(
                    f"{path} is damaged: {identity.size} bytes with digest {verdict.actual} "
                    f"instead of {blob.size} bytes with {blob.digest}",
                    expected=str(blob.digest),
                    actual=verdict.actual,
                    path=str(path),
                    hint="remove that file, and produce the artifact again",
                )
            stack.pop_all()
        return _File(descriptor, str(path))

    def prove(self, unproven: Unproven, /) -> Future[None]:
        digest = unproven.blob.digest
        with self._lock:
            running = self._running.get(digest)
            if running is None:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(_HASHING, thread_name_prefix="fluxsrc-server-hash")
                running = self._running[digest] = self._pool.submit(self._prove, digest)
        return running

    def _prove(self, digest: Digest) -> None:
        # With a descriptor of its own: whoever asked may be gone before this ends.
        path = self._path_of(digest)
        try:
            descriptor = open_regular(path, what=str(digest))
            try:
                identity = _Identity.of(descriptor)
                with store_errors("read", path):
                    actual = _hash(descriptor, digest.algorithm)
            finally:
                os.close(descriptor)
            with self._lock:
                self._verdicts[digest] = _Verdict(identity, actual)
                self._verdicts.move_to_end(digest)
                while len(self._verdicts) > _REMEMBERED:
                    self._verdicts.popitem(last=False)
        finally:
            with self._lock:
                del self._running[digest]


def _hash(descriptor: int, algorithm: str) -> str:
    hasher = hashlib.new(algorithm)
    while data := os.read(descriptor, CHUNK):
        hasher.update(data)
    return f"{algorithm}:{hasher.hexdigest()}"


class _File:
    """An open file. Its bytes stay as long as it is open, whatever a collector does to its name."""

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self.path: str | None = path

    def read(self, offset: int, size: int, /) -> bytes:
        with store_errors("read", self.path):
            data = os.pread(self._descriptor, size, offset)
            while 0 < len(data) < size and (more := os.pread(self._descriptor, size - len(data), offset + len(data))):
                data += more
        return _whole(data, size, self.path)

    def close(self) -> None:
        os.close(self._descriptor)


# --- streams ---------------------------------------------------------------------------------------------------------


class _StreamBlobs:
    """The blobs of any store, which proves them each time it opens them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def open(self, blob: Blob, /) -> Content | Unproven:
        assert blob.artifact is not None, "only a store of files holds blobs of other tools"
        return _Stream(self._store.open(blob.artifact))

    def prove(self, unproven: Unproven, /) -> Future[None]:
        raise AssertionError(f"{unproven.blob.digest} was proven by the store")


class _Stream:
    path = None

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, offset: int, size: int, /) -> bytes:
        self._stream.seek(offset)
        return _whole(self._stream.read(size), size, None)

    def close(self) -> None:
        self._stream.close()


def _whole(data: bytes, size: int, path: str | None) -> bytes:
    if len(data) != size:
        raise StoreError(f"{path or 'a blob'} became shorter while it was sent", path=path)
    return data

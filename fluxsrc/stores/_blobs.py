"""Blobs on disk: hashed on the way in, written once, verified on the way out."""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from fluxsrc._io.atomic import make_directories, open_regular, store_errors, sync_directory, write_all
from fluxsrc._io.hashing import HashingWriter, digest_of
from fluxsrc._io.locks import locked_scratch
from fluxsrc.artifact import Artifact
from fluxsrc.digest import Digest
from fluxsrc.errors import ArtifactNotFoundError, DigestMismatchError
from fluxsrc.stores._layout import Layout
from fluxsrc.stores._oci import Document

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "BlobWriter",
    "check_ingest",
    "holds",
    "ingesting",
    "is_blob",
    "need",
    "open_verified",
    "place",
    "place_document",
    "touch",
]


class BlobWriter:
    """A blob on its way in: the `Ingest` of a `LocalStore`."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path
        self._hashing = HashingWriter(_Descriptor(descriptor))

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append all of the bytes."""
        with store_errors("write", self.path):
            return self._hashing.write(data)

    @property
    def digest(self) -> Digest:
        """sha256 of what was written so far."""
        return self._hashing.digest

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._hashing.size

    def seal(self, *, durable: bool) -> None:
        """Make it read-only and durable: nothing is written from here on."""
        with store_errors("write", self.path):
            mode = os.fstat(self._descriptor).st_mode
            os.fchmod(self._descriptor, mode & 0o444)  # what umask left of it
            if durable:
                os.fsync(self._descriptor)

    def close(self) -> None:
        """Drop what was not put."""
        try:
            with store_errors("remove", self.path), suppress(FileNotFoundError):
                self.path.unlink()
        finally:
            os.close(self._descriptor)


class _Descriptor(NamedTuple):
    number: int

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        write_all(self.number, data)


@contextmanager
def ingesting(layout: Layout) -> Iterator[BlobWriter]:
    """A new blob, in `ingest/`; gone again when the block ends unless it was put into place."""
    with store_errors("write", layout.root, what="to the store"):
        if not layout.ingest.exists() or not layout.index_json.exists():
            layout.create()
        descriptor, path = locked_scratch(layout.ingest)
    writer = BlobWriter(descriptor, path)
    try:
        yield writer
    finally:
        writer.close()


def check_ingest(artifact: Artifact, digest: Digest, size: int) -> None:
    """Hold what was written against what the artifact says.

    Raises:
        DigestMismatchError: They differ.
    """
    if artifact.digest != digest or artifact.size != size:
        raise DigestMismatchError(
            f"{artifact.key}: {size} bytes with digest {digest} were written, "
            f"the artifact says {artifact.size} bytes with {artifact.digest}",
            expected=str(artifact.digest),
            actual=str(digest),
        )


def holds(layout: Layout, digest: Digest, size: int) -> bool:
    """Whether a blob of this name and size is there. Its bytes are checked when they are read."""
    return is_blob(layout.blob(digest), size)


def is_blob(path: str | os.PathLike[str], size: int) -> bool:
    """Whether there is a regular file of this size."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        with store_errors("look at", path):
            raise
    return found.st_size == size and stat.S_ISREG(found.st_mode)


def place(layout: Layout, blob: BlobWriter) -> None:
    """Give a sealed blob its name.

    If the name is taken, by an earlier artifact or in a race with another process, its bytes are as good as ours: they
    are checked, because a damaged blob heals here, and kept. The caller holds the store's lock.
    """
    path = layout.blob(blob.digest)
    with store_errors("write", path):
        if _intact(path, blob.digest, blob.size):
            os.utime(path)  # young again: a collector that has already looked for references spares it
        else:
            try:
                blob.path.replace(path)
            except FileNotFoundError:  # somebody deleted the directory of all blobs: from here on they come back
                make_directories(path.parent, durable=layout.durable)
                blob.path.replace(path)
            os.utime(path)  # the last byte may have been written long ago
        if layout.durable:
            sync_directory(path.parent)  # also for a name that another process has just made


def _intact(path: Path, digest: Digest, size: int) -> bool:
    try:
        descriptor = open_regular(path, what=str(digest))
    except ArtifactNotFoundError:
        return False
    with os.fdopen(descriptor, "rb") as stream:
        return os.fstat(descriptor).st_size == size and digest_of(stream) == (digest, size)


def need(layout: Layout, artifact: Artifact) -> None:
    """Make sure that a blob is there.

    Raises:
        ArtifactNotFoundError: It is not.
    """
    if not holds(layout, artifact.digest, artifact.size):
        raise not_found(layout, artifact)


def touch(layout: Layout, artifact: Artifact) -> None:
    """Make a blob young, so that no collector takes it from under what is about to refer to it.

    The caller holds the store's lock until that is written.

    Raises:
        ArtifactNotFoundError: It is not there.
    """
    need(layout, artifact)
    path = layout.blob(artifact.digest)
    with store_errors("touch", path):
        os.utime(path)


def not_found(layout: Layout, artifact: Artifact) -> ArtifactNotFoundError:
    """The error for a blob that is not there."""
    path = layout.blob(artifact.digest)
    return ArtifactNotFoundError(
        f"the store {layout.root} does not hold {artifact.digest} of {artifact.key}",
        path=str(path),
        hint="it was swept or never put; produce the artifact again",
    )


def place_document(layout: Layout, document: Document) -> None:
    """Write a manifest or config unless it is there. Not fsynced: a record is enough to write it again."""
    path = layout.blob(document.digest)
    if holds(layout, document.digest, len(document.data)):
        with store_errors("touch", path):
            os.utime(path)
    else:
        layout.write(path, document.data, durable=False)


def open_verified(layout: Layout, artifact: Artifact) -> BinaryIO:
    """A blob's bytes, all of them hashed before the first one is handed out.

    The stream reads from the descriptor that was hashed: what is behind the name later does not matter.

    Raises:
        ArtifactNotFoundError: It is not there.
        DigestMismatchError: It is damaged.
    """
    path = layout.blob(artifact.digest)
    try:
        descriptor = open_regular(path, what=f"{artifact.digest} of {artifact.key}")
    except ArtifactNotFoundError:
        raise not_found(layout, artifact) from None
    raw = _BlobReader(descriptor, path)
    try:
        _check_whole(raw, artifact, path)
        raw.seek(0)
    except BaseException:
        raw.close()
        raise
    return cast("BinaryIO", io.BufferedReader(raw, 1 << 16))


def _check_whole(raw: io.RawIOBase, artifact: Artifact, path: Path) -> None:
    digest, size = digest_of(cast("BinaryIO", raw))
    if (digest, size) != (artifact.digest, artifact.size):
        raise DigestMismatchError(
            f"{path} is damaged: {size} bytes with digest {digest} instead of {artifact.size} bytes",
            expected=str(artifact.digest),
            actual=str(digest),
            path=str(path),
            hint="remove that file, and produce the artifact again",
        )


class _BlobReader(io.RawIOBase):
    """A raw stream over a blob whose errors are ours."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._file = io.FileIO(descriptor, "rb")
        self._path = path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        with store_errors("read", self._path):
            return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        with store_errors("read", self._path):
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()

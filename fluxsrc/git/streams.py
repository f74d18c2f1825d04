"""Objects that are too large to hold: zlib streams inflated as they are read, and loose object files."""

import io
import mmap
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fluxsrc.errors import ContentError, DigestMismatchError, SourceError
from fluxsrc.git.packfile import RELEASE_AFTER, Kind, ObjectFormat, Pack, release

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["ObjectStream", "mismatch", "open_loose", "open_packed"]

_CHUNK: Final = 256 * 1024
_HEAD: Final = 64
"""Bytes within which a loose object's header ends: a kind and the digits of a size."""
_LOOSE_KINDS: Final = {kind.word: kind for kind in (Kind.COMMIT, Kind.TREE, Kind.BLOB, Kind.TAG)}


class ObjectStream(io.RawIOBase):
    """An object's content, inflated as it is read. With its last byte the size and the object's name are checked.

    Attributes:
        kind: What the object is.
        size: Bytes it declares.
    """

    def __init__(
        self,
        chunks: Iterator[bytes],
        kind: Kind,
        size: int,
        oid: bytes,
        object_format: ObjectFormat,
        *,
        stream: "zlib._Decompress | None" = None,
        first: bytes = b"",
        file: io.FileIO | None = None,
    ) -> None:
        self.kind = kind
        self.size = size
        self._oid = oid
        self._chunks = chunks
        self._stream = zlib.decompressobj() if stream is None else stream
        self._first = first  # inflated already, while the header was read
        self._left = size
        self._file = file
        self._hasher = object_format.hasher(kind, size)
        self._checked = False

    def readable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Close the file below, where there is one."""
        if self._file is not None:
            self._file.close()
        super().close()

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Inflate into the buffer; 0 at the end.

        Raises:
            ContentError: The stream is damaged, or not of the declared size.
            DigestMismatchError: The content is not what the object's name says.
        """
        view = memoryview(buffer).cast("B")
        if self._checked or not len(view):
            return 0
        out = self._next(min(len(view), self._left + 1))
        if len(out) > self._left:
            raise self._damaged("is longer than it declares")
        self._left -= len(out)
        self._hasher.update(out)
        view[: len(out)] = out
        if not self._left or not out:
            self._check_end()
        return len(out)

    def _next(self, most: int) -> bytes:
        if self._first:
            out, self._first = self._first[:most], self._first[most:]
            return out
        try:
            while not self._stream.eof:
                chunk = self._stream.unconsumed_tail or next(self._chunks, b"")
                out = self._stream.decompress(chunk, most)
                if out or not chunk:
                    return out
        except zlib.error as exc:
            raise self._damaged(f"cannot be inflated: {exc}") from exc
        return b""

    def _check_end(self) -> None:
        if self._left:
            raise self._damaged("is shorter than it declares")
        if self._next(1):
            raise self._damaged("is longer than it declares")
        if not self._stream.eof:
            raise self._damaged("is cut short")
        if self._hasher.digest() != self._oid:
            raise mismatch(self._oid, self._hasher.hexdigest())
        self._checked = True

    def _damaged(self, what: str) -> ContentError:
        return ContentError(f"object {self._oid.hex()} {what}", hint="'git fsck' in the repository tells more")


def mismatch(oid: bytes, actual: str) -> DigestMismatchError:
    """The error for an object whose content has another name."""
    return DigestMismatchError(
        f"object {oid.hex()} is damaged: its content has another name",
        expected=oid.hex(),
        actual=actual,
        hint="'git fsck' in the repository tells more",
    )


def open_packed(pack: Pack, offset: int, oid: bytes, object_format: ObjectFormat) -> ObjectStream:
    """A stream over an object that is whole in its pack, not a delta."""
    kind, size, start, base = pack.header(offset)
    assert base is None
    return ObjectStream(_mapped(pack.data, start), kind, size, oid, object_format)


def _mapped(data: mmap.mmap, start: int) -> Iterator[bytes]:
    for place, at in enumerate(range(start, len(data), _CHUNK), 1):
        yield data[at : at + _CHUNK]
        if not place % (RELEASE_AFTER // _CHUNK):
            release(data)


def open_loose(path: Path, oid: bytes, object_format: ObjectFormat) -> ObjectStream:
    """A stream over an object in a file of its own, its header read.

    Raises:
        FileNotFoundError: There is no such file.
        SourceError: It cannot be read.
        ContentError: It has no valid header.
    """
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise SourceError(f"cannot read object {oid.hex()}: {exc.strerror}") from exc
    try:
        return _read_header(file, oid, object_format)
    except BaseException:
        file.close()
        raise


def _read_header(file: io.FileIO, oid: bytes, object_format: ObjectFormat) -> ObjectStream:
    chunks = iter(lambda: file.read(_CHUNK), b"")
    stream = zlib.decompressobj()
    head = b""
    try:
        while b"\0" not in head and len(head) < _HEAD:
            chunk = stream.unconsumed_tail or next(chunks, b"")
            if not chunk:
                break
            head += stream.decompress(chunk, _HEAD - len(head))
    except zlib.error as exc:
        raise ContentError(f"the loose object {oid.hex()} is damaged: {exc}") from exc
    declared, nul, first = head.partition(b"\0")
    word, _, digits = declared.partition(b" ")
    kind = _LOOSE_KINDS.get(word)
    if kind is None or not nul or not digits.isdigit():
        raise ContentError(f"the loose object {oid.hex()} is damaged: it has no header")
    return ObjectStream(chunks, kind, int(digits), oid, object_format, stream=stream, first=first, file=file)

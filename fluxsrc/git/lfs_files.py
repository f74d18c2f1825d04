"""`LFSFiles`: LFS files on disk, laid out as git-lfs does. What goes in is verified, and what comes out once more."""

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from fluxsrc._io.atomic import make_directories, open_scratch, store_errors, write_all
from fluxsrc.errors import DigestMismatchError, SourceChangedError
from fluxsrc.git.lfs import LFSPointer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["LFSFiles", "LFSMismatchError"]


class LFSMismatchError(DigestMismatchError):
    """An LFS file is not what its pointer says."""


class LFSFiles:
    """A directory of files named by their sha256, `ab/cd/abcd…`. Safe to share, and to delete at any time.

    Args:
        directory: Where files are kept.
        elsewhere: Directories of the same layout to look in as well; they are only read.
    """

    def __init__(self, directory: Path, elsewhere: Sequence[Path] = ()) -> None:
        self._directory = directory
        self._directories = (directory, *elsewhere)

    def held(self, pointer: LFSPointer) -> Path | None:
        """Where the file is, if it is here; its size is looked at, its bytes are not."""
        for directory in self._directories:
            path = _place(directory, pointer)
            with suppress(OSError):
                if path.stat().st_size == pointer.size:
                    return path
        return None

    def open(self, pointer: LFSPointer) -> BinaryIO:
        """A stream of the file, whose last bytes come only if all of them are the right ones.

        Raises:
            SourceChangedError: It is not here any more.
        """
        path = self.held(pointer)
        if path is not None:
            with suppress(FileNotFoundError):
                return cast("BinaryIO", _VerifiedFile(path, pointer, ours=path.is_relative_to(self._directory)))
        raise _deleted(pointer)

    def keep(self, pointer: LFSPointer, chunks: Iterable[memoryview], *, url: str) -> None:
        """Write the file, if it is what its pointer says; nobody sees it before that is known.

        Args:
            pointer: What is expected.
            chunks: The bytes, however many come.
            url: Where they come from, redacted.

        Raises:
            DigestMismatchError: They are not what the pointer says.
            SourceChangedError: Somebody deleted the directory meanwhile.
            StoreError: They cannot be written.
        """
        target = _place(self._directory, pointer)
        with store_errors("write", self._directory, what="an LFS file to"):
            make_directories(target.parent, durable=False)
            descriptor, scratch = open_scratch(self._directory)
        try:
            try:
                self._copy(pointer, chunks, descriptor, url)
            finally:
                os.close(descriptor)
            with store_errors("write", self._directory, what="an LFS file to"):
                try:
                    scratch.replace(target)
                except FileNotFoundError:
                    raise _deleted(pointer) from None
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise

    def _copy(self, pointer: LFSPointer, chunks: Iterable[memoryview], descriptor: int, url: str) -> None:
        digest = hashlib.sha256()
        size = 0
        for chunk in chunks:
            size += len(chunk)
            if size > pointer.size:
                break
            digest.update(chunk)
            with store_errors("write", self._directory, what="an LFS file to"):
                write_all(descriptor, chunk)
        if size != pointer.size:
            many = "more" if size > pointer.size else f"{size:,}"
            raise LFSMismatchError(
                f"{url} sends {many} bytes for an LFS file of {pointer.size:,}",
                expected=f"{pointer.size} bytes",
                actual=f"{many} bytes",
            )
        if digest.hexdigest() != pointer.oid:
            raise LFSMismatchError(
                f"{url} sends something else than the LFS file {pointer.oid}",
                expected=f"sha256:{pointer.oid}",
                actual=f"sha256:{digest.hexdigest()}",
            )


def _place(directory: Path, pointer: LFSPointer) -> Path:
    return directory / pointer.oid[:2] / pointer.oid[2:4] / pointer.oid


def _deleted(pointer: LFSPointer) -> SourceChangedError:
    return SourceChangedError(f"the LFS file {pointer.oid} was deleted just now: try again")


class _VerifiedFile(io.RawIOBase):
    """A kept file. Disks forget, so it is hashed while it is read."""

    def __init__(self, path: Path, pointer: LFSPointer, *, ours: bool) -> None:
        self._file = path.open("rb", buffering=0)
        self._path = path
        self._pointer = pointer
        self._ours = ours
        self._digest = hashlib.sha256()
        self._left = pointer.size

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read into the buffer; 0 at the end.

        Raises:
            SourceChangedError: The file was damaged since it was fetched, and is gone now.
            DigestMismatchError: The file is damaged, and not ours to remove.
        """
        view = memoryview(buffer).cast("B")
        with store_errors("read", self._path.parent, what="an LFS file in"):
            count = self._file.readinto(view) or 0
        self._digest.update(view[:count])
        self._left -= count
        cut_short = self._left > 0 and not count and len(view) > 0
        if cut_short or self._left < 0 or (self._left == 0 and self._digest.hexdigest() != self._pointer.oid):
            raise self._damaged()
        return count

    def _damaged(self) -> Exception:
        if self._ours:
            self._path.unlink(missing_ok=True)
            return SourceChangedError(f"the kept LFS file {self._pointer.oid} was damaged, and is gone: try again")
        return LFSMismatchError(
            f"{self._path} is damaged", expected=f"sha256:{self._pointer.oid}", actual="something else"
        )

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()

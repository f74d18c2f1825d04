"""`unpack`: an archive in, a directory out: all of it, or nothing.

1. Make a fresh directory beside the destination, that only we know of.
2. Write each file into it, relative to the descriptor of its parent, which was opened component by component without
   following links; a file is only ever created, never opened.
3. Make the symbolic links, now that nothing is written any more that could go through one.
4. Rename the directory to the destination, which must not be there or be empty.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Self

import attrs

from fluxsrc._io.atomic import store_errors
from fluxsrc._lazy import later
from fluxsrc.digest import Digest
from fluxsrc.entry import Mode
from fluxsrc.errors import ConfigurationError, UnsafeEntryError
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.operation import Operation
from fluxsrc.recipe import Compression
from fluxsrc.tarball.reader import Member, MemberType, members

if TYPE_CHECKING:
    import shutil
else:
    shutil = later("shutil")

__all__ = ["unpack"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE: Final = 256 * 1024
_REPORT_EVERY: Final = 1 << 20
"""Bytes between two reports of progress."""


def unpack(
    archive: BinaryIO,
    destination: Path,
    /,
    *,
    compression: Compression | None = None,
    limits: Limits = DEFAULT_LIMITS,
    symlinks: bool = True,
    expected: Digest | None = None,
    operation: Operation | None = None,
) -> int:
    """Unpack an archive into a directory that is not there yet, or is empty.

    Files get mode 0644 or 0755 and directories 0755, less the umask; owners and times in the archive are not looked at.

    Args:
        archive: The bytes, compressed or not.
        destination: The directory to make; its parents are made, too.
        compression: How the bytes are compressed; found out from the first of them if not given.
        limits: How much is too much.
        symlinks: Make symbolic links that stay inside the tree. If false, any link is an `UnsafeEntryError`.
        expected: The digest of the uncompressed archive.
        operation: The deadline, cancel switch and progress callback.

    Returns:
        How many files and links were made.

    Raises:
        ConfigurationError: The destination is a file, a link, or a directory with something in it.
        ContentError: As for `members`. Nothing is left behind.
        StoreError: The disk is full, read-only, …. Nothing is left behind.
    """
    destination = Path(os.path.abspath(destination))
    _check_free(destination)
    with store_errors("unpack to", destination), _parents_made(destination):
        scratch = destination.with_name(f".{destination.name[:200]}.{os.urandom(8).hex()}.tmp")
        scratch.mkdir()  # 1
        told = 0
        try:
            with _Writer(os.open(scratch, _DIRECTORY), symlinks=symlinks) as writer:
                for member, body in members(
                    archive, compression=compression, limits=limits, expected=expected, operation=operation
                ):
                    writer.add(member, body)  # 2
                    if operation is not None and writer.size - told >= _REPORT_EVERY:
                        told = writer.size
                        operation.report("extract", told, detail=member.path)
                writer.link()  # 3
            _rename(scratch, destination)  # 4
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
    return writer.count


@contextlib.contextmanager
def _parents_made(destination: Path) -> Iterator[None]:
    """Make the directories above; take those away again that are new and empty, should the block fail."""
    missing = [parent for parent in destination.parents if not parent.exists()]
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for parent in missing:
            try:
                parent.rmdir()
            except OSError:
                break  # somebody else has put something there, or it was never made: what is above is no more ours
        raise


def _check_free(destination: Path) -> None:
    with store_errors("look at", destination):
        if not os.path.lexists(destination):
            return
        if destination.is_symlink() or not destination.is_dir():
            raise ConfigurationError(f"{destination} is not a directory")
        if any(destination.iterdir()):
            raise ConfigurationError(f"{destination} is not empty", hint="choose a directory that does not exist yet")


def _rename(scratch: Path, destination: Path) -> None:
    try:
        scratch.rename(destination)
    except OSError as exc:
        if exc.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise ConfigurationError(f"{destination} was filled while the archive was unpacked") from exc
        raise


@attrs.define
class _Open:
    """A directory on the way to the file that was written last."""

    name: str
    descriptor: int


class _Writer:
    """Writes below one directory descriptor; keeps the way to the current directory open, as archives are sorted."""

    def __init__(self, root: int, *, symlinks: bool) -> None:
        self.count = 0
        self.size = 0
        self._root = root
        self._symlinks = symlinks
        self._way: list[_Open] = []
        self._links: list[Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave(0)
        os.close(self._root)

    def add(self, member: Member, body: BinaryIO) -> None:
        """Write a file, make a directory, remember a link."""
        if member.type is MemberType.DIRECTORY:
            self._enter(member.path.split("/"))
            return
        self.count += 1
        self.size += member.size
        if member.type is MemberType.SYMLINK:
            if not self._symlinks:
                raise UnsafeEntryError(f"{member.path} is a symbolic link to {member.target!r}", path=member.path)
            self._links.append(member)
            return
        *parents, name = member.path.split("/")
        directory = self._enter(parents)
        mode = 0o755 if member.mode is Mode.EXECUTABLE else 0o644
        with _collisions(member.path):
            descriptor = os.open(name, _CREATE, mode, dir_fd=directory)
        try:
            while data := body.read(_PIECE):
                while (written := os.write(descriptor, data)) < len(data):
                    data = data[written:]
        finally:
            os.close(descriptor)

    def link(self) -> None:
        """Make the symbolic links."""
        for member in self._links:
            *parents, name = member.path.split("/")
            directory = self._enter(parents)
            with _collisions(member.path):
                os.symlink(member.target, name, dir_fd=directory)

    def _enter(self, parts: list[str]) -> int:
        """The descriptor of a directory, made where it is not there."""
        common = 0
        for opened, part in zip(self._way, parts, strict=False):
            if opened.name != part:
                break
            common += 1
        self._leave(common)
        current = self._way[-1].descriptor if self._way else self._root
        for part in parts[common:]:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=current)
            with _collisions("/".join(parts)):
                current = os.open(part, _DIRECTORY, dir_fd=current)
            self._way.append(_Open(part, current))
        return current

    def _leave(self, keep: int) -> None:
        while len(self._way) > keep:
            os.close(self._way.pop().descriptor)


@contextlib.contextmanager
def _collisions(path: str) -> Iterator[None]:
    """What is there already is there by another name: the file system folds case, or Unicode forms."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.EEXIST, errno.ENOTDIR, errno.ELOOP):
            raise UnsafeEntryError(f"{path} collides with another member on this file system", path=path) from exc
        raise

"""Files that are there whole or not at all, and the one place where the operating system's errors become ours.

A file is written beside its destination's directory tree, under a name nobody looks for, made durable, then renamed:

1. Write all of it.
2. fsync the file: its bytes are on disk before its name is.
3. Rename: readers see the old file or the new one.
4. fsync the directory: the name is on disk before anybody is told.
"""

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from fluxsrc.errors import (
    ArtifactNotFoundError,
    FluxSrcError,
    StoreDirectoryError,
    StoreError,
    StoreLockError,
    StoreReadError,
    StoreStatError,
    StoreWriteError,
)

__all__ = [
    "OPEN_REGULAR",
    "Doing",
    "make_directories",
    "open_regular",
    "open_scratch",
    "replacing",
    "store_errors",
    "sync_directory",
    "write_all",
    "write_atomic",
]

Doing = Literal["list", "lock", "look at", "make", "read", "remove", "touch", "unpack to", "use", "write"]
"""What is done to a file or a directory."""
_KINDS: Final[Mapping[Doing, type[StoreError]]] = {
    "list": StoreReadError,
    "lock": StoreLockError,
    "look at": StoreStatError,
    "make": StoreDirectoryError,
    "read": StoreReadError,
    "remove": StoreWriteError,
    "touch": StoreWriteError,
    "unpack to": StoreError,  # no store is at fault: somebody's own directory
    "use": StoreError,  # a cache: what it keeps can be had again
    "write": StoreWriteError,
}
OPEN_REGULAR: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How a regular file is opened by those who refuse all else afterwards: without O_NONBLOCK a pipe would block that very call."""
_ATTEMPTS: Final = 8
"""How often a directory may be removed while it is made."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextmanager
def store_errors(doing: Doing, path: str | os.PathLike[str] | None = None, *, what: str = "") -> Iterator[None]:
    """Translate every `OSError` of the block into a `StoreError`.

    Args:
        doing: What the block does, which says which `StoreError` that is.
        path: The file or directory at fault, unless the error names one itself.
        what: What that is, for people.
    """
    try:
        yield
    except OSError as exc:
        if isinstance(exc, FluxSrcError):  # TransportTimeoutError is both: a deadline is not the disk's fault
            raise
        where = os.fsdecode(path) if path is not None else exc.filename
        place = " ".join(filter(None, (doing, what, where)))
        hint = None
        if exc.errno in _FULL:
            hint = "free some space or raise the quota; the store is as it was before"
        elif exc.errno in _FORBIDDEN:
            writable = "" if doing in ("list", "look at", "read") else ", and that it is mounted writable"
            hint = f"check the owner and mode of the directory{writable}"
        raise _KINDS[doing](f"cannot {place}: {exc.strerror or exc}", path=where, hint=hint) from exc


def open_scratch(directory: Path) -> tuple[int, Path]:
    """Create an empty file with a fresh name; return its descriptor, opened for reading and writing, and its path."""
    path = directory / f"{os.getpid()}-{os.urandom(8).hex()}.tmp"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644), path


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of the bytes, however many calls it takes."""
    written = os.write(descriptor, data)
    view = memoryview(data)
    while written < len(view):
        written += os.write(descriptor, view[written:])


@contextmanager
def replacing(path: Path, *, scratch: Path, durable: bool) -> Iterator[int]:
    """Give a descriptor to write a file's new content to, by the steps of this module's docstring.

    When the block ends well, all that was written becomes the file; when it does not, the file is as it was.

    Args:
        path: The file; its directory is made if it is not there.
        scratch: A directory on the same file system, for the file while it is written.
        durable: Whether to do steps 2 and 4. Without them a power cut may leave an empty file or the old one.
    """
    descriptor, temporary = open_scratch(scratch)
    try:
        try:
            yield descriptor  # 1
            if durable:
                os.fsync(descriptor)  # 2
        finally:
            os.close(descriptor)
        try:
            temporary.replace(path)  # 3
        except FileNotFoundError:
            make_directories(path.parent, durable=durable)
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        sync_directory(path.parent)  # 4


def write_atomic(path: Path, data: bytes, *, scratch: Path, durable: bool) -> None:
    """Make a file's content exactly these bytes; see `replacing`."""
    with replacing(path, scratch=scratch, durable=durable) as descriptor:
        write_all(descriptor, data)


def make_directories(path: Path, *, durable: bool, mode: int = 0o777) -> None:
    """Make a directory and its parents; what is there stays.

    Unlike `Path.mkdir(exist_ok=True)` it does not fail when somebody removes the directory that it just found.

    Args:
        path: The directory.
        durable: Whether to fsync each new name, without which a power cut could take the whole branch.
        mode: Permissions of the last one, if it is made, less the umask.

    Raises:
        StoreDirectoryError: It cannot be made, or what is there is no directory.
    """
    with store_errors("make", path, what="the directory"):
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                path.mkdir(mode)
                break
            except FileExistsError:
                if path.is_dir():
                    return
                if attempt == _ATTEMPTS:  # nobody removes it: it is a file, or a link that leads nowhere
                    raise
            except FileNotFoundError:
                if attempt == _ATTEMPTS:  # the parent is there: below /proc, say, nothing can be made
                    raise
                make_directories(path.parent, durable=durable)
        if durable:
            sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(path: Path, *, what: str) -> int:
    """Open a regular file for reading, never through a link, never waiting for the writer of a pipe.

    Args:
        path: The file.
        what: What it is, for the message.

    Raises:
        ArtifactNotFoundError: It is not there.
        StoreError: It is there, and something else than a regular file, or cannot be read.
    """
    try:
        with store_errors("read", path, what=what):
            descriptor = os.open(path, OPEN_REGULAR)
    except StoreError as exc:
        if isinstance(exc.__cause__, FileNotFoundError):
            raise ArtifactNotFoundError(
                f"the store does not hold {what}", path=str(path), hint="produce the artifact again"
            ) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StoreReadError(f"cannot read {what}: {path} is not a regular file", path=str(path))
    return descriptor

"""Files in a directory that somebody else made, where not everything with a file's name is one.

Opening a pipe waits for its writer, whatever the operation's deadline says; a device has no end; and a file with a hole
costs nothing to make, however long it is. Symbolic links are followed: where they may not lead, `atomic.open_regular` is meant.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, cast

__all__ = ["open_file", "read_file"]


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading, unbuffered.

    Raises:
        OSError: It cannot be opened, or is no regular file; `IsADirectoryError` of a directory.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return cast("BinaryIO", os.fdopen(descriptor, "rb", buffering=0))
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_file(path: Path, at_most: int) -> bytes:
    """All of a regular file.

    Raises:
        OSError: As of `open_file`; or there are more bytes than that in it.
    """
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size > at_most:
            raise OSError(errno.EFBIG, f"more than {at_most:,} bytes", str(path))
        return file.read()  # unbuffered: one read of so many bytes could bring fewer

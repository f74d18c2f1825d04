"""Locks between threads and processes, on files, with a deadline.

`flock` belongs to an open file, so that two threads that each open the file exclude each other as two processes do, and
the kernel drops the lock of a process that dies. The `filelock` package offers exclusive locks only; a store needs
shared ones as well: many writers, or one collector.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import attrs

from fluxsrc._io.atomic import make_directories, open_scratch, store_errors
from fluxsrc.errors import StoreLockedError

__all__ = ["LayoutLocks", "is_locked_by", "locked", "locked_scratch", "try_lock"]

_FIRST_PAUSE: Final = 0.0005
_LONGEST_PAUSE: Final = 0.02


@contextmanager
def locked(path: Path, *, shared: bool = False, timeout: float) -> Iterator[None]:
    """Hold a lock while the block runs.

    Args:
        path: The lock file; made if it is not there, left there afterwards.
        shared: Whether others may hold it too, shared as well.
        timeout: Seconds to wait for others to let go.

    Raises:
        StoreLockedError: They did not.
    """
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while (descriptor := try_lock(path, shared=shared)) is None:
        if time.monotonic() >= deadline:
            raise StoreLockedError(
                f"{path} is still locked by another thread or process after {timeout:g} s",
                path=str(path),
                hint="try again, or give it longer with lock_timeout=",
            )
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
    try:
        yield
    finally:
        # Unlocking says it for all: a child forked meanwhile holds a copy of the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def try_lock(path: Path, *, shared: bool = False, create: bool = True) -> int | None:
    """Take a lock if it is free; return the descriptor that holds it until it is closed, else None.

    Args:
        path: The lock file.
        shared: Whether others may hold it too, shared as well.
        create: Whether to make the file if it is not there; else nobody gets a lock that has no file.
    """
    with store_errors("lock", path):
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        try:
            descriptor = os.open(path, flags, 0o644)
        except FileNotFoundError:
            if not create:
                return None
            make_directories(path.parent, durable=False)
            descriptor = os.open(path, flags, 0o644)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            # Whoever sweeps idle lock files removes them while holding them: a lock on a removed file is no lock.
            if is_locked_by(path, descriptor):
                return descriptor
        except BlockingIOError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None


@attrs.frozen(eq=False, repr=False)
class LayoutLocks:
    """The locks of an OCI image layout on disk, whoever writes to it: a store, or somebody who names it `oci-layout:`.

    Taken in this order, so that nobody waits in a circle: `index`, then `writing` or `alone`.

    Attributes:
        root: The layout's directory.
        timeout: Seconds to wait for a lock.
    """

    root: Path
    timeout: float

    @property
    def store_lock(self) -> Path:
        """The lock that writers share and a collector takes alone."""
        return self.root / "locks" / "store.lock"

    @property
    def _gate(self) -> Path:
        """Held by whoever waits for the store's lock alone, so that no more writers come in before."""
        return self.root / "locks" / "gate.lock"

    @contextmanager
    def index(self) -> Iterator[None]:
        """`index.json` is read, changed and replaced by one at a time; a collector holds it for all of its work."""
        with locked(self.root / "locks" / "index.lock", timeout=self.timeout):
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Together with all other writers: nothing is swept meanwhile."""
        with locked(self._gate, shared=True, timeout=self.timeout):
            pass  # whoever waits to be alone holds the gate; without it, writers could keep it waiting for ever
        with locked(self.store_lock, shared=True, timeout=self.timeout):
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Without any writer: no blob is in place whose reference is still to be written. Keep it short."""
        with locked(self._gate, timeout=self.timeout), locked(self.store_lock, timeout=self.timeout):
            yield


def locked_scratch(directory: Path) -> tuple[int, Path]:
    """A new file, locked until it is closed: tells a collector that somebody is still writing, however slowly."""
    while True:
        descriptor, path = open_scratch(directory)
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists():
                return descriptor, path
        os.close(descriptor)  # a collector came between the two steps


def is_locked_by(path: Path, descriptor: int) -> bool:
    """Whether a lock that was taken still is one: its file may have been removed, and another be in its place."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False

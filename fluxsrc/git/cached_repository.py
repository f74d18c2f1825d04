"""`CachedRepository`: one bare repository of the cache, under its lock: what it holds, what it lacks, and when it is gone."""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import attrs

from fluxsrc._io.atomic import make_directories, store_errors, write_atomic
from fluxsrc._io.locks import is_locked_by, try_lock
from fluxsrc._io.temporary import temporary_directory
from fluxsrc._lazy import later
from fluxsrc.errors import ContentError, SourceChangedError, SourceError, StoreError
from fluxsrc.git.objects import ObjectDatabase
from fluxsrc.git.packfile import ObjectFormat
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.operation import Operation

if TYPE_CHECKING:
    import shutil
else:
    shutil = later("shutil")

__all__ = ["CacheDeletedError", "CachedRepository"]

_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05
_MAX_HELD: Final = 32
"""Commits that are offered as common ground; older ones are forgotten, their objects stay until eviction."""
_MAX_PACKS: Final = 64
"""Packs after which a repository starts anew: looking through more costs more than fetching once."""
_REFUSED_SECONDS: Final = 24 * 3600.0
"""For so long a server is not asked again for what it refused: somebody may have upgraded it since."""


class CacheDeletedError(SourceChangedError):
    """Somebody deleted a cached repository while it was used."""


@attrs.frozen(eq=False, repr=False)
class CachedRepository:
    """One repository of the cache. Its methods other than `locked` are called with the lock held."""

    directory: Path
    object_format: ObjectFormat

    @classmethod
    @contextmanager
    def temporary(cls, object_format: ObjectFormat) -> Iterator[Self]:
        """A repository that is gone afterwards."""
        with temporary_directory("git") as directory:
            yield cls(directory / "repository", object_format)

    def _make(self) -> None:
        if (self.directory / "HEAD").is_file() and self._packs.is_dir():
            return
        for name in ("objects/pack", "refs/held", "partial"):
            make_directories(self.directory / name, durable=False)
        extension = "\tobjectFormat = sha256\n" if self.object_format is ObjectFormat.SHA256 else ""
        version = 1 if extension else 0
        config = f"[core]\n\trepositoryformatversion = {version}\n\tbare = true\n"
        (self.directory / "config").write_text(config + (f"[extensions]\n{extension}" if extension else ""))
        self._write("HEAD", "ref: refs/heads/none\n")

    @property
    def _packs(self) -> Path:
        return self.directory / "objects" / "pack"

    @property
    def packs(self) -> Path:
        """Where packs go."""
        return self._packs

    @contextmanager
    def locked(self, operation: Operation, *, shared: bool) -> Iterator[None]:
        """Hold the lock; wait for it as long as the operation allows. The repository is made, if it is not there.

        Raises:
            TransportTimeoutError: Others held it until the deadline.
            CacheDeletedError: The repository was deleted meanwhile; what was done with it may be done in vain.
        """
        pause = _FIRST_PAUSE
        while (descriptor := self._try_lock(shared=shared)) is None:
            operation.check("wait for another fetch of the same repository")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        try:
            with store_errors("use", self.directory, what="the cached repository"):
                self._make()
                os.utime(self.directory / "HEAD")  # when it was used last
                yield
        except (SourceError, ContentError, StoreError) as exc:
            if isinstance(exc.__cause__, FileNotFoundError) or not is_locked_by(self._lock, descriptor):
                raise self.deleted() from exc
            raise
        else:
            if not is_locked_by(self._lock, descriptor):
                raise self.deleted()
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def deleted(self) -> CacheDeletedError:
        """The error that says so."""
        return CacheDeletedError(f"the cached repository {self.directory} was deleted while it was used: try again")

    @property
    def _lock(self) -> Path:
        return self.directory / "lock"

    def _try_lock(self, *, shared: bool) -> int | None:
        try:
            return try_lock(self._lock, shared=shared)
        except StoreError as exc:
            if isinstance(exc.__cause__, FileNotFoundError):  # somebody deletes the directory, just as we make it
                return None
            raise

    def open_objects(self, limits: Limits = DEFAULT_LIMITS) -> ObjectDatabase:
        """Its objects. They stay readable when the repository is removed."""
        return ObjectDatabase([self.directory / "objects"], self.object_format, limits)

    def holds(self, commit: str, paths: Sequence[str] = ()) -> bool:
        """Whether a commit is there whole, or at least all of these paths of it."""
        if (self.directory / "refs" / "held" / commit).is_file():
            return True
        return bool(paths) and (self.directory / "partial" / _partial_name(commit, paths)).is_file()

    @property
    def held(self) -> list[str]:
        """Commits that are there whole, the newest first."""
        return _newest_first(self.directory / "refs" / "held")

    @property
    def has_partial(self) -> bool:
        """Whether paths of some commit are there."""
        return bool(_newest_first(self.directory / "partial"))

    def record(self, commit: str) -> None:
        """Note that a commit is there whole now."""
        self._write(f"refs/held/{commit}", f"{commit}\n")
        for old in self.held[_MAX_HELD:]:
            (self.directory / "refs" / "held" / old).unlink(missing_ok=True)

    def record_partial(self, commit: str, paths: Sequence[str]) -> None:
        """Note that these paths of a commit are there now."""
        self._write(f"partial/{_partial_name(commit, paths)}", "")

    def is_refused(self, what: str) -> bool:
        """Whether the server refused something a short while ago."""
        try:
            return time.time() - (self.directory / "refused" / what).stat().st_mtime < _REFUSED_SECONDS
        except FileNotFoundError:
            return False

    def record_refusal(self, what: str) -> None:
        """Note that the server refused something, so that it need not be asked in vain each time."""
        make_directories(self.directory / "refused", durable=False)
        self._write(f"refused/{what}", "")

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing: neither objects, nor a note that says so."""
        return not (self.held or self.has_partial or any(self._packs.iterdir()))

    @property
    def shallow(self) -> frozenset[str]:
        """Commits that are there without their parents."""
        try:
            return frozenset((self.directory / "shallow").read_text(errors="replace").split())
        except FileNotFoundError:
            return frozenset()

    def update_shallow(self, *, shallow: Iterable[str], unshallow: Iterable[str]) -> None:
        """Note which commits came without their parents, and which are not so any more."""
        now = (self.shallow | frozenset(shallow)) - frozenset(unshallow)
        self._write("shallow", "".join(f"{commit}\n" for commit in sorted(now)))

    def tidy(self) -> None:
        """Sweep what a process that died left half, and start anew if so much has piled up that it is better to.

        Or if `shallow` is damaged: servers hang up on what is no name, and that looks like any other interruption.
        """
        for leftover in (*self._packs.glob("tmp_*"), *self.directory.glob("*.tmp")):
            leftover.unlink(missing_ok=True)
        piled_up = len(list(self._packs.glob("*.idx"))) >= _MAX_PACKS
        if piled_up or not all(self.object_format.is_oid(commit) for commit in self.shallow):
            self.clear()

    def clear(self) -> None:
        """Forget everything. Whoever reads goes on reading."""
        for name in ("refs", "partial"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        (self.directory / "shallow").unlink(missing_ok=True)
        shutil.rmtree(self.directory / "objects", ignore_errors=True)
        (self.directory / "HEAD").unlink(missing_ok=True)
        self._make()

    def is_damaged(self) -> bool:
        """Whether a pack or an index is not what its checksum says; reads all of them."""
        for path in (*self._packs.glob("*.pack"), *self._packs.glob("*.idx")):
            if not self._is_whole(path) or not path.with_suffix(".idx").is_file():
                return True
        return False

    def _is_whole(self, path: Path) -> bool:
        """Whether a file ends in the checksum of what is before it."""
        width = self.object_format.raw_size
        hasher = self.object_format.hash()
        with path.open("rb") as file:
            left = os.fstat(file.fileno()).st_size - width
            while left > 0 and (chunk := file.read(min(left, 1 << 20))):
                hasher.update(chunk)
                left -= len(chunk)
            return file.read() == hasher.digest()

    def _write(self, name: str, text: str) -> None:
        write_atomic(self.directory / name, text.encode(), scratch=self.directory, durable=False)


def _partial_name(commit: str, paths: Sequence[str]) -> str:
    return f"{commit}-{hashlib.sha256(json.dumps(sorted(paths)).encode()).hexdigest()[:24]}"


def _newest_first(directory: Path) -> list[str]:
    found = []
    with suppress(FileNotFoundError):
        for item in os.scandir(directory):
            with suppress(FileNotFoundError):
                if not item.name.endswith(".tmp"):
                    found.append((item.stat().st_mtime_ns, item.name))
    return [name for _, name in sorted(found, reverse=True)]

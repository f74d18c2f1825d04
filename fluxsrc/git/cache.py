"""`GitCache`: bare repositories on disk that keep what was fetched, so that only what is new travels.

One repository for each remote and whoever may read it. Safe to share between threads and processes, and to delete at any
time. A commit counts as held once a file named after it is in `refs/held`, which is written last. Nothing is fsynced:
every object is hashed when it is read, and a repository that turns out to be damaged is fetched anew.

    <directory>/<key>.server     what the server of a remote can do
    <directory>/<key>/           a bare repository, which git can read too
        lock                     shared while it is opened, exclusive while something is fetched into it
        shallow                  commits that are there without their parents
        refs/held/<commit>       commits that are there whole
        partial/<commit>-<hash>  commits of which some paths are there; the hash is of the paths
        refused/<what>           what the server did not take a while ago
        objects/pack/…
"""

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

import attrs

from fluxsrc._io.atomic import store_errors, write_atomic
from fluxsrc._io.locks import try_lock
from fluxsrc.auth import Anonymous, BasicAuth, BearerToken, Credentials, SSHKey
from fluxsrc.git.objects import ObjectDatabase
from fluxsrc.git.packfile import ObjectFormat
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.operation import Operation

__all__ = ["CachedRepository", "GitCache", "fingerprint"]

_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05
_MAX_HELD: Final = 32
"""Commits that are offered as common ground; older ones are forgotten, their objects stay until eviction."""
_MAX_PACKS: Final = 64
"""Packs after which a repository starts anew: looking through more costs more than fetching once."""
_REFUSED_SECONDS: Final = 24 * 3600.0
"""For so long a server is not asked again for what it refused: somebody may have upgraded it since."""
_GIB: Final = 1 << 30


@attrs.frozen(kw_only=True)
class GitCache:
    """A directory of cached repositories.

    Attributes:
        path: The directory; None is `fluxsrc/git` in the user's cache directory, looked up when it is used.
        max_bytes: Size after which repositories that were not used for longest are removed.
    """

    path: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    max_bytes: int = 10 * _GIB

    @property
    def directory(self) -> Path:
        """Where it is."""
        if self.path is not None:
            return self.path
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        return Path(base) / "fluxsrc" / "git"

    def repository(self, url: str, who: str, object_format: ObjectFormat) -> "CachedRepository":
        """The repository for a remote, as seen with some credentials.

        Args:
            url: The canonical URL.
            who: The fingerprint of the credentials.
            object_format: How the remote names objects.
        """
        key = hashlib.sha256(json.dumps([url, who, object_format.value]).encode()).hexdigest()[:40]
        return CachedRepository.at(self.directory / key, object_format)

    def recall(self, url: str, who: str) -> Mapping[str, str] | None:
        """What `remember` kept: the capabilities of the server of a remote, None if nothing."""
        try:
            found = json.loads((self.directory / _server_name(url, who)).read_bytes())
        except (OSError, ValueError):
            return None
        if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
            return found
        return None

    def remember(self, url: str, who: str, capabilities: Mapping[str, str] | None) -> None:
        """Keep what a server can do, to ask it one question less the next time; with None, forget it."""
        path = self.directory / _server_name(url, who)
        with store_errors("use the cache", self.directory):
            if capabilities is None:
                path.unlink(missing_ok=True)
            else:
                data = json.dumps(dict(capabilities)).encode()
                write_atomic(path, data, scratch=self.directory, durable=False)

    def salt(self) -> bytes:
        """Makes fingerprints of credentials worthless elsewhere; made once for the directory."""
        path = self.directory / "salt"
        with store_errors("use the cache", self.directory):
            with suppress(FileNotFoundError):
                return path.read_bytes()
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(FileExistsError):
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(secrets.token_bytes(16))
            return path.read_bytes()

    def evict(self, *, keep: Path | None = None) -> None:
        """Remove the repositories that were not used for longest, until the rest is below `max_bytes`.

        Those that somebody holds the lock of are left alone. Whoever reads from a removed one goes on reading.
        """
        with store_errors("evict from", self.directory), suppress(FileNotFoundError):
            found = sorted((_last_use(path), path) for path in self.directory.iterdir() if path.is_dir())
            sizes = {path: _size(path) for _, path in found}
            total = sum(sizes.values())
            for _, path in found:
                if total <= self.max_bytes:
                    return
                if path != keep and _remove_unlocked(path):
                    total -= sizes[path]


@attrs.frozen
class CachedRepository:
    """One repository of the cache. Its methods other than `locked` are called with the lock held."""

    directory: Path
    object_format: ObjectFormat

    @classmethod
    def at(cls, directory: Path, object_format: ObjectFormat) -> Self:
        """The repository in a directory; made if it is not there."""
        repository = cls(directory, object_format)
        with store_errors("make the cached repository", directory):
            repository._make()
        return repository

    @classmethod
    @contextmanager
    def temporary(cls, object_format: ObjectFormat) -> Iterator[Self]:
        """A repository that is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="fluxsrc-git-", ignore_cleanup_errors=True) as directory:
            yield cls.at(Path(directory) / "repository", object_format)

    def _make(self) -> None:
        if (self.directory / "HEAD").is_file() and self._packs.is_dir():
            return
        for name in ("objects/pack", "refs/held", "partial"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
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
        """Hold the lock; wait for it as long as the operation allows.

        Raises:
            TransportTimeoutError: Others held it until the deadline.
        """
        pause = _FIRST_PAUSE
        while True:
            descriptor = try_lock(self.directory / "lock", shared=shared)
            if descriptor is not None:
                break
            operation.check("wait for another fetch of the same repository")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        try:
            with store_errors("use the cached repository", self.directory):
                self._make()  # it may have been deleted since it was made
                os.utime(self.directory / "HEAD")  # when it was used last
                yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

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
        (self.directory / "refused").mkdir(exist_ok=True)
        self._write(f"refused/{what}", "")

    @property
    def shallow(self) -> frozenset[str]:
        """Commits that are there without their parents."""
        try:
            return frozenset((self.directory / "shallow").read_text().split())
        except FileNotFoundError:
            return frozenset()

    def update_shallow(self, *, shallow: Iterable[str], unshallow: Iterable[str]) -> None:
        """Note which commits came without their parents, and which are not so any more."""
        now = (self.shallow | frozenset(shallow)) - frozenset(unshallow)
        self._write("shallow", "".join(f"{commit}\n" for commit in sorted(now)))

    def tidy(self) -> None:
        """Sweep what a process that died left half, and start anew if so much has piled up that it is better to."""
        for leftover in self._packs.glob("tmp_*"):
            leftover.unlink(missing_ok=True)
        if len(list(self._packs.glob("*.idx"))) >= _MAX_PACKS:
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
        """Whether a pack is not what its checksum says; reads all of them."""
        width = self.object_format.raw_size
        for pack in self._packs.glob("*.pack"):
            hasher = self.object_format.hash()
            with pack.open("rb") as file:
                left = os.fstat(file.fileno()).st_size - width
                while left > 0 and (chunk := file.read(min(left, 1 << 20))):
                    hasher.update(chunk)
                    left -= len(chunk)
                if file.read() != hasher.digest() or not pack.with_suffix(".idx").is_file():
                    return True
        return False

    def _write(self, name: str, text: str) -> None:
        write_atomic(self.directory / name, text.encode(), scratch=self.directory, durable=False)


def fingerprint(credentials: Credentials | None, salt: bytes) -> str:
    """A name for credentials that tells nothing about them: who has others gets another cached repository."""
    match credentials:
        case None | Anonymous():
            return ""
        case BasicAuth(identity=str(identity)):
            parts = ["identity", identity]
        case BasicAuth(username, password):
            parts = ["basic", username, password.reveal()]
        case BearerToken(token):
            parts = ["bearer", token.reveal()]
        case SSHKey():
            parts = ["ssh", credentials.username, credentials.identity.reveal()]
    return hmac.digest(salt, json.dumps(parts).encode(), "sha256").hex()


def _server_name(url: str, who: str) -> str:
    return f"{hashlib.sha256(json.dumps([url, who]).encode()).hexdigest()[:40]}.server"


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


def _last_use(directory: Path) -> float:
    try:
        return (directory / "HEAD").stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(directory: Path) -> int:
    total = 0
    for base, _, files in os.walk(directory):
        for name in files:
            with suppress(FileNotFoundError):
                total += os.stat(os.path.join(base, name)).st_size
    return total


def _remove_unlocked(directory: Path) -> bool:
    """Remove a repository unless somebody holds its lock: first out of sight, then for good."""
    descriptor = try_lock(directory / "lock")
    if descriptor is None:
        return False
    try:
        doomed = directory.with_name(f".doomed-{secrets.token_hex(8)}")
        directory.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        return True
    except FileNotFoundError:
        return True
    finally:
        os.close(descriptor)

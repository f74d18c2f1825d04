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
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from fluxsrc._io.atomic import make_directories, store_errors, write_atomic
from fluxsrc._io.locks import try_lock
from fluxsrc._lazy import later
from fluxsrc.auth import Anonymous, BasicAuth, BearerToken, Credentials, SSHKey
from fluxsrc.errors import ConfigurationError
from fluxsrc.git.cached_repository import CachedRepository
from fluxsrc.git.packfile import ObjectFormat

if TYPE_CHECKING:
    import shutil
else:
    shutil = later("shutil")

__all__ = ["GitCache", "fingerprint"]

_GIB: Final = 1 << 30
_DOOMED: Final = ".doomed-"
_LEFTOVER_SECONDS: Final = 24 * 3600.0
"""Age from which nobody is writing to a file any more."""


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
        """Where it is.

        Raises:
            ConfigurationError: No path is given, and the user has no directory for caches.
        """
        if self.path is not None:
            return self.path
        given = os.environ.get("XDG_CACHE_HOME", "")  # a relative one is invalid, says the specification
        base = Path(given) if os.path.isabs(given) else Path(os.path.expanduser("~"), ".cache")
        if not base.is_absolute():
            raise ConfigurationError(
                "there is no directory for the cache: this user has no home directory",
                hint="set HOME or XDG_CACHE_HOME, or give the source a cache, or cache=None",
            )
        return base / "fluxsrc" / "git"

    def repository(self, url: str, who: str, object_format: ObjectFormat) -> CachedRepository:
        """The repository for a remote, as seen with some credentials.

        Args:
            url: The canonical URL.
            who: The fingerprint of the credentials.
            object_format: How the remote names objects.
        """
        key = hashlib.sha256(json.dumps([url, who, object_format.value]).encode()).hexdigest()[:40]
        return CachedRepository(self.directory / key, object_format)

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
        with store_errors("use", self.directory, what="the cache"):
            if capabilities is None:
                path.unlink(missing_ok=True)
            else:
                data = json.dumps(dict(capabilities)).encode()
                with suppress(FileNotFoundError):  # somebody deletes the cache: nothing is kept there, then
                    write_atomic(path, data, scratch=self.directory, durable=False)

    def salt(self) -> bytes:
        """Makes fingerprints of credentials worthless elsewhere; made once for the directory."""
        path = self.directory / "salt"
        with store_errors("use", self.directory, what="the cache"):
            while True:
                with suppress(FileNotFoundError):
                    salt = path.read_bytes()
                    return salt or _make_salt(path)
                make_directories(self.directory, durable=False, mode=0o700)
                with suppress(FileNotFoundError):  # somebody deletes the cache: once more
                    return _make_salt(path)

    def evict(self, *, keep: Path | None = None) -> None:
        """Remove the repositories that were not used for longest, until the rest is below `max_bytes`.

        Those that somebody holds the lock of are left alone. Whoever reads from a removed one goes on reading.
        """
        with store_errors("use", self.directory, what="the cache"), suppress(FileNotFoundError):
            self._sweep()
            found = sorted((_last_use(path), path) for path in self.directory.iterdir() if path.is_dir())
            sizes = {path: _size(path) for _, path in found}
            total = sum(sizes.values())
            for _, path in found:
                if total <= self.max_bytes:
                    return
                if path != keep and _remove_unlocked(path):
                    total -= sizes[path]

    def _sweep(self) -> None:
        """Remove what processes that died left half."""
        for doomed in self.directory.glob(f"{_DOOMED}*"):
            shutil.rmtree(doomed, ignore_errors=True)
        for scratch in self.directory.glob("*.tmp"):
            with suppress(FileNotFoundError):
                if time.time() - scratch.stat().st_mtime > _LEFTOVER_SECONDS:
                    scratch.unlink()


def fingerprint(credentials: Credentials | None, salt: bytes) -> str:
    """A name for credentials that tells nothing about them: who has others gets another cached repository."""
    match credentials:
        case None | Anonymous():
            return ""
        case BasicAuth(identity=str(identity)) | BearerToken(identity=str(identity)):
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


def _make_salt(path: Path) -> bytes:
    """Write the salt, unless somebody else has: whoever finds the file empty waits for, or does, what is left to do."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        salt = file.read()
        if not salt:
            salt = os.urandom(16)
            file.write(salt)
        return salt


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
        doomed = directory.with_name(f"{_DOOMED}{os.urandom(8).hex()}")
        directory.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        return True
    except FileNotFoundError:
        return True
    finally:
        os.close(descriptor)

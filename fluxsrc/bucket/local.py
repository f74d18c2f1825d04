"""`LocalBucket`: a directory that plays a bucket."""

import contextlib
import hashlib
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from fluxsrc.bucket.protocol import Bucket, BucketClient, BucketObject, Content
from fluxsrc.errors import (
    FluxSrcError,
    PermissionDeniedError,
    RevisionNotFoundError,
    SourceChangedError,
    SourceError,
    UnsafeEntryError,
)
from fluxsrc.operation import Operation
from fluxsrc.recipe import Choice

__all__ = ["Etags", "LocalBucket"]

_PAGE: Final = 1000
_CHUNK: Final = 1 << 20
_MAX_DEPTH: Final = 512
"""Directories in each other: a key of 1,024 bytes has no more."""
_FILE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Etags(Choice):
    """What names a file's content."""

    MD5 = "md5"
    STAT = "stat"


def _absolute(root: str | os.PathLike[str]) -> str:
    return os.path.abspath(os.fspath(root))


@attrs.frozen
class LocalBucket:
    """A directory whose files are the objects: a mirror of a bucket on disk, a mounted one, a test.

    With etags "md5" listing reads every file, and the revision is that of the same objects in S3 (uploaded in one part
    each), on any machine. With "stat" listing reads nothing; the etag is made of inode, size and times, and means
    something on this machine only. Either way a file that changes under a reader is a `SourceChangedError`.

    Attributes:
        root: The directory; a relative one is taken from the working directory of now.
        etags: "md5" or "stat".
    """

    root: str = attrs.field(converter=_absolute)
    etags: Etags = attrs.field(default=Etags.MD5, converter=Etags, kw_only=True)

    @property
    def url(self) -> str:
        """`bucket+file:///ROOT?etags=…`."""
        etags = f"?etags={self.etags}" if self.etags is not Etags.MD5 else ""
        return f"bucket+{Path(self.root).as_uri()}{etags}"

    @contextlib.contextmanager
    def connect(self, operation: Operation, /) -> Iterator[BucketClient]:
        """See `Bucket`; nothing is opened yet."""
        yield _Client(self, operation)


@attrs.frozen(eq=False)
class _Client:
    jumps = True
    _bucket: LocalBucket
    _operation: Operation

    def pages(self, prefix: str = "", *, after: str = "") -> Generator[Sequence[BucketObject], None, None]:
        """A walk in the order of the full paths' bytes; directories that cannot match are not entered."""
        if not os.path.isdir(self._bucket.root):
            raise RevisionNotFoundError(f"no such bucket: {self._bucket.url}", url=self._bucket.url)
        page: list[BucketObject] = []
        for path, key in self._walk(self._bucket.root, "", prefix, after):
            self._operation.check("list", url=self._bucket.url)
            page.append(self._object(path, key))
            if len(page) == _PAGE:
                yield page
                page = []
        if page:
            yield page

    def read(self, item: BucketObject, /, start: int = 0, length: int | None = None) -> Content:
        """A part of the file, if it still is in the state that was listed."""
        self._operation.check("receive", url=self._bucket.url)
        with self._translated(item.key, changed=True):
            descriptor = os.open(os.path.join(self._bucket.root, *item.key.split("/")), _FILE)
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                count = item.size - start if length is None else length
                data = os.pread(descriptor, count, start)
                while 0 < len(data) < count and (more := os.pread(descriptor, count - len(data), start + len(data))):
                    data += more
                # After the bytes: what changed while they were read shows now.
                if _state(os.fstat(file.fileno())) != item.version or len(data) != count:
                    raise SourceChangedError(f"{item.key} changed while it was read", url=self._bucket.url)
                return Content(data)

    def _walk(self, directory: str, above: str, prefix: str, after: str) -> Iterator[tuple[str, str]]:
        if above.count("/") > _MAX_DEPTH:
            raise UnsafeEntryError(
                f"{above[:200]}…: more than {_MAX_DEPTH} directories in each other", path=above[:200]
            )
        with self._translated(above):
            names = sorted(
                (entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name, entry.path)
                for entry in os.scandir(directory)
            )
        for name, path in names:
            key = above + name
            if not (key.startswith(prefix) or (name.endswith("/") and prefix.startswith(key))):
                continue
            if name.endswith("/"):
                if key > after or after.startswith(key):
                    yield from self._walk(path, key, prefix, after)
            elif key > after:
                yield path, key

    def _object(self, path: str, key: str) -> BucketObject:
        with self._translated(key, changed=True):
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                raise UnsafeEntryError(
                    f"{key} is no regular file, so it cannot be an object ({stat.filemode(status.st_mode)})",
                    path=key,
                    hint="remove it, or use a DirectorySource, which has a policy for links",
                )
            state = _state(status)
            if self._bucket.etags is Etags.STAT:
                return BucketObject(key, status.st_size, state, None, state)
            digest = hashlib.md5(usedforsecurity=False)
            with open(os.open(path, _FILE), "rb", buffering=0) as file:
                while data := file.read(_CHUNK):
                    self._operation.check("list", url=self._bucket.url)
                    digest.update(data)
                if _state(os.fstat(file.fileno())) != state:
                    raise SourceChangedError(f"{key} changed while it was listed", url=self._bucket.url)
            etag = digest.hexdigest()
            return BucketObject(key, status.st_size, etag, f"md5:{etag}", state)

    @contextlib.contextmanager
    def _translated(self, key: str, *, changed: bool = False) -> Iterator[None]:
        url = self._bucket.url
        try:
            yield
        except FluxSrcError:
            raise
        except FileNotFoundError as exc:
            raise SourceChangedError(f"{key or url} vanished while the bucket was read", url=url) from exc
        except PermissionError as exc:
            raise PermissionDeniedError(f"{key or url}: permission denied", url=url) from exc
        except OSError as exc:
            if changed:  # a file became a link or a directory
                raise SourceChangedError(f"{key} changed while the bucket was read: {exc.strerror}", url=url) from exc
            raise SourceError(f"{key or url}: {exc.strerror}", url=url) from exc


def _state(status: os.stat_result) -> str:
    """What a write to a file cannot leave as it was."""
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}"


if TYPE_CHECKING:
    _: Bucket = LocalBucket("")
    _client: BucketClient = _Client(LocalBucket(""), Operation())

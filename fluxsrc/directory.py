"""`DirectorySource`: the files below a directory, as they are on disk."""

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from operator import itemgetter
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple
from urllib.parse import quote

import attrs

from fluxsrc._io.listed import StaleError, open_listed, read_listed, state_of
from fluxsrc._lazy import later
from fluxsrc.digest import Digest
from fluxsrc.entry import Entry, Mode, Skipped, check_path
from fluxsrc.errors import PathNotFoundError, PermissionDeniedError, SourceChangedError, SourceError
from fluxsrc.ignore import IgnoreRules
from fluxsrc.limits import Limits
from fluxsrc.operation import Operation
from fluxsrc.produce import SourceOptions
from fluxsrc.recipe import Dialect
from fluxsrc.revision import Revision
from fluxsrc.snapshot import IGNORE_FILE, ListedSnapshot
from fluxsrc.source import Snapshot, Source

if TYPE_CHECKING:
    from fluxsrc._io import ahead
else:
    ahead = later("fluxsrc._io.ahead")

__all__ = ["DirectorySource"]

_CLOCK_TICK_NS: Final = 20_000_000
"""Two writes within one tick of the kernel's coarse clock can leave equal times behind."""
_ROWS: Final = 1024
"""Files that are digested at once."""
_TYPE_MASK: Final = 0o170000
_OTHER_KIND: Final = (errno.ELOOP, errno.EINVAL)
"""What was a file is a link; what was a link is none."""


def _absolute(root: str | os.PathLike[str]) -> str:
    return os.path.abspath(os.fspath(root))


_Row = tuple[str, Mode, int, str]
"""A file as it was listed: path, mode, size, and `state_of`."""
_FILE: Final = Mode.FILE
_EXECUTABLE: Final = Mode.EXECUTABLE
_LINK: Final = Mode.SYMLINK
_OCTAL: Final = {mode: f"{int(mode):o}" for mode in Mode}


@attrs.frozen(eq=False, repr=False)
class _Files:
    """The entries of a listing, made anew by each iteration: rows are smaller, and the garbage collector skips them."""

    _root: str
    _url: str
    _rows: list[_Row]

    def __iter__(self) -> Iterator[Entry]:
        url = self._url
        root = self._root.rstrip("/")
        with ahead.ReadAhead(root, self._rows) as reader:
            for number, (path, mode, size, state) in enumerate(self._rows):
                where = f"{root}/{path}"
                if mode is _LINK:
                    read_link = partial(_read_link, where, url)
                    yield Entry(path, mode, size, partial(_open_link, read_link), state, read_link)
                else:
                    opener = partial(_open, where, url, state)
                    yield Entry(path, mode, size, opener, state, partial(_read, where, url, state, reader, number))


class _Listing(NamedTuple):
    """What the directory held at one moment, and that moment's name."""

    revision: Revision
    entries: _Files
    skipped: list[Skipped]
    ignore_files: dict[str, str]


@attrs.frozen(repr=False)
class DirectorySource(SourceOptions):
    """A source over a directory.

    Its revision is the sha256 over path, mode, size, inode, modification and change time of every file the ignore
    rules keep: a name for one state of this directory on this machine, found without reading a file. (The artifact's
    `content_digest` is the name that is the same on every machine.) A file that changes while it is read is a
    `SourceChangedError`. Excluded directories are not entered; `.git` never is, except in the flux dialect.

    Attributes:
        root: The directory; a relative one is taken from the working directory of now.
    """

    root: str = attrs.field(converter=_absolute)

    @property
    def kind(self) -> str:
        """Always "directory"."""
        return "directory"

    @property
    def url(self) -> str:
        """`file:///ROOT`, with the sub-path as fragment."""
        # Not Path.as_uri: that loads urllib.request since Python 3.14, which takes longer than a small directory.
        return f"file://{quote(os.fsencode(self.root))}" + (f"#path={quote(self.path)}" if self.path else "")

    def resolve_revision(self, *, operation: Operation | None = None) -> Revision:
        """The revision of this moment; lists and stats, reads only `.sourceignore` files."""
        return self._list(self._operation(operation)).revision

    @contextlib.contextmanager
    def fetch(self, revision: Revision | None = None, /, *, operation: Operation | None = None) -> Iterator[Snapshot]:
        """The files as they were listed; see `Source`."""
        operation = self._operation(operation)
        # Resolving already listed everything, if it was part of this operation; each file is held against it when opened.
        listing = operation.memo.pop(self, None) or self._list(operation)
        if revision is not None and revision != listing.revision:
            raise SourceChangedError(f"{self.url} is not at {revision.short} any more", url=self.url)
        snapshot = ListedSnapshot(
            revision=listing.revision,
            entries=listing.entries,
            skipped=listing.skipped,
            ignore_files=listing.ignore_files,
            filtered_by=self.recipe,
        )
        with self._guarded(snapshot, operation) as guarded:
            yield guarded

    def _list(self, operation: Operation) -> _Listing:
        while True:
            walk = _Walk(self, operation)
            listing = walk.listing()
            wait = walk.newest + _CLOCK_TICK_NS - time.time_ns()
            if not 0 < wait <= _CLOCK_TICK_NS:
                break
            # A file was written this very moment: a second write could still hide behind the same time. Look again.
            time.sleep(wait / 1e9)
        operation.memo[self] = listing
        return listing


class _Walk:
    """One pass over a tree, in the order of the full paths' bytes.

    The gitignore dialect prunes: a directory's rules are known on entering it, and an excluded directory is not entered.
    In the flux dialect a rule found anywhere can change the verdict everywhere, so all is listed first and judged last.
    """

    def __init__(self, source: DirectorySource, operation: Operation) -> None:
        self.newest = 0
        self._source = source
        self._url = source.url
        self._operation = operation
        self._prunes = source.dialect is Dialect.GITIGNORE
        self._rows: list[_Row] = []
        self._skipped: list[Skipped] = []
        self._ignore_files: dict[str, str] = {}

    def listing(self) -> _Listing:
        source = self._source
        root = os.path.normpath(os.path.join(source.root, source.path))
        if os.path.realpath(root) != os.path.normpath(os.path.join(os.path.realpath(source.root), source.path)):
            raise PathNotFoundError(f"{source.url}: a symbolic link is on the way to {source.path}", url=source.url)
        self._directory(root, "", IgnoreRules(dialect=source.dialect.value, extra=source.ignore))
        if not self._prunes:
            rules = IgnoreRules(dialect=source.dialect.value, files=self._ignore_files, extra=source.ignore)
            self._rows = [row for row in self._rows if not rules.excluded(row[0])]
        revision = Revision(Digest("sha256", _digest(self._rows)))
        return _Listing(revision, _Files(root, self._url, self._rows), self._skipped, self._ignore_files)

    def _directory(self, directory: str, prefix: str, rules: IgnoreRules) -> None:
        self._operation.check("list", url=self._url)
        # No file below could be one, and a tree of nothing but directories must end before our own stack does.
        self._source.limits.check("max_path_depth", prefix.count("/"), what="a directory", path=prefix[:200])
        try:
            with os.scandir(directory) as scan:
                found = [(f"{item.name}/" if item.is_dir(follow_symlinks=False) else item.name, item) for item in scan]
        except OSError as exc:
            raise _translated(exc, self._url) from exc
        # By code points, which is the order of the UTF-8 bytes. Names that are no UTF-8 do not get further than `_file`.
        found.sort(key=itemgetter(0))
        rules = self._with_ignore_file(dict(found).get(IGNORE_FILE), prefix, rules)
        limits, rows = self._source.limits, self._rows
        # What is the same for all files is decided once: there is nothing else to save per file but the call that stats it.
        prunes = self._prunes
        judges = prunes and not rules.is_empty
        checks = not _is_plain(prefix, found, limits)
        times: list[int] = []
        for name, item in found:
            path = prefix + name
            if name[-1] == "/":
                if not (prunes and (name == ".git/" or (judges and rules.excluded_dir(path[:-1])))):
                    self._directory(item.path, path, rules)
                continue
            if prunes and (name == ".git" or (judges and rules.excluded(path))):
                continue
            if checks:
                check_path(path, limits=limits)
            try:
                status = item.stat(follow_symlinks=False)
            except OSError as exc:
                raise _translated(exc, self._url) from exc
            mode = _mode(status.st_mode)
            if mode is None:
                self._skipped.append(Skipped(path, "special-file", stat.filemode(status.st_mode)))
                continue
            times.append(status.st_ctime_ns)
            rows.append((path, mode, status.st_size, state_of(status)))
        self.newest = max(self.newest, max(times, default=0))
        limits.check("max_entries", len(rows), what=self._url)

    def _with_ignore_file(self, item: "os.DirEntry[str] | None", prefix: str, rules: IgnoreRules) -> IgnoreRules:
        if item is None or not item.is_file(follow_symlinks=False):
            return rules
        directory = prefix.rstrip("/")
        try:
            status = item.stat(follow_symlinks=False)
            size = status.st_size
            self._source.limits.check("max_manifest_bytes", size, what="an ignore file", path=prefix + IGNORE_FILE)
            text = read_listed(item.path, state_of(status)).decode(errors="surrogateescape")
        except (OSError, StaleError) as exc:
            raise _failed(exc, item.path, self._url) from exc
        self._ignore_files[directory] = text
        # Only ancestors' files govern a directory, so this stays as small as the tree is deep.
        return attrs.evolve(rules, files={**dict(rules.files), directory: text}) if self._prunes else rules


def _is_plain(prefix: str, found: "list[tuple[str, os.DirEntry[str]]]", limits: Limits) -> bool:
    """Whether `check_path` would let pass every file right in a directory, seen at once; if not, they are looked at singly."""
    names = [name for name, _ in found]
    joined = prefix + "".join(names)
    return (
        joined.isascii()
        and joined.isprintable()
        and "\\" not in joined
        and len(prefix) + max(map(len, names), default=0) <= limits.max_path_bytes
        and prefix.count("/") < limits.max_path_depth
    )


def _digest(rows: list[_Row]) -> str:
    digest = hashlib.sha256()
    for start in range(0, len(rows), _ROWS):
        lines = [f"{path}\0{_OCTAL[mode]} {state}\n" for path, mode, _, state in rows[start : start + _ROWS]]
        digest.update("".join(lines).encode())
    return digest.hexdigest()


def _mode(mode: int) -> Mode | None:
    """The entry mode of a file, None of what is no file or link."""
    kind = mode & _TYPE_MASK
    if kind == stat.S_IFREG:
        return _EXECUTABLE if mode & stat.S_IXUSR else _FILE
    return _LINK if kind == stat.S_IFLNK else None


def _open(path: str, url: str, state: str) -> BinaryIO:
    try:
        return os.fdopen(open_listed(path, state), "rb")
    except (OSError, StaleError) as exc:
        raise _failed(exc, path, url) from exc


def _open_link(read: Callable[[], bytes]) -> BinaryIO:
    return BytesIO(read())


def _read_link(path: str, url: str) -> bytes:
    try:
        return os.fsencode(os.readlink(path))
    except OSError as exc:
        raise _failed(exc, path, url) from exc


def _read(path: str, url: str, state: str, reader: "ahead.ReadAhead", number: int) -> bytes:
    try:
        return reader.read(number) or read_listed(path, state)
    except (OSError, StaleError) as exc:
        raise _failed(exc, path, url) from exc


def _failed(exc: OSError | StaleError, path: str, url: str) -> SourceError:
    """What to say of a file or link that was listed."""
    if isinstance(exc, StaleError) or exc.errno in _OTHER_KIND:
        return SourceChangedError(f"{path} changed while it was read", url=url)
    if isinstance(exc, FileNotFoundError | NotADirectoryError):
        return SourceChangedError(f"{path} vanished while the directory was read", url=url)
    return _translated(exc, url)


def _translated(exc: OSError, url: str) -> SourceError:
    if isinstance(exc, FileNotFoundError | NotADirectoryError):
        return PathNotFoundError(f"{exc.filename}: {str(exc.strerror).lower()}", url=url)
    if isinstance(exc, PermissionError):
        return PermissionDeniedError(f"{exc.filename}: permission denied", url=url)
    return SourceError(f"{exc.filename}: {exc.strerror}", url=url)


if TYPE_CHECKING:
    _: Source = DirectorySource("")

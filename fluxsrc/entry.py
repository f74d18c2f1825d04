"""`Entry`: one file of a snapshot. `check_path`, `resolve_link`: the doors every path and link target enters through."""

import enum
import unicodedata
from collections.abc import Callable
from io import BytesIO
from typing import BinaryIO, Final

import attrs

from fluxsrc.errors import ConfigurationError, SourceChangedError, UnsafeEntryError
from fluxsrc.limits import DEFAULT_LIMITS, Limits

__all__ = ["Entry", "Mode", "Skipped", "check_path", "given_path", "resolve_link"]


class Mode(enum.IntEnum):
    """What an entry is; the values are Git's tree modes."""

    FILE = 0o100644
    EXECUTABLE = 0o100755
    SYMLINK = 0o120000

    @property
    def permissions(self) -> int:
        """0o755 for an executable, 0o644 for a file, 0o777 for a link."""
        return 0o777 if self is Mode.SYMLINK else int(self) & 0o777


@attrs.frozen(eq=False)
class Entry:
    """One file of a snapshot, lazy: nothing is read, downloaded or inflated before `open` or `read`.

    Attributes:
        path: POSIX, relative, checked by `check_path` where it entered.
        mode: FILE, EXECUTABLE or SYMLINK (whose content is its target, in UTF-8).
        size: Bytes of the content; some sources learn it only when it is asked for.
        content_id: A name for the bytes that the source knows without reading them ("git:<oid>", "etag:<etag>"), or None.
            Within one source, equal ids promise equal bytes.
    """

    path: str
    mode: Mode
    _size: int | Callable[[], int] = attrs.field(repr=False)
    _opener: Callable[[], BinaryIO] = attrs.field(repr=False)
    content_id: str | None = None
    _reader: Callable[[], bytes] | None = attrs.field(default=None, repr=False)
    _expecter: Callable[[], None] | None = attrs.field(default=None, repr=False)

    @property
    def size(self) -> int:  # noqa: D102 - in the class docstring
        size = self._size
        return size if isinstance(size, int) else size()

    @property
    def can_expect(self) -> bool:
        """Whether `expect` does anything: reading costs so much that the source fetches ahead."""
        return self._expecter is not None

    def expect(self) -> None:
        """Say that this entry will be read soon: a source that can fetch ahead may begin. Never blocks."""
        if self._expecter is not None:
            self._expecter()

    def open(self) -> BinaryIO:
        """A new stream over the content, at its start; close it.

        Raises:
            SourceChangedError: The content is not there any more, or not as it was listed.
        """
        return self._opener()

    def read(self) -> bytes:
        """The whole content, in memory; for entries known to be small.

        Raises:
            SourceChangedError: The content is not of the listed size.
        """
        return self._read(self.size)

    def read_small(self, at_most: int) -> bytes | None:
        """The whole content, in memory, or None if it has more than so many bytes; asks for the size only once.

        Raises:
            SourceChangedError: The content is not of the listed size.
        """
        size = self._size
        if not isinstance(size, int):
            size = size()
        return None if size > at_most else self._read(size)

    def _read(self, size: int) -> bytes:
        if self._reader is not None:
            data = self._reader()
        else:
            with self._opener() as stream:
                data = stream.read(size + 1)
        if len(data) != size:
            raise SourceChangedError(f"{self.path}: {len(data)} bytes were read where {size} were listed")
        return data

    @classmethod
    def from_bytes(cls, path: str, data: bytes, mode: Mode = Mode.FILE, content_id: str | None = None) -> "Entry":
        """An entry that is already in memory."""
        return cls(check_path(path), mode, len(data), lambda: BytesIO(data), content_id, lambda: data)


@attrs.frozen
class Skipped:
    """Something of the source that is not in the artifact, and why. Never silently.

    Attributes:
        path: Where it was.
        reason: "symlink", "submodule", "lfs-pointer", "special-file", "unsafe-path".
        detail: A link's target, a submodule's commit, …; may be empty.
    """

    path: str
    reason: str
    detail: str = ""


_FORBIDDEN_PARTS: Final = frozenset({"", ".", ".."})


def check_path(path: str, *, limits: Limits = DEFAULT_LIMITS) -> str:
    r"""Return the path if it is a relative POSIX path that is safe to write anywhere, or say why not.

    Refused: empty, absolute, `.`, `..` and empty components, NUL and other control characters, backslashes,
    lone surrogates, and anything over the limits on bytes and depth.

    >>> check_path("deploy/prod/app.yaml")
    'deploy/prod/app.yaml'

    Raises:
        UnsafeEntryError: The path is refused; the message says why.
        LimitExceededError: It is too long or too deep.
    """
    if path.isascii():
        size = len(path)
    else:
        try:
            size = len(path.encode())
        except UnicodeEncodeError:
            raise UnsafeEntryError(f"path is not UTF-8: {path!a}", path=ascii(path)) from None
    if size > limits.max_path_bytes:
        limits.check("max_path_bytes", size, what="a path", path=path[:200])
    if not path.isprintable() and _has_control(path):
        raise UnsafeEntryError(f"path has a control character: {path!a}", path=path)
    if "\\" in path:
        raise UnsafeEntryError(f"path has a backslash, a separator on other systems: {path!a}", path=path)
    parts = path.split("/")
    if not _FORBIDDEN_PARTS.isdisjoint(parts):
        raise UnsafeEntryError(f"path is absolute, or has an empty, '.' or '..' component: {path!a}", path=path)
    if len(parts) > limits.max_path_depth:
        limits.check("max_path_depth", len(parts), what="a path", path=path[:200])
    return path


def given_path(path: str) -> str:
    """`check_path` for the path a caller gives, not a source.

    Raises:
        ConfigurationError: The path is refused; the message says why.
        LimitExceededError: It is too long or too deep.
    """
    try:
        return check_path(path)
    except UnsafeEntryError as exc:
        raise ConfigurationError(exc.message) from exc


def _has_control(text: str) -> bool:
    """Control characters, and what is no text at all: they rewrite terminals and logs."""
    return any(unicodedata.category(char) in ("Cc", "Cs") for char in text)


def resolve_link(path: str, target: str) -> str:
    """Where a link of the tree points, as a path of the tree ("" is its root).

    `..` is taken at the start of the target only: after a name it would mean the parent of wherever that name leads,
    which is another link's secret, and could be outside.

    >>> resolve_link("apps/base/link", "../prod/app.yaml")
    'apps/prod/app.yaml'

    Raises:
        UnsafeEntryError: The target is absolute, empty, not text, or can lead outside the tree.
    """
    if not target or target.startswith("/") or "\\" in target or _has_control(target):
        raise UnsafeEntryError(f"{path}: the link target {target!a} is not a relative path", path=path)
    parts = path.split("/")[:-1]
    named = False
    for part in target.split("/"):
        if part == "..":
            if named or not parts:
                raise UnsafeEntryError(f"{path}: the link target {target!r} can lead out of the tree", path=path)
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
            named = True
    return "/".join(parts)

"""`members`: a strict, streaming reader of tars that others wrote: Docker layers, Helm charts, `git archive`, GNU tar.

Two readers that understand one archive differently are how files are smuggled, so whatever could be read in two ways is
an error: a path said twice, a link with content, a sparse file, numbers that are not numbers, anything after the end.
"""

import io
import re
from collections.abc import Iterator
from enum import Enum
from typing import BinaryIO, Final, cast

import attrs

from fluxsrc.digest import Digest
from fluxsrc.entry import Mode, check_path, resolve_link
from fluxsrc.errors import ContentError, DigestMismatchError, UnsafeEntryError
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.operation import Operation
from fluxsrc.recipe import Compression
from fluxsrc.tarball.codec import Stream
from fluxsrc.tarball.headers import BLOCK, padded

__all__ = ["Member", "MemberType", "members"]

_MAX_EXTENSION: Final = 1024 * 1024
"""Bytes of one PAX header or GNU long name."""
_MAX_EXTENSIONS: Final = 16
"""Extended headers in a row."""
_MAX_TAIL: Final = 1024 * 1024
"""Zeros after the end: tar pads to its record size, which is far less than this."""
_ZEROS: Final = bytes(BLOCK)
_RECORD: Final = re.compile(rb"([1-9][0-9]{0,6}) ")
_OCTAL: Final = re.compile(rb"[ ]*([0-7]*)[ \0]*")
_DECIMAL: Final = re.compile(rb"[0-9]{1,20}")
_BASE_256: Final = 0x80
_POSIX_MAGIC: Final = b"ustar\x0000"


class MemberType(Enum):
    """What a member is. `members` yields hard links, and what is unfit for an entry, only where it was told to."""

    FILE = "file"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"
    DIRECTORY = "directory"
    UNFIT = "unfit"


_TYPES: Final = {
    b"0": MemberType.FILE,
    b"\0": MemberType.FILE,
    b"7": MemberType.FILE,
    b"1": MemberType.HARDLINK,
    b"2": MemberType.SYMLINK,
    b"5": MemberType.DIRECTORY,
}
_REFUSED: Final = {b"3": "a character device", b"4": "a block device", b"6": "a named pipe", b"S": "a sparse file"}
_SPECIAL: Final = frozenset({b"3", b"4", b"6"})


@attrs.frozen
class Member:
    """What an archive says about one of its members.

    Attributes:
        path: Checked, without "./" in front or a slash behind.
        type: FILE, DIRECTORY, SYMLINK, HARDLINK or UNFIT.
        size: Bytes of the content; 0 unless it is a file.
        executable: Whether the owner may execute it.
        target: Where a link points: of a symbolic link as written, of a hard link a checked path of the archive. Of what
            is unfit: why, as the reason of a `fluxsrc.entry.Skipped`.
    """

    path: str
    type: MemberType
    size: int
    executable: bool
    target: str = ""

    @property
    def mode(self) -> Mode:
        """The mode of the entry this member would be; FILE for directories."""
        if self.type is MemberType.SYMLINK:
            return Mode.SYMLINK
        return Mode.EXECUTABLE if self.executable and self.type is not MemberType.DIRECTORY else Mode.FILE


def members(
    archive: BinaryIO,
    /,
    *,
    compression: Compression | None = None,
    limits: Limits = DEFAULT_LIMITS,
    hard_links: bool = False,
    any_targets: bool = False,
    unfit: bool = False,
    expected: Digest | None = None,
    operation: Operation | None = None,
) -> Iterator[tuple[Member, BinaryIO]]:
    """Each member of an archive with a reader over its content, which is valid until the next member is asked for.

    The stream is read once, forwards, and need not be seekable. Nothing that is yielded is verified before the iteration
    has come to its end, which is reached only if the archive is whole.

    Args:
        archive: The bytes, compressed or not.
        compression: How; found out from the first bytes if not given.
        limits: How much is too much.
        hard_links: Yield them instead of refusing them. They name an earlier member, or else are an error.
        any_targets: Yield symbolic links wherever they point, as container images have them, instead of refusing those
            that leave the archive. They must not be followed, nor made on a disk.
        unfit: Yield devices, pipes and names with a backslash, which images have, instead of refusing them.
        expected: The digest of the uncompressed archive; held against it at the end.
        operation: The deadline and cancel switch to obey.

    Raises:
        ContentError: It is not a tar, damaged, cut short, or has something after its end.
        UnsafeEntryError: A path, link target, type or collision that this reader refuses.
        LimitExceededError: It is larger than a limit.
        DigestMismatchError: It is whole, but not what was expected.
    """
    stream = Stream(archive, limits, compression, "sha256" if expected is None else expected.algorithm)
    tree = _Tree()
    headers = _Headers(stream, limits, any_targets=any_targets, unfit=unfit)
    while (member := headers.next()) is not None:
        if operation is not None:
            operation.check("read")
        if member.path:
            tree.add(member, hard_links=hard_links)
            body = _Body(stream, member, operation)
            yield member, cast("BinaryIO", body)
            body.skip()
    _check_tail(stream)
    if expected is not None and stream.digest.hexdigest() != expected.hex:
        actual = f"{expected.algorithm}:{stream.digest.hexdigest()}"
        raise DigestMismatchError(
            f"the archive's content is {actual}, not {expected}", expected=str(expected), actual=actual
        )


class _Tree:
    """Which paths were seen as what, so that no two members collide."""

    def __init__(self) -> None:
        self._leaves: dict[str, MemberType] = {}
        self._directories: set[str] = set()

    def add(self, member: Member, *, hard_links: bool) -> None:
        path = member.path
        parent = path
        while (parent := parent.rpartition("/")[0]) and parent not in self._directories:
            if parent in self._leaves:
                raise UnsafeEntryError(f"{path} lies below {parent}, which is not a directory", path=path)
            self._directories.add(parent)
        if path in self._leaves or (path in self._directories and member.type is not MemberType.DIRECTORY):
            raise UnsafeEntryError(f"{path} is in the archive more than once", path=path)
        if member.type is MemberType.DIRECTORY:
            self._directories.add(path)
            return
        if member.type is MemberType.HARDLINK:
            if not hard_links:
                raise UnsafeEntryError(f"{path} is a hard link to {member.target}", path=path)
            if self._leaves.get(member.target) not in (MemberType.FILE, MemberType.HARDLINK):
                raise UnsafeEntryError(f"{path} is a hard link to {member.target}, not an earlier file", path=path)
        self._leaves[path] = member.type


class _Body(io.RawIOBase):
    """The content of one member."""

    def __init__(self, stream: Stream, member: Member, operation: Operation | None) -> None:
        self._stream = stream
        self._member = member
        self._operation = operation
        self._left = member.size
        self._padding = padded(member.size) - member.size

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes: all that is left if negative or None."""
        if size is None or size < 0:
            return b"".join(iter(lambda: bytes(self._some(1 << 20)), b""))
        return bytes(self._some(size))

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # typeshed's buffer type is private
        """Fill some of a buffer."""
        data = self._some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _some(self, size: int) -> memoryview:
        if self._operation is not None:
            self._operation.check("read")
        wanted = min(size, self._left)
        data = self._stream.read(wanted)
        if wanted and not data:
            raise ContentError(f"the archive is cut short inside {self._member.path}", path=self._member.path)
        self._left -= len(data)
        return data

    def skip(self) -> None:
        """Read past what is left of it, and its padding."""
        while self._left:
            self._some(self._left)
        if len(self._stream.read_exactly(self._padding)) != self._padding:
            raise ContentError(f"the archive is cut short after {self._member.path}", path=self._member.path)
        self.close()


def _check_tail(stream: Stream) -> None:
    seen = 0
    while data := stream.read(_MAX_TAIL):
        seen += len(data)
        if seen > _MAX_TAIL or bytes(data).strip(b"\0"):
            raise ContentError("the archive has data after its end")


@attrs.define(repr=False)
class _Extensions:
    """What the headers in front of a member say about it."""

    path: bytes | None = None
    target: bytes | None = None
    size: int | None = None


class _Headers:
    """The sequence of headers of a tar stream, extensions merged into the members they precede."""

    def __init__(self, stream: Stream, limits: Limits, *, any_targets: bool = False, unfit: bool = False) -> None:
        self._stream = stream
        self._limits = limits
        self._any_targets = any_targets
        self._unfit = unfit
        self._count = 0
        self._content = 0

    def next(self) -> Member | None:
        """The next member, or None at the end. A member with an empty path is the root directory."""
        extensions = _Extensions()
        for _ in range(_MAX_EXTENSIONS):
            block = self._stream.read_exactly(BLOCK)
            if block == _ZEROS:
                if self._stream.read_exactly(BLOCK) != _ZEROS:
                    raise ContentError("the archive's end is not two blocks of zeros")
                if extensions != _Extensions():
                    raise ContentError("the archive ends after a header that describes a member")
                return None
            self._check_block(block)
            typeflag = block[156:157]
            if typeflag in (b"x", b"g", b"L", b"K"):
                self._extend(extensions, typeflag, block)
                continue
            self._count += 1
            self._limits.check("max_entries", self._count, what="the archive")
            return self._member(block, typeflag, extensions)
        raise ContentError("the archive has too many extended headers in a row")

    def _check_block(self, block: bytes) -> None:
        if len(block) != BLOCK:
            where = "inside a header" if block else "before its end"
            raise ContentError(f"the archive is cut short {where}")
        said = _number(block[148:156], "checksum")
        if said != sum(block) - sum(block[148:156]) + 8 * 0x20:
            raise ContentError("not a tar archive, or a damaged one: a header's checksum is wrong")

    def _extend(self, extensions: _Extensions, typeflag: bytes, block: bytes) -> None:
        size = _number(block[124:136], "size")
        if size > _MAX_EXTENSION:
            raise ContentError(f"the archive has an extended header of {size} bytes")
        body = self._stream.read_exactly(padded(size))
        if len(body) != padded(size):
            raise ContentError("the archive is cut short inside an extended header")
        self._add_content(size)
        body = body[:size]
        if typeflag == b"L":
            _set_once(extensions, "path", body.rstrip(b"\0"))
        elif typeflag == b"K":
            _set_once(extensions, "target", body.rstrip(b"\0"))
        else:
            for key, value in _records(body):
                self._apply(extensions, key, value, everywhere=typeflag == b"g")

    @staticmethod
    def _apply(extensions: _Extensions, key: bytes, value: bytes, *, everywhere: bool) -> None:
        if key.startswith(b"GNU.sparse."):
            raise UnsafeEntryError("the archive holds a sparse file")
        if key not in (b"path", b"linkpath", b"size"):
            return  # times, owners, attributes, the comment of `git archive`: nothing that we keep
        if everywhere:
            raise ContentError(f"the archive gives all members the same {key.decode()}")
        if key == b"size":
            if not _DECIMAL.fullmatch(value):
                raise ContentError("a member's size is not a number")
            _set_once(extensions, "size", int(value))
        else:
            _set_once(extensions, "path" if key == b"path" else "target", value)

    def _member(self, block: bytes, typeflag: bytes, extensions: _Extensions) -> Member:
        path = extensions.path
        if path is None:
            path = _text(block[:100])
            # GNU's own format keeps other things where the prefix would be.
            if block[257:265] == _POSIX_MAGIC and (prefix := _text(block[345:500])):
                path = prefix + b"/" + path
        name = _decode(path)
        kind = _TYPES.get(typeflag)
        if self._unfit and (typeflag in _SPECIAL or "\\" in name):
            return self._unfit_member(block, name, kind, extensions)
        kind = _known(kind, name, typeflag)
        if name.endswith("/") and typeflag == b"\0":
            kind = MemberType.DIRECTORY  # as archives were before there was a type for it
        name = self._checked(name, kind)
        size = _number(block[124:136], "size") if extensions.size is None else extensions.size
        if kind is MemberType.FILE:
            self._limits.check("max_file_bytes", size, what=name, path=name)
            self._add_content(size)
        elif size:
            raise ContentError(f"{name} is a {kind.value} with {size} bytes of content", path=name)
        target = ""
        if kind in (MemberType.SYMLINK, MemberType.HARDLINK):
            target = _decode(_text(block[157:257]) if extensions.target is None else extensions.target)
            if kind is MemberType.SYMLINK:
                if not self._any_targets:
                    resolve_link(name, target)
            else:
                target = self._checked(target, kind)
        return Member(name, kind, size, bool(_number(block[100:108], "mode") & 0o100), target)

    def _unfit_member(self, block: bytes, name: str, kind: MemberType | None, extensions: _Extensions) -> Member:
        """What can be no entry, but does no harm where it is only named."""
        name = name.rstrip("/").removeprefix("./")
        check_path(name.replace("\\", "_"), limits=self._limits)
        if kind is MemberType.DIRECTORY:
            return Member(name, kind, 0, executable=False)
        size = _number(block[124:136], "size") if extensions.size is None else extensions.size
        self._add_content(size)
        reason = "special-file" if kind is None else "unsafe-path"
        return Member(name, MemberType.UNFIT, size, executable=False, target=reason)

    def _checked(self, name: str, kind: MemberType) -> str:
        while name.startswith("./"):
            name = name[2:]
        if kind is MemberType.DIRECTORY:
            name = name.removesuffix("/")
            if name in ("", "."):
                return ""
        return check_path(name, limits=self._limits)

    def _add_content(self, size: int) -> None:
        self._content += size
        self._limits.check("max_content_bytes", self._content, what="the archive")


def _known(kind: MemberType | None, name: str, typeflag: bytes) -> MemberType:
    if kind is None:
        what = _REFUSED.get(typeflag, f"of the unknown type {typeflag!r}")
        raise UnsafeEntryError(f"{name[:200]!a} is {what}", path=name[:200])
    return kind


def _set_once(extensions: _Extensions, name: str, value: bytes | int) -> None:
    if getattr(extensions, name) is not None or value == b"":
        raise ContentError(f"the archive says a member's {name} twice, or says it is empty")
    setattr(extensions, name, value)


def _records(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    r"""The records of a PAX header: "LENGTH KEY=VALUE\n", the length counting all of it."""
    start = 0
    while start < len(body):
        match = _RECORD.match(body, start)
        end = start + int(match[1]) if match else 0
        if match is None or end > len(body) or end <= match.end() or body[end - 1 : end] != b"\n":
            raise ContentError("the archive has a malformed PAX header")
        key, equals, value = body[match.end() : end - 1].partition(b"=")
        if not equals or not key:
            raise ContentError("the archive has a malformed PAX header")
        yield key, value
        start = end


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _decode(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise UnsafeEntryError(f"a name is not UTF-8: {name[:200]!a}") from None


def _number(field: bytes, what: str) -> int:
    """A number in octal digits, or in GNU's base 256."""
    if field[0] == _BASE_256:
        return int.from_bytes(field[1:])
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise ContentError(f"a member's {what} is not a number from 0 up")
    return int(match[1] or b"0", 8)

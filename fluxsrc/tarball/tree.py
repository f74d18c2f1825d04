"""Files out of archives: an archive is read once, forwards; its files can then be read in any order, any number of times."""

import io
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, cast

from fluxsrc._io.temporary import temporary_file
from fluxsrc._lazy import later
from fluxsrc.entry import Entry, Mode, Skipped, check_path
from fluxsrc.errors import ContentError, StoreError, UnsafeEntryError
from fluxsrc.limits import Limits
from fluxsrc.operation import Operation
from fluxsrc.tarball.reader import MemberType, members

if TYPE_CHECKING:
    import tempfile
else:
    tempfile = later("tempfile")

__all__ = ["FileTree", "Spool"]

_IN_MEMORY: Final = 8 * 1024 * 1024
_PIECE: Final = 1 << 20
_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_TURNS: Final = 4
"""How many times as many directories as a path may have are looked at on the way that it leads."""


class Spool:
    """Bytes that are appended, then read at any place by any thread. In memory while they are few, else on disk, unnamed."""

    def __init__(self) -> None:
        self.size = 0
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append all of the bytes."""
        count = len(data)
        try:
            if self._file is None and self.size + count > _IN_MEMORY:
                self._file = temporary_file()
                self._append(self._memory)
                self._memory = bytearray()
            if self._file is None:
                self._memory += data
            else:
                self._append(data)
        except OSError as exc:
            raise StoreError(f"cannot write to a temporary file: {exc.strerror}", path=tempfile.gettempdir()) from exc
        self.size += count
        return count

    def _append(self, data: bytes | bytearray | memoryview) -> None:
        assert self._file is not None
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes at a place; fewer at the end."""
        with self._lock:
            if self._file is None:
                return bytes(self._memory[offset : offset + size])
            descriptor = self._file.fileno()
        try:
            return os.pread(descriptor, size, offset)
        except OSError as exc:
            raise StoreError(f"cannot read a temporary file: {exc.strerror}", path=tempfile.gettempdir()) from exc

    def open(self, offset: int = 0, size: int | None = None) -> BinaryIO:
        """A seekable stream over some of the bytes."""
        return cast("BinaryIO", _Slice(self, offset, self.size - offset if size is None else size))

    def close(self) -> None:
        """Give the space back."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._memory = bytearray()


class _Slice(io.RawIOBase):
    def __init__(self, spool: Spool, offset: int, size: int) -> None:
        self._spool = spool
        self._offset = offset
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        parts = []
        while wanted:
            data = self._spool.read_at(self._offset + self._at, wanted)
            if not data:
                raise StoreError("a temporary file became shorter")
            parts.append(data)
            self._at += len(data)
            wanted -= len(data)
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def readall(self) -> bytes:
        return self.read(-1)

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # typeshed's buffer type is private
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Node(NamedTuple):
    """A file or a link, and where its content is; or the reason why it cannot be an entry."""

    mode: Mode
    offset: int
    size: int
    unfit: str = ""


class FileTree:
    """The files of one layer, or of several on top of each other."""

    def __init__(self, limits: Limits, operation: Operation) -> None:
        self._limits = limits
        self._operation = operation
        self._spool = Spool()
        self._nodes: dict[str, _Node] = {}
        self._directories: set[str] = set()  # every directory there ever was: where a removal has to look further

    def add_archive(self, archive: BinaryIO) -> None:
        """All files of a tar, plain or compressed, into an empty tree.

        Raises:
            ContentError: It is not a tar, or a bad one.
        """
        self._nodes.update((path, node) for path, node in self._read(archive, image=False) if node is not None)

    def add_layer(self, archive: BinaryIO) -> None:
        """One layer of a container image on top: its files replace, its whiteouts remove what is below.

        A path leads through the links to directories that the image has by then, as it does where the image runs.

        Raises:
            ContentError: It is not a tar, or a bad one.
        """
        fresh: dict[str, _Node | None] = {}
        for path, node in self._read(archive, image=True):
            name = path.rpartition("/")[2]
            if name == _OPAQUE:
                self._remove_below(self._real(path).rpartition("/")[0])
            elif name.startswith(_WHITEOUT):
                removed = name.removeprefix(_WHITEOUT)
                if removed in ("", ".", ".."):
                    raise ContentError(f"{path} is a whiteout of nothing", path=path)
                self._remove(self._real(path).removesuffix(name) + removed)
            else:
                fresh[path] = node
        # Whiteouts speak of the layers below only, wherever they stand in this one: its own files come last.
        for said, node in fresh.items():
            path = parent = self._real(said)
            while parent := parent.rpartition("/")[0]:
                self._nodes.pop(parent, None)  # a directory where there was a file
            if node is None:
                self._nodes.pop(path, None)
            else:
                self._remove(path)
                self._put(path, node)
        self._limits.check("max_entries", len(self._nodes), what="the image")

    def add_file(self, path: str, data: BinaryIO) -> None:
        """One file."""
        offset = self._spool.size
        while piece := data.read(_PIECE):
            self._operation.check("extract")
            self._spool.write(piece)
        if path in self._nodes:
            raise ContentError(f"two layers are the file {path}", path=path)
        self._put(path, _Node(Mode.FILE, offset, self._spool.size - offset))

    def entries(self, prefix: str = "") -> list[Entry]:
        """The entries below a directory, sorted, named from there."""
        return [self._entry(path, node) for path, node in self._below(prefix) if not node.unfit]

    def skipped(self, prefix: str = "") -> list[Skipped]:
        """What is there, too, and can be no entry."""
        return [Skipped(path, node.unfit) for path, node in self._below(prefix) if node.unfit]

    def close(self) -> None:
        """Give the space back."""
        self._spool.close()

    def _below(self, prefix: str) -> list[tuple[str, _Node]]:
        below = f"{prefix}/" if prefix else ""
        paths = sorted((path for path in self._nodes if path.startswith(below)), key=str.encode)
        return [(path[len(below) :], self._nodes[path]) for path in paths]

    def _real(self, path: str) -> str:
        """Where a path leads: its directories may be links of the image, whose root is the highest there is."""
        done, steps, linked = "", 0, False
        name, *waiting = path.split("/")[::-1]
        while waiting:
            part = waiting.pop()
            steps += 1
            # Whoever makes the links must not make the work: neither in circles nor by their length.
            if steps > _TURNS * self._limits.max_path_depth:
                raise UnsafeEntryError(f"{path} leads through links without end", path=path)
            if part == "..":
                done = done.rpartition("/")[0]
            elif part not in ("", "."):
                at = f"{done}/{part}" if done else part
                node = self._nodes.get(at)
                if node is None or node.mode is not Mode.SYMLINK:
                    done = at
                    continue
                linked = True
                self._limits.check("max_path_bytes", node.size, what=f"the link {at}", path=at)
                target = self._spool.read_at(node.offset, node.size).decode(errors="surrogateescape")
                done = "" if target.startswith("/") else done
                waiting += target.split("/")[::-1]
        return check_path(f"{done}/{name}" if done else name, limits=self._limits) if linked else path

    def _entry(self, path: str, node: _Node) -> Entry:
        return Entry(
            path,
            node.mode,
            node.size,
            lambda: self._spool.open(node.offset, node.size),
            None,
            lambda: self._spool.read_at(node.offset, node.size),
        )

    def _read(self, archive: BinaryIO, *, image: bool) -> Iterator[tuple[str, _Node | None]]:
        """Spool the archive; each path and where its content is now, None for a directory."""
        seen: dict[str, _Node] = {}
        spool = self._spool
        # An image's links are meant for its own root. They become entries like others: policies decide, nobody follows.
        reader = members(
            archive,
            limits=self._limits,
            hard_links=image,
            any_targets=image,
            unfit=image,
            operation=self._operation,
        )
        for member, body in reader:
            if member.type is MemberType.DIRECTORY:
                yield member.path, None
                continue
            offset = spool.size
            if member.type is MemberType.UNFIT:
                node = _Node(Mode.FILE, offset, 0, member.target)
            elif member.type is MemberType.HARDLINK:
                node = seen[member.target]
            elif member.type is MemberType.SYMLINK:
                spool.write(member.target.encode(errors="surrogateescape"))
                node = _Node(Mode.SYMLINK, offset, spool.size - offset)
            else:
                while data := body.read(_PIECE):
                    spool.write(data)
                node = _Node(member.mode, offset, member.size)
            seen[member.path] = node
            yield member.path, node

    def _put(self, path: str, node: _Node) -> None:
        self._nodes[path] = node
        while (path := path.rpartition("/")[0]) and path not in self._directories:
            self._directories.add(path)

    def _remove(self, path: str) -> None:
        self._nodes.pop(path, None)
        if path in self._directories:
            self._remove_below(path)

    def _remove_below(self, directory: str) -> None:
        below = f"{directory}/" if directory else ""
        for name in [name for name in self._nodes if name.startswith(below)]:
            del self._nodes[name]

"""One pack and its index, memory-mapped and read-only: find an object, read its header, inflate its bytes.

Deltas are resolved one floor up, in `objects.py`, because a base may lie in another pack. Nothing a pack declares is
believed before it is held against a bound: a size is checked while inflating, an offset before it is used.
"""

import enum
import hashlib
import mmap
import os
import re
import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple, Self

from fluxsrc._io.regular import open_file
from fluxsrc.errors import ContentError

__all__ = [
    "RELEASE_AFTER",
    "Kind",
    "ObjectFormat",
    "Pack",
    "PackedHeader",
    "decode_header",
    "delta_sizes",
    "encode_header",
    "inflate",
    "release",
]

_HEX: Final = re.compile(r"[0-9a-f]+")
_IDX_MAGIC: Final = b"\xfftOc\x00\x00\x00\x02"
_FAN: Final = 256 * 4
_PACK_HEADER: Final = 12
_MAX_HEADER: Final = 48
"""Bytes of an object's header: a size and an object name, or a size and a distance, with room to spare."""
_MAX_SIZE: Final = (1 << 63) - 1
_FEW: Final = 64
"""Names in a row that a C search is quicker through than a bisection in Python."""
RELEASE_AFTER: Final = 64 << 20
"""Bytes of a mapped pack that are read before its pages are let go."""
_PAGE: Final = 4096
_MAX_ONE_SHOT: Final = 1 << 16
"""Bytes up to which an object is inflated in one call, whose output its short input bounds."""


class ObjectFormat(enum.Enum):
    """How a repository names its objects: `extensions.objectFormat`."""

    SHA1 = "sha1"
    SHA256 = "sha256"

    @property
    def raw_size(self) -> int:
        """Bytes of a binary object name."""
        return 20 if self is ObjectFormat.SHA1 else 32

    @property
    def hex_size(self) -> int:
        """Digits of an object name."""
        return 2 * self.raw_size

    def is_oid(self, text: str) -> bool:
        """Whether it is an object's full name, in hexadecimal."""
        return len(text) == self.hex_size and _HEX.fullmatch(text) is not None

    def hasher(self, kind: "Kind", size: int) -> "hashlib._Hash":
        """A hash object for naming an object of this kind and size: feed it with the content."""
        return self.hash(b"%s %d\0" % (_WORDS[kind], size))

    def hash(self, data: bytes = b"") -> "hashlib._Hash":
        """A hash object of this format, fed with `data`."""
        # Git's names are sha1 by format: as digests of trust they are checked against what was asked for, no more.
        if self is ObjectFormat.SHA1:
            return hashlib.sha1(data, usedforsecurity=False)
        return hashlib.sha256(data, usedforsecurity=False)

    def oid(self, kind: "Kind", data: bytes) -> bytes:
        """The binary name of an object."""
        new = hashlib.sha1 if self is ObjectFormat.SHA1 else hashlib.sha256
        hasher = new(b"%s %d\0" % (_WORDS[kind], len(data)), usedforsecurity=False)
        hasher.update(data)
        return hasher.digest()


class Kind(enum.IntEnum):
    """What an object is; the values are the pack format's."""

    COMMIT = 1
    TREE = 2
    BLOB = 3
    TAG = 4
    OFS_DELTA = 6
    REF_DELTA = 7

    @property
    def word(self) -> bytes:
        """The name in an object's header, `b"commit"`."""
        return _WORDS[self]


_KINDS: Final = {int(kind): kind for kind in Kind}
_WORDS: Final = {kind: kind.name.lower().encode() for kind in Kind}


class PackedHeader(NamedTuple):
    """The head of a packed object.

    Attributes:
        kind: What it is; a delta kind says nothing of what it resolves to.
        size: Declared bytes after inflation: of the object, or of the delta.
        start: Where its zlib stream starts in the pack.
        base: A delta's base: an offset in the same pack, or an object name.
    """

    kind: Kind
    size: int
    start: int
    base: int | bytes | None


def decode_header(data: "bytes | mmap.mmap", offset: int, raw_size: int) -> PackedHeader:
    """Read the header of the packed object at `offset`.

    Raises:
        ContentError: It is cut short, has an unknown kind, an absurd size, or a base that is not before it.
    """
    head = data[offset : offset + _MAX_HEADER]
    position = 1
    try:
        byte = head[0]
        kind = _KINDS.get(byte >> 4 & 7)
        size = byte & 15
        shift = 4
        while byte & 0x80:
            byte = head[position]
            position += 1
            size |= (byte & 0x7F) << shift
            shift += 7
        if kind is None or size > _MAX_SIZE:
            raise ContentError(f"damaged pack: no object can start at offset {offset}")
        if kind < Kind.OFS_DELTA:
            return PackedHeader(kind, size, offset + position, None)
        if kind is Kind.REF_DELTA:
            head[position + raw_size - 1]  # is all of the name there?
            return PackedHeader(kind, size, offset + position + raw_size, head[position : position + raw_size])
        byte = head[position]
        position += 1
        distance = byte & 0x7F
        while byte & 0x80:
            byte = head[position]
            position += 1
            distance = (distance + 1) << 7 | byte & 0x7F
    except IndexError:
        raise ContentError(f"damaged pack: it ends, or makes no sense, inside the object at offset {offset}") from None
    if not 0 < distance <= offset:
        raise ContentError(f"damaged pack: the delta at offset {offset} has a base outside the pack")
    return PackedHeader(kind, size, offset + position, offset - distance)


def encode_header(kind: Kind, size: int) -> bytes:
    """The header of a packed object that is no delta."""
    byte = int(kind) << 4 | size & 15
    size >>= 4
    header = bytearray()
    while size:
        header.append(byte | 0x80)
        byte = size & 0x7F
        size >>= 7
    header.append(byte)
    return bytes(header)


def inflate(data: "bytes | mmap.mmap", start: int, size: int) -> tuple[bytes, int]:
    """The `size` bytes whose zlib stream starts at `start`, and where that stream ends.

    Raises:
        ContentError: The stream is damaged, cut short, or holds more or less than `size` bytes.
    """
    stream = zlib.decompressobj()
    fed = start + size + (size >> 10) + 64
    try:
        # One byte more than declared: enough to see a lie, and to let zlib reach the end of the stream.
        out = stream.decompress(data[start:fed], size + 1)
        if stream.eof and len(out) == size:
            return out, (min(len(data), fed)) - len(stream.unused_data)
        parts = [out]
        have = len(out)
        while not stream.eof and have <= size:
            chunk = stream.unconsumed_tail
            if not chunk:
                chunk = data[fed : fed + 4096]
                fed += 4096
                if not chunk:
                    break
            out = stream.decompress(chunk, size + 1 - have)
            parts.append(out)
            have += len(out)
    except zlib.error as exc:
        raise ContentError(f"damaged pack: the object at offset {start} cannot be inflated: {exc}") from exc
    if have != size or not stream.eof:
        raise ContentError(f"damaged pack: the object at offset {start} is not of the {size} bytes it declares")
    return b"".join(parts), min(fed, len(data)) - len(stream.unused_data)


def release(data: mmap.mmap) -> None:
    """Let go of the pages that were read; they stay in the system's cache, and come back when they are needed.

    A mapped page that was touched counts as memory of this process until then, and packs have gigabytes.
    """
    if hasattr(mmap, "MADV_DONTNEED"):
        data.madvise(mmap.MADV_DONTNEED)


def delta_sizes(delta: bytes) -> tuple[int, int]:
    """What a delta declares: bytes of its base, bytes of its result.

    Raises:
        ContentError: The delta is cut short, or declares absurd sizes.
    """
    sizes = []
    position = 0
    try:
        for _ in (1, 2):
            size = shift = 0
            while True:
                byte = delta[position]
                position += 1
                size |= (byte & 0x7F) << shift
                shift += 7
                if not byte & 0x80:
                    break
                if shift > 63:  # noqa: PLR2004 - no 63-bit size needs more
                    raise ContentError("damaged pack: a delta declares an absurd size")
            sizes.append(size)
    except IndexError:
        raise ContentError("damaged pack: a delta is cut short") from None
    return sizes[0], sizes[1]


class _Rows(NamedTuple):
    """Where in a pack's index things are.

    Attributes:
        fan: How many names there are up to each first byte.
        names: The first name, and how far it is to the next.
        offsets: The first offset, and how far it is to the next.
        large: Offsets that need eight bytes; None in version 1, which has none.
        end: Where the checksums are, if there are no large offsets.
    """

    fan: int
    names: int
    name_stride: int
    offsets: int
    offset_stride: int
    large: int | None
    end: int

    @classmethod
    def of(cls, index: mmap.mmap, width: int) -> Self:
        """Those of version 2; or of version 1, from before 2008, which is pairs of an offset and a name."""
        fan = len(_IDX_MAGIC) if index[: len(_IDX_MAGIC)] == _IDX_MAGIC else 0
        first = fan + _FAN
        count = struct.unpack_from(">I", index, first - 4)[0]
        if not fan:
            return cls(fan, first + 4, width + 4, first, width + 4, None, first + count * (width + 4))
        offsets = first + count * (width + 4)
        large = offsets + count * 4
        return cls(fan, first, width, offsets, 4, large, large)


class Pack:
    """A pack and its index, open. Reads from any thread; close it once no thread reads."""

    def __init__(self, index: mmap.mmap, data: mmap.mmap, object_format: ObjectFormat, name: str) -> None:
        self.name = name
        self.data = data
        self._touched = 0
        self._index = index
        self._width = object_format.raw_size
        self._rows = rows = _Rows.of(index, self._width)
        self._fan: tuple[int, ...] = struct.unpack_from(">256I", index, rows.fan)

    @classmethod
    def open(cls, index_path: Path, object_format: ObjectFormat) -> Self:
        """Map `pack-….idx` and the pack beside it.

        Raises:
            OSError: One of them is not there or cannot be read.
            ContentError: They are not an index and a pack of version 2, or not whole.
        """
        index = _map(index_path)
        try:
            data = _map(index_path.with_suffix(".pack"))
        except BaseException:
            index.close()
            raise
        name = index_path.stem
        width = object_format.raw_size
        problem = None
        if index[:4] == _IDX_MAGIC[:4] and index[:8] != _IDX_MAGIC:
            problem = "its index is of an unknown version"
        elif len(index) < _FAN + 2 * width or len(index) < _Rows.of(index, width).end + 2 * width:
            problem = "its index is cut short"
        elif data[:8] != b"PACK\x00\x00\x00\x02":
            problem = "it is not of version 2"
        if problem is not None:
            index.close()
            data.close()
            raise ContentError(f"damaged pack {name}: {problem}", hint="run 'git repack -ad' in the repository")
        return cls(index, data, object_format, name)

    @property
    def count(self) -> int:
        """How many objects it holds."""
        return self._fan[255]

    def close(self) -> None:
        """Unmap both files; later reads raise `ValueError`."""
        self._index.close()
        self.data.close()

    def find(self, oid: bytes) -> int | None:
        """The offset of an object by its binary name, None if it is not in this pack.

        Raises:
            ContentError: The index points outside the pack.
        """
        index, width = self._index, self._width
        names, stride = self._rows.names, self._rows.name_stride
        first = oid[0]
        low = self._fan[first - 1] if first else 0
        high = self._fan[first]
        while high - low > _FEW:
            middle = (low + high) >> 1
            at = names + middle * stride
            if index[at : at + width] <= oid:
                low = middle
            else:
                high = middle
        end = names + high * stride
        at = index.find(oid, names + low * stride, end)
        while at >= 0 and (at - names) % stride:  # the bytes, but across two names
            at = index.find(oid, at + 1, end)
        if at < 0:
            return None
        return self._offset((at - names) // stride)

    def names(self) -> list[bytes]:
        """All binary names, sorted."""
        first, stride = self._rows.names, self._rows.name_stride
        places = range(first, first + self.count * stride, stride)
        return [self._index[at : at + self._width] for at in places]

    def _offset(self, row: int) -> int:
        try:
            rows = self._rows
            offset: int = struct.unpack_from(">I", self._index, rows.offsets + rows.offset_stride * row)[0]
            if offset & 0x80000000 and rows.large is not None:
                offset = struct.unpack_from(">Q", self._index, rows.large + 8 * (offset & 0x7FFFFFFF))[0]
        except struct.error:
            offset = -1
        if not _PACK_HEADER <= offset < len(self.data):
            raise ContentError(f"damaged pack {self.name}: its index points outside of it")
        return offset

    def header(self, offset: int) -> PackedHeader:
        """The header of the object at `offset`."""
        return decode_header(self.data, offset, self._width)

    def inflate(self, start: int, size: int) -> bytes:
        """The `size` bytes whose zlib stream starts at `start`."""
        self._touched += size + _PAGE
        if self._touched > RELEASE_AFTER:
            self._touched = 0
            release(self.data)
        if 0 < size <= _MAX_ONE_SHOT:
            try:
                out = zlib.decompress(self.data[start : start + size + (size >> 10) + 64], bufsize=size)
                if len(out) == size:
                    return out
            except zlib.error:
                pass  # perhaps the stream is longer than zlib itself would write it: the long way decides
        return inflate(self.data, start, size)[0]


def _map(path: Path) -> mmap.mmap:
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise ContentError(f"damaged pack: {path.name} is empty")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

"""`Indexer`: names every object of a pack, in one pass over it, believing nothing it declares."""

import mmap
import struct
import zlib
from functools import partial
from typing import Final, NamedTuple

from fluxsrc.errors import ContentError, RemoteProtocolError
from fluxsrc.git.objects import MAX_DELTA_BYTES, ObjectDatabase, apply_delta
from fluxsrc.git.packfile import RELEASE_AFTER, Kind, decode_header, inflate, release
from fluxsrc.limits import Limits
from fluxsrc.operation import Operation

__all__ = ["Indexer", "Row"]

_HEADER: Final = 12
_SMALLEST: Final = 9
"""Bytes of the smallest object: one of header, eight of an empty zlib stream."""
_STREAM_FROM: Final = 1 << 20
"""Bytes from which an object that is no delta is hashed piece by piece."""
_CHUNK: Final = 1 << 18
_CHECK_EVERY: Final = 512
_KEEP_BYTES: Final = 48 << 20
"""Bytes of named objects that are kept as bases of deltas, the newest."""
_KEEP_OBJECT: Final = 16 << 20
_OVERHEAD: Final = 200


class Row(NamedTuple):
    """A line of an index: an object's binary name, the checksum of its packed bytes, and where they start."""

    oid: bytes
    crc: int
    offset: int


class Indexer:
    """Names the objects of a mapped pack.

    A delta is resolved as soon as its base has a name: at once if the base came before, as it does in packs made by git;
    else it waits for its base, by the base's offset or name. What still waits at the end may have a base outside the pack.

    Args:
        data: The whole pack, its checksum included.
        bases: Objects outside the pack that deltas may be based on.
        limits: On each object and all of them.
        operation: Its deadline holds.
        url: Where the pack is from, redacted, for messages.

    Attributes:
        rows: A line for each object, in the pack's order, resolved later ones last.
        foreign: The bases outside the pack that were needed.
        contents: The newest small objects, by name.
    """

    def __init__(self, data: mmap.mmap, bases: ObjectDatabase, limits: Limits, operation: Operation, url: str) -> None:
        self.rows: list[Row] = []
        self.foreign: dict[bytes, None] = {}
        self.contents: dict[bytes, tuple[Kind, bytes]] = {}
        self._kept_bytes = 0
        self._data = data
        self._bases = bases
        self._format = bases.object_format
        self._limits = limits
        self._operation = operation
        self._url = url
        self._end = len(data) - self._format.raw_size
        self._names: dict[int, bytes] = {}
        self._offsets: dict[bytes, int] = {}
        self._waiting: dict[int | bytes, list[tuple[int, int]]] = {}
        self._inflated = 0
        self._released = 0

    def run(self) -> None:
        """Name them all.

        Raises:
            RemoteProtocolError: It is no pack.
            ContentError: It is damaged, lies, or is above a limit.
        """
        magic, version, count = struct.unpack_from(">4sII", self._data)
        if magic != b"PACK" or version != 2:  # noqa: PLR2004 - git reads 3 too, and never wrote one
            raise RemoteProtocolError(f"{self._url} sent something that is no pack", url=self._url)
        if count > (self._end - _HEADER) // _SMALLEST:
            raise self._damaged(f"it declares {count} objects, more than it has room for")
        offset = _HEADER
        for done in range(count):
            if not done % _CHECK_EVERY:
                self._operation.check("index", url=self._url)
                self._operation.report("index", done, count, unit="objects")
                self._release(offset)
            offset = self._read_object(offset)
        if offset != self._end:
            raise self._damaged("there is more, or less, in it than the objects it declares")
        for base in [base for base in self._waiting if isinstance(base, bytes) and base in self._bases]:
            self.foreign[base] = None
            self._wake(base)
        if self._waiting:
            raise self._damaged("some of its deltas have a base that is nowhere, or are in a circle")

    def _read_object(self, offset: int) -> int:
        """Name the object at an offset, unless it has to wait for its base; return where it ends."""
        kind, size, start, base = decode_header(self._data, offset, self._format.raw_size)
        if base is not None:
            return self._read_delta(offset, size, start, base)
        self._count(kind, size)
        if size >= _STREAM_FROM:
            oid, end = self._hash_large(kind, size, start)
        else:
            content, end = inflate(self._data, start, size)
            oid = self._format.oid(kind, content)
            self._keep(oid, kind, content)
        self._record(oid, offset, end)
        if self._waiting:
            self._wake(offset, oid)
        return end

    def _read_delta(self, offset: int, size: int, start: int, base: int | bytes) -> int:
        if size > MAX_DELTA_BYTES:
            raise self._damaged(f"it has a delta of {size} bytes")
        delta, end = inflate(self._data, start, size)
        if base in (self._names if isinstance(base, int) else self._offsets):
            oid = self._resolve(offset, end, base, delta)
            if self._waiting:
                self._wake(offset, oid)
        else:
            self._waiting.setdefault(base, []).append((offset, end))
        return end

    def _resolve(self, offset: int, end: int, base: int | bytes, delta: bytes) -> bytes:
        """Name a delta whose base has a name; return the name."""
        kind, content = self._content(base)
        content = apply_delta(content, delta, check_size=partial(self._count, kind))
        oid = self._format.oid(kind, content)
        self._keep(oid, kind, content)
        self._record(oid, offset, end)
        return oid

    def _wake(self, *bases: int | bytes) -> None:
        """Resolve what waits for these, then what waits for that, and so on."""
        todo = list(bases)
        while todo and self._waiting:
            for offset, end in self._waiting.pop(todo.pop(), ()):
                _, size, start, base = decode_header(self._data, offset, self._format.raw_size)
                assert base is not None
                todo += (offset, self._resolve(offset, end, base, inflate(self._data, start, size)[0]))

    def _content(self, base: int | bytes) -> tuple[Kind, bytes]:
        """The content of an object that has a name, or is outside the pack."""
        kept = self.contents.get(self._names[base] if isinstance(base, int) else base)
        if kept is not None:
            return kept
        deltas: list[tuple[bytes, bytes]] = []
        while True:
            oid = self._names[base] if isinstance(base, int) else base
            found = self.contents.get(oid)
            if found is not None:
                kind, content = found
                break
            offset = self._offsets.get(oid)
            if offset is None:
                kind, content = self._bases.read(oid)
                break
            kind, size, start, its_base = decode_header(self._data, offset, self._format.raw_size)
            inflated = inflate(self._data, start, size)[0]
            if its_base is None:
                content = inflated
                self._keep(oid, kind, content)
                break
            deltas.append((oid, inflated))
            base = its_base
        for oid, delta in reversed(deltas):
            content = apply_delta(content, delta, check_size=lambda _: None)  # counted when it was named
            self._keep(oid, kind, content)
        return kind, content

    def _hash_large(self, kind: Kind, size: int, start: int) -> tuple[bytes, int]:
        """The name of an object that is not held, and where it ends."""
        hasher = self._format.hasher(kind, size)
        stream = zlib.decompressobj()
        left = size
        try:
            while not stream.eof:
                self._operation.check("index", url=self._url)
                chunk = stream.unconsumed_tail
                if not chunk:
                    chunk = self._data[start : min(start + _CHUNK, self._end)]
                    start += len(chunk)
                    self._release(start)
                    if not chunk:
                        raise self._damaged("it ends inside an object")
                out = stream.decompress(chunk, _CHUNK)
                hasher.update(out)
                left -= len(out)
                if left < 0:
                    break
        except zlib.error as exc:
            raise self._damaged(f"an object cannot be inflated: {exc}") from exc
        if left:
            raise self._damaged("an object is not of the size it declares")
        return hasher.digest(), start - len(stream.unused_data)

    def _record(self, oid: bytes, offset: int, end: int) -> None:
        self.rows.append(Row(oid, self._crc(offset, end), offset))
        self._names[offset] = oid
        self._offsets.setdefault(oid, offset)

    def _crc(self, offset: int, end: int) -> int:
        if end - offset <= _CHUNK:
            return zlib.crc32(self._data[offset:end])
        crc = 0
        for start in range(offset, end, _CHUNK):
            self._release(start)
            crc = zlib.crc32(self._data[start : min(start + _CHUNK, end)], crc)
        return crc

    def _release(self, offset: int) -> None:
        if abs(offset - self._released) > RELEASE_AFTER:
            self._released = offset
            release(self._data)

    def _keep(self, oid: bytes, kind: Kind, content: bytes) -> None:
        if len(content) > _KEEP_OBJECT or oid in self.contents:
            return
        self.contents[oid] = (kind, content)
        self._kept_bytes += len(content) + _OVERHEAD
        while self._kept_bytes > _KEEP_BYTES:  # the oldest goes first
            _, dropped = self.contents.pop(next(iter(self.contents)))
            self._kept_bytes -= len(dropped) + _OVERHEAD

    def _count(self, kind: Kind, size: int) -> None:
        """Hold an object, and all so far, against the limits, before any of it is made."""
        limits = self._limits
        self._inflated += size
        if size > (limits.max_file_bytes if kind is Kind.BLOB else limits.max_manifest_bytes):
            limit = "max_file_bytes" if kind is Kind.BLOB else "max_manifest_bytes"
            limits.check(limit, size, what=f"an object of the pack from {self._url}")
        if self._inflated > limits.max_content_bytes:
            limits.check("max_content_bytes", self._inflated, what=f"the pack from {self._url}")

    def _damaged(self, what: str) -> ContentError:
        return ContentError(f"the pack from {self._url} is damaged: {what}")

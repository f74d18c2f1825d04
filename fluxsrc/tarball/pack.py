"""`pack`: entries in, a canonical and compressed archive out."""

import hashlib
import zlib
from collections.abc import Iterable
from typing import Any, BinaryIO, Protocol

import attrs

from fluxsrc.digest import Digest
from fluxsrc.entry import Entry, Mode
from fluxsrc.errors import SourceChangedError, UnsafeEntryError
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.operation import Operation
from fluxsrc.recipe import Compression
from fluxsrc.tarball.headers import END, PADDING, header

__all__ = ["Packed", "Reuse", "Sink", "pack"]


class Sink(Protocol):
    """Where an archive goes: a file, an ingest."""

    def write(self, data: bytes, /) -> Any: ...


@attrs.frozen
class Packed:
    content_digest: Digest
    content_size: int
    files: int
    index: bytes | None


@attrs.frozen
class Reuse:
    index: bytes
    archive: BinaryIO


def pack(
    entries: Iterable[Entry],
    sink: Sink,
    /,
    *,
    compression: Compression = Compression.GZIP,
    limits: Limits = DEFAULT_LIMITS,
    reuse: Reuse | None = None,
    operation: Operation | None = None,
) -> Packed:
    compressor = zlib.compressobj(6, zlib.DEFLATED, 31) if compression is Compression.GZIP else None
    digest = hashlib.sha256()
    count = size = 0
    previous = ""

    def put(data: bytes) -> None:
        nonlocal size
        digest.update(data)
        size += len(data)
        sink.write(compressor.compress(data) if compressor else data)

    for entry in entries:
        if entry.path <= previous:
            raise UnsafeEntryError(f"{entry.path} out of order", path=entry.path)
        previous = entry.path
        count += 1
        limits.check("max_entries", count, what="the archive")
        if operation is not None:
            operation.check("pack")
        if entry.mode is Mode.SYMLINK:
            put(header(entry.path, entry.mode, 0, entry.read()))
            continue
        length = entry.size
        put(header(entry.path, entry.mode, length))
        with entry.open() as stream:
            left = length
            while data := stream.read(1 << 18):
                left -= len(data)
                put(data)
            if left:
                raise SourceChangedError(f"{entry.path}: not of the listed size")
        put(PADDING[length % 512])
    put(END)
    if compressor:
        sink.write(compressor.flush())
    return Packed(Digest("sha256", digest.hexdigest()), size, count, None)

"""Packs from elsewhere: received, checked to the last byte, completed and indexed, in bounded memory.

1. Write the stream to a file, hashing, and hold its size against the limits.
2. Go through it once: inflate each object, resolve deltas against what came before, name it.
3. Resolve the deltas that name a base which came later, or which only we have (thin packs).
4. Append the bases that only we have, so that the pack stands alone.
5. Write the index, and rename both into place: first the pack, then the index, which makes it visible.

Nothing the sender declares is believed: not the number of objects, not a size, not a base. Nothing is made durable: a
process that dies leaves no half pack under a pack's name, and what a power cut may do to one is found out by its hashes.
"""

import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fluxsrc._io.atomic import store_errors, write_all
from fluxsrc.errors import ContentError, RemoteProtocolError
from fluxsrc.git.indexer import Indexer, Row
from fluxsrc.git.objects import ObjectDatabase
from fluxsrc.git.packfile import Kind, ObjectFormat, encode_header
from fluxsrc.limits import Limits
from fluxsrc.operation import Operation

__all__ = ["Received", "receive_pack"]

_HEADER: Final = 12
_CHUNK: Final = 1 << 20
_LARGE_OFFSET: Final = 1 << 31


class Received(NamedTuple):
    """What `receive_pack` made of a stream.

    Attributes:
        path: The index; the pack is beside it. None if there was no object in it.
        size: Bytes that were received.
        objects: How many objects.
        contents: Small objects, by binary name, as many as fit: who reads the pack now need not inflate them again.
    """

    path: Path | None
    size: int
    objects: int
    contents: dict[bytes, tuple[Kind, bytes]]


def receive_pack(
    stream: Iterable[bytes],
    directory: Path,
    *,
    bases: ObjectDatabase,
    limits: Limits,
    operation: Operation,
    url: str,
) -> Received:
    """Receive a pack into a directory by the steps of this module's docstring.

    Args:
        stream: The pack's bytes.
        directory: Where pack and index go.
        bases: Objects that deltas may be based on, without being in the pack.
        limits: `max_archive_bytes` for the pack, `max_file_bytes` for each object, `max_content_bytes` for all of them.
        operation: Its deadline holds for all of it.
        url: The sender's, redacted, for messages.

    Raises:
        RemoteProtocolError: What comes is no pack.
        ContentError: The pack is damaged, lies, or is above a limit.
        StoreError: The directory cannot be written.
    """
    temporary = directory / f"tmp_{os.getpid()}_{os.urandom(8).hex()}.pack"
    with store_errors("write", directory, what="a pack to"):
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        size = _write(stream, descriptor, bases.object_format, limits, operation, url)  # 1
        with store_errors("read", temporary), mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
            indexer = Indexer(data, bases, limits, operation, url)
            indexer.run()  # 2, 3
        if not indexer.rows:
            return Received(None, size, 0, {})
        with store_errors("write", temporary):
            checksum = _complete(descriptor, indexer, bases)  # 4
            path = _write_index(temporary, indexer.rows, checksum, bases.object_format)  # 5
        return Received(path, size, len(indexer.rows), indexer.contents)
    finally:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)


def _write(
    stream: Iterable[bytes],
    descriptor: int,
    object_format: ObjectFormat,
    limits: Limits,
    operation: Operation,
    url: str,
) -> int:
    hasher = object_format.hash()
    width = object_format.raw_size
    size = 0
    tail = b""
    for chunk in stream:
        operation.check("receive", url=url)
        size += len(chunk)
        if size > limits.max_archive_bytes:
            limits.check("max_archive_bytes", size, what=f"the pack from {url}")
        write_all(descriptor, chunk)
        tail += chunk
        hasher.update(memoryview(tail)[:-width])
        tail = tail[-width:]
        operation.report("receive", size)
    if size < _HEADER + width:
        raise RemoteProtocolError(f"{url} sent no pack, or only the beginning of one", url=url)
    if hasher.digest() != tail:
        raise ContentError(f"the pack from {url} is damaged or cut short: its checksum does not hold")
    return size


def _complete(descriptor: int, indexer: Indexer, bases: ObjectDatabase) -> bytes:
    """Append the bases the pack lacks; return the pack's checksum."""
    object_format = bases.object_format
    end = os.fstat(descriptor).st_size - object_format.raw_size
    if not indexer.foreign:
        return os.pread(descriptor, object_format.raw_size, end)
    os.ftruncate(descriptor, end)
    os.lseek(descriptor, end, os.SEEK_SET)
    for oid in indexer.foreign:
        kind, data = bases.read(oid)
        packed = encode_header(kind, len(data)) + zlib.compress(data, 1)
        indexer.rows.append(Row(oid, zlib.crc32(packed), end))
        write_all(descriptor, packed)
        end += len(packed)
    os.pwrite(descriptor, struct.pack(">I", len(indexer.rows)), _HEADER - 4)
    hasher = object_format.hash()
    for offset in range(0, end, _CHUNK):
        hasher.update(os.pread(descriptor, min(_CHUNK, end - offset), offset))
    checksum = hasher.digest()
    write_all(descriptor, checksum)
    return checksum


def _write_index(pack: Path, rows: Sequence[Row], checksum: bytes, object_format: ObjectFormat) -> Path:
    """Write the index of a pack and rename both into place; return the index's path."""
    unique = sorted({row.oid: row for row in reversed(rows)}.values())
    counts = [0] * 256
    for row in unique:
        counts[row.oid[0]] += 1
    total = 0
    fan = [total := total + count for count in counts]
    large = [row.offset for row in unique if row.offset >= _LARGE_OFFSET]
    places = iter(range(_LARGE_OFFSET, _LARGE_OFFSET + len(large)))
    offsets = [row.offset if row.offset < _LARGE_OFFSET else next(places) for row in unique]
    body = b"".join(
        (
            b"\xfftOc\x00\x00\x00\x02",
            struct.pack(">256I", *fan),
            *(row.oid for row in unique),
            struct.pack(f">{len(unique)}I", *(row.crc for row in unique)),
            struct.pack(f">{len(unique)}I", *offsets),
            struct.pack(f">{len(large)}Q", *large),
            checksum,
        )
    )
    temporary = pack.with_suffix(".tmp_idx")
    final = pack.with_name(f"pack-{checksum.hex()}.idx")
    try:
        temporary.write_bytes(body + object_format.hash(body).digest())
        pack.rename(final.with_suffix(".pack"))
        temporary.rename(final)
    finally:
        temporary.unlink(missing_ok=True)
    return final

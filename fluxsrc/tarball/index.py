"""The pack index: where the groups of an archive lie in its compressed bytes, and what each was made of.

It is a hint. Whatever is wrong with it (another version, another compression, damage, an archive that it does not
belong to), the worst that happens is that everything is read and compressed again.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from fluxsrc.recipe import FORMAT_VERSION, Compression
from fluxsrc.tarball.groups import MAX_BLOCK

__all__ = ["Group", "Place", "read_index", "write_index"]

_MAGIC: Final = b"fluxsrc pack index\n"
_VERSION: Final = [FORMAT_VERSION, 3]
"""Of the canonical tar, and of this file."""
_MAX_BYTES: Final = 256 * 1024 * 1024
_MAX_LENGTH: Final = 2 * MAX_BLOCK


@attrs.frozen
class Place:
    """Where a block lies.

    Attributes:
        offset: Of its first byte in the archive.
        length: Bytes there.
        size: Bytes before compression.
        crc: CRC-32 of those.
    """

    offset: int
    length: int
    size: int
    crc: int


@attrs.frozen
class Group:
    """A group of entries, and its blocks.

    Attributes:
        first: The path of the first entry.
        count: How many entries there are.
        fingerprint: See `groups.fingerprint`.
        blocks: Where they are.
        content_ids: What the source calls the content of each entry, one on a line.
    """

    first: str
    count: int
    fingerprint: bytes
    blocks: tuple[Place, ...]
    content_ids: str


def write_index(compression: Compression, groups: Sequence[Group]) -> bytes | None:
    """The index of an archive; None where no group has anything to find it by."""
    if not groups:
        return None
    document = {
        "version": _VERSION,
        "compression": compression.value,
        "groups": [
            [
                group.first,
                group.count,
                group.fingerprint.hex(),
                group.blocks[0].offset,
                [[block.length, block.size, block.crc] for block in group.blocks],
                group.content_ids,
            ]
            for group in groups
        ],
    }
    body = zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 1)
    return _MAGIC + hashlib.sha256(body).digest() + body


def read_index(data: bytes, compression: Compression) -> Mapping[str, Group]:
    """The groups of an index by their first paths; nothing if it is damaged, or of no use for this compression."""
    body = data[len(_MAGIC) + 32 :]
    if not data.startswith(_MAGIC) or hashlib.sha256(body).digest() != data[len(_MAGIC) : len(_MAGIC) + 32]:
        return {}
    wanted = compression.value
    try:
        document = json.loads(zlib.decompressobj().decompress(body, _MAX_BYTES))
        if document["version"] != _VERSION or document["compression"] != wanted:
            return {}
        return {group.first: group for group in map(_group, document["groups"])}
    except (zlib.error, ValueError, TypeError, KeyError, RecursionError):
        return {}


def _group(row: Any) -> Group:
    first, count, name, offset, rows, content_ids = row
    blocks = []
    for length, size, crc in rows:
        if not (offset >= 0 and 0 < length <= _MAX_LENGTH and 0 < size <= _MAX_LENGTH):
            raise ValueError("a block of impossible size")
        blocks.append(Place(offset, length, size, int(crc)))
        offset += length
    if (
        not isinstance(first, str)
        or not isinstance(content_ids, str)
        or not isinstance(count, int)
        or count < 1
        or not blocks
    ):
        raise ValueError("an impossible group")
    return Group(first, count, bytes.fromhex(name), tuple(blocks), content_ids)

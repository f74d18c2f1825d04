"""The pack index: where the groups of an archive lie in its compressed bytes, and what each was made of.

It is a hint. Whatever is wrong with it (another version, another compression, damage, an archive that it does not
belong to), the worst that happens is that everything is read and compressed again.
"""

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import attrs

from fluxsrc.gzip import zlib_compress
from fluxsrc.recipe import FORMAT_VERSION, Compression
from fluxsrc.tarball.groups import MAX_BLOCK

__all__ = ["Group", "PackIndex", "Place", "read_index", "read_survey", "write_index"]

_MAGIC: Final = b"fluxsrc pack index\n"
_VERSION: Final = [FORMAT_VERSION, 4]
"""Of the canonical tar, and of this file."""
_DIGEST: Final = slice(len(_MAGIC), len(_MAGIC) + 32)
_SURVEY_SIZE: Final = struct.Struct(">I")
_MAX_BYTES: Final = 256 * 1024 * 1024
_MAX_SURVEY: Final = 16 * 1024 * 1024
_MAX_LENGTH: Final = 2 * MAX_BLOCK


class Place(NamedTuple):
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


@attrs.frozen(eq=False, repr=False)
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


class PackIndex(NamedTuple):
    """What an index says.

    Attributes:
        groups: The groups that can be found by name, by their first paths.
        is_complete: Whether that is all of them: if so, a group goes as far as the next one.
    """

    groups: Mapping[str, Group]
    is_complete: bool


def write_index(
    compression: Compression, groups: Sequence[Group], *, is_complete: bool = False, survey: str = ""
) -> bytes | None:
    """The index of an archive; None where no group has anything to find it by."""
    if not groups:
        return None
    document = {
        "version": _VERSION,
        "compression": compression.value,
        "complete": is_complete,
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
    note = zlib_compress(survey.encode(errors="surrogateescape"))
    body = _SURVEY_SIZE.pack(len(note)) + note + zlib_compress(json.dumps(document, separators=(",", ":")).encode())
    return _MAGIC + hashlib.sha256(body).digest() + body


def read_survey(data: bytes) -> str:
    """What the source noted of the archive's tree; nothing if the index is damaged."""
    body = _body(data)
    if body is None:
        return ""
    note, _ = _parts(body)
    try:
        return zlib.decompressobj().decompress(note, _MAX_SURVEY).decode(errors="surrogateescape")
    except zlib.error:
        return ""


def read_index(data: bytes, compression: Compression) -> PackIndex:
    """The groups of an index; none if it is damaged, or of no use for this compression."""
    nothing = PackIndex({}, is_complete=False)
    body = _body(data)
    if body is None:
        return nothing
    wanted = compression.value
    try:
        document = json.loads(zlib.decompressobj().decompress(_parts(body)[1], _MAX_BYTES))
        if document["version"] != _VERSION or document["compression"] != wanted:
            return nothing
        groups = {group.first: group for group in map(_group, document["groups"])}
        return PackIndex(groups, is_complete=document["complete"] is True and sorted(groups) == list(groups))
    except (zlib.error, ValueError, TypeError, KeyError, RecursionError):
        return nothing


def _body(data: bytes) -> bytes | None:
    """What the index holds, if it is one and whole."""
    body = data[_DIGEST.stop :]
    whole = (
        data.startswith(_MAGIC) and hashlib.sha256(body).digest() == data[_DIGEST] and len(body) >= _SURVEY_SIZE.size
    )
    return body if whole else None


def _parts(body: bytes) -> tuple[bytes, bytes]:
    """The survey and the document, both compressed."""
    end = _SURVEY_SIZE.size + _SURVEY_SIZE.unpack_from(body)[0]
    return body[_SURVEY_SIZE.size : end], body[end:]


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

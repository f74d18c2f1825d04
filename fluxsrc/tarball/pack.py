"""`pack`: entries in, a canonical and compressed archive out, in one pass.

For each group of entries (see `groups`):

1. If the earlier archive has a group of the same entries, by the names the source has for their contents: copy its
   compressed blocks. They are inflated for the digest and held against their length and CRC-32; at the first doubt the
   entries are read instead, and the earlier archive is not looked at again.
2. Else read the entries, those that did not change out of the earlier archive, put their headers in front, and give the
   blocks to the pipeline.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import BinaryIO, Final

import attrs

from fluxsrc.digest import Digest
from fluxsrc.entry import Entry, Mode
from fluxsrc.errors import UnsafeEntryError
from fluxsrc.gzip import Block, crc32
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.operation import Operation
from fluxsrc.recipe import Compression
from fluxsrc.tarball.codec import Codec, codec_for
from fluxsrc.tarball.groups import (
    LARGE,
    Lookahead,
    fingerprint,
    large_blocks,
    run_block,
)
from fluxsrc.tarball.headers import END, header, padded
from fluxsrc.tarball.index import Group, Place, read_index, write_index
from fluxsrc.tarball.pipeline import Pipeline, Sink, Written, default_threads
from fluxsrc.tarball.recall import Recall

__all__ = ["Packed", "Reuse", "pack"]

_NEAR: Final = 512
"""Entries that a source is told about before they are read."""
_SMALL: Final = 8 * 1024
"""Mean bytes of a file, header included, below which compressing it takes less time than reading it."""
_CHECK_EVERY: Final = 64
"""Entries between two looks at the deadline."""


@attrs.frozen
class Packed:
    """What was packed.

    Attributes:
        content_digest: sha256 of the canonical tar, before compression.
        content_size: Its bytes.
        files: Entries in it, links included.
        index: What `Reuse` needs of this archive; None if no content has a name to find it by.
    """

    content_digest: Digest
    content_size: int
    files: int
    index: bytes | None = attrs.field(repr=False)


@attrs.frozen
class Reuse:
    """An earlier archive of the same source, whose unchanged parts may be copied.

    Attributes:
        index: As in its `Packed`; a damaged or foreign one is as good as none.
        archive: Its bytes, seekable and verified.
    """

    index: bytes = attrs.field(repr=False)
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
    threads: int | None = None,
) -> Packed:
    """Write a canonical archive.

    Memory is bounded by the number of threads, whatever the number and size of files; only the index grows with the
    archive, by the path of each group and the content id of each file. The bytes depend neither on the number of
    threads nor on what was reused.

    Args:
        entries: Sorted by the UTF-8 bytes of their paths, each path once, no path below another.
        sink: Where the bytes go; called from a thread of its own.
        compression: How they are compressed.
        limits: How much is too much.
        reuse: An earlier archive to copy from.
        operation: The deadline, cancel switch and progress callback to obey.
        threads: How many compress; by default as many as there are cores to use.

    Raises:
        UnsafeEntryError: The entries are not sorted, collide, or are a link that leads out of the tree.
        SourceChangedError: A content is not of its listed size.
        LimitExceededError: There are too many entries or bytes.
        MissingExtraError: The compression needs an extra that is not installed.
    """
    compression = Compression(compression)
    codec = codec_for(compression)
    earlier = None if reuse is None else _Earlier(reuse, compression, codec)
    with Pipeline(sink, codec, threads or default_threads()) as pipeline:
        packer = _Packer(pipeline, limits, operation, earlier)
        packer.run(entries)
        digest, size = pipeline.finish()
    return Packed(digest, size, packer.count, write_index(compression, packer.groups()))


class _Packer:
    """One run of `pack`.

    Attributes:
        count: Entries so far.
    """

    def __init__(
        self, pipeline: Pipeline, limits: Limits, operation: Operation | None, earlier: "_Earlier | None"
    ) -> None:
        self.count = 0
        self._pipeline = pipeline
        self._limits = limits
        self._operation = operation
        self._earlier = earlier
        self._size = 0
        self._groups: list[tuple[str, int, bytes | None, int, str]] = []
        self._at_most = min(LARGE, limits.max_file_bytes)
        self._taken = 0
        self._announced = 0

    def run(self, entries: Iterable[Entry]) -> None:
        ahead = Lookahead(self._checked(entries))
        while ahead.peek(1):
            if self._earlier is None:
                self._read(ahead, None)  # 2
            elif not self._take_over(ahead, self._earlier):  # 1
                self._announce(ahead, self._earlier)
                self._read(ahead, self._earlier)  # 2
        self._write(END)

    def groups(self) -> list[Group]:
        """What the index says of the archive, once it is finished."""
        places = iter(self._pipeline.places)
        rows = [
            (first, count, name, tuple(islice(places, blocks)), ids) for first, count, name, blocks, ids in self._groups
        ]
        return [Group(first, count, name, blocks, ids) for first, count, name, blocks, ids in rows if name is not None]

    def _checked(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The entries, as long as they are sorted, do not collide, and are not too many."""
        # Python compares strings by code points, which is the order of their UTF-8 bytes.
        previous = ""
        # All names that the current path starts with: "a" and "a-b" are still here when "a-b/c" comes.
        prefixes: list[str] = []
        operation, most = self._operation, self._limits.max_entries
        for entry in entries:
            path = entry.path
            if path <= previous:
                raise UnsafeEntryError(
                    f"{path!a} comes after {previous!a}: entries must be sorted, each once", path=path
                )
            previous = path
            while prefixes and not path.startswith(prefixes[-1]):
                prefixes.pop()
            for prefix in prefixes:
                if path[len(prefix)] == "/":
                    raise UnsafeEntryError(f"{path} lies below {prefix}, which is a file", path=path)
            prefixes.append(path)
            self.count += 1
            if self.count > most:
                self._limits.check("max_entries", self.count, what="the archive")
            if operation is not None and not self.count % _CHECK_EVERY:
                operation.check("pack")
            yield entry

    def _take_over(self, ahead: Lookahead, earlier: "_Earlier") -> bool:
        found = earlier.find(ahead)
        if found is None:
            return False
        group, entries = found
        ahead.drop(group.count)
        thorough = group.count == 1 and _is_large(entries[0])
        for number, place in enumerate(group.blocks):
            if not earlier.is_trusted:
                for block in islice(_blocks(entries), number, None):
                    self._write(block, thorough=thorough)
                break
            self._count_bytes(place.size)
            again = partial(_block, entries, number)
            self._pipeline.splice(earlier.copying(place, again, thorough=thorough), place.size)
        self._taken += group.count
        self._groups.append((group.first, group.count, group.fingerprint, len(group.blocks), group.content_ids))
        return True

    def _announce(self, ahead: Lookahead, earlier: "_Earlier") -> None:
        """Tell the source what will be asked of it soon: what is near, and not in the earlier archive."""
        for entry in ahead.peek(_NEAR)[max(0, self._announced - self._taken) :]:
            if entry.can_expect and not earlier.recall.has(entry):
                entry.expect()
        self._announced = self._taken + _NEAR

    def _read(self, ahead: Lookahead, earlier: "_Earlier | None") -> None:
        recall = None if earlier is None else earlier.recall.read
        block, taken = run_block(ahead, recall, at_most=self._at_most)
        if taken:
            # Of small files, opening and reading takes the time, all of it with the GIL coming and going. Other threads at
            # work would cost this one more than they could take off it.
            self._write(block, at_once=len(block) < len(taken) * _SMALL)
            self._remember(taken, ahead.peek(1), 1)
        else:
            self._read_large(ahead)

    def _read_large(self, ahead: Lookahead) -> None:
        (entry,) = ahead.peek(1)
        ahead.drop(1)
        size = entry.size
        self._limits.check("max_file_bytes", size, what=entry.path, path=entry.path)
        blocks = 0
        for block in large_blocks(entry, size):
            self._write(block, thorough=True)
            blocks += 1
        self._remember([entry], [], blocks)  # what follows cannot change where a large file ends

    def _remember(self, taken: list[Entry], following: list[Entry], blocks: int) -> None:
        count = len(taken)
        self._taken += count
        ids = ""
        name = fingerprint(taken + following, count)
        if name is not None:
            ids = "\n".join([str(entry.content_id) for entry in taken])
        self._groups.append((taken[0].path, count, name, blocks, ids))

    def _write(self, data: bytes, *, thorough: bool = False, at_once: bool = False) -> None:
        self._count_bytes(len(data))
        self._pipeline.write(data, thorough=thorough, at_once=at_once)

    def _count_bytes(self, size: int) -> None:
        self._size += size
        self._limits.check("max_content_bytes", self._size, what="the archive")
        if self._operation is not None:
            self._operation.check("pack")
            self._operation.report("pack", self._size)


def _blocks(entries: Sequence[Entry]) -> Iterator[bytes]:
    """The blocks of a group, made of its entries again."""
    ahead = Lookahead(entries)
    block, taken = run_block(ahead)
    if not taken:
        yield from large_blocks(entries[0], entries[0].size)
        return
    while ahead.peek(1):
        block += run_block(ahead)[0]
    yield block


def _is_large(entry: Entry) -> bool:
    return entry.mode is not Mode.SYMLINK and entry.size > LARGE


def _large_size(entry: Entry) -> int:
    return len(header(entry.path.encode(), entry.mode, entry.size)) + padded(entry.size)


def _block(entries: Sequence[Entry], number: int) -> bytes:
    return next(islice(_blocks(entries), number, None))


class _Earlier:
    """An earlier archive, for as long as nothing speaks against it.

    Attributes:
        is_trusted: Whether nothing does yet.
        recall: Its single contents.
    """

    def __init__(self, reuse: Reuse, compression: Compression, codec: Codec) -> None:
        self._groups = read_index(reuse.index, compression)
        self._archive = reuse.archive
        self._codec = codec
        self.is_trusted = True
        self.recall = Recall(self._groups, self._load)

    def find(self, ahead: Lookahead) -> tuple[Group, list[Entry]] | None:
        """The group that consists of exactly the next entries, and these."""
        group = self._groups.get(ahead.peek(1)[0].path)
        if group is None or not self.is_trusted:
            return None
        alone = group.count == 1 and _is_large(ahead.peek(1)[0])
        entries = ahead.peek(group.count + (not alone))
        if len(entries) < group.count or fingerprint(entries, group.count) != group.fingerprint:
            return None
        if len(group.blocks) > 1 and sum(block.size for block in group.blocks) != _large_size(entries[0]):
            return None
        return group, entries[: group.count]

    def _load(self, place: Place) -> bytes | None:
        """The content of a block, or None if it is not what the index says."""
        if not self.is_trusted:
            return None
        self._archive.seek(place.offset)
        data = self._codec.decompress(self._archive.read(place.length), place.size)
        self.is_trusted = data is not None and crc32(data) == place.crc
        return data if self.is_trusted else None

    def copying(self, place: Place, again: Callable[[], bytes], *, thorough: bool) -> Callable[[], Written]:
        """What `Pipeline.splice` wants for a block: the old bytes if they are right, else what `again` makes anew."""
        payload = b""
        if self.is_trusted:
            self._archive.seek(place.offset)
            payload = self._archive.read(place.length)
        return partial(self._checked, place, payload, again, thorough=thorough)

    def _checked(self, place: Place, payload: bytes, again: Callable[[], bytes], *, thorough: bool) -> Written:
        data = self._codec.decompress(payload, place.size) if payload else None
        if data is not None and crc32(data) == place.crc:
            return Written(data, Block(payload, place.size, place.crc))
        self.is_trusted = False
        data = again()
        return Written(data, self._codec.compress(data, thorough=thorough))

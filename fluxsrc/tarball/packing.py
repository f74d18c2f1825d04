"""`pack`: entries in, a canonical and compressed archive out, in one pass.

For each group of entries (see `groups`):

1. If the source says what changed since the earlier archive, and nothing did in this group and those that follow: copy
   their compressed blocks, and go on with the entries after them. What lies between is not even listed.
2. Else, if the earlier archive has a group of the same entries, by the names the source has for their contents: copy its
   blocks.
3. Else read the entries, those that did not change out of the earlier archive, put their headers in front, and give the
   blocks to the pipeline.

Blocks that are copied are inflated for the digest and held against their length and CRC-32; at the first doubt the entries
are read instead, and the earlier archive is not looked at again.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Final

from fluxsrc.entry import Entry
from fluxsrc.errors import UnsafeEntryError
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.operation import Operation
from fluxsrc.recipe import Compression
from fluxsrc.tarball.codec import codec_for
from fluxsrc.tarball.earlier import Again, Earlier, Reuse
from fluxsrc.tarball.groups import LARGE, Lookahead, fingerprint, large_blocks, run_block
from fluxsrc.tarball.headers import END
from fluxsrc.tarball.index import Group, write_index
from fluxsrc.tarball.packed import Packed
from fluxsrc.tarball.pipeline import Pipeline, Sink, default_threads

__all__ = ["pack"]

_NEAR: Final = 512
"""Entries that a source is told about before they are read."""
_STEP: Final = 64
"""Entries that are listed at a time to find those."""
_CHECK_EVERY: Final = 64
"""Entries between two looks at the deadline."""


def pack(
    entries: Iterable[Entry],
    sink: Sink,
    /,
    *,
    compression: Compression = Compression.GZIP,
    limits: Limits = DEFAULT_LIMITS,
    reuse: Reuse | None = None,
    survey: str = "",
    operation: Operation | None = None,
    threads: int | None = None,
) -> Packed:
    """Write a canonical archive.

    Memory is bounded by the number of threads, whatever the number and size of files; only the index grows with the
    archive, by the path of each group and the content id of each file. The bytes depend neither on the number of
    threads nor on what was reused.

    Args:
        entries: Sorted by the UTF-8 bytes of their paths, each path once, no path below another.
        sink: Where the bytes go; see `Sink` for the threads that call it.
        compression: How they are compressed.
        limits: How much is too much.
        reuse: An earlier archive to copy from.
        survey: What the source notes of this tree; kept in the index.
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
    earlier = None if reuse is None else Earlier(reuse, compression, codec)
    with Pipeline(sink, codec, threads or default_threads()) as pipeline:
        packer = _Packer(pipeline, limits, operation, earlier)
        packer.run(entries)
        digest, size = pipeline.finish()
    groups = packer.groups()
    is_complete = sum(group.count for group in groups) == packer.count
    index = write_index(compression, groups, is_complete=is_complete, survey=survey)
    return Packed(digest, size, packer.count, index, tuple(packer.unlisted))


class _Packer:
    """One run of `pack`.

    Attributes:
        count: Entries so far.
        unlisted: As in `Packed`.
    """

    def __init__(
        self, pipeline: Pipeline, limits: Limits, operation: Operation | None, earlier: Earlier | None
    ) -> None:
        self.count = 0
        self.unlisted: list[tuple[str, str | None]] = []
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
                self._read(ahead, None)  # 3
            elif not (self._jump(ahead, self._earlier) or self._take_over(ahead, self._earlier)):  # 1, 2
                self._announce(ahead, self._earlier)
                self._read(ahead, self._earlier)  # 3
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
                self._check_count()
            if operation is not None and not self.count % _CHECK_EVERY:
                operation.check("pack")
            yield entry

    def _check_count(self) -> None:
        self._limits.check("max_entries", self.count, what="the archive")

    def _jump(self, ahead: Lookahead, earlier: Earlier) -> bool:
        start = ahead.peek(1)[0].path
        groups, end = earlier.unchanged_from(start)
        if not groups or earlier.changes is None:
            return False
        entries = earlier.changes.entries
        self.count -= ahead.clear()
        for group in groups:
            if not earlier.is_trusted:
                end = group.first
                break
            self.count += group.count
            self._check_count()
            self._splice(group, Again(partial(_listed, entries, group)), earlier)
        if end != start:
            self.unlisted.append((start, end))
        ahead.restart(() if end is None else self._checked(entries(end)))
        self._announced = self._taken
        return True

    def _take_over(self, ahead: Lookahead, earlier: Earlier) -> bool:
        found = earlier.find(ahead)
        if found is None:
            return False
        group, entries = found
        ahead.drop(group.count)
        self._splice(group, Again(lambda: entries), earlier)
        return True

    def _splice(self, group: Group, again: Again, earlier: Earlier) -> None:
        """Give the pipeline the blocks of a group of the earlier archive."""
        for number, place in enumerate(group.blocks):
            if not earlier.is_trusted:
                for data, thorough in islice(again.blocks(), number, None):
                    self._write(data, thorough=thorough)
                break
            self._count_bytes(place.size)
            self._pipeline.splice(earlier.copying(place, partial(again.block, number)), place.size)
        self._taken += group.count
        self._groups.append((group.first, group.count, group.fingerprint, len(group.blocks), group.content_ids))

    def _announce(self, ahead: Lookahead, earlier: Earlier) -> None:
        """Tell the source what will be asked of it soon: what is near, and not in the earlier archive."""
        near = _NEAR if earlier.changes is None else _STEP
        while near < _NEAR and not any(
            earlier.unchanged_from(entry.path)[0] for entry in ahead.peek(near)[near - _STEP :]
        ):
            near += _STEP
        for entry in ahead.peek(near)[max(0, self._announced - self._taken) :]:
            if entry.can_expect and not earlier.recall.has(entry):
                entry.expect()
        self._announced = max(self._announced, self._taken + near)

    def _read(self, ahead: Lookahead, earlier: Earlier | None) -> None:
        recall = None if earlier is None else earlier.recall.read
        block, taken = run_block(ahead, recall, at_most=self._at_most)
        if taken:
            self._write(block)
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

    def _write(self, data: bytes, *, thorough: bool = False) -> None:
        self._count_bytes(len(data))
        self._pipeline.write(data, thorough=thorough)

    def _count_bytes(self, size: int) -> None:
        self._size += size
        self._limits.check("max_content_bytes", self._size, what="the archive")
        if self._operation is not None:
            self._operation.check("pack")
            self._operation.report("pack", self._size)


def _listed(entries: Callable[[str], Iterable[Entry]], group: Group) -> Iterable[Entry]:
    return islice(entries(group.first), group.count)

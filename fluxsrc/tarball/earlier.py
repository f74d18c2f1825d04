"""The earlier archive of a source: what of it may be copied into the next one, and what to do if it turns out damaged."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import BinaryIO

import attrs

from fluxsrc.entry import Entry, Mode
from fluxsrc.gzip import Block, crc32
from fluxsrc.recipe import Compression
from fluxsrc.tarball.codec import Codec
from fluxsrc.tarball.groups import LARGE, Lookahead, fingerprint, large_blocks, run_block
from fluxsrc.tarball.headers import header, padded
from fluxsrc.tarball.index import Group, Place, read_index
from fluxsrc.tarball.pipeline import Written
from fluxsrc.tarball.recall import Recall

__all__ = ["Again", "Changes", "Earlier", "Reuse"]


@attrs.frozen(eq=False, repr=False)
class Changes:
    """What a source says became different since an earlier archive.

    Attributes:
        paths: Of every entry that is new, removed or different, sorted. All others are in the earlier archive as they are now.
        entries: The entries of the new archive from a path on, the one there included.
    """

    paths: Sequence[str]
    entries: Callable[[str], Iterable[Entry]]


@attrs.frozen(eq=False, repr=False)
class Reuse:
    """An earlier archive of the same source, whose unchanged parts may be copied.

    Attributes:
        index: As in its `Packed`; a damaged or foreign one is as good as none.
        archive: Its bytes, seekable and verified.
        changes: What changed since then, if the source can say.
    """

    index: bytes
    archive: BinaryIO
    changes: Changes | None = None


class Again:
    """The blocks of a group, made of its entries again, should the earlier ones turn out damaged."""

    def __init__(self, entries: Callable[[], Iterable[Entry]]) -> None:
        self._entries = entries

    def block(self, number: int) -> tuple[bytes, bool]:
        """One of the blocks, and whether it is to be compressed thoroughly."""
        return next(islice(self.blocks(), number, None))

    def blocks(self) -> Iterator[tuple[bytes, bool]]:
        """All of them."""
        entries = list(self._entries())
        ahead = Lookahead(entries)
        block, taken = run_block(ahead)
        if not taken:
            yield from ((data, True) for data in large_blocks(entries[0], entries[0].size))
            return
        while ahead.peek(1):
            block += run_block(ahead)[0]
        yield block, False


def _is_large(entry: Entry) -> bool:
    return entry.mode is not Mode.SYMLINK and entry.size > LARGE


def _large_size(entry: Entry) -> int:
    return len(header(entry.path.encode(), entry.mode, entry.size)) + padded(entry.size)


class Earlier:
    """An earlier archive, for as long as nothing speaks against it.

    Attributes:
        is_trusted: Whether nothing does yet.
        changes: What is known to have changed since.
        recall: Its single contents.
    """

    def __init__(self, reuse: Reuse, compression: Compression, codec: Codec) -> None:
        index = read_index(reuse.index, compression)
        self._groups = index.groups
        self._firsts = list(index.groups)
        self.changes = reuse.changes if index.is_complete else None
        self._archive = reuse.archive
        self._codec = codec
        self.is_trusted = True
        self.recall = Recall(self._groups, self._load)

    def unchanged_from(self, path: str) -> tuple[list[Group], str | None]:
        """The groups from the one that begins at this path to the next change, and the path of the one after them.

        Where a group ends, what follows it decides: so the first entry of the next group may not have changed, either.
        """
        if self.changes is None or not self.is_trusted or path not in self._groups:
            return [], path
        changed = bisect_left(self.changes.paths, path)
        start = bisect_left(self._firsts, path)
        if changed == len(self.changes.paths):
            return [self._groups[first] for first in self._firsts[start:]], None
        end = max(start, bisect_left(self._firsts, self.changes.paths[changed]) - 1)
        return [self._groups[first] for first in self._firsts[start:end]], self._firsts[end]

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

    def copying(self, place: Place, again: Callable[[], tuple[bytes, bool]]) -> Callable[[], Written]:
        """What `Pipeline.splice` wants for a block: the old bytes if they are right, else what `again` makes anew."""
        payload = b""
        if self.is_trusted:
            self._archive.seek(place.offset)
            payload = self._archive.read(place.length)
        return partial(self._checked, place, payload, again)

    def _checked(self, place: Place, payload: bytes, again: Callable[[], tuple[bytes, bool]]) -> Written:
        data = self._codec.decompress(payload, place.size) if payload else None
        if data is not None and crc32(data) == place.crc:
            return Written(data, Block(payload, place.size, place.crc))
        self.is_trusted = False
        data, thorough = again()
        return Written(data, self._codec.compress(data, thorough=thorough))

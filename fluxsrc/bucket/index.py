"""The etag index: what a bucket's revision is made of, and the listing of a million keys in a few dozen MiB.

Nothing here talks to anyone: pages in, values out.
"""

import hashlib
import json
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from itertools import chain, dropwhile, islice
from operator import attrgetter
from typing import Final

import attrs

from fluxsrc.bucket.protocol import BucketObject
from fluxsrc.digest import Digest
from fluxsrc.errors import SourceChangedError

__all__ = ["EtagIndex", "IndexBuilder", "index_digest"]

_BLOCK: Final = 1000
"""Objects compressed together: a page of S3."""
_LOOSE: Final = 16_000
"""Objects at the beginning that are not: some MiB, and most buckets have no more."""


def index_digest(etags: Iterable[tuple[str, str]]) -> Digest:
    r"""Flux's revision of a bucket: sha256 over a line `"<key> <etag>\n"` for each object, sorted by the keys' bytes.

    >>> index_digest([("test.txt", "098f6bcd4621d373cade4e832627b4f6")]).short
    'b4c2a60ce44b'
    """
    digest = hashlib.sha256()
    for key, etag in sorted(etags, key=lambda pair: _bytes(pair[0])):
        digest.update(_bytes(f"{key} {etag}\n"))
    return Digest("sha256", digest.hexdigest())


_Block = bytes | Sequence[BucketObject]
"""Some objects: compressed, or as they are."""


def _bytes(text: str) -> bytes:
    # A directory that plays a bucket can have names that are no UTF-8; they come as surrogates and leave as bytes.
    return text.encode(errors="surrogateescape")


@attrs.frozen(eq=False, repr=False)
class EtagIndex:
    """A complete listing: iterable, again and again, sorted by key.

    A million objects as Python objects would be some hundred MiB; compressed page by page they are a tenth of it. The first
    pages are kept as they are.

    Attributes:
        digest: The revision.
        count: Objects.
        size: Their bytes.
    """

    digest: Digest
    count: int
    size: int
    _blocks: tuple["_Block", ...] = attrs.field(repr=False)
    _last_keys: tuple[str, ...] = attrs.field(repr=False)

    def __iter__(self) -> Iterator[BucketObject]:
        return chain.from_iterable(map(_unpack, self._blocks))

    def since(self, key: str) -> Iterator[BucketObject]:
        """The objects from a key on."""
        later = chain.from_iterable(map(_unpack, self._blocks[bisect_left(self._last_keys, key) :]))
        return dropwhile(lambda item: item.key < key, later)

    def filter(self, keep: Callable[[BucketObject], bool], *, unhashed: frozenset[str] = frozenset()) -> "EtagIndex":
        """The index of what a predicate keeps."""
        builder = IndexBuilder(unhashed=unhashed)
        kept = filter(keep, self)
        while page := list(islice(kept, _BLOCK)):
            builder.add(page)
        return builder.build()


@attrs.define(eq=False, repr=False)
class IndexBuilder:
    """Takes pages, in the order they come, and makes an `EtagIndex`.

    Attributes:
        unhashed: Keys that are listed, but are no part of the revision.
        count: Objects so far.
        size: Their bytes so far.
    """

    unhashed: frozenset[str] = frozenset()
    count: int = attrs.field(default=0, init=False)
    size: int = attrs.field(default=0, init=False)
    _blocks: list["_Block"] = attrs.field(factory=list, init=False)
    _last_keys: list[str] = attrs.field(factory=list, init=False)
    _hash: "hashlib._Hash" = attrs.field(factory=hashlib.sha256, init=False)
    _last: str | None = attrs.field(default=None, init=False)
    _sorted: bool = attrs.field(default=True, init=False)

    def add(self, page: Sequence[BucketObject]) -> None:
        """Append a page."""
        if not page:
            return
        self.count += len(page)
        self.size += sum([item.size for item in page])
        self._sorted = self._sorted and self._follows(page)
        if self._sorted:
            self._hash.update(self._lines(page))
        self._blocks.append(page if self.count <= _LOOSE else _pack(page))
        self._last_keys.append(page[-1].key)

    def build(self) -> EtagIndex:
        """The index of everything added.

        Raises:
            SourceChangedError: An object was listed twice, with different content: the bucket changed meanwhile.
        """
        if self._sorted:
            digest = Digest("sha256", self._hash.hexdigest())
            return EtagIndex(digest, self.count, self.size, tuple(self._blocks), tuple(self._last_keys))
        return self._sort()

    def _follows(self, page: Sequence[BucketObject]) -> bool:
        # Comparing text compares code points, which is the order of the UTF-8 bytes, without encoding anything.
        keys = [item.key for item in page]
        last, self._last = self._last, keys[-1]
        return (last is None or last < keys[0]) and all(map(str.__lt__, keys, keys[1:]))

    def _lines(self, page: Sequence[BucketObject]) -> bytes:
        unhashed = self.unhashed
        if unhashed:
            page = [item for item in page if item.key not in unhashed]
        return _bytes("".join([f"{item.key} {item.etag}\n" for item in page]))

    def _sort(self) -> EtagIndex:
        # Few services do not sort (Azure with a hierarchical namespace, S3 directory buckets). Runs are merged, not
        # loaded: one run is what was in order anyway, and as lazy as its blocks.
        again = IndexBuilder(unhashed=self.unhashed)
        merged = _unique(merge(*self._runs(), key=attrgetter("key")))
        while page := list(islice(merged, _BLOCK)):
            again.add(page)
        return again.build()

    def _runs(self) -> list[Iterator[BucketObject]]:
        runs: list[list[bytes]] = []
        last = None
        for block in self._blocks:
            page = sorted(_unpack(block))
            if last is None or page[0].key <= last:
                runs.append([])
            runs[-1].append(_pack(page))
            last = page[-1].key
        self._blocks = []
        return [(item for block in run for item in _unpack(block)) for run in runs]


def _unique(objects: Iterable[BucketObject]) -> Iterator[BucketObject]:
    """Each key once. A page boundary can show an object twice; that is harmless while it is the same one."""
    previous: BucketObject | None = None
    for item in objects:
        if previous is not None and item.key == previous.key:
            if item.etag != previous.etag:
                raise SourceChangedError(f"{item.key!a} changed while the bucket was listed")
            continue
        previous = item
        yield item


def _pack(page: Sequence[BucketObject]) -> bytes:
    return zlib.compress(json.dumps(page, separators=(",", ":")).encode(), 1)


def _unpack(block: "_Block") -> Sequence[BucketObject]:
    if not isinstance(block, bytes):
        return block
    return [BucketObject(*fields) for fields in json.loads(zlib.decompress(block))]

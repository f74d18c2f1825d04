"""`BucketContract`: what every object store must do as a source, besides what all sources must.

```python
class TestMyBucket(BucketContract):
    @pytest.fixture
    def origin(self):
        return MyOrigin()
```

The same suite runs on the fakes of this package and on real servers.
"""

import contextlib
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, ClassVar, Protocol

import attrs
import pytest

from fluxsrc.bucket import Batch, BatchReader, Bucket, BucketClient, BucketObject, BucketSource, Content, LevelLister
from fluxsrc.errors import SourceChangedError
from fluxsrc.memory import MemoryFile, MemorySource
from fluxsrc.operation import Operation
from fluxsrc.stores import MemoryStore
from fluxsrc.testing.source_contract import Origin, SourceContract

__all__ = ["BucketContract", "BucketOrigin", "RecordingBucket"]

_LARGE = bytes(range(256)) * (40 << 10) + b"end"
"""More than one part."""


class BucketOrigin(Origin, Protocol):
    """The bucket of one test, written to directly; `source()` strips no prefix and sees all of it."""

    def put(self, key: str, data: bytes, /) -> None:
        """Store an object."""
        ...

    def delete(self, key: str, /) -> None:
        """Remove an object."""
        ...

    def source(self, **options: Any) -> BucketSource:
        """A source over all of the bucket, with more options."""
        ...


@attrs.frozen
class RecordingBucket:
    """A bucket that notes what is asked of another one.

    Attributes:
        inner: The other one.
        reads: Keys of the objects that were read, once for each part.
        pages: Objects on each page that was listed.
    """

    inner: Bucket
    reads: list[str] = attrs.field(factory=list, eq=False)
    pages: list[int] = attrs.field(factory=list, eq=False)

    @property
    def url(self) -> str:
        """That of the other one."""
        return self.inner.url

    @contextlib.contextmanager
    def connect(self, operation: Operation, /) -> Iterator[BucketClient]:
        """See `Bucket`."""
        with self.inner.connect(operation) as client:
            yield (_RecordingLevels if isinstance(client, LevelLister) else _RecordingClient)(self, client)


@attrs.frozen(eq=False)
class _RecordingClient:
    _bucket: RecordingBucket
    _client: BucketClient

    @property
    def jumps(self) -> bool:
        return self._client.jumps

    def pages(self, prefix: str = "", *, after: str = "") -> Generator[Sequence[BucketObject], None, None]:
        with contextlib.closing(self._client.pages(prefix, after=after)) as pages:
            for page in pages:
                self._bucket.pages.append(len(page))
                yield page

    def read(self, item: BucketObject, /, start: int = 0, length: int | None = None) -> Content:
        self._bucket.reads.append(item.key)
        return self._client.read(item, start, length)

    def start(self, items: Sequence[BucketObject], executor: Executor, /) -> Batch | None:
        batch = self._client.start(items, executor) if isinstance(self._client, BatchReader) else None
        if batch is not None:
            self._bucket.reads.extend(item.key for item in items)
        return batch


class _RecordingLevels(_RecordingClient):
    def names(self, prefix: str, /) -> Generator[Sequence[str], None, None]:
        assert isinstance(self._client, LevelLister)
        return self._client.names(prefix)


class BucketContract(SourceContract):
    """Subclass it, and give it an `origin` fixture that is a `BucketOrigin`."""

    many: ClassVar[int] = 1203
    """Objects that take more than one page to list."""
    odd_keys: ClassVar[tuple[str, ...]] = (
        "%41",
        "a b+c&d=e?f#g;h,i.txt",
        "a'b\"(c)[d]{e}<f>|g^h`~$@!*",
        "dir.with.dots/-x/.hidden",
        "\u00fc/\u4e16\u754c/\U0001f680",
    )

    def test_keys_with_odd_characters_are_just_keys(self, origin: BucketOrigin) -> None:
        """Nothing is decoded once too often, or once too little."""
        expected = {key: key.encode() for key in self.odd_keys}
        origin.publish({key: MemoryFile(data) for key, data in expected.items()})
        with origin.source().fetch() as snapshot:
            assert {entry.path: entry.read() for entry in snapshot.entries()} == expected

    def test_a_listing_of_many_pages_is_whole(self, origin: BucketOrigin) -> None:
        """And sorted, and each object comes once; reading them all at once works, too."""
        expected = {f"d{n % 7}/{n:05}": MemoryFile(f"{n}".encode()) for n in range(self.many)}
        origin.publish(expected)
        bucket = RecordingBucket(origin.source().bucket)
        with attrs.evolve(origin.source(), bucket=bucket).fetch() as snapshot:
            contents = [(entry.path, entry.read()) for entry in snapshot.entries()]
        assert contents == [(path, file.data) for path, file in sorted(expected.items())]
        assert len(bucket.pages) > 1 + 1  # one was the look for an ignore file

    def test_a_large_object_comes_in_parts(self, origin: BucketOrigin) -> None:
        """As a stream, whole and checked."""
        origin.publish({"large": MemoryFile(_LARGE), "small": MemoryFile(b"1")})
        bucket = RecordingBucket(origin.source().bucket)
        with attrs.evolve(origin.source(), bucket=bucket).fetch() as snapshot:
            large, small = snapshot.entries()
            with large.open() as stream:
                assert stream.read(5) + stream.read() == _LARGE
            assert small.read() == b"1"
        assert bucket.reads == ["large", "large", "small"]

    @pytest.mark.parametrize("data", [b"before", _LARGE], ids=["small", "large"])
    def test_an_object_that_was_replaced_is_noticed(self, origin: BucketOrigin, data: bytes) -> None:
        """Even if it has the same size; what was read is never of another moment than what was listed."""
        origin.publish({"a": MemoryFile(data), "b": MemoryFile(b"b")})
        with origin.source().fetch() as snapshot:
            entry, _ = snapshot.entries()
            origin.put("a", bytes(reversed(data)))
            with pytest.raises(SourceChangedError), entry.open() as stream:
                stream.read()

    @pytest.mark.parametrize("data", [b"before", _LARGE], ids=["small", "large"])
    def test_an_object_that_vanished_is_noticed(self, origin: BucketOrigin, data: bytes) -> None:
        """It is an error, not an omission."""
        origin.publish({"a": MemoryFile(data), "b": MemoryFile(b"b")})
        with origin.source().fetch() as snapshot:
            entry, _ = snapshot.entries()
            origin.delete("a")
            with pytest.raises(SourceChangedError), entry.open() as stream:
                stream.read()

    def test_a_change_among_many_small_objects_is_noticed(self, origin: BucketOrigin) -> None:
        """Also where they are requested together."""
        origin.publish({f"{n:03}": MemoryFile(b"before") for n in range(100)})
        with origin.source().fetch() as snapshot:
            entries = list(snapshot.entries())
            origin.put("070", b"after!")
            origin.delete("080")
            outcomes = []
            for entry in entries:
                with contextlib.suppress(SourceChangedError):
                    outcomes.append(entry.read())
        assert outcomes == [b"before"] * 98

    def test_an_artifact_is_of_one_moment(self, origin: BucketOrigin) -> None:
        """A change on the way starts it again; what comes out is the new state, whole."""
        origin.publish({f"{n:03}": MemoryFile(b"before") for n in range(30)})
        changed: list[str] = []

        @attrs.frozen
        class Changing(BucketSource):
            @contextlib.contextmanager
            def fetch(self, *args: Any, **options: Any) -> Iterator[Any]:
                with BucketSource.fetch(self, *args, **options) as snapshot:
                    if not changed:
                        changed.append("029")
                        origin.put("029", b"after!")
                    yield snapshot

        artifact = Changing(origin.source().bucket).produce_artifact(MemoryStore())
        expected = {f"{n:03}": b"before" for n in range(30)} | {"029": b"after!"}
        assert artifact.content_digest == MemorySource(expected).produce_artifact(MemoryStore()).content_digest

    def test_only_what_changed_is_read(self, origin: BucketOrigin) -> None:
        """What did not comes out of the artifact before: content, and even the groups that changed around it."""
        files = {f"d{n % 3}/{n:03}": MemoryFile(f"{n}-".encode() * 300) for n in range(300)}
        origin.publish(files)
        store = MemoryStore()
        origin.source().produce_artifact(store)
        changes = {"d0/150": b"changed", "d1/199": b"changed, too", "new": b"new"}
        for key, data in changes.items():
            origin.put(key, data)
        origin.delete("d2/200")
        bucket = RecordingBucket(origin.source().bucket)
        source = attrs.evolve(origin.source(), bucket=bucket)
        artifact = source.produce_artifact(store)
        assert sorted(bucket.reads) == sorted(changes)
        expected = {path: file for path, file in files.items() if path != "d2/200"}
        fresh = MemorySource(expected | {key: MemoryFile(data) for key, data in changes.items()})
        assert artifact.content_digest == fresh.produce_artifact(MemoryStore()).content_digest

    def test_an_unchanged_bucket_costs_a_listing(self, origin: BucketOrigin) -> None:
        """Nothing is read, not even what is empty."""
        origin.publish({"a": MemoryFile(b"1"), "empty": MemoryFile(b"")})
        store = MemoryStore()
        origin.source().produce_artifact(store)
        bucket = RecordingBucket(origin.source().bucket)
        attrs.evolve(origin.source(), bucket=bucket).produce_artifact(store)
        assert bucket.reads == []

    def test_an_excluded_directory_is_jumped_over(self, origin: BucketOrigin) -> None:
        """By beginning behind it, or by listing what else there is; and nothing of it is in the snapshot."""
        many = {f"cache/{n:05}": MemoryFile(b"1") for n in range(self.many * 2)}
        origin.publish(many | dict.fromkeys(["a/b", "cache-not", "cave/x", "keep"], MemoryFile(b"2")))
        bucket = RecordingBucket(origin.source().bucket)
        source = attrs.evolve(origin.source(ignore="cache/\n"), bucket=bucket)
        with source.fetch() as snapshot:
            assert [entry.path for entry in snapshot.entries()] == ["a/b", "cache-not", "cave/x", "keep"]
        assert sum(bucket.pages) < self.many * 2

    def test_threads_that_read_one_snapshot_get_what_they_ask_for(self, origin: BucketOrigin) -> None:
        """In whatever order."""
        expected = {f"{n:03}": f"{n}".encode() * 100 for n in range(200)}
        origin.publish({path: MemoryFile(data) for path, data in expected.items()})
        with origin.source().fetch() as snapshot, ThreadPoolExecutor(8) as pool:
            entries = list(snapshot.entries())
            contents = dict(zip([e.path for e in entries], pool.map(lambda entry: entry.read(), entries), strict=True))
        assert contents == expected

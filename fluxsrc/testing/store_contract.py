"""`StoreContract`: what every `Store` must do, as a pytest suite that a store passes with a fixture and a class.

```python
class TestMyStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return MyStore(tmp_path)

    def damage(self, store, artifact):
        ...  # flip a byte of the stored blob, behind the store's back
```
"""

import gzip
import io
import pickle
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from fluxsrc.artifact import (
    ANNOTATION_REVISION,
    ANNOTATION_SOURCE,
    LAYER_MEDIA_TYPE,
    Artifact,
    SourceKey,
)
from fluxsrc.digest import Digest
from fluxsrc.entry import Skipped
from fluxsrc.errors import (
    ArtifactNotFoundError,
    DigestMismatchError,
    LimitExceededError,
    OperationCancelledError,
    UnsafeEntryError,
)
from fluxsrc.limits import Limits
from fluxsrc.operation import Operation, Progress
from fluxsrc.revision import Revision
from fluxsrc.store import Store

__all__ = ["StoreContract", "make_artifact", "put_new"]

_KEY: Final = SourceKey("gitrepository", "default", "podinfo")
_OTHER: Final = SourceKey("gitrepository", "default", "podinfo-2")
_RECIPE: Final = Digest.of(b"recipe")


def make_artifact(
    text: str = "hello", *, key: SourceKey = _KEY, revision: str | None = None, path: str = "app.yaml", **facts: Any
) -> tuple[Artifact, bytes]:
    """An artifact of one small file, and its blob, made without the library's own packer.

    Args:
        text: The file's content.
        key: Whose artifact it is.
        revision: What names its revision; the text if not given.
        path: The file's path.
        facts: More fields of `Artifact`, or others than usual.
    """
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo(path)
        member.size = len(text.encode())
        archive.addfile(member, io.BytesIO(text.encode()))
    blob = gzip.compress(tar.getvalue(), mtime=0)
    named = Revision(Digest.of((text if revision is None else revision).encode()), "main")
    fields: dict[str, Any] = {
        "key": key,
        "url": "https://example.com/podinfo.git",
        "revision": named,
        "content_digest": Digest.of(tar.getvalue()),
        "digest": Digest.of(blob),
        "size": len(blob),
        "content_size": len(tar.getvalue()),
        "files": 1,
        "media_type": f"{LAYER_MEDIA_TYPE}+gzip",
        "recipe": _RECIPE,
        "tree_id": f"tree-of-{named.digest.short}",
        "annotations": {ANNOTATION_SOURCE: "https://example.com/podinfo.git", ANNOTATION_REVISION: str(named)},
        "skipped": (Skipped("link", "symlink", "app.yaml"),),
        "verification": (("policy", "none"),),
    }
    return Artifact(**(fields | facts)), blob


def put_new(store: Store, text: str = "hello", *, index: bytes | None = None, **facts: Any) -> Artifact:
    """Put an artifact of `make_artifact` into a store."""
    artifact, blob = make_artifact(text, **facts)
    with store.ingest() as ingest:
        ingest.write(blob)
        return store.put(artifact, ingest, index=index)


def _blob(store: Store, artifact: Artifact) -> bytes:
    with store.open(artifact) as stream:
        return stream.read()


def _files(directory: Path) -> Sequence[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*")) if directory.exists() else []


class StoreContract:
    """Subclass it, give it a `store` fixture, a new and empty store each time, and say how to `damage` a blob."""

    def damage(self, store: Store, artifact: Artifact) -> None:
        """Change one byte of the artifact's blob, keeping its size, behind the store's back."""
        raise NotImplementedError

    # --- what is not there ---

    def test_is_a_store(self, store: Store) -> None:
        """It has every method of the protocol."""
        assert isinstance(store, Store)

    def test_is_empty_at_first(self, store: Store) -> None:
        """An unknown source has no artifact and no history; neither is an error."""
        assert store.lookup(_KEY) is None
        assert list(store.history(_KEY)) == []
        assert list(store.sources()) == []

    def test_a_blob_that_was_never_put_is_not_found(self, store: Store, tmp_path: Path) -> None:
        """Opening and unpacking say so, and nothing appears."""
        artifact, _ = make_artifact()
        with pytest.raises(ArtifactNotFoundError):
            store.open(artifact)
        with pytest.raises(ArtifactNotFoundError):
            store.extract(artifact, tmp_path / "out")
        assert store.index(artifact) is None
        assert _files(tmp_path / "out") == []

    # --- putting ---

    def test_what_was_put_is_current(self, store: Store) -> None:
        """With every field as given, and `manifest` and `observed` set."""
        artifact, _ = make_artifact()
        recorded = put_new(store)
        assert recorded.manifest is not None
        assert recorded.observed is not None
        assert recorded.observed.tzinfo is not None
        assert attrs.evolve(recorded, manifest=None, observed=None) == artifact
        assert store.lookup(_KEY) == recorded
        assert list(store.history(_KEY)) == [recorded]
        assert list(store.sources()) == [_KEY]

    def test_manifest_is_a_function_of_the_artifact(self, store: Store) -> None:
        """Not of the clock, nor of the source's name."""
        one = put_new(store)
        assert put_new(store, key=_OTHER).manifest == one.manifest
        assert put_new(store, "different", key=_OTHER).manifest != one.manifest

    def test_ingest_hashes_and_counts_any_buffer(self, store: Store) -> None:
        """Bytes, bytearrays, views of other item sizes, in pieces of any size; `write` takes all of it."""
        with store.ingest() as ingest:
            assert ingest.size == 0
            assert ingest.digest == Digest.of(b"")
            assert ingest.write(b"ab") == 2  # noqa: PLR2004 - two bytes
            assert ingest.write(bytearray(b"cd")) == 2  # noqa: PLR2004 - two bytes
            assert ingest.write(memoryview(b"efgh").cast("H")) == 4  # noqa: PLR2004 - four bytes in two items
            ingest.write(b"")
            assert (ingest.digest, ingest.size) == (Digest.of(b"abcdefgh"), 8)

    def test_an_ingest_that_was_not_put_is_gone(self, store: Store) -> None:
        """Leaving its context discards it, by an error as well."""
        artifact, blob = make_artifact()
        with store.ingest() as ingest:
            ingest.write(blob)
        with pytest.raises(ZeroDivisionError), store.ingest() as ingest:
            ingest.write(blob[: 1 // 0])
        with pytest.raises(ArtifactNotFoundError):
            store.open(artifact)
        with pytest.raises(ArtifactNotFoundError):
            store.put(artifact)

    @pytest.mark.parametrize("wrong", ["digest", "size"])
    def test_a_blob_that_is_not_what_the_artifact_says_is_refused(self, store: Store, wrong: str) -> None:
        """And the old state stands."""
        before = put_new(store, "before")
        artifact, blob = make_artifact()
        lie: Any = Digest.of(b"") if wrong == "digest" else artifact.size + 1
        with store.ingest() as ingest:
            ingest.write(blob)
            with pytest.raises(DigestMismatchError):
                store.put(attrs.evolve(artifact, **{wrong: lie}), ingest)
        assert store.lookup(_KEY) == before
        assert list(store.history(_KEY)) == [before]

    def test_a_record_never_comes_before_its_blob(self, store: Store) -> None:
        """Without an ingest the blob must be there already; if it is not, nothing is recorded."""
        artifact, _ = make_artifact()
        with pytest.raises(ArtifactNotFoundError):
            store.put(artifact)
        assert store.lookup(_KEY) is None
        assert list(store.history(_KEY)) == []

    def test_a_stored_blob_serves_other_artifacts(self, store: Store) -> None:
        """Another revision, and another source, of equal content need no second blob."""
        first = put_new(store)
        second, _ = make_artifact(revision="rebased")
        other, blob = make_artifact(key=_OTHER)
        recorded = store.put(second)
        assert store.put(other).digest == first.digest
        assert list(store.history(_KEY)) == [recorded, first]
        assert _blob(store, recorded) == blob
        assert list(store.sources()) == [_KEY, _OTHER]

    def test_putting_what_is_current_changes_nothing(self, store: Store) -> None:
        """Not even the moment it was observed."""
        first = put_new(store)
        assert store.put(make_artifact()[0]) == first
        assert put_new(store) == first
        assert store.put(first) == first
        assert list(store.history(_KEY)) == [first]

    def test_history_is_newest_first(self, store: Store) -> None:
        """In the order of putting, whatever the revisions are called."""
        put = [put_new(store, text) for text in ("one", "two", "three", "four")]
        assert list(store.history(_KEY)) == put[::-1]
        assert store.lookup(_KEY) == put[-1]

    def test_an_earlier_artifact_comes_back_to_the_front(self, store: Store) -> None:
        """Once: it is not doubled, and keeps the moment it was first observed."""
        one, two = put_new(store, "one"), put_new(store, "two")
        again = store.put(make_artifact("one")[0])
        assert again == one
        assert list(store.history(_KEY)) == [one, two]
        assert store.lookup(_KEY) == one

    def test_histories_do_not_mix(self, store: Store) -> None:
        """One source's artifacts are not another's, however alike their names."""
        mine, other = put_new(store, "mine"), put_new(store, "other", key=_OTHER)
        assert list(store.history(_KEY)) == [mine]
        assert list(store.history(_OTHER)) == [other]

    def test_sources_are_sorted(self, store: Store) -> None:
        """By kind, namespace, name; names that only just fit included."""
        keys = [
            SourceKey(kind, namespace, name)
            for kind in ("gitrepository", "bucket")
            for namespace in ("default", "a.b")
            for name in ("z", "a", "a.json", "a-b", "n" * 253, "n" * 252 + "o")
        ]
        for key in keys:
            put_new(store, key=key)
        assert list(store.sources()) == sorted(keys)
        assert [store.lookup(key).key for key in keys] == keys  # type: ignore[union-attr] # each was put

    def test_a_history_is_not_a_way_to_change_the_store(self, store: Store) -> None:
        """It is a snapshot: later puts do not show in it."""
        first = put_new(store, "first")
        history = store.history(_KEY)
        put_new(store, "second")
        assert list(history) == [first]

    # --- reading ---

    def test_open_gives_the_very_bytes_and_seeks(self, store: Store) -> None:
        """A consumer splices: it needs to jump about."""
        artifact = put_new(store)
        blob = make_artifact()[1]
        with store.open(artifact) as stream:
            assert stream.read(3) == blob[:3]
            assert stream.seek(1) == 1
            assert stream.read() == blob[1:]
            assert stream.read(1) == b""

    def test_extract_unpacks(self, store: Store, tmp_path: Path) -> None:
        """Into a directory that is not there yet."""
        store.extract(put_new(store), tmp_path / "new" / "out")
        assert _files(tmp_path / "new" / "out") == ["app.yaml"]
        assert (tmp_path / "new" / "out" / "app.yaml").read_text() == "hello"

    def test_damaged_bytes_are_never_handed_out(self, store: Store, tmp_path: Path) -> None:
        """One changed byte: neither opened nor unpacked, not even in part."""
        artifact = put_new(store)
        self.damage(store, artifact)
        with pytest.raises(DigestMismatchError):
            store.open(artifact)
        with pytest.raises(DigestMismatchError):
            store.extract(artifact, tmp_path / "out")
        assert _files(tmp_path / "out") == []

    def test_a_damaged_blob_heals_when_it_is_put_again(self, store: Store) -> None:
        """That a blob of this name is there is no reason to trust it."""
        artifact = put_new(store)
        self.damage(store, artifact)
        put_new(store)
        assert _blob(store, artifact) == make_artifact()[1]

    def test_content_that_is_not_what_was_promised_is_not_unpacked(self, store: Store, tmp_path: Path) -> None:
        """The stored bytes may be as recorded: the tar inside must be, too."""
        artifact = put_new(store, content_digest=Digest.of(b"something else"))
        with pytest.raises(DigestMismatchError):
            store.extract(artifact, tmp_path / "out")
        assert _files(tmp_path / "out") == []

    def test_unsafe_archives_leave_nothing_behind(self, store: Store, tmp_path: Path) -> None:
        """Digests say that bytes are the same, not that they are good."""
        artifact = put_new(store, path="../escaped.yaml")
        with pytest.raises(UnsafeEntryError):
            store.extract(artifact, tmp_path / "here" / "out")
        assert _files(tmp_path / "here") == []

    def test_limits_are_obeyed(self, store: Store, tmp_path: Path) -> None:
        """The caller's, not only the defaults."""
        artifact = put_new(store, "x" * 1000)
        with pytest.raises(LimitExceededError):
            store.extract(artifact, tmp_path / "out", limits=Limits(max_file_bytes=999))
        assert _files(tmp_path / "out") == []

    def test_unpacking_obeys_an_operation(self, store: Store, tmp_path: Path) -> None:
        """Whoever lost interest gets nothing, and nothing is left behind; whoever waits sees that it goes on."""
        artifact = put_new(store, "x" * 3_000_000)
        with pytest.raises(OperationCancelledError):
            store.extract(artifact, tmp_path / "here" / "out", operation=Operation(cancel=lambda: True))
        assert _files(tmp_path / "here") == []
        seen: list[Progress] = []
        store.extract(artifact, tmp_path / "here" / "out", operation=Operation(progress=seen.append))
        assert [(each.phase, each.done) for each in seen] == [("extract", 3_000_000)]

    def test_pack_index_comes_back_as_it_was(self, store: Store) -> None:
        """Any bytes; none for an artifact that was put without."""
        index = bytes(range(256)) + b"\n\n"
        artifact = put_new(store, index=index)
        assert store.index(artifact) == index
        assert store.index(put_new(store, "without")) is None

    # --- threads and processes ---

    def test_threads_lose_nothing(self, store: Store) -> None:
        """Eight threads, five sources, the same few contents: each history holds each artifact once, all whole."""
        keys = [SourceKey("memory", "default", f"source-{number}") for number in range(5)]
        texts = [f"text {number}" for number in range(4)]
        work = [(key, text) for text in texts for key in keys] * 2

        with ThreadPoolExecutor(8) as pool:
            put = list(pool.map(lambda job: put_new(store, job[1], key=job[0]), work))

        assert list(store.sources()) == keys
        for key in keys:
            history = store.history(key)
            assert sorted(artifact.digest for artifact in history) == sorted(make_artifact(t)[0].digest for t in texts)
            assert all(artifact in put for artifact in history)
            for artifact in history:
                assert Digest.of(_blob(store, artifact)) == artifact.digest

    def test_pickles(self, store: Store) -> None:
        """A worker process sees what was put before."""
        artifact = put_new(store, index=b"index")
        copy = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own bytes
        assert copy.lookup(_KEY) == artifact
        assert _blob(copy, artifact) == make_artifact()[1]
        assert copy.index(artifact) == b"index"

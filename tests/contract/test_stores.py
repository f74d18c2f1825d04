"""Both stores keep the contract, and the contract rejects stores that do not."""

import inspect
import pickle
from pathlib import Path

import attrs
import pytest

from fluxsrc.artifact import Artifact
from fluxsrc.errors import ArtifactNotFoundError
from fluxsrc.stores import LocalStore, MemoryStore
from fluxsrc.stores._records import Record
from fluxsrc.testing.store_contract import StoreContract


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return LocalStore(tmp_path / "store")

    def damage(self, store, artifact):
        path = store.path / "blobs" / "sha256" / artifact.digest.hex
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)


class TestFastLocalStore(TestLocalStore):
    """Without fsync it is the same store."""

    @pytest.fixture
    def store(self, tmp_path):
        return LocalStore(tmp_path / "store", durable=False)


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()

    def damage(self, store, artifact):
        data = bytearray(store._blobs[artifact.digest])
        data[-1] ^= 1
        store._blobs[artifact.digest] = bytes(data)


# --- the contract itself -------------------------------------------------------------------------------------------


class ExposesDamage(MemoryStore):
    def open(self, artifact, /):
        import io

        return io.BytesIO(self._blob(artifact))


class OldestFirst(MemoryStore):
    def history(self, key, /):
        return super().history(key)[::-1]


class RecordsBeforeTheBlob(MemoryStore):
    def put(self, artifact, ingest=None, /, *, index=None):
        if ingest is None:
            record = self._records.get(artifact.key, Record(artifact.key))
            self._blobs.setdefault(artifact.digest, b"")
            import datetime as dt

            self._records[artifact.key] = record.with_current(artifact, dt.datetime.now(dt.UTC), at_most=9)
            return artifact
        return super().put(artifact, ingest, index=index)


class DoesNotPickle(MemoryStore):
    def __getstate__(self):
        raise TypeError("cannot pickle")


class BelievesTheCaller(MemoryStore):
    def put(self, artifact, ingest=None, /, *, index=None):
        if ingest is not None:
            artifact = attrs.evolve(artifact, digest=ingest.digest, size=ingest.size)
        return super().put(artifact, ingest, index=index)


class ForgetsHistory(MemoryStore):
    def history(self, key, /):
        return super().history(key)[:1]


class ObservesAnew(MemoryStore):
    def put(self, artifact, ingest=None, /, *, index=None):
        self._records.pop(artifact.key, None)
        return super().put(artifact, ingest, index=index)


class TrustsNames(MemoryStore):
    def put(self, artifact, ingest=None, /, *, index=None):
        if ingest is not None and artifact.digest in self._blobs:
            ingest = None
        return super().put(artifact, ingest, index=index)


class UnsortedSources(MemoryStore):
    def sources(self):
        return iter(list(super().sources())[::-1])


class KeepsEveryIngest(MemoryStore):
    from contextlib import contextmanager

    @contextmanager
    def ingest(self):
        with super().ingest() as blob:
            try:
                yield blob
            finally:
                self._blobs.setdefault(blob.digest, blob.buffer.getvalue())


class CountsItems(MemoryStore):
    from contextlib import contextmanager

    @contextmanager
    def ingest(self):
        with super().ingest() as blob:
            write = blob.write
            blob.write = lambda data: (write(data), len(data))[1]
            yield blob


class RaisesKeyError(MemoryStore):
    def _blob(self, artifact):
        return self._blobs[artifact.digest]


class ExtractsUnverified(MemoryStore):
    def extract(self, artifact, destination, /, *, limits=None, operation=None):
        import io
        import tarfile

        if artifact.digest not in self._blobs:
            raise ArtifactNotFoundError("no")
        with tarfile.open(fileobj=io.BytesIO(self._blob(artifact))) as archive:
            archive.extractall(destination, filter="data")


class LosesIndexes(MemoryStore):
    def index(self, artifact, /):
        return b"" if super().index(artifact) is None else super().index(artifact)


class LiveHistory(MemoryStore):
    def history(self, key, /):
        store = self

        class View(list):
            def __iter__(self):
                return iter(MemoryStore.history(store, key))

        return View()


class StampedManifest(MemoryStore):
    def put(self, artifact, ingest=None, /, *, index=None):
        from fluxsrc.digest import Digest

        recorded = super().put(artifact, ingest, index=index)
        return attrs.evolve(recorded, manifest=Digest.of(repr(recorded.observed).encode()))


def failing(contract: StoreContract, make_store, tmp_path: Path) -> set[str]:
    """The names of the contract's tests that fail for a store, run without a pytest of their own."""
    failed = set()
    for number, (name, test) in enumerate(inspect.getmembers(contract, inspect.ismethod)):
        if not name.startswith("test_"):
            continue
        cases = [{"wrong": "digest"}, {"wrong": "size"}] if "wrong" in inspect.signature(test).parameters else [{}]
        for case in cases:
            directory = tmp_path / f"{number}-{case.get('wrong', '')}"
            directory.mkdir()
            given = {"store": make_store(), "tmp_path": directory} | case
            try:
                test(**{key: given[key] for key in inspect.signature(test).parameters})
            except (Exception, pytest.fail.Exception):
                failed.add(name)
    return failed


def test_the_honest_store_fails_nothing(tmp_path):
    """Else the next test would prove nothing."""
    assert failing(TestMemoryStore(), MemoryStore, tmp_path) == set()


@pytest.mark.parametrize(
    ("faulty", "caught_by"),
    [
        (ExposesDamage, "test_damaged_bytes_are_never_handed_out"),
        (OldestFirst, "test_history_is_newest_first"),
        (RecordsBeforeTheBlob, "test_a_record_never_comes_before_its_blob"),
        (DoesNotPickle, "test_pickles"),
        (BelievesTheCaller, "test_a_blob_that_is_not_what_the_artifact_says_is_refused"),
        (ForgetsHistory, "test_history_is_newest_first"),
        (ObservesAnew, "test_putting_what_is_current_changes_nothing"),
        (TrustsNames, "test_a_damaged_blob_heals_when_it_is_put_again"),
        (UnsortedSources, "test_sources_are_sorted"),
        (KeepsEveryIngest, "test_an_ingest_that_was_not_put_is_gone"),
        (CountsItems, "test_ingest_hashes_and_counts_any_buffer"),
        (RaisesKeyError, "test_a_blob_that_was_never_put_is_not_found"),
        (ExtractsUnverified, "test_damaged_bytes_are_never_handed_out"),
        (LosesIndexes, "test_pack_index_comes_back_as_it_was"),
        (LiveHistory, "test_a_history_is_not_a_way_to_change_the_store"),
        (StampedManifest, "test_manifest_is_a_function_of_the_artifact"),
    ],
)
def test_planted_faults_are_rejected(faulty, caught_by, tmp_path):
    """Each by the test that is about it."""
    assert caught_by in failing(TestMemoryStore(), faulty, tmp_path)


def test_artifacts_pickle_as_stores_give_them():
    """They travel to worker processes together with their store."""
    store = MemoryStore()
    from fluxsrc.testing.store_contract import put_new

    artifact: Artifact = put_new(store)
    assert pickle.loads(pickle.dumps(artifact)) == artifact

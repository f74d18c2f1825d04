"""What `LocalStore` does besides the contract: its files, its locks, its errors."""

import collections
import datetime as dt
import errno
import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import attrs
import pytest

from fluxsrc._io.locks import locked, try_lock
from fluxsrc.artifact import SourceKey
from fluxsrc.digest import Digest
from fluxsrc.errors import (
    ArtifactNotFoundError,
    ConfigurationError,
    DigestMismatchError,
    StoreDirectoryError,
    StoreError,
    StoreLockedError,
    StoreLockError,
    StoreStatError,
)
from fluxsrc.memory import MemorySource
from fluxsrc.stores import LocalStore, MemoryStore, ProblemKind, _index
from fluxsrc.stores._oci import ref_name
from fluxsrc.testing.store_contract import make_artifact, put_new

KEY = SourceKey("gitrepository", "default", "podinfo")


class Clock:
    """Stands still until told."""

    def __init__(self):
        self.now = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)

    def __call__(self):
        return self.now

    def forward(self, seconds):
        self.now += dt.timedelta(seconds=seconds)


def blob_path(store, artifact):
    return store.path / "blobs" / "sha256" / artifact.digest.hex


def record_path(store, key=KEY):
    return store.path / "sources" / key.kind / key.namespace / f"{key.name}.json"


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def state(directory: Path):
    """Everything about every file that a rewrite would change."""
    return {
        str(path): (found.st_ino, found.st_mtime_ns, found.st_size)
        for path in directory.rglob("*")
        if not stat.S_ISDIR((found := path.lstat()).st_mode) and "locks" not in path.parts
    }


# --- files -----------------------------------------------------------------------------------------------------------


def test_making_a_store_touches_nothing(tmp_path):
    """Nor does reading from one that is not there."""
    store = LocalStore(tmp_path / "store")
    assert store.lookup(KEY) is None
    assert list(store.sources()) == []
    assert store.gc().blobs == 0
    assert store.retain() == 0
    assert not store.forget(KEY)
    store.flush()
    with pytest.raises(ArtifactNotFoundError):
        store.pin(make_artifact()[0], "release")
    with pytest.raises(ArtifactNotFoundError), store.lease(make_artifact()[0]):
        pass
    assert list(tmp_path.iterdir()) == []


def test_producing_the_same_again_rewrites_nothing(store):
    """Same inodes, same times: not one file is touched, from the second look on."""
    source = MemorySource({"app.yaml": "kind: Namespace"})
    first = source.produce_artifact(store)
    store.flush()
    before = state(store.path)
    assert source.produce_artifact(store) == first
    assert store.put(first) == first
    store.flush()
    assert state(store.path) == before


def test_blobs_are_read_only(store):
    """For everybody, and no wider than umask allowed."""
    old = os.umask(0o027)
    try:
        artifact = put_new(store)
    finally:
        os.umask(old)
    assert stat.S_IMODE(blob_path(store, artifact).stat().st_mode) == 0o440


def test_equal_content_is_stored_once(store):
    """Two sources, one archive, one config; one manifest too, as their annotations agree."""
    put_new(store, key=KEY)
    before = sorted((store.path / "blobs" / "sha256").iterdir())
    put_new(store, key=SourceKey("memory", "default", "other"))
    assert sorted((store.path / "blobs" / "sha256").iterdir()) == before
    assert len(before) == 3


def test_a_truncated_blob_is_no_artifact(store):
    """So that it is produced again; the record stays for the audit."""
    artifact = put_new(store)
    path = blob_path(store, artifact)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    assert store.lookup(KEY) is None
    assert list(store.history(KEY)) == []
    assert put_new(store) == artifact
    assert store.verify().clean


@pytest.mark.parametrize("gone", ["blobs", "blobs/sha256", "index", "ingest", "locks", "sources"])
def test_a_directory_that_somebody_deleted_comes_back_with_what_is_put(store, gone):
    """Until then nobody is told of what was in it; another source's artifact is missing until it is produced, too."""
    source, other = MemorySource({"a": b"1"}), put_new(store)
    artifact = source.produce_artifact(store, name="app")
    shutil.rmtree(store.path / gone)
    if gone.startswith("blobs"):
        assert (store.lookup(artifact.key), list(store.history(artifact.key))) == (None, [])
        with pytest.raises(ArtifactNotFoundError):
            store.put(artifact)
        with pytest.raises(ArtifactNotFoundError):
            store.open(artifact)
    again = source.produce_artifact(store, name="app")
    assert attrs.evolve(again, observed=artifact.observed) == artifact
    with store.open(store.lookup(artifact.key)) as stream:
        assert Digest.of(stream.read()) == artifact.digest
    assert attrs.evolve(put_new(store), observed=other.observed) == other
    assert store.verify().clean


@pytest.mark.parametrize("kind", ["symlink", "pipe", "directory"])
def test_only_regular_files_are_blobs(store, kind, tmp_path):
    """A link could lead anywhere; a pipe would block for ever."""
    artifact = put_new(store)
    path = blob_path(store, artifact)
    moved = path.rename(tmp_path / "moved")
    if kind == "symlink":
        path.symlink_to(moved)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(StoreError):
        store.open(artifact)
    assert store.lookup(KEY) is None
    assert not store.verify().clean


def test_the_open_stream_outlives_the_blob(store):
    """What was verified is what is read, whatever happens to the name meanwhile."""
    artifact = put_new(store)
    with store.open(artifact) as stream:
        blob_path(store, artifact).unlink()
        assert Digest.of(stream.read()) == artifact.digest


def test_a_torn_pack_index_is_none(store):
    """It is not fsynced: half of one must not look like one."""
    artifact = put_new(store, index=b"0123456789")
    path = store.path / "index" / artifact.digest.hex
    path.write_bytes(path.read_bytes()[:-1])
    assert store.index(artifact) is None
    put_new(store, index=b"0123456789")
    assert store.index(artifact) == b"0123456789"


def test_export_writes_the_blob(store, tmp_path):
    """And leaves an earlier file alone if the blob is damaged."""
    artifact = put_new(store)
    target = tmp_path / "artifact.tar.gz"
    target.write_text("earlier")
    store.export(artifact, target)
    assert Digest.of(target.read_bytes()) == artifact.digest
    flip(blob_path(store, artifact))
    with pytest.raises(DigestMismatchError):
        store.export(artifact, target)
    assert Digest.of(target.read_bytes()) == artifact.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact.tar.gz", "store"]


def test_find_by_any_digest(store):
    """Of the content, of the blob, of the manifest; also of what only a pin holds."""
    artifact = put_new(store)
    for digest in (artifact.content_digest, artifact.digest, artifact.manifest):
        assert store.find(digest) == artifact
    store.pin(artifact, "release")
    store.forget(KEY)
    assert store.find(artifact.digest) == artifact
    with pytest.raises(ArtifactNotFoundError):
        store.find(Digest.of(b"unknown"))


def test_an_ingest_belongs_to_its_store(store, tmp_path):
    """Another store's may be on another disk."""
    artifact, blob = make_artifact()
    for other in (LocalStore(tmp_path / "other"), MemoryStore()):
        with other.ingest() as ingest:
            ingest.write(blob)
            with pytest.raises(ConfigurationError):
                store.put(artifact, ingest)


# --- histories -------------------------------------------------------------------------------------------------------


def test_history_is_bounded_and_observations_outlive_it(tmp_path):
    """What a pointer showed over time stays known after the artifacts retired."""
    clock = Clock()
    store = LocalStore(tmp_path / "store", durable=False, max_records=2, clock=clock)
    put = []
    for text in ("one", "two", "one", "three"):
        put.append(put_new(store, text))
        clock.forward(60)
    assert [artifact.revision for artifact in store.history(KEY)] == [put[3].revision, put[2].revision]
    seen = store.observations(KEY)
    assert [observation.revision for observation in seen] == [artifact.revision for artifact in put[::-1]]
    assert [(seen[0].observed - observation.observed).total_seconds() for observation in seen] == [0, 60, 120, 180]
    assert put[2].observed == put[0].observed  # seen first when it was seen first


def test_observations_are_bounded(store, monkeypatch):
    """A branch that moves every minute must not grow the record for ever."""
    monkeypatch.setattr("fluxsrc.stores._records.MAX_OBSERVATIONS", 3)
    put = [put_new(store, str(number)) for number in range(5)]
    assert [seen.revision for seen in store.observations(KEY)] == [artifact.revision for artifact in put[:1:-1]]


def test_a_damaged_record_is_an_error_that_names_the_file(store):
    """And nothing replaces it behind the owner's back."""
    put_new(store)
    path = record_path(store)
    for content in (b"", b"{", b"[]", b'{"version": 1}', b'{"version":1,"key":"x/y/z","artifacts":[{}]}'):
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"podinfo\.json is damaged"):
            store.lookup(KEY)
        with pytest.raises(StoreError, match=r"podinfo\.json is damaged"):
            put_new(store, "more")
        assert path.read_bytes() == content


def test_a_damaged_record_is_not_in_the_way_of_what_another_source_has(store):
    """Whoever rolls back names a digest; what is not found may be in the damaged one, and that is said."""
    artifact = put_new(store)
    (record_path(store).parent / "damaged.json").write_text("{")
    assert store.find(artifact.content_digest) == artifact
    with pytest.raises(StoreError, match=r"damaged\.json"):
        store.find(Digest.of(b"another"))


def test_a_newer_format_is_left_alone(store):
    """A newer fluxsrc may share the directory."""
    put_new(store)
    value = json.loads(record_path(store).read_text())
    record_path(store).write_text(json.dumps(value | {"version": 2}))
    with pytest.raises(StoreError, match="format version 2"):
        store.history(KEY)


def test_records_hold_everything_an_artifact_knows(store):
    """JSON there and back, odd text included."""
    facts = {"annotations": {"é": "\udc80 ☃"}, "tree_id": None, "created": dt.datetime(2020, 2, 29, tzinfo=dt.UTC)}
    artifact = put_new(store, **facts)
    assert LocalStore(store.path).lookup(KEY) == artifact
    assert store.verify().clean


def test_a_put_and_a_lookup_cost_the_same_however_many_sources_there_are(store, monkeypatch):
    """Counted in calls that touch the disk: nothing is listed, and no list is written anew."""
    calls = collections.Counter()

    def counting(name, real):
        def counted(*args, **kwargs):
            calls[name] += 1
            return real(*args, **kwargs)

        return counted

    def cost(number):
        calls.clear()
        with monkeypatch.context() as patch:
            for name in ("listdir", "lstat", "mkdir", "open", "read", "replace", "scandir", "stat", "unlink", "write"):
                patch.setattr(os, name, counting(name, getattr(os, name)))
            put_new(store, f"measured {number}", key=SourceKey("memory", "default", f"measured-{number}"))
            put_new(store, f"again {number}", key=SourceKey("memory", "default", f"measured-{number}"))
            assert store.lookup(SourceKey("memory", "default", f"measured-{number}")) is not None
        return dict(calls)

    put_new(store, key=SourceKey("memory", "default", "first"))
    alone = cost(1)
    for number in range(100):
        put_new(store, key=SourceKey("memory", "default", f"other-{number}"))
    assert alone.get("listdir", 0) + alone.get("scandir", 0) == 0
    assert sum(alone.values()) > 20  # it does count
    assert cost(2) == alone


# --- errors ----------------------------------------------------------------------------------------------------------

CALLS = ("open", "write", "fsync", "replace", "utime", "fchmod", "mkdir")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_any_failing_system_call_is_a_store_error_and_the_old_state_stands(tmp_path, monkeypatch, code):
    """The first call fails, then the second, … until `put` goes through without meeting one."""
    for fail_at in range(200):
        store = LocalStore(tmp_path / str(fail_at))
        before = put_new(store, "before")
        count = -1

        def failing(real):
            def call(*args, **kwargs):
                nonlocal count
                count += 1
                if count == fail_at:  # noqa: B023 - called in this turn only
                    raise OSError(code, os.strerror(code))
                return real(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, failing(getattr(os, name)))
            error = None
            try:
                put_new(store, "after", index=b"index")
            except StoreError as exc:
                error = exc
        after = store.lookup(KEY)
        assert after is not None
        report = store.verify()
        assert report.clean
        assert report.leftovers == ()
        if error is None:
            assert after.digest == make_artifact("after")[0].digest
            break
        assert isinstance(error.__cause__, OSError)
        # Only the very last step, making the new name durable, fails with the new state in place.
        assert after == before or (after.digest == make_artifact("after")[0].digest and store.history(KEY)[1] == before)
    assert fail_at > 15  # it did meet them


def test_a_real_full_disk_is_a_store_error(tmp_path):
    """The kernel refuses the bytes of a blob beyond a file size limit; the old state stands."""
    program = """
import resource, signal, sys
from fluxsrc.errors import StoreError
from fluxsrc.stores import LocalStore
from fluxsrc.testing.store_contract import put_new

store = LocalStore(sys.argv[1])
before = put_new(store, "before")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    with store.ingest() as ingest:
        for _ in range(100):
            ingest.write(b"x" * 10000)
except StoreError as exc:
    assert "cannot write" in str(exc) and "free some space" in str(exc), exc
else:
    raise AssertionError("it was written")
assert store.lookup(before.key) == before
report = store.verify()
assert report.clean and not report.leftovers, report
put_new(store, "small things still fit")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "store")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_in_the_way_is_a_store_error(tmp_path):
    """The path is a file, or below one."""
    (tmp_path / "file").write_text("not a store")
    for path in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(StoreError):
            put_new(LocalStore(path))
    assert (tmp_path / "file").read_text() == "not a store"


def a_directory_that_cannot_be_made(store):
    (store.path / "ingest").rmdir()
    (store.path / "ingest").symlink_to("nowhere")


def blobs_behind_a_link_that_leads_in_a_circle(store):
    shutil.rmtree(store.path / "blobs")
    (store.path / "blobs").symlink_to("blobs")


def a_directory_where_a_lock_should_be(store):
    path = store.path / "locks" / "store.lock"
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (a_directory_that_cannot_be_made, StoreDirectoryError),
        (blobs_behind_a_link_that_leads_in_a_circle, StoreStatError),
        (a_directory_where_a_lock_should_be, StoreLockError),
    ],
)
def test_the_error_says_what_could_not_be_done(store, harm, error):
    """By its class, so that a condition's reason is not guessed from a sentence."""
    put_new(store)
    harm(store)
    with pytest.raises(StoreError) as caught:
        put_new(store, "more") if error is not StoreStatError else store.lookup(KEY)
    assert type(caught.value) is error
    assert caught.value.path.startswith(str(store.path))


def test_a_lock_that_is_not_let_go_is_an_error_in_time(tmp_path):
    """`lock_timeout` bounds the wait; the error is retryable and names the lock."""
    store = LocalStore(tmp_path / "store", lock_timeout=0.05)
    put_new(store)
    with (
        locked(store._layout.source_lock(KEY), timeout=1),
        pytest.raises(StoreLockedError, match=r"podinfo\.lock") as caught,
    ):
        put_new(store, "more")
    assert caught.value.retryable
    put_new(store, "more")


def test_locks_exclude_threads_and_share(tmp_path):
    """Shared ones go together, an exclusive one goes alone, a removed file's lock does not count."""
    path = tmp_path / "lock"
    with locked(path, shared=True, timeout=1), locked(path, shared=True, timeout=1):
        assert try_lock(path) is None
    with locked(path, timeout=1):
        assert try_lock(path, shared=True) is None
        path.unlink()
        descriptor = try_lock(path)
        assert descriptor is not None
        os.close(descriptor)
    assert try_lock(tmp_path / "none", create=False) is None
    assert not (tmp_path / "none").exists()


# --- the OCI index ---------------------------------------------------------------------------------------------------


def entries(store):
    index = json.loads((store.path / "index.json").read_text())
    return {entry["annotations"]["org.opencontainers.image.ref.name"]: entry for entry in index["manifests"]}


def test_index_lists_what_is_current(store):
    """One entry per source, pointing at the manifest of its newest artifact."""
    put_new(store, "one")
    two = put_new(store, "two")
    other = put_new(store, key=SourceKey("bucket", "default", "a__b"))
    found = entries(store)
    assert found["gitrepository/default/podinfo"]["digest"] == str(two.manifest)
    assert found[ref_name(other.key)]["digest"] == str(other.manifest)
    assert len(found) == 2
    manifest = json.loads((store.path / "blobs" / "sha256" / two.manifest.hex).read_text())
    assert manifest["layers"][0]["digest"] == str(two.digest)
    assert manifest["annotations"] == dict(two.annotations)
    config = json.loads((store.path / "blobs" / "sha256" / manifest["config"]["digest"][7:]).read_text())
    assert config["rootfs"]["diff_ids"] == [str(two.content_digest)]


def test_no_put_pays_for_a_large_index(store, monkeypatch):
    """It is written by `flush`, from what each put noted."""
    first = put_new(store)
    listed = entries(store)
    monkeypatch.setattr(_index, "_SMALL", (store.path / "index.json").stat().st_size - 1)
    put_new(store, "two")
    put_new(store, key=SourceKey("bucket", "default", "other"))
    store.forget(first.key)
    assert entries(store) == listed
    store.flush()
    assert list(entries(store)) == ["bucket/default/other"]


def test_a_put_waits_for_nobody_who_reads_or_collects_the_index(store):
    """The list is late then, the artifact is not."""
    layout = store._layout
    with layout.index_locked():
        artifact = put_new(store)
    assert store.lookup(KEY) == artifact
    assert entries(store) == {}
    store.flush()
    assert len(entries(store)) == 1


def test_leaving_the_context_flushes(tmp_path, monkeypatch):
    """As does forgetting a source: it leaves the list."""
    monkeypatch.setattr(_index, "_SMALL", 0)
    with LocalStore(tmp_path / "store", durable=False) as store:
        put_new(store)
    assert len(entries(store)) == 1
    with store:
        store.forget(KEY)
    assert entries(store) == {}


def test_the_end_of_the_process_flushes(tmp_path):
    """A script that only puts leaves a store that OCI tools can read."""
    program = "import sys; from fluxsrc.stores import LocalStore, _index; _index._SMALL = 0; "
    program += "from fluxsrc.testing.store_contract import put_new; put_new(LocalStore(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "store")], check=True)
    assert len(entries(LocalStore(tmp_path / "store"))) == 1


def test_entries_of_other_tools_stay_and_are_kept_alive(store):
    """`skopeo copy … oci:STORE:name` is somebody's data: neither flush nor gc takes it."""
    artifact = put_new(store, "theirs")
    index = store.path / "index.json"
    manifest = artifact.manifest
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": str(manifest),
        "size": 1,
        "annotations": {"org.opencontainers.image.ref.name": "theirs"},
    }
    index.write_text(json.dumps({"schemaVersion": 2, "manifests": [entry], "annotations": {"kept": "yes"}}))
    store.forget(KEY)
    ours = put_new(store, "ours")
    store.flush()
    assert entries(store)["theirs"] == entry
    assert entries(store)["gitrepository/default/podinfo"]["digest"] == str(ours.manifest)
    assert json.loads(index.read_text())["annotations"] == {"kept": "yes"}
    assert store.gc(grace=-60).blobs == 0
    assert blob_path(store, artifact).exists()


@pytest.mark.parametrize("digest", ["sha256:zz", "", 5, None])
def test_verify_says_so_if_the_index_lists_what_is_no_digest(store, digest):
    """It reports damage, wherever that is, and never fails of it."""
    put_new(store)
    store.flush()
    index = store.path / "index.json"
    value = json.loads(index.read_text())
    value["manifests"][0]["digest"] = digest
    index.write_text(json.dumps(value))
    (problem,) = store.verify().problems
    assert (problem.kind, problem.path) == (ProblemKind.CORRUPT, "index.json")


def test_what_another_tool_lists_need_not_be_well_formed_to_be_kept(store):
    """A manifest whose layers are no list has none: the collector neither fails of it nor takes it."""
    put_new(store)
    store.flush()
    data = b'{"layers": 5, "manifests": {"a": 1}}'
    digest = Digest.of(data)
    (store.path / "blobs" / "sha256" / digest.hex).write_bytes(data)
    index = store.path / "index.json"
    value = json.loads(index.read_text())
    media_type = "application/vnd.oci.image.manifest.v1+json"
    value["manifests"].append({"mediaType": media_type, "digest": str(digest), "size": len(data)})
    index.write_text(json.dumps(value))
    assert store.gc(grace=-60).blobs == 0
    assert store.verify().clean


def test_gc_makes_lost_documents_again(store):
    """A power cut may empty what is not fsynced: a record is enough to write it anew."""
    artifact = put_new(store)
    store.flush()
    manifest = store.path / "blobs" / "sha256" / artifact.manifest.hex
    manifest.write_bytes(b"")
    (store.path / "index.json").unlink()
    assert not store.verify().clean
    store.gc()
    assert store.verify().clean
    assert len(entries(store)) == 1


@pytest.mark.parametrize("name", ["a__b", "a.-b", "a---b", "a-_b", "n" * 253, "plain", "a.b-c_d"])
def test_reference_names_fit_ocis_grammar(name):
    """And differ for different sources."""
    import re

    ref = ref_name(SourceKey("gitrepository", "default", name))
    component = r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*"
    assert re.fullmatch(f"{component}(?:/{component})*", ref)
    assert (ref == f"gitrepository/default/{name}") == ("+" not in ref)


# --- retention -------------------------------------------------------------------------------------------------------


def digests(store):
    return {path.name for path in (store.path / "blobs" / "sha256").iterdir()}


def test_records_are_a_floor(tmp_path):
    """However old they are, so many stay; beyond that the time since they were superseded decides."""
    clock = Clock()
    store = LocalStore(tmp_path / "store", durable=False, clock=clock)
    put = []
    for text in ("one", "two", "three", "four"):
        put.append(put_new(store, text))
        clock.forward(100)
    assert store.retain(records=2, ttl=250) == 1  # "one" was superseded 300 s ago, "two" 200 s ago
    assert list(store.history(KEY)) == put[:0:-1]
    clock.forward(1_000_000)
    assert store.retain(KEY, records=2, ttl=250) == 1
    assert list(store.history(KEY)) == put[:1:-1]
    assert store.retain(records=2) == 0
    with pytest.raises(ConfigurationError):
        store.retain(records=0)


def test_gc_sweeps_what_nothing_refers_to(store):
    """After the grace period; a dry run only counts."""
    old = put_new(store, "old", index=b"index")
    new = put_new(store, "new", index=b"index")
    store.retain(records=1)
    assert store.gc().young == 3  # manifest, config, archive: spared for an hour
    dry = store.gc(grace=-60, dry_run=True)
    assert (dry.blobs, dry.kept) == (3, 3)
    swept = store.gc(grace=-60)
    assert (swept.blobs, swept.bytes, swept.kept) == (3, dry.bytes, 3)
    assert store.index(old) is None
    assert store.index(new) == b"index"
    with pytest.raises(ArtifactNotFoundError):
        store.open(old)
    report = store.verify()
    assert (report.clean, report.orphaned) == (True, ())


def test_pins_hold_what_histories_let_go(store):
    """Until they are dropped."""
    artifact = put_new(store, "old")
    store.pin(artifact, "release-1.0")
    put_new(store, "new")
    store.retain(records=1)
    store.gc(grace=-60)
    assert store.pins() == {"release-1.0": artifact}
    store.open(artifact).close()
    assert store.unpin("release-1.0")
    assert not store.unpin("release-1.0")
    store.gc(grace=-60)
    with pytest.raises(ArtifactNotFoundError):
        store.open(artifact)
    with pytest.raises(ConfigurationError):
        store.pin(artifact, "../escape")


def test_leases_hold_while_they_last(store):
    """For other processes as well: a lease is a file."""
    artifact = put_new(store, "old")
    with store.lease(artifact, ttl=60) as lease:
        store.forget(KEY)
        elsewhere = pickle.loads(pickle.dumps(store))
        elsewhere.gc(grace=-60)
        lease.renew()
        store.open(artifact).close()
    assert list((store.path / "leases").iterdir()) == []
    store.gc(grace=-60)
    with pytest.raises(ArtifactNotFoundError), store.lease(artifact):
        pass


def test_a_crashed_holders_lease_expires(store):
    """Then its file goes, too."""
    artifact = put_new(store, "old")
    abandoned = store.lease(artifact, ttl=1e-6)
    abandoned.__enter__()
    store.forget(KEY)
    report = store.gc(grace=-60)
    assert report.blobs == 3
    assert list((store.path / "leases").iterdir()) == []
    abandoned.__exit__(None, None, None)


def test_gc_spares_what_is_being_written(store):
    """However slowly: the file of a living writer is locked; a dead one's is swept."""
    artifact, blob = make_artifact()
    with store.ingest() as ingest:
        ingest.write(blob)
        stray = store.path / "ingest" / "1-dead.tmp"
        stray.write_bytes(b"left by a crash")
        assert store.gc(grace=-60).leftovers == 1
        assert not stray.exists()
        store.put(artifact, ingest)
    store.open(artifact).close()


def test_gc_removes_nothing_it_cannot_understand(store):
    """Unknown files stay; an unreadable history stops it before it removes a blob."""
    put_new(store, "one")
    put_new(store, "two")
    store.retain(records=1)
    strangers = [
        store.path / "README",
        store.path / "blobs" / "sha256" / "notes.txt",
        store.path / "ingest" / "notes.txt",
        store.path / "index" / "notes.txt",
        store.path / "sources" / "notes.txt",
    ]
    for path in strangers:
        path.write_text("mine")
    damaged = store.path / "sources" / "gitrepository" / "default" / "damaged.json"
    damaged.write_text("{")
    before = digests(store)
    with pytest.raises(StoreError, match=r"damaged\.json"):
        store.gc(grace=-60)
    assert digests(store) == before
    damaged.unlink()
    assert store.gc(grace=-60).blobs == 3
    assert all(path.read_text() == "mine" for path in strangers)
    assert set(store.verify().unknown) == {"README", "blobs/sha256/notes.txt", "index/notes.txt", "sources/notes.txt"}


def test_gc_works_on_a_full_disk(store, monkeypatch):
    """It is what one calls it for: nothing needs to be written before something was removed."""
    put_new(store, "one")
    put_new(store, "two")
    store.retain(records=1)
    real, freed = os.write, (store.path / "blobs" / "sha256")
    count = len(list(freed.iterdir()))

    def full(descriptor, data):
        if len(list(freed.iterdir())) == count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    assert store.gc(grace=-60).blobs == 3
    assert len(entries(store)) == 1


def test_idle_locks_of_forgotten_sources_are_swept(store):
    """Else they would pile up for ever."""
    put_new(store)
    lock = store._layout.source_lock(KEY)
    store.gc(grace=-60)
    assert lock.exists()
    store.forget(KEY)
    with locked(lock, timeout=1):
        store.gc(grace=-60)
        assert lock.exists()
    store.gc(grace=-60)
    assert not lock.exists()


# --- verify ----------------------------------------------------------------------------------------------------------


def test_verify_finds_a_flipped_byte_anywhere(store):
    """In each of the three blobs of an artifact, and in its record's digests."""
    put_new(store)
    store.flush()
    assert store.verify().clean
    for path in [*(store.path / "blobs" / "sha256").iterdir()]:
        original = path.read_bytes()
        flip(path)
        (problem,) = store.verify().problems
        assert (problem.kind, problem.path) == (ProblemKind.CORRUPT, f"blobs/sha256/{path.name}")
        path.write_bytes(original)
    record_path(store).write_text(record_path(store).read_text().replace('"skipped"', '"skapped"'))
    (problem,) = store.verify().problems
    assert problem.path == "sources/gitrepository/default/podinfo.json"


def test_verify_finds_a_missing_blob(store):
    """And says whose it was."""
    artifact = put_new(store)
    blob_path(store, artifact).unlink()
    (problem,) = store.verify().problems
    assert problem.kind is ProblemKind.MISSING
    assert str(KEY) in problem.detail


def test_verify_finds_a_record_whose_facts_do_not_make_its_manifest(store):
    """Nobody can change what an artifact says of itself without changing its manifest's digest."""
    put_new(store)
    text = record_path(store).read_text()
    record_path(store).write_text(text.replace("https://example.com", "https://evil.example"))
    (problem,) = store.verify().problems
    assert (problem.kind, problem.path) == (ProblemKind.CORRUPT, "sources/gitrepository/default/podinfo.json")


def test_verify_needs_a_store(tmp_path):
    """An empty answer to a mistyped path would be a lie."""
    with pytest.raises(StoreError, match="does not exist"):
        LocalStore(tmp_path / "typo").verify()


# --- a value ---------------------------------------------------------------------------------------------------------


def test_a_store_is_a_value(tmp_path):
    """Equal paths, equal stores; frozen; pickles, after use as well."""
    store = LocalStore(str(tmp_path / "store"))
    assert store == LocalStore(tmp_path / "store")
    put_new(store)
    assert pickle.loads(pickle.dumps(store)) == store
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        store.path = tmp_path


def test_a_store_does_not_move_with_the_working_directory(tmp_path, monkeypatch):
    """Nor in a process that works elsewhere, nor at the end of this one."""
    monkeypatch.chdir(tmp_path)
    store = LocalStore("store", durable=False)
    artifact = put_new(store)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert store.lookup(KEY) == artifact
    assert store.path == tmp_path / "store"


def test_threads_share_one_store_object(store):
    """While one of them collects and another verifies."""
    put_new(store)
    stop = threading.Event()
    failures = []

    def maintain():
        while not stop.is_set():
            try:
                store.retain(records=2)
                store.gc(grace=0)
                report = store.verify()
                failures.extend(report.problems)
            except Exception as exc:
                failures.append(exc)

    maintainer = threading.Thread(target=maintain)
    maintainer.start()
    try:
        for number in range(60):
            put_new(store, f"text {number % 5}")
    finally:
        stop.set()
        maintainer.join()
    assert failures == []
    assert store.verify().clean

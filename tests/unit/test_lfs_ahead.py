"""Reading LFS files ahead: in batches, in order, not too far, and no failure is anybody's but the reader's."""

import threading

import pytest

from fluxsrc.auth import TLSConfig
from fluxsrc.errors import PathNotFoundError
from fluxsrc.git import GitSource, lfs_ahead
from fluxsrc.git.address import GitAddress
from fluxsrc.git.lfs import LFSPointer
from fluxsrc.git.lfs_store import LFSStore
from fluxsrc.git.transport import Access
from fluxsrc.limits import DEFAULT_LIMITS
from fluxsrc.operation import Operation
from fluxsrc.stores import MemoryStore
from fluxsrc.testing.git import GitRepositoryBuilder
from fluxsrc.testing.git_server import GitHTTPServer
from helpers.waiting import wait_until

ATTRIBUTES = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"


@pytest.fixture
def store(lfs, tmp_path):
    address = GitAddress.parse(f"{lfs.url}/app.git")
    access = Access(address=address, keychain=None, tls=TLSConfig(), proxy=None, limits=DEFAULT_LIMITS)
    with LFSStore(access, tmp_path / "lfs", Operation(20)) as store:
        yield store


def downloads(lfs):
    return [request.path.rpartition("/")[2] for request in lfs.requests if request.method == "GET"]


def test_nothing_begins_before_somebody_reads_or_a_whole_question_is_full(lfs, store):
    """A question about one file, while ninety-nine others are being said, would be a waste."""
    pointers = [lfs.add(b"%d" % number) for number in range(100)]
    for pointer in pointers[:99]:
        store.expect(pointer)
    assert not lfs.requests
    store.expect(pointers[99])
    wait_until(lambda: len(downloads(lfs)) == 100)
    assert [len(batch) for batch in lfs.batches] == [100]


def test_what_is_expected_comes_once_and_by_itself(lfs, store):
    """Whether it is read while it is on its way, before, or after; or expected twice."""
    pointers = [lfs.add(b"%d" % number) for number in range(60)]
    for pointer in [*pointers, *pointers]:
        store.expect(pointer)
    assert [store.read(pointer) for pointer in pointers[:20]] == [b"%d" % number for number in range(20)]
    wait_until(lambda: len(downloads(lfs)) == 60)
    for pointer in pointers:
        store.expect(pointer)
        store.read(pointer)
    assert sorted(downloads(lfs)) == sorted(pointer.oid for pointer in pointers)
    assert [len(batch) for batch in lfs.batches] == [60]


def test_it_stays_within_its_window(lfs, store, monkeypatch):
    """However much is expected, at most so many bytes are here that nobody asked for yet."""
    monkeypatch.setattr(lfs_ahead, "WINDOW_BYTES", 1000)
    pointers = [lfs.add(bytes([number]) * 300) for number in range(20)]
    for pointer in pointers:
        store.expect(pointer)
    for done in range(1, 6):
        store.read(pointers[done - 1])
        wait_until(lambda done=done: len(downloads(lfs)) == done + 3)
        assert not threading.Event().wait(0.05)
        assert len(downloads(lfs)) == done + 3


def test_a_file_larger_than_the_window_still_comes(lfs, store, monkeypatch):
    """Alone."""
    monkeypatch.setattr(lfs_ahead, "WINDOW_BYTES", 10)
    first, large = lfs.add(b"a"), lfs.add(b"large" * 100)
    store.expect(first)
    store.expect(large)
    store.read(first)
    wait_until(lambda: large.oid in downloads(lfs))


def test_a_failure_is_left_to_whoever_reads_the_file(lfs, store):
    """The others come all the same."""
    there = [lfs.add(b"%d" % number) for number in range(5)]
    missing = LFSPointer("00" * 32, 7)
    for pointer in (there[0], missing, *there[1:]):
        store.expect(pointer)
    store.read(there[0])
    wait_until(lambda: len(downloads(lfs)) == 5)
    with pytest.raises(PathNotFoundError):
        store.read(missing)


def test_after_some_failures_nothing_is_begun_any_more(lfs, store):
    """A server that is broken is not asked for thousands of files that nobody reads in the end."""
    lfs.spoil = lambda data: data + b"!"
    pointers = [lfs.add(b"%d" % number) for number in range(100)]
    for pointer in pointers:
        store.expect(pointer)
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "fluxsrc-lfs"])
    assert len(downloads(lfs)) < 10


def test_closing_ends_what_is_on_its_way(lfs, store):
    """A server that hangs keeps nobody."""
    held = threading.Event()

    def hang(data):
        held.wait(60)
        return data

    lfs.spoil = hang
    for number in range(100):
        store.expect(lfs.add(b"%d" % number))
    wait_until(lambda: downloads(lfs))
    store.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "fluxsrc-lfs"]
    held.set()


@pytest.fixture
def remote(tmp_path, lfs):
    """A repository, and a source of it that keeps nothing between two operations."""
    repository = GitRepositoryBuilder(tmp_path / "app.git")
    with GitHTTPServer(tmp_path) as git:
        source = GitSource(
            git.url("app.git"), branch="main", cache=None, lfs="fetch", lfs_url=f"{lfs.url}/app.git/info/lfs"
        )
        yield repository, source


def pointer_text(pointer):
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{pointer.oid}\nsize {pointer.size}\n".encode()


def test_a_first_artifact_asks_for_many_files_at_a_time(lfs, remote):
    """And downloads none that is ignored."""
    repository, source = remote
    pointers = [lfs.add(b"%d" % number) for number in range(150)]
    ignored = lfs.add(b"ignored")
    files = {f"{number:03}.bin": pointer_text(pointer) for number, pointer in enumerate(pointers)}
    rules = {".gitattributes": ATTRIBUTES, ".sourceignore": b"ignored.bin\n", "ignored.bin": pointer_text(ignored)}
    repository.commit(files | rules)
    source.produce_artifact(MemoryStore())
    assert sorted(downloads(lfs)) == sorted(pointer.oid for pointer in pointers)
    assert len(lfs.batches) <= 3


def test_the_next_artifact_downloads_what_is_not_in_the_earlier_one(lfs, remote):
    """Although nothing else is kept."""
    repository, source = remote
    files = {f"{number:03}.bin": pointer_text(lfs.add(b"%d" % number * 1000)) for number in range(50)}
    repository.commit({".gitattributes": ATTRIBUTES, **files})
    store = MemoryStore()
    source.produce_artifact(store)
    lfs.requests.clear()
    changed = lfs.add(b"changed")
    repository.commit({".gitattributes": ATTRIBUTES, **files, "025.bin": pointer_text(changed)})
    source.produce_artifact(store)
    assert downloads(lfs) == [changed.oid]

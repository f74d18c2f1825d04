"""What a store remembers of its records, and that it never remembers what is not so any more."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from fluxsrc.artifact import SourceKey
from fluxsrc.entry import Skipped
from fluxsrc.errors import StoreError
from fluxsrc.stores import LocalStore, _lookups, local
from fluxsrc.stores._records import Record
from fluxsrc.testing.store_contract import put_new


def key(name):
    return SourceKey("memory", "default", name)


@pytest.fixture
def read(monkeypatch):
    """The names of the records that were taken apart. Here they are old enough to be remembered at once."""
    found, original = [], Record.current_from_json

    def counting(data, *, where):
        found.append(Path(where).stem)
        return original(data, where=where)

    monkeypatch.setattr(Record, "current_from_json", counting)
    monkeypatch.setattr(_lookups, "_CLOCK_TICK_NS", 0)
    return found


def test_a_record_that_stays_is_read_once(disk, read):
    """However often it is asked for; then it is the very same object."""
    put = put_new(disk, key=key("a"))
    read.clear()
    first, *others = [disk.lookup(put.key) for _ in range(5)]
    assert first == put
    assert all(each is first for each in others)
    assert read == ["a"]


def test_what_is_replaced_is_read_again(disk, read):
    """By this store object, or by another one of the same directory."""
    for text in ("one", "two"):
        ours = put_new(disk, text, key=key("a"))
        assert disk.lookup(key("a")) == ours
    theirs = put_new(LocalStore(disk.path, durable=False), "three", key=key("a"))
    assert disk.lookup(key("a")) == theirs
    disk.forget(key("a"))
    assert disk.lookup(key("a")) is None
    assert len(disk._lookups) == 0


PUTS = """
import sys
from pathlib import Path
from fluxsrc.artifact import SourceKey
from fluxsrc.stores import LocalStore
from fluxsrc.testing.store_contract import put_new
store = LocalStore(Path(sys.argv[1]), durable=False)
for line in sys.stdin:
    print(put_new(store, line.strip(), key=SourceKey("memory", "default", "a")).digest, flush=True)
"""


def test_what_another_process_writes_is_seen_at_once(disk):
    """Each of a hundred artifacts, as fast as they come: records of one size, and inodes that are used again."""
    texts = [f"text {number:03}" for number in range(100)]
    with subprocess.Popen(
        [sys.executable, "-c", PUTS, disk.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        for text in texts:
            process.stdin.write(f"{text}\n")
            process.stdin.flush()
            told = process.stdout.readline().strip()
            assert [str(disk.lookup(key("a")).digest) for _ in range(3)] == [told] * 3
        process.stdin.close()


def test_what_is_as_young_as_the_clock_is_coarse_is_not_remembered(disk, read, monkeypatch):
    """Two records of one size, written within one tick, may have one inode's number and the same times."""
    put = put_new(disk, key=key("a"))
    monkeypatch.setattr(_lookups, "_CLOCK_TICK_NS", 10**18)
    read.clear()
    for _ in range(3):
        assert disk.lookup(put.key) == put
    assert len(disk._lookups) == 0
    assert read == ["a"] * 3


def test_no_more_is_remembered_than_there_is_room_for(disk, read, monkeypatch):
    """Then those that were read first are read again; what is said stays right."""
    monkeypatch.setattr(_lookups, "_MOST", 3)
    puts = [put_new(disk, name, key=key(name)) for name in "abcde"]
    for _ in range(3):
        assert [disk.lookup(put.key) for put in puts] == puts
    assert len(disk._lookups) == 3


@pytest.mark.parametrize("ask", [LocalStore.lookup, lambda store, key: next(iter(store.history(key)), None)])
def test_what_is_swept_while_it_is_looked_for_has_a_successor(disk, monkeypatch, ask):
    """However often that happens between reading the record and looking for the blob."""
    puts = [put_new(disk, "0", key=key("a"))]

    def hurried(original):
        def look(*arguments):
            if len(puts) < 5:
                puts.append(put_new(disk, str(len(puts)), key=key("a")))
                disk.retain(records=1, ttl=0)
                disk.gc(grace=0)
            return original(*arguments)

        return look

    monkeypatch.setattr(_lookups, "is_blob", hurried(_lookups.is_blob))
    monkeypatch.setattr(local, "holds", hurried(local.holds))
    assert ask(disk, key("a")) == puts[-1]
    assert len(puts) == 5


def test_an_artifact_with_a_long_story_is_not_remembered(disk, read):
    """A million skipped paths belong to the disk."""
    skipped = tuple(Skipped(f"link-{number:04}", "symlink", "outside") for number in range(200))
    put = put_new(disk, key=key("a"), skipped=skipped)
    assert disk.lookup(put.key) == put
    assert len(disk._lookups) == 0


def test_what_is_damaged_later_is_an_error_and_not_a_memory(disk, read):
    """And so is what is a directory now; the blob is looked for each time."""
    put = put_new(disk, key=key("a"))
    assert disk.lookup(put.key) == put
    record = disk.path / "sources/memory/default/a.json"
    record.write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        disk.lookup(put.key)
    record.unlink()
    record.mkdir()
    with pytest.raises(StoreError):
        disk.lookup(put.key)
    record.rmdir()
    put = put_new(disk, key=key("a"))
    assert disk.lookup(put.key) == put
    disk.blob_path(put.digest).unlink()
    assert disk.lookup(put.key) is None


def test_a_copy_remembers_nothing(disk, read):
    """What travels to another process is the store, and not what this one knows of it."""
    put = put_new(disk, key=key("a"))
    disk.lookup(put.key)
    copy = pickle.loads(pickle.dumps(disk))
    assert (copy, len(copy._lookups), len(disk._lookups)) == (disk, 0, 1)
    assert copy.lookup(put.key) == put

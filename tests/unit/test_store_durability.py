"""A writer that is killed at any instant leaves the old state or the new one, and nothing that cannot be swept.

Run as a program, this file is the executioner: one small process that forks writers, kills them, and looks at what they
left, so that a kill costs milliseconds.
"""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import pytest

from fluxsrc.artifact import SourceKey
from fluxsrc.stores import LocalStore, _records
from fluxsrc.testing.store_contract import make_artifact, put_new

KEYS = [SourceKey("memory", "default", name) for name in ("alpha", "beta", "gamma")]

DIGESTS = {text: make_artifact(text)[0].digest for text in ("one", "two", "three")}

CHANGES = ("open", "write", "fsync", "replace", "rename", "unlink", "utime", "mkdir", "fchmod")
"""Calls that change a disk; Python's pathlib makes them through the `os` module as well."""


def executioner(*arguments: str) -> dict:
    """Run this file as a program and return what it reports."""
    memory = Path("/dev/shm")  # what survives a kill does not depend on the disk, and memory is quicker
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory:
        done = subprocess.run(
            [sys.executable, __file__, directory, *arguments], capture_output=True, text=True, timeout=250, check=False
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(300)
def test_a_kill_before_any_change_of_the_disk_is_harmless():
    """Each step of a store's life, killed before each of its system calls that change something."""
    report = executioner("everywhere")
    assert report["kills"] >= 150
    assert report["finished"] == report["scenes"]  # each scene was also seen to run to its end


@pytest.mark.timeout(300)
def test_a_kill_at_any_time_is_harmless():
    """200 writers, killed after random delays, with what they had been told was durable held against the store."""
    report = executioner("anytime", "200")
    assert report["kills"] == 200
    assert report["acknowledged"] >= 100


def test_everything_is_synced_before_it_is_relied_upon(tmp_path, monkeypatch):
    """Bytes before their name, the name before the record, the record before `put` returns: else power cuts lose."""
    store = LocalStore(tmp_path / "store")
    put_new(store, "first")
    log: list[tuple[str, str]] = []
    names: dict[int, str] = {}
    real = {name: getattr(os, name) for name in ("open", "fsync", "replace")}

    def record_open(path, *args, **kwargs):
        descriptor = real["open"](path, *args, **kwargs)
        names[descriptor] = os.fspath(path)
        return descriptor

    def record_fsync(descriptor):
        log.append(("fsync", names[descriptor]))
        real["fsync"](descriptor)

    def record_replace(source, target):
        log.append(("rename", os.fspath(source)))
        log.append(("appear", os.fspath(target)))
        real["replace"](source, target)

    monkeypatch.setattr(os, "open", record_open)
    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    artifact = put_new(store, "second")
    monkeypatch.undo()

    blob, record = store._layout.blob(artifact.digest), store._layout.record(artifact.key)
    index = store._layout.index_json
    steps = [
        ("fsync", log[log.index(("appear", str(blob))) - 1][1]),
        ("appear", str(blob)),
        ("fsync", str(blob.parent)),
        ("fsync", log[log.index(("appear", str(record))) - 1][1]),
        ("appear", str(record)),
        ("fsync", str(record.parent)),
        ("fsync", log[log.index(("appear", str(index))) - 1][1]),
        ("appear", str(index)),
        ("fsync", str(index.parent)),
    ]
    assert [step for step in log if step in steps] == steps
    assert sum(what == "fsync" for what, _ in log) == 6  # and no more than these


def test_not_durable_means_no_fsync_at_all(tmp_path, monkeypatch):
    """For caches and tests: the disk decides when."""

    def fail(descriptor):
        raise AssertionError("fsync")

    monkeypatch.setattr(os, "fsync", fail)
    with LocalStore(tmp_path / "store", durable=False) as store:
        put_new(store)
    assert store.verify().clean


# --- the program -----------------------------------------------------------------------------------------------------


def check_whole(store: LocalStore) -> None:
    """The store opens, verifies, and every artifact it knows can be read to its end."""
    report = store.verify()
    assert report.clean, report
    assert not report.unknown, report
    for key in store.sources():
        assert store.lookup(key) is not None, key
        for artifact in store.history(key):
            with store.open(artifact) as stream:
                assert len(stream.read()) == artifact.size


def check_sweepable(store: LocalStore) -> None:
    """What a crash left can be swept, and OCI tools find what is current."""
    store.gc(grace=-1)  # not 0: the kernel's clock for files may not have ticked since the kill
    report = store.verify()
    assert report.clean, report
    assert (report.orphaned, report.leftovers, report.unknown) == ((), (), ()), report
    if store.path.exists() and (index := store.path / "index.json").exists():
        listed = {entry["annotations"]["dev.fluxsrc.source"]: entry["digest"] for entry in read_json(index)}
        assert listed == {str(key): str(store.lookup(key).manifest) for key in store.sources()}
    assert not (store.path / "index.journal").exists()


def read_json(index: Path) -> list:
    return json.loads(index.read_text())["manifests"]


def fork(action) -> int:
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def die_before(call: int) -> None:
    """Arrange for this process to be killed just before it changes the disk for the time number `call`."""
    counter = itertools.count()

    def counting(real):
        def counted(*args, **kwargs):
            changes = real is not real_open or args[1] & os.O_CREAT
            if changes and next(counter) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return counted

    real_open = os.open
    for name in CHANGES:
        setattr(os, name, counting(getattr(os, name)))


def scenes(store: LocalStore):
    """A store's life: name, action, and what may be the current artifact of the first source afterwards."""
    key = KEYS[0]

    def put(text):
        return lambda: put_new(store, text, key=key, index=b"index")

    current = DIGESTS.__getitem__

    yield "first put makes the store", put("one"), {None, current("one")}
    yield "second put", put("two"), {current("one"), current("two")}
    yield "back to the first", lambda: store.put(make_artifact("one", key=key)[0]), {current("one"), current("two")}
    yield "another source shares the blob", lambda: put_new(store, "one", key=KEYS[1]), {current("one")}
    yield "flush", store.flush, {current("one")}
    yield "third put", put("three"), {current("one"), current("three")}
    yield "pin", lambda: store.pin(store.history(key)[-1], "release"), {current("three")}
    yield "retain", lambda: store.retain(records=1), {current("three")}
    yield "unpin", lambda: store.unpin("release"), {current("three")}
    yield "gc", lambda: store.gc(grace=0), {current("three")}
    yield "forget", lambda: store.forget(KEYS[1]), {current("three")}
    yield "gc again", lambda: store.gc(grace=0), {current("three")}

    def lease():
        with store.lease(store.lookup(key), ttl=1e-6):
            pass

    yield "lease", lease, {current("three")}


def kill_everywhere(directory: Path) -> dict:
    """Kill each scene before its first change, its second, … until it runs to its end; each time from the start."""
    kills = finished = count = 0
    base = directory / "base"
    for number, (name, _, _) in enumerate(scenes(LocalStore(base))):
        count += 1
        for call in itertools.count():
            work = directory / "work"
            if base.exists():
                shutil.copytree(base, work)
            store = LocalStore(work)
            _, action, allowed = list(scenes(store))[number]

            def run(action=action, call=call):
                die_before(call)
                action()

            _, status = os.waitpid(fork(run), 0)
            if store.path.exists():
                check_whole(store)
                found = store.lookup(KEYS[0])
                assert (None if found is None else found.digest) in allowed, (name, call)
            killed = os.WIFSIGNALED(status)
            assert killed or status == 0, (name, call)
            if killed:
                kills += 1
                if not name.startswith("lease"):
                    action()  # whoever comes next simply does it again
                check_sweepable(store)
                shutil.rmtree(work)
            else:
                finished += 1
                shutil.rmtree(base, ignore_errors=True)
                work.rename(base)
                break
    return {"kills": kills, "finished": finished, "scenes": count}


def kill_anytime(directory: Path, kills: int) -> dict:
    """Let a writer put as fast as it can, telling what was put; kill it; hold what it told against the store."""
    seed = random.Random(20)
    store = LocalStore(directory / "store", durable=False)
    acknowledged: list[tuple[SourceKey, str]] = []
    for turn in range(kills):
        reading, writing = os.pipe()

        def write(turn=turn, writing=writing):
            for number in itertools.count():
                key = KEYS[number % len(KEYS)]
                text = f"{turn % 7}-{number % 50}"
                put_new(store, text, key=key)
                os.write(writing, f"{key} {text}\n".encode())
                if number % 5 == turn % 5:
                    store.flush()
                if number % 11 == turn % 11:
                    store.retain(records=3)
                    store.gc(grace=0)

        child = fork(write)
        os.close(writing)
        with os.fdopen(reading) as told:
            # Every other writer is let through its first put, however slow the machine.
            first = told.readline() if turn % 2 else ""
            time.sleep(seed.uniform(0.001, 0.025))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            lines = (first + told.read()).splitlines()
        if not store.path.exists():
            continue
        check_whole(store)
        last: dict[SourceKey, str] = {}
        for line in lines:
            name, _, text = line.partition(" ")
            last[SourceKey.parse(name)] = text
            acknowledged.append((SourceKey.parse(name), text))
        for key, text in last.items():
            # The writer may have put one more than it lived to tell; the last it told is then the second.
            digests = [artifact.digest for artifact in store.history(key)[:2]]
            assert make_artifact(text, key=key)[0].digest in digests, (key, text)
    check_sweepable(store)
    return {"kills": kills, "acknowledged": len(acknowledged)}


if __name__ == "__main__":
    os.fsync = lambda descriptor: None  # what it would make durable survives a kill anyway, and it is slow
    _records.MAX_OBSERVATIONS = 5  # as long lists prove no more, and are read after each kill
    directory, task, *numbers = sys.argv[1:]
    result = (
        kill_everywhere(Path(directory)) if task == "everywhere" else kill_anytime(Path(directory), *map(int, numbers))
    )
    json.dump(result, sys.stdout)

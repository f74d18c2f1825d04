"""Many processes, one store: nothing is lost, nothing is damaged, collectors take nothing from under anybody.

Run as a program, this file is one small process that forks the others.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from fluxsrc.artifact import SourceKey
from fluxsrc.digest import Digest
from fluxsrc.errors import ArtifactNotFoundError
from fluxsrc.stores import LocalStore, _index, _retention
from fluxsrc.testing.store_contract import make_artifact, put_new

KEPT = [SourceKey("memory", "kept", f"source-{number}") for number in range(4)]
CHURNED = [SourceKey("memory", "churned", f"source-{number}") for number in range(3)]
TEXTS = [f"text {number}" for number in range(8)]


def meanwhile(action, *, seconds: float = 0.15) -> threading.Thread:
    """Start something in another thread and give it time to get done, if nothing holds it up."""
    thread = threading.Thread(target=action)
    thread.start()
    thread.join(seconds)
    return thread


def between_blob_and_record(monkeypatch, action) -> list[threading.Thread]:
    """Have `put` start an action when its blob is in place and its record is not; the first time only."""
    started: list[threading.Thread] = []
    real = _index.note_change

    def note_change(layout, key):
        if not started:
            started.append(threading.Thread())
            started[0] = meanwhile(action)
        real(layout, key)

    monkeypatch.setattr(_index, "note_change", note_change)
    return started


def test_a_collector_waits_for_a_writer_between_blob_and_record(store, monkeypatch):
    """Nothing refers to the blob yet: a collector that got in here would take it."""
    put_new(store, "other", key=KEPT[1])
    started = between_blob_and_record(monkeypatch, lambda: store.gc(grace=-60))
    artifact = put_new(store, key=KEPT[0])
    started[0].join()
    store.open(artifact).close()
    assert store.verify().clean


def test_a_collector_spares_what_became_wanted_after_it_looked(store, monkeypatch):
    """It has seen that nothing refers to the blob; then somebody puts it again, without a second upload."""
    artifact = put_new(store)
    store.forget(artifact.key)
    for path in (store.path / "blobs" / "sha256").iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    real = _retention._sweep

    def sweep(*args, **kwargs):
        if list(store.sources()) == []:
            assert store.put(artifact) is not None
        return real(*args, **kwargs)

    monkeypatch.setattr(_retention, "_sweep", sweep)
    assert store.gc(grace=0).young == 3
    store.open(artifact).close()
    assert store.verify().clean


def test_two_writers_of_one_source_take_turns(store, monkeypatch):
    """The second reads the history the first has written, not the one before it."""
    started = between_blob_and_record(monkeypatch, lambda: put_new(store, "second"))
    first = put_new(store, "first")
    started[0].join()
    assert [artifact.digest for artifact in store.history(first.key)] == [
        make_artifact("second")[0].digest,
        first.digest,
    ]


def test_a_flush_in_the_middle_of_a_put_misses_nothing(store, monkeypatch):
    """It must not take the note and read the record from before."""
    put_new(store, "old")
    store.flush()
    real = store._layout.__class__.write
    started: list[threading.Thread] = []

    def write(self, path, data, **kwargs):
        if path == self.record(artifact.key) and not started:
            started.append(meanwhile(store.flush))
        real(self, path, data, **kwargs)

    artifact, _ = make_artifact("new")
    monkeypatch.setattr(type(store._layout), "write", write)
    recorded = put_new(store, "new")
    started[0].join()
    store.flush()
    (entry,) = json.loads((store.path / "index.json").read_text())["manifests"]
    assert entry["digest"] == str(recorded.manifest)


def run(*arguments: str) -> dict:
    done = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_eight_processes_lose_and_damage_nothing(tmp_path):
    """Overlapping sources of equal content, retired, forgotten and collected meanwhile without any grace."""
    report = run(str(tmp_path / "store"), "8", "3.0")
    assert report["problems"] == []
    assert report["failures"] == []
    assert report["lost"] == []
    assert report["puts"] > 50
    assert report["collections"] > 0
    assert report["reads"] > 0


# --- the program -----------------------------------------------------------------------------------------------------


def writer(store: LocalStore, number: int, until: float) -> dict:
    """Put, read under a lease, let go."""
    chance = random.Random(number)
    told: set[tuple[str, str]] = set()
    puts = reads = 0
    while time.monotonic() < until or puts < 10:
        key, text = chance.choice(KEPT + CHURNED), chance.choice(TEXTS)
        if key in KEPT and chance.random() < 0.7:
            text = f"only once: {number} {puts}"  # nobody puts it again: if it gets lost, it stays lost
        if chance.random() < 0.3:
            # As produce_artifact does it when it knows the blob: no second upload.
            try:
                store.put(make_artifact(text, key=key)[0])
            except ArtifactNotFoundError:
                continue
        else:
            put_new(store, text, key=key, index=text.encode())
        puts += 1
        if key in KEPT:
            told.add((str(key), text))
        elif chance.random() < 0.3:
            store.forget(key)
        else:
            store.retain(key, records=1)
        reads += read(store, chance.choice(CHURNED))
    return {"puts": puts, "reads": reads, "told": sorted(told), "collections": 0}


def read(store: LocalStore, key: SourceKey) -> bool:
    """What a lease was given for stays readable as long as it lasts, whoever lets it go meanwhile."""
    artifact = store.lookup(key)
    if artifact is None:
        return False
    try:
        lease = store.lease(artifact, ttl=60)
        lease.__enter__()
    except ArtifactNotFoundError:
        return False  # gone between the look-up and the lease: nobody promised anything yet
    try:
        for _ in range(3):
            with store.open(artifact) as stream:
                assert Digest.of(stream.read()) == artifact.digest
    finally:
        lease.__exit__(None, None, None)
    return True


def collector(store: LocalStore, until: float) -> dict:
    """Sweep without any grace, again and again."""
    collections = 0
    while time.monotonic() < until or not collections:
        store.gc(grace=0)
        collections += 1
    return {"puts": 0, "reads": 0, "told": [], "collections": collections}


def dawdle() -> None:
    """Sleep a little after calls that others might race with, to make narrow windows wide."""

    def slow(real):
        def call(*args, **kwargs):
            result = real(*args, **kwargs)
            if random.random() < 0.3:
                time.sleep(random.uniform(0, 0.01))
            return result

        return call

    for name in ("replace", "utime", "unlink", "lstat"):
        setattr(os, name, slow(getattr(os, name)))


def fork(action) -> tuple[int, int]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            result = action()
        except BaseException:
            result = {"failure": traceback.format_exc()}
        with os.fdopen(writing, "w") as stream:
            json.dump(result, stream)
        os._exit(0)
    os.close(writing)
    return child, reading


def main(path: str, processes: int, seconds: float) -> dict:
    os.fsync = lambda descriptor: None  # order among processes does not depend on it, and it is slow
    store = LocalStore(Path(path), max_records=100_000)
    for text in TEXTS:
        put_new(store, text, key=KEPT[0])
    dawdle()
    until = time.monotonic() + seconds
    actions = [lambda number=number: writer(store, number, until) for number in range(processes)]
    actions.append(lambda: collector(store, until))
    results = []
    for child, reading in [fork(action) for action in actions]:
        with os.fdopen(reading) as stream:
            results.append(json.load(stream))
        os.waitpid(child, 0)
    failures = [result["failure"] for result in results if "failure" in result]
    results = [result for result in results if "failure" not in result]
    store.gc(grace=0)
    report = store.verify()
    problems = [str(problem) for problem in (*report.problems, *report.orphaned, *report.leftovers, *report.unknown)]
    kept = {str(key): {artifact.digest for artifact in store.history(key)} for key in KEPT}
    lost = [
        [key, text]
        for result in results
        for key, text in result["told"]
        if make_artifact(text)[0].digest not in kept[key]
    ]
    return {
        "failures": failures,
        "problems": problems,
        "lost": lost,
        **{name: sum(result[name] for result in results) for name in ("puts", "reads", "collections")},
    }


if __name__ == "__main__":
    json.dump(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])), sys.stdout)

"""Many processes, one store: nothing is lost, nothing is damaged, collectors take nothing from under anybody.

Run as a program, this file is one small process that forks the others.
"""

import json
import os
import random
import subprocess
import sys
import time
import traceback
from pathlib import Path

from fluxsrc.artifact import SourceKey
from fluxsrc.digest import Digest
from fluxsrc.errors import ArtifactNotFoundError
from fluxsrc.stores import LocalStore
from fluxsrc.testing.store_contract import make_artifact, put_new

KEPT = [SourceKey("memory", "kept", f"source-{number}") for number in range(4)]
CHURNED = [SourceKey("memory", "churned", f"source-{number}") for number in range(3)]
TEXTS = [f"text {number}" for number in range(8)]


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
    while time.monotonic() < until:
        key, text = chance.choice(KEPT + CHURNED), chance.choice(TEXTS)
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
    while time.monotonic() < until:
        store.gc(grace=0)
        collections += 1
    return {"puts": 0, "reads": 0, "told": [], "collections": collections}


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
    store = LocalStore(Path(path))
    for text in TEXTS:
        put_new(store, text, key=KEPT[0])
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
    lost = [
        [key, text]
        for result in results
        for key, text in result["told"]
        if make_artifact(text)[0].digest not in {a.digest for a in store.history(SourceKey.parse(key))}
    ]
    return {
        "failures": failures,
        "problems": problems,
        "lost": lost,
        **{name: sum(result[name] for result in results) for name in ("puts", "reads", "collections")},
    }


if __name__ == "__main__":
    json.dump(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])), sys.stdout)

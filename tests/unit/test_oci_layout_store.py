"""A store is an image layout, and takes what is pushed into it by `oci-layout:`, while others write to it and collect.

Run as a program, this file is one small process that forks the others.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

from fluxsrc._io.locks import LayoutLocks
from fluxsrc.artifact import SourceKey
from fluxsrc.errors import ConfigurationError, RevisionNotFoundError, StoreLockedError
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, OCISource, candidates, delete, layout, list_tags, promote, push
from fluxsrc.operation import Operation
from fluxsrc.stores import LocalStore, MemoryStore
from fluxsrc.testing.store_contract import put_new

NAME = "gitrepository/default/podinfo"
"""Of the store's source, as OCI tools see it."""


@pytest.fixture
def store(tmp_path):
    """With one source in it."""
    store = LocalStore(tmp_path / "store", durable=False)
    put_new(store, "the store's own")
    store.flush()
    return store


def content(reference: str) -> dict[str, bytes]:
    with OCISource(reference).fetch() as snapshot:
        return {entry.path: entry.read() for entry in snapshot.entries()}


def test_what_is_pushed_into_a_store_stays_there(store):
    """Beside the store's own lines, through collecting without grace, and whole by the store's own check."""
    push(MemorySource({"a": "1"}), f"oci-layout:{store.path}:team/app")
    store.gc(grace=-60)
    put_new(store, "newer")
    store.flush()
    assert content(f"oci-layout:{store.path}:team/app") == {"a": b"1"}
    assert content(f"oci-layout:{store.path}:{NAME}") == {"app.yaml": b"newer"}
    report = store.verify()
    assert report.clean
    assert (report.unknown, report.orphaned, report.leftovers) == ((), (), ())


def test_the_names_of_a_stores_sources_are_the_stores(store):
    """Who moved or deleted one would be undone by the next flush, or mislead whoever reads it until then."""
    there = f"oci-layout:{store.path}"
    with pytest.raises(ConfigurationError, match=f"its source {NAME}"):
        push(MemorySource({"a": "1"}), f"{there}:{NAME}")
    with pytest.raises(ConfigurationError, match=f"its source {NAME}"):
        delete(f"{there}:{NAME}", confirmed=True)
    promote(f"{there}:{NAME}", f"{there}:stable")
    assert sorted(info.tag for info in list_tags(there)) == [NAME, "stable"]
    assert all(candidate.complete for candidate in candidates(f"{there}:none"))


def test_a_push_waits_for_the_store_and_the_store_for_a_push(store):
    """They take the same lock."""
    with LayoutLocks(store.path, 1).index(), pytest.raises(StoreLockedError):
        push(MemorySource({"a": "1"}), f"oci-layout:{store.path}:x", operation=Operation(2))
    repository = layout.LayoutRepository(str(store.path), Access().limits, Operation())
    impatient = LocalStore(store.path, lock_timeout=0.05)
    with repository._changing():
        put_new(impatient, "new")  # its line in the list can wait
        with pytest.raises(StoreLockedError):
            impatient.flush()
    impatient.flush()


def test_what_was_swept_before_its_manifest_came_is_an_error_and_no_hole(store, monkeypatch):
    """A collector without any grace, between the blobs and the line that refers to them."""
    real = layout.LayoutRepository.push_document

    def push_document(self, document, **options):
        store.gc(grace=-60)
        real(self, document, **options)

    with monkeypatch.context() as patched:
        patched.setattr(layout.LayoutRepository, "push_document", push_document)
        with pytest.raises(RevisionNotFoundError, match="push again"):
            push(MemorySource({"a": "1"}), f"oci-layout:{store.path}:x")
    push(MemorySource({"a": "1"}), f"oci-layout:{store.path}:x")
    assert content(f"oci-layout:{store.path}:x") == {"a": b"1"}


def test_processes_that_push_store_and_collect_lose_nothing(tmp_path):
    """Every name that was pushed is there with its content, and every source of the store is listed as it is."""
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "store"), "6"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["failures"] == []
    assert report["problems"] == []
    assert report["lost"] == []
    assert (report["pushed"], report["put"]) == (3 * 6, 2 * 6)
    assert report["collected"] > 0


# --- the program -----------------------------------------------------------------------------------------------------


def pusher(store: LocalStore, number: int, times: int) -> dict:
    """Push what others push too, and what nobody else does."""
    names = {}
    for turn in range(times):
        name, own = f"p{number}/n{turn % 4}", f"{number} {turn}"
        while True:
            with contextlib.suppress(RevisionNotFoundError):  # swept, as it says: again
                push(MemorySource({"shared": f"{turn % 3}", "own": own}), f"oci-layout:{store.path}:{name}")
                break
        names[name] = own
    return {"pushed": times, "names": names}


def writer(store: LocalStore, number: int, times: int) -> dict:
    """Put, let the last one retire, list."""
    key = SourceKey("memory", "default", f"source-{number}")
    for turn in range(times):
        put_new(store, f"{number} {turn}", key=key)
        store.retain(records=1)
        store.flush()
    return {"put": times, "texts": {str(key): f"{number} {times - 1}"}}


def collector(store: LocalStore, others: int) -> dict:
    """Sweep without any grace, again and again, as long as there are others."""
    collected = 0
    while not collected or len(list(store.path.parent.glob("done-*"))) < others:
        store.gc(grace=0)
        collected += 1
        time.sleep(0.02)  # or nobody else would ever get the lock
    return {"collected": collected}


def fork(action, done: Path) -> tuple[int, int]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            result = action()
        except BaseException:
            result = {"failure": traceback.format_exc()}
        with os.fdopen(writing, "w") as stream:
            json.dump(result, stream)
        done.touch()
        os._exit(0)
    os.close(writing)
    return child, reading


def main(path: str, times: int) -> dict:
    os.fsync = lambda descriptor: None  # order among processes does not depend on it, and it is slow
    store = LocalStore(Path(path), durable=False)
    put_new(store, "first")
    MemorySource({"warm": "up"}).produce_artifact(MemoryStore())
    actions = [lambda number=number: pusher(store, number, times) for number in range(3)]
    actions += [lambda number=number: writer(store, number, times) for number in range(2)]
    children = [fork(action, Path(f"{path}/../done-{number}")) for number, action in enumerate(actions)]
    children.append(fork(lambda: collector(store, len(actions)), Path(f"{path}/../collected")))
    results = []
    for child, reading in children:
        with os.fdopen(reading) as stream:
            results.append(json.load(stream))
        os.waitpid(child, 0)
    store.gc(grace=0)
    report = store.verify()
    lost = []
    for result in results:
        for name, own in result.get("names", {}).items():
            lost += [name] * (content(f"oci-layout:{path}:{name}")["own"] != own.encode())
        for name, text in result.get("texts", {}).items():
            lost += [name] * (content(f"oci-layout:{path}:{name}") != {"app.yaml": text.encode()})
    return {
        "failures": [result["failure"] for result in results if "failure" in result],
        "problems": [str(each) for each in (*report.problems, *report.orphaned, *report.leftovers, *report.unknown)],
        "lost": lost,
        **{name: sum(result.get(name, 0) for result in results) for name in ("pushed", "put", "collected")},
    }


if __name__ == "__main__":
    json.dump(main(sys.argv[1], int(sys.argv[2])), sys.stdout)

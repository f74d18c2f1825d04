"""The reconciler: many sources, one store, and nobody waits for anybody else."""

import concurrent.futures
import contextlib
import datetime as dt
import gc
import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time

import attrs
import pytest

from fluxsrc._io.locks import locked
from fluxsrc.artifact import SourceKey
from fluxsrc.errors import (
    ConfigurationError,
    ContentError,
    RateLimitedError,
    StoreError,
    TransportError,
    VerificationError,
)
from fluxsrc.events import Failure, FetchFailed, GarbageCollected, NewArtifact, Reconciled, Recovered, RefMoved, Stage
from fluxsrc.managed import ManagedSource
from fluxsrc.memory import MemorySource
from fluxsrc.operation import Operation
from fluxsrc.reconcile import Outcome, Policy, Reconciler, Retention
from fluxsrc.reconcile.ledger import Ledger
from fluxsrc.status import SourceStatus
from fluxsrc.stores import LocalStore, MemoryStore
from helpers.waiting import wait_until

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
FORK = multiprocessing.get_context("fork")  # a spawned process could not import what this module defines
FAST = Policy(min_delay=0.01, slow_delay=0.02, max_delay=0.05, grace=5.0)


@attrs.frozen
class Scripted:
    """A source that does what a function says before it is a `MemorySource`."""

    act: object
    inner: MemorySource = attrs.field(factory=lambda: MemorySource({"app.yaml": "v1"}))
    timeout: float = 30.0
    kind = "memory"
    url = "memory:scripted"

    @property
    def recipe(self):
        return self.inner.recipe

    def resolve_revision(self, *, operation=None):
        return self._now(operation).resolve_revision(operation=operation)

    @contextlib.contextmanager
    def fetch(self, revision=None, /, *, operation=None):
        with self._now(None).fetch(revision, operation=operation) as snapshot:
            yield snapshot

    def produce_artifact(self, store, /, *, name=None, namespace="default", operation=None):
        return self._now(operation).produce_artifact(store, name=name, namespace=namespace, operation=operation)

    def _now(self, operation):
        result = self.act(operation)
        return self.inner if result is None else result


class Script:
    """Answers in turn: exceptions are raised, sources are used; the last one for ever."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.calls = 0

    def __call__(self, operation):
        step = self.steps[min(self.calls, len(self.steps) - 1)]
        self.calls += 1
        if isinstance(step, Exception):
            raise step
        return step(operation) if callable(step) else step


def files(text, **options):
    return MemorySource({"app.yaml": text}, **options)


def managed(name, source, **options):
    return ManagedSource(name=name, source=source, **options)


def key(name):
    return SourceKey("memory", "default", name)


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def all_ready(statuses):
    return all(status.ready for status in statuses.values())


# --- once ---


def test_once_looks_at_each_source_once():
    """Those that fail too; the suspended ones not."""
    broken, script = Script(TransportError("refused")), Script(files("b"))
    store, events = MemoryStore(), []
    reconciler = Reconciler(
        store,
        [
            managed("a", files("a")),
            managed("b", Scripted(script)),
            managed("broken", Scripted(broken)),
            managed("resting", Scripted(Script(AssertionError())), suspend=True),
        ],
        on_event=events.append,
    )
    statuses = reconciler.run_once()
    assert [status.ready for status in statuses.values()] == [True, True, False, False]
    assert (broken.calls, script.calls) == (1, 1)
    assert statuses[key("broken")].message == "fetch failed (TransportFailed): refused"
    assert statuses[key("resting")].observed_generation == -1
    assert len(of_kind(events, Reconciled)) == 3
    assert sorted(event.key.name for event in of_kind(events, NewArtifact)) == ["a", "b"]


def test_once_takes_dependencies_first_and_leaves_out_what_misses_one():
    """And says which one is missing."""
    order = []

    def note(name, result=None):
        return Scripted(Script(lambda _: order.append(name) or result))

    failing = Scripted(Script(TransportError("refused")))
    reconciler = Reconciler(
        MemoryStore(),
        [
            managed("c", note("c"), depends_on=(key("b"),)),
            managed("b", note("b"), depends_on=(key("a"),)),
            managed("a", note("a")),
            managed("x", failing),
            managed("y", note("y"), depends_on=(key("x"),)),
        ],
        policy=Policy(concurrency=4),
    )
    statuses = reconciler.run_once()
    assert order == ["a", "b", "c"]
    assert statuses[key("y")].conditions["IncludeUnavailable"].reason == "NoArtifact"
    assert "memory/default/x" in statuses[key("y")].message


@pytest.mark.parametrize("resting", [True, False])
def test_what_the_store_has_an_artifact_of_is_not_waited_for(resting):
    """Though it is suspended, or fails since this process began: it is as in Flux the artifact that is needed."""
    store = MemoryStore()
    Reconciler(store, [managed("a", files("a"))]).run_once()
    failing = Scripted(Script(TransportError("refused")))
    dependent = managed("b", files("b"), depends_on=(key("a"),))
    statuses = Reconciler(store, [dependent, managed("a", failing, suspend=resting)]).run_once()
    assert statuses[key("b")].ready


def test_once_can_be_called_again():
    """The second time nothing is new, and artifacts are the same."""
    store, events = MemoryStore(), []
    reconciler = Reconciler(store, [managed("a", files("a"))], on_event=events.append)
    first = reconciler.run_once()[key("a")].artifact
    events.clear()
    assert reconciler.run_once()[key("a")].artifact == first
    [event] = events
    assert isinstance(event, Reconciled)
    assert event.unchanged


# --- events ---


def test_a_failure_is_retried_and_its_end_is_told():
    """Failed twice, then recovered; the first line says what failed."""
    events = []
    script = Script(TransportError("refused"), RateLimitedError("slow down", retry_after=0.01), files("v1"))
    with Reconciler(
        MemoryStore(), [managed("a", Scripted(script), interval=3600)], policy=FAST, on_event=events.append
    ) as reconciler:
        assert reconciler.wait(all_ready, timeout=60)
        assert reconciler.wait(lambda _: bool(of_kind(events, Recovered)), timeout=60) or of_kind(events, Recovered)
    failed = of_kind(events, FetchFailed)
    assert [event.failures for event in failed] == [1, 2]
    assert [event.failure.reason for event in failed] == ["TransportFailed", "RateLimited"]
    assert all(event.retry_in > 0 for event in failed)
    [recovered] = of_kind(events, Recovered)
    assert recovered.failures == 2


def test_a_name_that_moves_is_told():
    """The tag v1 was one thing, and is another."""
    events = []
    script = Script(files("v1", pointer="v1"), files("other", pointer="v1"))
    reconciler = Reconciler(MemoryStore(), [managed("a", Scripted(script))], on_event=events.append)
    reconciler.run_once()
    assert of_kind(events, RefMoved) == []
    reconciler.run_once()
    [moved] = of_kind(events, RefMoved)
    assert (moved.pointer, moved.old.digest != moved.new.digest) == ("v1", True)
    assert len(of_kind(events, NewArtifact)) == 2


def test_old_artifacts_retire_and_their_going_is_told(tmp_path):
    """One stays; the blobs of the others go."""
    events = []
    script = Script(*(files(f"v{number}") for number in range(4)))
    retention = Retention(records=1, ttl=0, grace=0)
    with LocalStore(tmp_path / "store", durable=False) as store:
        reconciler = Reconciler(store, [managed("a", Scripted(script))], on_event=events.append, retention=retention)
        for _ in range(4):
            reconciler.run_once()
            time.sleep(0.02)  # the collector spares what is as young as its own first step
        assert len(store.history(key("a"))) == 1
    collected = of_kind(events, GarbageCollected)
    assert sum(event.retired for event in collected) == 3
    assert sum(event.blobs for event in collected) > 0


def test_a_callback_that_fails_harms_nobody(caplog):
    """It is logged, and the sources go on."""
    reconciler = Reconciler(MemoryStore(), [managed("a", files("a"))], on_event=lambda _: 1 / 0)
    assert all_ready(reconciler.run_once())
    assert "a callback failed" in caplog.text


def test_logs_have_fields_for_machines(caplog):
    """Which source, and what became of it: without taking the sentence apart."""
    broken = managed("b", Scripted(Script(TransportError("refused"))))
    with caplog.at_level(logging.INFO, "fluxsrc.reconcile"):
        statuses = Reconciler(MemoryStore(), [managed("a", files("a")), broken]).run_once()
    told = {record.fluxsrc_key: record for record in caplog.records}
    artifact = statuses[key("a")].artifact
    stored, failed = told["memory/default/a"], told["memory/default/b"]
    assert (stored.levelname, stored.fluxsrc_revision, stored.fluxsrc_digest) == (
        "INFO",
        str(artifact.revision),
        str(artifact.digest),
    )
    assert (failed.levelname, failed.fluxsrc_reason) == ("WARNING", "TransportFailed")
    assert failed.message == "memory/default/b: fetch failed (TransportFailed): refused"


# --- stages ---


@pytest.mark.parametrize(
    ("error", "stage", "condition", "reason"),
    [
        (TransportError("x"), Stage.FETCH, "FetchFailed", "TransportFailed"),
        (VerificationError("x"), Stage.VERIFICATION, "SourceVerified", "VerificationError"),
        (ContentError("x"), Stage.CONTENT, "FetchFailed", "InvalidContent"),
        (StoreError("x"), Stage.STORAGE, "StorageOperationFailed", "StorageOperationFailed"),
        (ConfigurationError("x"), Stage.CONFIGURATION, "Stalled", "InvalidConfiguration"),
        (ZeroDivisionError("x"), Stage.BUG, "FetchFailed", "Bug"),
    ],
)
def test_the_first_word_of_a_failure_says_what_failed(error, stage, condition, reason):
    """Fetch, verification, content, storage, configuration, or a bug: the question of whoever is on call."""
    [status] = Reconciler(MemoryStore(), [managed("a", Scripted(Script(error)))]).run_once().values()
    assert status.message.startswith(f"{stage} failed ({reason})")
    assert status.conditions[condition].reason == reason
    assert not status.ready


def a_file_where_a_directory_should_be(store):
    (store.path / "ingest").rmdir()
    (store.path / "ingest").write_text("")


def a_damaged_record(store):
    (store.path / "sources/memory/default/a.json").write_text("{")


def a_directory_where_a_record_should_be(store):
    (store.path / "sources/memory/default/a.json").unlink()
    (store.path / "sources/memory/default/a.json").mkdir()


def a_directory_that_cannot_be_made(store):
    (store.path / "ingest").rmdir()
    (store.path / "ingest").symlink_to("nowhere")


def blobs_behind_a_link_that_leads_in_a_circle(store):
    (store.path / "blobs").rename(store.path / "moved")
    (store.path / "blobs").symlink_to("blobs")


def a_directory_where_a_lock_should_be(store):
    (store.path / "locks/sources/memory/default/a.lock").unlink()
    (store.path / "locks/sources/memory/default/a.lock").mkdir()


def somebody_elses_lock(store):
    return locked(store.path / "locks/sources/memory/default/a.lock", timeout=1)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (a_file_where_a_directory_should_be, "ArchiveOperationFailed"),
        (a_damaged_record, "ReadOperationFailed"),
        (a_directory_where_a_record_should_be, "ReadOperationFailed"),
        (blobs_behind_a_link_that_leads_in_a_circle, "StatOperationFailed"),
        (a_directory_that_cannot_be_made, "DirectoryCreationFailed"),
        (a_directory_where_a_lock_should_be, "AcquireLockFailed"),
        (somebody_elses_lock, "AcquireLockFailed"),
    ],
)
def test_storage_says_what_it_cannot_do(tmp_path, harm, reason):
    """Make a directory, write, read, look or lock, in Flux's words; what was made before stays."""
    with LocalStore(tmp_path / "store", durable=False, lock_timeout=0.1) as store:
        script = Script(files("v1"), files("v2"))
        reconciler = Reconciler(store, [managed("a", Scripted(script))])
        before = reconciler.run_once()[key("a")].artifact
        with harm(store) or contextlib.nullcontext():
            [status] = reconciler.run_once().values()
        assert status.conditions["StorageOperationFailed"].reason == reason
        assert status.conditions["Ready"].reason == reason
        assert status.message.startswith(f"storage failed ({reason})")
        assert status.artifact == before


# --- nobody waits for anybody else ---


def test_a_source_that_hangs_delays_no_other():
    """One slot is lost to it until its timeout and grace have passed, and then given back."""
    began, release = threading.Event(), threading.Event()
    hanging = Scripted(Script(lambda _: began.set() or (release.wait(60) and None)), timeout=0.2)
    others = [managed(f"s{number}", files(str(number)), interval=3600) for number in range(20)]
    events = []
    policy = attrs.evolve(FAST, concurrency=1, overtime=0, grace=0.1)
    try:
        with Reconciler(
            MemoryStore(), [managed("hang", hanging), *others], policy=policy, on_event=events.append
        ) as reconciler:
            assert began.wait(60)
            reconciler.request(key("hang"))
            assert reconciler.wait(lambda now: sum(each.ready for each in now.values()) == 20, timeout=60)
            status = reconciler.statuses[key("hang")]
            assert status.failure.reason == "WorkerLost"
            release.set()
            assert reconciler.wait(all_ready, timeout=60)
    finally:
        release.set()
    failed, [recovered] = of_kind(events, FetchFailed), of_kind(events, Recovered)
    assert [event.failures for event in failed] == [*range(1, len(failed) + 1)]
    assert (recovered.key, recovered.failures) == (key("hang"), len(failed))


@pytest.mark.parametrize("once", [True, False])
def test_many_that_hang_delay_no_other(once):
    """More than there are slots: each gives its own away after a moment, and goes on. The last of the others frees them."""
    release, well = threading.Event(), set()
    hanging = [managed(f"hang{n}", Scripted(Script(lambda _: release.wait(60) and None))) for n in range(6)]
    others = [managed(f"other{n}", files(str(n)), interval=3600) for n in range(20)]

    def free(event):
        if isinstance(event, NewArtifact):
            well.add(event.key.name)
        if len(well) == len(others):
            release.set()

    policy = attrs.evolve(FAST, concurrency=2, overtime=6, patience=0.05)
    reconciler = Reconciler(MemoryStore(), [*hanging, *others], policy=policy, on_event=free)
    if once:
        assert all_ready(reconciler.run_once())
    else:
        with reconciler:
            assert reconciler.wait(all_ready, timeout=60)
    assert well == {each.name for each in [*hanging, *others]}


def test_what_an_executor_of_ones_own_takes_long_for_keeps_its_slot():
    """Its workers are as many as they are: more would wait in its queue until they are given up."""
    release, running = threading.Event(), []

    def hang(_):
        running.append(1)
        release.wait(60)

    sources = [managed(name, Scripted(Script(hang))) for name in "abc"]
    policy = attrs.evolve(FAST, concurrency=2, patience=0.001)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        with Reconciler(MemoryStore(), sources, policy=policy, executor=pool) as reconciler:
            while len(running) < 2:
                time.sleep(0.01)
            assert not reconciler.wait(lambda _: len(running) > 2, timeout=0.2)
            release.set()
            assert reconciler.wait(all_ready, timeout=60)


def test_a_source_that_comes_to_its_timeout_fails_alone():
    """Its own deadline ends it, and the others do not wait for that."""
    events, others = [], threading.Event()

    def note(event):
        events.append(event)
        if len(of_kind(events, Reconciled)) == 5:
            others.set()

    def slow(operation: Operation):
        assert others.wait(60)
        while True:
            operation.check("receive")
            time.sleep(0.01)

    Reconciler(
        MemoryStore(),
        [managed("slow", Scripted(Script(slow), timeout=0.3)), *(managed(f"s{n}", files(str(n))) for n in range(5))],
        policy=Policy(concurrency=2, grace=60),
        on_event=note,
    ).run_once()
    ended = [event.key.name for event in of_kind(events, Reconciled)]
    assert ended[-1] == "slow"
    assert [event.failure.reason for event in of_kind(events, FetchFailed)] == ["Timeout"]


def test_no_more_than_the_concurrency_at_once():
    """Bounded, and all of it used: nobody goes on before there are three."""
    lock, running, most = threading.Lock(), 0, 0
    three = threading.Barrier(3, timeout=60)

    def act(_):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        three.wait()
        with lock:
            running -= 1

    sources = [managed(f"s{number}", Scripted(Script(act))) for number in range(30)]
    assert all_ready(Reconciler(MemoryStore(), sources, policy=Policy(concurrency=3, overtime=0)).run_once())
    assert most == 3


# --- what is asked for ---


def test_requests_changes_and_removals_take_effect_at_once():
    """While it runs, from another thread."""
    script = Script(files("v1"), files("v2"))
    with Reconciler(MemoryStore(), [managed("a", Scripted(script), interval=3600)], policy=FAST) as reconciler:
        assert reconciler.wait(all_ready, timeout=60)
        first = reconciler.statuses[key("a")].artifact
        assert reconciler.request(key("a"))
        assert reconciler.wait(lambda now: now[key("a")].artifact != first, timeout=60)
        reconciler.apply([managed("b", files("b"), requested_at="now", generation=7)])
        assert reconciler.wait(lambda now: list(now) == [key("b")] and all_ready(now), timeout=60)
        status = reconciler.statuses[key("b")]
        assert (status.handled_request, status.observed_generation) == ("now", 7)
        assert not reconciler.request(key("a"))


def test_stopping_cancels_what_is_under_way_and_leaves_no_thread():
    """Within moments, although the source would have taken a minute."""
    before = set(threading.enumerate())
    began = threading.Event()

    def slow(operation):
        began.set()
        while True:
            operation.check("receive")
            time.sleep(0.01)

    reconciler = Reconciler(MemoryStore(), [managed("a", Scripted(Script(slow)))], policy=FAST)
    reconciler.start()
    assert began.wait(60)
    assert reconciler.stop()
    assert set(threading.enumerate()) <= before


HANGS = """
import threading
from fluxsrc import MemorySource, MemoryStore
from fluxsrc.managed import ManagedSource
from fluxsrc.reconcile import Policy, Reconciler

class Hangs(MemorySource):
    def resolve_revision(self, *, operation=None):
        threading.Event().wait()

sources = [ManagedSource(name=f"s{number}", source=Hangs({}, timeout=0.01)) for number in range(100)]
reconciler = Reconciler(MemoryStore(), sources, policy=Policy(concurrency=2, grace=0.01))
print(sum(status.failure.reason == "WorkerLost" for status in reconciler.run_once().values()))
"""


def test_a_process_ends_although_sources_hang_for_ever():
    """Each is given up, however many there are; their threads do not keep the process."""
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "100\n"), done.stderr


def test_stopping_begins_nothing_more():
    """Not even in the thread that ends the look under way, which would take the next one."""
    began, looks = threading.Event(), []

    def slow(operation):
        looks.append(1)
        began.set()
        while True:
            operation.check("receive")
            time.sleep(0.01)

    sources = [managed(name, Scripted(Script(slow))) for name in "abc"]
    reconciler = Reconciler(MemoryStore(), sources, policy=attrs.evolve(FAST, concurrency=1, overtime=0))
    reconciler.start()
    assert began.wait(60)
    assert reconciler.stop()
    assert len(looks) == 1
    assert all(status.failure is None for status in reconciler.statuses.values())


@pytest.mark.parametrize("once", [True, False])
def test_it_runs_again_after_it_was_stopped(once):
    """What did not come back then is not begun twice: it begins again when it did."""
    began, release = threading.Event(), threading.Event()
    script = Script(lambda _: began.set() or (release.wait(60) and None), files("v1"))
    reconciler = Reconciler(MemoryStore(), [managed("a", Scripted(script)), managed("b", files("b"))], policy=FAST)
    reconciler.start()
    assert began.wait(60)
    assert not reconciler.stop(grace=0.01)
    assert reconciler.run_once()[key("b")].ready
    assert script.calls == 1
    release.set()
    if once:
        wait_until(lambda: reconciler.run_once()[key("a")].ready)
    else:
        with reconciler:
            assert reconciler.wait(all_ready, timeout=60)


def test_callbacks_come_one_after_the_other_from_the_thread_that_runs_it():
    """Whoever did the looks: for `run_once` its caller, else the reconciler's own; what begins before what ends."""
    told = []

    def note(what):
        told.append((threading.current_thread(), what))

    sources = [managed(f"s{number}", files(str(number)), interval=3600) for number in range(20)]
    reconciler = Reconciler(
        MemoryStore(), sources, policy=Policy(concurrency=4), on_event=note, on_status=note, on_removed=note
    )
    reconciler.run_once()
    assert {thread for thread, _ in told} == {threading.current_thread()}
    for each in sources:
        words = [
            what.conditions["Ready"].word
            for _, what in told
            if getattr(what, "conditions", None) and what.key == each.key
        ]
        assert words == ["Unknown", "True"]
    told.clear()
    with reconciler:
        reconciler.apply(sources[:10])
        assert all(reconciler.request(each.key) for each in sources[:10])
        wait_until(lambda: len(of_kind([what for _, what in told], Reconciled)) == 10)
    assert {thread.name for thread, _ in told} == {"fluxsrc-reconcile"}
    assert [what for _, what in told if isinstance(what, SourceKey)] == [each.key for each in sources[10:]]


def test_whatever_ends_a_look_the_others_go_on():
    """Also what is no `Exception`, and would end a thread."""
    leaving = managed("leaving", Scripted(Script(lambda _: sys.exit(3))))
    statuses = Reconciler(MemoryStore(), [leaving, managed("a", files("a"))], policy=Policy(concurrency=1)).run_once()
    assert statuses[key("a")].ready
    assert statuses[key("leaving")].message == "worker failed (WorkerLost): SystemExit: 3"


def test_where_no_thread_can_be_had_each_source_says_so(monkeypatch):
    """And will be tried again, as whatever passes by itself."""

    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    statuses = Reconciler(MemoryStore(), [managed(name, files(name)) for name in "ab"]).run_once()
    assert [status.message for status in statuses.values()] == [
        "worker failed (WorkerLost): no thread can be had: can't start new thread"
    ] * 2


def test_where_no_thread_can_be_had_to_collect_garbage_the_sources_go_on(monkeypatch, tmp_path, caplog):
    """The next time there may be one."""
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "fluxsrc-gc":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    store, retention = LocalStore(tmp_path / "store", durable=False), Retention(every=0.01)
    with Reconciler(store, [managed("a", files("a"))], retention=retention) as reconciler:
        wait_until(lambda: caplog.text.count("collecting garbage has to wait") > 1)
        reconciler.apply([managed("b", files("b"))])
        assert reconciler.wait(lambda now: list(now) == [key("b")] and all_ready(now), timeout=60)


def test_nothing_is_told_of_a_source_that_was_taken_away_while_it_hung():
    """Neither when it is given up, nor when it comes back."""
    told, hung, free = [], threading.Event(), threading.Event()

    def hang(_):
        hung.set()
        free.wait(60)

    hanging = managed("a", Scripted(hang, timeout=0.01))
    policy = attrs.evolve(FAST, grace=0.01)
    reconciler = Reconciler(MemoryStore(), [hanging], policy=policy, on_event=told.append, on_removed=told.append)
    with reconciler:
        assert hung.wait(60)
        reconciler.apply([managed("b", files("b"))])
        run = reconciler._runs[key("a")]
        wait_until(lambda: run.lost)
        free.set()
        wait_until(lambda: key("a") not in reconciler._runs)
    assert told[0] == key("a")
    assert {event.key for event in told[1:]} == {key("b")}


def test_what_is_taken_away_and_given_anew_within_a_look_has_no_new_artifact():
    """Nobody needs to be told again of what it has; what it had before that look is still known."""
    began, free, told = threading.Event(), threading.Event(), []

    def slow(_):
        began.set()
        free.wait(60)

    sources = [managed("a", Scripted(Script(None, slow)))]
    with Reconciler(MemoryStore(), sources, policy=FAST, on_event=told.append) as reconciler:
        assert reconciler.wait(all_ready, timeout=60)
        reconciler.request(key("a"))
        assert began.wait(60)
        reconciler.apply([])
        reconciler.apply(sources)
        free.set()
        assert reconciler.wait(all_ready, timeout=60)
        wait_until(lambda: len(of_kind(told, Reconciled)) > 1)
    assert len(of_kind(told, NewArtifact)) == 1


def test_it_does_not_run_twice_at_a_time():
    """One thread owns the schedule."""
    with Reconciler(MemoryStore()) as reconciler:
        with pytest.raises(ConfigurationError):
            reconciler.start()
        with pytest.raises(ConfigurationError):
            reconciler.run_once()


# --- executors ---


def test_any_executor_will_do(tmp_path):
    """Processes: sources, store and outcomes travel."""
    store = LocalStore(tmp_path / "store", durable=False)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=FORK) as pool:
        statuses = Reconciler(store, [managed(f"s{n}", files(str(n))) for n in range(6)], executor=pool).run_once()
        assert all_ready(statuses)
    assert len(list(store.sources())) == 6


class FarAway(concurrent.futures.Executor):
    """As a cluster's: everything travels by pickle, and what comes back is told by a thread that must not be kept."""

    def __init__(self):
        self.submitters = set()
        self._work = concurrent.futures.ThreadPoolExecutor(2)
        self._tell = concurrent.futures.ThreadPoolExecutor(1)

    def submit(self, fn, /, *args, **kwargs):
        self.submitters.add(threading.current_thread())
        future, parcel = concurrent.futures.Future(), pickle.dumps((fn, args, kwargs))

        def work():
            fn, args, kwargs = pickle.loads(parcel)
            result = pickle.dumps(fn(*args, **kwargs))
            self._tell.submit(lambda: future.set_result(pickle.loads(result)))

        self._work.submit(work)
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._work.shutdown(wait, cancel_futures=cancel_futures)
        self._tell.shutdown(wait, cancel_futures=cancel_futures)


def test_an_executor_is_asked_by_one_thread_and_no_more_than_it_has_slots(tmp_path):
    """By the one that runs it: not from within its own callbacks, which are no place to submit from."""
    store = LocalStore(tmp_path / "store", durable=False)
    sources = [managed(f"s{n}", files(str(n))) for n in range(20)]
    with FarAway() as executor:
        reconciler = Reconciler(store, sources, executor=executor, policy=Policy(concurrency=2))
        assert all_ready(reconciler.run_once())
        assert all_ready(reconciler.run_once())
        assert executor.submitters == {threading.current_thread()}


def test_an_executor_that_takes_no_work_is_a_lost_worker():
    """Each source says so; whoever gave the executor shut it down."""
    executor = concurrent.futures.ThreadPoolExecutor(1)
    executor.shutdown()
    [status] = Reconciler(MemoryStore(), [managed("a", files("a"))], executor=executor).run_once().values()
    assert status.message.startswith("worker failed (WorkerLost): the worker died: cannot schedule new futures")


class Refuses(concurrent.futures.Executor):
    """As one whose scheduler is out of reach."""

    def submit(self, fn, /, *args, **kwargs):
        raise ConnectionRefusedError("no scheduler")


def refuse_to_make():
    raise OSError("no process can be had")


@pytest.mark.parametrize(
    ("executor", "why"),
    [
        (Refuses(), "the executor failed: ConnectionRefusedError: no scheduler"),
        (refuse_to_make, "the executor failed: OSError: no process can be had"),
    ],
)
def test_an_executor_that_fails_in_its_own_way_is_a_lost_worker(executor, why):
    """And asked again, as whatever passes by itself."""
    failures = []
    source = managed("a", files("a"))
    with Reconciler(MemoryStore(), [source], executor=executor, policy=FAST, on_event=failures.append) as reconciler:
        wait_until(lambda: len(of_kind(failures, FetchFailed)) > 1)
    assert {status.message for status in reconciler.statuses.values()} == {f"worker failed (WorkerLost): {why}"}


def test_whatever_ends_a_look_in_an_executor_the_others_go_on():
    """Executors hand on what would end a thread."""
    sources = [managed("leaving", Scripted(Script(lambda _: sys.exit(3)))), managed("a", files("a"))]
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        statuses = Reconciler(MemoryStore(), sources, executor=executor).run_once()
    assert statuses[key("a")].ready
    assert statuses[key("leaving")].message == "worker failed (WorkerLost): the executor failed: SystemExit: 3"


@attrs.frozen
class DieOnce:
    """Ends the process that it is called in, as the kernel's out-of-memory killer does; once, by a mark in a file."""

    mark: str

    def __call__(self, operation):
        if not os.path.exists(self.mark):
            with open(self.mark, "w"):
                os._exit(9)


def test_killed_workers_are_replaced(tmp_path):
    """All that was under way there is tried again, on new workers."""
    store = LocalStore(tmp_path / "store", durable=False)
    killer = Scripted(DieOnce(str(tmp_path / "mark")))
    sources = [managed("killer", killer), *(managed(f"s{n}", files(str(n))) for n in range(4))]
    made = []

    def make():
        made.append(concurrent.futures.ProcessPoolExecutor(2, mp_context=FORK))
        return made[-1]

    with Reconciler(store, sources, executor=make, policy=FAST) as reconciler:
        assert reconciler.wait(all_ready, timeout=60), {k: s.message for k, s in reconciler.statuses.items()}
    assert len(made) >= 2


def test_memory_of_many_looks_stays_flat():
    """Nothing is kept of a look but its status."""
    reconciler = Reconciler(MemoryStore(), [managed(f"s{n}", files(str(n))) for n in range(20)])
    for _ in range(5):
        reconciler.run_once()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(20):
        reconciler.run_once()
    gc.collect()
    assert len(gc.get_objects()) - before < 300


# --- the ledger, between its threads ---


def ledger(now=lambda: NOW):
    """One that knows what `a` has."""
    artifact = files("a").produce_artifact(MemoryStore(), name="a")
    known = SourceStatus(key=key("a")).succeeded(artifact, 1, NOW)
    return Ledger(now, None, None, known=[known])


def test_who_looks_while_sources_are_applied_finds_all_that_was_known():
    """Some look without the lock: what is not there would be a source that nobody knows, and its status would begin anew."""
    found, kept = [], ledger()

    def sources():
        found.append(kept.artifact(key("a")))
        yield managed("a", files("a"))
        found.append(kept.artifact(key("a")))

    kept.apply(sources())
    assert all(found)
    assert len(found) == 2


def test_who_is_suspended_while_a_look_ends_stays_so():
    """The status of a look that ends is made out of what was known before."""
    source = managed("a", files("a"))

    def now():
        kept.apply([attrs.evolve(source, suspend=True)])
        return NOW

    kept = ledger(now)
    kept.ended(source, Outcome(key=source.key, failure=Failure.worker("gone")), None)
    status = kept.statuses[key("a")]
    assert status.failures
    assert status.suspended

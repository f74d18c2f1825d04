"""How sources are doing, kept in the store: what is written, what is read back, and what is made of damage."""

import datetime as dt
import logging

import attrs
import pytest

from fluxsrc.artifact import SourceKey
from fluxsrc.errors import StoreError
from fluxsrc.events import Failure, Recovered, Stage
from fluxsrc.managed import ManagedSource
from fluxsrc.memory import MemorySource
from fluxsrc.reconcile import Reconciler, SavedStatuses
from fluxsrc.status import SourceStatus
from fluxsrc.stores import LocalStore

T0 = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
KEY = SourceKey("memory", "default", "app")


def read(store, key=KEY):
    """What another process is told."""
    [status] = SavedStatuses(store).load([key])
    return status


@pytest.mark.parametrize("stage", list(Stage))
def test_every_failure_comes_back_and_its_first_line_says_what_failed(store, stage):
    """With its hint and its patience; a store that nothing was put into yet has room for it."""
    failure = Failure(
        stage=stage,
        reason="Broken",
        message="it broke\nbadly",
        hint="mend it",
        retryable=True,
        retry_after=5.0,
        url="u",
    )
    status = SourceStatus(key=KEY).failed(failure, 3, T0)
    SavedStatuses(store).save(status)
    found = read(store)
    assert found == status
    assert found.message.splitlines()[0] == f"{stage} failed (Broken): it broke"


def test_the_next_process_goes_on_from_there(store):
    """Since when it is Ready stays what it was, and the artifact is the store's."""
    source = MemorySource({"app.yaml": "v1"})
    managed = ManagedSource(name="app", source=source)
    for later in range(2):
        saved = SavedStatuses(store)
        now = T0 + dt.timedelta(hours=later)
        reconciler = Reconciler(
            store, [managed], on_status=saved.save, known=saved.load([KEY]), now=lambda now=now: now
        )
        assert reconciler.run_once()[KEY].ready
    found = read(store)
    assert (found.conditions["Ready"].since, found.checked) == (T0, T0 + dt.timedelta(hours=1))
    assert found.artifact == store.lookup(KEY)


def test_what_is_not_looked_at_any_more_is_forgotten(store):
    """Whether it is taken away while the reconciler runs, or before the next one starts; artifacts and others' remarks stay."""
    others = SavedStatuses(store, owner="others")
    others.save(SourceStatus(key=SourceKey("memory", "default", "theirs")).failed(Failure.worker("gone"), 1, T0))
    a, b, c = (ManagedSource(name=name, source=MemorySource({"app.yaml": name})) for name in "abc")

    def reconciler(*sources):
        saved = SavedStatuses(store)
        known = saved.load({each.key for each in sources} | set(saved.kept()))
        return Reconciler(store, sources, on_status=saved.save, on_removed=saved.forget, known=known)

    reconciler(a, b, c).run_once()
    assert [key.name for key in store.statuses()] == ["a", "b", "c", "theirs"]
    running = reconciler(b, c)
    running.run_once()
    assert [key.name for key in store.statuses()] == ["b", "c", "theirs"]
    with running:
        running.apply([c])
    assert [key.name for key in store.statuses()] == ["c", "theirs"]
    reconciler().run_once()
    assert [key.name for key in store.statuses()] == ["theirs"]
    assert store.lookup(a.key) is not None


def test_a_source_that_comes_back_before_its_going_is_told_stays(store):
    """Only what is gone in the end is forgotten."""
    managed = ManagedSource(name="app", source=MemorySource({"app.yaml": "v1"}))
    removed = []
    reconciler = Reconciler(store, [managed], on_removed=removed.append)
    reconciler.apply([])
    reconciler.apply([managed])
    assert reconciler.run_once()[KEY].ready
    assert removed == []


def test_a_status_that_cannot_be_removed_stops_nothing(store, monkeypatch, caplog):
    """It is logged, and shown a little longer."""
    saved = SavedStatuses(store)
    saved.save(SourceStatus(key=KEY).failed(Failure.worker("gone"), 1, T0))

    def full(*_):
        raise StoreError("cannot remove: read-only file system")

    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING, "fluxsrc.reconcile"):
        broken.setattr(LocalStore, "forget_status", full)
        saved.forget(KEY)
    assert "the status of memory/default/app stays" in caplog.text
    saved.forget(KEY)
    assert list(store.statuses()) == []


def test_failures_in_a_row_are_counted_across_processes(store):
    """Each look by a process of its own, as cron has them."""

    @attrs.frozen
    class Broken(MemorySource):
        def resolve_revision(self, *, operation=None):
            raise StoreError("the disk is full")

    for _ in range(3):
        saved = SavedStatuses(store)
        managed = ManagedSource(name="app", source=Broken({}))
        Reconciler(store, [managed], on_status=saved.save, known=saved.load([KEY])).run_once()
    found = read(store)
    assert (found.failures, found.failure.stage) == (3, Stage.STORAGE)
    told = []
    managed = ManagedSource(name="app", source=MemorySource({}))
    Reconciler(store, [managed], on_event=told.append, known=SavedStatuses(store).load([KEY])).run_once()
    assert [event.failures for event in told if isinstance(event, Recovered)] == [3]


def test_a_look_that_begins_is_not_worth_a_file_and_one_that_ends_is(store):
    """So a source whose revision does not change costs one small file for each look."""
    saved = SavedStatuses(store)
    status = SourceStatus(key=KEY).failed(Failure.worker("gone"), 1, T0)
    saved.save(status)
    written = store.status(KEY)
    for generation in (1, 2):
        saved.save(status.started(generation, T0 + dt.timedelta(minutes=1)))
    assert store.status(KEY) == written
    saved.save(attrs.evolve(status, checked=T0 + dt.timedelta(minutes=2)))
    assert store.status(KEY) != written


def test_what_cannot_be_kept_is_logged_and_stops_nothing(store, monkeypatch, caplog):
    """The next look tries again."""
    saved = SavedStatuses(store)
    status = SourceStatus(key=KEY).failed(Failure.worker("gone"), 1, T0)

    def full(*_):
        raise StoreError("cannot write: no space left")

    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING, "fluxsrc.reconcile"):
        broken.setattr(LocalStore, "write_status", full)
        saved.save(status)
    assert "the status of memory/default/app is not kept" in caplog.text
    saved.save(status)
    assert read(store) == status


@pytest.mark.parametrize(
    "change",
    [
        {"failure": {"stage": "weather"}},
        {"failure": {"stage": "fetch", "other": 1}},
        {"failures": "many"},
        {"checked": "yesterday"},
        {"status": None},
    ],
)
def test_what_nobody_of_us_wrote_is_none(store, change):
    SavedStatuses(store).save(SourceStatus(key=KEY).failed(Failure.worker("gone"), 1, T0))
    store.write_status(KEY, dict(store.status(KEY)) | change)
    assert SavedStatuses(store).load([KEY]) == []


def test_a_status_is_listed_also_without_an_artifact_until_it_is_forgotten(store):
    """Whatever the length of the name; a store that is verified knows the files."""
    long = SourceKey("memory", "default", "a" * 253)
    for key in (KEY, long):
        store.write_status(key, {"any": "thing"})
    store.path.joinpath("status/stranger").write_text("")
    assert list(store.statuses()) == [long, KEY]
    assert list(store.sources()) == []
    assert store.verify().unknown == ("status/stranger",)
    assert not store.forget(long)
    assert list(store.statuses()) == [KEY]
    assert store.status(long) is None

"""The reconciler's own threads: one for what is quick, as many as there is work for what waits, and none that a process stays for."""

import collections
import gc
import threading
import weakref

import pytest

from fluxsrc.reconcile.crew import Crew
from helpers.waiting import wait_until


class Work(collections.deque):
    """What a crew takes, piece by piece."""

    def take(self):
        try:
            return self.popleft()
        except IndexError:
            return None


@pytest.fixture
def crew_of():
    """Make a crew for some work; it ends with the test."""
    crews = []

    def make(work):
        crews.append(Crew("t", work.take))
        return crews[-1]

    yield make
    for crew in crews:
        crew.close(wait=True)


@pytest.fixture
def all_is_quick(monkeypatch):
    """However slow the machine is."""
    monkeypatch.setattr(Crew, "quick", 3600)


@pytest.fixture
def all_is_slow(monkeypatch):
    monkeypatch.setattr(Crew, "quick", 0)


def name():
    return threading.current_thread().name


def test_whoever_is_called_does_all_there_is(crew_of):
    """And is called again when there is more."""
    done = []
    work = Work([lambda: done.append(name())] * 100)
    crew = crew_of(work)
    for total in (100, 200):
        crew.call()
        wait_until(lambda total=total: len(done) == total and not crew.at_work)
        work.extend([lambda: done.append(name())] * 100)
    assert set(done) == {"t-0"}


def test_nobody_helps_whoever_is_quick(crew_of, all_is_quick):
    """Two that are at work become one as soon as both came back; nobody is added while that one comes back."""
    gate, done = threading.Semaphore(0), []

    class Endless:
        def take(self):
            return None if len(done) >= 1000 else self.work

        def work(self):
            gate.acquire(timeout=60)
            done.append(name())

    crew = crew_of(Endless())
    crew.call()
    crew.call()  # none came back yet
    assert crew.at_work == 2
    wait_until(lambda: gate.release() or crew.at_work == 1)  # until both came back
    until_now = len(done)
    gate.release()
    wait_until(lambda: len(done) > until_now)
    crew.call()
    assert crew.at_work == 1
    gate.release(1000)
    wait_until(lambda: not crew.at_work)
    assert len(set(done[until_now:])) == 1


def test_whoever_waits_goes_on_beside_the_others(crew_of, all_is_slow):
    """Each round needs two, and there are as many rounds as are needed to see that both stay."""
    together = threading.Barrier(2, timeout=60)
    crew = crew_of(Work([together.wait] * 40))
    crew.call()
    crew.call()
    wait_until(lambda: not crew.at_work)
    assert not together.broken


def test_what_waits_for_each_other_is_soon_side_by_side(crew_of):
    """As many more as are at work take part with each call: twenty after six of them."""
    together, passed = threading.Barrier(20, timeout=60), []
    work = Work([lambda: passed.append(together.wait())] * 20)
    crew = crew_of(work)
    for _ in range(6):
        crew.call()
    wait_until(lambda: len(passed) == 20)
    assert sorted(passed) == list(range(20))


def test_nobody_waits_for_what_hangs(crew_of):
    """It has a thread of its own until it ends; together they end once they can."""
    release, done = threading.Event(), []
    work = Work([lambda: release.wait(60)] * 10)
    crew = crew_of(work)
    while work:
        crew.call()
    work.append(lambda: done.append(1))
    crew.call()
    wait_until(lambda: done == [1])
    assert crew.at_work >= 10
    release.set()
    wait_until(lambda: not crew.at_work)


def test_the_end_waits_for_what_is_begun_and_begins_nothing(crew_of):
    """What was not taken stays where it is."""
    began, release, done = threading.Event(), threading.Event(), []

    def first():
        began.set()
        release.wait(60)
        done.append(1)

    work = Work([first, lambda: done.append(2)])
    crew = crew_of(work)
    crew.call()
    assert began.wait(60)
    crew.close(wait=False)
    release.set()
    crew.close(wait=True)
    assert (done, len(work)) == ([1], 1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("t-")]


def test_what_is_done_is_not_kept(crew_of):
    """A thread that rests holds nothing of what it did."""

    class Large:
        def __call__(self):
            pass

    large = Large()
    kept = weakref.ref(large)
    crew = crew_of(Work([large]))
    del large
    crew.call()
    wait_until(lambda: not crew.at_work)
    gc.collect()
    assert kept() is None


def test_where_no_thread_can_be_had_those_at_work_go_on(crew_of, monkeypatch):
    """Only if there is none at all, that is an error."""

    def refuse(_):
        raise RuntimeError("can't start new thread")

    began, release = threading.Event(), threading.Event()
    busy, idle = crew_of(Work([lambda: began.set() or release.wait(60)])), crew_of(Work())
    busy.call()
    assert began.wait(60)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    busy.call()
    assert busy.at_work == 1
    with pytest.raises(RuntimeError, match="new thread"):
        idle.call()
    release.set()

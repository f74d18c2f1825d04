"""The reconciler's own threads: as many as there is work, and no reason for a process to stay."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from fluxsrc.reconcile.threads import Threads


def test_what_is_done_comes_back_and_what_fails_is_raised():
    """As of any executor."""
    with Threads("t") as threads:
        assert threads.submit(divmod, 7, 2).result(10) == (3, 1)
        assert isinstance(threads.submit(divmod, 7, 0).exception(10), ZeroDivisionError)
        assert list(threads.map(abs, [-1, 2, -3])) == [1, 2, 3]


def test_an_idle_thread_is_used_again():
    """Also by whoever submits the next at the very moment that one is done."""
    names = set()
    with Threads("t") as threads:
        for _ in range(200):
            names.add(threads.submit(lambda: threading.current_thread().name).result(10))
    assert names == {"t-0"}


def test_nobody_waits_for_what_hangs():
    """Each has a thread of its own; together they end once they can."""
    release = threading.Event()
    with Threads("t") as threads:
        hanging = [threads.submit(release.wait, 60) for _ in range(50)]
        assert threads.submit(abs, -1).result(10) == 1
        assert not any(each.done() for each in hanging)
        release.set()
    assert all(each.result(0) for each in hanging)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("t-")]


def test_after_the_end_nothing_is_begun():
    """Ending twice is ending once; what is cancelled before it begins is not done."""
    threads = Threads("t")
    threads.submit(abs, -1).result(10)
    threads.shutdown()
    threads.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        threads.submit(abs, -1)


def test_what_is_done_is_not_kept():
    """A thread that has nothing to do holds neither arguments nor results."""

    class Large:
        pass

    large = Large()
    kept = weakref.ref(large)
    with Threads("t") as threads:
        threads.submit(lambda value: value, large).result(10)
        threads.submit(abs, -1).result(10)  # the same thread: it has let go of the first by now
        del large
        gc.collect()
        assert kept() is None


def test_what_waits_for_each_other_is_side_by_side():
    """However few threads short work needs, work that takes long gets as many as there is of it."""
    gate = threading.Barrier(20)
    with Threads("t") as threads:
        list(threads.map(abs, range(50)))
        assert sorted(threads.map(lambda number: (gate.wait(60), number)[1], range(20))) == list(range(20))


def test_nothing_that_was_submitted_is_forgotten():
    """By many, in bursts, while threads become free and are needed again."""
    with Threads("t") as threads:

        def burst(start):
            return [
                future.result(60) for future in [threads.submit(abs, -number) for number in range(start, start + 50)]
            ]

        with ThreadPoolExecutor(4) as submitters:
            found = [number for numbers in submitters.map(burst, range(0, 2000, 50)) for number in numbers]
    assert found == list(range(2000))


def test_what_was_submitted_before_the_end_is_done():
    """Ending waits for it."""
    with Threads("t") as threads:
        futures = [threads.submit(abs, -number) for number in range(100)]
    assert [future.result(0) for future in futures] == list(range(100))

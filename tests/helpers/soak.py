"""Hundreds of sources, and a world that breaks under them: what both soak tests do, the short one and the long one."""

import collections
import concurrent.futures
import contextlib
import gc
import gzip
import io
import multiprocessing
import multiprocessing.resource_tracker
import os
import random
import signal
import tarfile
import threading
import time
from pathlib import Path

import attrs

from fluxsrc._io.http.resting import RESTING
from fluxsrc.artifact import SourceKey
from fluxsrc.bucket import BucketSource, LocalBucket
from fluxsrc.errors import StoreError
from fluxsrc.events import FetchFailed
from fluxsrc.managed import ManagedSource
from fluxsrc.memory import MemorySource
from fluxsrc.oci import OCISource, TokenCache
from fluxsrc.reconcile import Policy, Reconciler, Retention
from fluxsrc.stores import LocalStore, MemoryStore
from fluxsrc.testing.registry import Fault, Registry
from helpers.waiting import wait_until

LAYER = "application/vnd.cncf.flux.content.v1.tar+gzip"
PATIENCE = Policy(concurrency=8, min_delay=0.05, slow_delay=0.1, max_delay=0.5, grace=5.0)


def archive(text):
    """A layer with one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("app.yaml")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text.encode()))
    return gzip.compress(out.getvalue(), mtime=0)


class BrokenRegistry(Registry):
    """Fails one request in so many, in every way there is."""

    def __init__(self, dice):
        super().__init__()
        self.requests = collections.deque(maxlen=100)
        self.dice = dice
        self.share = 0.0
        self.hit = collections.Counter()

    def take_fault(self, line):
        if self.dice.random() >= self.share:
            return None
        name, fault = self.dice.choice(
            [
                ("500", Fault("", status=500)),
                ("502", Fault("", status=502)),
                ("rate limit", Fault("", status=429, headers={"Retry-After": "0"})),
                ("lost", Fault("", status=404)),
                ("cut", Fault("", cut_after=20)),
                ("corrupt", Fault("", corrupt=True)),
                *[("reset", Fault("", cut_after=0))] * 10,
                ("hang", None),
            ]
        )
        self.hit[name] += 1
        if fault is None:
            time.sleep(TIMEOUT + 0.2)  # longer than the sources' timeout
        return fault


@attrs.frozen
class FullDisk(LocalStore):
    """A store whose disk is full now and then: before anything is written, and after all of it was."""

    trouble: object = attrs.field(default=lambda: False, kw_only=True, eq=False, repr=False)

    def ingest(self):
        if self.trouble():
            raise StoreError("cannot write a blob: No space left on device", path=str(self.path))
        return LocalStore.ingest(self)

    def put(self, artifact, ingest=None, /, *, index=None):
        if self.trouble():
            raise StoreError("cannot write a record: No space left on device", path=str(self.path))
        return LocalStore.put(self, artifact, ingest, index=index)


@attrs.define
class Soak:
    """One soak.

    Attributes:
        root: A directory of its own.
        sources: How many; nine of ten from a registry, the others from buckets on disk.
        looks: How many looks at sources the trouble lasts.
        reasons_to_see: And until sources have failed for each of these reasons: chance decides which requests break.
        recoveries_to_see: And until sources were well again as often as this.
        processes: Let processes do the work, and kill them.
    """

    root: Path
    sources: int
    looks: int
    reasons_to_see: frozenset[str] = frozenset()
    recoveries_to_see: int = 0
    processes: bool = False
    dice: random.Random = attrs.field(factory=lambda: random.Random(20260102))
    texts: dict = attrs.field(factory=dict)
    events: collections.Counter = attrs.field(factory=collections.Counter)
    reasons: collections.Counter = attrs.field(factory=collections.Counter)
    memory: list = attrs.field(factory=list)
    broken_disk: float = 0.0
    kills: int = 0
    pools: list = attrs.field(factory=list)

    def run(self):
        """All of it; raises what does not hold in the end. Returns the final statuses."""
        (self.root / "tmp").mkdir(parents=True)
        if self.processes:
            multiprocessing.resource_tracker.ensure_running()  # Python's own, and for as long as Python
        before = resources()
        with BrokenRegistry(self.dice) as registry:
            managed = [self.make(registry, number) for number in range(self.sources)]
            store = (
                LocalStore(self.root / "store", durable=False)
                if self.processes
                else FullDisk(self.root / "store", durable=False, trouble=lambda: self.dice.random() < self.broken_disk)
            )
            reconciler = Reconciler(
                store,
                managed,
                policy=PATIENCE,
                executor=self.make_pool if self.processes else None,
                on_event=self.note,
                retention=Retention(records=1, ttl=0, grace=60, every=3.0),
                dice=self.dice.random,
            )
            with reconciler:
                # 1. A quiet beginning.
                self.settle(reconciler)
                # 2. Trouble, while the tags move.
                registry.share, self.broken_disk = 0.15, 0.05
                end = self.events["Reconciled"] + self.looks
                sample = self.looks // 10
                while self.events["Reconciled"] < end or not self.has_seen_enough():
                    self.move(registry)
                    self.kill()
                    time.sleep(0.02)
                    if len(self.memory) <= (self.events["Reconciled"] - end + self.looks) // sample:
                        self.memory.append(resident())
                # 3. Peace. Everything must find its way.
                registry.share = self.broken_disk = 0.0
                self.settle(reconciler)
                statuses = reconciler.statuses
            if self.processes:
                time.sleep(0.1)  # the collector spares what is as young as its own first step
                store.gc(grace=0)  # who is killed cannot clean up; that is what the collector is for
            report = store.verify()
            assert report.clean, report.problems
            assert report.leftovers == (), "something stayed in the store"
            self.check_contents(store)
            del reconciler
            self.pools = [None for _ in self.pools]  # what the test holds is no leak
        assert os.listdir(self.root / "tmp") == [], "a temporary file stayed"
        wait_until(lambda: all(now <= then for now, then in zip(resources(), before, strict=True)))  # nothing stays
        return statuses

    def has_seen_enough(self):
        return self.reasons_to_see <= set(self.reasons) and self.events["Recovered"] >= self.recoveries_to_see

    def settle(self, reconciler):
        """Until everything is right; at a time that only a hang would need, it is wrong."""
        for _ in range(900):
            statuses = reconciler.statuses
            if self.all_right(statuses):
                return
            time.sleep(0.1)
        raise AssertionError(self.wrong(statuses))

    def make(self, registry, number):
        """A source, and its first content."""
        self.write(registry, number, 0)
        if number % 10 == 9:
            source = BucketSource(LocalBucket(self.root / "buckets" / str(number)), timeout=TIMEOUT)
        else:
            source = OCISource(
                f"oci://{registry.host}/team/app{number}",
                tag="prod",
                insecure=True,
                timeout=TIMEOUT,
                tokens=TOKENS,
            )
        return ManagedSource(name=f"app{number}", source=source, interval=4.0)

    def write(self, registry, number, generation):
        text = f"app {number} generation {generation}\n"
        if number % 10 == 9:
            path = self.root / "buckets" / str(number) / "app.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(".new").write_text(text)
            path.with_name(".new").replace(path)
        else:
            repository = registry.repository(f"team/app{number}")
            old = list(repository.blobs), list(repository.manifests)
            registry.put(f"team/app{number}", "prod", layers=[(LAYER, archive(text))])
            if generation > 1:  # the registry lives in this process: what it keeps would look like our leak
                self.forget(repository, *old)
        self.texts[number] = (text, generation)

    def forget(self, repository, blobs, manifests):
        """All but the newest two of a repository, as a registry's own collector would."""
        for digest in blobs[:-4]:
            repository.blobs.pop(digest, None)
        for digest in manifests[:-2]:
            repository.manifests.pop(digest, None)

    def move(self, registry):
        number = self.dice.randrange(self.sources)
        self.write(registry, number, self.texts[number][1] + 1)

    def note(self, event):
        self.events[type(event).__name__] += 1
        if isinstance(event, FetchFailed):
            self.reasons[event.failure.reason] += 1

    def all_right(self, statuses):
        """Every source ready, and at what it points at now: at the right content."""
        return all(
            status.ready and status.artifact is not None and status.artifact.content_digest.hex == self.expected(key)
            for key, status in statuses.items()
        )

    def wrong(self, statuses):
        return {str(key): status.message for key, status in statuses.items() if not self.all_right({key: status})}

    def expected(self, key):
        text = self.texts[int(key.name.removeprefix("app"))][0]
        if text not in DIGESTS:
            DIGESTS[text] = canonical(text)
        return DIGESTS[text]

    def check_contents(self, store):
        for number, (text, _) in self.texts.items():
            kind = "bucket" if number % 10 == 9 else "ocirepository"
            artifact = store.lookup(SourceKey(kind, "default", f"app{number}"))
            with store.open(artifact) as stream, tarfile.open(fileobj=stream) as tar:
                assert tar.extractfile("app.yaml").read().decode() == text

    # --- workers ---

    def make_pool(self):
        pool = concurrent.futures.ProcessPoolExecutor(
            PATIENCE.concurrency // 2, mp_context=multiprocessing.get_context("spawn")
        )
        # All of them at once: while a pool still grows, Python 3.11 may miss that one of its workers died (the thread that
        # watches them iterates over a dict that `submit` adds to).
        for _ in range(PATIENCE.concurrency // 2):
            pool.submit(time.sleep, 0.2)
        self.pools.append(pool)
        return pool

    def kill(self):
        """A worker, now and then, as the kernel does when memory is short."""
        if self.processes and self.dice.random() < 0.01 and self.pools:
            for process in list((self.pools[-1]._processes or {}).values())[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
                    self.kills += 1


TIMEOUT = 3.0
TOKENS = TokenCache()
DIGESTS = {}


def canonical(text):
    """The content digest of one file, by the shortest way there is."""
    artifact = MemorySource({"app.yaml": text}).produce_artifact(MemoryStore())
    return artifact.content_digest.hex


def resources():
    """Threads and descriptors, once they stay the same for a moment."""
    RESTING.close()  # connections that rest are no leak: they are lent again, and have a bound
    found = (10**9, 10**9)
    for _ in range(100):
        gc.collect()
        now = (len(threading.enumerate()), len(os.listdir("/proc/self/fd")))
        if now == found:
            break
        found = now
        time.sleep(0.05)
    return found


def resident():
    """Bytes of memory in use."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

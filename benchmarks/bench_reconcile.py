"""What it costs to look at a thousand sources that did not change, beside their single requests.

`benchmarks/bench_reconcile.py [SOURCES [ROUNDS]]` reconciles as many OCI sources on loopback, each of which takes one HEAD, and
makes the HEADs alone: the same requests by the same sources' `resolve_revision`, without reconciler and store, one after
another and in as many threads as the reconciler may use. All in one process, in turns; the registry is a process of its own.
Reports the median of the rounds: sources per second, and per second of this process's processor time, which is what one
core does.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _common import last_json, machine, measure, table

from fluxsrc.managed import ManagedSource
from fluxsrc.oci import OCISource, TokenCache
from fluxsrc.reconcile import Policy, Reconciler
from fluxsrc.stores import LocalStore

_SERVER = """
import gzip, io, sys, tarfile, threading
from fluxsrc.testing.registry import Registry
out = io.BytesIO()
with tarfile.open(fileobj=out, mode="w") as tar:
    tar.addfile(tarfile.TarInfo("app.yaml"))
layer = gzip.compress(out.getvalue(), mtime=0)
with Registry() as registry:
    for number in range(int(sys.argv[1])):
        registry.put(f"team/app{number}", "prod", layers=[("application/vnd.cncf.flux.content.v1.tar+gzip", layer)])
    print(registry.host, flush=True)
    sys.stdin.read()
"""

_WORK = """
import sys
sys.path.insert(0, "benchmarks")
from bench_reconcile import work
work(int(sys.argv[1]), int(sys.argv[2]))
"""

CONCURRENCY = 8
ROUNDS = 5


def work(count: int, rounds: int) -> None:
    """The measured process; prints a JSON line: seconds and processor seconds of each round, by what was done."""
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        host = server.stdout.readline().strip()
        tokens = TokenCache()
        sources = [
            OCISource(f"oci://{host}/team/app{number}", tag="prod", insecure=True, tokens=tokens)
            for number in range(count)
        ]
        with tempfile.TemporaryDirectory() as directory:
            store = LocalStore(Path(directory) / "store", durable=False)
            managed = [ManagedSource(name=f"app{number}", source=source) for number, source in enumerate(sources)]
            reconciler = Reconciler(store, managed, policy=Policy(concurrency=CONCURRENCY))
            reconciler.run_once()  # everything is new once

            def alone() -> None:
                for source in sources:
                    source.resolve_revision()

            def threads() -> None:
                with ThreadPoolExecutor(CONCURRENCY) as pool:
                    list(pool.map(lambda source: source.resolve_revision(), sources))

            def reconcile() -> None:
                assert all(status.ready for status in reconciler.run_once().values())

            ways = {"alone": alone, "threads": threads, "reconcile": reconcile}
            taken = {name: [] for name in ways}
            for _ in range(rounds):
                for name, way in ways.items():
                    start, cpu = time.perf_counter(), time.process_time()
                    way()
                    taken[name].append((time.perf_counter() - start, time.process_time() - cpu))
        print(json.dumps(taken))
    finally:
        server.stdin.close()
        server.wait()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    print(machine())
    measured = measure([sys.executable, "-c", _WORK, str(count), str(rounds)], runs=1)
    taken = last_json(measured.output)
    cpu = {name: statistics.median(cpu for _, cpu in each) for name, each in taken.items()}
    rows = []
    for name, what in (
        ("alone", "a HEAD for each, one after another"),
        ("threads", f"a HEAD for each, in {CONCURRENCY} threads"),
        ("reconcile", f"reconcile, {CONCURRENCY} at a time"),
    ):
        wall = statistics.median(wall for wall, _ in taken[name])
        rows.append(
            (
                what,
                f"{wall:.2f} s",
                f"{count / wall:,.0f}",
                f"{count / cpu[name]:,.0f}",
                f"{cpu[name] / count * 1e6:,.0f} µs",
                f"{cpu[name] / cpu['alone']:.2f}",
                f"{cpu[name] / cpu['threads']:.2f}",
            )
        )
    head = (
        f"{count:,} unchanged sources",
        "wall",
        "sources/s",
        "sources/s per core",
        "cpu each",
        "cpu / one after another",
        "cpu / in threads",
    )
    print(table(head, rows))
    print(f"Median of {rounds} rounds in one process, peak {measured.peak >> 20} MiB.")


if __name__ == "__main__":
    main()

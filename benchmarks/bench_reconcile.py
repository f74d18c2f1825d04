"""What it costs to look at a thousand sources that did not change, beyond their single requests.

`benchmarks/bench_reconcile.py [SOURCES]` reconciles as many OCI sources on loopback, each of which takes one HEAD, and
compares that with the HEADs alone: the same requests by the same sources' `resolve_revision`, without reconciler and store.
The registry is a process of its own. Reports sources per second, and per second of this process's processor time.
"""

import json
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
work(sys.argv[1], int(sys.argv[2]))
"""

CONCURRENCY = 8


def work(mode: str, count: int) -> None:
    """One measured process: `heads` or `reconcile`; prints a JSON line."""
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
            if mode == "reconcile":
                reconciler.run_once()  # everything is new once
            best = None
            for _ in range(3):
                start, cpu = time.perf_counter(), time.process_time()
                if mode == "reconcile":
                    statuses = reconciler.run_once()
                    assert all(status.ready for status in statuses.values())
                else:
                    with ThreadPoolExecutor(CONCURRENCY) as pool:
                        list(pool.map(lambda source: source.resolve_revision(), sources))
                taken = (time.perf_counter() - start, time.process_time() - cpu)
                best = taken if best is None else min(best, taken)
        print(json.dumps({"seconds": best[0], "cpu": best[1]}))
    finally:
        server.stdin.close()
        server.wait()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(machine())
    rows = []
    for mode, what in (("heads", "one HEAD for each, by resolve_revision"), ("reconcile", "reconcile, all unchanged")):
        measured = measure([sys.executable, "-c", _WORK, mode, str(count)], runs=1)
        found = last_json(measured.output)
        rows.append(
            (
                what,
                f"{found['seconds']:.2f} s",
                f"{count / found['seconds']:,.0f}",
                f"{count / found['cpu']:,.0f}",
                f"{found['cpu'] / count * 1e6:,.0f} µs",
                f"{measured.peak >> 20} MiB",
            )
        )
    head = (
        f"{count:,} sources, {CONCURRENCY} at a time",
        "wall",
        "sources/s",
        "sources/s per core",
        "cpu each",
        "peak",
    )
    print(table(head, rows))


if __name__ == "__main__":
    main()

"""`put`, `lookup`, `flush` and `gc` of a `LocalStore` that already holds 10, 1,000 and 10,000 sources.

Run: python benchmarks/bench_store.py [--sizes 10,1000,10000] [--json FILE]

The blobs are small on purpose: what is measured is what the store adds to writing bytes. `put` and `lookup` must not
depend on the number of sources; `flush` and `gc` look at all of them, and are called once in a while.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import attrs

from fluxsrc.artifact import SourceKey
from fluxsrc.stores import LocalStore
from fluxsrc.testing.store_contract import make_artifact

ROUNDS = 100


@contextmanager
def syncs_counted():
    """How often the disk is made to wait."""
    count = [0]
    real = os.fsync

    def fsync(descriptor):
        count[0] += 1
        real(descriptor)

    os.fsync = fsync
    try:
        yield count
    finally:
        os.fsync = real


def key(number):
    return SourceKey("gitrepository", f"team-{number % 50}", f"app-{number}")


def put(store, artifact, blob):
    with store.ingest() as ingest:
        ingest.write(blob)
        return store.put(artifact, ingest)


def timed(action):
    """Seconds by the wall's clock, and the result."""
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def sampled(row, name, actions):
    """Medians of the wall's clock and of the processor's, which tells less about the neighbours."""
    wall, processor = [], []
    for action in actions:
        start = time.process_time()
        wall.append(timed(action)[0])
        processor.append(time.process_time() - start)
    row[f"{name}_ms"] = statistics.median(wall) * 1e3
    row[f"{name}_cpu_ms"] = statistics.median(processor) * 1e3


def measure(size, directory):
    fast = LocalStore(directory / str(size), durable=False)
    for number in range(size):
        put(fast, *make_artifact(f"content {number}", key=key(number)))
    first_flush, _ = timed(fast.flush)
    durable = attrs.evolve(fast, durable=True)
    numbers = [size * i // ROUNDS if size >= ROUNDS else i % size for i in range(ROUNDS)]

    def puts(store, label):
        jobs = [(store, *make_artifact(f"{label} {i}", key=key(number))) for i, number in enumerate(numbers)]
        return [lambda job=job: put(*job) for job in jobs]

    row = {"sources": size}
    with syncs_counted() as count:
        sampled(row, "put_durable", puts(durable, "durable"))
        row["put_durable_fsyncs"] = count[0] / ROUNDS
    sampled(row, "put", puts(fast, "fast"))
    sampled(row, "put_unchanged", [lambda n=n: fast.put(fast.lookup(key(n))) for n in numbers])
    sampled(row, "lookup", [lambda n=n: fast.lookup(key(n)) for n in numbers])
    row["flush_ms"] = timed(fast.flush)[0] * 1e3
    row["flush_clean_ms"] = timed(fast.flush)[0] * 1e3
    row["first_flush_ms"] = first_flush * 1e3
    row["retain_ms"] = timed(lambda: fast.retain(records=1))[0] * 1e3
    gc_start = time.process_time()
    gc_seconds, report = timed(lambda: fast.gc(grace=-60))
    row["gc_ms"] = gc_seconds * 1e3
    row["gc_cpu_ms"] = (time.process_time() - gc_start) * 1e3
    row["gc_swept"] = report.blobs
    row["gc_nothing_ms"] = timed(lambda: fast.gc(grace=-60))[0] * 1e3
    verify_seconds, checked = timed(fast.verify)
    assert checked.clean
    row["verify_ms"] = verify_seconds * 1e3
    row["index_json_kib"] = (fast.path / "index.json").stat().st_size / 1024
    return row


def long_history(directory, length=100):
    """What a full history costs the source that has it."""
    store = LocalStore(directory / "history", durable=False, max_records=length)
    for number in range(2 * length):
        put(store, *make_artifact(f"content {number}"))
    artifact, _ = make_artifact()
    jobs = [make_artifact(f"more {number}") for number in range(ROUNDS)]
    row = {"records": length, "record_kib": next(store.path.glob("sources/*/*/*.json")).stat().st_size / 1024}
    sampled(row, "put", [lambda job=job: put(store, *job) for job in jobs])
    sampled(row, "lookup", [lambda: store.lookup(artifact.key)] * ROUNDS)
    return row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default="10,1000,10000")
    parser.add_argument("--directory", type=Path, help="where the stores go; a temporary directory if not given")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(dir=arguments.directory))
    try:
        rows = [measure(int(size), directory) for size in arguments.sizes.split(",")]
        history = long_history(directory)
    finally:
        shutil.rmtree(directory)
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {ROUNDS} rounds, medians in milliseconds\n")
    for name in rows[0]:
        print(f"{name:>20}" + "".join(f"{row[name]:>14,.3f}" for row in rows))
    print(
        f"\n{history['records']} records and 200 observations in one history ({history['record_kib']:.0f} KiB): ",
        end="",
    )
    print(f"put {history['put_cpu_ms']:.3f} ms, lookup {history['lookup_cpu_ms']:.3f} ms of processor time")
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "history": history}, indent=2) + "\n")
    first, last = rows[0], rows[-1]
    flat = all(last[name] <= 2 * first[name] for name in ("put_cpu_ms", "lookup_cpu_ms"))
    print(f"put and lookup are {'flat' if flat else 'NOT flat'} from {first['sources']} to {last['sources']} sources")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())

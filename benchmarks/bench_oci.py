"""Pulling, listing and polling against Debian's `docker-registry` on loopback, beside crane, oras, skopeo and Flux.

Run: python benchmarks/bench_oci.py [--runs N] [--only a,b,c,d,e] [--json FILE]

(a) pull and extract 200 KB of manifests
(b) pull and extract a layer of about 1 GB, of random bytes and text
(c) list 500 tags with digest, source, revision and time, also with 5 ms on the way to the registry and back
(d) poll what did not change
(e) pull and extract 0.1 GB where each connection gets 20 MB/s and no more, as from many an object store

Every tool runs in a process of its own. A Python process takes 100 to 200 ms to start and Go's takes 10, so that for small
work the process says nothing about the library: "call" is the time inside of it, once it runs, where a tool tells; in (a)
and (d) fluxsrc's is that of a process that has done the same before, as a controller has. "CPU" is of the process and its
children, user and system.
All verify digests, except where Flux does not (see `explanation/oci`). crane, oras and skopeo hand the layer to GNU tar.

Needs docker-registry, skopeo, crane, oras and go: tests/servers/install-oci.sh.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from _common import MIB, REPOSITORY, flux_peer, last_json, machine, measure, python, scratch, table, tree

from fluxsrc.directory import DirectorySource
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access
from fluxsrc.oci.pushing import push

ACCESS = Access(insecure=True)
TAGS = 500

PULL = """
import json, shutil, sys, time
from pathlib import Path
from fluxsrc.oci import OCISource
source, out, warm = OCISource(f"oci://{sys.argv[1]}", insecure=True), Path(sys.argv[2]), int(sys.argv[3])
seconds = []
for _ in range(1 + warm):
    shutil.rmtree(out, ignore_errors=True)
    start = time.perf_counter()
    source.pull(out)
    seconds.append(time.perf_counter() - start)
print(json.dumps({"seconds": min(seconds[warm and 1:])}))
"""
LIST = """
import json, sys, time
from fluxsrc.oci import Access
from fluxsrc.oci.listing import list_tags
start = time.perf_counter()
found = list_tags(f"oci://{sys.argv[1]}", access=Access(insecure=True))
assert all(info.digest and info.source and info.revision for info in found)
print(json.dumps({"seconds": time.perf_counter() - start, "tags": len(found)}))
"""
POLL = """
import json, sys, time
from fluxsrc.oci import OCISource
from fluxsrc.stores import MemoryStore
source, store = OCISource(f"oci://{sys.argv[1]}", insecure=True), MemoryStore()
source.produce_artifact(store)
seconds, cpu = [], []
for _ in range(50):
    start, used = time.perf_counter(), time.process_time()
    source.produce_artifact(store)
    seconds.append(time.perf_counter() - start)
    cpu.append(time.process_time() - used)
print(json.dumps({"seconds": sorted(seconds)[25], "cpu": sorted(cpu)[25]}))
"""
# A wire that takes its time: what comes in goes out a little later, on the other side, and at no more than a rate.
WIRE = """
import contextlib, queue, socket, sys, threading, time
port, delay, rate = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
listener = socket.create_server(("127.0.0.1", 0), backlog=64)
print(listener.getsockname()[1], flush=True)
def received(sock):
    try:
        return sock.recv(65536)
    except OSError:
        return b""
def carry(a, b):
    sent = queue.SimpleQueue()
    def late():
        with contextlib.suppress(OSError):  # who has enough of it hangs up
            while (item := sent.get()) is not None:
                time.sleep(max(0, item[0] - time.monotonic()))
                b.sendall(item[1])
            b.shutdown(socket.SHUT_WR)
    threading.Thread(target=late, daemon=True).start()
    free = time.monotonic()
    while data := received(a):
        free = max(free, time.monotonic()) + len(data) / rate
        time.sleep(max(0, free - time.monotonic()))
        sent.put((time.monotonic() + delay, data))
    sent.put(None)
while True:
    near, _ = listener.accept()
    far = socket.create_connection(("127.0.0.1", port))
    for sock in (near, far):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=carry, args=(near, far), daemon=True).start()
    threading.Thread(target=carry, args=(far, near), daemon=True).start()
"""


def servers():
    sys.path.append(str(REPOSITORY / "tests"))
    from helpers import oci_servers

    return oci_servers


def manifests() -> Path:
    """200 KB of YAML in 60 files."""

    def write(root: Path) -> None:
        dice = random.Random(2)
        for number in range(60):
            path = root / f"app{number % 6}" / f"file{number}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(f"key{dice.randrange(1000)}: {dice.getrandbits(64):x}\n" for _ in range(135)))

    return tree("oci-manifests", write)


def large(files: int = 64) -> Path:
    """Three quarters random, one quarter text: 16 MiB a file."""

    def write(root: Path) -> None:
        dice = random.Random(1)
        for number in range(files):
            path = root / f"dir{number % 8}" / f"file{number}.bin"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(dice.randbytes(12 * MIB) + bytes(dice.choices(b"abcdefgh \n", k=MIB)) * 4)

    return tree(f"oci-large-{files}", write)


def publish_tags(host: str) -> None:
    def one(number: int) -> None:
        annotations = {
            "org.opencontainers.image.source": "https://example.com/repo",
            "org.opencontainers.image.revision": f"main@sha1:{number:040x}",
            "org.opencontainers.image.created": f"2026-01-01T{number // 60:02d}:{number % 60:02d}:00Z",
        }
        push(MemorySource({"a": "1"}), f"oci://{host}/bench/tags:1.0.{number}", access=ACCESS, annotations=annotations)

    one(0)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(1, TAGS)))


@contextmanager
def wire(host: str, *, delay: float = 0.0, rate: float = float("inf")):
    """Another way to the registry: `delay` seconds long, and `rate` bytes a second wide, per direction and connection."""
    command = python(WIRE, host.rpartition(":")[2], str(delay), str(rate))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def shell(line: str) -> list[str]:
    return ["bash", "-euo", "pipefail", "-c", line]


def pulls(reference: str, out: Path, tools: dict[str, str]) -> dict[str, list]:
    """The commands that pull and extract one layer, by tool."""
    name = reference.rpartition(":")[0]
    manifest = subprocess.run(
        [tools["crane"], "manifest", "--insecure", reference], capture_output=True, check=True
    ).stdout
    digest = json.loads(manifest)["layers"][0]["digest"]
    blob = out.with_name("layer")
    commands = {"fluxsrc": python(PULL, reference, out, "0")}
    if "flux" in tools:
        commands["Flux"] = [tools["flux"], "oci-pull", reference, out]
    commands["crane | tar"] = shell(f"{tools['crane']} blob --insecure {name}@{digest} | tar -xz -C {out}")
    commands["oras, tar"] = shell(
        f"{tools['oras']} blob fetch --plain-http {name}@{digest} --output {blob} && tar -xzf {blob} -C {out}"
    )
    commands["skopeo, tar"] = shell(
        f"{tools['skopeo']} copy -q --src-tls-verify=false docker://{reference} dir:{blob}.d && "
        f"tar -xzf {blob}.d/{digest.partition(':')[2]} -C {out}"
    )
    return commands


def bench_pull(title: str, reference: str, tools: dict[str, str], runs: int, *, warm: int = 0) -> list[list]:
    out = scratch() / "oci-out"

    def fresh() -> None:
        for path in (out, out.with_name("layer.d")):
            shutil.rmtree(path, ignore_errors=True)
        out.with_name("layer").unlink(missing_ok=True)
        out.mkdir()

    rows = []
    for name, command in pulls(reference, out, tools).items():
        found = measure(command, before=fresh, runs=runs)
        call = last_json(found.output).get("seconds") if name in ("fluxsrc", "Flux") else None
        if name == "fluxsrc" and warm:  # of a process that runs already, as a controller does
            again = measure([*command[:-1], str(warm)], before=fresh, runs=1)
            call = last_json(again.output)["seconds"]
        rows.append([title, name, *_shown(found.seconds, call, found.peak, found.cpu)])
        print(rows[-1], file=sys.stderr, flush=True)
    fresh()
    return rows


def bench_list(title: str, host: str, tools: dict[str, str], runs: int) -> list[list]:
    rows = []
    for name, command in {
        "fluxsrc": python(LIST, f"{host}/bench/tags"),
        **({"Flux": [tools["flux"], "oci-list", f"{host}/bench/tags"]} if "flux" in tools else {}),
    }.items():
        found = measure(command, runs=runs)
        rows.append([title, name, *_shown(found.seconds, last_json(found.output)["seconds"], found.peak, found.cpu)])
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def bench_poll(reference: str, tools: dict[str, str], runs: int) -> list[list]:
    found = measure(python(POLL, reference), runs=runs)
    answer = last_json(found.output)
    rows = [
        [
            "(d) unchanged poll",
            "fluxsrc, CPU of the call",
            *_shown(None, answer["seconds"], found.peak, answer["cpu"]),
        ]
    ]
    if "flux" in tools:
        found = measure([tools["flux"], "oci-digest", reference], runs=runs)
        rows.append(
            [
                "(d) unchanged poll",
                "Flux",
                *_shown(found.seconds, last_json(found.output)["seconds"], found.peak, found.cpu),
            ]
        )
    found = measure([tools["crane"], "digest", "--insecure", reference], runs=runs)
    rows.append(["(d) unchanged poll", "crane digest", *_shown(found.seconds, None, found.peak, found.cpu)])
    return rows


def _shown(seconds: float | None, call: float | None, peak: int, cpu: float) -> tuple[str, str, str, str]:
    def text(value: float | None) -> str:
        return "" if value is None else f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"

    return text(seconds), text(cpu), text(call), f"{peak / MIB:.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="a,b,c,d,e")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    only = set(arguments.only.split(","))
    real = servers()
    tools = {name: real.tool(name) for name in ("crane", "oras", "skopeo")}
    peer = flux_peer()
    if peer is not None:
        tools["flux"] = os.fspath(peer)
    root = scratch() / "oci-registry"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    rows: list[list] = []
    with real.docker_registry(root) as host:
        small = f"{host}/bench/small:v1"
        push(DirectorySource(manifests()), f"oci://{small}", access=ACCESS)
        if "a" in only:
            rows += bench_pull("(a) 200 KB", small, tools, arguments.runs, warm=10)
        if "b" in only:
            for title, files in (("(b) 0.1 GB", 6), ("(b) 1 GB", 64)):
                reference = f"{host}/bench/large{files}:v1"
                push(DirectorySource(large(files)), f"oci://{reference}", access=ACCESS)
                rows += bench_pull(title, reference, tools, arguments.runs)
        if "c" in only:
            publish_tags(host)
            rows += bench_list("(c) 500 tags", host, tools, arguments.runs)
            with wire(host, delay=0.005) as far:
                rows += bench_list("(c) 500 tags, 10 ms away", far, tools, 1)
        if "e" in only:
            reference = f"{host}/bench/large6:v1"
            push(DirectorySource(large(6)), f"oci://{reference}", access=ACCESS)
            with wire(host, rate=20e6) as narrow:
                rows += bench_pull("(e) 0.1 GB, 20 MB/s each", reference.replace(host, narrow, 1), tools, 1)
        if "d" in only:
            rows += bench_poll(small, tools, arguments.runs)
    shutil.rmtree(root, ignore_errors=True)
    head = ["what", "who", "process", "CPU", "call", "peak memory"]
    print(machine())
    print(table(head, rows))
    if arguments.json:
        arguments.json.write_text(json.dumps([dict(zip(head, row, strict=True)) for row in rows], indent=1))


if __name__ == "__main__":
    main()

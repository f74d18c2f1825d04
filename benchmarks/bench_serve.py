"""What it costs to serve artifacts: processor time per request and peak memory, beside servers that only send files.

`benchmarks/bench_serve.py [SECONDS]` loads each server with wrk (16 connections) for that long per line: fluxsrc under
uvicorn, with its compiled parser and with the one in Python, and under granian; nginx and Python's `http.server` with the
same archive as a file, as the measure of what sending costs at least, and of what people use instead. Then hundreds of
clients ask for a large archive and take nothing of it.

All of it shares one machine: the clock tells less than the processor time of the server's processes.
"""

import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from _common import MIB, machine, table

from fluxsrc.memory import MemorySource
from fluxsrc.status import artifact_path
from fluxsrc.stores import LocalStore

CONNECTIONS = 16
SIZES = {"2 KiB": 2_000, "600 KiB": 600_000, "30 MiB": 30_000_000}
SLOW_CLIENTS = 400
_PARSERS = {"httptools": "", "h11": "sys.modules['httptools'] = None"}
_SERVE = "import sys; {}; from fluxsrc.cli import main; sys.exit(main(sys.argv[1:]))"
_MODULE = "import os\nfrom fluxsrc import LocalStore\nfrom fluxsrc.server import app\napplication = app(LocalStore(os.environ['STORE']))\n"
_NGINX = """
daemon off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; sendfile on; tcp_nopush on; server {{ listen 127.0.0.1:{port}; root {root}/files; }} }}
"""


class Load(NamedTuple):
    """What wrk saw, and what the server spent on it."""

    rate: float
    cpu: float
    failed: int


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def _commands(root: Path, store: LocalStore, port: int) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """The servers that there are: name, command, environment."""
    for name, first in _PARSERS.items():
        words = ["serve", "--store", os.fspath(store.path), "--port", str(port)]
        yield f"fluxsrc serve, {name}", [sys.executable, "-c", _SERVE.format(first or "pass"), *words], {}
    granian = Path(sys.executable).with_name("granian")
    if granian.exists():
        (root / "served.py").write_text(_MODULE)
        words = ["--interface", "asgi", "--no-ws", "--host", "127.0.0.1", "--port", str(port), "served:application"]
        yield (
            "fluxsrc, granian",
            [os.fspath(granian), *words],
            {"STORE": os.fspath(store.path), "PYTHONPATH": os.fspath(root)},
        )
    if nginx := shutil.which("nginx"):
        (root / "nginx.conf").write_text(_NGINX.format(root=root, port=port))
        yield "nginx", [nginx, "-p", os.fspath(root), "-c", os.fspath(root / "nginx.conf")], {}
    yield (
        "python -m http.server",
        [sys.executable, "-m", "http.server", "-b", "127.0.0.1", "-d", f"{root}/files", str(port)],
        {},
    )


@contextlib.contextmanager
def _running(command: list[str], env: dict[str, str], port: int, root: Path) -> Iterator[int]:
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **env})
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _family(int(child)))]


def _cpu(pid: int) -> float:
    ticks = 0
    for each in _family(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _peak(pid: int) -> int:
    """Of all its processes together: each one's peak, at worst at the same time."""
    status = "".join(Path(f"/proc/{each}/status").read_text() for each in _family(pid))
    return sum(int(found) * 1024 for found in re.findall(r"VmHWM:\s+(\d+)", status))


def _load(url: str, pid: int, seconds: int) -> Load:
    before = _cpu(pid)
    printed = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "60s", url],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    count = int(re.search(r"(\d+) requests in", printed)[1])
    failed = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", printed)))
    failed += sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", printed)))
    return Load(float(re.search(r"Requests/sec: +([\d.]+)", printed)[1]), (_cpu(pid) - before) / max(count, 1), failed)


def _neglect(port: int, target: str) -> None:
    """Ask for it very often, and take nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(SLOW_CLIENTS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(3)


def main() -> None:
    """Measure, and print tables."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rows, memory = [], []
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        store = LocalStore(root / "store", durable=False)
        paths = {}
        for name, size in SIZES.items():
            data = {"data": random.Random(size).randbytes(size)}
            artifact = MemorySource(data).produce_artifact(store, name=f"size{size}")
            paths[name] = path = f"/{artifact_path(artifact)}"
            file = root / "files" / path.lstrip("/")
            file.parent.mkdir(parents=True)
            file.write_bytes(store.blob_path(artifact.digest).read_bytes())
        root.chmod(0o755)  # nginx reads as somebody else
        store.flush()
        port = _free_port()
        for server, command, env in _commands(root, store, port):
            with _running(command, env, port, root) as pid:
                targets = dict(paths)
                if "fluxsrc" in server:
                    targets["manifest"] = f"/v2/memory/default/size{SIZES['2 KiB']}/manifests/latest"
                started = _peak(pid)
                for what, target in targets.items():
                    load = _load(f"http://127.0.0.1:{port}{target}", pid, seconds)
                    rows.append((server, what, f"{load.rate:,.0f}", f"{load.cpu * 1e6:,.0f}", f"{load.failed}"))
                loaded = _peak(pid)
                if "http.server" not in server:  # a thread each: it is not made for that
                    _neglect(port, paths["30 MiB"])
                memory.append((server, f"{started // MIB}", f"{loaded // MIB}", f"{_peak(pid) // MIB}"))
    print(machine())
    print(table(("server", "what", "requests/s", "server µs/request", "failed"), rows))
    print(
        table(
            ("server", "MiB at start", "MiB under load", f"MiB with {SLOW_CLIENTS} clients that take nothing"), memory
        )
    )


if __name__ == "__main__":
    main()

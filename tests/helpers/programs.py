"""Programs that tests start: found, run to their end, or kept running for as long as somebody needs them."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

_PATIENCE = 60.0
"""Seconds that a server has to start."""


def tool(name: str) -> str:
    """The path of a program; $GOBIN is looked into first, and where daemons are last."""
    search = [os.environ.get("GOBIN"), os.environ.get("PATH"), "/usr/local/sbin", "/usr/sbin"]
    found = shutil.which(name, path=os.pathsep.join(filter(None, search)))
    if found is None:
        pytest.fail(f"{name} is not installed: one of the scripts tests/servers/install-*.sh does it")
    return found


def run(*command: object, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a tool, and give what it prints."""
    words = [tool(str(command[0])), *map(str, command[1:])]
    environment = {**os.environ, **(env or {})}
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, env=environment, cwd=cwd)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def listens(port: int) -> Callable[[], bool]:
    """Whether somebody accepts connections."""

    def ready() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    return ready


@contextlib.contextmanager
def process(
    command: list[str],
    log: Path,
    *,
    ready: Callable[[], bool] = lambda: True,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A program, from when it is ready until the block ends; what it says goes to the end of a file."""
    with log.open("ab") as out:
        program = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **(env or {})}, cwd=cwd)
    try:
        deadline = time.monotonic() + _PATIENCE
        while not ready():
            if program.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command[0]} does not start:\n{log.read_text()}")
            time.sleep(0.02)
        yield program
    finally:
        program.terminate()
        try:
            program.wait(30)
        finally:
            program.kill()
            program.wait(30)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; it may wait for its new parent to take notice."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # before it is opened, or while it is read
        return True

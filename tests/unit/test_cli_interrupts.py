"""Ctrl-C leaves nothing behind, whatever the program was doing."""

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fluxsrc import cli
from fluxsrc.cli import interrupts
from fluxsrc.cli.failures import describe
from fluxsrc.cli.interrupts import Interrupted, Interrupts
from fluxsrc.cli.session import Session
from fluxsrc.errors import OperationCancelledError
from helpers import waiting
from helpers.programs import is_gone


@pytest.fixture
def large_tree(tmp_path) -> Path:
    """A source that takes seconds to pack, and no room on the disk."""
    source = tmp_path / "work" / "source"
    source.mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    with (source / "large").open("wb") as file:
        file.truncate(4_000_000_000)
    return source


def wait_until(condition, *, of: subprocess.Popen) -> None:
    """Poll until it holds; the process has to be alive meanwhile."""
    deadline = time.monotonic() + 60
    while not condition():
        assert of.poll() is None, of.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "expected", "words"),
    [
        (signal.SIGINT, 130, ["pull", "source", "--output", "out", "--archive", "out.tgz"]),
        (signal.SIGTERM, 143, ["pull", "source", "--output", "out", "--store", "store"]),
        (signal.SIGINT, 130, ["build", "source", "--output", "out.tgz"]),
        (signal.SIGINT, 130, ["push", "source", "oci-layout:layout:v1"]),
    ],
)
def test_a_signal_ends_the_program_and_leaves_nothing(large_tree, number, expected, words):
    """A real signal to a real process in the middle of packing: no output, no archive, no tag, no temporary file."""
    work, temporary = large_tree.parent, large_tree.parents[1] / "tmp"
    process = subprocess.Popen(
        [sys.executable, "-m", "fluxsrc", *words, "--json"],
        cwd=work,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        places = [temporary, work / "store"]
        wait_until(
            lambda: any(path.stat().st_size for place in places for path in place.glob("**/ingest/*")), of=process
        )
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (expected, "")
    assert json.loads(err)["error"]["reason"] == "Cancelled"
    assert list(temporary.iterdir()) == []
    assert {path.name for path in work.iterdir()} <= {"source", "store"}
    assert list((work / "store").glob("ingest/*")) == []


@pytest.mark.parametrize(
    ("number", "expected", "program", "words"),
    [
        (signal.SIGINT, 130, "git-credential-slow", ["git+https://localhost:1/app.git", "--auth", "git:slow"]),
        (signal.SIGTERM, 143, "docker-credential-slow", ["oci://localhost:1/app:v1", "--auth", "docker:config.json"]),
    ],
)
def test_a_signal_ends_a_credential_helper_too(tmp_path, number, expected, program, words):
    """With what it started: it has a session of its own, so that no signal of the terminal reaches it."""
    (tmp_path / program).write_text(
        f"#!/bin/sh\nsleep 600 &\necho $$ $! > {tmp_path}/new\nmv {tmp_path}/new {tmp_path}/pids\nwait\n"
    )
    (tmp_path / program).chmod(0o755)
    (tmp_path / "config.json").write_text('{"credsStore": "slow"}')
    process = subprocess.Popen(
        [sys.executable, "-m", "fluxsrc", "resolve", *words, "--json"],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        wait_until((tmp_path / "pids").exists, of=process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (expected, "")
    assert json.loads(err)["error"]["reason"] == "Cancelled"
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        waiting.wait_until(functools.partial(is_gone, pid))


@pytest.fixture
def handled():
    """Interrupts that listen to this very process."""
    found = Interrupts()
    with found.handled():
        yield found


def test_an_operation_is_asked_before_it_is_interrupted(handled):
    """The first signal only sets the switch; the operation ends by itself, in order."""
    with pytest.raises(Interrupted) as caught, handled.cancelling() as cancel:
        os.kill(os.getpid(), signal.SIGINT)
        assert cancel.wait(10)
        raise OperationCancelledError("cancelled during pack")
    assert caught.value.signal == signal.SIGINT


def test_an_operation_that_ends_well_after_a_signal_is_still_the_last_one(handled):
    """Nobody who pressed Ctrl-C wants the next step."""
    with pytest.raises(Interrupted), handled.cancelling() as cancel:
        os.kill(os.getpid(), signal.SIGTERM)
        assert cancel.wait(10)


def test_an_operation_that_does_not_listen_is_torn_out(handled, monkeypatch):
    """Even out of a system call that would never return."""
    monkeypatch.setattr(interrupts, "GRACE", 0.05)
    reading, writing = os.pipe()
    try:
        with pytest.raises(Interrupted), handled.cancelling():
            os.kill(os.getpid(), signal.SIGINT)
            os.read(reading, 1)
    finally:
        os.close(reading)
        os.close(writing)


def test_a_second_signal_does_not_wait(handled):
    """Impatience is an answer too."""
    with pytest.raises(Interrupted), handled.cancelling():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)


def test_outside_of_an_operation_a_signal_interrupts_at_once(handled):
    """Nothing there would look at a switch."""
    with pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)


def test_a_cancellation_that_no_signal_asked_for_is_an_error_like_others(handled):
    """It came from somewhere else."""
    with pytest.raises(OperationCancelledError), handled.cancelling():
        raise OperationCancelledError("cancelled during pack")


def test_the_handlers_of_the_process_come_back():
    """A program that calls `main` keeps its own."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Session().signals_handled():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_ctrl_c_while_the_program_is_loaded_shows_no_traceback(monkeypatch, capsys):
    """That takes as long as some commands do, and nobody looks after signals yet."""

    def interrupted(_name):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "import_module", interrupted)
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr() == ("", "stopped by SIGINT\n")


def test_other_threads_can_run_commands_too():
    """Signals are the main thread's: elsewhere none is handled, and nothing fails."""
    seen = []

    def run():
        session = Session()
        with session.signals_handled(), session.operation(60) as operation:
            seen.append(operation.cancelled)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False]


def test_who_stopped_it_is_told_of_no_error():
    """Ctrl-C is how `serve` and `reconcile` end."""
    assert describe(Interrupted(signal.SIGTERM), as_json=False) == "stopped by SIGTERM"

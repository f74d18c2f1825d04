"""`--lock`, `--locked` and `--frozen` of `pull` and `reconcile`: what was approved is what is taken, or it is an error."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import attrs
import pytest

from fluxsrc.cli import main
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, push
from fluxsrc.testing.git import GitRepositoryBuilder
from fluxsrc.testing.git_server import GitHTTPServer
from fluxsrc.testing.object_server import ObjectServer
from fluxsrc.testing.registry import Registry

OFFLINE = """
import os, sys
def refuse(event, arguments):
    if event.startswith("socket."):
        os.write(2, f"a socket was touched: {event} {arguments}".encode())
        os._exit(99)
sys.addaudithook(refuse)
from fluxsrc.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""The program, in which Python itself forbids every socket."""


@attrs.define
class Remote:
    """Somewhere a source points at, which can be made to point elsewhere."""

    url: str
    options: tuple[str, ...]
    change: object


def git(tmp_path):
    repository = GitRepositoryBuilder(tmp_path / "srv" / "app.git")
    repository.commit({"app.yaml": "v1"})
    server = GitHTTPServer(tmp_path / "srv")
    return server, lambda: Remote(
        f"{server.url('app.git')}?branch=main", (), lambda: repository.commit({"app.yaml": "v2"})
    )


def oci(tmp_path):
    del tmp_path
    server, access = Registry(), Access(insecure=True)

    def remote():
        url = f"oci://{server.host}/app:prod"
        push(MemorySource({"app.yaml": "v1"}), url, access=access)
        return Remote(url, ("--insecure",), lambda: push(MemorySource({"app.yaml": "v2"}), url, access=access))

    return server, remote


def bucket(tmp_path):
    del tmp_path
    server = ObjectServer()

    def remote():
        server.put("models", "app.yaml", b"v1")
        url = f"s3://models?endpoint={server.url}&region=us-east-1&anonymous=true&addressing=path"
        return Remote(url, (), lambda: server.put("models", "app.yaml", b"v2"))

    return server, remote


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """Runs the program in a directory of its own; gives exit code and the JSON document it ends with."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("FLUXSRC_STORE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def execute(*words):
        capfd.readouterr()
        code = main([*words, "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if code == 0 else json.loads(err.splitlines()[-1])["error"]

    return execute


@pytest.mark.parametrize("kind", [git, oci, bucket])
def test_what_is_locked_is_taken_until_the_name_moves_and_frozen_asks_nobody(kind, run, tmp_path):
    """Git, a registry, a bucket; at the end Python itself forbids every socket, and the artifact comes all the same."""
    server, make = kind(tmp_path)
    with server:
        remote = make()
        pull = ("pull", remote.url, *remote.options, "--store", "store")
        code, locked = run(*pull, "--lock")
        assert (code, locked["lock_file"]) == (0, "fluxsrc.lock")
        assert run(*pull, "--locked") == (0, locked | {"unchanged": True})
        remote.change()
        code, error = run(*pull, "--locked")
        assert (code, error["class"], error["reason"]) == (3, "RefMovedError", "RefMoved")
        assert (error["old"], error["retryable"]) == (locked["revision"], False)
        moved = run("resolve", remote.url, *remote.options)[1]["revision"]
        assert error["new"] == moved != locked["revision"]
        assert run("store", "list", "--store", "store")[1]["artifacts"][0]["revision"] == locked["revision"]
        assert run(*pull)[1]["revision"] == moved  # without the option it is a pull like any other
        command = [sys.executable, "-c", OFFLINE, *pull, "--frozen", "--output", "out", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["content_digest"] == locked["content_digest"]
        assert Path("out/app.yaml").read_text() == "v1"


def test_the_program_that_forbids_sockets_would_notice_one(run, tmp_path):
    """What the store has not, has to be fetched: then there is one."""
    server, make = oci(tmp_path)
    with server:
        remote = make()
        assert run("pull", remote.url, "--insecure", "--store", "store", "--lock")[0] == 0
        command = [sys.executable, "-c", OFFLINE, "pull", remote.url, "--insecure", "--store", "other", "--frozen"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, "a socket was touched" in done.stderr) == (99, True)


@pytest.mark.parametrize("kind", [git, oci])
def test_frozen_fetches_the_locked_revision_though_the_name_moved(kind, run, tmp_path, monkeypatch):
    """On a machine that has nothing: the old commit, the old manifest, without asking for the name."""
    server, make = kind(tmp_path)
    with server:
        remote = make()
        _, locked = run("pull", remote.url, *remote.options, "--store", "store", "--lock")
        remote.change()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
        code, found = run("pull", remote.url, *remote.options, "--output", "out", "--frozen")
        assert (code, Path("out/app.yaml").read_text()) == (0, "v1")
        assert (found["revision"], found["content_digest"]) == (locked["revision"], locked["content_digest"])


def test_other_content_under_the_locked_revision_is_an_error(run, tmp_path):
    """It is neither unpacked nor recorded, with and without asking the remote."""
    server, make = git(tmp_path)
    with server:
        remote = make()
        _, locked = run("pull", remote.url, "--store", "store", "--lock")
        file = Path("fluxsrc.lock")
        file.write_text(file.read_text().replace(locked["content_digest"], "sha256:" + "0" * 64))
        for option in ("--locked", "--frozen"):
            code, error = run("pull", remote.url, "--store", "other", "--output", "out", option)
            assert (code, error["reason"]) == (4, "LockedContentChanged")
        assert not Path("out").exists()
        assert run("store", "list", "--store", "other")[1]["artifacts"] == []


def test_locks_are_written_side_by_side_and_again(run):
    """One file for several sources; what is approved anew takes the place of what was."""
    for name in ("one", "two"):
        Path(name).mkdir()
        (Path(name) / "file").write_text(name)
        assert run("pull", name, "--store", "store", "--lock", "--lock-file", "approved")[0] == 0
    assert len(json.loads(Path("approved").read_text())["sources"]) == 2
    Path("one/file").write_text("changed")
    held = ("pull", "one", "--store", "store", "--lock-file", "approved")
    assert run(*held, "--locked")[1]["reason"] == "RefMoved"
    assert run(*held, "--lock")[0] == 0
    assert run(*held, "--locked")[0] == 0
    assert len(json.loads(Path("approved").read_text())["sources"]) == 2


def test_a_lock_file_in_the_source_is_no_part_of_it(run):
    """Else it could never be what it says."""
    Path("app.yaml").write_text("v1")
    written = run("pull", ".", "--store", "store", "--lock")[1]
    assert (written["files"], written["left_out"]) == (1, ["store", "fluxsrc.lock"])
    assert run("pull", ".", "--store", "store", "--locked") == (0, written | {"unchanged": True})


def test_pull_takes_what_was_locked_by_a_manifest(run, tmp_path):
    """Under another name, with the same address and the same options."""
    server, make = git(tmp_path)
    with server:
        remote = make()
        describe(remote)
        assert run("lock", "-f", "sources.yaml")[0] == 0
        code, error = run("pull", remote.url, "--output", "out", "--locked")
        assert (code, "ignore rules" in error["message"]) == (2, True)
        assert run("pull", remote.url, "--output", "out", "--locked", "--dialect", "flux")[0] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["pull", ".", "--store", "store", "--locked", "--frozen"], "two different things"),
        (["pull", ".", "--store", "store", "--lock", "--frozen"], "--lock writes"),
        (["pull", ".", "--store", "store", "--lock-file", "x"], "what for?"),
        (["pull", ".", "--store", "store", "--locked"], "there is no lock file"),
        (["reconcile", "-f", "sources.yaml", "--store", "store", "--lock-file", "x"], "what for?"),
        (["reconcile", "-f", "sources.yaml", "--store", "store", "--frozen"], "there is no lock file"),
    ],
)
def test_what_contradicts_itself_or_is_not_there_is_a_mistake(run, words, says):
    describe(Remote("git+https://example.com/app", (), None))
    code, error = run(*words)
    assert (code, says in error["message"]) == (2, True)


def test_what_is_not_locked_is_named(run):
    """A source that nobody approved."""
    Path("fluxsrc.lock").write_text('{"version": 1, "sources": {}}')
    code, error = run("pull", ".", "--store", "store", "--frozen")
    assert (code, "is not locked" in error["message"]) == (2, True)


def describe(remote):
    url = remote.url.removeprefix("git+").partition("?")[0]
    spec = {"interval": "1s", "url": url, "ref": {"branch": "main"}}
    api = "source.toolkit.fluxcd.io/v1"
    document = {"apiVersion": api, "kind": "GitRepository", "metadata": {"name": "app"}, "spec": spec}
    Path("sources.yaml").write_text(json.dumps(document))


def test_a_lock_that_is_approved_anew_takes_effect_while_reconcile_runs(tmp_path, run):
    """Nobody has to start it again."""
    server, make = git(tmp_path)
    with server:
        remote = make()
        describe(remote)
        run("lock", "-f", "sources.yaml")
        words = ["reconcile", "-f", "sources.yaml", "--store", "store", "--frozen", "--json"]
        process = subprocess.Popen(
            [sys.executable, "-m", "fluxsrc", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        patience = threading.Timer(60, process.kill)
        patience.start()
        try:
            moves = (json.loads(line) for line in process.stdout)
            moves = (event for event in moves if event["event"] in ("NewArtifact", "RefMoved"))
            first = next(moves)["artifact"]["revision"]
            remote.change()
            run("lock", "-f", "sources.yaml")
            moved = next(moves)
            assert (moved["event"], moved["old"]) == ("RefMoved", first)
            process.terminate()
            process.stdout.read()
            assert process.wait(30) == 143
        finally:
            patience.cancel()
            process.kill()
            process.communicate()


def test_reconcile_keeps_to_the_lock(tmp_path, run, capfd):
    """Locked: a moved name is a failure with a name of its own. Frozen: no socket, and what is locked is current again."""
    server, make = git(tmp_path)
    words = ("reconcile", "-f", "sources.yaml", "--store", "store", "--once")

    def events(*more):
        capfd.readouterr()
        code = main([*words, *more, "--json"])
        return code, [json.loads(line) for line in capfd.readouterr().out.splitlines()]

    with server:
        remote = make()
        describe(remote)
        assert run("lock", "-f", "sources.yaml")[0] == 0
        code, [_, new] = events("--locked")
        assert (code, new["event"]) == (0, "NewArtifact")
        remote.change()
        code, found = events("--locked")
        assert (code, [each["event"] for each in found]) == (3, ["Reconciled", "FetchFailed"])
        assert (found[1]["stage"], found[1]["reason"]) == ("fetch", "RefMoved")
        assert new["artifact"]["revision"] in found[1]["message"]
        assert events()[0] == 0
        command = [sys.executable, "-c", OFFLINE, *words, "--frozen", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
        assert (done.returncode, done.stderr) == (0, "")
    [stored] = run("store", "list", "--store", "store")[1]["artifacts"]
    assert stored["content_digest"] == new["artifact"]["content_digest"]

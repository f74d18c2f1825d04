"""`fluxsrc demo`: what it claims holds, and what it says one types does the same."""

import errno
import json
import shlex
import shutil
from pathlib import Path

import pytest

from fluxsrc import LocalStore
from fluxsrc.cli import demo, main
from helpers.terminals import on_a_terminal

CONTENT = "sha256:382014b9435b72c3d53d3eef4daad5430b9846342e96af4623f011b3134b74b8"
COMMIT = "3e09e02b93f1f229bdd741558b039b70610ab943"


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """Runs the program in an empty directory; whatever is temporary must be gone afterwards."""
    temporary, work = tmp_path / "tmp", tmp_path / "work"
    temporary.mkdir()
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    def execute(*words):
        capfd.readouterr()
        code = main(words)
        assert list(temporary.iterdir()) == []
        assert Path.cwd() == work
        return code, *capfd.readouterr()

    return execute


def steps(run, *words):
    code, out, err = run("demo", "--json", *words)
    assert (code, err) == (0, "")
    return json.loads(out)["steps"]


def test_places_do_not_matter(run):
    """The same everywhere and always: commit and content are part of what the README shows."""
    git, bucket, registry, *_, last = steps(run)
    assert git["facts"]["revision"] == f"v1.0.0@sha1:{COMMIT}"
    assert {each["facts"]["content"] for each in (git, bucket, registry)} == {CONTENT}
    assert len({each["facts"]["revision"] for each in (git, bucket, registry)}) == 3
    assert last["facts"] == dict.fromkeys(("Git", "bucket", "registry", "prod"), CONTENT)


def test_a_tag_moves_and_comes_back(run):
    """To the manifest that it was; neither way does a byte of content travel."""
    *_, promoted, moved, differs, restored, _ = steps(run)
    assert moved["facts"]["was"] == promoted["facts"]["revision"] == restored["facts"]["revision"]
    assert moved["facts"]["is"] != moved["facts"]["was"]
    assert moved["facts"]["was made from"] == f"v1.0.0@sha1:{COMMIT}"
    assert moved["facts"]["is made from"] == "nobody says"
    assert moved["facts"]["content"] != CONTENT
    assert "\n-image: podinfo:6.9.1\n+image: podinfo:my-fix\n" in differs["diff"]
    assert promoted["facts"]["uploaded"] == restored["facts"]["uploaded"] == 0


def test_people_and_programs_are_told_the_same(run):
    """Every title, command, line of a difference; digests short, and at the end in full."""
    code, out, err = run("demo")
    assert code == 0
    assert err == "All of it was temporary: --output DIR keeps it, to play with.\n"
    told = steps(run)
    for number, step in enumerate(told, 1):
        assert f"{number}. {step['title']}\n" in out
        assert len(f"{number}. {step['title']}") <= 80
        assert all(line in out for line in step["diff"].splitlines())
        assert all(name in out for name in step["facts"])
    assert out.count(CONTENT) == 4
    assert out.count("   $ fluxsrc ") == sum(len(step["commands"]) for step in told)
    assert "\x1b" not in out


def seen(store):
    """Where every source was, and which bytes were made of it."""
    return {
        key: (
            [each.revision for each in store.observations(key)],
            [(each.revision, each.digest) for each in store.history(key)],
        )
        for key in store.sources()
    }


def test_the_commands_that_are_shown_do_what_was_done(run, monkeypatch, capfd):
    """Typed by hand in the directory that is kept, from its beginning, they end where the tour ended."""
    told = steps(run, "--output", "kept")
    monkeypatch.chdir("kept")
    assert sorted(path.name for path in Path().iterdir()) == ["bucket", "laptop", "podinfo.git", "registry", "store"]
    store = LocalStore("store")
    by_tour = seen(store)
    for made in ("registry", "store"):
        shutil.rmtree(made)
    differences = []
    for program, *words in (shlex.split(command) for step in told for command in step["commands"]):
        capfd.readouterr()
        assert (program, main(words)) == ("fluxsrc", 0)
        differences += [capfd.readouterr().out] if words[0] == "diff" else []
    assert seen(store) == by_tour
    assert differences == [step["diff"] for step in told if step["diff"]]


def test_what_is_there_already_is_left_alone(run):
    """A directory with anything in it is no place for a tour."""
    Path("mine").mkdir()
    Path("mine/file").write_text("precious")
    code, out, err = run("demo", "--output", "mine")
    assert (code, out) == (2, "")
    assert "mine holds something else" in err
    assert Path("mine/file").read_text() == "precious"
    assert run("demo", "--output", "mine/file")[0] == 2


def other_bucket(lay_out):
    """The same places, but the bucket holds something else."""

    def changed(directory):
        lay_out(directory)
        (directory / "bucket" / "deploy" / "app.yaml").write_text("kind: Surprise\n")

    return changed


def test_digests_that_differ_are_a_failure(run, monkeypatch):
    """And nothing is left of it, wherever it was."""
    monkeypatch.setattr(demo, "lay_out", other_bucket(demo.lay_out))
    code, out, err = run("demo", "--json", "--output", "kept")
    assert (code, out) == (4, "")
    assert json.loads(err)["error"]["reason"] == "DigestMismatch"
    assert not Path("kept").exists()
    code, out, err = run("demo")
    assert code == 4
    assert out.startswith("1. ")
    assert "in bucket than in Git" in err


def test_a_full_disk_is_no_bug(run, monkeypatch):
    """Where the scene cannot be written, whoever runs the machine is told."""

    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(demo, "lay_out", fail)
    code, out, err = run("demo", "--output", "kept")
    assert (code, out) == (5, "")
    assert "No space left on device" in err
    assert not Path("kept").exists()


def test_the_settings_of_git_and_of_our_program_change_nothing(run, tmp_path, monkeypatch):
    """It is a tour, not a test of the machine."""
    (tmp_path / ".gitconfig").write_text("[init]\n\tdefaultBranch = trunk\n[broken")
    for name, value in {
        "HOME": str(tmp_path),
        "GIT_DIR": "/nowhere",
        "GIT_AUTHOR_NAME": "Eve",
        "FLUXSRC_STORE": "mine",
    }.items():
        monkeypatch.setenv(name, value)
    assert steps(run)[-1]["facts"]["Git"] == CONTENT
    assert not Path("mine").exists()


def test_no_program_is_started_and_no_network_is_touched(run, monkeypatch):
    """In particular no git."""

    def refuse(*_, **__):
        raise AssertionError("that is another program, or another machine")

    monkeypatch.setattr("subprocess.Popen", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    assert run("demo")[0] == 0


def test_a_terminal_shows_colors(run):
    """With the same text."""
    plain = run("demo")[1]
    code, _, drawn = on_a_terminal("demo")
    assert code == 0, drawn
    assert "\x1b[1m1. " in drawn
    assert "\x1b[32m   +image" in drawn
    assert drawn.count(CONTENT) == plain.count(CONTENT)

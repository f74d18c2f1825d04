"""What a user of the command line is told to do can be done there."""

import ast
import re
from pathlib import Path

import pytest

import fluxsrc
from fluxsrc.cli import main
from fluxsrc.cli.app import COMMANDS
from fluxsrc.cli.failures import describe
from fluxsrc.cli.hints import spoken
from fluxsrc.errors import RateLimitedError

PACKAGE = Path(fluxsrc.__file__).parent
NOT_HERE = {
    "testing",
    "cli",
    "mounted.py",
    "http_artifact.py",
    "signed_lock.py",
    "_write.py",
    "_secrets.py",
    "locks.py",
}
"""What no command uses, or what the command line asks for in its own words before the library does."""
ELSEWHERE = (
    "in a program of your own",  # there is no such option
    "Limits(max_redirects",
    "installation_id=",
    "unsafe_levels=",
    "confirmed=",  # the command line asks, reads and checks before the library does, or gives it the right types
    "root=",
    "identities=[",
    "sparse=[",
    "GitSignature.from_files",
    "Identity(",
    "UnsafeNoVerification",
)
"""What nobody sees on the command line, or what says itself where it can be done."""


def hints():
    """Every piece of text that an error is given as its hint."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if NOT_HERE.intersection(file.relative_to(PACKAGE).parts):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.keyword(arg="hint", value=value) | ast.Assign(targets=[ast.Name("hint")], value=value):
                    yield from ((f"{file.name}:{value.lineno}", text) for text in constants(value))


def constants(node):
    """The text in an expression, in each of its pieces."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def test_no_hint_speaks_python():
    """`timeout=` is no advice for someone who types commands: a new hint that says so has its words in `fluxsrc.cli.hints`."""
    found = [
        (where, text)
        for where, hint in hints()
        if re.search(r"(?<![?&\w/-])[a-z_]+=|\(\.\.\.\)|[A-Z][A-Za-z]+\(", text := spoken(hint))
        and not any(known in text for known in ELSEWHERE)
    ]
    assert found == []


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """Runs the program in an empty directory; gives exit code and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLUXSRC_STORE", raising=False)

    def execute(*words):
        capfd.readouterr()
        code = main(words)
        return code, capfd.readouterr().err

    return execute


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["ls", "ghcr.io/org/app:1.0"], "for a registry oci://"),
        (["ls", "src/app.yaml"], "never a single file"),
        (["list", "src"], "or oci-layout:PATH"),
        (["resolve", "oci-layout:images:2.0"], "images` shows its tags"),
        (["ls", "oci-layout:images?semver=2.x#path=deploy"], "images` shows its tags"),
        (["pull", "src", "--store", "store", "--locked", "--lock-file", "no.lock"], "fluxsrc pull --lock"),
        (["reconcile", "-f", "src/app.yaml"], "or set FLUXSRC_STORE"),
        (["cat", "src", "ap.yaml"], "`fluxsrc ls` shows what is there"),
        (["build", "src", "-o", "a.tgz", "--symlinks", "error"], "choose --symlinks skip, keep or dereference"),
        (["store", "history", "src", "--store", "store"], "`fluxsrc store list` shows them; did you mean src-"),
    ],
    ids=" ".join,
)
def test_what_is_not_there_names_the_command_that_shows_what_is(run, words, advice):
    """A typo costs one more command, not a search."""
    Path("src").mkdir()
    Path("src/app.yaml").write_text("replicas: 3\n")
    Path("src/link").symlink_to("app.yaml")
    assert run("push", "src", "oci-layout:images:1.0")[0] == 0
    assert run("pull", "src", "--store", "store")[0] == 0
    code, err = run(*words)
    assert code > 1
    assert advice in err.partition("hint: ")[2]


@pytest.mark.parametrize(
    "words",
    [
        ["resolve", "git+file://src", "--verify-key", "nowhere"],
        ["resolve", "oci-layout:src", "--verify-key", "nowhere"],
        ["ls", "src", "--verify-lock", "nowhere", "--verify-key", "nowhere"],
        ["resolve", "oci://example.com/app", "--ca-file", "nowhere"],
        ["resolve", "oci://example.com/app", "--auth", "netrc:nowhere"],
        ["resolve", "oci://example.com/app", "--auth", "docker:nowhere"],
        ["lock", "-f", "nowhere"],
        ["pull", "src", "--store", "store", "--locked", "--lock-file", "nowhere"],
    ],
    ids=" ".join,
)
def test_a_file_that_is_named_and_not_there_is_a_mistake_in_plain_words(run, words):
    """No numbers of errors, and nothing goes on without it."""
    Path("src").mkdir()
    code, err = run(*words)
    assert code == 2
    assert "nowhere" in err
    assert "Errno" not in err


@pytest.mark.parametrize(
    "words",
    [
        ["store", "list", "--store", "NAME"],
        ["get", "--store", "NAME"],
        ["pull", "src", "--store", "NAME"],
        ["pull", "src", "--output", "NAME"],
        ["pull", "src", "--archive", "NAME"],
        ["pull", "src", "--output", "out", "--lock", "--lock-file", "NAME"],
        ["resolve", "NAME"],
        ["resolve", "git+file://NAME"],
        ["resolve", "oci-layout:NAME"],
        ["resolve", "bucket+file://NAME"],
        ["resolve", "oci://example.com/app", "--auth", "docker:NAME"],
        ["resolve", "oci://example.com/app", "--auth", "netrc:NAME"],
        ["resolve", "git+file://src", "--verify-key", "NAME"],
        ["demo", "--output", "NAME"],
    ],
    ids=" ".join,
)
def test_a_path_that_nobody_may_look_at_is_no_bug(run, words):
    """Here it is longer than a file system allows, which stops even root; a directory without permission is the usual one."""
    Path("src").mkdir()
    Path("src/app.yaml").write_text("replicas: 3\n")
    code, err = run(*(word.replace("NAME", "n" * 300) for word in words))
    assert code in (2, 3, 5)
    assert "a bug in fluxsrc" not in err


@pytest.mark.parametrize(("typo", "meant"), [("puhs", "push"), ("histroy", "history"), ("dif", "diff")])
def test_a_misspelt_command_is_guessed(run, typo, meant):
    """As a misspelt option is."""
    assert meant in COMMANDS
    assert run(typo) == (2, f"error: No such command {typo!r}. Did you mean {meant!r}?\n  hint: see fluxsrc --help\n")


def test_a_directory_of_something_else_is_no_empty_store(run):
    """`store verify` must not find nothing wrong with a misspelt path."""
    Path("src").mkdir()
    Path("src/app.yaml").write_text("replicas: 3\n")
    code, err = run("store", "verify", "--store", "src")
    assert (code, err) == (2, "error: src is no store: it has other files, and no oci-layout\n")
    Path("empty").mkdir()
    assert run("store", "verify", "--store", "empty")[0] == 0


def test_who_is_asked_for_patience_is_told_for_how_long():
    """A program reads it from the JSON; a person gets it in words."""
    error = RateLimitedError("cannot list the tags of app: status 429", retry_after=119.2)
    assert describe(error, as_json=False).splitlines()[1:] == ["  hint: it asks for patience: try again in 120 s"]
    assert "hint" not in describe(RateLimitedError("cannot resolve app: status 429"), as_json=False)

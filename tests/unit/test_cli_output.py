"""Where output goes and what is in it: terminals that must not be ruled, disks that are full, streams that are closed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fluxsrc.cli import main
from helpers.terminals import on_a_terminal

ANSI = "\x1b]0;owned\x07"
"""Gives a terminal another title. Colours and the like click takes out by itself, where nobody looks."""
PROGRAM = [sys.executable, "-m", "fluxsrc"]
MANIFEST = """
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: nowhere}}
spec: {{interval: 5m, url: "file://{}/nowhere"}}
"""


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """Runs the program beside a small tree, `src`; gives exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLUXSRC_STORE", raising=False)
    Path("src").mkdir()
    Path("src/app.yaml").write_text("replicas: 3\n")

    def execute(*words):
        capfd.readouterr()
        code = main(words)
        return code, *capfd.readouterr()

    return execute


# --- what others wrote -----------------------------------------------------------------------------------------------


def test_an_annotation_does_not_rule_the_screen_of_who_lists_it(run):
    """Whoever may push must not write to the terminals of the operators, nor lines of their tables."""
    where = "org.opencontainers.image"
    facts = [f"{where}.source=https://git.example/{ANSI}\nfake  row", f"{where}.revision=main{ANSI}"]
    pushed = run("push", "src", "oci-layout:images:v1", *(word for fact in facts for word in ("--annotation", fact)))
    assert pushed[0] == 0
    run("pull", "oci-layout:images:v1", "--store", "store")
    for words in (
        ["list", "oci-layout:images"],
        ["candidates", "oci-layout:images:v2"],
        ["history", "oci-layout:images:v1", "--store", "store"],
        ["get", "--store", "store"],
    ):
        code, out, err = run(*words)
        assert (code, err) == (0, "")
        assert "\x1b" not in out
        assert len(out.splitlines()) == 2
    assert r"https://git.example/\x1b]0;owned\x07\nfake  row" in run("list", "oci-layout:images")[1]


def test_an_error_does_not_rule_the_screen_either(run):
    """A hostile name is told, and not obeyed."""
    Path(f"src/{ANSI}").write_text("")
    code, _, err = run("ls", "src")
    assert code == 4
    assert "\x1b" not in err
    assert json.loads(run("ls", "src", "--json")[2])["error"]["where"] == ANSI


def test_a_path_in_brackets_is_no_markup_of_the_progress_bar(run):
    """It is drawn as it is; it once ended the command."""
    Path("src/a[").mkdir()
    for number in range(3):
        Path(f"src/a[/b{number}]").write_bytes(os.urandom(3_000_000))
    code, _, drawn = on_a_terminal("pull", "src", "--output", "out")
    assert code == 0, drawn


def test_names_are_whole_on_a_narrow_terminal(run):
    """Of a live table it is the messages that give way: whose they are has to be seen."""
    Path("sources.yaml").write_text(MANIFEST.format(Path.cwd()))
    *_, drawn = on_a_terminal("reconcile", "-f", "sources.yaml", "--store", "store", "--once", columns=68)
    live = drawn.partition("\x1b[?25h")[0]
    assert "gitrepository" in live
    assert "default/nowhere" in live
    assert "…" in live


# --- where it goes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["ls", "src"], ["ls", "src", "--json"], ["cat", "src", "app.yaml"], ["--help"]])
def test_a_full_disk_under_the_output_is_no_bug(run, words):
    """It is what it is, with the exit code of a disk; and nothing fails once more as the process ends."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, *words], stdout=full, stderr=subprocess.PIPE, text=True, env=buffered, check=False
        )
    assert done.returncode == 5
    assert "Exception ignored" not in done.stderr
    message = json.loads(done.stderr)["error"]["message"] if "--json" in words else done.stderr.splitlines()[0]
    assert message.removeprefix("error: ") == "cannot write: No space left on device"


@pytest.mark.parametrize(("words", "code"), [(["ls", "src"], 0), (["ls", "nowhere"], 3)])
@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)], ids=str)
def test_streams_that_are_closed_change_nothing(run, words, code, closed):
    """As a daemon's may be; and no file that is opened meanwhile gets what is printed."""
    program = "import os, sys; [os.close(int(n)) for n in sys.argv[1].split()]; os.execv(sys.executable, sys.argv[2:])"
    numbers = " ".join(map(str, closed))
    done = subprocess.run(
        [sys.executable, "-c", program, numbers, *PROGRAM, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert "bug" not in done.stdout + done.stderr


def test_what_an_encoding_lacks_is_escaped(run):
    """Not every terminal knows every letter; that is no bug."""
    Path("src/日本.yaml").write_text("")
    for words in (["ls", "src"], ["--help"]):
        environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
        done = subprocess.run([*PROGRAM, *words], capture_output=True, env=environment, check=True)
        assert b"\\u" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["pull", "src", "--output", "", "--replace"],
        ["pull", "src", "--store", ""],
        ["build", "src", "-o", ""],
        ["build", ""],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_not_the_working_directory(run, words):
    """It is a script's variable that nobody set."""
    before = sorted(Path.cwd().rglob("*"))
    code, _, err = run(*words)
    assert (code, "it is empty" in err) == (2, True)
    assert sorted(Path.cwd().rglob("*")) == before


# --- remarks ---------------------------------------------------------------------------------------------------------


def test_a_warning_is_said_once_and_a_failure_where_it_belongs(run):
    """The library logs both; a program without a log of its own would print them a second time, raw."""
    Path("sources.yaml").write_text(MANIFEST.format(Path.cwd()))
    code, out, err = run("reconcile", "-f", "sources.yaml", "--store", "store", "--once")
    assert code == 3
    assert len(out.splitlines()) == 1
    (warning,) = err.splitlines()
    assert warning.startswith("warning: GitRepository default/nowhere: spec.url")


def test_a_program_reads_warnings_as_json_as_well(run):
    """Each line on stderr is an object, the error the last one."""
    Path("sources.yaml").write_text(MANIFEST.format(Path.cwd()))
    _, out, err = run("lock", "-f", "sources.yaml", "--json")
    assert out == ""
    warning, error = map(json.loads, err.splitlines())
    assert "spec.url" in warning["warning"]
    assert error["error"]["exit_code"] == 3


@pytest.mark.parametrize("words", [["lock"], ["reconcile", "--once", "--store", "store"]], ids=" ".join)
def test_files_without_a_source_are_no_empty_set(run, words):
    """A step that failed to render left them, or has not finished."""
    Path("sources.yaml").write_text("")
    code, out, err = run(*words, "-f", "sources.yaml")
    assert (code, out, err) == (2, "", "error: there is no source in sources.yaml\n")
    assert not Path("fluxsrc.lock").exists()


# --- help ------------------------------------------------------------------------------------------------------------


def test_help_shows_first_what_is_a_commands_own(run):
    """Forty options are four short lists."""
    titles = [line for line in run("pull", "--help")[1].splitlines() if line.endswith(":") and line[0] != " "]
    assert titles == ["Options:", "Connection:", "Verification:", "Content:", "URLs (more: fluxsrc --help):"]
    own, *_ = run("pull", "--help")[1].partition("Connection:")
    assert "--output" in own
    assert "--auth" not in own


def test_help_shows_what_a_reference_is_in_forms_that_can_be_copied(run, monkeypatch):
    """However narrow the terminal is."""
    monkeypatch.setenv("COLUMNS", "40")
    shown = run("promote", "--help")[1]
    assert "\n  oci://HOST/REPOSITORY[:TAG][@DIGEST]\n  oci-layout:PATH[:NAME][@DIGEST]\n" in shown


def test_no_line_of_help_is_cut_or_of_unknown_unit(run):
    """`...` says nothing, and neither does TEXT."""
    for words in ([], ["store"], ["reconcile"], ["serve"], ["lock"], ["store", "gc"]):
        shown = run(*words, "--help")[1]
        assert "...\n" not in shown.partition("\n")[2]
        assert " TEXT " not in shown
        assert " SECONDS " not in shown

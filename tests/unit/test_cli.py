"""The command line: what it prints, for whom, where, and what it ends with."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from fluxsrc import DirectorySource, LocalStore, MemorySource, errors
from fluxsrc.auth import BasicAuth, BearerToken, Origin
from fluxsrc.cli import main
from fluxsrc.cli.app import COMMANDS, root
from fluxsrc.cli.credentials import keychain_for
from fluxsrc.cli.failures import BUG, EXIT_CODES, describe, exit_code
from fluxsrc.cli.options import seconds
from fluxsrc.cli.remotes import Remotes
from fluxsrc.testing.git_server import GitHTTPServer
from helpers.terminals import on_a_terminal

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@attrs.frozen
class Result:
    """What one run left."""

    code: int
    out: str
    err: str

    @property
    def document(self):
        """The one JSON document on stdout."""
        assert (self.code, self.err) == (0, "")
        return json.loads(self.out)

    @property
    def error(self):
        """The JSON error object on stderr, with nothing on stdout."""
        assert self.out == ""
        return json.loads(self.err)["error"]


Run = Callable[..., Result]


@pytest.fixture
def run(capfd, tmp_path, monkeypatch) -> Run:
    """Runs the program in an empty directory beside a small tree, `src`."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.delenv("FLUXSRC_STORE", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    write("src/app.yaml", "kind: Deployment\n")
    write("src/docs/notes.md", "notes\n")
    write("src/.sourceignore", "*.md\n")
    Path("src/link").symlink_to("app.yaml")

    def execute(*words: str) -> Result:
        capfd.readouterr()
        code = main(words)
        out, err = capfd.readouterr()
        assert list((tmp_path / "tmp").iterdir()) == [], "a temporary file stayed"
        return Result(code, out, err)

    return execute


def write(path: str, text: str) -> None:
    """A file below the working directory."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def tree(directory: str) -> dict[str, str]:
    """Content by path."""
    root = Path(directory)
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


# --- the frame -------------------------------------------------------------------------------------------------------


def test_no_arguments_show_the_help(run):
    """The first thing one types."""
    assert run().out == run("--help").out
    assert run("store").out == run("store", "--help").out


def test_commands_of_a_store_are_shown_as_they_are_needed(run):
    """First what looks, then what changes: the alphabet knows nothing of that."""
    shown = run("store").out.partition("Commands:")[2].split("\n")
    assert [line.split()[0] for line in shown if line.strip()] == ["list", "history", "verify", "gc", "export"]


def test_the_help_lists_every_command_with_its_line(run):
    """The table is what is shown."""
    shown = run("--help").out
    assert all(re.search(rf"^  {name} +\S", shown, re.MULTILINE) for name in COMMANDS)


def leaves(command, path=()):
    """Every command that is no group, with the words that lead to it."""
    if hasattr(command, "commands") or path == ():
        context = command.make_context("fluxsrc", [], resilient_parsing=True)
        for name in command.list_commands(context):
            yield from leaves(command.get_command(context, name), (*path, name))
    else:
        yield path, command


@pytest.mark.parametrize(
    ("path", "command"), list(leaves(root)), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_has_help_json_and_debug(run, path, command):
    """The same manners everywhere."""
    assert command.help
    options = {name for parameter in command.params for name in parameter.opts}
    assert {"--json", "--debug"} <= options
    assert run(*path, "--help").code == 0


@pytest.mark.parametrize(
    ("path", "command"),
    list(leaves(root)),
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_every_command_and_option_is_in_the_reference(path, command):
    """What the help shows, the page explains."""
    page = REFERENCE.read_text()
    assert f"### `{' '.join(path)}" in page
    options = {name for parameter in command.params for name in parameter.opts if name.startswith("--")}
    assert {name for name in options if f"`{name}" not in page} == set()


def test_every_key_of_the_json_is_in_the_reference(filled, run):
    """Nobody has to guess what a program may rely on."""
    documents = [run(*words, "--json").document for words in (["ls", "src"], ["explain", "src", "app.yaml"])]
    documents += [filled(*words, "--json").document for words in (["list"], ["verify"], ["gc"])]
    documents += [run("pull", "src", "--output", "out", "--json").document, run("resolve", "nowhere", "--json").error]
    keys = {key for document in documents for key in document}
    text = REFERENCE.read_text()
    assert {key for key in keys if f"`{key}`" not in text and f'"{key}"' not in text} == set()


def test_the_version(run):
    """As the package says."""
    assert run("--version").out.startswith("fluxsrc 0.")


def test_without_its_extra_the_program_says_which_one_to_install():
    """No traceback for someone who installed only the library."""
    program = "import sys; sys.modules['click'] = None; from fluxsrc.cli import main; sys.exit(main(['--help']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == ("error: the command line needs an optional dependency\n  hint: pip install 'fluxsrc[cli]'\n")


def test_shells_can_complete_commands():
    """As with any program made with click."""
    words = {"COMP_WORDS": "fluxsrc res", "COMP_CWORD": "1", "_FLUXSRC_COMPLETE": "bash_complete"}
    command = [sys.executable, "-m", "fluxsrc"]
    done = subprocess.run(command, env=os.environ | words, capture_output=True, text=True, check=True)
    assert done.stdout == "plain,resolve\n"


# --- failures --------------------------------------------------------------------------------------------------------


def first_level() -> set[type[errors.FluxSrcError]]:
    """The classes right below the base."""
    return set(errors.FluxSrcError.__subclasses__())


def test_each_first_level_error_class_has_its_own_exit_code():
    """The shell learns who can fix it."""
    assert set(EXIT_CODES) == first_level()
    assert len(set(EXIT_CODES.values()) | {0, 1, BUG}) == len(EXIT_CODES) + 3


def test_an_error_says_what_where_and_what_to_do(run):
    """One shape, on stderr."""
    result = run("explain", "src", "missing.yaml")
    assert (result.code, result.out) == (3, "")
    assert re.fullmatch(
        r"error: sha256:\w{12} has no missing.yaml\n"
        r"  where: file:///.*/src\n"
        r"  hint: paths are relative to the root of the artifact; `fluxsrc ls` shows them all\n",
        result.err,
    )


def test_an_error_is_one_json_object_for_programs(run):
    """The same facts under stable keys."""
    result = run("resolve", "nowhere", "--json")
    assert result.error | {"message": "", "where": "", "hint": ""} == {
        "class": "PathNotFoundError",
        "reason": "PathNotFound",
        "message": "",
        "where": "",
        "hint": "",
        "retryable": False,
        "exit_code": 3,
    }
    assert result.code == 3


@pytest.mark.parametrize(
    "words",
    [
        ["resolve"],
        ["no-such-command"],
        ["pull", "src", "--no-such-option"],
        ["pull", "src", "--timeout", "soon"],
        ["pull", "src", "--symlinks", "yes"],
        ["resolve", "ftp://example.com/x"],
        ["pull", "src"],
        ["store", "list"],
        ["store", "gc", "--keep", "1", "--dry-run", "--store", "src"],
        ["store", "export", "x", "--store", "src"],
        ["build", "nowhere", "-o", "a.tgz"],
    ],
    ids=" ".join,
)
def test_mistakes_of_the_caller_end_with_2_in_both_forms(run, words):
    """Whether click found it or the library did."""
    for_people = run(*words)
    assert for_people.code == 2
    assert for_people.err.startswith("error: ")
    assert run(*words, "--json").error["reason"] == "InvalidConfiguration"


def test_debug_shows_the_traceback_and_then_the_error(run):
    """For whoever has to find out."""
    result = run("resolve", "nowhere", "--debug")
    assert result.err.startswith("Traceback (most recent call last)")
    assert "\nerror: " in result.err
    assert "Traceback" not in run("resolve", "nowhere").err


@pytest.mark.parametrize("words", [("resolve", "nowhere"), ("store", "list", "--store", "nowhere")], ids=" ".join)
def test_what_holds_for_every_command_is_said_before_its_name_or_after_it(run, words):
    """Who adds `--debug` to a line that failed need not look where."""
    group = words[:1] if words[0] == "store" else ()
    for placed in ((*words, "--debug"), ("--debug", *words), (*group, "--debug", *words[len(group) :])):
        assert run(*placed).err.startswith("Traceback (most recent call last)")
        reported = run(*["--json" if word == "--debug" else word for word in placed])
        assert (reported.out, reported.error["reason"]) == ("", run(*words, "--json").error["reason"])


def test_a_bug_is_called_one(run, monkeypatch):
    """Neither hidden nor blamed on the caller."""

    def fail(self, operation):
        raise ZeroDivisionError("out of numbers")

    monkeypatch.setattr(DirectorySource, "resolve_revision", fail)
    result = run("resolve", "src")
    assert result.code == BUG
    assert result.err == (
        "error: a bug in fluxsrc: ZeroDivisionError: out of numbers\n"
        "  hint: run it again with --debug, and report what it shows\n"
    )


def test_rate_limits_say_when_to_come_back():
    """A program can wait exactly long enough."""
    error = errors.RateLimitedError("slow down", url="https://example.com", retry_after=30)
    assert json.loads(describe(error, as_json=True))["error"]["retry_after"] == 30
    assert exit_code(error) == 3


def test_a_reader_that_has_seen_enough_is_no_error(run):
    """A pipe that nobody reads any more ends the program as it ends any other: without a word."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing) as stdout:
        command = [sys.executable, "-m", "fluxsrc", "ls", "src", "--json"]
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


# --- credentials -----------------------------------------------------------------------------------------------------


def test_credentials_of_the_environment_are_for_the_host_of_the_url_alone(monkeypatch):
    """And stand behind whatever was named before them."""
    monkeypatch.setenv("FLUXSRC_TOKEN", "t0ken")
    monkeypatch.setenv("OTHER_USERNAME", "ada")
    monkeypatch.setenv("OTHER_PASSWORD", "pa55")
    keychain = keychain_for("git+https://git.example.com/team/repo.git?branch=main", ["env", "env:OTHER"])
    assert keychain.credentials(Origin.of("https://git.example.com")) == BearerToken("t0ken")
    assert keychain.credentials(Origin.of("https://elsewhere.example.com")) is None
    assert keychain_for("git+https://git.example.com/r", ["env:OTHER"]).credentials(
        Origin.of("https://git.example.com")
    ) == BasicAuth("ada", "pa55")


def test_credentials_of_a_file(run):
    """The file is named, and its entries are for their hosts."""
    write("netrc", "machine git.example.com login ada password pa55\n")
    keychain = keychain_for("git+https://git.example.com/repo.git", ["netrc:netrc"])
    assert keychain.credentials(Origin.of("https://git.example.com")) == BasicAuth("ada", "pa55")


@pytest.mark.parametrize("method", ["magic", "git", "git:../../helper", ""])
def test_a_way_to_authenticate_that_does_not_exist(run, method):
    """A mistake of the caller, before anything is connected."""
    assert run("resolve", "git+https://git.example.invalid/repo.git", "--auth", method).code == 2


def test_a_directory_takes_no_credentials(run):
    """Giving some is a misunderstanding worth a word."""
    assert "file sources take no --auth" in run("resolve", "src", "--auth", "env").err


def test_without_a_method_there_are_no_credentials():
    """Not even from a variable that is set."""
    assert Remotes().options("git+https://git.example.com/repo.git") == {}


def test_credentials_open_a_server_and_are_never_shown(run, tmp_path, monkeypatch):
    """A real Git server that asks for a password: closed without, open with, and no text anywhere has it."""
    repository = tmp_path / "srv" / "team" / "app.git"
    commands = (
        "git init -q -b main . && git add app.yaml"
        " && git -c user.name=Ada -c user.email=ada@example.com commit -q -m Deploy"
    )
    subprocess.run(["bash", "-c", commands], cwd="src", check=True)
    subprocess.run(["git", "clone", "-q", "--bare", "src", str(repository)], check=True)
    monkeypatch.setenv("FLUXSRC_USERNAME", "ada")
    monkeypatch.setenv("FLUXSRC_PASSWORD", "pa55word")
    with GitHTTPServer(tmp_path / "srv", username="ada", password="pa55word") as server:
        url = f"git+http://127.0.0.1:{server.port}/team/app.git?branch=main"
        closed = run("resolve", url, "--json")
        opened = run("pull", url, "--auth", "env", "--output", "out", "--json")
        shown = run("resolve", url.replace("main", "nope"), "--auth", "env", "--debug")
    assert (closed.code, closed.error["class"]) == (3, "AuthenticationError")
    assert opened.document["revision"].startswith("main@sha1:")
    assert tree("out") == {"app.yaml": "kind: Deployment\n"}
    assert shown.code == 3
    assert "pa55word" not in "".join(
        (*attrs.astuple(closed)[1:], *attrs.astuple(opened)[1:], *attrs.astuple(shown)[1:])
    )


# --- looking ---------------------------------------------------------------------------------------------------------


def test_resolve_prints_the_revision_and_nothing_else(run):
    """Fit for `$(fluxsrc resolve …)`."""
    assert DIGEST.fullmatch(run("resolve", "src").out.strip())


def test_resolve_as_json(run):
    """The revision in its parts."""
    document = run("resolve", "src", "--json").document
    assert set(document) == {"url", "kind", "revision", "pointer", "digest"}
    assert (document["kind"], document["pointer"]) == ("directory", None)


def test_ls_shows_what_an_artifact_would_hold(run):
    """Files with modes and sizes on stdout, the sum and what is missing on stderr."""
    result = run("ls", "src")
    assert result.out == "mode    bytes  path\n100644      5  .sourceignore\n100644     17  app.yaml\n"
    assert re.fullmatch(r"2 files, 22 B, at sha256:\w{12}\nskipped: 1 path; .*\n", result.err)


def test_ls_as_json(run):
    """The same, with what was skipped and why."""
    document = run("ls", "src", "--json", "--ignore", ".sourceignore").document
    assert document["files"] == [{"path": "app.yaml", "mode": "100644", "size": 17}]
    assert document["skipped"] == [{"path": "link", "reason": "symlink", "detail": "app.yaml"}]
    assert document["total_size"] == 17


def test_ls_of_a_sub_tree(run):
    """The fragment of the URL makes a sub-tree the whole."""
    document = run("ls", f"{Path('src').resolve().as_uri()}#path=docs", "--json").document
    assert [file["path"] for file in document["files"]] == ["notes.md"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["docs/notes.md"], "path     docs/notes.md\nverdict  excluded\nrule     .sourceignore:1: *.md\n"),
        (["app.yaml"], "path     app.yaml\nverdict  kept\nbecause  no rule matches\n"),
        (
            ["docs/notes.md", "--ignore", "!notes.md"],
            "path     docs/notes.md\nverdict  kept\nrule     <ignore>:1: !notes.md\n",
        ),
        (
            ["app.yaml", "--ignore", "*.txt", "--ignore", "app.*"],
            "path     app.yaml\nverdict  excluded\nrule     <ignore>:2: app.*\n",
        ),
    ],
)
def test_explain_names_the_rule_the_file_and_the_line(run, words, expected):
    """The on-call question: why is my file not there?"""
    assert run("explain", "src", *words).out == expected


def test_explain_of_a_link_names_the_policy(run):
    """Rules are not the only reason for a path to be missing."""
    assert "the policy is 'skip'" in run("explain", "src", "link").out
    assert "the policy is 'keep'" in run("explain", "src", "link", "--symlinks", "keep").out


@pytest.mark.parametrize("command", ["explain", "cat"])
def test_a_path_that_leads_outside_is_a_mistake_of_the_caller(run, command):
    """Not one of the source's content."""
    assert run(command, "src", "../x").code == 2


def test_explain_as_json(run):
    """The rule in its parts."""
    document = run("explain", "src", "docs/notes.md", "--json").document
    assert document | {"url": ""} == {
        "url": "",
        "path": "docs/notes.md",
        "excluded": True,
        "dialect": "gitignore",
        "rule": {"rule": "*.md", "file": ".sourceignore", "line": 1, "negated": False},
        "mode": None,
    }


# --- making ----------------------------------------------------------------------------------------------------------


def test_pull_unpacks_the_artifact(run):
    """The main job."""
    result = run("pull", "src", "--output", "out")
    assert tree("out") == {".sourceignore": "*.md\n", "app.yaml": "kind: Deployment\n"}
    assert re.fullmatch(
        r"source    file:///.*/src\n"
        r"revision  sha256:\w{64}\n"
        r"content   sha256:\w{64}\n"
        r"digest    sha256:\w{64}, \d+ B\n"
        r"files     2, [\d.]+ KiB as a tar\n"
        r"skipped   1 path:\n"
        r"          link \(symlink: app.yaml\)\n"
        r"output    out\n",
        result.out,
    )


def test_pull_as_json(run):
    """All that is known of the artifact, and where it went."""
    document = run("pull", "src", "--output", "out", "--archive", "a.tgz", "--json").document
    assert document["files"] == 2
    assert document["skipped"] == [{"path": "link", "reason": "symlink", "detail": "app.yaml"}]
    assert (document["output"], document["archive"], document["store"]) == ("out", "a.tgz", None)
    assert Path("a.tgz").stat().st_size == document["size"]


def test_pull_again_leaves_an_output_alone_that_holds_exactly_this(run):
    """Running the same command twice is no mistake."""
    run("pull", "src", "--output", "out")
    before = Path("out/app.yaml").stat()
    assert "output    out (held exactly this already)" in run("pull", "src", "--output", "out").out
    after = Path("out/app.yaml").stat()  # that it was read since may show, in its time of access
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )


@pytest.mark.parametrize("change", ["out/app.yaml", "out/more.txt", "out/ignored.md"])
def test_pull_does_not_touch_an_output_that_holds_something_else(run, change):
    """A changed file, a further one, one that the ignore rules in there would hide: all of them are somebody's work."""
    run("pull", "src", "--output", "out")
    write(change, "mine")
    result = run("pull", "src", "--output", "out")
    assert (result.code, result.err.splitlines()[0]) == (2, "error: out holds something else")
    assert Path(change).read_text() == "mine"


def test_pull_replaces_an_output_when_it_is_told_to(run):
    """The old tree goes when the new one is there, and nothing is left beside it."""
    run("pull", "src", "--output", "out")
    write("out/more.txt", "mine")
    assert run("pull", "src", "--output", "out", "--replace").code == 0
    assert set(tree("out")) == {".sourceignore", "app.yaml"}
    assert sorted(os.listdir()) == ["out", "src"]


@pytest.mark.parametrize("output", [".", "..", "repository", "linked"])
def test_pull_never_replaces_what_is_dear(run, output):
    """The working directory, what holds it, a Git work tree, a link."""
    write("repository/.git/HEAD", "ref: refs/heads/main\n")
    write("elsewhere/file", "mine")
    Path("linked").symlink_to("elsewhere")
    result = run("pull", "src", "--output", output, "--replace")
    assert result.code == 2
    assert "is not replaced" in result.err
    assert Path("elsewhere/file").read_text() == "mine"


def test_pull_into_a_file_is_refused(run):
    """The file stays."""
    write("out", "mine")
    assert run("pull", "src", "--output", "out").code == 2
    assert Path("out").read_text() == "mine"


def test_pull_keeps_its_artifacts_in_a_store(run):
    """And says so when it had this one already."""
    first = run("pull", "src", "--store", "store")
    assert re.search(r"^store     store as directory/default/src-\w{8}$", first.out, re.MULTILINE)
    assert run("pull", "src", "--store", "store").out.endswith("(held it already)\n")
    document = run("pull", "src", "--store", "store", "--json").document
    assert document["unchanged"] is True
    assert DIGEST.fullmatch(document["manifest"])


def test_the_environment_names_a_store(run, monkeypatch):
    """And the option overrules it."""
    monkeypatch.setenv("FLUXSRC_STORE", "mine")
    assert run("pull", "src", "--json").document["store"] == "mine"
    assert run("pull", "src", "--json", "--store", "other").document["store"] == "other"
    assert len(run("store", "list", "--json").document["artifacts"]) == 1


def test_pull_without_a_place_is_a_mistake(run):
    """An artifact that goes nowhere is not what anybody wants."""
    assert "give --output, --archive or --store" in run("pull", "src").err


def test_rules_and_policies_decide_what_is_in_it(run):
    """Every option of the recipe arrives."""
    run("pull", "src", "--output", "out", "--ignore", "!*.md", "--ignore", "app.yaml", "--symlinks", "skip")
    assert set(tree("out")) == {".sourceignore", "docs/notes.md"}
    result = run("pull", "src", "--output", "other", "--symlinks", "error")
    assert (result.code, Path("other").exists()) == (4, False)
    run("pull", "src", "--output", "kept", "--symlinks", "keep")
    assert os.readlink("kept/link") == "app.yaml"


def test_a_source_that_is_too_slow_ends_with_3(run):
    """The timeout covers all of it."""
    result = run("pull", "src", "--output", "out", "--timeout", "0.000001s", "--json")
    assert result.error["class"] == "TransportTimeoutError"
    assert (result.error["retryable"], result.code, Path("out").exists()) == (True, 3, False)


def test_build_makes_the_same_bytes_again(run):
    """From one place or another, named or not."""
    first = run("build", "src", "-o", "a.tgz", "--json").document
    Path("src").rename("renamed")
    second = run("build", "renamed", "-o", "b.tgz", "--json").document
    assert first["content_digest"] == second["content_digest"]
    assert Path("a.tgz").read_bytes() == Path("b.tgz").read_bytes()


@pytest.mark.parametrize("name", ["src/a.tgz", "src/a [1].tgz", "src/docs/*?.tgz"])
def test_build_leaves_its_own_output_out(run, name):
    """Building twice into the tree itself gives the same archive twice."""
    first = run("build", "src", "-o", name, "--ignore", "docs/*.md", "--json").document
    second = run("build", "src", "-o", name, "--ignore", "docs/*.md", "--json").document
    assert first["content_digest"] == second["content_digest"]
    assert first["files"] == second["files"] == 2


def test_the_content_digest_is_the_librarys(run):
    """The command line adds nothing of its own."""
    document = run("build", "src", "-o", "a.tgz", "--json").document
    source = MemorySource({".sourceignore": "*.md\n", "app.yaml": "kind: Deployment\n"})
    artifact = source.produce_artifact(LocalStore("store"))
    assert document["content_digest"] == str(artifact.content_digest)


def test_a_terminal_shows_progress_and_a_result_untouched_by_it(run):
    """Bars on stderr, the result on stdout."""
    Path("src/large").write_bytes(os.urandom(8_000_000))
    code, out, drawn = on_a_terminal("pull", "src", "--output", "out", piped=True)
    assert code == 0, drawn
    assert re.search(r"pack .* [\d.]+ MiB", drawn)
    assert out.startswith("source ")
    assert "\x1b" not in out


def test_a_program_gets_no_progress_even_on_a_terminal(run):
    """`--json` means that nobody is looking."""
    code, out, drawn = on_a_terminal("pull", "src", "--output", "out", "--json", piped=True)
    assert code == 0, drawn
    assert json.loads(out)["output"] == "out"
    assert drawn == ""


# --- the store -------------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(run) -> Run:
    """A store, `store`, that saw `src` in two states."""
    run("pull", "src", "--store", "store")
    write("src/app.yaml", "kind: DaemonSet\n")
    run("pull", "src", "--store", "store")
    return lambda *words: run("store", *words, "--store", "store")


def test_store_list_shows_each_sources_current_artifact(filled):
    """One line for a person, all facts for a program."""
    lines = filled("list").out.splitlines()
    assert lines[0].split() == ["source", "observed", "revision", "content", "files", "size"]
    assert len(lines) == 2
    assert filled("list", "--json").document["artifacts"][0]["files"] == 2


def test_store_history_is_newest_first(filled):
    """By key or by name."""
    (artifact,) = filled("list", "--json").document["artifacts"]
    history = filled("history", artifact["key"], "--json").document["artifacts"]
    assert [len(history), history[0]] == [2, artifact]
    name = artifact["key"].rpartition("/")[2]
    assert [line.split()[0] for line in filled("history", name).out.splitlines()] == ["#", "0", "1"]


def test_store_history_of_an_unknown_source(filled):
    """The store's business: exit code 5."""
    assert filled("history", "nobody", "--json").error["class"] == "ArtifactNotFoundError"
    assert filled("history", "nobody").code == 5


def test_store_verify_of_a_whole_store(filled):
    """Nothing is wrong, and the exit code says so."""
    assert "problems  none" in filled("verify").out
    assert filled("verify", "--json").document["clean"] is True


def test_store_verify_ends_with_5_where_something_is_wrong(filled):
    """A flipped byte is found, named, and cannot be missed by a script."""
    digest = filled("list", "--json").document["artifacts"][0]["digest"].removeprefix("sha256:")
    blob = Path("store/blobs/sha256", digest)
    blob.chmod(0o644)
    blob.write_bytes(bytes([blob.read_bytes()[0] ^ 1]) + blob.read_bytes()[1:])
    result = filled("verify")
    assert result.code == 5
    assert f"corrupt: blobs/sha256/{digest}" in result.out
    as_json = filled("verify", "--json")
    assert (as_json.code, json.loads(as_json.out)["clean"]) == (5, False)


def test_store_gc_removes_what_retired(filled):
    """Only when it is told to let artifacts retire, and only after the grace period."""
    assert filled("gc", "--json").document["removed_blobs"] == 0
    assert filled("gc", "--keep", "1", "--json").document["young_blobs"] > 0
    dry = filled("gc", "--grace", "0", "--dry-run", "--json").document
    swept = filled("gc", "--grace", "0", "--json").document
    assert dry["removed_blobs"] == swept["removed_blobs"] > 0
    assert "removed    0 blobs" in filled("gc").out


def test_store_export_takes_any_artifact_out(filled):
    """The current one by its source's name, an earlier one by its digest."""
    current, earlier = filled("history", filled("list", "--json").document["artifacts"][0]["key"], "--json").document[
        "artifacts"
    ]
    filled("export", current["key"], "--output", "now")
    filled("export", earlier["content_digest"], "--output", "then", "--archive", "then.tgz")
    assert (Path("now/app.yaml").read_text(), Path("then/app.yaml").read_text()) == (
        "kind: DaemonSet\n",
        "kind: Deployment\n",
    )
    assert Path("then.tgz").stat().st_size == earlier["size"]
    assert filled("export", "sha256:" + "0" * 64, "--output", "x").code == 5


def test_store_list_shows_the_others_and_warns_of_what_is_damaged(filled):
    """One broken file in three hundred must not hide the rest."""
    record = next(Path("store/sources").glob("*/*/*.json"))
    record.with_name("damaged.json").write_text("{")
    result = filled("list")
    assert (result.code, len(result.out.splitlines())) == (0, 2)
    assert "damaged.json is damaged" in result.err
    json_result = filled("list", "--json")
    assert len(json.loads(json_result.out)["artifacts"]) == 1
    assert "damaged.json is damaged" in json.loads(json_result.err)["warning"]


def test_a_misspelt_store_is_not_an_empty_one(run):
    """And is not made by asking."""
    result = run("store", "list", "--store", "sotre")
    assert (result.code, Path("sotre").exists()) == (5, False)


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("1.5", 1.5), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("2h0.5s", 7200.5)]
)
def test_durations(text, expected):
    """As people write them."""
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "s", "-1", "1d", "m5", "1s1m", "1.5m", "1e3", "٣"])
def test_what_is_no_duration(text):
    """And as they do not."""
    with pytest.raises(Exception, match="not a duration"):
        seconds(text)

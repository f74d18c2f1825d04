"""git's credential helpers: run by name only, asked in their protocol, believed in nothing else."""

import os
import pickle
import threading

import pytest

from fluxsrc.auth import BasicAuth, Origin
from fluxsrc.errors import AuthenticationError, ConfigurationError, OperationCancelledError, TransportTimeoutError
from fluxsrc.git import GitSource
from fluxsrc.keychains import GitCredentialHelper
from fluxsrc.operation import Operation
from helpers.programs import is_gone
from helpers.waiting import wait_until

HERE = Origin.of("https://git.example.com")


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Install a helper made of a shell script, in front of PATH; it is called `test`."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def install(script, **options):
        path = tmp_path / "git-credential-test"
        path.write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n")
        path.chmod(0o755)
        return GitCredentialHelper("test", **options)

    return install


@pytest.mark.parametrize("name", ["", "-x", "a b", "/bin/sh", "../x", "x;y", "!sh -c x", "store --file=/x", "Store"])
def test_only_a_plain_name_is_taken(name):
    with pytest.raises(ConfigurationError):
        GitCredentialHelper(name)


def test_the_question_is_git_s_and_nothing_of_the_url_is_in_the_command_line(helper, tmp_path):
    keychain = helper('echo "$@" > args; cat > question; echo username=me; echo password=pw')
    assert keychain.credentials(Origin.of("https://git.example.com:8443/x")) == BasicAuth("me", "pw")
    assert (tmp_path / "args").read_text() == "get\n"
    assert (tmp_path / "question").read_text() == "protocol=https\nhost=git.example.com:8443\n\n"


def test_the_usual_port_is_not_mentioned(helper, tmp_path):
    helper("cat > question").credentials(HERE)
    assert (tmp_path / "question").read_text() == "protocol=https\nhost=git.example.com\n\n"


@pytest.mark.parametrize(
    "script",
    ["", "echo username=me", "echo quit=1; echo password=pw", "echo password=pw; echo password_expiry_utc=1"],
)
def test_a_helper_that_knows_nothing_fresh_is_no_error(helper, script):
    assert helper(script).credentials(HERE) is None


def test_a_password_that_is_still_good_is_taken(helper):
    keychain = helper("echo username=me; echo password=p=w; echo password_expiry_utc=99999999999; echo 'wwwauth[]=x'")
    assert keychain.credentials(HERE) == BasicAuth("me", "p=w")


@pytest.mark.parametrize("expiry", ["²", "9" * 5000])
def test_an_end_that_is_no_number_does_not_count(helper, expiry):
    keychain = helper(f"echo username=me; echo password=pw; echo password_expiry_utc={expiry}")
    assert keychain.credentials(HERE) == BasicAuth("me", "pw")


@pytest.mark.parametrize("origin", ["ssh://git.example.com", "git://git.example.com"])
def test_only_http_is_asked_about(helper, origin):
    assert helper("echo username=me; echo password=pw").credentials(Origin.of(origin)) is None


def test_a_host_that_could_end_a_line_is_not_asked_about(helper):
    keychain = helper("echo username=me; echo password=pw")
    assert keychain.credentials(Origin("https", "a\nhost=b", 443)) is None
    assert keychain.credentials(Origin("https", "a b", 443)) is None


@pytest.mark.parametrize("line", ["host=evil.example", "protocol=http"])
def test_an_answer_for_another_host_is_refused(helper, line):
    with pytest.raises(AuthenticationError, match="another host"):
        helper(f"echo username=me; echo password=pw; echo {line}").credentials(HERE)


@pytest.mark.parametrize("answer", [r"password=a\nhunter2", r"password=hunter2\r\n", r"pass\0word=hunter2", r"\377\n"])
def test_nonsense_is_refused_and_not_quoted(helper, answer):
    with pytest.raises(AuthenticationError, match="nonsense") as caught:
        helper(f"printf 'username=me\\n{answer}'").credentials(HERE)
    assert "hunter2" not in repr((caught.value, caught.value.__context__))


def test_an_endless_answer_is_cut(helper):
    with pytest.raises(AuthenticationError, match="nonsense"):
        helper("yes password=x").credentials(HERE)


def test_a_failing_helper_is_an_error_without_what_it_complained_about(helper):
    with pytest.raises(AuthenticationError, match="status 3") as caught:
        helper("echo hunter2 >&2; exit 3").credentials(HERE)
    assert "hunter2" not in str(caught.value)


def test_a_helper_that_is_not_there_is_an_error_that_names_it():
    with pytest.raises(AuthenticationError, match="git-credential-surely-not-there"):
        GitCredentialHelper("surely-not-there").credentials(HERE)


def test_without_git_there_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="cannot run git"):
        GitCredentialHelper("store").credentials(HERE)


def pid_in(directory):
    return int((directory / "pid").read_text())


@pytest.mark.parametrize("script", ["sleep 60", "echo password=x; exec >&-; sleep 60", "sleep 60 & wait"])
def test_a_helper_that_waits_is_ended_with_all_it_started(helper, script, tmp_path):
    helper(f"echo $$ > new; mv new pid; {script}")
    for timeout in (0.5, 5, 50):  # until it has come so far
        keychain = GitCredentialHelper("test", timeout=timeout)
        with pytest.raises(TransportTimeoutError, match=f"after {timeout:g} s during log in by git-credential-test"):
            keychain.credentials(HERE)
        if (tmp_path / "pid").exists():
            break
    wait_until(lambda: is_gone(pid_in(tmp_path)))


def test_the_deadline_of_who_asks_ends_a_helper_that_has_more_time_itself(helper, tmp_path):
    """The whole call has one deadline, logging in included: here that of a source asked what it holds."""
    keychain = helper("echo $$ > new; mv new pid; sleep 600 & wait", timeout=600)
    source = GitSource("https://localhost:1/app.git", branch="main", keychain=keychain, cache=None)
    for timeout in (0.5, 5, 50):  # until it has come so far
        with pytest.raises(TransportTimeoutError, match=f"timed out after {timeout:g} s") as caught:
            source.resolve_revision(operation=Operation(timeout))
        if (tmp_path / "pid").exists():
            break
    assert caught.value.phase == "log in by git-credential-test"
    wait_until(lambda: is_gone(pid_in(tmp_path)))


def test_a_cancelled_call_ends_its_helper_with_all_it_started(helper, tmp_path):
    keychain = helper("sleep 600 & echo $! > new; mv new pid; wait")
    operation = Operation(None, cancel=(tmp_path / "pid").exists)
    with pytest.raises(OperationCancelledError):
        keychain.credentials(HERE, operation=operation)
    wait_until(lambda: is_gone(pid_in(tmp_path)))


def test_a_cancelled_call_runs_no_helper(helper, tmp_path):
    with pytest.raises(OperationCancelledError):
        helper("echo > ran").credentials(HERE, operation=Operation(cancel=lambda: True))
    assert not (tmp_path / "ran").exists()


def test_it_is_run_once_in_an_operation_and_anew_for_the_next(helper, tmp_path):
    """However many requests an operation takes, each of which needs the credentials; another origin is another question."""
    keychain = helper("echo >> runs; echo username=ada; echo password=$(wc -l < runs)")
    first, second = Operation(), Operation()
    assert {keychain.credentials(HERE, operation=first) for _ in range(3)} == {BasicAuth("ada", "1")}
    assert keychain.credentials(HERE, operation=second) == BasicAuth("ada", "2")
    assert keychain.credentials(Origin.of("https://b.example"), operation=second) == BasicAuth("ada", "3")
    assert "ada" not in repr(second)


def test_it_has_no_terminal_to_prompt_on(helper):
    keychain = helper(
        'if (: < /dev/tty) 2>/dev/null; then exit 9; fi\necho "username=$GIT_TERMINAL_PROMPT$GIT_ASKPASS"; echo password=x'
    )
    assert keychain.credentials(HERE) == BasicAuth("0", "x")


def test_it_pickles_and_answers_many_threads(helper):
    keychain = pickle.loads(pickle.dumps(helper("echo username=me; echo password=pw")))
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(keychain.credentials(HERE))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [BasicAuth("me", "pw")] * 4


def test_git_s_own_store_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    (tmp_path / ".git-credentials").write_text("https://me:s%40cret@git.example.com\n")
    assert GitCredentialHelper("store").credentials(HERE) == BasicAuth("me", "s@cret")
    assert GitCredentialHelper("store").credentials(Origin.of("https://elsewhere.example")) is None

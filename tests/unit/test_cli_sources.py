"""`reconcile`, `get` and `lock`: files of manifests on the command line."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fluxsrc.cli import main
from fluxsrc.testing.git import GitRepositoryBuilder
from helpers.terminals import on_a_terminal

MANIFEST = """\
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: {name}, namespace: team}}
spec:
  interval: 1s
  url: file://{path}
  ref: {{branch: {branch}}}
"""


class Desk:
    """A directory with a repository, its manifests and a store; runs the program in it."""

    def __init__(self, path, capfd):
        self.path = path
        self.capfd = capfd
        self.repository = GitRepositoryBuilder(path / "app.git")
        self.repository.commit({"app.yaml": "v1"})
        self.describe()

    def describe(self, *names, branch="main"):
        documents = [
            MANIFEST.format(name=name, path=self.path / "app.git", branch=branch) for name in names or ("app",)
        ]
        (self.path / "sources.yaml").write_text("---\n".join(documents))

    def run(self, *words):
        self.capfd.readouterr()
        code = main(words)
        out, err = self.capfd.readouterr()
        return code, out, err

    def lines(self, *words):
        code, out, _ = self.run(*words, "--json")
        return code, [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def desk(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLUXSRC_STORE", raising=False)
    return Desk(tmp_path, capfd)


ONCE = ("reconcile", "-f", "sources.yaml", "--store", "store", "--once")


def test_once_brings_everything_up_to_date_and_says_so(desk):
    """A line for each event; the second time nothing is new."""
    code, out, err = desk.run(*ONCE)
    assert code == 0
    assert out.startswith("gitrepository/team/app: new artifact main@sha1:")
    assert "this machine" in err
    assert desk.run(*ONCE)[1] == "gitrepository/team/app: unchanged\n"


def test_events_as_json_lines(desk):
    """One object a line, each with its source."""
    code, events = desk.lines(*ONCE)
    assert code == 0
    assert [event["event"] for event in events] == ["Reconciled", "NewArtifact"]
    assert {event["source"] for event in events} == {"gitrepository/team/app"}
    desk.repository.commit({"app.yaml": "v2"})
    _, events = desk.lines(*ONCE)
    assert [event["event"] for event in events] == ["Reconciled", "RefMoved", "NewArtifact"]
    assert events[1]["pointer"] == "main"


def test_the_exit_code_says_who_can_fix_it(desk):
    """3 for the remote, 2 for the file, 5 for the store."""
    desk.describe(branch="missing")
    code, out, _ = desk.run(*ONCE)
    assert code == 3
    assert "fetch failed (RevisionNotFound)" in out
    Path("sources.yaml").write_text("kind: GitRepository\nspec: {foo: 1}\n")
    code, _, err = desk.run(*ONCE)
    assert (code, "apiVersion" in err) == (2, True)
    assert desk.run("reconcile", "-f", "nowhere.yaml", "--store", "store")[0] == 2
    assert desk.run("reconcile", "-f", "sources.yaml")[0] == 2


def test_its_end_is_told_of_a_failure(desk):
    """Of one failure, and not of 1 failures."""
    desk.describe(branch="missing")
    assert desk.run(*ONCE)[0] == 3
    desk.describe()
    out = desk.run(*ONCE)[1]
    assert out.splitlines()[-1] == "gitrepository/team/app: recovered after 1 failure"


def test_it_runs_until_it_is_told_to_stop_and_follows_the_file(desk):
    """A new commit, a new source; then SIGTERM, exit code 143, nothing left behind."""
    words = [sys.executable, "-m", "fluxsrc", "reconcile", "-f", "sources.yaml", "--store", "store", "--json"]
    environment = os.environ | {"TMPDIR": str(desk.path / "tmp")}
    (desk.path / "tmp").mkdir()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    patience = threading.Timer(60, process.kill)
    patience.start()

    def until(event, source):
        for line in process.stdout:
            found = json.loads(line)
            if (found["event"], found["source"]) == (event, f"gitrepository/team/{source}"):
                return found
        raise AssertionError(process.stderr.read())

    try:
        until("NewArtifact", "app")
        desk.repository.commit({"app.yaml": "v2"})
        until("RefMoved", "app")
        desk.describe("app", "other")
        until("NewArtifact", "other")
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(30) == 143
    finally:
        patience.cancel()
        process.kill()
        process.communicate()
    assert list((desk.path / "tmp").iterdir()) == []
    assert list((desk.path / "store" / "ingest").iterdir()) == []


def test_a_terminal_gets_a_table(desk):
    """Drawn while it runs, and once more in the end."""
    code, _, drawn = on_a_terminal(*ONCE, columns=160)
    assert code == 0, drawn
    last = drawn.rpartition("message")[2]
    assert "team/app" in last
    assert "stored artifact for revision" in last


def test_get_shows_what_a_store_has_and_what_is_still_missing(desk):
    """And asks no remote: the repository is gone by then."""
    desk.run(*ONCE)
    desk.describe("app", "other")
    desk.repository.path.rename(desk.path / "gone")
    code, out, _ = desk.run("get", "--store", "store")
    assert (code, out.count("\n")) == (0, 2)
    code, out, _ = desk.run("get", "--store", "store", "-f", "sources.yaml")
    assert [line.split()[1:2] + line.split()[-3:] for line in out.splitlines()[1:]][1] == [
        "team/other",
        "no",
        "artifact",
        "yet",
    ]
    document = json.loads(desk.run("get", "--store", "store", "-f", "sources.yaml", "--json")[1])
    assert [each["ready"] for each in document["sources"]] == [True, False]


def rows(desk, *words):
    """What `get` shows, by name and column."""
    head, *lines = desk.run("get", "--store", "store", *words)[1].splitlines()
    starts = [head.index(name) for name in GET]
    cells = [[line[a:b].strip() for a, b in itertools.pairwise([*starts, None])] for line in lines]
    return {cell[1]: dict(zip(GET, cell, strict=True)) for cell in cells}


GET = ("kind", "name", "revision", "suspended", "ready", "age", "checked", "signed by", "message")


def test_get_tells_what_the_last_reconcile_found(desk):
    """Ready, then failing with its artifact kept, then well again; the first word of the message is what failed."""
    assert desk.run(*ONCE)[0] == 0
    row = rows(desk)["team/app"]
    assert (row["ready"], row["suspended"]) == ("True", "False")
    assert row["message"].startswith("stored artifact for revision 'main@sha1:")
    assert re.fullmatch(r"\d+[sm]", row["age"])
    assert re.fullmatch(r"\d+[sm]", row["checked"])
    desk.repository.path.rename(desk.path / "gone")
    assert desk.run(*ONCE)[0] == 3
    assert desk.run(*ONCE)[0] == 3
    row = rows(desk)["team/app"]
    assert (row["ready"], row["revision"][:10]) == ("False", "main@sha1:")
    assert row["message"].startswith("fetch failed (")
    [document] = json.loads(desk.run("get", "--store", "store", "--json")[1])["sources"]
    assert (document["failure"]["stage"], document["failure"]["failures"], document["ready"]) == ("fetch", 2, False)
    assert {each["type"] for each in document["conditions"]} >= {"Ready", "FetchFailed"}
    assert document["artifact"]["files"] == 1
    (desk.path / "gone").rename(desk.repository.path)
    assert desk.run(*ONCE)[0] == 0
    assert rows(desk)["team/app"]["ready"] == "True"


def test_get_tells_of_what_never_had_an_artifact_and_of_what_is_left_alone(desk):
    """Without being told what is described: both are in the store."""
    desk.describe("failing", branch="missing")
    text = Path("sources.yaml").read_text() + "---\n" + MANIFEST.format(name="idle", path="/nowhere", branch="main")
    Path("sources.yaml").write_text(text + "  suspend: true\n")
    assert desk.run(*ONCE)[0] == 3
    found = rows(desk)
    assert found["team/failing"]["message"].startswith("fetch failed (RevisionNotFound): ")
    assert (found["team/idle"]["suspended"], found["team/idle"]["message"]) == ("True", "no artifact yet")
    assert json.loads(desk.run("store", "verify", "--store", "store", "--json")[1])["unknown"] == []


def test_get_shows_no_source_that_is_not_described_any_more(desk):
    """Unless it has artifacts; what other files describe is theirs."""
    desk.describe("other", branch="missing")
    Path("sources.yaml").rename("others.yaml")
    assert desk.run("reconcile", "-f", "others.yaml", "--store", "store", "--once")[0] == 3
    desk.describe("app", "failing", "idle")
    text = Path("sources.yaml").read_text()
    Path("sources.yaml").write_text(text.replace("main", "missing").replace("missing", "main", 1) + "  suspend: true\n")
    assert desk.run(*ONCE)[0] == 3
    assert set(rows(desk)) == {"team/app", "team/failing", "team/idle", "team/other"}
    desk.describe("another")
    assert desk.run(*ONCE)[0] == 0
    found = rows(desk)
    assert set(found) == {"team/another", "team/app", "team/other"}
    assert found["team/app"]["message"].startswith("stored ")


def test_get_tells_who_signed_and_that_nobody_did(desk):
    """A signature is asked for that is not there: verification failed."""
    secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: keys, namespace: team}\nstringData:\n  a.sshpub: "
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ada@example.com\n"
    text = Path("sources.yaml").read_text() + "  verify: {mode: HEAD, secretRef: {name: keys}}\n"
    Path("sources.yaml").write_text(text + secret + key)
    assert desk.run(*ONCE)[0] == 4
    row = rows(desk)["team/app"]
    assert row["message"].startswith("verification failed (VerificationError): ")
    assert (row["ready"], row["signed by"], row["revision"]) == ("False", "", "")


def test_get_says_it_when_an_artifact_is_gone(desk):
    """A status is a remark; what the store holds is the truth."""
    assert desk.run(*ONCE)[0] == 0
    for blob in Path("store/blobs/sha256").iterdir():
        blob.unlink()
    row = rows(desk)["team/app"]
    assert (row["ready"], row["message"]) == ("False", "its artifact is not in the store any more")


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version":2}', '{"version":1,"key":"gitrepository/team/app"}'])
def test_a_status_that_cannot_be_read_is_none(desk, damage):
    """What is shown then is what a store without one shows."""
    assert desk.run(*ONCE)[0] == 0
    Path("store/status/gitrepository/team/app.json").write_text(damage)
    row = rows(desk)["team/app"]
    assert (row["ready"], row["message"][:9], row["checked"]) == ("True", "stored 20", "")
    assert desk.run(*ONCE)[0] == 0
    assert rows(desk)["team/app"]["checked"]


def lock(desk, *words):
    return desk.run("lock", "-f", "sources.yaml", *words)


def test_a_lock_is_written_checked_and_taken(desk):
    """Until the branch moves: then --check and --locked say so, and --frozen takes what was approved."""
    assert lock(desk)[0] == 0
    text = Path("fluxsrc.lock").read_text()
    assert "gitrepository/team/app" in text
    assert "as it was" in lock(desk)[1]
    assert lock(desk, "--check")[0] == 0
    assert lock(desk, "--locked", "--store", "store")[0] == 0
    desk.repository.commit({"app.yaml": "v2"})
    code, out, _ = lock(desk, "--check")
    assert code == 3
    assert "gitrepository/team/app: RefMoved: points at main@sha1:" in out
    code, _, err = lock(desk, "--locked", "--store", "store")
    assert code == 3
    assert "moved: it points at main@sha1:" in err
    desk.repository.path.rename(desk.path / "gone")
    code, out, _ = lock(desk, "--frozen", "--store", "store", "--json")
    assert code == 0
    assert json.loads(out)["artifacts"][0]["content_digest"] in text


def test_what_is_not_locked_or_no_more_described_is_a_problem(desk):
    """In both directions."""
    lock(desk)
    desk.describe("other")
    code, out, _ = lock(desk, "--check", "--json")
    assert code == 3
    assert [each["problem"] for each in json.loads(out)["problems"]] == ["NotLocked", "Stale"]
    assert lock(desk, "--check", "--frozen")[0] == 2
    assert lock(desk, "--frozen")[0] == 2

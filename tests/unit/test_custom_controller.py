"""The example controller's pure part, against a Git server of our own and an API server that is a list of patches."""

import datetime as dt
import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from fluxsrc.errors import AuthenticationError
from fluxsrc.stores import MemoryStore
from fluxsrc.testing.git_server import GitHTTPServer

T0 = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
EXAMPLE = Path(__file__).parents[2] / "docs/how-to/custom-controller"


@pytest.fixture(scope="module")
def sources():
    """The example's module `sources`, loaded as kopf loads it: from its file."""
    specification = importlib.util.spec_from_file_location("example_sources", EXAMPLE / "sources.py")
    module = sys.modules["example_sources"] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    yield module
    del sys.modules["example_sources"]


def git(directory, *arguments):
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True)


def commit(directory, text):
    (directory / "app.yaml").write_text(text)
    git(directory, "add", ".")
    git(directory, "commit", "-q", "-m", text)


@pytest.fixture
def remote(tmp_path):
    repository = tmp_path / "app"
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    commit(repository, "one")
    with GitHTTPServer(tmp_path, username="ada", password="hunter2") as server:
        yield server


class API:
    """An API server with one object: what was written to it, and what it has."""

    def __init__(self, url):
        spec = {"kind": "GitRepository", "interval": "1m", "url": f"{url}/.git", "ref": {"branch": "main"}}
        spec |= {"secretRef": {"name": "login"}, "timeout": "20s"}
        self.object = {"metadata": {"name": "app", "namespace": "team", "generation": 1}, "spec": spec}
        self.secrets = {"Secret team/login": {"stringData": {"username": "ada", "password": "hunter2"}}}
        self.written = []

    def resolve(self, reference):
        if str(reference) not in self.secrets:
            raise AuthenticationError(f"{reference} does not exist")
        return self.secrets[str(reference)]

    def write(self, obj, document):
        assert obj["metadata"]["name"] == "app"
        self.written.append(document)
        self.object["status"] = document

    def take(self):
        """The Ready conditions written since the last call: status and reason."""
        written, self.written = self.written, []
        return [(each["conditions"][0]["status"], each["conditions"][0]["reason"]) for each in written]

    def change(self, **spec):
        self.object["spec"] |= spec
        self.object["metadata"]["generation"] += 1


@pytest.fixture
def api(remote):
    return API(remote.url("app").removeprefix("git+"))


@pytest.fixture
def keeper(sources, api):
    minutes = itertools.count()
    return sources.Keeper(
        store=MemoryStore(),
        base_url="http://here",
        resolve=api.resolve,
        write=api.write,
        now=lambda: T0 + dt.timedelta(minutes=next(minutes)),
        dice=lambda: 0.5,
    )


def never():
    return False


def test_a_source_becomes_an_artifact_and_a_status(keeper, api):
    """First that it is under way, then that it is Ready, with an artifact that can be fetched; then nothing more."""
    status, delay = keeper.turn(api.object, None, never)
    assert delay == 60
    assert api.take() == [("Unknown", "Progressing"), ("True", "Succeeded")]
    document = api.object["status"]
    assert document["artifact"]["url"].startswith("http://here/gitrepository/team/app/")
    assert document["observedGeneration"] == 1
    for _ in range(3):
        status, delay = keeper.turn(api.object, status, never)
    assert (status.ready, delay, api.take()) == (True, 60, [])


def test_a_change_is_one_write(keeper, api, remote):
    status, _ = keeper.turn(api.object, None, never)
    api.take()
    commit(remote.root / "app", "two")
    first = api.object["status"]["artifact"]
    status, _ = keeper.turn(api.object, status, never)
    assert api.take() == [("True", "Succeeded")]
    assert api.object["status"]["artifact"]["revision"] != first["revision"]


def test_a_new_process_goes_on_where_the_old_one_was(keeper, api):
    """A restart writes nothing when nothing happened, and forgets no time."""
    keeper.turn(api.object, None, never)
    api.take()
    status, _ = keeper.turn(api.object, None, never)
    assert (status.ready, api.take()) == (True, [])


def test_what_others_wrote_into_the_status_does_not_stay(keeper, api):
    status, _ = keeper.turn(api.object, None, never)
    mine = api.object["status"]
    api.object["status"] = {"conditions": "nonsense"}
    keeper.turn(api.object, status, never)
    assert api.object["status"] == mine


def test_a_status_of_nonsense_stops_nobody(keeper, api):
    api.object["status"] = {"conditions": [None, {"type": "Ready"}, 7], "observedGeneration": "x"}
    status, _ = keeper.turn(api.object, None, never)
    assert status.ready


def test_a_stale_view_of_the_object_does_not_hide_a_write(keeper, api, sources):
    """The watch lags: the object still shows the status of before; what is written is compared with what was."""
    status, _ = keeper.turn(api.object, None, never)
    stale = {**api.object, "status": api.object["status"]}
    api.secrets.clear()
    status, _ = keeper.turn(stale, status, never)
    api.secrets["Secret team/login"] = {"stringData": {"username": "ada", "password": "hunter2"}}
    status, _ = attrs.evolve(keeper, now=lambda: T0).turn(stale, status, never)
    assert api.object["status"]["conditions"][0]["status"] == "True"


def test_failures_wait_longer_and_longer_and_keep_the_artifact(keeper, api, remote):
    status, _ = keeper.turn(api.object, None, never)
    artifact = api.object["status"]["artifact"]
    (remote.root / "app").rename(remote.root / "gone")
    delays = []
    for _ in range(4):
        status, delay = keeper.turn(api.object, status, never)
        delays.append(delay)
    assert delays == sorted(set(delays))
    found = {each["type"]: each for each in api.object["status"]["conditions"]}
    assert found["FetchFailed"]["reason"] in ("GitOperationFailed", "AuthenticationFailed")
    assert found["Ready"]["message"].startswith("fetch failed")
    assert api.object["status"]["artifact"] == artifact
    (remote.root / "gone").rename(remote.root / "app")
    status, delay = keeper.turn(api.object, status, never)
    assert (status.ready, status.failures, delay) == (True, 0, 60)
    assert {each["type"] for each in api.object["status"]["conditions"]} == {"Ready", "ArtifactInStorage"}


def test_a_remote_that_asks_for_patience_gets_it(keeper, api, remote):
    def busy(handler):
        handler.send_response(429)
        handler.send_header("Retry-After", "77")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    remote.before = busy
    api.object["spec"]["timeout"] = "10s"
    status, delay = keeper.turn(api.object, None, never)
    assert status.failure.reason == "RateLimited"
    assert delay >= 77


def test_a_mistake_in_the_object_is_stalled_until_it_changes(keeper, api, sources):
    """It says which field; it is not looked at again soon, but it is when the object changes."""
    api.change(branche="main")
    before = sources.demand(api.object)
    status, delay = keeper.turn(api.object, None, never)
    found = {each["type"]: each for each in api.object["status"]["conditions"]}
    assert found["Stalled"]["status"] == "True"
    assert "spec.branche" in found["Ready"]["message"]
    assert delay == keeper.policy.max_delay
    del api.object["spec"]["branche"]
    api.change()
    assert sources.demand(api.object) != before
    status, _ = keeper.turn(api.object, status, never)
    assert status.ready


def test_a_secret_counts_as_it_is_now(keeper, api):
    """Missing, wrong, right: each look reads it anew, and a failure is no reason to give up."""
    secret = api.secrets.pop("Secret team/login")
    status, delay = keeper.turn(api.object, None, never)
    assert status.failure.reason == "AuthenticationFailed"
    assert delay < keeper.policy.max_delay
    api.secrets["Secret team/login"] = {"stringData": {"username": "ada", "password": "sesame"}}
    status, delay = keeper.turn(api.object, status, never)
    assert status.failure.reason == "AuthenticationFailed"
    assert "sesame" not in str(api.object["status"])
    api.secrets["Secret team/login"] = secret
    status, _ = keeper.turn(api.object, status, never)
    assert status.ready


def test_a_request_is_answered(keeper, api, sources):
    """The annotation calls for a look, and the status says that it was had."""
    before = sources.demand(api.object)
    api.object["metadata"]["annotations"] = {"reconcile.fluxcd.io/requestedAt": "now"}
    assert sources.demand(api.object) != before
    keeper.turn(api.object, None, never)
    assert api.object["status"]["lastHandledReconcileAt"] == "now"


def test_a_look_that_nobody_wants_any_more_writes_nothing(keeper, api):
    status, _ = keeper.turn(api.object, None, never)
    api.take()
    keeper.turn(api.object, status, lambda: True)
    assert api.take() == []


@pytest.mark.parametrize("extra", [{"spec": {"suspend": True}}, {"metadata": {"deletionTimestamp": "2026-01-02"}}])
def test_what_is_suspended_or_going_is_left_alone(sources, api, extra):
    assert not sources.is_idle(api.object)
    changed = {part: api.object[part] | extra.get(part, {}) for part in ("metadata", "spec")}
    assert sources.is_idle(changed)


def test_the_store_can_be_asked_to_forget_an_object(keeper, api, sources):
    keeper.turn(api.object, None, never)
    assert [key for key in sources.keys(api.object) if keeper.store.lookup(key)] == [sources.keys(api.object)[0]]
    assert str(sources.keys(api.object)[0]) == "gitrepository/team/app"

"""The example controller, as the how-to shows it, at a real API server, with no more rights than its RBAC gives it."""

import contextlib
import hashlib
import io
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import httpx
import pytest
import yaml

from fluxsrc.artifact import SourceKey
from fluxsrc.stores import LocalStore
from fluxsrc.testing.git_server import GitHTTPServer
from helpers import kubernetes_servers as servers
from helpers import programs

pytestmark = pytest.mark.servers


EXAMPLE = Path(__file__).parents[2] / "docs/how-to/custom-controller"
REQUESTED_AT = "reconcile.fluxcd.io/requestedAt"
TOKEN = "controller-token"
READ_TOKEN = "read-token"
NAMESPACE = "team"
SOURCES = f"/apis/sources.example.org/v1/namespaces/{NAMESPACE}/sources"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """An API server with the example's CRD and RBAC."""
    users = {TOKEN: "system:serviceaccount:sources-system:controller"}
    with servers.cluster(tmp_path_factory.mktemp("cluster"), users) as found:
        for name in ("crd.yaml", "rbac.yaml"):
            found.apply((EXAMPLE / name).read_text())
        found.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        servers.until(lambda: found.client.get(SOURCES).is_success, "the CRD is served")
        yield found


class Controller:
    """The example's process."""

    def __init__(self, cluster, directory):
        self.port = programs.free_port()
        self.log = directory / "controller.log"
        self.store = LocalStore(directory / "store")
        self.environment = {
            "KUBECONFIG": str(cluster.kubeconfig(TOKEN)),
            "STORE": str(self.store.path),
            "BASE_URL": f"http://127.0.0.1:{self.port}",
            "PORT": str(self.port),
            "TOKEN": READ_TOKEN,
            "CONCURRENCY": "4",
        }
        self.stack = contextlib.ExitStack()

    def start(self):
        command = [sys.executable, "-m", "kopf", "run", "--standalone", "--all-namespaces", "--verbose"]
        command.append(str(EXAMPLE / "controller.py"))
        self.program = self.stack.enter_context(programs.process(command, self.log, env=self.environment))

    def stop(self):
        self.program.terminate()
        assert self.program.wait(60) == 0, self.log.read_text()[-4000:]
        self.stack.close()

    def get(self, url):
        return httpx.get(url, headers={"Authorization": f"Bearer {READ_TOKEN}"}, trust_env=False)

    def current(self, name):
        """The revision that the store has of a source."""
        artifact = self.store.lookup(SourceKey("gitrepository", NAMESPACE, name))
        return None if artifact is None else str(artifact.revision)


@pytest.fixture(scope="module")
def controller(cluster, tmp_path_factory):
    controller = Controller(cluster, tmp_path_factory.mktemp("controller"))
    controller.start()
    with controller.stack:
        yield controller


class Repositories:
    """Git repositories over HTTP, some behind a password, which can be made to fail or to hang."""

    def __init__(self, root):
        self.root = root
        self.broken = set()
        self.hanging = set()
        self.reached = threading.Semaphore(0)
        self.release = threading.Event()
        self.under_way = 0
        self.most_under_way = 0
        self.lock = threading.Lock()
        self.requests = []
        self.server = GitHTTPServer(root, before=self.before)

    def before(self, handler):
        name = handler.path.split("/")[1]
        self.requests.append(name)
        if name in self.hanging:
            with self.lock:
                self.under_way += 1
                self.most_under_way = max(self.under_way, self.most_under_way)
            self.reached.release()
            self.release.wait(60)
            with self.lock:
                self.under_way -= 1
        if name in self.broken:
            handler.send_error(503)
            return True
        if name == "private" and handler.headers.get("Authorization") != "Basic YWRhOmh1bnRlcjI=":
            handler.send_response(401)
            handler.send_header("WWW-Authenticate", 'Basic realm="git"')
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return True
        return False

    @contextlib.contextmanager
    def hang(self, *names):
        """Answer nothing about these while the block runs."""
        self.hanging, self.release, self.most_under_way = set(names), threading.Event(), 0
        try:
            yield
        finally:
            self.hanging = set()
            self.release.set()

    def commit(self, name, text):
        """A commit on main; its revision as Flux writes it."""
        directory = self.root / name
        if not directory.exists():
            directory.mkdir()
            self._git(name, "init", "-q", "-b", "main")
        (directory / "app.yaml").write_text(text)
        self._git(name, "add", ".")
        self._git(name, "commit", "-q", "-m", text)
        return f"main@sha1:{self._git(name, 'rev-parse', 'HEAD').strip()}"

    def _git(self, name, *arguments):
        command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com", *arguments]
        return subprocess.run(command, cwd=self.root / name, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    repositories = Repositories(tmp_path_factory.mktemp("repositories"))
    with repositories.server:
        yield repositories


class Source:
    """One object, and its repository."""

    def __init__(self, cluster, controller, remote, name):
        self.cluster, self.controller, self.remote, self.name = cluster, controller, remote, name
        self.revision = remote.commit(name, "one")
        self.requests = 0

    def create(self, **spec):
        url = self.remote.server.url(f"{self.name}/.git").removeprefix("git+")
        document = {
            "apiVersion": "sources.example.org/v1",
            "kind": "Source",
            "metadata": {"name": self.name},
            "spec": {"kind": "GitRepository", "interval": "10m", "url": url, "ref": {"branch": "main"}, **spec},
        }
        self.cluster.request("POST", SOURCES, document)
        return self

    def commit(self, text):
        self.revision = self.remote.commit(self.name, text)

    def object(self):
        return self.cluster.request("GET", f"{SOURCES}/{self.name}")

    def patch(self, **change):
        self.cluster.request("PATCH", f"{SOURCES}/{self.name}", change)

    def request(self):
        """Ask for a look now, and wait until it was had."""
        self.requests += 1
        wanted = str(self.requests)
        self.patch(metadata={"annotations": {REQUESTED_AT: wanted}})
        self.until(lambda status: status.get("lastHandledReconcileAt") == wanted, f"request {wanted} is handled")

    def until(self, condition, what):
        """The status, once the condition holds of it."""

        def found():
            status = self.object().get("status", {})
            return status if condition(status) else None

        return servers.until(
            found, f"{self.name}: {what}", lambda: [self.object(), self.controller.log.read_text()[-6000:]]
        )

    def until_ready(self):
        """The status, once it is Ready at the repository's revision."""
        return self.until(
            lambda status: (
                conditions(status).get("Ready", {}).get("status") == "True"
                and status.get("artifact", {}).get("revision") == self.revision
            ),
            "it is Ready",
        )


@pytest.fixture
def source(cluster, controller, remote, request):
    """An object of the test's own; what is left of it is taken away."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:60].strip("-")
    yield Source(cluster, controller, remote, name)
    with contextlib.suppress(RuntimeError):
        cluster.request("DELETE", f"{SOURCES}/{name}")


def conditions(status):
    return {each["type"]: each for each in status.get("conditions", [])}


def files(archive):
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        return {member.name: tar.extractfile(member).read().decode() for member in tar}


def test_an_object_becomes_an_artifact_that_can_be_fetched(source):
    """Ready, with URL and digest; what is at the URL has that digest, and the file in it."""
    artifact = source.create().until_ready()["artifact"]
    got = source.controller.get(artifact["url"])
    assert got.status_code == httpx.codes.OK
    assert f"sha256:{hashlib.sha256(got.content).hexdigest()}" == artifact["digest"]
    assert len(got.content) == artifact["size"]
    assert files(got.content) == {"app.yaml": "one"}
    assert httpx.get(artifact["url"], trust_env=False).status_code == httpx.codes.UNAUTHORIZED
    found = conditions(source.object()["status"])
    assert set(found) == {"Ready", "ArtifactInStorage"}
    assert {each["observedGeneration"] for each in found.values()} == {1}


def test_a_change_is_found_at_the_next_interval(source):
    before = source.create(interval="1s").until_ready()["artifact"]
    source.commit("two")
    after = source.until_ready()["artifact"]
    assert before["url"] != after["url"]
    assert files(source.controller.get(after["url"]).content) == {"app.yaml": "two"}


def test_a_request_is_answered_at_once(source):
    """The interval is ten minutes; the annotation does not wait for it."""
    source.create().until_ready()
    source.commit("two")
    source.request()
    source.until_ready()


def test_what_does_not_change_is_not_written(source):
    """Looks go by, and the object stays the very same."""
    source.create(interval="1s").until_ready()
    servers.until(lambda: source.remote.requests.count(source.name) >= 2, "it is looked at again")
    before = source.object()["metadata"]["resourceVersion"]
    requests = source.remote.requests.count(source.name)
    servers.until(lambda: source.remote.requests.count(source.name) >= requests + 3, "it is looked at three times more")
    assert source.object()["metadata"]["resourceVersion"] == before


def test_a_broken_source_says_so_keeps_its_artifact_and_recovers(source):
    """FetchFailed, tried again by itself, and Ready again by itself; all the time the artifact can be had."""
    artifact = source.create(interval="1s").until_ready()["artifact"]
    source.remote.broken.add(source.name)
    status = source.until(lambda status: "FetchFailed" in conditions(status), "it has failed")
    found = conditions(status)
    assert (found["FetchFailed"]["status"], found["FetchFailed"]["reason"]) == ("True", "GitOperationFailed")
    assert (found["Ready"]["status"], found["Reconciling"]["reason"]) == ("False", "ProgressingWithRetry")
    assert found["Ready"]["message"].startswith("fetch failed (TransportFailed)")
    assert status["artifact"] == artifact
    assert source.controller.get(artifact["url"]).status_code == httpx.codes.OK
    requests = source.remote.requests.count(source.name)
    servers.until(lambda: source.remote.requests.count(source.name) >= requests + 2, "it is tried again, twice")
    source.commit("two")
    source.remote.broken.discard(source.name)
    assert set(conditions(source.until_ready())) == {"Ready", "ArtifactInStorage"}


def test_a_mistake_is_stalled_and_heals_with_the_object(source):
    """The field is named; when the object changes, that counts at once, whatever the backoff says."""
    source.create(branche="main")
    status = source.until(lambda status: "Stalled" in conditions(status), "it is stalled")
    assert "spec.branche" in conditions(status)["Stalled"]["message"]
    assert (conditions(status)["Ready"]["status"], status["observedGeneration"]) == ("False", 1)
    source.patch(spec={"branche": None})
    assert source.until_ready()["observedGeneration"] == source.object()["metadata"]["generation"] == 2


def test_private(source):
    """A Secret that is missing is waited for; one that comes is used; and it is in no status, log or event."""
    source.create(secretRef={"name": "login"})
    status = source.until(lambda status: "FetchFailed" in conditions(status), "it has failed")
    assert conditions(status)["FetchFailed"]["reason"] == "AuthenticationFailed"
    assert "Secret team/login does not exist" in conditions(status)["Ready"]["message"]
    login = {"metadata": {"name": "login"}, "stringData": {"username": "ada", "password": "hunter2"}}
    source.cluster.request("POST", SECRETS, login)
    source.request()
    source.until_ready()
    missing = "fetch failed (AuthenticationFailed): Secret team/login does not exist"
    servers.until(lambda: missing in source.cluster.client.get(EVENTS).text, "an event says that it is missing")
    events = source.cluster.client.get(EVENTS).text
    for text in (str(source.object()), source.controller.log.read_text(), events):
        assert "hunter2" not in text
        assert "aHVudGVyMg" not in text
        assert "YWRhOmh1bnRlcjI" not in text


def test_what_is_suspended_is_left_alone(source):
    """Neither its interval nor a request moves it, and what it made stays; afterwards it goes on."""
    artifact = source.create(interval="1s").until_ready()["artifact"]
    source.patch(spec={"suspend": True})
    # The daemon has seen it when another one, whose change came later, is done.
    other = Source(source.cluster, source.controller, source.remote, "beside-the-suspended").create()
    other.until_ready()
    first, source.revision = source.revision, source.remote.commit(source.name, "two")
    source.patch(metadata={"annotations": {REQUESTED_AT: "now"}})
    requests = source.remote.requests.count(source.name)
    for _ in range(3):
        other.request()
    assert source.remote.requests.count(source.name) == requests
    assert source.object()["status"]["artifact"] == artifact
    assert source.controller.current(source.name) == first
    source.patch(spec={"suspend": False})
    assert source.until_ready()["lastHandledReconcileAt"] == "now"


def test_a_deleted_object_takes_its_artifacts_with_it(source):
    """The finalizer goes when the store has forgotten the source, and the URL is gone too."""
    artifact = source.create().until_ready()["artifact"]
    source.cluster.request("DELETE", f"{SOURCES}/{source.name}")
    servers.until(lambda: source.cluster.client.get(f"{SOURCES}/{source.name}").status_code == 404, "it is gone")
    assert source.controller.current(source.name) is None
    assert source.controller.get(artifact["url"]).status_code == httpx.codes.NOT_FOUND


def test_one_that_hangs_delays_no_other(source):
    """Others are looked at meanwhile; and it can be deleted, which leaves nothing of it behind."""
    with source.remote.hang(source.name):
        source.create(timeout="20s")
        assert source.remote.reached.acquire(timeout=60)
        other = Source(source.cluster, source.controller, source.remote, "beside-the-hanging").create()
        other.until_ready()
        other.request()
        source.cluster.request("DELETE", f"{SOURCES}/{source.name}")
    servers.until(lambda: source.cluster.client.get(f"{SOURCES}/{source.name}").status_code == 404, "it is gone")
    assert source.controller.current(source.name) is None


def test_no_more_sources_at_once_than_allowed(source):
    """Eight are due, four are looked at; once those are done, the others are."""
    several = [
        Source(source.cluster, source.controller, source.remote, f"one-of-several-{number}") for number in range(8)
    ]
    with source.remote.hang(*(each.name for each in several)):
        for each in several:
            each.create()
        for _ in range(4):
            assert source.remote.reached.acquire(timeout=60)
        # The API server tells of objects in their order: when this one has its finalizer, all of them have a daemon.
        source.create()
        servers.until(lambda: "finalizers" in source.object()["metadata"], "the last one is taken up")
        assert (source.remote.under_way, source.remote.most_under_way) == (4, 4)
    for each in several:
        each.until_ready()


def test_a_new_process_changes_nothing_and_goes_on(source):
    """Looked at by the new process, the object is the very same; what was deleted meanwhile is forgotten as well."""
    source.create().until_ready()
    other = Source(source.cluster, source.controller, source.remote, "deleted-meanwhile").create()
    other.until_ready()
    source.controller.stop()
    before = source.object()
    source.cluster.request("DELETE", f"{SOURCES}/{other.name}")
    assert source.controller.current(other.name) == other.revision
    requests = source.remote.requests.count(source.name)
    source.controller.start()
    servers.until(lambda: source.remote.requests.count(source.name) > requests, "the new process looks at it")
    servers.until(lambda: source.cluster.client.get(f"{SOURCES}/{other.name}").status_code == 404, "the other is gone")
    assert source.controller.current(other.name) is None
    assert source.object()["status"] == before["status"]
    source.commit("two")
    source.request()
    source.until_ready()


def test_a_status_that_cannot_be_written_is_written_later(source):
    """The right to it is taken away and given back; nobody has to do anything else."""
    source.create(interval="1s").until_ready()
    role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/source-controller-example"
    rules = source.cluster.request("GET", role)["rules"]
    source.cluster.request(
        "PATCH", role, {"rules": [each for each in rules if each["resources"] != ["sources/status"]]}
    )
    source.commit("two")
    failed = f"[team/{source.name}] Daemon 'keep' failed temporarily: the status could not be written: ForbiddenError: Forbidden"
    servers.until(lambda: failed in source.controller.log.read_text(), "the status is not written")
    assert source.controller.current(source.name) == source.revision
    source.cluster.request("PATCH", role, {"rules": rules})
    source.until_ready()


def test_an_api_server_that_goes_away_is_waited_for(source):
    """Looks go on without it; what they came to is written when it is back, and what was asked for since is heard."""
    source.create(interval="1s").until_ready()
    source.cluster.stop()
    try:
        source.commit("two")
        servers.until(lambda: source.controller.current(source.name) == source.revision, "the store has the new one")
    finally:
        source.cluster.start()
    source.until_ready()
    source.request()


def test_what_the_api_server_can_know_to_be_wrong_it_refuses(source):
    """An unknown kind, a missing interval, a kind that changes."""
    source.create().until_ready()
    with pytest.raises(RuntimeError, match="kind is immutable"):
        source.patch(spec={"kind": "Bucket"})
    other = Source(source.cluster, source.controller, source.remote, "refused")
    for wrong in ({"kind": "HelmChart"}, {"interval": None}):
        with pytest.raises(RuntimeError, match="422"):
            other.create(**wrong)


def test_the_object_the_how_to_shows_is_accepted(cluster):
    document = yaml.safe_load((EXAMPLE / "podinfo.yaml").read_text())
    cluster.request("POST", "/apis/sources.example.org/v1/namespaces/default/sources?dryRun=All", document)

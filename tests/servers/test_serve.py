"""What others wrote reads what we serve: Flux's fetcher and its OCI client, crane, skopeo, oras, curl; under three ASGI servers."""

import contextlib
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import httpx
import pytest

from fluxsrc.artifact import SourceKey
from fluxsrc.directory import DirectorySource
from fluxsrc.memory import MemorySource
from fluxsrc.oci import OCISource
from fluxsrc.revision import Revision
from fluxsrc.server import app, serving
from fluxsrc.status import artifact_path
from fluxsrc.stores import LocalStore, MemoryStore
from helpers import oci_servers as servers
from helpers.programs import free_port, listens, process, run, tool

pytestmark = pytest.mark.servers


KEY = SourceKey("directory", "default", "app")
TOKEN = "t0ken"
LAYER = "application/vnd.cncf.flux.content.v1.tar+gzip"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree") / "tree"
    files = {
        "app.yaml": b"kind: Deployment\n",
        "base/kustomization.yaml": b"resources: []\n",
        "base/\u00fc/deep/x": b"x",
    }
    files["big"] = random.Random(4).randbytes(3_000_000)
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    return root


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tree: Path) -> LocalStore:
    """Two artifacts; the current one was found under a tag."""
    found = LocalStore(tmp_path_factory.mktemp("store") / "store", durable=False)
    MemorySource({"app.yaml": "earlier"}).produce_artifact(found, name="app")
    artifact = DirectorySource(tree).produce_artifact(found, name="app")
    facts = {
        "org.opencontainers.image.source": "https://example.com/repo",
        "org.opencontainers.image.revision": "main@sha1:abc",
    }
    found.put(attrs.evolve(artifact, revision=Revision(artifact.revision.digest, "v1.0.0"), annotations=facts))
    found.flush()
    return found


@pytest.fixture(scope="module")
def url(store: LocalStore) -> Iterator[str]:
    with serving(app(store)) as found:
        yield found


@pytest.fixture(scope="module")
def repository(url: str) -> str:
    return f"{url.removeprefix('http://')}/{KEY}"


@pytest.fixture
def artifact(store: LocalStore):
    found = store.lookup(KEY)
    assert found is not None
    return found


def unpacked(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def fails(*command: object) -> str:
    words = [tool(str(command[0])), *map(str, command[1:])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    return done.stdout + done.stderr


# --- Flux ------------------------------------------------------------------------------------------------------------


def test_fluxs_fetcher_reads_verifies_and_unpacks(url, artifact, tree, tmp_path):
    """As kustomize-controller does with `status.artifact`, here at the artifact's own URL and at `latest`."""
    for number, path in enumerate((artifact_path(artifact), f"{KEY}/latest.tar.gz")):
        out = tmp_path / str(number)
        out.mkdir()
        run("flux-fetch", f"{url}/{path}", artifact.digest, out)
        assert unpacked(out) == unpacked(tree)
        assert os.access(out / "run.sh", os.X_OK)


def test_fluxs_fetcher_says_what_is_not_there(url, artifact, tmp_path):
    assert "file not found" in fails("flux-fetch", f"{url}/{KEY}/nothing.tar.gz", artifact.digest, tmp_path)
    assert "doesn't match" in fails("flux-fetch", f"{url}/{KEY}/latest", f"sha256:{'0' * 64}", tmp_path)


def test_fluxs_fetcher_gets_an_error_and_no_bytes_of_what_is_damaged(tmp_path):
    store = LocalStore(tmp_path / "store", durable=False)
    artifact = MemorySource({"a": random.Random(5).randbytes(500_000)}).produce_artifact(store, name="app")
    path = store.blob_path(artifact.digest)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    with serving(app(store)) as url:
        assert "giving up" in fails("flux-fetch", f"{url}/{artifact_path(artifact)}", artifact.digest, tmp_path)


def test_fluxs_oci_client_pulls_and_lists(repository, artifact, tree, tmp_path):
    """The code of `flux pull artifact` and of OCIRepository."""
    out = tmp_path / "out"
    out.mkdir()
    found = json.loads(run("flux-peer", "oci-pull", f"{repository}:v1.0.0", out))
    assert found["digest"].endswith(str(artifact.manifest))
    assert (found["source"], found["revision"]) == ("https://example.com/repo", "main@sha1:abc")
    assert unpacked(out) == unpacked(tree)
    lines = "\n".join(json.loads(run("flux-peer", "oci-list", repository))["tags"])
    assert f"{repository}:v1.0.0" in lines
    assert f"{repository}:latest" in lines


def test_our_own_client_pulls_by_version(repository, artifact):
    source = OCISource(f"oci://{repository}", semver="1.x", insecure=True)
    assert source.produce_artifact(MemoryStore()).content_digest == artifact.content_digest


# --- registries' tools -----------------------------------------------------------------------------------------------


def test_crane_validates_lists_and_reads(repository, artifact, tmp_path):
    assert run("crane", "digest", "--insecure", f"{repository}:latest").strip() == str(artifact.manifest)
    assert "PASS" in run("crane", "validate", "--insecure", "--remote", f"{repository}:v1.0.0")
    tags = run("crane", "ls", "--insecure", repository).split()
    assert {"latest", "v1.0.0", artifact.revision.digest.hex} <= set(tags)
    manifest = json.loads(run("crane", "manifest", "--insecure", f"{repository}@{artifact.manifest}"))
    blob = f"{repository}@{manifest['layers'][0]['digest']}"
    data = subprocess.run([tool("crane"), "blob", "--insecure", blob], capture_output=True, check=True).stdout
    assert hashlib.sha256(data).hexdigest() == artifact.digest.hex
    run("crane", "pull", "--insecure", "--format", "oci", f"{repository}:latest", tmp_path / "layout")
    assert (tmp_path / "layout" / "blobs" / "sha256" / artifact.digest.hex).exists()


def test_crane_copies_to_another_registry(repository, artifact, tmp_path):
    with servers.crane_registry(tmp_path) as host:
        run("crane", "copy", "--insecure", f"{repository}:latest", f"{host}/copy:v1")
        assert run("crane", "digest", "--insecure", f"{host}/copy:v1").strip() == str(artifact.manifest)


def test_skopeo_inspects_lists_and_copies(repository, artifact, tree, tmp_path):
    raw = run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{repository}:latest")
    assert json.loads(raw)["layers"][0]["mediaType"] == LAYER
    listed = json.loads(run("skopeo", "list-tags", "--tls-verify=false", f"docker://{repository}"))
    assert {"latest", "v1.0.0"} <= set(listed["Tags"])
    run("skopeo", "copy", "--src-tls-verify=false", "--preserve-digests", f"docker://{repository}:v1.0.0",
        f"oci:{tmp_path}/layout:v1")  # fmt: skip
    copied = OCISource(f"oci-layout:{tmp_path}/layout:v1")
    assert copied.resolve_revision().digest == artifact.manifest
    assert copied.produce_artifact(MemoryStore()).content_digest == artifact.content_digest


def test_oras_fetches_copies_and_discovers_what_it_attached(tmp_path, tree):
    """`oras attach` writes into the store, which is an image layout; over HTTP its referrers are found and pulled."""
    store = LocalStore(tmp_path / "store", durable=False)
    artifact = DirectorySource(tree).produce_artifact(store, name="app")
    store.flush()
    (tmp_path / "sbom.json").write_text('{"spdx": true}')
    run("oras", "attach", "--oci-layout", f"{store.path}@{artifact.manifest}", "--artifact-type", "application/spdx+json",
        "sbom.json:application/json", cwd=tmp_path)  # fmt: skip
    with serving(app(store)) as url:
        repository = f"{url.removeprefix('http://')}/{KEY}"
        found = json.loads(run("oras", "discover", "--plain-http", "--format", "json", f"{repository}:latest"))
        [sbom] = found["manifests"]
        assert sbom["artifactType"] == "application/spdx+json"
        run("oras", "pull", "--plain-http", f"{repository}@{sbom['digest']}", "--output", tmp_path / "pulled")
        assert (tmp_path / "pulled" / "sbom.json").read_text() == '{"spdx": true}'
        run("oras", "blob", "fetch", "--plain-http", f"{repository}@{artifact.digest}", "--output", tmp_path / "layer")
        assert hashlib.sha256((tmp_path / "layer").read_bytes()).hexdigest() == artifact.digest.hex
        assert "latest" in run("oras", "repo", "tags", "--plain-http", repository).split()
        run(
            "oras",
            "copy",
            "--recursive",
            "--from-plain-http",
            f"{repository}:latest",
            "--to-oci-layout",
            f"{tmp_path}/copy:v1",
        )
        assert (tmp_path / "copy" / "blobs" / "sha256" / sbom["digest"].removeprefix("sha256:")).exists()
        before = store.gc(grace=0)
        assert "latest" in run("oras", "repo", "tags", "--plain-http", repository).split()
        assert before.blobs == 0, "what index.json lists is nobody's garbage"


def test_with_a_token_registries_tools_log_in_as_they_always_do(store, artifact, tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with serving(app(store, token=TOKEN)) as url:
        host = url.removeprefix("http://")
        repository = f"{host}/{KEY}"
        assert "UNAUTHORIZED" in fails("crane", "digest", "--insecure", f"{repository}:latest").upper()
        run("crane", "auth", "login", "--insecure", host, "-u", "robot", "-p", TOKEN)
        assert run("crane", "digest", "--insecure", f"{repository}:latest").strip() == str(artifact.manifest)
        assert run(
            "oras",
            "manifest",
            "fetch",
            "--plain-http",
            "--username",
            "robot",
            "--password",
            TOKEN,
            f"{repository}:latest",
        )
        run(
            "skopeo",
            "inspect",
            "--raw",
            "--tls-verify=false",
            "--creds",
            f"robot:{TOKEN}",
            f"docker://{repository}:latest",
        )
        (tmp_path / "out").mkdir()
        run("flux-peer", "oci-pull", f"{repository}:latest", tmp_path / "out")
        assert run("curl", "-sf", "-H", f"Authorization: Bearer {TOKEN}", "-o", "/dev/null", "-w", "%{http_code}",
                   f"{url}/{artifact_path(artifact)}") == "200"  # fmt: skip


# --- curl ------------------------------------------------------------------------------------------------------------


def curl(*words: object) -> str:
    return run("curl", "-sS", *words)


def test_curl_reads_parts_and_resumes(url, artifact, store, tmp_path):
    with store.open(artifact) as stream:
        whole = stream.read()
    target = f"{url}/{artifact_path(artifact)}"
    part = tmp_path / "part"
    for span, expected in (("0-99", whole[:100]), ("-100", whole[-100:]), ("100-", whole[100:])):
        assert curl("-r", span, "-o", part, "-w", "%{http_code}", target) == "206"
        assert part.read_bytes() == expected
    part.write_bytes(whole[:1_234_567])
    assert curl("-C", "-", "-o", part, "-w", "%{http_code} %{size_download}", target) == f"206 {len(whole) - 1_234_567}"
    assert part.read_bytes() == whole
    assert curl("-r", "99999999-", "-o", part, "-w", "%{http_code}", target) == "416"
    assert curl("-r", "0-1,5-6", "-o", part, "-w", "%{http_code}", target) == "200"


def test_curl_asks_whether_something_changed(url, artifact, tmp_path):
    target = f"{url}/{KEY}/latest"
    etag = tmp_path / "etag"
    words = ["--etag-save", etag, "--etag-compare", etag, "-o", tmp_path / "out", "-w", "%{http_code}", target]
    etag.touch()
    assert [curl(*words), curl(*words)] == ["200", "304"]
    time.sleep(1.1)  # in its first second nothing has a date
    head = curl("-I", target)
    assert f'etag: "{artifact.digest}"' in head
    date = re.search(r"last-modified: (.*)", head)[1]
    assert curl("-H", f"If-Modified-Since: {date}", "-o", "/dev/null", "-w", "%{http_code}", target) == "304"
    assert curl("--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", f"{url}/../../etc/passwd") == "404"


def test_a_byte_that_is_flipped_while_curl_downloads_never_arrives(tmp_path):
    """The transfer ends early, and all that arrived is right: nothing of what was read after the damage."""
    store = LocalStore(tmp_path / "store", durable=False)
    artifact = MemorySource({"data": random.Random(8).randbytes(40_000_000)}).produce_artifact(store, name="app")
    blob, out = store.blob_path(artifact.digest), tmp_path / "out"
    whole = blob.read_bytes()
    blob.chmod(0o644)
    with serving(app(store)) as url:
        words = [tool("curl"), "-sS", "--limit-rate", "8M", "-o", out, f"{url}/{artifact_path(artifact)}"]
        download = subprocess.Popen([*map(str, words)], stderr=subprocess.DEVNULL)
        while not out.exists() or not out.stat().st_size:
            time.sleep(0.01)
        with blob.open("r+b") as stream:
            stream.seek(len(whole) - 1000)
            stream.write(bytes([whole[-1000] ^ 1]))
        assert download.wait(60) == 18, "curl's word for a transfer that is not complete"
        assert fails("curl", "-sSf", f"{url}/{artifact_path(artifact)}").endswith("500\n")
    arrived = out.read_bytes()
    assert 0 < len(arrived) < len(whole) - 1000
    assert whole.startswith(arrived)


# --- load, while the store is collected ------------------------------------------------------------------------------


@attrs.define
class Churn:
    """A writer that replaces the current artifact all the time and has the one before swept at once."""

    store: LocalStore
    size: int
    ttl: float = 0.0
    rounds: int = 0
    swept: int = 0
    stop: threading.Event = attrs.field(factory=threading.Event)
    failures: list[BaseException] = attrs.field(factory=list)

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                data = random.Random(self.rounds).randbytes(self.size)
                MemorySource({"data": data}).produce_artifact(self.store, name="hot")
                self.store.retain(records=1, ttl=self.ttl)
                self.swept += self.store.gc(grace=0).blobs
                self.rounds += 1
        except BaseException as exc:
            self.failures.append(exc)


@attrs.define
class Reader:
    """Reads, and holds each answer against the digest that its own headers tell."""

    url: str
    slowly: bool
    read: int = 0
    wrong: list[str] = attrs.field(factory=list)

    def run(self, stop: threading.Event) -> None:
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                with client.stream("GET", self.url) as answer:
                    hasher = hashlib.sha256()
                    for number, piece in enumerate(answer.iter_raw(chunk_size=16_384)):
                        hasher.update(piece)
                        if self.slowly and number % 20 == 0:
                            time.sleep(0.002)  # so that it is swept while it travels
                    if answer.status_code != 200 or answer.headers["etag"] != f'"sha256:{hasher.hexdigest()}"':
                        self.wrong.append(f"{answer.status_code} {answer.headers} {hasher.hexdigest()}")
                self.read += 1


@contextlib.contextmanager
def together(*targets) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=target, args=(stop,)) for target in targets]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def wrk(url: str, seconds: int) -> dict[str, float]:
    printed = run("wrk", "-t1", "-c16", f"-d{seconds}s", "--latency", url)
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", printed)
    sockets = re.search(r"Socket errors: (.*)", printed)
    assert sockets is None, printed
    rate, count = re.search(r"Requests/sec: +([\d.]+)", printed), re.search(r"(\d+) requests in", printed)
    return {"failed": int(errors[1]) if errors else 0, "requests": int(count[1]), "rate": float(rate[1])}


@pytest.mark.parametrize("size", [2_000, 600_000])
def test_under_load_no_request_is_lost_to_a_collector(tmp_path, size):
    """`latest` of a source that is replaced and swept all the time, and another one that stays: every answer is 200 and whole."""
    store = LocalStore(tmp_path / "store", durable=False)
    churn = Churn(store, size)
    MemorySource({"data": b"first"}).produce_artifact(store, name="hot")
    stays = MemorySource({"data": random.Random(6).randbytes(size)}).produce_artifact(store, name="stays")
    command = [sys.executable, "-m", "fluxsrc", "serve", "--store", str(store.path), "--port"]
    port = free_port()
    with process([*command, str(port)], tmp_path / "log", ready=listens(port)):
        base = f"http://127.0.0.1:{port}"
        readers = [Reader(f"{base}/memory/default/hot/latest", slowly=slowly) for slowly in (False, True)]
        writer = threading.Thread(target=churn.run)
        writer.start()
        with together(*(reader.run for reader in readers)):
            hot = wrk(f"{base}/memory/default/hot/latest", 4)
            fixed = wrk(f"{base}/{artifact_path(stays)}", 2)
            registry = wrk(f"{base}/v2/memory/default/hot/manifests/latest", 2)
        churn.stop.set()
        writer.join()
    assert churn.failures == []
    assert (hot["failed"], fixed["failed"], registry["failed"]) == (0, 0, 0)
    assert [reader.wrong for reader in readers] == [[], []]
    assert min(reader.read for reader in readers) > 0
    assert churn.rounds > 5
    assert churn.swept > 5


def test_pulls_in_two_steps_are_not_lost_to_a_collector_either(tmp_path):
    """First the manifest or the address, then the blob, of a source that is replaced meanwhile: `retain` leaves time for that."""
    store = LocalStore(tmp_path / "store", durable=False)
    MemorySource({"data": b"first"}).produce_artifact(store, name="hot")
    churn = Churn(store, 600_000, ttl=5.0)
    with serving(app(store)) as url:
        repository = f"{url.removeprefix('http://')}/memory/default/hot"
        writer = threading.Thread(target=churn.run)
        writer.start()
        try:
            for number in range(100):
                if number >= 5 and churn.swept > 5:
                    break
                assert "PASS" in run("crane", "validate", "--insecure", "--remote", f"{repository}:latest")
                (tmp_path / f"flux{number}").mkdir()
                run("flux-peer", "oci-pull", f"{repository}:latest", tmp_path / f"flux{number}")
                run(
                    "oras",
                    "copy",
                    "--from-plain-http",
                    f"{repository}:latest",
                    "--to-oci-layout",
                    f"{tmp_path}/copy:v{number}",
                )
                artifact = store.lookup(SourceKey("memory", "default", "hot"))
                (tmp_path / f"fetch{number}").mkdir()
                run("flux-fetch", f"{url}/{artifact_path(artifact)}", artifact.digest, tmp_path / f"fetch{number}")
        finally:
            churn.stop.set()
            writer.join()
    assert churn.failures == []
    assert churn.swept > 5


# --- other ASGI servers ----------------------------------------------------------------------------------------------

_MODULE = """
import os
from fluxsrc import LocalStore
from fluxsrc.server import app
application = app(LocalStore(os.environ["FLUXSRC_STORE"], durable=False))
"""


@contextlib.contextmanager
def under(name: str, store: LocalStore, directory: Path) -> Iterator[str]:
    (directory / "served.py").write_text(_MODULE)
    port = free_port()
    program = str(Path(sys.executable).with_name(name))
    command = {
        "granian": [program, "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "served:application"],
        "hypercorn": [program, "--bind", f"127.0.0.1:{port}", "served:application"],
        "uvicorn": [program, "--host", "127.0.0.1", "--port", str(port), "served:application"],
    }[name]
    if not Path(program).exists():
        pytest.fail(f"{name} is not installed: pip install 'fluxsrc[dev]'")
    env = {"FLUXSRC_STORE": str(store.path), "PYTHONPATH": str(directory)}
    with process(command, directory / "log", ready=listens(port), env=env):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn", "granian"])
def test_any_asgi_server_runs_it(name, store, artifact, tmp_path, tree):
    with under(name, store, tmp_path) as url:
        target = f"{url}/{artifact_path(artifact)}"
        out = tmp_path / "out"
        out.mkdir()
        run("flux-fetch", target, artifact.digest, out)
        assert unpacked(out) == unpacked(tree)
        assert "PASS" in run(
            "crane", "validate", "--insecure", "--remote", f"{url.removeprefix('http://')}/{KEY}:latest"
        )
        assert curl("-r", "5-9", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", target) == "206 5"
        assert (
            curl("-H", f'If-None-Match: "{artifact.digest}"', "-o", "/dev/null", "-w", "%{http_code}", target) == "304"
        )
        assert curl("-I", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", target) == "200 0"
        assert curl("-X", "BREW", "-o", "/dev/null", "-w", "%{http_code}", target) in ("405", "400", "501")
        assert curl("-o", "/dev/null", "-w", "%{http_code}", f"{url}/directory%2Fdefault/app/latest") == "404"


def test_granian_sends_files_by_itself_and_loses_none_to_a_collector(tmp_path):
    """The path that it is given is leased: what was current when it was asked for can be opened when it gets to it."""
    store = LocalStore(tmp_path / "store", durable=False)
    MemorySource({"data": random.Random(7).randbytes(600_000)}).produce_artifact(store, name="hot")
    churn = Churn(store, 600_000)
    with under("granian", store, tmp_path) as url:
        readers = [Reader(f"{url}/memory/default/hot/latest", slowly=slowly) for slowly in (False, True)]
        writer = threading.Thread(target=churn.run)
        writer.start()
        with together(*(reader.run for reader in readers)):
            loaded = wrk(f"{url}/memory/default/hot/latest", 3)
        churn.stop.set()
        writer.join()
        leases = len(list((store.path / "leases").iterdir()))
    assert churn.failures == []
    assert (loaded["failed"], [reader.wrong for reader in readers]) == (0, [[], []])
    assert leases > 0, "it took no path"

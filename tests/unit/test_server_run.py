"""The server as a process and as a thread: uvicorn, TLS, ports, signals, `fluxsrc serve`."""

import hashlib
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization

from fluxsrc.cli import main
from fluxsrc.errors import ConfigurationError, MissingExtraError
from fluxsrc.http_artifact import HTTPArtifactSource
from fluxsrc.memory import MemorySource
from fluxsrc.oci import OCISource
from fluxsrc.server import app, serving
from fluxsrc.status import artifact_path
from fluxsrc.stores import LocalStore, MemoryStore

TLS = Path(__file__).parent / "data" / "tls"
FILES = {"app.yaml": "kind: Deployment\n", "big": random.Random(2).randbytes(1_000_000)}


@pytest.fixture
def artifact(store):
    return MemorySource(FILES).produce_artifact(store, name="app")


def test_our_own_sources_read_what_is_served(store, artifact):
    """As an archive with and without its digest, and as an artifact in a registry: one content digest."""
    with serving(app(store)) as url:
        sources = [
            HTTPArtifactSource(f"{url}/memory/default/app/latest.tar.gz"),
            HTTPArtifactSource(f"{url}/{artifact_path(artifact)}", digest=artifact.digest),
            OCISource(f"oci://{url.removeprefix('http://')}/memory/default/app:latest", insecure=True),
        ]
        found = {source.produce_artifact(MemoryStore()).content_digest for source in sources}
    assert found == {artifact.content_digest}


def test_a_connection_carries_many_requests(store, artifact):
    with serving(app(store)) as url, httpx.Client(base_url=url) as client:
        for _ in range(5):
            answer = client.get(f"/{artifact_path(artifact)}")
            assert hashlib.sha256(answer.content).hexdigest() == artifact.digest.hex
            assert client.head("/memory/default/app/latest").status_code == 200
            assert client.get("/nothing").status_code == 404


def test_leaving_the_block_ends_the_thread_and_frees_the_port(store, artifact):
    before = threading.active_count()
    with serving(app(store)) as url:
        port = int(url.rpartition(":")[2])
        assert httpx.get(f"{url}/healthz").status_code == 200
    assert {thread.name for thread in threading.enumerate()} & {"fluxsrc-server"} == set()
    assert threading.active_count() <= before + 1
    socket.create_server(("127.0.0.1", port)).close()


def test_with_a_certificate_it_speaks_tls(store, artifact):
    context = ssl.create_default_context(cafile=TLS / "ca.pem")
    with serving(app(store), tls_cert=TLS / "server.pem", tls_key=TLS / "server.key") as url:
        assert url.startswith("https://")
        assert httpx.get(f"{url}/healthz", verify=context).status_code == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tls_cert": TLS / "server.pem"}, "belong together"),
        ({"tls_key": TLS / "server.key"}, "belong together"),
        ({"tls_cert": TLS / "server.pem", "tls_key": TLS / "client.key"}, "cannot use the certificate"),
        ({"tls_cert": TLS / "nothing", "tls_key": TLS / "client.key"}, "No such file"),
        ({"tls_cert": TLS / "README.md", "tls_key": TLS / "README.md"}, "cannot use the certificate"),
        ({"host": "192.0.2.1"}, "cannot listen on 192.0.2.1"),
        ({"host": "no such host"}, "cannot listen"),
        ({"port": 99999}, "cannot listen"),
    ],
)
def test_what_cannot_be_served_is_said_before_anything_is(options, message):
    with pytest.raises(ConfigurationError, match=message), serving(app(MemoryStore()), **options):
        pytest.fail("it serves")


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(tmp_path):
    key = serialization.load_pem_private_key((TLS / "server.key").read_bytes(), None)
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"a password"),
        )
    )
    options = {"tls_cert": TLS / "server.pem", "tls_key": encrypted}
    with pytest.raises(ConfigurationError, match="cannot use the certificate"), serving(app(MemoryStore()), **options):
        pytest.fail("it serves")


def test_a_port_that_is_taken_is_named():
    with serving(app(MemoryStore())) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(ConfigurationError, match=f"port {port}: Address already in use"):
            serving(app(MemoryStore()), port=port).__enter__()


def test_it_listens_on_ipv6_too():
    with serving(app(MemoryStore()), host="::1") as url:
        assert url.startswith("http://[::1]:")
        assert httpx.get(f"{url}/healthz").status_code == 200


def test_without_uvicorn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtraError, match=r"fluxsrc\[server\]"):
        serving(app(MemoryStore())).__enter__()


def test_importing_the_module_loads_no_server():
    program = "import sys, fluxsrc.server; print({'uvicorn', 'starlette', 'prometheus_client'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"


# --- the command -----------------------------------------------------------------------------------------------------


class Served:
    """`fluxsrc serve` in a process of its own."""

    def __init__(self, *words, env=None):
        command = [sys.executable, "-m", "fluxsrc", "serve", "--port", "0", "--json", *map(str, words)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
        )
        line = self.process.stdout.readline()
        if not line.startswith("{"):
            rest = self.process.communicate(timeout=30)
            pytest.fail(f"it does not start: {line}{rest}")
        text = line
        while not text.rstrip().endswith("}"):
            text += self.process.stdout.readline()
        self.said = json.loads(text)
        self.url = self.said["url"]

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@pytest.fixture
def serve():
    started = []

    def start(*words, **options):
        started.append(Served(*words, **options))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


def test_the_command_serves_a_store_until_it_is_told_to_stop(store, artifact, serve):
    served = serve("--store", store.path, "--prefix", "team/a")
    assert served.said["store"] == str(store.path)
    answer = httpx.get(f"{served.url}/team/a/{artifact_path(artifact)}")
    assert hashlib.sha256(answer.content).hexdigest() == artifact.digest.hex
    code, errors = served.end(signal.SIGINT)
    assert code == 130
    assert "Traceback" not in errors


def test_an_answer_under_way_is_finished_after_sigterm(tmp_path, serve):
    """No request is lost when the server is replaced."""
    store = LocalStore(tmp_path / "store", durable=False)
    content = random.Random(3).randbytes(30_000_000)  # more than all buffers on the way hold
    artifact = MemorySource({"big": content}).produce_artifact(store, name="app")
    served = serve("--store", store.path)
    hasher = hashlib.sha256()
    with httpx.stream("GET", f"{served.url}/{artifact_path(artifact)}") as answer:
        pieces = answer.iter_bytes()
        hasher.update(next(pieces))
        served.process.send_signal(signal.SIGTERM)
        for piece in pieces:
            hasher.update(piece)
    assert hasher.hexdigest() == artifact.digest.hex
    assert served.process.wait(30) == 143


def test_the_command_asks_for_the_token_in_a_file_which_may_change(store, artifact, serve, tmp_path):
    file = tmp_path / "token"
    file.write_text("0ne\n")
    served = serve("--store", store.path, "--token-file", file)
    url = f"{served.url}/{artifact_path(artifact)}"
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers={"Authorization": "Bearer 0ne"}).status_code == 200
    file.write_text("tw0\n")
    assert httpx.get(url, headers={"Authorization": "Bearer 0ne"}).status_code == 401
    assert httpx.get(url, auth=("robot", "tw0")).status_code == 200
    file.unlink()
    assert httpx.get(url, headers={"Authorization": "Bearer tw0"}).status_code == 503
    _, errors = served.end()
    assert "cannot read the token file" in errors
    assert "tw0" not in errors
    assert "0ne" not in errors


def test_the_command_speaks_tls(store, serve):
    served = serve("--store", store.path.parent, "--tls-cert", TLS / "server.pem", "--tls-key", TLS / "server.key")
    context = ssl.create_default_context(cafile=TLS / "ca.pem")
    assert httpx.get(f"{served.url}/healthz", verify=context).status_code == 200


def test_a_damaged_blob_is_one_clear_line_of_the_log(store, artifact, serve):
    path = store.blob_path(artifact.digest)
    path.chmod(0o644)
    path.write_bytes(bytes(artifact.size))
    served = serve("--store", store.path)
    assert httpx.get(f"{served.url}/memory/default/app/latest").status_code == 500
    _, errors = served.end()
    [line] = [line for line in errors.splitlines() if "refused to serve" in line]
    assert str(artifact.digest) in line
    assert str(path) in line
    assert "Traceback" not in errors


def test_damage_in_the_middle_of_an_answer_is_one_clear_line_of_the_log(tmp_path, serve):
    """The client sees that something is missing; whoever is on call sees which file, and no traceback."""
    store = LocalStore(tmp_path / "store", durable=False)
    content = random.Random(4).randbytes(30_000_000)  # more than all buffers on the way hold
    artifact = MemorySource({"big": content}).produce_artifact(store, name="app")
    path = store.blob_path(artifact.digest)
    path.chmod(0o644)
    served = serve("--store", store.path)
    with httpx.stream("GET", f"{served.url}/{artifact_path(artifact)}") as answer:
        pieces = answer.iter_raw()
        next(pieces)
        with path.open("r+b") as stream:
            stream.seek(-1, os.SEEK_END)
            stream.write(b"?")
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)
    _, errors = served.end()
    [line, _] = errors.splitlines()  # the other one says that it was told to stop
    warning = json.loads(line)["warning"]
    assert warning.startswith("cut the answer to '/memory/default/app/")
    assert f"short: {path} is damaged" in warning


def run(capsys, *words):
    code = main([*map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--store", "nothing"], 5, "there is no store"),
        (["--store", "store", "--token-file", "nothing"], 2, "cannot read the token file"),
        (["--store", "store", "--token-file", "empty"], 2, "admit everybody"),
        (["--store", "store", "--tls-cert", "nothing"], 2, "belong together"),
        (["--store", "store", "--prefix", ".."], 2, "not a prefix"),
        (["--store", "store", "--port", "70000"], 2, "70000"),
    ],
)
def test_mistakes_are_said_at_once(capsys, tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    (tmp_path / "empty").write_text("\n")
    found, _, errors = run(capsys, "serve", *words)
    assert found == code
    assert message in errors


def test_without_the_extra_nothing_is_announced(capsys, tmp_path, monkeypatch):
    """Whoever waits for the line would wait for a server that never answers."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, out, errors = run(capsys, "serve", "--store", tmp_path, "--port", 0)
    assert (code, out) == (2, "")
    assert "fluxsrc[server]" in errors


def test_a_token_without_tls_on_all_addresses_is_warned_of(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("fluxsrc.cli.serve.run", lambda *_: None)
    store, token = tmp_path / "store", tmp_path / "token"
    store.mkdir()
    token.write_text("hunter2")
    words = ["serve", "--store", store, "--port", 0, "--token-file", token]
    for host in ("127.0.0.1", "localhost", "0.0.0.0"):
        code, out, errors = run(capsys, *words, "--host", host)
        assert code == 0
        assert out.startswith(f"serving {store} at http://{host}:")
        assert ("without TLS" in errors) is (host == "0.0.0.0")
        assert "hunter2" not in out + errors

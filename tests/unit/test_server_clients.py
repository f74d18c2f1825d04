"""Clients that do not behave: what they cannot make the server keep, and cannot make it believe."""

import asyncio
import contextlib
import importlib
import random
import re
import socket
import ssl
import threading
import types
from pathlib import Path

import httpx
import pytest

from fluxsrc.memory import MemorySource
from fluxsrc.server import app, serving
from fluxsrc.server._patience import Patience
from fluxsrc.stores import MemoryStore
from helpers.waiting import wait_until

TLS = Path(__file__).parent / "data" / "tls"
FILES = {"app.yaml": "kind: Deployment\n", "big": random.Random(2).randbytes(1_000_000)}


@pytest.fixture
def artifact(store):
    return MemorySource(FILES).produce_artifact(store, name="app")


# --- clients that do not behave --------------------------------------------------------------------------------------


def connected(url):
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60)


def rest_of(connection):
    """All that still comes, until the server ends the connection, in whatever way."""
    data = bytearray()
    try:
        while piece := connection.recv(65_536):
            data += piece
    except (ConnectionResetError, ssl.SSLEOFError):
        pass
    return bytes(data)


@pytest.mark.parametrize("parser", ["h11", "httptools"])
@pytest.mark.parametrize("line", [b"X: " + b"a" * 1000 + b"\r\n", b"a" * 1000])
def test_a_head_without_end_is_not_kept(parser, line, monkeypatch):
    """uvicorn's compiled parser would keep all of it, as long as there is memory; both parsers are installed for this test."""
    module = importlib.import_module(f"uvicorn.protocols.http.{parser}_impl")
    protocol = module.H11Protocol if parser == "h11" else module.HttpToolsProtocol
    monkeypatch.setattr("uvicorn.protocols.http.auto.AutoHTTPProtocol", protocol)
    with serving(app(MemoryStore())) as url, connected(url) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 100_000_000:
                sent += connection.send(line * 10)
        assert sent < 20_000_000, "more than the buffers of both ends"
        assert b"200 OK" not in rest_of(connection)
        assert httpx.get(f"{url}/healthz").status_code == 200


@pytest.mark.parametrize("parser", ["H11Protocol", "HttpToolsProtocol"])
def test_many_requests_of_one_connection_are_not_one_long_head(parser, monkeypatch):
    """Each in two pieces, so that a head is incomplete for a while, and together longer than a head may be."""
    module = importlib.import_module(f"uvicorn.protocols.http.{parser.removesuffix('Protocol').lower()}_impl")
    monkeypatch.setattr("uvicorn.protocols.http.auto.AutoHTTPProtocol", getattr(module, parser))
    with serving(app(MemoryStore())) as url, connected(url) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(40):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2000)
            connection.sendall(b"\r\n\r\n")
            found = b""
            while not found.endswith(b"\r\n\r\nok\n"):
                piece = connection.recv(65_536)
                assert piece, found
                found += piece
            assert found.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\n", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /h"])
def test_a_client_that_does_not_finish_asking_is_given_up(said, monkeypatch):
    """Though it sends a letter now and then, which uvicorn takes for a sign of life."""
    with serving(app(MemoryStore())) as url, connected(url) as connection:
        with monkeypatch.context() as patch, contextlib.suppress(ConnectionError):
            connection.sendall(said)
            patch.setattr("fluxsrc.server._patience._SECONDS", 0.5)
            for _ in range(600):
                connection.sendall(b"x")
                threading.Event().wait(0.05)
            pytest.fail("it waits for ever")
        assert httpx.get(f"{url}/healthz").status_code == 200


def open_files():
    return {path.resolve() for path in Path("/proc/self/fd").iterdir()}


@pytest.mark.parametrize("tls", [False, True])
def test_a_client_that_takes_nothing_is_given_up(store, monkeypatch, tls):
    """Its descriptor and its piece of memory are free again; what it got is the beginning of an answer."""
    artifact = MemorySource({"big": random.Random(3).randbytes(30_000_000)}).produce_artifact(store, name="app")
    certificate = {"tls_cert": TLS / "server.pem", "tls_key": TLS / "server.key"} if tls else {}
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(serving(app(store), **certificate))
        connection = stack.enter_context(connected(url))
        if tls:
            context = ssl.create_default_context(cafile=TLS / "ca.pem")
            connection = stack.enter_context(context.wrap_socket(connection, server_hostname="127.0.0.1"))
        connection.sendall(b"GET /memory/default/app/latest HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1) == b"H"  # the answer has begun
        blob = store.blob_path(artifact.digest)
        assert blob in open_files()
        monkeypatch.setattr("fluxsrc.server._patience._SECONDS", 0.5)
        wait_until(lambda: blob not in open_files())
        assert len(rest_of(connection)) < artifact.size


class _Connection:
    """What `Patience` sees of a connection of uvicorn."""

    def __init__(self):
        self.cycle = None
        self.transport = self
        self.unsent = 0
        self.aborted = False

    def get_write_buffer_size(self):
        return self.unsent

    def abort(self):
        self.aborted = True

    def ask(self, *, complete=False):
        self.cycle = types.SimpleNamespace(response_complete=complete)


def test_only_clients_that_nothing_comes_from_are_given_up():
    """Neither those who read slowly, nor those who ask again and again, nor those who wait for us."""
    kinds = ["idle", "waits", "stalled", "slow", "busy", "done"]
    connections = {kind: _Connection() for kind in kinds}
    for kind in ("waits", "stalled", "slow"):
        connections[kind].ask()
    connections["stalled"].unsent = connections["slow"].unsent = 100_000
    connections["done"].ask(complete=True)
    now = 0.0
    patience = Patience(connections.values, clock=lambda: now)
    for step in range(70):
        now = float(step)
        connections["busy"].ask(complete=True)
        connections["slow"].unsent -= 1
        asyncio.run(patience())
        given_up = {kind for kind, connection in connections.items() if connection.aborted}
        assert given_up == (set() if step < 60 else {"idle", "stalled", "done"})


# --- what reaches us as a request, and what does not -----------------------------------------------------------------


def test_a_body_that_nobody_asked_for_is_not_the_next_request(store, artifact):
    """What looks like a request inside of a body stays a body, whatever its length is told by."""
    inner = b"GET /memory/default/app/latest HTTP/1.1\r\nHost: x\r\n\r\n"
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)
    for told, body in ((b"Content-Length: %d" % len(inner), inner), (b"Transfer-Encoding: chunked", chunk)):
        for method, status in ((b"GET", b"200 OK"), (b"POST", b"405 Method Not Allowed")):
            with serving(app(store)) as url, connected(url) as connection:
                first = b"%s /healthz HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n%s" % (method, told, body)
                last = b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                connection.sendall(first + last)
                found = rest_of(connection)
            assert re.findall(rb"HTTP/1.1 ([^\r]*)", found)[0] == status
            assert re.findall(rb"HTTP/1.1 ([^\r]*)", found)[1:] in ([b"404 Not Found"], [])
            assert artifact.digest.hex.encode() not in found


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: -1",
        b"Content-Length: 1_0",
        b"Transfer-Encoding: xchunked",
        b"X\x00Y: 1",
        b"X: a\x00b",
        b" X: folded",
        b"X : 1",
    ],
)
def test_a_head_that_two_servers_could_read_differently_is_refused(store, artifact, head):
    """Or at least not followed by another request on the same connection."""
    with serving(app(store)) as url, connected(url) as connection:
        latest = b"GET /memory/default/app/latest HTTP/1.1\r\nHost: x\r\n\r\n"
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n0\r\n\r\n" + latest)
        assert artifact.digest.hex.encode() not in rest_of(connection)


@pytest.mark.parametrize(
    "target",
    [b"/../../etc/passwd", b"http://other/etc/passwd", b"//other/etc/passwd", b"*", b"/%ff%fe", b"/?" + b"a" * 30_000],
)
def test_no_target_leads_out(store, artifact, target):
    with serving(app(store)) as url, connected(url) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target)
        assert rest_of(connection).split(b"\r\n")[0] in (b"HTTP/1.1 404 Not Found", b"HTTP/1.1 400 Bad Request")


def test_a_field_that_comes_twice_is_neither_of_the_two(store, artifact):
    """A proxy may have looked at the first one, or at the last; here both together are one value, which is no token."""
    ask = b"GET /memory/default/app/latest HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n"
    right, wrong = b"Authorization: Bearer right\r\n", b"Authorization: Bearer wrong\r\n"
    found = {}
    for fields in (right, right + wrong, wrong + right, right + right):
        with serving(app(store, token="right")) as url, connected(url) as connection:
            connection.sendall(ask % fields)
            found[fields] = rest_of(connection).split(b"\r\n")[0]
    assert found.pop(right) == b"HTTP/1.1 200 OK"
    assert set(found.values()) == {b"HTTP/1.1 401 Unauthorized"}

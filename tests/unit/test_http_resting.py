"""HTTP connections that rest between two clients: who gets one, who must not, and how each ends."""

import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fluxsrc._io.http import HTTPClient, resting
from fluxsrc._io.http.network import Channel
from fluxsrc._io.http.resting import RESTING
from fluxsrc.auth import Proxy, TLSConfig
from fluxsrc.errors import CertificateError, TransportError
from fluxsrc.operation import Operation
from helpers import http_server
from helpers.http_server import OK, answering
from helpers.tls import TLS, ca, server_context
from helpers.waiting import PATIENCE

serve = http_server.serve


@pytest.fixture(autouse=True)
def _none_rests_before_or_after():
    RESTING.close()
    yield
    RESTING.close()


def get(url, method="GET", **options):
    """One request by a client of its own, as a source's look at its server is."""
    with (
        HTTPClient(**options) as client,
        client.request(method, url, operation=Operation(10), phase="test") as response,
    ):
        return response.read(1 << 20)


def test_one_client_after_the_other_uses_one_connection(serve):
    server = serve(answering(OK))
    assert [get(server.url) for _ in range(5)] == [b"ok"] * 5
    assert (server.connections, len(server.requests), len(RESTING)) == (1, 5, 1)


def test_tls_shakes_hands_once(serve):
    server = serve(answering(OK), server_context())
    assert [get(server.url, tls=ca()) for _ in range(3)] == [b"ok"] * 3
    assert server.connections == 1


def test_other_trust_is_another_connection(serve):
    """What was reached without checking the certificate must not serve who wants it checked."""
    server = serve(answering(OK), server_context())
    assert get(server.url, tls=TLSConfig(insecure_skip_verify=True)) == b"ok"
    assert get(server.url, tls=ca()) == b"ok"
    assert server.connections == 2


def test_another_client_certificate_is_another_connection(serve):
    server = serve(answering(OK), server_context(client_ca=True))
    trust = (TLS / "ca.pem").read_text()
    known = TLSConfig(ca=trust, certificate=(TLS / "client.pem").read_text(), key=(TLS / "client.key").read_text())
    assert get(server.url, tls=known) == b"ok"
    with pytest.raises((CertificateError, TransportError)):
        get(server.url, tls=ca())
    assert get(server.url, tls=known) == b"ok"
    assert server.connections == 2


def test_a_proxy_is_another_connection(serve):
    server = serve(answering(OK))
    for options in ({}, {"proxy": Proxy(url=server.url)}, {"proxy": Proxy(url=server.url, username="a", password="b")}):
        assert get(server.url, **options) == b"ok"
    assert server.connections == 3


def test_one_that_the_server_closed_meanwhile_is_replaced(serve):
    def once(server, sock):
        server.read_request(sock)
        sock.sendall(OK)

    server = serve(once)
    assert [get(server.url) for _ in range(3)] == [b"ok"] * 3
    assert server.connections == 3


def test_bytes_nobody_asked_for_are_no_answer_to_the_next_client(serve):
    server = serve(answering(OK + OK.replace(b"ok", b"no")))
    assert [get(server.url) for _ in range(2)] == [b"ok"] * 2
    assert server.connections == 2


def test_one_with_an_unread_answer_does_not_rest(serve):
    server = serve(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"))
    with HTTPClient() as client:
        response = client.request("GET", server.url, operation=Operation(10), phase="test")
    response.close()
    assert len(RESTING) == 0


@pytest.mark.parametrize("since", ["idle_since", "born"])
def test_an_old_one_is_not_lent(serve, since, monkeypatch):
    """Neither one that was idle for long, nor one whose trust was checked long ago."""
    monkeypatch.setattr(resting, "MAX_REST" if since == "idle_since" else "MAX_AGE", -1.0)
    server = serve(answering(OK))
    assert [get(server.url) for _ in range(2)] == [b"ok"] * 2
    assert (server.connections, len(RESTING)) == (2, 1)


def test_few_rest(serve, monkeypatch):
    """And the one that rested for longest makes room."""
    monkeypatch.setattr(resting, "MAX_RESTING", 2)
    servers = [serve(answering(OK)) for _ in range(3)]
    for server in (*servers, *reversed(servers)):
        get(server.url)
        assert len(RESTING) <= 2
    assert [server.connections for server in servers] == [2, 1, 1]


def test_threads_never_share_one(serve):
    server = serve(answering(OK))
    gate = threading.Barrier(4)

    def look(_):
        gate.wait(10)
        return [get(server.url) for _ in range(25)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(look, range(4))) == [[b"ok"] * 25] * 4
    assert len(server.requests) == 100
    assert server.connections <= 4


def test_a_forked_child_has_none_and_takes_none_away(serve):
    server = serve(answering(OK))
    get(server.url)
    child = os.fork()
    if not child:
        os._exit(len(RESTING))  # no clean-up of the parent's things
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert get(server.url) == b"ok"
    assert server.connections == 1


def test_a_process_ends_them_at_its_end(serve):
    """Without a complaint about sockets that nobody closed."""
    closed = threading.Event()

    def handle(server, sock):
        server.read_request(sock)
        sock.sendall(OK)
        if not sock.recv(1):
            closed.set()

    server = serve(handle)
    script = f"""
from fluxsrc._io.http import HTTPClient
from fluxsrc.operation import Operation
with HTTPClient() as client:
    client.request("GET", {server.url!r}, operation=Operation(10), phase="test").read(10)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert closed.wait(10)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_reset_while_it_rests_costs_nothing(serve, method):
    """Not even when the reset comes as we write."""
    reset = threading.Event()

    def handle(server, sock):
        server.read_request(sock)
        sock.sendall(OK)
        if len(server.requests) == 1:
            server.read_request(sock)  # the second one: dropped without an answer
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            reset.set()

    server = serve(handle)
    assert [get(server.url, method) for _ in range(2)] == [b"ok"] * 2
    assert reset.is_set()
    assert server.connections == 2


def test_what_uploads_is_never_sent_twice(serve):
    def handle(server, sock):
        while True:
            if server.read_request(sock).startswith(b"PATCH"):
                return
            sock.sendall(OK)

    server = serve(handle)
    get(server.url)
    with pytest.raises(TransportError):
        get(server.url, "PATCH")
    assert len(server.requests) == 2


class _Collecting:
    """A way that drops a client as it is compared: as garbage does, which is collected at any moment."""

    def __init__(self, pool, left):
        self.pool, self.left = pool, left

    def __eq__(self, other):
        if self.left:
            self.pool.give("elsewhere", self.left.pop())
        return self is other

    __hash__ = object.__hash__


@pytest.mark.parametrize("full", [False, True])
def test_a_client_may_end_while_another_one_looks_for_a_connection(full):
    """In the same thread: it neither waits for itself for ever, nor are connections mixed up."""
    pool, ends = resting.RestingChannels(), []

    def channel():
        here, there = socket.socketpair()
        ends.extend((here, there))
        return Channel(here, here, "peer")

    route = _Collecting(pool, [channel()])
    mine, others = channel(), [channel() for _ in range(resting.MAX_RESTING - 1 if full else 3)]
    for each in (mine, *others):
        each.idle_since = time.monotonic()
    pool.give(route, mine)
    for other in others:
        pool.give("another", other)
    taking = threading.Thread(target=lambda: ends.append(pool.take(route)), daemon=True)
    taking.start()
    taking.join(PATIENCE)
    assert not taking.is_alive(), "it waits for itself"
    assert ends.pop() is (None if full else mine)  # the one that rested for longest made room
    assert len(pool) == (resting.MAX_RESTING if full else 4)
    for end in ends:
        end.close()

"""The HTTP transport against servers that behave well, badly, and with malice."""

import datetime as dt
import logging
import os
import pickle
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from fluxsrc._io.http import HTTPClient, RetryPolicy, raise_for_status, retry_after, retrying
from fluxsrc.auth import Proxy, Secret, TLSConfig
from fluxsrc.errors import (
    AuthenticationError,
    CertificateError,
    ConfigurationError,
    FluxSrcError,
    LimitExceededError,
    OperationCancelledError,
    PermissionDeniedError,
    RateLimitedError,
    RemoteProtocolError,
    RevisionNotFoundError,
    TransportError,
    TransportTimeoutError,
)
from fluxsrc.limits import Limits
from fluxsrc.operation import Operation
from helpers import http_server
from helpers.http_server import OK, Server, answering
from helpers.tls import TLS, ca, server_context

serve = http_server.serve


def redirect(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


def get(
    url: str, client: HTTPClient | None = None, *, timeout: float = 10, headers=None, **kwargs
) -> tuple[int, bytes]:
    with ExitStack() as stack:
        http = client or stack.enter_context(HTTPClient())
        with http.request(
            "GET", url, operation=Operation(timeout, **kwargs), phase="test", headers=headers
        ) as response:
            return response.status, response.read(1 << 20)


# --- exchanges -------------------------------------------------------------------------------------------------------


def test_connections_are_kept_alive(serve):
    server = serve(answering(OK))
    with HTTPClient() as client:
        assert [get(server.url, client) for _ in range(5)] == [(200, b"ok")] * 5
    assert (server.connections, len(server.requests)) == (1, 5)


def test_a_connection_the_server_closed_is_replaced(serve):
    def once(server: Server, sock: socket.socket) -> None:
        server.read_request(sock)
        sock.sendall(OK)

    server = serve(once)
    with HTTPClient() as client:
        assert [get(server.url, client) for _ in range(3)] == [(200, b"ok")] * 3
    assert server.connections == 3


def test_chunked_bodies_are_joined_and_leave_the_connection_usable(serve):
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"
    server = serve(answering(chunked))
    with HTTPClient() as client:
        assert [get(server.url, client) for _ in range(2)] == [(200, b"hello world")] * 2
    assert server.connections == 1


def test_a_body_may_end_with_the_connection(serve):
    def old(server: Server, sock: socket.socket) -> None:
        server.read_request(sock)
        sock.sendall(b"HTTP/1.0 200 OK\r\n\r\nall there is")

    assert get(serve(old).url) == (200, b"all there is")


def test_bytes_after_the_end_of_a_response_never_reach_the_next_one(serve):
    server = serve(answering(OK + OK.replace(b"ok", b"no")))
    with HTTPClient() as client:
        assert [get(server.url, client) for _ in range(2)] == [(200, b"ok")] * 2
    assert server.connections == 2


def test_head_has_no_body_whatever_its_length_says(serve):
    server = serve(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"))
    with (
        HTTPClient() as client,
        client.request("HEAD", server.url, operation=Operation(5), phase="test") as response,
    ):
        assert (response.read(10), response.headers.get("content-length")) == (b"", "1000")


def test_an_upload_is_streamed_with_its_declared_length(serve):
    server = serve(answering(OK))
    with HTTPClient() as client:
        with client.request(
            "PUT",
            server.url,
            operation=Operation(5),
            phase="test",
            headers={"Content-Length": "6"},
            content=lambda: iter([b"abc", b"def"]),
        ) as response:
            assert response.status == 200
    assert server.requests[0].endswith(b"\r\n\r\nabcdef")


def test_a_refused_upload_shows_the_refusal(serve):
    def refuse(server: Server, sock: socket.socket) -> None:
        sock.recv(100)
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        while sock.recv(65536):  # a reset would race with the answer
            pass

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    server = serve(refuse)
    with HTTPClient() as client:
        with client.request("PUT", server.url, operation=Operation(10), phase="test", content=endless) as response:
            assert response.status == 413


def test_a_response_over_the_limit_is_refused(serve):
    for head in (b"Content-Length: 100\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n64\r\n"):
        server = serve(answering(b"HTTP/1.1 200 OK\r\n" + head + b"x" * 100 + b"\r\n0\r\n\r\n"))
        with HTTPClient() as client, client.request("GET", server.url, operation=Operation(5), phase="t") as response:
            with pytest.raises(LimitExceededError):
                response.read(99)


# --- bad servers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", TransportError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", TransportError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe", TransportError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", RemoteProtocolError),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, RemoteProtocolError),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 100 + OK, RemoteProtocolError),
    ],
    ids=["nothing", "cut", "cut chunk", "bad chunk", "not http", "two lengths", "endless header", "100 for ever"],
)
def test_a_broken_answer_is_the_right_error(serve, answer, error):
    def handle(server: Server, sock: socket.socket) -> None:
        server.read_request(sock)
        sock.sendall(answer)

    with pytest.raises(error) as caught:
        get(serve(handle).url)
    assert type(caught.value) is error


def test_a_server_that_drips_bytes_meets_the_deadline(serve):
    stop = threading.Event()

    def drip(server: Server, sock: socket.socket) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000:
            sock.sendall(bytes((byte,)))
            stop.wait(0.01)

    with pytest.raises(TransportTimeoutError, match="during test"):
        get(serve(drip).url, timeout=0.3)
    stop.set()


def test_a_body_that_drips_meets_the_deadline(serve):
    stop = threading.Event()

    def drip(server: Server, sock: socket.socket) -> None:
        server.read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not stop.wait(0.01):
            sock.sendall(b"x")

    with pytest.raises(TransportTimeoutError):
        get(serve(drip).url, timeout=0.3)
    stop.set()


def test_a_server_that_never_reads_meets_the_deadline(serve):
    stop = threading.Event()
    server = serve(lambda _server, _sock: stop.wait(10) and None)
    with HTTPClient() as client, pytest.raises(TransportTimeoutError):
        client.request("PUT", server.url, operation=Operation(0.3), phase="upload", content=bytes(64 << 20))
    stop.set()


def test_a_tls_handshake_that_never_comes_meets_the_deadline(serve):
    stop = threading.Event()
    server = serve(lambda _server, _sock: stop.wait(10) and None)
    with pytest.raises(TransportTimeoutError):
        get(server.url.replace("http:", "https:"), timeout=0.3)
    stop.set()


def test_silence_is_a_broken_connection_before_the_deadline(serve):
    stop = threading.Event()
    server = serve(lambda _server, _sock: stop.wait(10) and None)
    with HTTPClient(idle=0.2) as client, pytest.raises(TransportError, match="silent") as caught:
        get(server.url, client, timeout=60)
    assert not isinstance(caught.value, TimeoutError)
    stop.set()


def test_another_thread_can_cancel(serve):
    cancel = threading.Event()

    def handle(server: Server, sock: socket.socket) -> None:
        server.read_request(sock)
        cancel.set()
        sock.recv(1)

    with pytest.raises(OperationCancelledError):
        get(serve(handle).url, timeout=60, cancel=cancel)


def test_closing_the_client_ends_what_another_thread_waits_for(serve):
    waiting, errors = threading.Event(), []

    def handle(server: Server, sock: socket.socket) -> None:
        server.read_request(sock)
        waiting.set()
        sock.recv(1)

    server = serve(handle)
    client = HTTPClient()

    def ask() -> None:
        try:
            get(server.url, client, timeout=60)
        except TransportError as exc:
            errors.append(exc)

    thread = threading.Thread(target=ask)
    thread.start()
    waiting.wait(10)
    client.close()
    thread.join(10)
    assert len(errors) == 1
    with pytest.raises(ConfigurationError, match="closed"):
        get(server.url, client)


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TransportError, match="refused"):
        get(f"http://127.0.0.1:{port}/")


def test_a_host_that_is_none():
    with pytest.raises(TransportError, match="cannot find"):
        get("http://no-such-host.invalid/")


# --- redirects and credentials ---------------------------------------------------------------------------------------


def test_credentials_stay_with_their_origin(serve):
    other = serve(answering(OK))
    server = serve(answering(redirect("/same"), redirect(f"{other.url}/elsewhere?sig=1")))
    headers = {"Authorization": "Bearer abc", "X-Key": Secret("def"), "X-Plain": "ghi"}
    assert get(server.url, headers=headers) == (200, b"ok")
    assert b"Bearer abc" in server.requests[1] and b"def" in server.requests[1]
    assert b"Authorization" not in other.requests[0] and b"def" not in other.requests[0]
    assert b"X-Plain: ghi" in other.requests[0]


def test_credentials_do_not_come_back_with_a_second_redirect(serve):
    first = serve(lambda server, sock: answering(redirect(f"{second.url}/"), OK)(server, sock))
    second = serve(answering(redirect(f"{first.url}/again")))
    assert get(first.url, headers={"Authorization": "Bearer abc"}) == (200, b"ok")
    assert b"abc" in first.requests[0]
    assert b"abc" not in first.requests[1]


def test_redirects_in_a_circle_end(serve):
    server = serve(answering(redirect("/")))
    with HTTPClient(limits=Limits(max_redirects=3)) as client, pytest.raises(RemoteProtocolError, match="3 redirects"):
        get(server.url, client)
    assert len(server.requests) == 4


def test_https_never_redirects_to_http(serve):
    plain = serve(answering(OK))
    server = serve(answering(redirect(f"{plain.url}/x")), server_context())
    with HTTPClient(tls=ca()) as client, pytest.raises(RemoteProtocolError, match="plain http"):
        get(server.url, client)
    assert plain.connections == 0


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://", "http://[", "http://u:p@127.0.0.1/", "//"])
def test_a_redirect_to_nowhere_is_refused(serve, location):
    server = serve(answering(redirect(location)))
    with pytest.raises(RemoteProtocolError):
        get(server.url)


def test_a_post_is_not_turned_into_a_get(serve):
    server = serve(answering(redirect("/x", 302)))
    with HTTPClient() as client:
        with client.request("POST", server.url, operation=Operation(5), phase="t", content=b"x") as response:
            assert response.status == 302
    server = serve(answering(redirect("/x", 307), OK))
    with HTTPClient() as client:
        with client.request("POST", server.url, operation=Operation(5), phase="t", content=b"abc") as response:
            assert response.status == 200
    assert server.requests[1].startswith(b"POST /x") and server.requests[1].endswith(b"abc")


def test_a_url_with_a_password_is_refused_and_not_shown():
    with pytest.raises(ConfigurationError) as caught:
        get("http://user:hunter2@127.0.0.1/")
    assert "hunter2" not in str(caught.value)


def walk(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 401 No\r\nContent-Type: text/plain\r\nContent-Length: 25\r\n\r\nnot good: Bearer s3cr3t-tk",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx",
    ],
)
def test_no_secret_is_in_any_text_of_a_failure(serve, answer, caplog):
    caplog.set_level(logging.DEBUG)

    def handle(server: Server, sock: socket.socket) -> None:
        server.read_request(sock)
        sock.sendall(answer)

    server = serve(handle)
    headers = {"Authorization": Secret("Bearer s3cr3t-tk")}
    with HTTPClient() as client, pytest.raises(FluxSrcError) as caught:
        with client.request(
            "GET", f"{server.url}/?sig=s3cr3t-tk", operation=Operation(5), phase="t", headers=headers
        ) as response:
            raise_for_status(response, "read it")
            response.read(1000)
    texts = [str(e) + repr(e) + repr(vars(e)) for e in walk(caught.value)] + [caplog.text, repr(client)]
    assert not any("s3cr3t-tk" in text for text in texts)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_header_that_cannot_be_sent_is_not_quoted(serve):
    server = serve(answering(OK))
    with pytest.raises(ConfigurationError) as caught:
        get(server.url, headers={"Authorization": Secret("Bearer hunter2\r\nX: y")})
    assert not any("hunter2" in str(e) for e in walk(caught.value))
    assert server.requests == []


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_a_custom_ca_is_trusted_and_others_are_not(serve):
    server = serve(answering(OK), server_context())
    with HTTPClient(tls=ca()) as client:
        assert get(server.url, client) == (200, b"ok")
    for config in (TLSConfig(), TLSConfig(ca=(TLS / "other-ca.pem").read_text())):
        with HTTPClient(tls=config) as client, pytest.raises(CertificateError, match="not trusted"):
            get(server.url, client)
    with HTTPClient(tls=TLSConfig(insecure_skip_verify=True)) as client:
        assert get(server.url, client) == (200, b"ok")


def test_the_host_name_is_checked(serve):
    def anywhere(server: Server, sock: socket.socket) -> None:
        server.read_request(sock)
        sock.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        server_context().wrap_socket(sock, server_side=True)

    proxy = serve(anywhere)
    with HTTPClient(tls=ca(), proxy=Proxy(url=proxy.url)) as client, pytest.raises(CertificateError, match="mismatch"):
        get("https://example.invalid", client)


def test_large_bodies_travel_through_tls(serve):
    body = os.urandom(1 << 20)
    server = serve(answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body), server_context())
    with HTTPClient(tls=ca()) as client:
        assert [get(server.url, client) for _ in range(2)] == [(200, body)] * 2
    assert server.connections == 1


def test_a_client_certificate_is_sent_and_its_absence_explained(serve):
    server = serve(answering(OK), server_context(client_ca=True))
    pair = TLSConfig(
        ca=(TLS / "ca.pem").read_text(),
        certificate=(TLS / "client.pem").read_text(),
        key=(TLS / "client.key").read_text(),
    )
    with HTTPClient(tls=pair) as client:
        assert get(server.url, client) == (200, b"ok")
    with HTTPClient(tls=ca()) as client, pytest.raises((CertificateError, TransportError)):
        get(server.url, client)


def test_a_key_that_does_not_fit_is_a_configuration_error_without_its_text():
    config = TLSConfig(certificate=(TLS / "client.pem").read_text(), key=(TLS / "server.key").read_text())
    with HTTPClient(tls=config) as client, pytest.raises(ConfigurationError) as caught:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            get(f"https://127.0.0.1:{listener.getsockname()[1]}/", client)
    assert not any("PRIVATE" in str(e) for e in walk(caught.value))


def test_plain_http_where_tls_is_expected_is_explained(serve):
    def plain(server: Server, sock: socket.socket) -> None:
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with pytest.raises(RemoteProtocolError, match="plain HTTP"):
        get(serve(plain).url.replace("http:", "https:"))


# --- proxies ---------------------------------------------------------------------------------------------------------


def pump(a: socket.socket, b: socket.socket) -> None:
    with b:
        while True:
            ready = [a] if isinstance(a, ssl.SSLSocket) and a.pending() else select.select([a, b], [], [], 10)[0]
            if not ready:
                return
            for source in ready:
                data = source.recv(65536)
                if not data:
                    return
                (b if source is a else a).sendall(data)


def http_proxy(server: Server, sock: socket.socket) -> None:
    request = server.read_request(sock)
    method, target, _ = request.split(b" ", 2)
    if b"Proxy-Authorization: Basic dTpw" not in request:
        sock.sendall(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
        return
    if method != b"CONNECT":
        sock.sendall(OK.replace(b"ok", b"fw"))
        return
    host, _, port = target.decode().rpartition(":")
    upstream = socket.create_connection((host, int(port)))
    sock.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
    pump(sock, upstream)


def socks_proxy(server: Server, sock: socket.socket) -> None:
    def exactly(n: int) -> bytes:
        data = b""
        while len(data) < n:
            data += sock.recv(n - len(data)) or (_ for _ in ()).throw(ConnectionResetError())
        return data

    assert exactly(3) == b"\x05\x01\x02"
    sock.sendall(b"\x05\x02")
    exactly(1)
    user = exactly(exactly(1)[0])
    password = exactly(exactly(1)[0])
    sock.sendall(b"\x01\x00" if (user, password) == (b"u", b"p") else b"\x01\x01")
    if (user, password) != (b"u", b"p"):
        return
    assert exactly(4) == b"\x05\x01\x00\x03"
    host = exactly(exactly(1)[0]).decode()
    (port,) = struct.unpack(">H", exactly(2))
    server.requests.append(f"{host}:{port}".encode())
    upstream = socket.create_connection((host, port))
    for byte in b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00":  # dripped: the client must not expect one packet
        sock.sendall(bytes((byte,)))
    pump(sock, upstream)


def test_https_goes_through_a_tunnel(serve):
    server = serve(answering(OK), server_context())
    for context in (None, server_context()):
        proxy = serve(http_proxy, context)
        with HTTPClient(tls=ca(), proxy=Proxy(url=proxy.url, username="u", password="p")) as client:
            assert [get(server.url, client) for _ in range(2)] == [(200, b"ok")] * 2
        assert proxy.requests[0].startswith(f"CONNECT 127.0.0.1:{server.port} ".encode())


def test_a_large_body_travels_through_tls_in_tls(serve):
    body = os.urandom(1 << 20)
    server = serve(answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body), server_context())
    proxy = serve(http_proxy, server_context())
    with HTTPClient(tls=ca(), proxy=Proxy(url=proxy.url, username="u", password="p")) as client:
        assert get(server.url, client) == (200, body)
        with client.request("PUT", server.url, operation=Operation(10), phase="t", content=body) as response:
            assert response.status == 200
    assert server.requests[-1].endswith(body)


def test_plain_http_is_forwarded(serve):
    proxy = serve(http_proxy)
    with HTTPClient(proxy=Proxy(url=proxy.url, username="u", password="p")) as client:
        assert get("http://example.invalid/x?y=z", client) == (200, b"fw")
    assert proxy.requests[0].startswith(b"GET http://example.invalid/x?y=z HTTP/1.1\r\n")


def test_socks5_looks_the_name_up_at_the_proxy(serve):
    server, proxy = serve(answering(OK)), serve(socks_proxy)
    with HTTPClient(proxy=Proxy(url=f"socks5://127.0.0.1:{proxy.port}", username="u", password="p")) as client:
        assert get(f"http://localhost:{server.port}", client) == (200, b"ok")
    assert proxy.requests == [f"localhost:{server.port}".encode()]


@pytest.mark.parametrize(("scheme", "handle"), [("http", http_proxy), ("socks5", socks_proxy)])
def test_wrong_proxy_credentials_are_an_authentication_error(serve, scheme, handle):
    proxy = serve(handle)
    with (
        HTTPClient(proxy=Proxy(url=f"{scheme}://127.0.0.1:{proxy.port}", username="u", password="wr0ng")) as client,
        pytest.raises(AuthenticationError, match="proxy") as caught,
    ):
        get("https://example.invalid/", client)
    assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://[proxy", "http://proxy:x", "ftp://proxy", "proxy", "http://u:hunter2@proxy"])
@pytest.mark.parametrize("wanted", ["http://example.invalid/", "https://example.invalid/"])
def test_what_is_no_proxy_is_a_configuration_error(url, wanted):
    with (
        HTTPClient(proxy=Proxy(url=url)) as client,
        pytest.raises(ConfigurationError, match="not a proxy") as caught,
    ):
        get(wanted, client)
    assert "hunter2" not in str(caught.value)


# --- status and retry ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, RevisionNotFoundError),
        (407, AuthenticationError),
        (408, TransportError),
        (429, RateLimitedError),
        (500, TransportError),
        (503, TransportError),
        (400, RemoteProtocolError),
        (302, RemoteProtocolError),
    ],
)
def test_each_status_has_its_error(serve, status, error):
    server = serve(answering(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status))
    with HTTPClient() as client, client.request("GET", server.url, operation=Operation(5), phase="t") as response:
        with pytest.raises(error, match=f"cannot read it: status {status}") as caught:
            raise_for_status(response, "read it")
        assert type(caught.value) is error


def test_retry_after_is_a_number_or_a_date():
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert retry_after("7", now=now) == 7
    assert retry_after("Thu, 01 Jan 2026 00:01:00 GMT", now=now) == 60
    assert retry_after("Thu, 01 Jan 2020 00:00:00 GMT", now=now) == 0
    uncountable = ("31 Jan 24:00:00 99999999999999999999", "Jan -9999 31 1:2 99999999999999999999 , -9999")
    assert [retry_after(text, now=now) for text in (None, "", "soon", "-1", "\u0661", *uncountable)] == [None] * 7


def test_what_may_pass_is_tried_again_and_what_will_not_is_not():
    calls: list[int] = []

    def failing(error: FluxSrcError, times: int) -> Callable[[], str]:
        calls.clear()

        def call() -> str:
            calls.append(1)
            if len(calls) <= times:
                raise error
            return "done"

        return call

    policy = RetryPolicy(attempts=3, base=0.001)
    operation = Operation(10)
    assert retrying(failing(TransportError("x"), 2), operation=operation, phase="t", policy=policy) == "done"
    assert (
        retrying(failing(RateLimitedError("x", retry_after=0.001), 1), operation=operation, phase="t", policy=policy)
        == "done"
    )
    for error, tries in [
        (TransportError("x"), 3),
        (TransportTimeoutError("x"), 1),
        (AuthenticationError("x"), 1),
        (RateLimitedError("x", retry_after=3600), 1),
        (RateLimitedError("x", retry_after=20), 1),  # longer than the deadline: no waiting in vain
    ]:
        with pytest.raises(type(error)):
            retrying(failing(error, 99), operation=operation, phase="t", policy=policy)
        assert len(calls) == tries


def test_a_pause_can_be_cancelled():
    cancel = threading.Event()

    def call() -> None:
        cancel.set()
        raise TransportError("x")

    with pytest.raises(OperationCancelledError):
        retrying(call, operation=Operation(60, cancel=cancel), phase="t", policy=RetryPolicy(base=30, cap=30))


def open_descriptors() -> set[str]:
    # Listing takes a descriptor itself, which is in the list, and closed by now.
    return {number for number in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{number}")}


@contextmanager
def descriptors_unchanged() -> Iterator[None]:
    before = open_descriptors()
    yield
    # The server's end of a connection is in this process too, and closes in its own thread, a moment later.
    deadline = time.monotonic() + 10
    while opened := open_descriptors() - before:
        assert time.monotonic() < deadline, opened
        time.sleep(0.01)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_no_connection_is_left_open():
    server = Server(lambda sock: None)
    with descriptors_unchanged():
        for _ in range(5):
            with pytest.raises(TransportError):
                get(server.url)
    server.close()


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("https://a.example", {}, None),
        ("https://a.example", {"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ("https://a.example", {"HTTPS_PROXY": "https://proxy"}, "https://proxy"),
        ("https://a.example", {"ALL_PROXY": "socks5://[::1]:1080"}, "socks5://[::1]:1080"),
        ("https://a.example", {"https_proxy": "", "all_proxy": "http://p"}, "http://p"),
        ("http://a.example", {"https_proxy": "http://p"}, None),
        ("http://a.example", {"HTTP_PROXY": "http://from-a-header"}, None),
        ("http://a.example", {"http_proxy": "http://p"}, "http://p"),
        ("https://a.example", {"https_proxy": "http://p", "no_proxy": "*"}, None),
        ("https://a.example", {"https_proxy": "http://p", "NO_PROXY": "b.example, A.example"}, None),
        ("https://x.a.example", {"https_proxy": "http://p", "NO_PROXY": ".a.example"}, None),
        ("https://xa.example", {"https_proxy": "http://p", "NO_PROXY": "a.example"}, "http://p"),
        ("https://a.example:444", {"https_proxy": "http://p", "NO_PROXY": "a.example:443"}, "http://p"),
        ("https://a.example", {"https_proxy": "http://p", "NO_PROXY": "a.example:443"}, None),
        ("https://10.1.2.3", {"https_proxy": "http://p", "NO_PROXY": "10.0.0.0/8,::1"}, None),
        ("https://11.1.2.3", {"https_proxy": "http://p", "NO_PROXY": "10.0.0.0/8,"}, "http://p"),
    ],
)
def test_the_environment_names_a_proxy_when_it_is_asked(url, environ, proxy):
    found = Proxy.from_env(url, environ)
    assert (found.url if found else None) == proxy


def test_a_proxys_password_is_taken_out_of_its_url():
    found = Proxy.from_env("https://a.example", {"https_proxy": "http://us%40er:hunter2@proxy:3128"})
    assert found == Proxy(url="http://proxy:3128", username="us@er", password="hunter2")
    with pytest.raises(ConfigurationError) as caught:
        Proxy.from_env("https://a.example", {"https_proxy": "http://user:hunter2@"})
    assert "hunter2" not in str(caught.value)

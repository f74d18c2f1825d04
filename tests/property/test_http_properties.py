"""Whatever a server sends: a response, or one of our errors."""

import contextlib
import socket

import hypothesis.strategies as st
from hypothesis import given

from fluxsrc._io.http import retry_after
from fluxsrc._io.http.bound import Bound
from fluxsrc._io.http.message import exchange
from fluxsrc._io.http.network import Channel
from fluxsrc._io.http.target import Target, redirected
from fluxsrc.errors import FluxSrcError, RemoteProtocolError
from fluxsrc.operation import Operation

pieces = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 404 No\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 X\r\n",
        b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: -1\r\n", b"Content-Length: 5, 5\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n", b"X: y\r\n", b" z\r\n",
        b"\r\n", b"hello", b"5\r\nhello\r\n", b"0\r\n\r\n", b"fffffffffffffffffffff\r\n", b"5;a=b\r\n",
    ]
)  # fmt: skip
answers = st.lists(pieces | st.binary(max_size=8), max_size=8).map(b"".join)


@given(answers, st.sampled_from(["GET", "HEAD", "POST"]), st.integers(1, 7))
def test_any_bytes_are_a_response_or_our_error(answer, method, size):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        channel = Channel(ours, ours, "test")
        bound = Bound(Operation(10), "test", "http://test/")
        with contextlib.suppress(FluxSrcError):
            status, _, body = exchange(channel, method, "/", [("Host", "test")], None, bound)
            assert 200 <= status <= 599 or status == 101
            received, buffer = b"", memoryview(bytearray(size))
            while count := body.readinto(buffer):
                received += bytes(buffer[:count])
            assert body.done
            assert body.length in (None, len(received))
            assert received in answer or b"chunked" in answer.lower()


@given(st.binary(max_size=50), st.lists(st.integers(1, 9), max_size=8))
def test_a_body_arrives_whole_however_it_is_cut(content, cuts):
    """The same content, of known length and in chunks, sent in any pieces, read in any pieces."""
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for i in range(0, len(content), 7) if (c := content[i : i + 7]))
    for head, body in (
        (b"Content-Length: %d\r\n\r\n" % len(content), content),
        (b"Transfer-Encoding: chunked\r\n\r\n", chunks + b"0\r\n\r\n"),
        (b"Connection: close\r\n\r\n", content),
    ):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.sendall(b"HTTP/1.1 200 OK\r\n" + head + body)
            theirs.shutdown(socket.SHUT_WR)
            bound = Bound(Operation(10), "test", "http://test/")
            _, _, found = exchange(Channel(ours, ours, "test"), "GET", "/", [("Host", "x")], None, bound)
            received = b""
            for size in [*cuts, *[64] * 10]:
                buffer = memoryview(bytearray(size))
                received += bytes(buffer[: found.readinto(buffer)])
            assert (received, found.done) == (content, True)
            assert found.reusable == (not head.startswith(b"Connection"))


@given(st.text())
def test_any_retry_after_is_seconds_or_nothing(value):
    seconds = retry_after(value)
    assert seconds is None or seconds >= 0


@given(st.text() | st.text("/:?#[]@htps.\\%\r\n a0"), st.sampled_from(["http", "https"]))
def test_any_location_leads_somewhere_or_is_refused(location, scheme):
    """And never from https to anything else, nor anywhere with a password."""
    source = Target.of(f"{scheme}://host.example/path?query")
    with contextlib.suppress(RemoteProtocolError):
        target = redirected(source, location)
        assert target.origin.scheme in ("http", "https")
        assert scheme == "http" or target.origin.scheme == "https"
        assert target.url.isascii()
        assert target.url.isprintable()
        assert "@" not in target.url.partition("//")[2].partition("/")[0]

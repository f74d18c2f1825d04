"""What the servers of this package share: a socket on loopback, requests that are noted, answers that fail on purpose."""

import re
import socket
import ssl
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import attrs

__all__ = ["Fault", "Faults", "Handler", "Listener", "Loopback", "Request"]


@attrs.frozen
class Request:
    """One request that was received."""

    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def line(self) -> str:
        """`METHOD PATH?QUERY`."""
        return f"{self.method} {self.path}"


@attrs.define
class Fault:
    """What to do instead of, or to, an answer.

    Attributes:
        match: A regular expression searched for in `METHOD PATH?QUERY`.
        times: How many requests it hits; None for all.
        status: Answer this.
        headers: With these.
        body: And this.
        cut_after: Send the true answer, but close the connection after this many bytes of its body.
        stall_after: Send the true answer, but fall silent after this many bytes of its body.
        corrupt: Flip a bit in the true answer's body.
    """

    match: str
    times: int | None = 1
    status: int | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    cut_after: int | None = None
    stall_after: int | None = None
    corrupt: bool = False


class Faults:
    """The faults that are still to come, the first that fits first. Thread-safe."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def inject(self, match: str, **what: Any) -> Fault:
        """Add one."""
        fault = Fault(match, **what)
        with self._lock:
            self._faults.append(fault)
        return fault

    def take(self, line: str) -> Fault | None:
        """The one that hits this request, `METHOD PATH?QUERY`, counted."""
        with self._lock:
            for fault in self._faults:
                if fault.times != 0 and re.search(fault.match, line):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def clear(self) -> None:
        """Fail no more."""
        with self._lock:
            self._faults.clear()


class Listener:
    """Listens on a free port of loopback, and serves in threads while its context is open."""

    def __init__(self, handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext | None = None) -> None:
        self._server = _Server(("127.0.0.1", 0), handler)
        self._scheme = "http" if context is None else "https"
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.server_port

    def __enter__(self) -> Self:
        """Serve."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Serve no more, end all connections, and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._server.cut()
        self._thread.join()


class Loopback(Listener):
    """One that is a single place, by its address."""

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, or https with a TLS context."""
        return f"{self._scheme}://{self.host}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def cut(self) -> None:
        """End the connections that clients keep: a server that is gone answers nobody."""
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are part of the tests, not of their output."""


class Handler(BaseHTTPRequestHandler):
    """Reads bodies however they are framed, and sends answers whole or as a fault wants them."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    wbufsize = 64 * 1024  # an answer in one packet
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing: tests look at the requests that the server noted."""

    def received(self) -> Request:
        """This request, to be noted."""
        return Request(self.command, self.path, dict(self.headers.items()))

    def body(self, limit: int | None = None) -> bytes:
        """The request's body, or its beginning."""
        if (self.headers.get("Transfer-Encoding") or "").lower() == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        size = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(size if limit is None else min(size, limit))

    def reply(self, status: int, body: bytes, headers: Mapping[str, str], fault: Fault | None = None) -> None:
        """Send an answer, and do to it what the fault says."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204 and "Content-Length" not in headers:  # noqa: PLR2004 - no content
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is not None and fault.corrupt and body:
            body = bytes((body[0] ^ 1,)) + body[1:]
        if fault is not None and fault.cut_after is not None:
            body = body[: fault.cut_after]
            self.close_connection = True
        if fault is not None and fault.stall_after is not None:
            self.wfile.write(body[: fault.stall_after])
            self.wfile.flush()
            self.rfile.read(1)  # until the client gives up
            self.close_connection = True
            return
        self.wfile.write(body)

"""`GitHTTPServer`: real Git over HTTP or HTTPS in the test's process, by way of `git http-backend`; it counts what it does."""

import base64
import os
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import attrs

__all__ = ["GitHTTPServer", "Served"]

_CHUNK: Final = 64 * 1024


@attrs.frozen
class Served:
    """One request that was answered.

    Attributes:
        method: GET or POST.
        path: With the query.
        status: The status code.
        received: Bytes of the request's body.
        sent: Bytes of the response's body.
        body: The request's body.
    """

    method: str
    path: str
    status: int
    received: int
    sent: int
    body: bytes = attrs.field(repr=False)


class GitHTTPServer(AbstractContextManager["GitHTTPServer"]):
    """Serves the repositories below a directory on a free port of the loopback interface. Needs the `git` program.

    Args:
        root: The directory; every repository in it is served, read-only.
        username: With `password`: who may read.
        password: Asked for where given.
        context: Serve HTTPS with this.
        config: Git configuration of the server, such as {"uploadpack.allowFilter": "true"}.
        version: The highest protocol version that is spoken.
        before: Called with (handler) before each request; returns true if it has answered.
    """

    def __init__(
        self,
        root: Path,
        *,
        username: str = "",
        password: str | None = None,
        context: ssl.SSLContext | None = None,
        config: dict[str, str] | None = None,
        version: int = 2,
        before: Callable[[BaseHTTPRequestHandler], bool] | None = None,
    ) -> None:
        self.root = root
        self.served: list[Served] = []
        self.config = dict(config or {})
        self.version = version
        self.before = before
        self._expected = None
        if password is not None:
            self._expected = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # as all servers of the world do; else each answer is 40 ms late

            def do_GET(self) -> None:
                server._serve(self, b"")

            def do_POST(self) -> None:
                server._serve(self, self._body())

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    data = b""
                    while size := int(self.rfile.readline(), 16):
                        data += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                    return data
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.server_address[1]

    def url(self, repository: str, host: str = "127.0.0.1") -> str:
        """The address of a repository below the root, as `GitSource` takes it."""
        return f"git+{self.scheme}://{host}:{self.port}/{repository}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take_served(self) -> list[Served]:
        """What was served since the last call."""
        served, self.served = self.served, []
        return served

    def _serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        if self.before is not None and self.before(handler):
            return
        with suppress(ConnectionError, ssl.SSLError):
            if self._expected is not None and handler.headers.get("Authorization") != self._expected:
                self._answer(handler, body, 401, [("WWW-Authenticate", 'Basic realm="git"')], [b"who are you?"])
                return
            self._backend(handler, body)

    def _backend(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        path, _, query = handler.path.partition("?")
        protocol = handler.headers.get("Git-Protocol", "") if self.version else ""
        if self.version == 1:
            protocol = "version=1"
        config = {"safe.directory": "*", "uploadpack.keepAlive": "0", **self.config}
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": "/nonexistent",
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": protocol,
            "REQUEST_METHOD": handler.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": handler.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "GIT_CONFIG_COUNT": str(len(config)),
            **{f"GIT_CONFIG_KEY_{number}": key for number, key in enumerate(config)},
            **{f"GIT_CONFIG_VALUE_{number}": value for number, value in enumerate(config.values())},
        }
        with subprocess.Popen(
            ["git", "http-backend"],  # noqa: S607
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(BrokenPipeError):
                process.stdin.write(body)
                process.stdin.close()
            status, headers = 200, []
            while line := process.stdout.readline().strip():
                name, _, value = line.decode().partition(": ")
                if name == "Status":
                    status = int(value.split()[0])
                else:
                    headers.append((name, value))
            output = process.stdout
            self._answer(handler, body, status, headers, iter(lambda: output.read1(_CHUNK), b""))  # type: ignore[attr-defined]

    def _answer(
        self,
        handler: BaseHTTPRequestHandler,
        body: bytes,
        status: int,
        headers: Iterable[tuple[str, str]],
        chunks: Iterable[bytes],
    ) -> None:
        handler.send_response(status)
        for name, value in headers:
            handler.send_header(name, value)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        sent = 0
        try:
            for chunk in chunks:
                sent += len(chunk)
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            handler.wfile.write(b"0\r\n\r\n")
        finally:
            self.served.append(Served(handler.command, handler.path, status, len(body), sent, body))


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""

"""`GitHTTPServer`: real Git over HTTP or HTTPS in the test's process, by way of `git http-backend`; it counts what it does."""

import base64
import os
import ssl
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import attrs

from fluxsrc.testing._loopback import Handler, Listener

__all__ = ["GitHTTPServer", "Served"]

_CHUNK: Final = 64 * 1024


@attrs.define
class Served:
    """One request, noted before the answer to it begins.

    Attributes:
        method: GET or POST.
        path: With the query.
        status: The status code.
        body: The request's body.
        sent: Bytes of the answer's body so far.
    """

    method: str
    path: str
    status: int
    body: bytes = attrs.field(repr=False)
    sent: int = 0

    @property
    def received(self) -> int:
        """Bytes of the request's body."""
        return len(self.body)


class GitHTTPServer(Listener):
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
        super().__init__(type("Handler", (_Handler,), {"git": self}), context)

    def url(self, repository: str, host: str = "127.0.0.1") -> str:
        """The address of a repository below the root, as `GitSource` takes it."""
        return f"git+{self._scheme}://{host}:{self.port}/{repository}"

    def take_served(self) -> list[Served]:
        """What was served since the last call."""
        served, self.served = self.served, []
        return served

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer a request."""
        if self.before is not None and self.before(handler):
            return
        with suppress(ConnectionError, ssl.SSLError):
            if self._expected is not None and handler.headers.get("Authorization") != self._expected:
                self._send(handler, body, 401, [("WWW-Authenticate", 'Basic realm="git"')], [b"who are you?"])
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
            "PATH_INFO": unquote(path),
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
            self._send(handler, body, status, headers, iter(lambda: output.read1(_CHUNK), b""))  # type: ignore[attr-defined]

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        body: bytes,
        status: int,
        headers: Iterable[tuple[str, str]],
        chunks: Iterable[bytes],
    ) -> None:
        served = Served(handler.command, handler.path, status, body)
        self.served.append(served)
        handler.send_response(status)
        for name, value in headers:
            handler.send_header(name, value)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for chunk in chunks:
            served.sent += len(chunk)
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        handler.wfile.write(b"0\r\n\r\n")


class _Handler(Handler):
    git: GitHTTPServer
    wbufsize = 0  # what a function of a test writes is on its way

    def _any(self) -> None:
        self.git.answer(self, self.body())

    do_GET = do_POST = _any  # noqa: N815 - the base class's names

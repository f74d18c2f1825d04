"""Real registries on loopback, each in a directory of its own, and the tools that others wrote.

A server or a tool that is missing is a failure: this lane was asked for.
"""

import base64
import contextlib
import json
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from fluxsrc.testing._loopback import Request
from helpers.programs import free_port, listens, process, run, tool
from helpers.web_server import WebServer

TLS = Path(__file__).parents[1] / "unit" / "data" / "tls"
USER, PASSWORD = "robot", "hunter2"
_BCRYPT = "$2y$05$GMloFXddzqQmNNyqTq3IlutgXrh0GDek4FMmvU7679kMSNQGRo.C2"
"""Of the password; made by `htpasswd -nbB`."""


@contextlib.contextmanager
def docker_registry(
    root: Path, *, tls: bool = False, htpasswd: bool = False, token_realm: str | None = None, bundle: Path | None = None
) -> Iterator[str]:
    """Debian's `docker-registry` (distribution 2.8); yields HOST:PORT."""
    port = free_port()
    http: dict[str, object] = {"addr": f"127.0.0.1:{port}", "secret": secrets.token_hex(16)}
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(root / "data")}, "delete": {"enabled": True}},
        "http": http,
    }
    if tls:
        http["tls"] = {"certificate": str(TLS / "server.pem"), "key": str(TLS / "server.key")}
    if htpasswd:
        (root / "htpasswd").write_text(f"{USER}:{_BCRYPT}\n")
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(root / "htpasswd")}}
    if token_realm is not None:
        config["auth"] = {
            "token": {"realm": token_realm, "service": "registry", "issuer": "test", "rootcertbundle": str(bundle)}
        }
    (root / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    command = [tool("docker-registry"), "serve", str(root / "config.yml")]
    with process(command, root / "log", ready=listens(port), env={"OTEL_TRACES_EXPORTER": "none"}):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def crane_registry(root: Path) -> Iterator[str]:
    """The registry of go-containerregistry, which shares no code with Debian's; yields HOST:PORT."""
    port = free_port()
    with process(
        [tool("crane"), "registry", "serve", "--address", f"127.0.0.1:{port}"], root / "log", ready=listens(port)
    ):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def zot(root: Path) -> Iterator[str]:
    """zot, which keeps image layouts and shares no code with the other two; yields HOST:PORT."""
    port = free_port()
    (root / "htpasswd").write_text(f"{USER}:{_BCRYPT}\n")
    config = {
        "storage": {"rootDirectory": str(root / "data"), "gc": False},
        "http": {
            "address": "127.0.0.1",
            "port": str(port),
            "realm": "test",
            "auth": {"htpasswd": {"path": str(root / "htpasswd")}},
        },
        "log": {"level": "error"},
    }
    (root / "config.json").write_text(json.dumps(config))
    with process([tool("zot"), "serve", str(root / "config.json")], root / "log", ready=listens(port)):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def token_service(root: Path) -> Iterator[tuple[str, Path]]:
    """A token service as Docker specifies it; yields its realm, and the certificate that registries shall trust."""
    key, certificate = root / "token.key", root / "token.pem"
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens",
        "-keyout", key, "-out", certificate)  # fmt: skip
    der = subprocess.run(["openssl", "x509", "-in", certificate, "-outform", "DER"], capture_output=True, check=True)

    def encoded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    def token(subject: str, service: str, scopes: list[str]) -> str:
        now = int(time.time())
        access = []
        for scope in " ".join(scopes).split():
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der.stdout).decode()]}
        claims = {"iss": "test", "sub": subject, "aud": service, "exp": now + 300, "nbf": now - 10, "iat": now - 10,
                  "jti": secrets.token_hex(8), "access": access}  # fmt: skip
        signed = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(claims).encode())}"
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", key], input=signed.encode(), capture_output=True, check=True
        )
        return f"{signed}.{encoded(signature.stdout)}"

    def answer(request: Request, _body: bytes) -> tuple[int, bytes]:
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.headers.get("authorization") != expected:
            return 401, b""
        query = parse_qs(urlsplit(request.path).query)
        told = {"token": token(USER, query["service"][0], query.get("scope", [])), "expires_in": 300}
        return 200, json.dumps(told).encode()

    with WebServer(answer) as server:
        yield f"{server.url}/token", certificate


@contextlib.contextmanager
def cutting_wire(host: str, after: int, times: int) -> Iterator[tuple[str, list[int]]]:
    """Another way to a server, which breaks after so many bytes in either direction, a few times; yields HOST:PORT and the breaks."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=32)
    breaks: list[int] = []
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []

    def carry(near: socket.socket, far: socket.socket) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                passed += len(data)
                if passed > after and len(breaks) < times:
                    breaks.append(passed)
                    break
                far.sendall(data)
        for sock in (near, far):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                name, _, port = host.rpartition(":")
                far = socket.create_connection((name, int(port)))
                sockets.extend((near, far))
                for ends in ((near, far), (far, near)):
                    threads.append(threading.Thread(target=carry, args=ends, daemon=True))
                    threads[-1].start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}", breaks
    finally:
        for sock in (listener, *sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for each in (thread, *threads):
            each.join(5)
        for sock in (listener, *sockets):
            sock.close()

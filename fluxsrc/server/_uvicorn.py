"""Run an application under uvicorn: until a signal, or while a block runs."""

import contextlib
import logging
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import attrs

from fluxsrc.errors import ConfigurationError, FluxSrcError, MissingExtraError
from fluxsrc.server._http import ASGIApplication
from fluxsrc.server._patience import Patience, bounded

__all__ = ["Listener", "listening", "run", "serving"]

_MAX_PORT: Final = 65535
_GRACE: Final = 30
"""Seconds that answers under way have when the server is to stop."""


@attrs.frozen
class Listener:
    """A socket that listens, and the certificate it shows.

    Attributes:
        socket: It.
        url: Where it can be reached.
        certificate: A PEM file with the certificate and those up to its issuer; None for plain HTTP.
        key: A PEM file with its key.
    """

    socket: socket.socket
    url: str
    certificate: Path | None = None
    key: Path | None = None


@contextlib.contextmanager
def listening(host: str, port: int, *, certificate: Path | None = None, key: Path | None = None) -> Iterator[Listener]:
    """Take a port; 0 takes one that is free.

    Raises:
        MissingExtraError: uvicorn is not installed: nobody would answer there.
        ConfigurationError: It is taken, the host is not this machine's, or certificate and key are not a pair.
    """
    if find_spec("uvicorn") is None:
        raise MissingExtraError("serving over HTTP", extra="server")
    if (certificate is None) != (key is None):
        raise ConfigurationError("a certificate and its key belong together", hint="give both, or none")
    if certificate is not None:
        try:
            # Without a password an encrypted key would ask for one, on a terminal that may not be there.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
            raise ConfigurationError(f"cannot use the certificate {certificate} with the key {key}: {exc}") from exc
    if not 0 <= port <= _MAX_PORT:
        raise ConfigurationError(f"cannot listen on port {port}: there is none")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        taken = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as exc:
        why = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror  # those of names are negative
        raise ConfigurationError(f"cannot listen on {host} port {port}: {why}") from exc
    with taken:
        # Accepted connections inherit it; without, the second packet of each answer waits for the client's delayed ACK.
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = f"[{host}]" if ":" in host else host
        scheme = "http" if certificate is None else "https"
        yield Listener(taken, f"{scheme}://{name}:{taken.getsockname()[1]}", certificate, key)


def run(application: ASGIApplication, listener: Listener) -> None:
    """Serve until SIGINT or SIGTERM. Answers under way are finished, for half a minute at most; then the signal is raised anew."""
    _server(application, listener).run(sockets=[listener.socket])


@contextlib.contextmanager
def serving(
    application: ASGIApplication,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
) -> Iterator[str]:
    """Serve in a thread while the block runs; for controllers, notebooks and tests.

    Args:
        application: What `app` made, or any other ASGI application.
        host: An address of this machine; `0.0.0.0` for all of them.
        port: 0 takes one that is free.
        tls_cert: A PEM file with the certificate and those up to its issuer; None for plain HTTP.
        tls_key: A PEM file with its key.

    Yields:
        The URL to reach it at.

    Raises:
        MissingExtraError: uvicorn is not installed.
        ConfigurationError: The port is taken, the host is not this machine's, or the certificate is not usable.
    """
    with listening(host, port, certificate=tls_cert, key=tls_key) as listener:
        server = _server(application, listener)
        thread = threading.Thread(target=server.run, args=([listener.socket],), name="fluxsrc-server", daemon=True)
        thread.start()
        try:
            yield listener.url  # connections wait in the socket's queue until the thread accepts them
        finally:
            server.should_exit = True
            thread.join()


def _server(application: ASGIApplication, listener: Listener) -> Any:
    import uvicorn  # noqa: PLC0415 - belongs to an extra
    from uvicorn.protocols.http.auto import AutoHTTPProtocol  # noqa: PLC0415

    config = uvicorn.Config(
        application,
        http=bounded(AutoHTTPProtocol),
        ssl_certfile=listener.certificate,
        ssl_keyfile=listener.key,
        log_config=None,  # the program's business
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=_GRACE,
        timeout_notify=1,
        callback_notify=Patience(lambda: server.server_state.connections),
    )
    logging.getLogger("uvicorn.error").addFilter(_is_news)  # of itself no more than once
    server = uvicorn.Server(config)
    return server


def _is_news(record: logging.LogRecord) -> bool:
    """Not what ends an answer in its middle: the application has told that in one line, and uvicorn adds a traceback."""
    return record.exc_info is None or not isinstance(record.exc_info[1], FluxSrcError)

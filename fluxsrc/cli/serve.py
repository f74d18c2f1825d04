"""`serve`: a store over HTTP, until Ctrl-C."""

import contextlib
import ipaddress
import logging
from pathlib import Path

import click

from fluxsrc.auth import Secret
from fluxsrc.cli.options import existing_store
from fluxsrc.cli.paths import Place
from fluxsrc.cli.render import echo, echo_json
from fluxsrc.cli.sections import command
from fluxsrc.cli.session import Session, common_options, pass_session
from fluxsrc.errors import ConfigurationError
from fluxsrc.server import app, listening, run
from fluxsrc.stores import LocalStore

__all__ = ["serve"]

_log = logging.getLogger("fluxsrc.cli")
_FILE = Place(dir_okay=False, path_type=Path)


@command()
@existing_store
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="An address of this machine; 0.0.0.0 for all.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes one that is free."
)
@click.option("--prefix", metavar="PATH", default="", help="A path before every source, as team/a.")
@click.option("--token-file", type=_FILE, help="Only whoever sends the token in this file may read.")
@click.option("--tls-cert", type=_FILE, help="A PEM file with the certificate, for HTTPS.")
@click.option("--tls-key", type=_FILE, help="A PEM file with its key.")
@common_options
@pass_session
def serve(
    session: Session,
    store: LocalStore,
    host: str,
    port: int,
    prefix: str,
    token_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> None:
    """Serve a store over HTTP, until Ctrl-C: at the URLs that Flux gives artifacts, and as an OCI registry.

    The token file is read with each request, so that the token can be changed. Answers under way are finished before the
    server ends.
    """

    def token() -> Secret:
        assert token_file is not None
        return _read_token(token_file)

    if token_file is not None:
        token()  # what is wrong with it is better said now
        if tls_cert is None and not _is_loopback(host):
            _log.warning("the token travels without TLS; give --tls-cert, or put a proxy in front")
    application = app(store, token=None if token_file is None else token, prefix=prefix)
    with listening(host, port, certificate=tls_cert, key=tls_key) as listener:
        if session.json:
            echo_json({"store": str(store.path), "url": listener.url})
        else:
            echo(f"serving {store.path} at {listener.url}")
        run(application, listener)


def _read_token(file: Path) -> Secret:
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        raise ConfigurationError(f"cannot read the token file {file}: {reason}") from None
    if not token:
        raise ConfigurationError(f"the token file {file} is empty, which would admit everybody")
    return Secret(token)


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"

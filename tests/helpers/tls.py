"""Servers that speak TLS, for clients that know their authority; the files say in their README how they were made."""

import ssl
from pathlib import Path

from fluxsrc.auth import TLSConfig

TLS = Path(__file__).parents[1] / "unit" / "data" / "tls"


def server_context(*, client_ca: bool = False) -> ssl.SSLContext:
    """A server's; with `client_ca` it wants to see a certificate, too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(TLS / "ca.pem")
    return context


def ca() -> TLSConfig:
    """A client's, who trusts that server."""
    return TLSConfig(ca=(TLS / "ca.pem").read_text())

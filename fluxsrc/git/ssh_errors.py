"""What went wrong over SSH, in our words: the server's own are quoted, cut short and made printable."""

import re
from collections.abc import Sequence
from typing import Final

from fluxsrc.errors import (
    AuthenticationError,
    CertificateError,
    PermissionDeniedError,
    RemoteProtocolError,
    RevisionNotFoundError,
    SourceError,
    TransportError,
)
from fluxsrc.git.known_hosts import HostKeys, PublicKey

__all__ = ["command_failed", "connection_failed", "host_key_refused"]

_MAX_QUOTE: Final = 300
_MISSING: Final = re.compile(
    r"does not appear to be a git repository|not found|no such|does not exist|could not be found", re.IGNORECASE
)
_FORBIDDEN: Final = re.compile(
    r"permission denied|access denied|not authori[sz]ed|forbidden|don't have permission", re.IGNORECASE
)
_COMMAND_NOT_FOUND: Final = 127


def host_key_refused(
    host: str, port: int, known: HostKeys, offered: Sequence[PublicKey], why: str, url: str
) -> CertificateError:
    """The error for a host that cannot prove itself with a key that known_hosts names.

    Args:
        host: The host.
        port: Its port.
        known: What known_hosts says of it.
        offered: The key that the host came with, where it got that far.
        why: What the library said.
        url: Redacted.
    """
    name = host if port == 22 else f"[{host}]:{port}"  # noqa: PLR2004 - SSH's port
    if not known:
        what = "revokes the keys of" if known.revoked else "does not name"
        return CertificateError(
            f"known_hosts {what} {name}",
            url=url,
            hint=f"ask its operator for the host key, or compare what 'ssh-keyscan -p {port} {host}' shows with them",
        )
    if offered:
        wanted = ", ".join(f"{key.fingerprint} ({key.algorithm})" for key in known.trusted) or "a certificate"
        return CertificateError(
            f"{name} is not the host that known_hosts describes: its key is {offered[0].fingerprint} "
            f"({offered[0].algorithm}), known_hosts has {wanted}",
            url=url,
            hint="either the host key was changed, then its operator can confirm the new one; or somebody is in between",
        )
    return CertificateError(
        f"{name} does not prove itself: {printable(why)}", url=url, hint="see its known_hosts lines"
    )


def connection_failed(
    exc: Exception, url: str, *, username: str | None = None, known: HostKeys | None = None
) -> SourceError:
    """The error for what the SSH library, or the operating system, raised."""
    kind, text = type(exc).__name__, printable(str(exc))
    if kind == "PermissionDenied":
        who = f" for the user {username}" if username else ""
        return AuthenticationError(
            f"{url}: the server does not take the SSH key{who}",
            url=url,
            hint="is its public half registered there, and the user name right?",
        )
    if kind == "KeyExchangeFailed" and "host key" in text.lower() and known is not None:
        kinds = ", ".join(sorted({key.algorithm for key in (*known.trusted, *known.authorities)}))
        return CertificateError(
            f"{url}: the server has no host key of the kinds that known_hosts has for it: {kinds}",
            url=url,
            hint="add its other keys to known_hosts",
        )
    if kind == "ChannelOpenError":
        return PermissionDeniedError(f"{url}: the server opens no session: {text}", url=url)
    if kind in ("ProtocolError", "ProtocolNotSupported", "KeyExchangeFailed", "MACError", "CompressionError"):
        return RemoteProtocolError(f"{url}: cannot agree with the server on SSH: {text}", url=url)
    return TransportError(f"{url}: the SSH connection broke: {text or kind}", url=url)


def command_failed(status: int | None, signal: str | None, stderr: bytes, url: str) -> SourceError:
    """The error for a command that ended badly on the server."""
    said = printable(stderr.decode(errors="replace"))
    how = f"was killed by {printable(signal)}" if signal else f"ended with status {status}"
    message = f"{url}: the server's git-upload-pack {how}" + (f": {said}" if said else "")
    if status == _COMMAND_NOT_FOUND:
        return RemoteProtocolError(message, url=url, hint="is Git installed on the server?")
    if _FORBIDDEN.search(said):
        return PermissionDeniedError(message, url=url)
    if _MISSING.search(said):
        return RevisionNotFoundError(message, url=url, hint="is the path right, and may this key read it?")
    return TransportError(message, url=url) if signal else SourceError(message, url=url)


def printable(text: str) -> str:
    """On one line, without control characters, and short: a server must not write to anybody's terminal."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _MAX_QUOTE else line[:_MAX_QUOTE] + "…"

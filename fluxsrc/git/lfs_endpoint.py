"""Where the LFS server of a repository is, and who we are to it."""

import time
from collections.abc import Mapping
from typing import Final, TypeGuard
from urllib.parse import urlsplit

import attrs

from fluxsrc.auth import Origin, Secret, SSHKey, redact_url
from fluxsrc.errors import (
    AuthenticationError,
    CertificateError,
    ConfigurationError,
    RemoteProtocolError,
    SourceError,
    TransportError,
)
from fluxsrc.git.address import GitAddress
from fluxsrc.git.config import parse_config
from fluxsrc.git.lfs_batch import parse_headers, parse_object
from fluxsrc.git.transport import Access
from fluxsrc.git.transport_http import authorization
from fluxsrc.git.transport_ssh import open_ssh, quote_path
from fluxsrc.operation import Operation

__all__ = ["Endpoint", "find_endpoint", "lfs_url"]

_MAX_ANSWER: Final = 64 * 1024
_DEFAULT_LIFETIME: Final = 300.0
_MAX_LIFETIME: Final = 86400.0


@attrs.frozen
class Endpoint:
    """An LFS server.

    Attributes:
        url: The batch API is at `url/objects/batch`.
        headers: What SSH gave us to log in with; else the keychain is asked.
        expires: When those end, in seconds since 1970.
    """

    url: str
    headers: Mapping[str, Secret] = attrs.field(factory=dict)
    expires: float | None = None

    @property
    def batch_url(self) -> str:
        """Where to post questions."""
        return f"{self.url}/objects/batch"

    def authorize(self, access: Access, url: str, operation: Operation) -> dict[str, str | Secret]:
        """The headers that make us known to a URL: none of them, unless it is of this endpoint's origin."""
        if Origin.of(url) != Origin.of(self.url):
            return {}
        if self.headers:
            return dict(self.headers)
        keychain = access.effective_keychain
        credentials = None if keychain is None else keychain.credentials(Origin.of(self.url), operation=operation)
        value = authorization(credentials, url=redact_url(self.url))
        return {} if value is None else {"Authorization": value}


def find_endpoint(access: Access, operation: Operation, *, config: bytes | None, url: str | None) -> Endpoint:
    """The LFS server of a repository.

    1. `url`, if the caller names one.
    2. Over SSH: what `git-lfs-authenticate` says on the server, which brings a token too.
    3. `lfs.url` of the repository's `.lfsconfig`, if it stays at the repository's origin.
    4. The repository's own URL with `.git/info/lfs`; of `ssh://` with https in its place.

    Args:
        access: How the repository is reached.
        operation: The deadline and cancel switch.
        config: The content of `.lfsconfig`, None where there is none.
        url: An LFS server of the caller's choice.

    Raises:
        ConfigurationError: There is none, or `.lfsconfig` names another origin.
    """
    address = access.address
    own = lfs_url(address, config, url)
    if url is None and address.scheme == "ssh":
        credentials = access.credentials(operation)
        if isinstance(credentials, SSHKey):
            return _authenticate(access, credentials, own, operation)
    return Endpoint(own)


def lfs_url(address: GitAddress, config: bytes | None = None, url: str | None = None) -> str:
    """Steps 1, 3 and 4 of `find_endpoint`.

    >>> lfs_url(GitAddress.parse("git@example.com:team/app.git"))
    'https://example.com/team/app.git/info/lfs'

    Raises:
        ConfigurationError: There is none, or `.lfsconfig` names another origin.
    """
    if url is not None:
        if Origin.of(url).scheme not in ("http", "https") or "@" in urlsplit(url).netloc:
            raise ConfigurationError(f"not the http or https URL of an LFS server: {redact_url(url)}")
        return url.rstrip("/")
    own = _default_url(address)
    named = parse_config(config or b"").get(("lfs", ""), {}).get("url")
    if named is None:
        if own is None:
            raise ConfigurationError(f"{address.url} has no LFS server", hint="name one with lfs_url=")
        return own
    shown = redact_url(named)
    try:
        allowed = own is not None and Origin.of(named) == Origin.of(own) and "@" not in urlsplit(named).netloc
    except ConfigurationError:
        allowed = False
    if not allowed:
        # Whoever can commit could otherwise choose which server this machine talks to.
        raise ConfigurationError(
            f"the .lfsconfig of {address.url} sends us to {shown}, which is another origin",
            hint=f"if that is meant: lfs_url={shown!r}",
        )
    return named.rstrip("/")


def _default_url(address: GitAddress) -> str | None:
    if address.scheme in ("http", "https"):
        base = address.plain_url.rstrip("/")
    elif address.scheme == "ssh":
        # The port is sshd's, the user its account: of neither does https know.
        plain = attrs.evolve(address, scheme="https", port=None, username=None, path=f"/{address.path.lstrip('/')}")
        base = plain.plain_url.rstrip("/")
    else:
        return None
    return f"{base.removesuffix('.git')}.git/info/lfs"


def _authenticate(access: Access, key: SSHKey, own: str, operation: Operation) -> Endpoint:
    """Step 2. Servers without that command leave us with the keychain."""
    address = access.address
    command = f"git-lfs-authenticate {quote_path(address.path.removeprefix('/'))} download"
    try:
        with open_ssh(address, key, command, {}, operation=operation, proxy=access.proxy) as stream:
            stream.phase = "log in to LFS"
            data = b""
            while len(data) <= _MAX_ANSWER and (chunk := stream.read(_MAX_ANSWER)):
                data += chunk
    except (AuthenticationError, CertificateError, TransportError):
        raise
    except SourceError:
        return Endpoint(own)
    if len(data) > _MAX_ANSWER:
        raise RemoteProtocolError(f"{address.url}: git-lfs-authenticate answers too much", url=address.url)
    answer = parse_object(data, address.url)
    href = answer.get("href") or own
    if not _is_https(href):
        raise RemoteProtocolError(f"{address.url}: git-lfs-authenticate names no https URL", url=address.url)
    seconds = answer.get("expires_in")
    lifetime = min(seconds, _MAX_LIFETIME) if isinstance(seconds, int | float) and seconds > 0 else _DEFAULT_LIFETIME
    return Endpoint(href.rstrip("/"), parse_headers(answer.get("header"), address.url), time.time() + lifetime)


def _is_https(href: object) -> TypeGuard[str]:
    """Whether it is an https URL with nobody's name in it."""
    try:
        return isinstance(href, str) and Origin.of(href).scheme == "https" and "@" not in urlsplit(href).netloc
    except ConfigurationError:
        return False

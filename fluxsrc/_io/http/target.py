"""Where a request goes, and where a redirect may lead."""

from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from fluxsrc.auth import Origin, redact_url
from fluxsrc.errors import ConfigurationError, RemoteProtocolError

__all__ = ["Target", "host_field", "redirected"]


class Target(NamedTuple):
    """A URL, taken apart once.

    Attributes:
        url: As it was given.
        origin: Whom to talk to.
        path: What to ask for, query included.
        shown: The URL for people.
    """

    url: str
    origin: Origin
    path: str
    shown: str

    @classmethod
    def of(cls, url: str) -> "Target":
        """Take a URL apart.

        Raises:
            ConfigurationError: It is none of http or https, or has credentials in it.
        """
        origin = Origin.of(url)
        parts = urlsplit(url)
        shown = redact_url(url)
        if origin.scheme not in ("http", "https"):
            raise ConfigurationError(f"not an http or https URL: {shown}")
        if parts.username is not None:
            raise ConfigurationError(
                f"{shown}: user name and password do not belong into the URL", hint="give them as credentials"
            )
        return cls(url, origin, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), shown)


def host_field(origin: Origin) -> str:
    """What stands in the Host field."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    default = {"http": 80, "https": 443}[origin.scheme]
    return host if origin.port in (None, default) else f"{host}:{origin.port}"


def redirected(source: Target, location: str) -> Target:
    """Where a redirect leads.

    Raises:
        RemoteProtocolError: Nowhere we follow.
    """
    shown = source.shown
    target = None
    try:
        url = urljoin(source.url, quote(location, safe="%/:=&?~#+!$,;'@()*[]"), allow_fragments=True)
        target = Target.of(url.partition("#")[0])
    except ValueError:  # ConfigurationError is one: the server chose this URL, not the caller
        pass
    if target is None:
        raise RemoteProtocolError(f"{shown} redirects to an address that is none", url=shown)
    if source.origin.scheme == "https" and target.origin.scheme != "https":
        raise RemoteProtocolError(f"{shown} redirects from https to plain http, to {target.origin}", url=shown)
    return target

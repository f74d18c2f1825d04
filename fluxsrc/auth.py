"""Secrets and credentials, as values that no text ever shows; `redact_url` for the addresses around them."""

import hmac
import ipaddress
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Final, Protocol, runtime_checkable
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

import attrs

from fluxsrc._written import as_written
from fluxsrc.errors import ConfigurationError
from fluxsrc.operation import Operation

__all__ = [
    "IDENTITY_TOKEN_USER",
    "Anonymous",
    "BasicAuth",
    "BearerToken",
    "Credentials",
    "Keychain",
    "Origin",
    "Proxy",
    "RepositoryKeychain",
    "SSHKey",
    "Secret",
    "StaticKeychain",
    "TLSConfig",
    "redact_url",
]

IDENTITY_TOKEN_USER: Final = "<token>"  # noqa: S105
"""The user name by which Docker's configuration says that the password is a token, to be exchanged at the registry."""

_MASK: Final = "**********"


@attrs.frozen(repr=False, eq=False)
class Secret:
    """Text that shows itself only to `reveal()`: not in repr, str, format or logs. It pickles, for worker processes.

    >>> f"{Secret('hunter2')} {Secret('hunter2')!r}"
    "********** Secret('**********')"
    """

    _value: str

    def reveal(self) -> str:
        """The text itself. Use it where it is sent, and keep it nowhere."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({_MASK!r})"

    def __str__(self) -> str:
        return _MASK

    def __format__(self, spec: str) -> str:
        return _MASK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        # Constant time: equality must not tell how much of a guess was right.
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))


def _secret(value: str | Secret) -> Secret:
    return value if isinstance(value, Secret) else Secret(value)


def _optional_secret(value: str | Secret | None) -> Secret | None:
    return None if value is None else _secret(value)


@attrs.frozen(order=True)
class Origin:
    """Scheme, host and port: what credentials are bound to. Another origin never sees them.

    >>> str(Origin.of("https://Example.com/x"))
    'https://example.com:443'
    """

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, url: str) -> "Origin":
        """The origin of a URL, lower-cased, with the scheme's default port filled in.

        Raises:
            ConfigurationError: The URL has no host, or a port that is none.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ConfigurationError(f"not a URL: {redact_url(url)}") from None
        if not parts.hostname:
            raise ConfigurationError(f"a URL with a host is needed, not {redact_url(url)}")
        scheme = parts.scheme.lower()
        return cls(scheme, parts.hostname.lower(), port if port is not None else _PORTS.get(scheme))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" if self.port is None else f"{self.scheme}://{host}:{self.port}"


_PORTS: Final = {"http": 80, "https": 443, "ssh": 22, "git": 9418}


@attrs.frozen
class Anonymous:
    """No credentials, on purpose: a keychain that answers this ends the search."""


@attrs.frozen
class BasicAuth:
    """A user name and a password or token.

    Attributes:
        username: The user name.
        password: The password or token.
        identity: Who this is, for a password that changes by itself: what one got from a cache, the next one gets too.
            Only for credentials that were proven good just before, such as a token fresh from its issuer.
    """

    username: str
    password: Secret = attrs.field(converter=_secret)
    identity: str | None = attrs.field(default=None, kw_only=True, eq=False)


@attrs.frozen
class BearerToken:
    """A token sent as `Authorization: Bearer`.

    Attributes:
        token: The token.
        identity: Who this is, for a token that changes by itself; as of `BasicAuth`.
    """

    token: Secret = attrs.field(converter=_secret)
    identity: str | None = attrs.field(default=None, kw_only=True, eq=False)


@attrs.frozen(kw_only=True, repr=False)
class SSHKey:
    """An SSH private key, and the host keys to trust.

    Attributes:
        identity: The private key, PEM or OpenSSH text.
        passphrase: Opens an encrypted `identity`.
        known_hosts: Lines in OpenSSH's format; hosts they do not name are refused.
        username: Who logs in, unless the URL says so.
    """

    identity: Secret = attrs.field(converter=_secret)
    passphrase: Secret | None = attrs.field(default=None, converter=_optional_secret)
    known_hosts: str
    username: str = "git"

    __repr__ = as_written


Credentials = Anonymous | BasicAuth | BearerToken | SSHKey


class Keychain(Protocol):
    """Answers which credentials to use for an origin. Asked anew for each operation, so rotation just works.

    Implementations are thread-safe and picklable, raise only `FluxSrcError`, and never show a secret in text. Those that
    have to wait for an answer, of a program or of a server, obey the operation that needs the credentials.
    """

    def credentials(self, origin: Origin, /, *, operation: Operation | None = None) -> Credentials | None:
        """The credentials for this origin, or None if this keychain knows none.

        Args:
            origin: Who is to see them.
            operation: The one deadline and cancel switch of whoever asks; None, if there is nothing but the question.
        """
        ...


@runtime_checkable
class RepositoryKeychain(Keychain, Protocol):
    """A keychain that also tells apart the repositories of one registry, as Kubernetes' image pull secrets do."""

    def repository_credentials(
        self, origin: Origin, repository: str, /, *, operation: Operation | None = None
    ) -> Credentials | None:
        """The credentials for this repository of this origin, or None if this keychain knows none."""
        ...


@attrs.frozen
class StaticKeychain:
    """Credentials given up front, each for one origin.

    >>> StaticKeychain.for_url("https://example.com/repo.git", BearerToken("t")).credentials(
    ...     Origin.of("https://elsewhere.example")
    ... ) is None
    True
    """

    _by_origin: tuple[tuple[Origin, Credentials], ...]

    @classmethod
    def for_url(cls, url: str, credentials: Credentials) -> "StaticKeychain":
        """Credentials for the origin of one URL, and for no other."""
        return cls(((Origin.of(url), credentials),))

    def credentials(self, origin: Origin, /, *, operation: Operation | None = None) -> Credentials | None:  # noqa: ARG002
        """Those given for exactly this origin."""
        return dict(self._by_origin).get(origin)


@attrs.frozen(kw_only=True, repr=False)
class TLSConfig:
    """How the server proves who it is, and how we do.

    Attributes:
        ca: PEM certificates that are trusted besides the system's.
        certificate: Our client certificate chain, PEM.
        key: Its private key, PEM.
        insecure_skip_verify: Trust any server. It is as unsafe as it sounds.
    """

    ca: str | None = None
    certificate: str | None = None
    key: Secret | None = attrs.field(default=None, converter=_optional_secret)
    insecure_skip_verify: bool = False

    __repr__ = as_written

    def __attrs_post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ConfigurationError("a client certificate and its key go together: give both or neither")


@attrs.frozen(kw_only=True, repr=False)
class Proxy:
    """A proxy for all connections of a source: `http`, `https`, `socks5` or `socks5h`."""

    url: str = attrs.field(repr=lambda url: repr(redact_url(url)))
    username: str | None = None
    password: Secret | None = attrs.field(default=None, converter=_optional_secret)

    __repr__ = as_written

    @classmethod
    def from_env(cls, url: str, environ: Mapping[str, str] | None = None) -> "Proxy | None":
        """The proxy that the environment names for a URL: `https_proxy`, `http_proxy`, `all_proxy`, unless `no_proxy` forbids.

        Capitals do as well, except for `HTTP_PROXY`: whoever runs us as a CGI program could set that with a header.

        >>> Proxy.from_env("https://example.com", {"HTTPS_PROXY": "http://u:p@proxy:3128", "NO_PROXY": "example.org"})
        Proxy(url='http://proxy:3128', username='u', password=Secret('**********'))

        Args:
            url: What is to be reached.
            environ: Where to look; the process's environment, if it is not given. Read now, once.

        Raises:
            ConfigurationError: The variable does not hold a URL.
        """
        environ = os.environ if environ is None else environ
        origin = Origin.of(url)
        names = [f"{origin.scheme}_proxy", "all_proxy"]
        names = [name for each in names for name in (each, each.upper()) if name != "HTTP_PROXY"]
        value = next((environ[name] for name in names if environ.get(name)), None)
        if value is None or _is_excluded(origin, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
            return None
        try:
            parts = urlsplit(value if "://" in value else f"http://{value}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host:
            raise ConfigurationError(f"the environment names a proxy that is none: {redact_url(value)}")
        netloc = f"[{host}]" if ":" in host else host
        return cls(
            url=f"{parts.scheme}://{netloc}" + (f":{port}" if port is not None else ""),
            username=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
        )


def _is_excluded(origin: Origin, rules: str) -> bool:
    """Whether `no_proxy` speaks of a host: `*`, its name, a domain above it, with or without port; an address or a network."""
    for rule in rules.replace(",", " ").split():
        if rule == "*":
            return True
        with suppress(ValueError):
            if ipaddress.ip_address(origin.host) in ipaddress.ip_network(rule, strict=False):
                return True
        name, colon, port = rule.lower().rpartition(":")
        if not colon or not port.isdigit():
            name, port = rule.lower(), ""
        domain = name.removeprefix("*").strip(".")
        if (origin.host == domain or origin.host.endswith(f".{domain}")) and port in ("", str(origin.port)):
            return True
    return False


def redact_url(url: str, *, keep_query: frozenset[str] = frozenset()) -> str:
    """The URL without user name, password, and query values that are not named in `keep_query`.

    >>> redact_url("https://user:pw@example.com/x?sig=secret&branch=main", keep_query=frozenset({"branch"}))
    'https://example.com/x?sig=**********&branch=main'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "<unparsable URL>"
    netloc = parts.netloc.rpartition("@")[2]
    path = parts.path
    if not parts.scheme and "@" in path and "//" not in path:
        path = path.rpartition("@")[2]  # scp form: user@host:path
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    shown = partial(quote, errors="replace")  # whatever is no UTF-8: redacting must not fail
    query = "&".join(f"{shown(key)}={shown(value, safe='/') if key in keep_query else _MASK}" for key, value in pairs)
    return urlunsplit((parts.scheme, netloc, path, query, parts.fragment))

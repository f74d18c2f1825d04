"""`GitAddress`: where a Git repository is, in any of the spellings git knows."""

import os
import re
from typing import Final, Self
from urllib.parse import quote, unquote, urlsplit

import attrs

from fluxsrc.auth import Origin, Secret, redact_url
from fluxsrc.errors import ConfigurationError

__all__ = ["GitAddress"]

_PORTS: Final = {"http": 80, "https": 443, "ssh": 22, "git": 9418}
_SCHEMES: Final = frozenset(_PORTS)
_SCP: Final = re.compile(r"(?:([^@/:\s]+)@|(?!.:))(\[[0-9A-Fa-f:.]+\]|[^/:@\s\[\]]+):(?!//)(.+)", re.DOTALL)
"""`[USER@]HOST:PATH`; one letter alone before the colon would be a drive."""
_HALF_A_URL: Final = re.compile(r"[a-z]+\+[a-z]+:|(?:https?|ssh|git|file):/", re.IGNORECASE)
_PATH_SAFE: Final = "/%~:@!$&()*+,;="
"""What stands in the path of a URL as it is, `%` included: who writes one writes it quoted."""


@attrs.frozen
class GitAddress:
    """A repository's address, taken apart.

    Attributes:
        scheme: "file", "http", "https", "ssh" or "git".
        path: On the host: absolute, except of scp's form. Of files: absolute on this machine.
        host: Lower-cased; "" for files.
        port: None where the address names none.
        username: Who logs in, where the address says so.
        password: A password written into the address.
    """

    scheme: str
    path: str
    host: str = ""
    port: int | None = None
    username: str | None = None
    password: Secret | None = None

    @classmethod
    def parse(cls, text: "str | os.PathLike[str] | GitAddress") -> Self:
        """Read `git+https://…`, `https://…`, `ssh://…`, `git@host:path`, `git://…`, `git+file://…`, `file://…`, or a path.

        >>> GitAddress.parse("git@example.com:team/repo.git").host
        'example.com'

        Raises:
            ConfigurationError: It is none of these.
        """
        if isinstance(text, cls):
            return text
        text = os.fspath(text)  # type: ignore[arg-type]  # another class's GitAddress is none of ours
        scheme, mark, rest = text.partition("://")
        scheme = scheme.lower().removeprefix("git+")
        if not mark:
            if text.startswith("git+file:"):
                return cls._file(text.removeprefix("git+file:"))  # as `source_from_url` gives it, decoded
            if _HALF_A_URL.match(text):
                raise ConfigurationError(
                    f"not a URL: {redact_url(text)[:200]!r}", hint="two slashes follow a URL's scheme, then the host"
                )
            scp = _SCP.fullmatch(text)
            if scp and not os.path.exists(text):
                return cls._scp(scp[1], scp[2], scp[3])
            return cls._file(text)
        if scheme == "file":
            if "?" in rest or "#" in rest:
                raise ConfigurationError(f"a repository's address has no options: {text[:200]!r}", hint=_OPTIONS_HINT)
            return cls._file(unquote(rest))
        if scheme not in _SCHEMES:
            raise ConfigurationError(
                f"not an address of a Git repository: {redact_url(text)[:200]!r}",
                hint="write git+https://, git+http://, git+ssh://, git://, git+file://, git@host:path, or a path",
            )
        return cls._remote(scheme, text.partition("://")[2])

    @classmethod
    def _file(cls, path: str) -> Self:
        if not path or "\0" in path:
            raise ConfigurationError(f"not a path: {path[:200]!r}")
        return cls("file", os.path.abspath(path))

    @classmethod
    def _scp(cls, username: str | None, host: str, path: str) -> Self:
        _check(host, path, username)
        return cls("ssh", path, host.strip("[]").lower(), None, username)

    @classmethod
    def _remote(cls, scheme: str, rest: str) -> Self:
        if not rest.isprintable() or re.search(r"[\\\s]", rest.partition("/")[0]):
            # urlsplit would drop some of them, and others read a backslash as the end of the host.
            raise ConfigurationError(
                f"not a URL: {redact_url(f'{scheme}://{rest}')[:200]!r}",
                hint="it has only printable characters, and neither blanks nor backslashes in its host",
            )
        try:
            parts = urlsplit(f"{scheme}://{rest}")
            port = parts.port
        except ValueError:
            raise ConfigurationError(
                "not a URL: its host or port cannot be read", hint="without a scheme in front write git@host:path"
            ) from None
        if parts.query or parts.fragment:
            raise ConfigurationError(
                f"a repository's address has no options: {redact_url(f'{scheme}://{rest}')[:200]!r}", hint=_OPTIONS_HINT
            )
        if not parts.hostname or not parts.path.strip("/"):
            raise ConfigurationError(f"a repository's address has a host and a path, not {scheme}://{parts.path[:200]}")
        username = unquote(parts.username) if parts.username else None
        password = Secret(unquote(parts.password)) if parts.password else None
        path = unquote(parts.path) if scheme in ("ssh", "git") else quote(parts.path, safe=_PATH_SAFE)
        _check(parts.hostname, path, username)
        return cls(scheme, path, parts.hostname, port, username, password)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's file system."""
        return self.scheme == "file"

    @property
    def origin(self) -> Origin:
        """What credentials for it are bound to."""
        return Origin(self.scheme, self.host, self.port if self.port is not None else _PORTS.get(self.scheme))

    @property
    def url(self) -> str:
        """The address in its one canonical spelling, without secrets; `parse` reads it."""
        if self.is_local:
            return f"git+file://{quote(self.path)}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        # Over SSH the name says which account; over HTTP it may well be a token.
        user = f"{quote(self.username)}@" if self.username and self.scheme == "ssh" else ""
        if not self.path.startswith("/"):
            return f"{user}{host}:{self.path}"
        port = "" if self.port is None else f":{self.port}"
        scheme = self.scheme if self.scheme == "git" else f"git+{self.scheme}"
        return f"{scheme}://{user}{host}{port}{quote(self.path, safe=_PATH_SAFE)}"

    @property
    def plain_url(self) -> str:
        """The canonical URL as other tools know it: without `git+`."""
        return self.url.removeprefix("git+")


_OPTIONS_HINT: Final = "give branch=, tag=, … as arguments, or use source_from_url for the whole URL"


def _check(host: str, path: str, username: str | None) -> None:
    # A host or user that looks like an option would be one to ssh (CVE-2017-1000117).
    if host.startswith("-") or (username or "").startswith("-"):
        raise ConfigurationError("a host or user name cannot begin with '-'")
    if any(not char.isprintable() for char in host + path + (username or "")):
        raise ConfigurationError("an address has only printable characters")

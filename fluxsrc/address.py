"""`Address`: the one URL grammar of all sources, taken apart."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote

import attrs

from fluxsrc.auth import redact_url
from fluxsrc.errors import ConfigurationError

__all__ = ["Address", "flag"]

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_ON_DISK: Final = frozenset({"file", "git+file"})


@attrs.frozen
class Address:
    """`SCHEME://LOCATION?OPTION=VALUE&…#path=SUB/TREE`; what has no scheme is a path on disk, to the letter.

    >>> Address.parse("git+https://example.com/repo.git?branch=main#path=deploy/prod")
    Address(scheme='git+https', location='//example.com/repo.git', options={'branch': 'main'}, path='deploy/prod')

    Attributes:
        scheme: Lower-case; "file" where none was written.
        location: What stands between scheme and query. A path, percent-decoded, for `file` and `git+file`.
        options: The query, each name once.
        path: The sub-tree, "" for all.
    """

    scheme: str
    location: str
    options: Mapping[str, str] = attrs.field(factory=dict)
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Take a URL or a path apart.

        Raises:
            ConfigurationError: It is empty or malformed, or repeats an option, or has a fragment that is not `path=`.
        """
        found = _SCHEME.match(text)
        if not text or "\0" in text:
            raise ConfigurationError(
                "a URL or a path is needed", hint="for example git+https://host/repo.git?branch=main"
            )
        if found is None:
            return cls("file", text)
        scheme = found[1].lower()
        rest, _, fragment = text[found.end() :].partition("#")
        location, _, query = rest.partition("?")
        key, _, path = fragment.partition("=")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict") if query else []
            path = unquote(path, errors="strict").strip("/").removeprefix("./")
        except ValueError:
            raise ConfigurationError(
                f"not a URL: {redact_url(text)!r}", hint="options are NAME=VALUE, joined by '&', and UTF-8"
            ) from None
        if scheme in _ON_DISK:
            location = unquote(location.removeprefix("//"), errors="surrogateescape")
        if scheme != "file" and not _is_text(location):  # a directory may have any name
            raise ConfigurationError(f"not UTF-8: {redact_url(text)!a}")
        options = dict(pairs)
        if len(options) != len(pairs):
            raise ConfigurationError(f"an option is given twice: {redact_url(text)}")
        if fragment and key != "path":
            raise ConfigurationError(f"the fragment of {redact_url(text.partition('#')[0])} is not '#path=SUB/TREE'")
        return cls(scheme, location, options, "" if path == "." else path)

    def take(self, *names: str) -> dict[str, str]:
        """The options, if these are all there may be.

        Raises:
            ConfigurationError: There is another one; the message names those that may be.
        """
        unknown = sorted(set(self.options) - set(names))
        if unknown:
            raise ConfigurationError(
                f"{self.scheme} sources have no option {unknown[0]!r}", hint=f"known: {', '.join(names) or 'none'}"
            )
        return dict(self.options)


def _is_text(text: str) -> bool:
    """Whether it is without the surrogates that stand for bytes that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def flag(value: str, name: str) -> bool:
    """The value of an option that is true or false.

    Raises:
        ConfigurationError: It is neither.
    """
    if value.lower() not in ("true", "false"):
        raise ConfigurationError(f"{name} is true or false, not {value[:20]!r}")
    return value.lower() == "true"

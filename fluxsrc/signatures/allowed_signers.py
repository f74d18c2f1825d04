"""`AllowedSigners`: who may sign with which SSH key, in the file formats of OpenSSH."""

import base64
import datetime as dt
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Self

import attrs

from fluxsrc.errors import ConfigurationError
from fluxsrc.signatures.sshkeys import KeyFormatError, SSHPublicKey

__all__ = ["AllowedSigner", "AllowedSigners", "identity_names", "matches"]

_MAX_BYTES: Final = 4 * 1024 * 1024
_LINE: Final = re.compile(
    r'(?:(?P<principals>"[^"]*"|[^\s"]+)\s+(?:(?P<options>(?:[^\s"]|"[^"]*")+)\s+)??)??'
    r"(?P<kind>(?:ssh|ecdsa|sk)-[a-z0-9@.-]+)\s+(?P<blob>[A-Za-z0-9+/]+={0,3})(?:\s.*)?"
)
"""Who, on which conditions, the key, and a comment; the first two may be missing."""
_OPTION: Final = re.compile(r'(?P<name>[A-Za-z-]+)(?:="(?P<value>[^"]*)")?(?:,|$)')
_TIME_FORMATS: Final = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


@attrs.frozen
class AllowedSigner:
    """One key, and what it may sign.

    Attributes:
        principals: Patterns of the names it may sign for; None where the file does not give names.
        key: The key.
        namespaces: Patterns of what it may sign; None is everything.
        valid_after: From when on it counts.
        valid_before: Until when.
    """

    principals: tuple[str, ...] | None
    key: SSHPublicKey
    namespaces: tuple[str, ...] | None = None
    valid_after: dt.datetime | None = None
    valid_before: dt.datetime | None = None


@attrs.frozen
class AllowedSigners:
    """The SSH keys that are trusted.

    Attributes:
        signers: In the order of the file.
    """

    signers: tuple[AllowedSigner, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an `allowed_signers` file (`ssh-keygen(1)`), or lines of public keys as in `id_ed25519.pub`.

        Times without a zone are UTC here, and the machine's own zone in OpenSSH: write the Z.

        >>> key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMNFHAlXYpvJwyRWoQVxJx3r0tJZqNUoaPvqSJLSR3gm"
        >>> AllowedSigners.parse(f'*@example.com namespaces="git" {key}').signers[0].principals
        ('*@example.com',)

        Raises:
            ConfigurationError: A line is none, or asks for what is not supported: certificates, unknown options.
        """
        if len(text) > _MAX_BYTES:
            raise ConfigurationError(f"the allowed signers are larger than {_MAX_BYTES:,} bytes")
        signers = []
        for number, line in enumerate(text.splitlines(), 1):
            stripped = line.strip()
            if stripped and not stripped.startswith("#"):
                try:
                    signers.append(_signer(stripped))
                except ValueError as exc:  # KeyFormatError, and what base64 does not like
                    raise ConfigurationError(f"allowed signers, line {number}: {exc}") from None
        if not signers:
            raise ConfigurationError("there is no key among the allowed signers")
        return cls(tuple(signers))


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name matches a pattern list of OpenSSH: `*`, `?`, and `!` before what must not match.

    >>> matches("ada@example.com", ["!eve@*", "*@example.com"])
    True
    >>> matches("eve@example.com", ["!eve@*", "*@example.com"])
    False
    """
    found = False
    for pattern in patterns:
        if _glob(pattern.removeprefix("!"), name):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _glob(pattern: str, name: str) -> bool:
    """In time proportional to the product of the lengths, whatever the pattern."""
    reached = {0}
    for char in pattern:
        if char == "*":
            reached = set(range(min(reached), len(name) + 1)) if reached else reached
        else:
            reached = {at + 1 for at in reached if at < len(name) and char in ("?", name[at])}
    return len(name) in reached


def _signer(line: str) -> AllowedSigner:
    found = _LINE.fullmatch(line)
    if found is None:
        raise KeyFormatError("there is no key, or a quote is not closed")
    key = SSHPublicKey.parse(base64.b64decode(found["blob"], validate=True))
    if key.algorithm != found["kind"]:
        raise KeyFormatError("the key is of another kind than the line says")
    options = dict(_options(found["options"] or ""))
    return AllowedSigner(
        None if found["principals"] is None else _patterns(found["principals"]),
        key,
        _patterns(options["namespaces"]) if "namespaces" in options else None,
        _time(options["valid-after"]) if "valid-after" in options else None,
        _time(options["valid-before"]) if "valid-before" in options else None,
    )


def _patterns(value: str) -> tuple[str, ...]:
    patterns = tuple(value.strip('"').split(","))
    if not all(patterns):
        raise KeyFormatError("a list of patterns has an empty one")
    return patterns


def _options(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    seen = set()
    while at < len(text):
        found = _OPTION.match(text, at)
        if found is None:
            raise KeyFormatError(f"not an option: {text[at : at + 60]!a}; values are quoted")
        name = found["name"].lower()
        value = found["value"]
        if name == "cert-authority":
            raise KeyFormatError("cert-authority is not supported: name the keys themselves")
        if name not in ("namespaces", "valid-after", "valid-before") or not value or name in seen:
            raise KeyFormatError(f"unknown, repeated or empty option {name}")
        seen.add(name)
        yield name, value
        at = found.end()


def _time(text: str) -> dt.datetime:
    digits = text.removesuffix("Z")
    try:
        return dt.datetime.strptime(digits, _TIME_FORMATS[len(digits)]).replace(tzinfo=dt.UTC)
    except (KeyError, ValueError):
        raise KeyFormatError(f"not a time: {text[:30]!a}; write YYYYMMDD[HHMM[SS]]Z") from None


def identity_names(value: Iterable[str]) -> tuple[str, ...]:
    """Names of who has to have signed, as a policy's `identities` takes them.

    Raises:
        ConfigurationError: It is one name, whose letters would be taken for names.
    """
    if isinstance(value, str):
        raise ConfigurationError("identities is a sequence of names, not one", hint=f"identities=[{value!r}]")
    return tuple(value)

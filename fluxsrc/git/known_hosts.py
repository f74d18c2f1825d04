"""`KnownHosts`: which keys prove that an SSH server is the one that was meant. OpenSSH's format, read strictly.

OpenSSH passes over lines that it cannot read. Here they are errors: a `@revoked` line with a typo must not be silent.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

import attrs

from fluxsrc.errors import ConfigurationError

__all__ = ["HostKeys", "KnownHosts", "PublicKey"]

_MARKERS: Final = frozenset({"@cert-authority", "@revoked"})
_SHA1_BYTES: Final = 20
_DEFAULT_PORT: Final = 22
_KEY_FIELDS: Final = 3
"""Host patterns, key type, key."""


@attrs.frozen
class PublicKey:
    """A public key as SSH sends it.

    Attributes:
        algorithm: "ssh-ed25519", "ssh-rsa", …
        blob: The key in SSH's wire format.
    """

    algorithm: str
    blob: bytes = attrs.field(repr=False)

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` shows it: `SHA256:…`."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def text(self) -> str:
        """As in an authorized_keys line."""
        return f"{self.algorithm} {base64.b64encode(self.blob).decode()}"


@attrs.frozen
class HostKeys:
    """What is known of one host.

    Attributes:
        trusted: Keys that the host may prove itself with.
        authorities: Keys that may have signed the host's certificate.
        revoked: Keys that prove nothing any more, whatever else says so.
    """

    trusted: tuple[PublicKey, ...] = ()
    authorities: tuple[PublicKey, ...] = ()
    revoked: tuple[PublicKey, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.trusted or self.authorities)


@attrs.frozen
class _Line:
    marker: str
    hosts: str
    key: PublicKey

    def matches(self, name: str) -> bool:
        if self.hosts.startswith("|"):
            salt, digest = _hashed(self.hosts)
            return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest)
        return matches_list(name, self.hosts.lower().split(","))


@attrs.frozen
class KnownHosts:
    """The lines of a known_hosts file."""

    _lines: tuple[_Line, ...]

    @classmethod
    def parse(cls, text: str) -> "KnownHosts":
        """Read OpenSSH's format: plain, `[host]:port`, wildcard, negated and hashed hosts, both markers.

        Raises:
            ConfigurationError: A line cannot be read; the message tells its number.
        """
        lines = []
        for number, raw in enumerate(text.splitlines(), 1):
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            try:
                parsed = _parse_line(line.split())
            except ValueError as exc:
                raise ConfigurationError(
                    f"known_hosts, line {number}: {exc}",
                    hint="a line is: [@cert-authority|@revoked] HOSTS KEYTYPE BASE64-KEY [COMMENT]",
                ) from None
            if parsed is not None:
                lines.append(parsed)
        return cls(tuple(lines))

    def lookup(self, host: str, port: int | None = None) -> HostKeys:
        """What the lines say of a host, as OpenSSH matches them; a host on another port than 22 is another host.

        Args:
            host: A name or an address, as the URL has it.
            port: None for 22.
        """
        name = host.lower() if port in (None, _DEFAULT_PORT) else f"[{host.lower()}]:{port}"
        found: dict[str, dict[PublicKey, None]] = {"": {}, "@cert-authority": {}, "@revoked": {}}
        for line in self._lines:
            if line.matches(name):
                found[line.marker][line.key] = None
        revoked = found["@revoked"]
        return HostKeys(
            trusted=tuple(key for key in found[""] if key not in revoked),
            authorities=tuple(key for key in found["@cert-authority"] if key not in revoked),
            revoked=tuple(revoked),
        )


def _parse_line(fields: list[str]) -> _Line | None:
    marker = fields.pop(0) if fields[0].startswith("@") else ""
    if marker and marker not in _MARKERS:
        raise ValueError(f"unknown marker {marker[:40]!r}")
    if len(fields) > _KEY_FIELDS and all(field.isdigit() for field in fields[1:4]):
        return None  # a key of SSH protocol 1, which nobody speaks any more
    if len(fields) < _KEY_FIELDS:
        raise ValueError("fields are missing")
    hosts, algorithm, data = fields[:_KEY_FIELDS]
    if hosts.startswith("|"):
        _hashed(hosts)
    try:
        blob = base64.b64decode(data, validate=True)
    except binascii.Error:
        raise ValueError("the key is not base64") from None
    name = algorithm.encode()
    if not blob.startswith(len(name).to_bytes(4, "big") + name):
        raise ValueError(f"the key is not of the type {algorithm[:40]!r}")
    return _Line(marker, hosts, PublicKey(algorithm, blob))


def _hashed(field: str) -> tuple[bytes, bytes]:
    """Salt and digest of `|1|SALT|DIGEST`."""
    parts = field.split("|")
    if len(parts) != 4 or parts[1] != "1":  # noqa: PLR2004 - "", "1", salt, digest
        raise ValueError("a hashed host is |1|SALT|DIGEST")
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in parts[2:])
    except binascii.Error:
        raise ValueError("a hashed host is not base64") from None
    if len(salt) != _SHA1_BYTES or len(digest) != _SHA1_BYTES:
        raise ValueError("a hashed host has a salt and a digest of 20 bytes each")
    return salt, digest


def matches_list(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern matches and no negated one does, as in OpenSSH's `match_pattern_list`.

    >>> matches_list("git.example.com", ["*.example.com", "!bad.example.com"])
    True
    """
    if any(pattern.startswith("!") and matches_pattern(name, pattern[1:]) for pattern in patterns):
        return False
    return any(not pattern.startswith("!") and matches_pattern(name, pattern) for pattern in patterns)


def matches_pattern(name: str, pattern: str) -> bool:
    """Whether the pattern's `*` (any text) and `?` (any character) match all of the name; at most their product in steps.

    >>> matches_pattern("[host]:2222", "[h*t]:????")
    True
    """
    at = place = 0
    star = anchor = -1
    while at < len(name):
        if place < len(pattern) and pattern[place] == "*":
            star, anchor = place, at
            place += 1
        elif place < len(pattern) and pattern[place] in ("?", name[at]):
            at += 1
            place += 1
        elif star >= 0:  # let the last star take one character more
            anchor += 1
            at, place = anchor, star + 1
        else:
            return False
    return not pattern[place:].strip("*")

"""`DistinguishedName`: the names of trusted identities, in the form that trust policies write them in (RFC 4514)."""

import re
from collections.abc import Sequence
from typing import Final, Self

import attrs

from fluxsrc.errors import ConfigurationError

__all__ = ["DistinguishedName"]

_TYPES: Final = {
    "2.5.4.3": "CN",
    "2.5.4.5": "SERIALNUMBER",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.17": "POSTALCODE",
}
_MANDATORY: Final = ("C", "ST", "O")
_ESCAPED: Final = re.compile(r"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)


@attrs.frozen
class DistinguishedName:
    """Some attributes of a name, each once.

    Attributes:
        attributes: Type and value of each, sorted.
    """

    attributes: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        r"""Read RFC 4514's form.

        >>> DistinguishedName.parse(r"C=US, S=WA, O=Acme\, Inc.").attributes
        (('C', 'US'), ('O', 'Acme, Inc.'), ('ST', 'WA'))

        Raises:
            ConfigurationError: It is none, has an attribute twice or one that is not known, or lacks C, ST or O.
        """
        if "=#" in text:
            raise ConfigurationError(f"values in hexadecimal are not supported: {text[:100]!r}")
        found: dict[str, str] = {}
        for part in _split(text, ","):
            if len(_split(part, "+")) > 1:
                raise ConfigurationError(f"parts with several values are not supported: {part[:100]!r}")
            name, equals, value = part.partition("=")
            name = name.strip().upper()
            name = "ST" if name == "S" else name
            value = _unescape(value)
            if not equals or not value or name not in _TYPES.values() or name in found:
                raise ConfigurationError(
                    f"not a distinguished name: {text[:100]!r}", hint="write C=…, ST=…, O=…, each once, and RFC 4514"
                )
            found[name] = value
        missing = [name for name in _MANDATORY if name not in found]
        if missing:
            raise ConfigurationError(f"{text[:100]!r} lacks {', '.join(missing)}", hint="C, ST and O have to be there")
        return cls(tuple(sorted(found.items())))

    def matches(self, parts: Sequence[Sequence[tuple[str, str]]]) -> bool:
        """Whether a certificate's name has all of these. Of a name with something twice nobody can say what it is.

        Args:
            parts: The parts of the name, of each its attributes as OID and value.
        """
        found = [attribute for part in parts for attribute in part]
        named = {_TYPES[oid]: value for oid, value in found if oid in _TYPES}
        if len(found) != len(parts) or len({oid for oid, _ in found}) != len(found):
            return False
        return all(named.get(name) == value for name, value in self.attributes) and all(map(named.get, _MANDATORY))

    def covers(self, other: "DistinguishedName") -> bool:
        """Whether whoever has the other name has this one."""
        return set(self.attributes) <= set(other.attributes)


def _split(text: str, separator: str) -> list[str]:
    """At separators that are not escaped."""
    return re.findall(rf"(?:\\.|[^\\{re.escape(separator)}])+", text, re.DOTALL)


def _unescape(value: str) -> str:
    """The value; spaces around it do not count, unless they are escaped."""
    kept = re.sub(r"^ +|(?<!\\) +$", "", value)
    data = bytearray()
    at = 0
    for escape in _ESCAPED.finditer(kept):
        data += kept[at : escape.start()].encode()
        data += bytes.fromhex(escape[1]) if len(escape[1]) > 1 else escape[1].encode()
        at = escape.end()
    data += kept[at:].encode()
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"not UTF-8 in a distinguished name: {value[:100]!r}") from None

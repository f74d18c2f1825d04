"""`WWW-Authenticate` headers taken apart (RFC 9110, 11.6.1). Text in, values out."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

__all__ = ["Challenge", "parse_challenges"]

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_NEXT: Final = re.compile(rf"[ \t,]*({_WORD})(?=[ \t,]|$)")
_PARAMETER: Final = re.compile(rf'[ \t,]*({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))[ \t]*(?=,|$)')
_TOKEN68: Final = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")
_ESCAPE: Final = re.compile(r"\\(.)")
_MAX_LENGTH: Final = 8192


@attrs.frozen
class Challenge:
    """One way a server offers to log in.

    Attributes:
        scheme: Lower-case: "bearer", "basic", "negotiate", …
        parameters: By lower-case name.
    """

    scheme: str
    parameters: Mapping[str, str] = attrs.field(factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Every challenge of some headers, in order. What cannot be understood ends its header; it is never an error.

    >>> parse_challenges(['Bearer realm="https://auth.example/token",service="registry", Basic realm="x"'])[0].parameters
    {'realm': 'https://auth.example/token', 'service': 'registry'}
    """
    found = []
    for header in headers:
        text, position = header[:_MAX_LENGTH], 0
        while (start := _NEXT.match(text, position)) is not None:
            parameters: dict[str, str] = {}
            position = start.end()
            if (credentials := _TOKEN68.match(text, position)) is not None:
                position = credentials.end()
            # A token followed by "=" is a parameter of this challenge, one that is not begins the next.
            while (parameter := _PARAMETER.match(text, position)) is not None:
                name, quoted, plain = parameter.groups()
                value = plain if quoted is None else _ESCAPE.sub(r"\1", quoted)
                parameters.setdefault(name.lower(), value)
                position = parameter.end()
            found.append(Challenge(start[1].lower(), parameters))
            if position < len(text) and text[position] not in " \t,":
                break
    return found

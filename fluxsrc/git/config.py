"""Git's configuration syntax, parsed: bytes in, values out. No includes, no expansion, nothing from the environment."""

import re
from typing import Final

__all__ = ["parse_config"]

_SECTION: Final = re.compile(r'\[\s*([A-Za-z0-9.-]+)(?:\s+"((?:[^"\\]|\\.)*)")?\s*\]')
_KEY: Final = re.compile(r"([A-Za-z][A-Za-z0-9-]*)\s*(=)?\s*")
_ESCAPES: Final = {"n": "\n", "t": "\t", "b": "\b", '"': '"', "\\": "\\"}


def parse_config(data: bytes) -> dict[tuple[str, str], dict[str, str]]:
    r"""The values by (section, subsection) and key, sections and keys lower-cased; of repeated keys the last one.

    Lines that are not understood are passed over: the file belongs to git, which complains better.

    >>> parse_config(b'[extensions]\n\tobjectFormat = sha256 ; since 2.29\n')
    {('extensions', ''): {'objectformat': 'sha256'}}
    """
    sections: dict[tuple[str, str], dict[str, str]] = {}
    current: dict[str, str] | None = None
    text = data.decode(errors="surrogateescape").replace("\r\n", "\n").replace("\\\n", "")
    for raw in text.split("\n"):
        line = raw.strip()
        found = _SECTION.match(line)
        if found:
            subsection = re.sub(r"\\(.)", r"\1", found[2] or "")
            current = sections.setdefault((found[1].lower(), subsection), {})
            line = line[found.end() :].strip()
        key = _KEY.match(line)
        if key and current is not None:
            current[key[1].lower()] = _value(line[key.end() :]) if key[2] else "true"
    return sections


def _value(text: str) -> str:
    out: list[str] = []
    quoted = False
    kept = 0  # up to here trailing blanks are meant
    characters = iter(text)
    for char in characters:
        if char == '"':
            quoted = not quoted
            kept = len(out)
        elif char == "\\":
            follower = next(characters, "")
            out.append(_ESCAPES.get(follower, follower))
            kept = len(out)
        elif char in "#;" and not quoted:
            break
        else:
            out.append(char)
            if quoted or not char.isspace():
                kept = len(out)
    return "".join(out[:kept])

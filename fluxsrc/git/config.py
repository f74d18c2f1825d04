"""Git's configuration syntax, parsed: bytes in, values out. No includes, no expansion, nothing from the environment."""

import codecs
import re
from typing import Final

__all__ = ["parse_config"]

_BLANK: Final = re.compile(r"(?:\s+|[#;][^\n]*)*")
_LINE: Final = re.compile(r"[^\n]*")
_SECTION: Final = re.compile(r'\[[ \t]*([A-Za-z0-9.-]+)(?:[ \t]+"((?:[^"\\\n]|\\.)*)")?[ \t]*\]')
_KEY: Final = re.compile(r"([A-Za-z][A-Za-z0-9-]*)[ \t]*(=)?")
_ESCAPES: Final = {"n": "\n", "t": "\t", "b": "\b"}


def parse_config(data: bytes) -> dict[tuple[str, str], dict[str, str]]:
    r"""The values by (section, subsection) and key, sections and keys lower-cased; of repeated keys the last one.

    What is not understood is passed over to the end of its line: the file belongs to git, which complains better.

    >>> parse_config(b'[extensions]\n\tobjectFormat = sha256 ; since 2.29\n')
    {('extensions', ''): {'objectformat': 'sha256'}}
    """
    text = data.removeprefix(codecs.BOM_UTF8).decode(errors="surrogateescape").replace("\r\n", "\n")
    sections: dict[tuple[str, str], dict[str, str]] = {}
    current: dict[str, str] = {}  # of no section: nobody asks for it
    at = _end(_BLANK, text, 0)
    while at < len(text):
        if section := _SECTION.match(text, at):
            name, _, old = section[1].lower().partition(".")  # `[submodule.lib]` is how subsections once were written
            subsection = old if section[2] is None else re.sub(r"\\(.)", r"\1", section[2])
            current = sections.setdefault((name, subsection), {})
            at = section.end()
        elif key := _KEY.match(text, at):
            value, at = _value(text, key.end()) if key[2] else ("true", _end(_LINE, text, at))
            current[key[1].lower()] = value
        else:
            at = _end(_LINE, text, at)
        at = _end(_BLANK, text, at)
    return sections


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where a pattern that matches everywhere ends."""
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _value(text: str, at: int) -> tuple[str, int]:
    """The value that begins here, and where it ends."""
    out: list[str] = []
    quoted = False
    kept = 0  # up to here trailing blanks are meant
    while at < len(text) and text[at] != "\n":
        char = text[at]
        at += 1
        if char == '"':
            quoted = not quoted
            kept = len(out)
        elif char == "\\":
            follower = text[at : at + 1]
            at += 1
            if follower != "\n":
                out.append(_ESCAPES.get(follower, follower))
                kept = len(out)
        elif char in "#;" and not quoted:
            at = _end(_LINE, text, at)
        elif quoted or not char.isspace():
            out.append(char)
            kept = len(out)
        elif out:
            out.append(char)
    return "".join(out[:kept]), at

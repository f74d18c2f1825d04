"""The little XML that object stores speak: a flat head, and records of leaves.

A listing is nearly all records, a thousand on a page. Those of the plainest form there is (no attribute, no nesting, printable
ASCII, no reference but to quotes) are taken out of the text at a glance, and a real parser reads what is left. If it still finds
a record there, it reads all of the document.
"""

import re
from functools import cache
from typing import Final
from urllib.parse import unquote
from xml.parsers import expat

import attrs

__all__ = ["Document", "parse"]

_MAX_DEPTH: Final = 16
_TEXT: Final = r"[ -%'-;=-~]*(?:&(?:#34|quot);[ -%'-;=-~]*)*"
_LEAF: Final = re.compile(r"<([A-Za-z0-9]+)>([^<]*)</")


@attrs.frozen
class Document:
    """What was read.

    Attributes:
        head: Text of the leaves outside of records, by name.
        records: Text of the leaves of each record, by name, however deep.
    """

    head: dict[str, str]
    records: list[dict[str, str]]


def parse(data: bytes, *records: str, root: str) -> Document:
    """Read a document.

    Args:
        data: The document. One with a document type is refused, so there are no entities that could grow.
        records: The names of the elements that are records.
        root: The name that the outermost element must have.

    Raises:
        ValueError: It is not XML, or another document.
    """
    plain: list[dict[str, str]] = []

    def take(found: re.Match[str]) -> str:
        plain.append(dict(_LEAF.findall(found[2].replace("&#34;", '"').replace("&quot;", '"'))))
        return ""

    # Where a comment or a CDATA section can be, "<Contents>" may be a part of somebody's text.
    if records and data.isascii() and b"<!" not in data:
        rest = _plain(records).sub(take, data.decode())
        if plain and not (document := _parse(rest.encode(), records, root)).records:
            return Document(document.head, plain)
    return _parse(data, records, root)


@cache
def _plain(records: tuple[str, ...]) -> re.Pattern[str]:
    """A record that can be read at a glance."""
    return re.compile(rf"<({'|'.join(records)})>((?:<([A-Za-z0-9]+)>{_TEXT}</\3>)+)</\1>")


def _parse(data: bytes, records: tuple[str, ...], root: str) -> Document:
    reader = _Reader(records)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as exc:
        raise ValueError(f"not XML: {exc}") from None
    if reader.root != root:
        raise ValueError(f"a document of the type {reader.root[:40]!a}")
    return Document(reader.head, reader.records)


def _refuse(*_: object) -> None:
    raise ValueError("XML with a document type")


class _Reader:
    def __init__(self, records: tuple[str, ...]) -> None:
        self.root = ""
        self.head: dict[str, str] = {}
        self.records: list[dict[str, str]] = []
        self._records = records
        self._into = self.head
        self._depth = 0
        self._leaf = False
        self._encoded = False
        self._text = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth == 1:
            self.root = name
        elif self._depth > _MAX_DEPTH:
            raise ValueError("XML that is nested too deep")
        if name in self._records:
            self._into = {}
            self.records.append(self._into)
        self._leaf = True
        self._encoded = attributes.get("Encoded") == "true"
        self._text = ""

    def end(self, name: str) -> None:
        self._depth -= 1
        if self._leaf:
            self._into[name] = unquote(self._text) if self._encoded else self._text
            self._leaf = False
        if name in self._records:
            self._into = self.head

    def text(self, data: str) -> None:
        self._text += data

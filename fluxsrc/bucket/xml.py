"""The little XML that object stores speak: a flat head, and records of leaves.

A long listing is nearly all records, a thousand on a page, of which a few leaves are wanted. Those of the plainest form there is
(no attribute, no nesting, printable ASCII, no reference but to quotes) are taken out of the text at a glance, and a real parser
reads what is left. If it still finds a record there, it reads all of the document.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple
from urllib.parse import unquote
from xml.parsers import expat

__all__ = ["Document", "Table", "parse", "parse_table"]

_MAX_DEPTH: Final = 16
_MAX_ELEMENTS: Final = 1 << 20
"""In a document: a page is some thousands of records of some dozens of leaves, and each costs as much as a hundred bytes."""
_MAX_OTHERS: Final = 64
"""Leaves in a row that nobody wants, in a record that is read at a glance: what matches them remembers each."""
_TEXT: Final = r"[ -%'-;=-~]*(?:&(?:#34|quot);[ -%'-;=-~]*)*"


class Document(NamedTuple):
    """What was read.

    Attributes:
        head: Text of the leaves outside of records, by name.
        records: Text of the leaves of each record, by name, however deep.
    """

    head: dict[str, str]
    records: list[dict[str, str]]


class Table(NamedTuple):
    """What was read, where the same leaves of every record are wanted.

    Attributes:
        head: As in `Document`.
        columns: For each of the leaves its text in every record; empty where a record has none.
    """

    head: dict[str, str]
    columns: Sequence[Sequence[str]]


def parse(data: bytes, *records: str, root: str) -> Document:
    """Read a document.

    Args:
        data: The document. One with a document type is refused, so there are no entities that could grow.
        records: The names of the elements that are records.
        root: The name that the outermost element must have.

    Raises:
        ValueError: It is not XML, or another document.
    """
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


def parse_table(data: bytes, record: str, leaves: tuple[str, ...], *, root: str) -> Table:
    """Read some leaves of a document's records; several times as fast as `parse` where these leaves come in this order.

    Args:
        data: As in `parse`.
        record: The name of the elements that are records.
        leaves: The names of the leaves that are wanted.
        root: As in `parse`.

    Raises:
        ValueError: It is not XML, or another document.
    """
    if data.isascii():
        plain = _plain(record, leaves)
        parts, step = plain.split(data.decode()), plain.groups + 1
        rest = "".join(parts[::step])
        # In a comment, a CDATA section or an instruction, a record would be a part of somebody's text.
        if "<!" not in rest and rest.rfind("<?") <= 0:
            document = parse(rest.encode(), record, root=root)
            if not document.records:
                return Table(document.head, [_quoted(parts[plain.groupindex[leaf] :: step]) for leaf in leaves])
    document = parse(data, record, root=root)
    return Table(document.head, [[found.get(leaf, "") for found in document.records] for leaf in leaves])


@cache
def _plain(record: str, leaves: tuple[str, ...]) -> re.Pattern[str]:
    """A record that can be read at a glance: each of the leaves once, in this order, and others between them."""
    pattern = f"<{record}>"
    for number, leaf in enumerate((*leaves, "")):
        pattern += (
            rf"(?:<(?!(?:{'|'.join(leaves)})>)(?P<_{number}>[A-Za-z0-9]+)>{_TEXT}</(?P=_{number})>){{0,{_MAX_OTHERS}}}"
        )
        pattern += f"<{leaf}>(?P<{leaf}>{_TEXT})</{leaf}>" if leaf else f"</{record}>"
    return re.compile(pattern)


def _quoted(column: list[str]) -> list[str]:
    """The texts with their references resolved. All are printable: what stands between them is in none of them."""
    joined = "\n".join(column)
    return joined.replace("&#34;", '"').replace("&quot;", '"').split("\n") if "&" in joined else column


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
        self._elements = 0
        self._leaf = False
        self._encoded = False
        self._text = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth == 1:
            self.root = name
        elif self._depth > _MAX_DEPTH:
            raise ValueError("XML that is nested too deep")
        elif self._elements > _MAX_ELEMENTS:
            raise ValueError("XML of too many elements")
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

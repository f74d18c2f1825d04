"""Commits and annotated tags, parsed: bytes in, values out."""

import datetime as dt
import re
from typing import Final, NamedTuple, Self

from fluxsrc.errors import ContentError

__all__ = ["Commit", "Tag"]

_WHEN: Final = re.compile(rb"> (\d{1,15}) ([+-]\d{2})(\d{2})$")


class Commit(NamedTuple):
    """What a snapshot needs of a commit.

    Attributes:
        tree: The binary name of its tree.
        committed: The committer's time, with its zone; None where it is not a time.
        subject: The first line of the message.
    """

    tree: bytes
    committed: dt.datetime | None
    subject: str

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a commit object.

        Raises:
            ContentError: It names no tree.
        """
        headers, _, message = data.partition(b"\n\n")
        fields = _fields(headers)
        return cls(_oid(fields.get(b"tree")), _when(fields.get(b"committer", b"")), _first_line(message))


class Tag(NamedTuple):
    """What is needed of an annotated tag.

    Attributes:
        target: The binary name of what it points at.
        kind: What that is: "commit", "tree", "blob" or another "tag".
    """

    target: bytes
    kind: str

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a tag object.

        Raises:
            ContentError: It names no object.
        """
        fields = _fields(data.partition(b"\n\n")[0])
        return cls(_oid(fields.get(b"object")), fields.get(b"type", b"").decode(errors="replace"))


def _fields(headers: bytes) -> dict[bytes, bytes]:
    """The first value of each header; continuation lines (of signatures) begin with a space and are passed over."""
    fields: dict[bytes, bytes] = {}
    for line in headers.split(b"\n"):
        name, _, value = line.partition(b" ")
        if name:
            fields.setdefault(name, value)
    return fields


def _oid(value: bytes | None) -> bytes:
    try:
        oid = bytes.fromhex((value or b"").decode("ascii"))
    except ValueError:
        oid = b""
    if len(oid) not in (20, 32):
        raise ContentError("damaged object: a commit without a tree, or a tag without an object")
    return oid


def _when(signature: bytes) -> dt.datetime | None:
    found = _WHEN.search(signature)
    if found is None:
        return None
    sign = -1 if found[2].startswith(b"-") else 1
    offset = sign * dt.timedelta(hours=int(found[2][1:]), minutes=int(found[3]))
    try:
        return dt.datetime.fromtimestamp(int(found[1]), dt.timezone(offset))
    except (OverflowError, OSError, ValueError):  # a year or a zone that does not exist
        return None


def _first_line(message: bytes) -> str:
    text = message.lstrip(b"\n").split(b"\n", 1)[0][:1000].decode(errors="replace")
    return "".join(char if char.isprintable() else "�" for char in text).strip()

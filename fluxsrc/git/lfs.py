"""Git LFS: small pointer files in the repository that stand for large files elsewhere."""

import re
from typing import Final, NamedTuple

from fluxsrc.recipe import Choice

__all__ = ["MAX_POINTER_BYTES", "LFSPointer", "LFSPolicy"]

MAX_POINTER_BYTES: Final = 1024
"""Pointers are smaller than this, by LFS's specification."""
MIN_POINTER_BYTES: Final = 100
_POINTER: Final = re.compile(
    # What LFS itself still reads: the names it had before its first release, and what editors do to lines and to the end.
    rb"\s*version (?:https://git-lfs\.github\.com/spec/v1|https://hawser\.github\.com/spec/v1|http://git-media\.io/v/2)\r?\n"
    rb"(?:ext-[^\n]*\n)*oid sha256:([0-9a-f]{64})\r?\nsize ([0-9]{1,18})\s*"
)


class LFSPolicy(Choice):
    """What becomes of LFS pointers.

    KEEP packs the pointer as it is and reports it; ERROR refuses to read it, unless it is ignored; FETCH packs the file it
    stands for, from the LFS server.
    """

    KEEP = "keep"
    ERROR = "error"
    FETCH = "fetch"


class LFSPointer(NamedTuple):
    """What a pointer says of its file.

    Attributes:
        oid: The sha256 of the content, hexadecimal.
        size: Its bytes.
    """

    oid: str
    size: int

    @classmethod
    def parse(cls, data: bytes) -> "LFSPointer | None":
        """Read a pointer; None if the content is none."""
        if len(data) >= MAX_POINTER_BYTES:
            return None
        found = _POINTER.fullmatch(data)
        return None if found is None else cls(found[1].decode(), int(found[2]))

"""Git LFS: small pointer files in the repository that stand for large files elsewhere."""

import re
from typing import Final

import attrs

from fluxsrc.recipe import Choice

__all__ = ["MAX_POINTER_BYTES", "LFSPointer", "LFSPolicy"]

MAX_POINTER_BYTES: Final = 1024
"""Pointers are smaller than this, by LFS's specification."""
MIN_POINTER_BYTES: Final = 100
_POINTER: Final = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,18})\n?"
)


class LFSPolicy(Choice):
    """What becomes of LFS pointers.

    KEEP packs the pointer as it is and reports it; ERROR refuses to read it, unless it is ignored; FETCH packs the file it
    stands for, from the LFS server.
    """

    KEEP = "keep"
    ERROR = "error"
    FETCH = "fetch"


@attrs.frozen
class LFSPointer:
    """What a pointer says of its file.

    Attributes:
        oid: The sha256 of the content, hexadecimal.
        size: Its bytes.
    """

    oid: str
    size: int

    @classmethod
    def parse(cls, data: bytes) -> "LFSPointer | None":
        """Read a pointer; None if the content is not exactly one."""
        if len(data) >= MAX_POINTER_BYTES:
            return None
        found = _POINTER.fullmatch(data)
        return None if found is None else cls(found[1].decode(), int(found[2]))

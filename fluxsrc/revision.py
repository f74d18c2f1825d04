"""`Revision`: what a source points at, in the text form of Flux's RFC-0005."""

import unicodedata

import attrs

from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError

__all__ = ["Revision", "is_pointer"]


def is_pointer(text: str) -> bool:
    """Whether a name can be written into a revision: some text, without control characters and ends of lines."""
    return bool(text) and (
        text.isprintable() or not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text)
    )


def _check_pointer(_revision: object, _attribute: object, pointer: str | None) -> None:
    if pointer is not None and not is_pointer(pointer):
        raise ConfigurationError(f"not a revision's pointer: {pointer[:80]!a}", hint="write [POINTER@]ALGORITHM:HEX")


@attrs.frozen
class Revision:
    """`[<pointer>@]<algorithm>:<hex>`, split at the last `@`.

    >>> Revision.parse("main@sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709").pointer
    'main'

    Attributes:
        digest: What names the content for ever: a commit, a manifest digest, an index digest.
        pointer: The movable name it was found under (branch, tag), or None; see `is_pointer`.
    """

    digest: Digest
    pointer: str | None = attrs.field(default=None, validator=_check_pointer)

    @classmethod
    def parse(cls, text: str) -> "Revision":
        """Read the text form; `parse(str(r)) == r`.

        Raises:
            ConfigurationError: The part behind the last `@` is not a digest, or the one before it no pointer.
        """
        pointer, at, digest = text.rpartition("@")
        return cls(Digest.parse(digest), pointer if at else None)

    @property
    def short(self) -> str:
        """Pointer and first twelve digits, for people."""
        head = f"{self.digest.algorithm}:{self.digest.short}"
        return head if self.pointer is None else f"{self.pointer}@{head}"

    def __repr__(self) -> str:
        return f"Revision.parse({str(self)!r})"

    def __str__(self) -> str:
        return str(self.digest) if self.pointer is None else f"{self.pointer}@{self.digest}"

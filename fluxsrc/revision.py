"""`Revision`: what a source points at, in the text form of Flux's RFC-0005."""

import attrs

from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError

__all__ = ["Revision"]


@attrs.frozen
class Revision:
    """`[<pointer>@]<algorithm>:<hex>`, split at the last `@`.

    >>> Revision.parse("main@sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709").pointer
    'main'

    Attributes:
        digest: What names the content for ever: a commit, a manifest digest, an index digest.
        pointer: The movable name it was found under (branch, tag), or None.
    """

    digest: Digest
    pointer: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Revision":
        """Read the text form; `parse(str(r)) == r`.

        Raises:
            ConfigurationError: The part behind the last `@` is not a digest, or the pointer is empty or unprintable.
        """
        pointer, at, digest = text.rpartition("@")
        if at and (not pointer or not pointer.isprintable()):
            raise ConfigurationError(f"not a revision: {text[:80]!r}", hint="write [POINTER@]ALGORITHM:HEX")
        return cls(Digest.parse(digest), pointer if at else None)

    @property
    def short(self) -> str:
        """Pointer and first twelve digits, for people."""
        head = f"{self.digest.algorithm}:{self.digest.short}"
        return head if self.pointer is None else f"{self.pointer}@{head}"

    def __str__(self) -> str:
        return str(self.digest) if self.pointer is None else f"{self.pointer}@{self.digest}"

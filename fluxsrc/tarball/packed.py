"""`Packed`: what is known of an archive once it is written. Apart from the packer, for those who write one by other means."""

import attrs

from fluxsrc.digest import Digest

__all__ = ["Packed"]


@attrs.frozen
class Packed:
    """What was packed.

    Attributes:
        content_digest: sha256 of the canonical tar, before compression.
        content_size: Its bytes.
        files: Entries in it, links included.
        index: What `Reuse` needs of this archive; None if no content has a name to find it by.
        unlisted: What was taken over without listing its entries: from a path (included) to another (excluded), or to the
            end where there is none.
    """

    content_digest: Digest
    content_size: int
    files: int
    index: bytes | None = attrs.field(repr=False)
    unlisted: tuple[tuple[str, str | None], ...] = attrs.field(default=(), repr=False, eq=False)

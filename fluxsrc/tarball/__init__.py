"""The canonical tar: `pack` entries into it, `unpack` it safely, read the `members` of anybody's."""

from fluxsrc.tarball.pack import Packed, Reuse, pack

__all__ = ["Packed", "Reuse", "pack"]

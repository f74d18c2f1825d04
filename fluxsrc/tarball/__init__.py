"""The canonical tar: `pack` entries into it, `unpack` it safely, read the `members` of anybody's."""

from fluxsrc.tarball.pack import Packed, Reuse, pack
from fluxsrc.tarball.reader import Member, MemberType, members
from fluxsrc.tarball.unpack import unpack

__all__ = ["Member", "MemberType", "Packed", "Reuse", "members", "pack", "unpack"]

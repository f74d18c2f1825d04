"""The canonical tar: `pack` entries into it, `unpack` it safely, read the `members` of anybody's."""

from fluxsrc.tarball.index import read_survey
from fluxsrc.tarball.pack import Changes, Packed, Reuse, pack
from fluxsrc.tarball.reader import Member, MemberType, members
from fluxsrc.tarball.unpack import unpack

__all__ = ["Changes", "Member", "MemberType", "Packed", "Reuse", "members", "pack", "read_survey", "unpack"]

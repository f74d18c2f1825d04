"""The canonical tar: `pack` entries into it, `unpack` it safely, read the `members` of anybody's."""

from typing import TYPE_CHECKING

from fluxsrc._lazy import names_of

if TYPE_CHECKING:
    from fluxsrc.tarball.earlier import Changes, Reuse
    from fluxsrc.tarball.index import read_survey
    from fluxsrc.tarball.packed import Packed
    from fluxsrc.tarball.packing import pack
    from fluxsrc.tarball.reader import Member, MemberType, members
    from fluxsrc.tarball.unpacking import unpack
else:
    __getattr__, __dir__ = names_of(
        __name__,
        {
            "Changes": "earlier",
            "Member": "reader",
            "MemberType": "reader",
            "Packed": "packed",
            "Reuse": "earlier",
            "members": "reader",
            "pack": "packing",
            "read_survey": "index",
            "unpack": "unpacking",
        },
    )

__all__ = ["Changes", "Member", "MemberType", "Packed", "Reuse", "members", "pack", "read_survey", "unpack"]

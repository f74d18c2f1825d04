"""Ignore rules: `.sourceignore` files and extra rules, in two dialects, git's own and Flux's."""

from typing import TYPE_CHECKING

from fluxsrc._lazy import names_of

if TYPE_CHECKING:
    from fluxsrc.ignore.defaults import EXCLUDE_CI, EXCLUDE_EXT, EXCLUDE_EXTRA, EXCLUDE_VCS, IGNORE_FILE, NAMED_SETS
    from fluxsrc.ignore.rules import IgnoreRules, Match
else:
    __getattr__, __dir__ = names_of(
        __name__,
        {
            "EXCLUDE_CI": "defaults",
            "EXCLUDE_EXT": "defaults",
            "EXCLUDE_EXTRA": "defaults",
            "EXCLUDE_VCS": "defaults",
            "IGNORE_FILE": "defaults",
            "NAMED_SETS": "defaults",
            "IgnoreRules": "rules",
            "Match": "rules",
        },
    )

__all__ = [
    "EXCLUDE_CI",
    "EXCLUDE_EXT",
    "EXCLUDE_EXTRA",
    "EXCLUDE_VCS",
    "IGNORE_FILE",
    "NAMED_SETS",
    "IgnoreRules",
    "Match",
]

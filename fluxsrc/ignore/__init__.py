"""Ignore rules: `.sourceignore` files and extra rules, in two dialects, git's own and Flux's."""

from fluxsrc.ignore.defaults import EXCLUDE_CI, EXCLUDE_EXT, EXCLUDE_EXTRA, EXCLUDE_VCS, IGNORE_FILE, NAMED_SETS
from fluxsrc.ignore.rules import IgnoreRules, Match

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

"""Version ranges with the meaning Flux gives them, and the choice of a tag by range.

Flux reads ``semver:`` fields with Go's Masterminds/semver v3.5.0, so a range written for Flux must select the same tag
here. python-semver supplies the `semver.Version` value but has no ranges; this module adds them:

- `parse_version` is Flux's rule for what counts as a version: three dotted parts, optional ``v``.
- `precedence` orders versions as Masterminds does.
- `Range` is a parsed constraint such as ``>=1.2.0 <2.0.0 || ^3.1``.
- `select_tag` applies a range to a list of tags, through a `TagPattern` where tags carry more than a version.

The behaviour that surprises is deliberate, because it is Masterminds':

- Prereleases match only if the same ``||`` group names a prerelease: ``>=1.0.0-0`` sees them, ``>=1.0.0`` and ``*`` do not.
- A wildcard fixes the parts before it; what follows is ignored: ``1.x.7`` is ``1.x``.
- ``^*`` is ``0.0.0``, ``<=*`` is ``0.0.x`` and ``~0.0.0`` is ``>=0.0.0``.
- ``1.2.3`` without an operator is equality; ``1.2`` and ``=1.2`` are ``~1.2``.
- A hyphen range swallows the space before it, and ``||`` too if no space follows that: write ``^1, 1.2 - 1.5`` and
  ``^3 || 1 - 2``.
"""

from fluxsrc.semver.ranges import MAX_RANGE_GROUPS, MAX_RANGE_LENGTH, Range
from fluxsrc.semver.tags import MAX_TAG_LENGTH, SelectedTag, TagPattern, select_tag
from fluxsrc.semver.version import MAX_VERSION_LENGTH, Precedence, parse_version, precedence

__all__ = [
    "MAX_RANGE_GROUPS",
    "MAX_RANGE_LENGTH",
    "MAX_TAG_LENGTH",
    "MAX_VERSION_LENGTH",
    "Precedence",
    "Range",
    "SelectedTag",
    "TagPattern",
    "parse_version",
    "precedence",
    "select_tag",
]

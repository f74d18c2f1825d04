"""Versions: what counts as one, and how they are ordered."""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from semver import Version

__all__ = ["IDENTIFIERS", "MAX_VERSION_LENGTH", "Precedence", "parse_version", "precedence"]

MAX_VERSION_LENGTH = 256
"""Characters in a version; Masterminds refuses longer ones."""

_MAX_NUMBER = 2**64 - 1  # Go's uint64: a larger part makes the version invalid, it is never wrapped

IDENTIFIERS: Final = r"[0-9A-Za-z-]++(?:\.[0-9A-Za-z-]++)*+"
"""A prerelease, or build metadata, as a regular expression."""

# Flux counts the dots of the whole text, so `1-a.b.c` passes with minor and patch zero: hence the look ahead.
_VERSION = re.compile(
    rf"(?=[^.]*+\.[^.]*+\.)v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(?:-({IDENTIFIERS}))?(?:\+({IDENTIFIERS}))?",
)
# A numeric prerelease identifier may not start with zero; a number of the release may (`2025.02.03`).
_ZERO_PADDED = re.compile(r"(?:^|\.)0[0-9]++(?:\.|$)")

Precedence: TypeAlias = "tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]"
"""Sort key of a version: major, minor, patch, is it a release, prerelease identifiers."""


def parse_version(text: str) -> Version | None:
    """Return the version that `text` spells by Flux's rule, or None: most tags of a repository are allowed not to.

    An optional ``v``, three dotted parts, zero padding allowed; nothing else, not even surrounding space.

    >>> print(parse_version("v2025.02.03-rc.1+build"))
    2025.2.3-rc.1+build
    >>> [parse_version(text) for text in ("1.2", "V1.2.3", "1.2.3.4", "latest")]
    [None, None, None, None]
    """
    if len(text) > MAX_VERSION_LENGTH or not (found := _VERSION.fullmatch(text)):
        return None
    *numbers, prerelease, build = found.groups()
    major, minor, patch = (int(number or 0) for number in numbers)
    if max(major, minor, patch) > _MAX_NUMBER or (prerelease and _ZERO_PADDED.search(prerelease)):
        return None
    return Version(major, minor, patch, prerelease, build)


def precedence(version: Version) -> Precedence:
    """Return the sort key of `version`; build metadata has no part in it, so different versions may tie.

    Unlike python-semver, and like Masterminds, a numeric prerelease identifier beyond 64 bits sorts as text.

    >>> versions = ["1.0.0", "1.0.0-rc.10", "1.0.0-rc.9", "1.0.0-rc"]
    >>> sorted(versions, key=lambda text: precedence(parse_version(text)))
    ['1.0.0-rc', '1.0.0-rc.9', '1.0.0-rc.10', '1.0.0']
    """
    identifiers = version.prerelease.split(".") if version.prerelease else ()
    return (
        version.major,
        version.minor,
        version.patch,
        not identifiers,
        tuple(
            (False, int(part), "") if part.isdigit() and int(part) <= _MAX_NUMBER else (True, 0, part)
            for part in identifiers
        ),
    )

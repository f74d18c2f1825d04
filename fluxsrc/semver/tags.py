"""Tags: the version in each, and the choice of one by range."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Self

import attrs

from fluxsrc.errors import ConfigurationError
from fluxsrc.semver.ranges import Range, highest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed import SupportsRichComparison

__all__ = ["MAX_TAG_LENGTH", "SelectedTag", "TagPattern", "select_tag"]

MAX_TAG_LENGTH = 512
"""Characters in a tag that a `TagPattern` looks at. OCI allows 128; Git tags are file names below a few directories."""


class SelectedTag(NamedTuple):
    """A tag, and the version that was read from it, as written."""

    tag: str
    version: str


@attrs.frozen
class TagPattern:
    r"""A regular expression that picks tags and reads the version out of them: monorepo tags such as ``api/v1.2.3``.

    The version is the group named ``version``, else the first group, else (no groups) the whole tag. The expression is
    searched for, not anchored, as Flux does: write ``^`` and ``$``. Syntax is that of `re`; classes like ``\d`` are ASCII.

    Tags come from the remote, the expression from the caller. `re` backtracks, so an expression like ``(a+)+$`` can take
    for ever on a hostile tag; tags above `MAX_TAG_LENGTH` never match, which bounds all but such exponential ones. Accept
    expressions only from whom you would let spend your CPU.

    >>> pattern = TagPattern.parse(r"^api/v(.+)$")
    >>> pattern.extract("api/v1.2.3"), pattern.extract("web/v2.0.0")
    ('1.2.3', None)
    """

    text: str
    _regex: re.Pattern[str] = attrs.field(eq=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Compile `text`, or raise a `ConfigurationError` that shows the position of the mistake."""
        try:
            return cls(text, re.compile(text, re.ASCII))
        except re.error as exc:
            where = "" if exc.pos is None else f" at position {exc.pos}, before {text[exc.pos :]!r}"
            raise ConfigurationError(f"tag pattern {text!r} is not a regular expression: {exc.msg}{where}") from exc
        except (OverflowError, RecursionError) as exc:
            raise ConfigurationError(f"tag pattern {text!r} is too complex: {exc}") from exc

    def __str__(self) -> str:
        return self.text

    def extract(self, tag: str) -> str | None:
        """Return what the pattern reads from `tag` as the version, or None if it does not match."""
        if len(tag) > MAX_TAG_LENGTH:
            return None
        found = self._regex.search(tag)
        if found is None:
            return None
        if not self._regex.groups:
            return tag
        version: str | None = found["version" if "version" in self._regex.groupindex else 1]
        return version


def select_tag(
    tags: Iterable[str],
    wanted: Range,
    /,
    pattern: TagPattern | None = None,
    *,
    helm: bool = False,
    tie_break: Callable[[str], SupportsRichComparison] | None = None,
) -> SelectedTag | None:
    """Return the tag with the highest version within `wanted`, or None if there is none.

    `helm=True` reads ``_`` in a version as ``+``: OCI tags cannot hold a plus, so Helm writes ``1.2.3+build`` as
    ``1.2.3_build``. The pattern sees the tag as it is listed.

    Tags whose versions tie are decided by the greatest `tie_break(tag)`, called only on the tied (Flux: the commit's
    time), and then by the greatest tag in text order, so that the order of listing never decides.

    >>> tags = ["api/v1.2.3", "api/v1.10.0", "web/v9.0.0", "latest"]
    >>> select_tag(tags, Range.parse("1.x"), TagPattern.parse(r"^api/(?P<version>v.+)$"))
    SelectedTag(tag='api/v1.10.0', version='v1.10.0')
    >>> select_tag(["1.2.3_build.5"], Range.parse("*"), helm=True)
    SelectedTag(tag='1.2.3_build.5', version='1.2.3+build.5')
    """

    def candidates() -> Iterable[tuple[str, str]]:
        for tag in sorted(tags, reverse=True):
            version = pattern.extract(tag) if pattern else tag
            if version is not None:
                yield tag, version.replace("_", "+") if helm else version

    chosen = highest(candidates(), wanted, tie_break)
    return SelectedTag(*chosen) if chosen else None

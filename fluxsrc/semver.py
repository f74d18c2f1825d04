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

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias

import attrs
from semver import Version

from fluxsrc.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed import SupportsRichComparison

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

MAX_VERSION_LENGTH = 256
"""Characters in a version; Masterminds refuses longer ones."""

MAX_RANGE_LENGTH = 512
"""Characters in a range; Masterminds refuses longer ones."""

MAX_RANGE_GROUPS = 32
"""Alternatives separated by ``||`` in a range; Masterminds refuses more."""

MAX_TAG_LENGTH = 512
"""Characters in a tag that a `TagPattern` looks at. OCI allows 128; Git tags are file names below a few directories."""

_MAX_NUMBER = 2**64 - 1  # Go's uint64: a larger part makes the version invalid, it is never wrapped

_IDENTIFIERS = r"[0-9A-Za-z-]++(?:\.[0-9A-Za-z-]++)*+"
# Flux counts the dots of the whole text, so `1-a.b.c` passes with minor and patch zero: hence the look ahead.
_VERSION = re.compile(
    rf"(?=[^.]*+\.[^.]*+\.)v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(?:-({_IDENTIFIERS}))?(?:\+({_IDENTIFIERS}))?",
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


# Quantifiers in these expressions are possessive: no other split of the text exists, so there is nothing to try again
# and a hostile range costs at most the square of its (bounded) length. (Not the one around alternatives: until 3.11.4
# `re` got those wrong.)

_SPACE = r"[\t\n\f\r ]"  # what Go's \s means; Python's has more
# `|` belongs to the numbers of a bound in Masterminds, so in `1||2 - 3` the bound below is `1||2`: `>=1 || 2, <=3`.
_NUMBER = r"[0-9|xX*]++"
_BOUND = rf"v?{_NUMBER}(?:\.{_NUMBER})?+(?:\.{_NUMBER})?+(?:-{_IDENTIFIERS})?+(?:\+{_IDENTIFIERS})?+"
_COMPARATOR = rf"([=!<>~^]*+){_SPACE}*+({_BOUND})"

_HYPHEN_RANGE = re.compile(rf"{_SPACE}*+({_BOUND}){_SPACE}++-{_SPACE}++({_BOUND}){_SPACE}*+")
_COMPARATORS = re.compile(_COMPARATOR)
_GROUP = re.compile(
    rf"{_SPACE}*+{_COMPARATOR}(?:(?:{_SPACE}*+,{_SPACE}*+|{_SPACE}++){_COMPARATOR})*{_SPACE}*+",
)
_WILDCARDS = frozenset("xX*")
_ALIASES = {"": "=", "=>": ">=", "=<": "<=", "~>": "~"}

_NOTHING, _MAJOR, _MINOR, _PATCH, _WHOLE = 0, 1, 2, 3, 5  # how much of a `Precedence`, from the left
_WIDTHS = {
    # written:  *  1  1.2  1.2.3
    ">": (_WHOLE, _MAJOR, _MINOR, _WHOLE),
    "!=": (_WHOLE, _MAJOR, _MINOR, _WHOLE),
    "<=": (_MINOR, _MAJOR, _MINOR, _WHOLE),
    "<": (_WHOLE, _WHOLE, _WHOLE, _WHOLE),
    # These bound from below too, by the whole.
    ">=": (_NOTHING, _NOTHING, _NOTHING, _NOTHING),
    "=": (_NOTHING, _MAJOR, _MINOR, _WHOLE),
    "~": (_NOTHING, _MAJOR, _MINOR, _MINOR),
    "^": (_PATCH, _MAJOR, _MINOR, _PATCH),
}
"""How much of version and bound an operator compares, by how many parts of the bound are written."""


@attrs.frozen
class _Comparator:
    """One operator, its bound (zeros where nothing or a wildcard is written), how much of the two is compared."""

    operator: str
    bound: Precedence
    width: int

    @classmethod
    def parse(cls, operator: str, bound: str) -> Self | None:
        core, dash, prerelease = bound.partition("+")[0].partition("-")
        numbers = [*core.removeprefix("v").split("."), "x", "x", "x"][:_PATCH]
        written = next((index for index, number in enumerate(numbers) if number in _WILDCARDS), _PATCH)
        if written < _PATCH:
            bound = ".".join([*numbers[:written], "0", "0", "0"][:_PATCH]) + dash + prerelease
        version = parse_version(bound)
        operator = _ALIASES.get(operator, operator)
        if version is None or operator not in _WIDTHS:
            return None
        return cls(operator, precedence(version), _width(operator, written, version))

    @property
    def names_prerelease(self) -> bool:
        return not self.bound[_PATCH]

    def accepts(self, version: Precedence) -> bool:
        """Decide on a version without regard to the rule on prereleases, which is the group's."""
        left, right = version[: self.width], self.bound[: self.width]
        match self.operator:
            case ">":
                return left > right
            case "<":
                return left < right
            case "<=":
                return left <= right
            case "!=":
                # `!=1.2.x` looks at the prerelease too, `!=1.x` does not.
                return left != right or (self.width == _MINOR and version[_PATCH:] != self.bound[_PATCH:])
            case _:
                return left == right and version >= self.bound


def _width(operator: str, written: int, bound: Version) -> int:
    width = _WIDTHS[operator][written]
    first_nonzero = next((index for index, number in enumerate(bound.to_tuple()[:_PATCH]) if number), _PATCH)
    if operator == "~" and written == _PATCH and first_nonzero == _PATCH:
        return _NOTHING
    if operator == "^":  # parts up to the first that is not zero must stay
        return min(width, first_nonzero + 1)
    return width


@attrs.frozen
class Range:
    """A constraint on versions: groups joined by ``||``, each a conjunction of comparators.

    Equal by text. `str` gives back the text that was parsed.

    >>> stable = Range.parse(">=1.2 <2 || ^3.1")
    >>> stable.matches("v1.9.0"), stable.matches("2.0.0"), stable.matches("3.2.0-rc.1")
    (True, False, False)
    >>> stable.best(["v1.9.0", "v3.1.4", "v3.0.0", "latest"])
    'v3.1.4'
    >>> str(stable)
    '>=1.2 <2 || ^3.1'
    """

    text: str
    _groups: tuple[tuple[_Comparator, ...], ...] = attrs.field(eq=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `text`: ``= != > >= < <= ~ ^``, wildcards ``x X *``, ranges ``1.2 - 2.3``; ``,`` or space is *and*.

        Raises:
            ConfigurationError: not a range, or longer than `MAX_RANGE_LENGTH`, or with more than `MAX_RANGE_GROUPS`
                alternatives.
        """
        if len(text) > MAX_RANGE_LENGTH:
            raise ConfigurationError(
                f"version range is too long: {text[:40]!r}...",
                hint=f"at most {MAX_RANGE_LENGTH} characters are allowed",
            )
        expanded = text
        for found in _HYPHEN_RANGE.finditer(text):
            expanded = expanded.replace(found[0], f">= {found[1]}, <= {found[2]} ", 1)
        groups = expanded.split("||")
        if len(groups) > MAX_RANGE_GROUPS:
            raise ConfigurationError(
                f"version range {text!r} has {len(groups)} alternatives", hint=f"at most {MAX_RANGE_GROUPS} are allowed"
            )
        return cls(text, tuple(_parse_group(group, text) for group in groups))

    def __str__(self) -> str:
        return self.text

    def matches(self, version: str) -> bool:
        """Tell whether `version` is a version by `parse_version` and within the range."""
        parsed = parse_version(version)
        return parsed is not None and self.includes(parsed)

    def includes(self, version: Version) -> bool:
        """Tell whether a parsed version is within the range."""
        rank = precedence(version)
        return any(
            (not version.prerelease or any(comparator.names_prerelease for comparator in group))
            and all(comparator.accepts(rank) for comparator in group)
            for group in self._groups
        )

    def best(
        self,
        versions: Iterable[str],
        /,
        *,
        tie_break: Callable[[str], SupportsRichComparison] | None = None,
    ) -> str | None:
        """Return the highest of `versions` within the range, as written, or None; what is no version is passed over.

        Versions that differ only in build metadata or spelling tie: the one with the greatest `tie_break` wins (called
        only on the tied), or without it, and among equals, the first given.
        """
        chosen = _highest(((version, version) for version in versions), self, tie_break)
        return chosen.version if chosen else None


def _parse_group(group: str, text: str) -> tuple[_Comparator, ...]:
    if _GROUP.fullmatch(group):
        parsed = [_Comparator.parse(operator, bound) for operator, bound in _COMPARATORS.findall(group)]
        comparators = tuple(comparator for comparator in parsed if comparator is not None)
        if len(comparators) == len(parsed):
            return comparators
    broken = group.strip()
    where = f", at {broken!r}" if broken in text and broken != text.strip() else ""  # an expanded hyphen range is not
    raise ConfigurationError(
        f"not a version range: {text!r}{where}",
        hint="write for example '>=1.2.0 <2.0.0', '~1.2', '^1.2.3', '1.x' or '1.2 - 2.3', and '||' between alternatives",
    )


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

    return _highest(candidates(), wanted, tie_break)


def _highest(
    candidates: Iterable[tuple[str, str]],
    wanted: Range,
    tie_break: Callable[[str], SupportsRichComparison] | None,
) -> SelectedTag | None:
    """Choose among (tag, version) pairs; ties left over go to the first given."""
    highest: Precedence | None = None
    tied: list[SelectedTag] = []
    for tag, text in candidates:
        version = parse_version(text)
        if version is None or not wanted.includes(version):
            continue
        rank = precedence(version)
        if highest is None or rank > highest:
            highest, tied = rank, []
        if rank == highest:
            tied.append(SelectedTag(tag, text))
    if tie_break is not None and len(tied) > 1:
        return max(tied, key=lambda selected: tie_break(selected.tag))
    return tied[0] if tied else None

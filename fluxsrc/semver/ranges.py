"""`Range`: constraints on versions, with the meaning of Masterminds/semver."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

import attrs

from fluxsrc.errors import ConfigurationError
from fluxsrc.semver.version import IDENTIFIERS, Precedence, parse_version, precedence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed import SupportsRichComparison
    from semver import Version

__all__ = ["MAX_RANGE_GROUPS", "MAX_RANGE_LENGTH", "Range", "highest"]

MAX_RANGE_LENGTH = 512
"""Characters in a range; Masterminds refuses longer ones."""

MAX_RANGE_GROUPS = 32
"""Alternatives separated by ``||`` in a range; Masterminds refuses more."""

# Quantifiers in these expressions are possessive: no other split of the text exists, so there is nothing to try again
# and a hostile range costs at most the square of its (bounded) length. (Not the one around alternatives: until 3.11.4
# `re` got those wrong.)

_SPACE = r"[\t\n\f\r ]"  # what Go's \s means; Python's has more
# `|` belongs to the numbers of a bound in Masterminds, so in `1||2 - 3` the bound below is `1||2`: `>=1 || 2, <=3`.
_NUMBER = r"[0-9|xX*]++"
_BOUND = rf"v?{_NUMBER}(?:\.{_NUMBER})?+(?:\.{_NUMBER})?+(?:-{IDENTIFIERS})?+(?:\+{IDENTIFIERS})?+"
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
        chosen = highest(((version, version) for version in versions), self, tie_break)
        return chosen[1] if chosen else None


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


def highest(
    candidates: Iterable[tuple[str, str]],
    wanted: Range,
    tie_break: Callable[[str], SupportsRichComparison] | None,
) -> tuple[str, str] | None:
    """Choose among pairs of a tag and its version; ties left over go to the first given."""
    leading: Precedence | None = None
    tied: list[tuple[str, str]] = []
    for tag, text in candidates:
        version = parse_version(text)
        if version is None or not wanted.includes(version):
            continue
        rank = precedence(version)
        if leading is None or rank > leading:
            leading, tied = rank, []
        if rank == leading:
            tied.append((tag, text))
    if tie_break is not None and len(tied) > 1:
        return max(tied, key=lambda pair: tie_break(pair[0]))
    return tied[0] if tied else None

"""`IgnoreRules`: which files of a tree stay out, and why."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from fluxsrc.errors import ConfigurationError
from fluxsrc.ignore.defaults import IGNORE_FILE, NAMED_SETS
from fluxsrc.ignore.evaluator import Evaluator
from fluxsrc.ignore.glob import byte_text
from fluxsrc.ignore.names import NO_RULE
from fluxsrc.ignore.parsing import Rule, parse_rules
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.recipe import Dialect

__all__ = ["IgnoreRules", "Match"]


@attrs.frozen(kw_only=True)
class Match:
    """The rule that decides a path.

    Attributes:
        rule: The rule as its dialect reads it, without what it strips from the end of the line.
        file: Where it stands: "sub/dir/.sourceignore", "<ignore>" for the extra rules, "<defaults:vcs>" for a named set.
        line: Its line there (in a named set: its place), from 1.
        negated: It begins with "!".
        excluded: The verdict: does the path stay out?
    """

    rule: str
    file: str
    line: int
    negated: bool
    excluded: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}"


def _dialect(value: str) -> Dialect:
    with contextlib.suppress(ValueError):
        return Dialect(value)
    raise ConfigurationError(f"no ignore dialect {value!r}", hint=f"choose one of {', '.join(Dialect)}")


def _files(value: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    files = tuple(sorted(dict(value).items()))
    for directory, _ in files:
        if directory and not all(part not in ("", ".", "..") for part in directory.split("/")):
            raise ConfigurationError(
                f"{directory!r} is not a directory of a tree", hint='like "sub/dir"; "" is the root'
            )
    return files


def _defaults(value: Iterable[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    wanted = (value,) if isinstance(value, str) else tuple(value)
    if unknown := set(wanted) - set(NAMED_SETS):
        raise ConfigurationError(
            f"no set of default exclusions is named {min(unknown)!r}", hint=f"choose from {', '.join(NAMED_SETS)}"
        )
    return tuple(name for name in NAMED_SETS if name in wanted)


def _evaluator(rules: "IgnoreRules") -> Evaluator:
    return Evaluator(rules.dialect, rules._rules)  # noqa: SLF001 - a field of the same class


def _parsed(rules: "IgnoreRules") -> tuple[Rule, ...]:
    return tuple(_limited(rules))


def _verdicts(rules: "IgnoreRules") -> tuple[bool, ...]:
    """For each rule, does what it decides stay out? NO_RULE is -1: the last one, for what no rule decides."""
    return (*(not rule.negated for rule in rules._rules), False)  # noqa: SLF001 - a field of the same class


@attrs.frozen
class IgnoreRules:
    r"""Rules in gitignore syntax for one tree. Immutable, thread-safe, picklable.

    Later rules have the last word; rules of deeper files come after those of the files above, the extra rules after all.

    >>> rules = IgnoreRules(files={"": "*.log\n", "web": "!keep.log\n"})
    >>> rules.excluded("api/debug.log"), rules.excluded("web/keep.log")
    (True, False)
    >>> print(rules.explain("api/debug.log"))
    .sourceignore:1: *.log

    Attributes:
        dialect: "gitignore": the verdicts of git itself (`git ls-files --others`, 2.39). "flux": those of Flux.
        files: The text of the ignore files, by directory ("" is the root). Bytes that are no UTF-8: `surrogateescape`.
        extra: The text of rules that go before those of any file, or None.
        defaults: The named sets (`NAMED_SETS`) below all other rules. None is the dialect's own habit: in "gitignore"
            none; in "flux" all sets if there is no other rule, else "vcs" only. () is none at all: Flux's buckets.
        limits: How much text is too much: `max_ignore_bytes`, `max_ignore_line_bytes`, `max_ignore_rules`.

    Raises:
        ConfigurationError: An unknown dialect or set, or a directory that is none.
        LimitExceededError: More rules than `limits` allow.
    """

    dialect: Dialect = attrs.field(default=Dialect.GITIGNORE, converter=_dialect)
    files: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_files)
    extra: str | None = None
    defaults: tuple[str, ...] | None = attrs.field(default=None, converter=_defaults, kw_only=True)
    limits: Limits = attrs.field(default=DEFAULT_LIMITS, kw_only=True, repr=False)
    _rules: tuple[Rule, ...] = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_parsed, takes_self=True)
    )
    _evaluator: Evaluator = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_evaluator, takes_self=True)
    )

    _verdicts: tuple[bool, ...] = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_verdicts, takes_self=True)
    )

    def __reduce__(self) -> tuple[Any, ...]:
        # What is compiled is neither small nor portable: the other side compiles again.
        return _rebuild, (self.dialect.value, self.files, self.extra, self.defaults, self.limits)

    @property
    def is_empty(self) -> bool:
        """Whether there is no rule at all, so that nothing stays out."""
        return not self._rules

    def excluded(self, path: str) -> bool:
        """Does this file stay out?

        Args:
            path: A file of the tree: relative, POSIX. Undecodable bytes: `surrogateescape`.
        """
        return self._verdicts[self._evaluator.deciding(path if path.isascii() else byte_text(path))]

    def excluded_dir(self, path: str) -> bool:
        """May the whole directory be left out, unread? True only where nothing below it can be kept.

        Args:
            path: A directory of the tree; "" is the root.
        """
        return self._evaluator.prunable(byte_text(path))

    def explain(self, path: str) -> Match | None:
        """The rule that decides about this file, or None where none does and it is kept.

        Below a directory that git does not enter, the rule is the one that excludes the directory.

        Args:
            path: A file of the tree: relative, POSIX.
        """
        number = self._evaluator.deciding(byte_text(path))
        if number == NO_RULE:
            return None
        rule = self._rules[number]
        return Match(rule=rule.text, file=rule.file, line=rule.line, negated=rule.negated, excluded=not rule.negated)


def _rebuild(
    dialect: str,
    files: tuple[tuple[str, str], ...],
    extra: str | None,
    defaults: tuple[str, ...] | None,
    limits: Limits,
) -> IgnoreRules:
    return IgnoreRules(dialect, files, extra, defaults=defaults, limits=limits)


def _limited(source: IgnoreRules) -> Iterator[Rule]:
    """All rules, lowest priority first."""
    written = [*_written(source)]
    names = source.defaults
    if names is None:
        names = () if source.dialect is Dialect.GITIGNORE else ("vcs",) if written else tuple(NAMED_SETS)
    for name in names:
        yield from parse_rules(source.dialect, "\n".join(NAMED_SETS[name]), file=f"<defaults:{name}>")
    yield from written


def _written(source: IgnoreRules) -> Iterator[Rule]:
    """The rules of the files, then the extra ones, held against the limits."""
    texts = [
        (directory, f"{directory}/{IGNORE_FILE}" if directory else IGNORE_FILE, text)
        for directory, text in source.files
    ]
    if source.dialect is Dialect.FLUX:
        texts = [found for found in texts if ".git" not in found[0].split("/")]  # Flux does not look in there
    # Parents before children is all that counts: files of different branches never meet on a path.
    texts.sort(key=lambda found: found[0].count("/") if found[0] else -1)
    if source.extra is not None:
        texts.append(("", "<ignore>", source.extra))
    total = count = 0
    for directory, file, text in texts:
        total += len(text)
        source.limits.check("max_ignore_bytes", total, what="the ignore files", path=file)
        longest = max(map(len, text.split("\n")))
        source.limits.check("max_ignore_line_bytes", longest, what=f"a line of {file}", path=file)
        for rule in parse_rules(source.dialect, text, file=file, base=byte_text(directory)):
            count += 1
            source.limits.check("max_ignore_rules", count, what="the ignore files", path=file)
            yield rule

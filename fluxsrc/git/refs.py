"""Which revision a source means: names in, one revision out. No clock, no disk, no network."""

import enum
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import attrs

from fluxsrc._lazy import later
from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, RemoteProtocolError, RevisionNotFoundError
from fluxsrc.revision import Revision, is_pointer

if TYPE_CHECKING:
    from fluxsrc import semver
else:
    semver = later("fluxsrc.semver")  # few sources follow a range

__all__ = ["GitRef", "RefKind", "Selector", "check_ref_name", "commit_digest"]

BRANCHES: Final = "refs/heads/"
TAGS: Final = "refs/tags/"
PEELED: Final = "^{}"

_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|$)")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class GitRef(NamedTuple):
    """A reference as a repository lists it.

    Attributes:
        name: In full, such as "refs/heads/main", or "HEAD".
        oid: The object it points at, hexadecimal.
        peeled: What an annotated tag finally points at; None for everything else.
        target: The reference a symbolic one stands for.
    """

    name: str
    oid: str
    peeled: str | None = None
    target: str | None = None

    @property
    def final(self) -> str:
        """The object behind all tags: of a reference worth deploying, a commit."""
        return self.peeled or self.oid


class RefKind(enum.Enum):
    """How a source names its revision: the argument of `GitSource`."""

    HEAD = "head"
    BRANCH = "branch"
    TAG = "tag"
    SEMVER = "semver"
    REF = "ref"
    COMMIT = "commit"


@attrs.frozen(repr=False)
class Selector:
    """Which of a repository's references is meant, and how the revision is written then.

    Attributes:
        kind: What `value` is.
        value: A branch's or tag's short name, a range, a full reference name, a commit; "" for HEAD.
        tag_pattern: With a range: which tags count, and where in them the version is.
    """

    kind: RefKind
    value: str = ""
    tag_pattern: str | None = None

    def __attrs_post_init__(self) -> None:
        match self.kind:
            case RefKind.BRANCH:
                check_ref_name(BRANCHES + self.value)
            case RefKind.TAG:
                check_ref_name(TAGS + self.value)
            case RefKind.REF:
                _check_full_name(self.value)
            case RefKind.COMMIT:
                commit_digest(self.value)
            case RefKind.SEMVER:
                semver.Range.parse(self.value)
                if self.tag_pattern is not None:
                    semver.TagPattern.parse(self.tag_pattern)
            case RefKind.HEAD:
                pass

    def __str__(self) -> str:
        return "HEAD" if self.kind is RefKind.HEAD else f"{self.kind.value} {self.value!r}"

    @property
    def pinned(self) -> Revision | None:
        """The revision, where it is known without asking: a commit's."""
        return Revision(commit_digest(self.value)) if self.kind is RefKind.COMMIT else None

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Which references have to be listed for `choose`: all whose names begin with one of these."""
        match self.kind:
            case RefKind.HEAD:
                return ("HEAD",)
            case RefKind.BRANCH:
                return (BRANCHES + self.value,)
            case RefKind.TAG:
                return (TAGS + self.value,)
            case RefKind.SEMVER:
                return (TAGS,)
            case RefKind.REF:
                return (self.value.removesuffix(PEELED),)
            case RefKind.COMMIT:
                return ()

    def choose(self, refs: Mapping[str, GitRef], *, url: str) -> GitRef:
        """The reference that is meant.

        Args:
            refs: By full name; at least all that `prefixes` ask for.
            url: The repository's, redacted, for messages.

        Raises:
            RevisionNotFoundError: None of them is.
        """
        name = TAGS + self._choose_tag(refs, url) if self.kind is RefKind.SEMVER else self.prefixes[0]
        found = refs.get(name)
        if found is None:
            raise RevisionNotFoundError(
                f"{self} is not in {url}",
                url=url,
                hint="the repository is empty, or its HEAD is a branch that is not there"
                if self.kind is RefKind.HEAD
                else "'git ls-remote' tells which there are",
            )
        return found

    def revision(self, ref: GitRef, *, url: str) -> Revision:
        """The revision a chosen reference stands for.

        Raises:
            RemoteProtocolError: It points at what cannot be an object.
        """
        try:
            return Revision(commit_digest(ref.final), self._pointer(ref))
        except ConfigurationError:
            raise RemoteProtocolError(f"{url} lists {ref.name} as {ref.final[:80]!a}: no object", url=url) from None

    def ref_of(self, revision: Revision) -> str | None:
        """The full name of the reference this revision was chosen from; None if there was none."""
        match self.kind:
            case RefKind.COMMIT:
                return None
            case RefKind.TAG | RefKind.SEMVER:
                return TAGS + (revision.pointer or self.value)
            case RefKind.HEAD if revision.pointer is None:
                return "HEAD"
            case RefKind.HEAD | RefKind.BRANCH:
                return BRANCHES + (revision.pointer or self.value)
            case RefKind.REF:
                return self.value.removesuffix(PEELED)

    def _pointer(self, ref: GitRef) -> str | None:
        match self.kind:
            case RefKind.HEAD:
                branch = (ref.target or "").removeprefix(BRANCHES)
                # Somebody else's choice of a name, which git allows to be of any bytes.
                return branch if branch != ref.target and is_pointer(branch) else None
            case RefKind.SEMVER:
                return ref.name.removeprefix(TAGS)
            case _:
                return self.value

    def _choose_tag(self, refs: Mapping[str, GitRef], url: str) -> str:
        tags = [tag for name in refs if name.startswith(TAGS) and is_pointer(tag := name.removeprefix(TAGS))]
        pattern = None if self.tag_pattern is None else semver.TagPattern.parse(self.tag_pattern)
        selected = semver.select_tag(tags, semver.Range.parse(self.value), pattern)
        if selected is None:
            among = f"none of the {len(tags)} tags" if tags else "there are no tags, so none"
            raise RevisionNotFoundError(f"{among} in {url} is a version within {self.value!r}", url=url)
        return selected.tag


def check_ref_name(name: str) -> str:
    """Return a full reference name if git allows it.

    Raises:
        ConfigurationError: It does not.
    """
    if not name or name.startswith("/") or name.endswith(("/", ".")) or _FORBIDDEN.search(name) or not is_pointer(name):
        raise ConfigurationError(f"not a name git allows for a reference: {name[:200]!a}")
    return name


def _check_full_name(name: str) -> None:
    plain = name.removesuffix(PEELED)
    check_ref_name(plain)
    if plain != "HEAD" and not plain.startswith("refs/"):
        raise ConfigurationError(
            f"ref must be a full name, not {name[:200]!r}",
            hint="write 'refs/heads/main', or branch='main', or tag='v1'",
        )


def commit_digest(text: str) -> Digest:
    """A full commit name as a digest.

    Raises:
        ConfigurationError: It is shortened, or no commit name at all.
    """
    if not _COMMIT.fullmatch(text):
        raise ConfigurationError(
            f"not a full commit: {text[:80]!r}",
            hint="40 (or, of SHA-256 repositories, 64) lower-case hex digits; short ones become ambiguous with time",
        )
    return Digest("sha1" if len(text) == 40 else "sha256", text)  # noqa: PLR2004 - said in the hint

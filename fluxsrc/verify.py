"""Policies: whether a revision may be used at all. Checked inside `fetch`, before any entry can be seen.

A source with `verify=` holds its resolved revision against a `Policy`:

1. It collects the evidence that the policy needs: of the resolved digest, never of a name.
2. The policy checks it. What does not hold is a `VerificationError`, and there is no snapshot.
3. What was found out (who signed, with which key, when) becomes `Snapshot.verification`, and `Artifact.verification`.

A policy that needs `CONTENT` can be answered by every source, but only once its files are read: the snapshot is then a
`fluxsrc.sealed.SealedSnapshot`, of which nobody sees anything before.

The policy's digest is part of the source's recipe: with another policy, or other keys, an unchanged revision is fetched and
verified again. No I/O and no clock are in here: evidence brings its own time.
"""

import datetime as dt
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeVar, runtime_checkable

import attrs

from fluxsrc._lazy import later
from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, VerificationError
from fluxsrc.revision import Revision

if TYPE_CHECKING:
    import logging
else:
    logging = later("logging")

__all__ = [
    "CONTENT",
    "AllOf",
    "AnyOf",
    "ContentEvidence",
    "Evidence",
    "Facts",
    "Policy",
    "UnsafeNoVerification",
    "is_vouched",
    "policy_digest",
    "split_policy",
]

_SAYS_NOTHING: Final = frozenset({"policy", "oci.level", "oci.statement"})
CONTENT: Final = "content"
"""The evidence that every source has: what its files are, as `ContentEvidence`."""

Facts = tuple[tuple[str, str], ...]
"""What a policy found out, as pairs of text: `("git.commit.signer", "ada@example.com")`."""


@runtime_checkable
class Evidence(Protocol):
    """What a source knows about a revision; each kind of source has its own."""

    @property
    def subject(self) -> str:
        """What is verified, for messages: redacted URL and revision."""
        ...

    @property
    def now(self) -> dt.datetime:
        """The time of verification, with a zone. Expiry is held against it."""
        ...


@attrs.frozen(kw_only=True)
class ContentEvidence:
    """What any source knows about a revision once its files are read.

    Attributes:
        subject: Its redacted URL and the revision.
        now: The time of verification.
        url: The source's address, with what it follows.
        revision: What was read.
        content_digest: sha256 of the canonical tar that was made of it.
    """

    subject: str
    now: dt.datetime
    url: str
    revision: Revision
    content_digest: Digest


_E_contra = TypeVar("_E_contra", contravariant=True)


@runtime_checkable
class Policy(Protocol[_E_contra]):
    """What has to hold of a revision. An immutable value: thread-safe, picklable, comparable."""

    @property
    def digest(self) -> Digest:
        """The policy's name: whatever changes a verdict, keys included, changes it. Of public facts only."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """The evidence it looks at, by name ("commit", "tag"); a source that does not have it refuses the policy."""
        ...

    def check(self, evidence: _E_contra, /) -> Facts:
        """Return what was found out if the policy holds.

        Raises:
            VerificationError: It does not; `check` is the number of the check that failed.
            MissingExtraError: What it is checked with is not installed.
        """
        ...


def policy_digest(kind: str, /, **fields: Any) -> Digest:
    """The digest of a policy: its kind and everything that decides, as canonical JSON.

    >>> policy_digest("example", mode="HEAD").short
    'e4d8682f1c3f'
    """
    return Digest.of(json.dumps([kind, fields], sort_keys=True, separators=(",", ":")).encode())


def _policies(value: Iterable[Policy[Any]]) -> tuple[Policy[Any], ...]:
    policies = tuple(value)
    if not policies:
        raise ConfigurationError(
            "a combination of no policies says nothing", hint="UnsafeNoVerification() accepts everything, and says so"
        )
    return policies


@attrs.frozen
class _Combination:
    """What is made of other policies, one or more; their order counts."""

    _name: ClassVar[str]

    policies: tuple[Policy[Any], ...] = attrs.field(converter=_policies)

    @property
    def digest(self) -> Digest:
        """Of all of them, in order."""
        return policy_digest(self._name, policies=[str(policy.digest) for policy in self.policies])

    @property
    def needs(self) -> frozenset[str]:
        """What any of them needs."""
        return frozenset[str]().union(*(policy.needs for policy in self.policies))


class AllOf(_Combination):
    """Holds if every one of its policies does. Empty ones are refused: they would accept everything.

    Attributes:
        policies: In the order in which they are checked.
    """

    __slots__ = ()
    _name = "all-of"

    def check(self, evidence: Any, /) -> Facts:
        """What all of them found out; the first that does not hold raises."""
        return tuple(fact for policy in self.policies for fact in policy.check(evidence))


class AnyOf(_Combination):
    """Holds if at least one of its policies does. Empty ones are refused: they would accept nothing, surely by mistake.

    Attributes:
        policies: In the order in which they are tried.
    """

    __slots__ = ()
    _name = "any-of"

    def check(self, evidence: Any, /) -> Facts:
        """What the first that holds found out. Where none does, the error tells of each."""
        failures = []
        for policy in self.policies:
            try:
                return policy.check(evidence)
            except VerificationError as exc:  # nothing else: a policy that cannot be checked is no verdict
                failures.append(exc)
        if len(failures) == 1:
            raise failures[0]
        reasons = "; ".join(f"[{number}] {exc}" for number, exc in enumerate(failures, 1))
        raise VerificationError(f"none of {len(failures)} policies holds: {reasons}")


def split_policy(policy: Policy[Any] | None, /) -> tuple[Policy[Any] | None, Policy[Any] | None]:
    """What of a policy can be said of the revision alone, and what only of its content.

    Raises:
        ConfigurationError: A choice is to be made between the two.
    """
    if policy is None or CONTENT not in policy.needs:
        return policy, None
    if policy.needs == {CONTENT}:
        return None, policy
    if not isinstance(policy, AllOf):
        raise ConfigurationError(
            "a policy about the content cannot be an alternative to one about the revision", hint="ask for both: AllOf"
        )
    early, late = zip(*(split_policy(each) for each in policy.policies), strict=True)
    return AllOf([each for each in early if each]), AllOf([each for each in late if each])


def is_vouched(facts: Facts, /) -> bool:
    """Whether anybody vouched, by what policies found out: not where none asked, where it was skipped, or where whoever signed is nobody.

    >>> is_vouched((("policy", "sha256:…"), ("oci.level", "skip")))
    False
    """
    names = {name for name, _ in facts}
    return bool(names - _SAYS_NOTHING) and "oci.warning.authenticity" not in names


@attrs.frozen
class UnsafeNoVerification:
    """Accepts everything, with a warning in the log each time: for sources that must have a policy, and have no signature."""

    @property
    def digest(self) -> Digest:
        """Always the same."""
        return policy_digest("unsafe-no-verification")

    @property
    def needs(self) -> frozenset[str]:
        """Nothing."""
        return frozenset()

    def check(self, evidence: Evidence, /) -> Facts:
        """Nothing is found out, and the facts say so."""
        logging.getLogger(__name__).warning("%s is used without any verification, as configured", evidence.subject)
        return (("policy", "unsafe-no-verification"),)

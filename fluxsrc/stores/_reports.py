"""What the maintenance of a store tells: values, for people and machines."""

import enum

import attrs

__all__ = ["GCReport", "Problem", "ProblemKind", "VerifyReport"]


@attrs.frozen(kw_only=True)
class GCReport:
    """What a collection removed, or would have.

    Attributes:
        blobs: Blobs that nothing refers to: archives, manifests, configs.
        bytes: Their size.
        leftovers: Other files: what crashed writers left, pack indexes without their blob, expired leases, idle locks.
        kept: Blobs that something refers to.
        young: Blobs that nothing refers to, spared because they are younger than the grace period.
        dry_run: Whether nothing was removed after all.
    """

    blobs: int = 0
    bytes: int = 0
    leftovers: int = 0
    kept: int = 0
    young: int = 0
    dry_run: bool = False


class ProblemKind(enum.StrEnum):
    """What is wrong with a file of a store."""

    MISSING = "missing"
    """Something refers to it, and it is not there."""
    CORRUPT = "corrupt"
    """It is there, and not what its name or its record says."""
    UNREADABLE = "unreadable"
    """The operating system does not let us read it."""


@attrs.frozen
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: What sort of thing.
        path: The file, relative to the store.
        detail: What was expected and found, and whose it is.
    """

    kind: ProblemKind
    path: str
    detail: str


@attrs.frozen(kw_only=True)
class VerifyReport:
    """What a full check of a store found.

    Attributes:
        sources: Histories read.
        blobs: Blobs hashed.
        bytes: Their size.
        problems: What is wrong; empty in a store that is well.
        orphaned: Blobs nothing refers to; `gc` sweeps them.
        leftovers: What crashed writers left; `gc` sweeps it.
        unknown: Files this library did not write. Nothing touches them.
    """

    sources: int = 0
    blobs: int = 0
    bytes: int = 0
    problems: tuple[Problem, ...] = ()
    orphaned: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether every artifact of every history is whole. Orphans and leftovers are untidy, not wrong."""
        return not self.problems

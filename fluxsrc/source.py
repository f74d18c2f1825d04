"""The contract of everything one deploys from: `Source` and `Snapshot`. Read this first."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from fluxsrc.artifact import Artifact
from fluxsrc.entry import Entry, Skipped
from fluxsrc.operation import Operation
from fluxsrc.recipe import Recipe
from fluxsrc.revision import Revision
from fluxsrc.store import Store

__all__ = ["Comparable", "Snapshot", "Source"]


@runtime_checkable
class Snapshot(Protocol):
    """The files of exactly one revision, readable until the context that gave it closes.

    Thread-safe. Raises only `FluxSrcError`, also from its iterators and from the streams of its entries.
    """

    @property
    def revision(self) -> Revision:
        """What this is a snapshot of: exactly what was asked for."""
        ...

    @property
    def created(self) -> dt.datetime | None:
        """The revision's own time (a commit's), with a time zone; None where it has none. Never the clock's."""
        ...

    @property
    def tree_id(self) -> str | None:
        """A name of the whole tree that is known without reading it; equal ids of one source promise equal entries."""
        ...

    @property
    def annotations(self) -> Mapping[str, str]:
        """Provenance and other facts for the artifact."""
        ...

    @property
    def skipped(self) -> Sequence[Skipped]:
        """What of the source is no entry, by policy, and why. Complete once `entries` was exhausted."""
        ...

    @property
    def verification(self) -> tuple[tuple[str, str], ...]:
        """Who vouched for this revision, as pairs of text; empty where no policy asked."""
        ...

    def ignore_files(self) -> Mapping[str, str]:
        """The text of each `.sourceignore` that governs this snapshot, by directory ("" is the root).

        Never rules from outside the snapshot. Line ends as in the file; bytes that are not UTF-8 as surrogate escapes.
        """
        ...

    def entries(self) -> Iterator[Entry]:
        """Every file and symbolic link, sorted by the UTF-8 bytes of the full path, each path once.

        Repeatable: each call starts a new iteration over the same entries. Lazy: an entry's content is not touched
        before it is opened. May leave out what the source's own ignore rules exclude, and nothing else.
        """
        ...


@runtime_checkable
class Comparable(Protocol):
    """What a `Snapshot` may be besides: one that can say what changed since an earlier revision, without listing the rest.

    Then the cost of the next artifact grows with the change, and not with the tree.
    """

    def survey(self) -> str:
        """A note of what was found in all of the tree; `changed_since` of a later snapshot wants to see it. Any text."""
        ...

    def changed_since(self, revision: Revision, survey: str, /) -> Sequence[str] | None:
        """What changed since an earlier revision of the same source, with the same options.

        Args:
            revision: The earlier one.
            survey: What its snapshot noted.

        Returns:
            The paths of every entry, and of everything skipped, that is new, removed or different; sorted. None if that
            is not known, or if more than single entries may have changed.
        """
        ...

    def entries_from(self, path: str, /) -> Iterator[Entry]:
        """As `Snapshot.entries`, but beginning at a path, or at the first behind it, without listing those before."""
        ...


@runtime_checkable
class Source(Protocol):
    """Where content comes from: a Git repository, an OCI repository, a bucket, a directory.

    An immutable value: thread-safe, picklable, comparable; it holds no open connection and no secret in its repr.
    Raises only `FluxSrcError`, iterators included. Blocking calls obey one `Operation` each: made from the source's
    own timeout if none is given.
    """

    @property
    def url(self) -> str:
        """Its address with all options that choose the revision, redacted: fit for logs and people."""
        ...

    @property
    def kind(self) -> str:
        """Flux's kind, lower-case: "gitrepository", "ocirepository", "bucket", or "directory", "memory", …"""
        ...

    @property
    def recipe(self) -> Recipe:
        """Everything besides the revision that decides what an artifact holds."""
        ...

    def resolve_revision(self, *, operation: Operation | None = None) -> Revision:
        """What the source points at now. Cheap: never downloads content.

        Raises:
            RevisionNotFoundError: The reference is not there.
            SourceError: The remote, or the way to it, failed.
        """
        ...

    def fetch(
        self, revision: Revision | None = None, /, *, operation: Operation | None = None
    ) -> AbstractContextManager[Snapshot]:
        """The files of exactly this revision; of what the source points at now, if none is given.

        What was resolved is what is fetched: a reference is never looked up a second time.

        Raises:
            SourceChangedError: The revision is not there any more.
            SourceError: The remote, or the way to it, failed.
            ContentError: The content is unsafe, over a limit, or not what its digest says.
        """
        ...

    def produce_artifact(
        self,
        store: Store,
        /,
        *,
        name: str | None = None,
        namespace: str = "default",
        operation: Operation | None = None,
    ) -> Artifact:
        """Resolve, and if the store does not hold it yet: fetch, filter, pack, put and record.

        Args:
            store: Where the artifact goes.
            name: The source's name there; made from its URL if none is given.
            namespace: The name's namespace.
            operation: The deadline, cancel switch and progress callback of all of it.
        """
        ...

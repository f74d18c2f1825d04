"""From a source to an artifact in a store: the one algorithm, and the options every source shares.

1. Resolve the revision.
2. If the store holds this revision of this source, made with the same recipe: done, nothing is touched.
3. Fetch exactly that revision.
4. If its tree is known to be an earlier artifact's tree: take that artifact's blob.
5. Else filter, pack and digest in one streaming pass, reusing the unchanged chunks of the newest earlier artifact.
6. If a policy has to be asked about the content, ask it: the blob is not in the store yet.
7. Put the blob, then the record.

If the source changes while it is read, all of it starts again, a bounded number of times.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import lru_cache
from typing import Any, BinaryIO, ClassVar, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import attrs

from fluxsrc import tarball
from fluxsrc._written import as_written
from fluxsrc.artifact import (
    ANNOTATION_CREATED,
    ANNOTATION_REVISION,
    ANNOTATION_SOURCE,
    LAYER_MEDIA_TYPE,
    Artifact,
    SourceKey,
)
from fluxsrc.digest import Digest
from fluxsrc.entry import Skipped, given_path
from fluxsrc.errors import ConfigurationError, ContentError, SourceChangedError, StoreError
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.operation import DEFAULT_TIMEOUT, Operation
from fluxsrc.recipe import Compression, Dialect, Recipe, SymlinkPolicy
from fluxsrc.sealed import SealedSnapshot
from fluxsrc.select import select, selector
from fluxsrc.source import Comparable, Snapshot, Source
from fluxsrc.store import Ingest, Store
from fluxsrc.verify import Policy, split_policy

__all__ = ["RESOLVED", "Earlier", "Packing", "Producer", "SourceOptions", "produce_artifact", "source_key"]

RESOLVED: Final = "resolved"
"""Under this name an operation's memo has the revision that was resolved, for whoever asks why the rest failed."""

_ATTEMPTS: Final = 3
_LOCAL: Final = frozenset({"bucket+file", "file", "memory"})
"""Schemes whose paths and revisions mean nothing elsewhere: in a manifest they would make equal content differ."""


class Packing(NamedTuple):
    """What step 5 made of a snapshot.

    Attributes:
        packed: Digest, size and index of the tar.
        media_type: Of the bytes that were written.
        skipped: What was left out on the way.
    """

    packed: "tarball.Packed"
    media_type: str
    skipped: tuple[Skipped, ...] = ()


@attrs.frozen(eq=False, repr=False)
class Earlier:
    """An artifact of the same source, out of which step 5 may take what did not change.

    Attributes:
        artifact: What the store says of it.
        index: Its pack index.
        archive: Its bytes, seekable and verified.
    """

    artifact: Artifact
    index: bytes
    archive: BinaryIO


_recipe: Final = lru_cache(maxsize=256)(Recipe)
_key: Final = lru_cache(maxsize=4096)(SourceKey)
"""Both are asked for at each look at a source, and checked when they are made."""

PackSnapshot = Callable[[Snapshot, Ingest, Earlier | None, Operation], Packing]
"""Writes a snapshot to an ingest: step 5."""


class Producer:
    """The half of a source that is the same for all: what follows from `resolve_revision`, `fetch` and a `timeout`."""

    __slots__ = ()

    def produce_artifact(
        self: "_Producing",
        store: Store,
        /,
        *,
        name: str | None = None,
        namespace: str = "default",
        operation: Operation | None = None,
    ) -> Artifact:
        """Resolve, and if the store does not hold it yet: fetch, filter, pack, put and record. See `Source`."""
        return produce_artifact(
            self,
            store,
            name=name,
            namespace=namespace,
            operation=self._operation(operation),
            pack_snapshot=self._pack_snapshot,
        )

    def _operation(self: "_Timed", operation: Operation | None) -> Operation:
        """The operation of this call: the caller's, or one of the source's own timeout."""
        return Operation(self.timeout) if operation is None else operation


class _Timed(Protocol):
    @property
    def timeout(self) -> float | None: ...


class _Producing(Source, Protocol):
    def _operation(self, operation: Operation | None) -> Operation: ...
    @property
    def _pack_snapshot(self) -> PackSnapshot | None: ...


@attrs.frozen(kw_only=True, repr=False)
class SourceOptions(Producer):
    """What every source of this library takes besides its own address; the base class of them all.

    Attributes:
        ignore: Ignore rules in gitignore syntax, of higher priority than any `.sourceignore`.
        dialect: "gitignore": git's own verdicts. "flux": Flux's, default exclusions included.
        path: The sub-tree that becomes the artifact's root.
        symlinks: "skip" (reported), "error", "keep" or "dereference".
        compression: "gzip", "zstd" or "none".
        limits: How much is too much.
        timeout: Seconds for one call, unless it brings its own `Operation`.
        verify: What has to hold before anything of it can be seen: of the content, as `fluxsrc.signed_lock.SignedLock` asks,
            or of what this kind of source knows besides.
    """

    _evidence: ClassVar[frozenset[str]] = frozenset()
    """What a policy may need of this kind of source besides the content; its `fetch` holds it against that part."""

    ignore: str | None = None
    dialect: Dialect = attrs.field(default=Dialect.GITIGNORE, converter=Dialect)
    path: str = attrs.field(default="", validator=lambda _self, _field, value: value and given_path(value))
    symlinks: SymlinkPolicy = attrs.field(default=SymlinkPolicy.SKIP, converter=SymlinkPolicy)
    compression: Compression = attrs.field(default=Compression.GZIP, converter=Compression)
    limits: Limits = DEFAULT_LIMITS
    timeout: float | None = DEFAULT_TIMEOUT
    verify: Policy[Any] | None = attrs.field(default=None)

    @verify.validator
    def _check_needs(self, _: object, policy: Policy[Any] | None) -> None:
        early, _late = split_policy(policy)
        unknown = (early.needs if early else frozenset()) - self._evidence
        if unknown:
            raise ConfigurationError(f"this kind of source has no {', '.join(sorted(unknown))} to verify")

    __repr__ = as_written

    @property
    def recipe(self) -> Recipe:
        """Everything besides the revision that decides what an artifact holds."""
        policy = set() if self.verify is None else {("verify", str(self.verify.digest))}
        return _recipe(
            ignore=self.ignore,
            dialect=self.dialect,
            path=self.path,
            symlinks=self.symlinks,
            compression=self.compression,
            options=tuple(sorted({*self._recipe_options(), *policy})),
        )

    def _recipe_options(self) -> tuple[tuple[str, str], ...]:
        """What only this backend knows of the recipe, as sorted pairs."""
        return ()

    @contextmanager
    def _guarded(self: "Producible", snapshot: Snapshot, operation: Operation) -> Iterator[Snapshot]:
        """The snapshot as `fetch` may give it: sealed, where the policy is about the content."""
        # Where there is no evidence besides the content, all of the policy is for now.
        policy = split_policy(self.verify)[1] if self._evidence else self.verify
        if policy is None:
            yield snapshot
            return

        def into(content: Snapshot, blob: Ingest) -> Digest:
            return self._pack_snapshot(content, blob, None, operation).packed.content_digest

        sealed = SealedSnapshot(snapshot, policy, url=self.url, pack=into, limits=self.limits, operation=operation)
        with closing(sealed):
            yield sealed

    def _pack_snapshot(
        self, snapshot: Snapshot, blob: Ingest, earlier: Earlier | None, operation: Operation
    ) -> Packing:
        """Step 5; a backend overrides it only to keep bytes as they are."""
        return _pack_canonical(snapshot, blob, earlier, operation, self.recipe, self.limits)


class Producible(Source, Protocol):
    """A source that is built on `SourceOptions`."""

    _evidence: ClassVar[frozenset[str]]

    @property
    def limits(self) -> Limits: ...
    @property
    def verify(self) -> Policy[Any] | None: ...
    def _operation(self, operation: Operation | None) -> Operation: ...
    def _pack_snapshot(
        self, snapshot: Snapshot, blob: Ingest, earlier: Earlier | None, operation: Operation
    ) -> Packing: ...


def _pack_canonical(
    snapshot: Snapshot, blob: Ingest, earlier: Earlier | None, operation: Operation, recipe: Recipe, limits: Limits
) -> Packing:
    skipped: list[Skipped] = []
    changes = None if earlier is None else _changes(earlier, snapshot, recipe, skipped)
    packed = tarball.pack(
        select(snapshot, recipe, skipped),
        blob,
        compression=recipe.compression,
        limits=limits,
        reuse=None if earlier is None else tarball.Reuse(earlier.index, earlier.archive, changes),
        survey=snapshot.survey() if isinstance(snapshot, Comparable) else "",
        operation=operation,
    )
    if earlier is not None:
        skipped += _skipped_there(earlier.artifact.skipped, packed.unlisted)
    return Packing(packed, LAYER_MEDIA_TYPE + recipe.compression.suffix, tuple(skipped))


def _changes(earlier: Earlier, snapshot: Snapshot, recipe: Recipe, skipped: list[Skipped]) -> "tarball.Changes | None":
    """What changed since an earlier artifact, if the snapshot can say."""
    # What a link of a dereferenced tree is, other paths decide; what another recipe left out, no comparison tells.
    if (
        not isinstance(snapshot, Comparable)
        or earlier.artifact.recipe != recipe.digest
        or recipe.symlinks is SymlinkPolicy.DEREFERENCE
    ):
        return None
    paths = snapshot.changed_since(earlier.artifact.revision, tarball.read_survey(earlier.index))
    if paths is None:
        return None
    chosen = selector(snapshot, recipe, skipped)
    return tarball.Changes(paths, lambda path: chosen(snapshot.entries_from(path)))


def _skipped_there(skipped: Sequence[Skipped], parts: Sequence[tuple[str, str | None]]) -> list[Skipped]:
    """What lies in these parts of the tree: each from a path to another, or to the end."""
    return [
        item for item in skipped if any(start <= item.path and (end is None or item.path < end) for start, end in parts)
    ]


def source_key(source: Source, *, name: str | None = None, namespace: str = "default") -> SourceKey:
    """The source's name in a store: as given, or made of its URL's last part and eight digits of the URL's hash."""
    if name is None:
        last = urlsplit(source.url).path.rstrip("/").rpartition("/")[2].removesuffix(".git").lower()
        slug = re.sub(r"[^a-z0-9]+", "-", last).strip("-")[:48] or "source"
        name = f"{slug}-{hashlib.sha256(source.url.encode()).hexdigest()[:8]}"
    return _key(source.kind, namespace, name)


def produce_artifact(
    source: Source,
    store: Store,
    /,
    *,
    name: str | None = None,
    namespace: str = "default",
    operation: Operation | None = None,
    pack_snapshot: PackSnapshot | None = None,
) -> Artifact:
    """The algorithm of this module's docstring, for any source and any store.

    Args:
        source: What to make an artifact of.
        store: Where it goes.
        name: The source's name there; made from its URL if none is given.
        namespace: The name's namespace.
        operation: The deadline, cancel switch and progress callback of all of it.
        pack_snapshot: Replaces step 5 for a backend that keeps bytes as they are.
    """
    operation = Operation() if operation is None else operation
    key = source_key(source, name=name, namespace=namespace)
    recipe = source.recipe
    for attempt in range(1, _ATTEMPTS + 1):
        revision = source.resolve_revision(operation=operation)  # 1
        operation.memo[RESOLVED] = revision
        current = store.lookup(key)
        if current is not None and current.revision == revision and current.recipe == recipe.digest:
            return current  # 2
        history = store.history(key)
        alike = [artifact for artifact in history if artifact.recipe == recipe.digest]
        known = next((artifact for artifact in alike if artifact.revision == revision), None)
        if known is not None:
            return store.put(known)  # 2, of a revision that was current before: only the record moves
        try:
            with source.fetch(revision, operation=operation) as snapshot:  # 3
                seal = snapshot if isinstance(snapshot, SealedSnapshot) else None
                content = snapshot if seal is None else seal.content
                same = next((a for a in alike if a.tree_id is not None and a.tree_id == content.tree_id), None)
                if same is not None:
                    if seal is not None:
                        seal.unseal(same.content_digest)
                    return store.put(_describe(same, source, snapshot))  # 4
                with ExitStack() as stack, store.ingest() as blob:
                    # A lock that moved on is another recipe. What did not change is still worth to be taken from an artifact
                    # of the old one: the policy decides about the digest of what comes out.
                    earlier = _earlier(store, alike if seal is None else history, stack)
                    if pack_snapshot is None:
                        packing = _pack_canonical(content, blob, earlier, operation, recipe, DEFAULT_LIMITS)
                    else:
                        packing = pack_snapshot(content, blob, earlier, operation)  # 5
                    if seal is not None:
                        seal.unseal(packing.packed.content_digest)  # 6
                    artifact = Artifact(
                        key=key,
                        url=source.url,
                        revision=revision,
                        content_digest=packing.packed.content_digest,
                        digest=blob.digest,
                        size=blob.size,
                        content_size=packing.packed.content_size,
                        files=packing.packed.files,
                        media_type=packing.media_type,
                        recipe=recipe.digest,
                        skipped=packing.skipped,
                    )
                    return store.put(_describe(artifact, source, snapshot), blob, index=packing.packed.index)  # 7
        except SourceChangedError:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _describe(artifact: Artifact, source: Source, snapshot: Snapshot) -> Artifact:
    """The artifact with the facts that belong to the snapshot rather than to its content."""
    annotations = {ANNOTATION_SOURCE: source.url, ANNOTATION_REVISION: str(snapshot.revision)}
    if urlsplit(source.url).scheme in _LOCAL:
        annotations = {}
    if snapshot.created is not None:
        annotations[ANNOTATION_CREATED] = snapshot.created.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return attrs.evolve(
        artifact,
        url=source.url,
        revision=snapshot.revision,
        tree_id=snapshot.tree_id,
        created=snapshot.created,
        annotations=annotations | dict(snapshot.annotations),
        skipped=_unique((*snapshot.skipped, *artifact.skipped)),
        verification=snapshot.verification,
        manifest=None,
        observed=None,
    )


def _unique(skipped: Sequence[Skipped]) -> tuple[Skipped, ...]:
    return tuple(sorted(set(skipped), key=lambda item: item.path.encode(errors="surrogateescape")))


def _earlier(store: Store, history: Sequence[Artifact], stack: ExitStack) -> Earlier | None:
    """The newest artifact whose chunks can be spliced, opened; None if there is none."""
    for artifact in history:
        index = store.index(artifact)
        if index is not None:
            try:
                return Earlier(artifact, index, stack.enter_context(store.open(artifact)))
            except (
                StoreError,
                ContentError,
            ):  # a damaged or vanished blob is no reason to fail: packing afresh heals it
                return None
    return None

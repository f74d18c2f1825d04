"""Looking around: the tags of a repository with what they are, what a tag was, and what one can still roll back to."""

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final

import attrs

from fluxsrc.artifact import ANNOTATION_CREATED, ANNOTATION_REVISION, ANNOTATION_SOURCE, Artifact, SourceKey
from fluxsrc.digest import Digest
from fluxsrc.errors import (
    ContentError,
    DigestMismatchError,
    LimitExceededError,
    RemoteProtocolError,
    RevisionNotFoundError,
    StoreError,
)
from fluxsrc.limits import Limits
from fluxsrc.oci.access import Access, open_repository
from fluxsrc.oci.indexes import below
from fluxsrc.oci.manifest import Manifest, parse_document
from fluxsrc.oci.reference import parse_reference
from fluxsrc.oci.repository import Document, Repository
from fluxsrc.operation import Operation
from fluxsrc.revision import Revision
from fluxsrc.semver import Range, TagPattern, parse_version, precedence
from fluxsrc.store import ObservingStore, RefMoved, Store

__all__ = ["Candidate", "Observed", "RefMoved", "TagInfo", "candidates", "history", "list_tags", "moves"]

_WORKERS: Final = 8
_HIDDEN: Final = re.compile(r"sha(256|512)-[0-9a-f]{64}(\..*)?")
"""Tags by which signatures and referrers are kept are no versions of anything."""


@attrs.frozen(kw_only=True)
class TagInfo:
    """A tag and what it points at.

    Attributes:
        tag: The tag.
        digest: What it points at; None if details were not asked for or cannot be trusted, as is all below.
        media_type: Of the manifest.
        size: Bytes of all its layers.
        source: Where the content came from, by its annotation.
        revision: What it was made from, by its annotation.
        created: When, by its annotation.
    """

    tag: str
    digest: Digest | None = None
    media_type: str | None = None
    size: int | None = None
    source: str | None = None
    revision: str | None = None
    created: dt.datetime | None = None


def list_tags(
    reference: str,
    /,
    *,
    semver: str | None = None,
    pattern: str | None = None,
    details: bool = True,
    access: Access | None = None,
    operation: Operation | None = None,
) -> list[TagInfo]:
    """The tags of a repository, newest first: by the time they were created, then by version, then by name.

    One request for each thousand tags, and with details one for each tag that passes the filters, eight at a time; a
    registry that asks for patience gets it. Tags of signatures are left out. A tag that vanishes meanwhile is, too.

    Args:
        reference: The repository.
        semver: Only versions in this range.
        pattern: Only tags that this regular expression is found in; a group may say which part is the version.
        details: Ask for each tag's manifest.
        access: How the registry is reached.
        operation: The deadline, cancel switch and progress callback.

    Raises:
        RevisionNotFoundError: There is no such repository.
    """
    operation = operation or Operation()
    chosen = _Filter(semver, pattern)
    with open_repository(parse_reference(reference), access or Access(), operation) as repository:
        tags = [tag for tag in repository.tags() if not _HIDDEN.fullmatch(tag) and chosen(tag)]
        if not details:
            return sorted((TagInfo(tag=tag) for tag in tags), key=_age, reverse=True)
        done = 0
        found = []
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="fluxsrc-list") as pool:
            for info in pool.map(partial(_details, repository), tags):
                done += 1
                operation.report("list", done, len(tags), unit="objects", detail=repository.name)
                if info is not None:
                    found.append(info)
    return sorted(found, key=_age, reverse=True)


class _Filter:
    def __init__(self, semver: str | None, pattern: str | None) -> None:
        self._range = Range.parse(semver) if semver is not None else None
        self._pattern = TagPattern.parse(pattern) if pattern is not None else None

    def __call__(self, tag: str) -> bool:
        version = tag if self._pattern is None else self._pattern.extract(tag)
        return version is not None and (self._range is None or self._range.matches(version))


def _age(info: TagInfo) -> tuple[float, bool, object, str]:
    version = parse_version(info.tag)
    # Versions are only compared with versions; what is none sorts below, by name.
    rank: object = (0,) if version is None else precedence(version)
    return (info.created.timestamp() if info.created else 0.0, version is not None, rank, info.tag)


def _details(repository: Repository, tag: str) -> TagInfo | None:
    try:
        document = repository.document(tag)
    except RevisionNotFoundError:
        return None
    except ContentError:  # not what its digest says, or too large
        return TagInfo(tag=tag)
    descriptor = document.descriptor
    try:
        parsed = parse_document(document.data, where=repository.name, media_type=descriptor.media_type or None)
    except RemoteProtocolError:  # of an old schema, or of none: one strange tag must not hide all others
        return TagInfo(tag=tag, digest=descriptor.digest, media_type=descriptor.media_type)
    notes = parsed.annotations
    return TagInfo(
        tag=tag,
        digest=descriptor.digest,
        media_type=parsed.media_type,
        size=sum(layer.size for layer in parsed.layers) if isinstance(parsed, Manifest) else None,
        source=notes.get(ANNOTATION_SOURCE),
        revision=notes.get(ANNOTATION_REVISION),
        created=_time(notes.get(ANNOTATION_CREATED)),
    )


def _time(text: str | None) -> dt.datetime | None:
    with suppress(ValueError):
        time = dt.datetime.fromisoformat(text or "")
        return time if time.tzinfo is not None else time.replace(tzinfo=dt.UTC)
    return None


# --- what was ---


@attrs.frozen
class Observed:
    """What a source was from one moment on, as a store saw it.

    Attributes:
        key: The source's name in the store.
        revision: What it pointed at.
        observed: When the store learned that, by its clock.
        url: Where it was seen.
        artifact: What was made of it, with its provenance; None if the store does not hold it any more.
    """

    key: SourceKey
    revision: Revision
    observed: dt.datetime | None
    url: str | None
    artifact: Artifact | None


def history(store: Store, key: SourceKey, /) -> list[Observed]:
    """What a source was over time as this store saw it, newest first; also what the store has let go since.

    A tag that moved away and back was three things one after the other. A store that only keeps artifacts, and no
    observations, knows of two.
    """
    artifacts = store.history(key)
    if not isinstance(store, ObservingStore):
        return [Observed(key, each.revision, each.observed, each.url, each) for each in artifacts]
    held = {artifact.revision: artifact for artifact in reversed(artifacts)}  # of several of one revision the newest
    return [
        Observed(key, seen.revision, seen.observed, seen.url, held.get(seen.revision))
        for seen in store.observations(key)
    ]


def moves(observed: Iterable[Observed], /) -> Iterator[RefMoved]:
    """Every time one name came to mean something else, newest first.

    A source that follows a range goes from tag to tag; that is no move. The same tag with another digest is one.

    Args:
        observed: A history, newest first.
    """
    ordered = list(observed)
    for place, newer in enumerate(ordered):
        pointer = newer.revision.pointer
        if pointer is None:
            continue
        older = next((each for each in ordered[place + 1 :] if each.revision.pointer == pointer), None)
        if older is not None and older.revision.digest != newer.revision.digest:
            yield RefMoved(
                key=newer.key,
                pointer=pointer,
                old=older.revision,
                new=newer.revision,
                observed=newer.observed,
                url=newer.url,
            )


# --- what could be again ---


@attrs.frozen(kw_only=True)
class Candidate:
    """An earlier revision one may want to roll back to.

    Attributes:
        digest: Of its manifest: promote this.
        tags: Tags that point at it now.
        revision: What it was made from, by its annotation.
        created: When, by its annotation.
        observed: When the store saw it, None if it did not.
        missing: What of it the registry does not hold any more: the manifest, or blobs of it.
        stored: Whether the store holds its bytes, so that it can be pushed again.
    """

    digest: Digest
    tags: tuple[str, ...] = ()
    revision: str | None = None
    created: dt.datetime | None = None
    observed: dt.datetime | None = None
    missing: tuple[Digest, ...] = ()
    stored: bool = False

    @property
    def complete(self) -> bool:
        """Whether the registry holds all of it, so that promoting its digest will do."""
        return not self.missing


def candidates(
    reference: str,
    /,
    *,
    store: Store | None = None,
    key: SourceKey | None = None,
    semver: str | None = None,
    pattern: str | None = None,
    access: Access | None = None,
    operation: Operation | None = None,
) -> list[Candidate]:
    """What a tag could be rolled back to, newest first, and for each whether everything it needs is still there.

    A registry does not remember what a tag was. What is known comes from its other tags, and from a store that
    watched: give both `store` and `key`. A retention policy that ate the rollback is seen here before it is needed.

    Args:
        reference: The tag, or the repository.
        store: A store with the source's history.
        key: The source's name there.
        semver: Of the registry's tags, only versions in this range.
        pattern: Of the registry's tags, only those that this is found in.
        access: How the registry is reached.
        operation: The deadline, cancel switch and progress callback.

    Raises:
        RevisionNotFoundError: There is no such repository, and the store knows of none, either.
        SourceError: The registry cannot be reached.
    """
    operation, access = operation or Operation(), access or Access()
    target = parse_reference(reference)
    known: dict[Digest, Candidate] = {}
    listed: list[TagInfo] = []
    unknown: RevisionNotFoundError | None = None
    try:
        listed = list_tags(target.name, semver=semver, pattern=pattern, access=access, operation=operation)
    except RevisionNotFoundError as exc:
        unknown = exc  # so is a repository that lost all its tags, and what they were a store may know
    for info in listed:
        if info.digest is None:
            continue
        before = known.get(info.digest)
        tags = (*(before.tags if before else ()), info.tag)
        known[info.digest] = Candidate(digest=info.digest, tags=tags, revision=info.revision, created=info.created)
    if store is not None and key is not None:
        for seen in reversed(history(store, key)):  # of what was seen more than once the last time counts
            _add_observed(known, seen, store)
    if unknown is not None and not known:
        raise unknown
    with open_repository(target, access, operation) as repository:
        with suppress(RevisionNotFoundError):
            if target.tag is not None:
                known.pop(repository.resolve(target.tag).digest, None)  # where it is now is no way back
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="fluxsrc-look") as pool:
            missing = list(pool.map(partial(_missing, repository, access.limits), known))
    found = [
        attrs.evolve(one, missing=gone) for one, gone in zip(known.values(), missing, strict=True) if gone is not None
    ]
    epoch = dt.datetime.fromtimestamp(0, dt.UTC)
    return sorted(found, key=lambda one: (one.observed or one.created or epoch, one.tags), reverse=True)


def _add_observed(known: dict[Digest, Candidate], seen: Observed, store: Store) -> None:
    digest, artifact = seen.revision.digest, seen.artifact
    candidate = attrs.evolve(known.get(digest, Candidate(digest=digest)), observed=seen.observed)
    if artifact is not None:
        candidate = attrs.evolve(
            candidate,
            revision=artifact.annotations.get(ANNOTATION_REVISION),
            created=artifact.created,
            stored=_holds(store, artifact),
        )
    known[digest] = candidate


def _missing(repository: Repository, limits: Limits, digest: Digest) -> tuple[Digest, ...] | None:
    """What of a manifest is not there any more; None if it is of an old schema, or of none: nobody can promote that."""
    gone: list[Digest] = []

    def read(digest: Digest) -> Document | None:
        try:
            return repository.document(str(digest))
        except (RevisionNotFoundError, DigestMismatchError):
            gone.append(digest)
            return None

    try:
        document = read(digest)
        if document is not None:
            for _, parsed in below(document, lambda child: read(child.digest), limits=limits, where=repository.name):
                if isinstance(parsed, Manifest):
                    gone += [part.digest for part in parsed.parts() if not repository.has(part)]
    except (LimitExceededError, RemoteProtocolError):
        return None
    return tuple(dict.fromkeys(gone))


def _holds(store: Store, artifact: Artifact) -> bool:
    try:
        store.open(artifact).close()
    except (StoreError, ContentError):
        return False
    return True

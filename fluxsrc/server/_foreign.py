"""What other tools put into a store: manifests about ours (signatures, attestations, SBOMs), found through `index.json`."""

import logging
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import attrs

from fluxsrc._io.atomic import open_regular, store_errors
from fluxsrc.digest import Digest
from fluxsrc.errors import FluxSrcError
from fluxsrc.limits import DEFAULT_LIMITS
from fluxsrc.oci.layout import LayoutRepository
from fluxsrc.oci.manifest import INDEX_MEDIA_TYPE, Descriptor, Index, Manifest, parse_document
from fluxsrc.operation import Operation
from fluxsrc.store import Store
from fluxsrc.stores import LocalStore

__all__ = ["Attached", "Foreign", "ForeignDocument"]

_log: Final = logging.getLogger("fluxsrc.server")

_OURS: Final = "dev.fluxsrc.source"
"""Marks the lines of `index.json` that the store wrote; the rest is foreign. Part of the store's format."""
_REF_NAME: Final = "org.opencontainers.image.ref.name"
_TAG_ABOUT: Final = re.compile(r"(sha256|sha512)-([0-9a-f]+)(?:\.[A-Za-z0-9._-]{1,32})?")
"""`sha256-<hex>` for lists of referrers, `sha256-<hex>.sig` and the like for what cosign keeps without them."""


@attrs.frozen
class ForeignDocument:
    """A manifest or index that another tool wrote, verified."""

    data: bytes
    parsed: Manifest | Index

    @property
    def media_type(self) -> str:
        """What it is."""
        return self.parsed.media_type


@attrs.frozen
class Attached:
    """What belongs to some manifests, directly or by way of others.

    Attributes:
        manifests: The documents, by digest.
        blobs: The sizes of their configs and layers, by digest.
        referrers: What is about each manifest.
        tags: Names that say themselves what they are about.
    """

    manifests: Mapping[Digest, ForeignDocument] = attrs.field(factory=dict)
    blobs: Mapping[Digest, int] = attrs.field(factory=dict)
    referrers: Mapping[Digest, Sequence[Descriptor]] = attrs.field(factory=dict)
    tags: Mapping[str, Digest] = attrs.field(factory=dict)


_NOTHING: Final = Attached()


@attrs.frozen
class _Listing:
    """The foreign lines of one `index.json`.

    Attributes:
        identity: Of the file they were read from.
        documents: All of them that can be read, and the manifests they hold, by digest.
        about: Who is about whom, by the digest of the subject.
        names: The lines with a name that says what it is about, by that: `sha256-<hex>` to names to digests.
    """

    identity: tuple[int, ...] | None
    documents: Mapping[Digest, ForeignDocument] = attrs.field(factory=dict)
    about: Mapping[Digest, Sequence[Descriptor]] = attrs.field(factory=dict)
    names: Mapping[str, Mapping[str, Digest]] = attrs.field(factory=dict)


class Foreign:
    """Looks into `index.json` when it has changed. Of a store without one, there is nothing."""

    def __init__(self, store: LocalStore | None) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._listing = _Listing(None)

    @classmethod
    def of(cls, store: Store) -> "Foreign":
        """Of any store."""
        return cls(store if isinstance(store, LocalStore) else None)

    def about(self, digests: Iterable[Digest]) -> Attached:
        """What belongs to these manifests."""
        if self._store is None:
            return _NOTHING
        listing = self._current(self._store)
        if not listing.documents:
            return _NOTHING
        known = dict.fromkeys(digests)
        manifests: dict[Digest, ForeignDocument] = {}
        blobs: dict[Digest, int] = {}
        tags: dict[str, Digest] = {}
        todo = list(known)
        while todo:
            digest = todo.pop()
            named = listing.names.get(f"{digest.algorithm}-{digest.hex}", {})
            tags |= named
            for each in (*(item.digest for item in listing.about.get(digest, ())), *named.values()):
                for found in _with_parts(each, listing):
                    if found not in manifests:
                        manifests[found] = document = listing.documents[found]
                        blobs |= {part.digest: part.size for part in document.parsed.parts() if not part.is_manifest}
                        todo.append(found)
        return Attached(manifests, blobs, listing.about, tags)

    def _current(self, store: LocalStore) -> _Listing:
        path = store.path / "index.json"
        try:
            with store_errors("look at", path):
                found = path.lstat()
        except FluxSrcError:
            return _Listing(None)  # an empty store has none
        identity = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        with self._lock:
            if self._listing.identity != identity:
                self._listing = _read(store, identity, self._listing.documents)
            return self._listing


def _read(store: LocalStore, identity: tuple[int, ...], known: Mapping[Digest, ForeignDocument]) -> _Listing:
    repository = LayoutRepository(str(store.path), DEFAULT_LIMITS, Operation(None))
    path = store.path / "index.json"
    documents: dict[Digest, ForeignDocument] = {}
    about: dict[Digest, list[Descriptor]] = {}
    names: dict[str, dict[str, Digest]] = {}
    try:
        with store_errors("read", path), os.fdopen(open_regular(path, what="index.json"), "rb") as stream:
            index = parse_document(stream.read(), where=str(path), media_type=INDEX_MEDIA_TYPE)
    except FluxSrcError as exc:
        _log.warning("nothing that other tools attached is served: %s", exc)
        return _Listing(identity)
    for line in index.parts():
        if line.is_manifest and _OURS not in line.annotations:
            try:
                _load(line, repository, documents, known)
            except FluxSrcError as exc:
                _log.warning("what another tool attached is not served: %s", exc)
                continue
            if (name := line.annotations.get(_REF_NAME)) is not None and _TAG_ABOUT.fullmatch(name):
                names.setdefault(name.partition(".")[0], {})[name] = line.digest
            parsed = documents[line.digest].parsed
            if parsed.subject is not None:
                kind = parsed.artifact_type or (parsed.config.media_type if isinstance(parsed, Manifest) else None)
                facts = attrs.evolve(line, annotations=parsed.annotations, artifact_type=kind)
                about.setdefault(parsed.subject.digest, []).append(facts)
    return _Listing(identity, documents, about, names)


def _load(
    line: Descriptor,
    repository: LayoutRepository,
    documents: dict[Digest, ForeignDocument],
    known: Mapping[Digest, ForeignDocument],
) -> None:
    """Read a document and those it holds; what was read before is not read again, as a digest has but one document."""
    todo = [line]
    while todo:
        item = todo.pop()
        if item.digest in documents:
            continue
        found = known.get(item.digest)
        if found is None:
            data = repository.document(str(item.digest)).data
            found = ForeignDocument(data, parse_document(data, where=str(item.digest), media_type=item.media_type))
        documents[item.digest] = found
        todo += [part for part in found.parsed.parts() if part.is_manifest]


def _with_parts(digest: Digest, listing: _Listing) -> Iterator[Digest]:
    """A document and the documents it holds."""
    todo, seen = [digest], set[Digest]()
    while todo:
        each = todo.pop()
        document = listing.documents.get(each)
        if each not in seen and document is not None:
            seen.add(each)
            yield each
            todo += [part.digest for part in document.parsed.parts() if part.is_manifest]

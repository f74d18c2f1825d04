"""Publishing: `build` an archive, `push` a source or a stored artifact."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import attrs

from fluxsrc._io.atomic import replacing, store_errors, write_all
from fluxsrc._io.hashing import HashingWriter
from fluxsrc.artifact import CONFIG_MEDIA_TYPE, Artifact, SourceKey
from fluxsrc.digest import Digest
from fluxsrc.errors import ArtifactNotFoundError, ConfigurationError
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.oci.access import Access, open_repository
from fluxsrc.oci.manifest import MANIFEST_MEDIA_TYPE, Descriptor, artifact_documents
from fluxsrc.oci.reference import LayoutReference, Reference, check_name, parse_reference
from fluxsrc.oci.repository import Document, Repository
from fluxsrc.operation import Operation
from fluxsrc.source import Source
from fluxsrc.store import Ingest, Store
from fluxsrc.tarball.tree import Spool

__all__ = ["Pushed", "build", "push"]

_DEFAULT_TAG: Final = "latest"
_PIECE: Final = 1 << 20


@attrs.frozen
class Pushed:
    """What a push did.

    Attributes:
        reference: Where it is now, with tag and digest.
        digest: Of the manifest.
        artifact: What was pushed.
        uploaded: Bytes that travelled; what the registry had already did not.
    """

    reference: Reference | LayoutReference
    digest: Digest
    artifact: Artifact
    uploaded: int


def push(
    what: Source | Artifact,
    destination: str | Reference | LayoutReference,
    /,
    *,
    store: Store | None = None,
    annotations: Mapping[str, str] | None = None,
    attach: Callable[[Repository, Document], object] | None = None,
    access: Access | None = None,
    operation: Operation | None = None,
) -> Pushed:
    """Publish a source, or an artifact of a store, so that Flux and every OCI tool can use it.

    1. Make the artifact, unless it is one. A stored artifact is never packed again.
    2. Upload its config and its layer, unless the registry has them.
    3. Write the manifest under the tag: from now on it is there, and before it was not.

    The manifest is a function of content and annotations: `created` is the revision's own time, or absent.

    Args:
        what: A source, or an artifact of `store`.
        destination: `oci://HOST/REPOSITORY[:TAG]` or `oci-layout:PATH[:NAME]`; "latest" without a tag.
        store: Where the artifact is.
        annotations: More facts for the manifest; they replace the artifact's of the same name.
        attach: Called before the tag is moved, when the manifest is there by its digest: for what must not be missing once
            the tag shows it, such as a signature.
        access: How the registry is reached.
        operation: The deadline, cancel switch and progress callback.

    Raises:
        ConfigurationError: The destination has a digest, or the artifact no store.
    """
    access, operation = access or Access(), operation or Operation()
    target = _target(destination)
    if isinstance(what, Artifact):
        if store is None:
            raise ConfigurationError("an artifact is pushed from the store that holds it: give store=")
        return _push(what, store, target, annotations, attach, access, operation)
    with contextlib.closing(_Capture()) as captured:
        artifact = what.produce_artifact(captured, operation=operation)  # 1
        return _push(artifact, captured, target, annotations, attach, access, operation)


def build(source: Source, output: Path, /, *, operation: Operation | None = None) -> Artifact:
    """Pack a source into a file: the very bytes that `push` would upload as the layer.

    Raises:
        StoreError: The file cannot be written; nothing is left behind.
    """
    operation = operation or Operation()
    with contextlib.closing(_Capture()) as captured:
        artifact = source.produce_artifact(captured, operation=operation)
        with (
            store_errors("write", output),
            replacing(output, scratch=output.absolute().parent, durable=False) as descriptor,
            contextlib.closing(captured.open(artifact)) as stream,
        ):
            while data := stream.read(_PIECE):
                write_all(descriptor, data)
            os.fchmod(descriptor, 0o644)
    return artifact


def _push(
    artifact: Artifact,
    store: Store,
    target: Reference | LayoutReference,
    annotations: Mapping[str, str] | None,
    attach: Callable[[Repository, Document], object] | None,
    access: Access,
    operation: Operation,
) -> Pushed:
    config, manifest = artifact_documents(artifact, annotations)
    layer = Descriptor(media_type=artifact.media_type, digest=artifact.digest, size=artifact.size)
    described = Descriptor.of(manifest, MANIFEST_MEDIA_TYPE)
    uploaded = 0

    def blob() -> AbstractContextManager[BinaryIO]:
        return contextlib.closing(store.open(artifact))

    with open_repository(target, access, operation) as repository:
        for part, source in (
            (Descriptor.of(config, CONFIG_MEDIA_TYPE), lambda: contextlib.closing(BytesIO(config))),
            (layer, blob),
        ):
            if repository.push(part, source):  # 2
                uploaded += part.size
        document = Document(described, manifest)
        if attach is not None:
            repository.push_document(document)
            attach(repository, document)
        repository.push_document(document, tag=target.tag)  # 3
    return Pushed(attrs.evolve(target, digest=described.digest), described.digest, artifact, uploaded)


def _target(destination: str | Reference | LayoutReference) -> Reference | LayoutReference:
    target = parse_reference(destination) if isinstance(destination, str) else destination
    if target.digest is not None:
        raise ConfigurationError(f"{target}: a digest is what comes out of a push", hint="name a tag")
    return attrs.evolve(target, tag=check_name(target, target.tag or _DEFAULT_TAG))


class _Capture:
    """A store for one artifact, so that pushing a source runs the same algorithm as storing it."""

    def __init__(self) -> None:
        self._spools: dict[Digest, Spool] = {}
        self._current: Artifact | None = None

    def lookup(self, _key: SourceKey, /) -> Artifact | None:
        return None

    def history(self, _key: SourceKey, /) -> Sequence[Artifact]:
        return ()

    def sources(self) -> Iterator[SourceKey]:
        return iter(())

    @contextlib.contextmanager
    def ingest(self) -> Iterator[Ingest]:
        blob = _Blob(Spool())
        try:
            yield blob
        finally:
            if blob.spool not in self._spools.values():
                blob.spool.close()

    def put(self, artifact: Artifact, ingest: Ingest | None = None, /, *, index: bytes | None = None) -> Artifact:
        del index
        assert isinstance(ingest, _Blob)
        self._spools[artifact.digest] = ingest.spool
        return artifact

    def index(self, _artifact: Artifact, /) -> bytes | None:
        return None

    def open(self, artifact: Artifact, /) -> BinaryIO:
        return self._spools[artifact.digest].open()

    def extract(
        self,
        artifact: Artifact,
        _destination: Path,
        /,
        *,
        limits: Limits = DEFAULT_LIMITS,
        operation: Operation | None = None,
    ) -> None:
        del limits, operation
        raise ArtifactNotFoundError(f"{artifact.digest} is on its way to somewhere else")

    def close(self) -> None:
        for spool in self._spools.values():
            spool.close()


class _Blob:
    """An ingest into a spool."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self._hashing = HashingWriter(spool)

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        return self._hashing.write(data)

    @property
    def digest(self) -> Digest:
        return self._hashing.digest

    @property
    def size(self) -> int:
        return self._hashing.size


if TYPE_CHECKING:
    _: Store = _Capture()

"""`OCISource`: an artifact, a chart or an image in a registry or an image layout, as a `Source`."""

import contextlib
import datetime as dt
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

import attrs

from fluxsrc import tarball
from fluxsrc._lazy import later
from fluxsrc.artifact import ANNOTATION_CREATED
from fluxsrc.auth import Keychain, Proxy, TLSConfig
from fluxsrc.digest import Digest
from fluxsrc.entry import Entry, Skipped
from fluxsrc.errors import ConfigurationError, PathNotFoundError, RevisionNotFoundError, SourceChangedError
from fluxsrc.oci.access import Access, open_repository
from fluxsrc.oci.layers import (
    LayerOperation,
    build_tree,
    content_of,
    is_archive,
    naming,
    not_an_archive,
    select_layers,
)
from fluxsrc.oci.manifest import Descriptor, Index, Manifest, Platform, parse_document
from fluxsrc.oci.reference import LayoutReference, Reference, is_tag, parse_digest, parse_reference
from fluxsrc.oci.repository import Document, Repository
from fluxsrc.oci.stream import as_binary, reading
from fluxsrc.oci.tokens import TokenCache
from fluxsrc.operation import Operation
from fluxsrc.produce import Earlier, Packing, SourceOptions
from fluxsrc.revision import Revision
from fluxsrc.signatures.kinds import SignatureKind, kinds_of
from fluxsrc.snapshot import ShownSnapshot, read_ignore_files
from fluxsrc.source import Snapshot, Source
from fluxsrc.store import Ingest
from fluxsrc.tarball.tree import FileTree, Spool
from fluxsrc.verify import Facts, split_policy

if TYPE_CHECKING:
    from fluxsrc import semver as versions
    from fluxsrc.oci import evidence as evidences
    from fluxsrc.oci import indexes
else:
    evidences = later("fluxsrc.oci.evidence")  # most sources have no policy
    indexes = later("fluxsrc.oci.indexes")  # most references are no index
    versions = later("fluxsrc.semver")  # most sources follow a tag, and version ranges cost as much as the whole pull

__all__ = ["OCISource"]

_DEFAULT_TAG: Final = "latest"
_HELM_CHART: Final = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
_PIECE: Final = 1 << 20


def _reference(value: str | Reference | LayoutReference) -> Reference | LayoutReference:
    return parse_reference(value) if isinstance(value, str) else value


def _digest(value: "str | Digest | None") -> Digest | None:
    return parse_digest(value) if isinstance(value, str) else value


def _platform(value: "str | Platform | None") -> Platform | None:
    return Platform.parse(value) if isinstance(value, str) else value


@attrs.frozen(kw_only=True, repr=False)
class OCISource(SourceOptions):
    """A source over an OCI repository: Flux artifacts, Helm charts, ORAS artifacts, plain files, container images.

    What it follows: `digest` before `semver` before `tag`, as in Flux; without any of them the reference's own digest
    or tag, and in the end the tag `latest`, or the only manifest of a layout. Its revision is `TAG@sha256:…`, of a pinned digest `sha256:…`; of an image
    index it is the index's digest. Resolving costs one HEAD, and for semver a list of the tags; a pinned digest costs
    nothing. Blobs are verified as a whole before anything in them is used.

    Attributes:
        reference: `oci://HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]` or `oci-layout:PATH[:NAME]`.
        tag: The tag to follow.
        semver: A version range; the highest tag in it is followed.
        semver_filter: A regular expression; only tags it is found in count. A group may say which part is the version.
        digest: The one manifest.
        layer: A media type: the first layer of it is the content. Otherwise the first layer is.
        layer_operation: "extract", "copy" (byte for byte), "image" (all layers, as a container's root) or "files".
        platform: "OS/ARCHITECTURE[/VARIANT]", where an index offers several.
        keychain: Answers which credentials to use.
        tls: How the registry proves who it is, and how we do.
        proxy: For all connections.
        insecure: Plain HTTP.
        tokens: Bearer tokens until they expire; give several sources one object to log in once for all of them.
        verify: What has to hold of the manifest, such as `CosignKeySignature`, checked before a layer is asked for; or of
            the content.
    """

    _evidence = frozenset(kind.value for kind in SignatureKind)

    reference: Reference | LayoutReference = attrs.field(
        converter=_reference, kw_only=False, repr=lambda reference: repr(str(reference))
    )
    tag: str | None = None
    semver: str | None = attrs.field(
        default=None, validator=lambda _s, _f, value: value and versions.Range.parse(value)
    )
    semver_filter: str | None = attrs.field(
        default=None, validator=lambda _s, _f, value: value and versions.TagPattern.parse(value)
    )
    digest: Digest | None = attrs.field(default=None, converter=_digest)
    layer: str | None = None
    layer_operation: LayerOperation = attrs.field(default=LayerOperation.EXTRACT, converter=LayerOperation)
    platform: Platform | None = attrs.field(default=None, converter=_platform)
    keychain: Keychain | None = attrs.field(default=None, repr=False)
    tls: TLSConfig = attrs.field(factory=TLSConfig)
    proxy: Proxy | None = None
    insecure: bool = False
    tokens: TokenCache = attrs.field(factory=TokenCache, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.tag is not None and isinstance(self.reference, Reference) and not is_tag(self.tag):
            raise ConfigurationError(f"not a tag: {self.tag[:130]!r}")
        if self.semver_filter is not None and self.semver is None:
            raise ConfigurationError("semver_filter needs semver")

    @property
    def kind(self) -> str:
        """Always "ocirepository"."""
        return "ocirepository"

    @property
    def url(self) -> str:
        """The reference with what is followed in it, what is taken of it as options, and the sub-path as fragment."""
        options: dict[str, str | None] = {}
        if self._pinned is not None:
            name = str(attrs.evolve(self.reference, digest=self._pinned))
        elif self.semver is not None:
            name = self.reference.name
            options = {"semver": self.semver, "filter": self.semver_filter}
        elif isinstance(self.reference, LayoutReference) and not (self.tag or self.reference.tag):
            name = self.reference.name  # the only one in it, perhaps, and without a name there, too
        else:
            name = f"{self.reference.name}:{self._followed}"
        options |= {
            "layer": self.layer,
            "operation": None if self.layer_operation is LayerOperation.EXTRACT else self.layer_operation.value,
            "platform": None if self.platform is None else str(self.platform),
        }
        query = urlencode({key: value for key, value in options.items() if value is not None}, safe="/")
        return name + (f"?{query}" if query else "") + (f"#path={quote(self.path)}" if self.path else "")

    @property
    def access(self) -> Access:
        """How the registry is reached."""
        return Access(
            keychain=self.keychain,
            tls=self.tls,
            proxy=self.proxy,
            insecure=self.insecure,
            limits=self.limits,
            tokens=self.tokens,
        )

    def resolve_revision(self, *, operation: Operation | None = None) -> Revision:
        """One HEAD; see `Source`."""
        operation = self._operation(operation)
        operation.check("resolve", url=self.url)
        if self._pinned is not None:
            return Revision(self._pinned)
        with open_repository(self.reference, self.access, operation) as repository:
            tag = self._followed if self.semver is None else self._highest(repository)
            return Revision(repository.resolve(tag).digest, tag)

    @contextlib.contextmanager
    def fetch(self, revision: Revision | None = None, /, *, operation: Operation | None = None) -> Iterator[Snapshot]:
        """The manifest now, the layers when they are first looked at; see `Source`."""
        operation = self._operation(operation)
        resolved = self.resolve_revision(operation=operation) if revision is None else revision
        with open_repository(self.reference, self.access, operation) as repository:
            try:
                top = repository.document(str(resolved.digest))
            except RevisionNotFoundError as exc:
                if self._pinned is not None:
                    raise
                raise SourceChangedError(f"{self.url}: {resolved.short} is not there any more", url=self.url) from exc
            # Of the very bytes that were resolved, and before anything they name is looked at.
            facts = self._verify(repository, top, resolved)
            manifest, annotations = self._manifest(repository, top)
            layers = select_layers(manifest, self.layer_operation, self.layer, limits=self.limits, where=self.url)
            snapshot = _OCISnapshot(self, resolved, repository, layers, annotations, facts, operation)
            with contextlib.closing(snapshot), self._guarded(snapshot, operation) as guarded:
                yield guarded

    def pull(self, destination: Path, /, *, operation: Operation | None = None) -> Revision:
        """Unpack the selected layer into a directory that is not there yet or is empty, as `flux pull artifact` does.

        The layer as it is: nothing is filtered, and nothing packed again. All of it, verified, or nothing.

        Raises:
            ConfigurationError: The destination is in use, or the layers are to be more than extracted.
            ContentError: The layer is no archive, unsafe, over a limit, or not what its digest says.
        """
        if self.layer_operation is not LayerOperation.EXTRACT:
            raise ConfigurationError(f"pull extracts one layer; {self.layer_operation} is the store's business")
        if split_policy(self.verify)[1] is not None:
            raise ConfigurationError(
                "the policy is about what an artifact holds, and pull makes none", hint="produce_artifact, then extract"
            )
        with self.fetch(operation=operation) as snapshot:
            assert isinstance(snapshot, _OCISnapshot)
            snapshot.unpack(destination)
            return snapshot.revision

    def _manifest(self, repository: Repository, top: Document) -> tuple[Manifest, Mapping[str, str]]:
        """The manifest that has the layers, chosen from an index if need be, and all annotations on the way to it."""
        parsed = parse_document(top.data, where=self.url, media_type=top.descriptor.media_type or None)
        if isinstance(parsed, Index):
            return indexes.choose(repository, parsed, self.platform, limits=self.limits, where=self.url)
        return parsed, parsed.annotations

    def _verify(self, repository: Repository, top: Document, revision: Revision) -> Facts:
        """Hold a manifest against the policy: 1. collect the evidence, 2. check it, 3. return what was found out."""
        policy, _ = split_policy(self.verify)
        if policy is None:
            return ()
        subject = f"{self.url} at {revision.short}"
        evidence = evidences.collect(repository, top, kinds_of(policy.needs), subject=subject, limits=self.limits)
        return policy.check(evidence)

    @property
    def _pinned(self) -> Digest | None:
        if self.digest is not None:
            return self.digest
        return self.reference.digest if self.semver is None and self.tag is None else None

    @property
    def _followed(self) -> str:
        return self.tag or self.reference.tag or _DEFAULT_TAG

    def _highest(self, repository: Repository) -> str:
        assert self.semver is not None
        pattern = versions.TagPattern.parse(self.semver_filter) if self.semver_filter else None
        found = versions.select_tag(
            repository.tags(), versions.Range.parse(self.semver), pattern, helm=self.layer == _HELM_CHART
        )
        if found is None:
            filtered = f" among those that match {self.semver_filter!r}" if self.semver_filter else ""
            raise RevisionNotFoundError(
                f"{self.reference.name} has no tag in the range {self.semver!r}{filtered}", url=self.url
            )
        return found.tag

    def _recipe_options(self) -> tuple[tuple[str, str], ...]:
        options = {
            "layer": self.layer,
            "layer_operation": None if self.layer_operation is LayerOperation.EXTRACT else self.layer_operation.value,
            "platform": None if self.platform is None else str(self.platform),
        }
        return tuple(sorted((name, value) for name, value in options.items() if value is not None))

    def _pack_snapshot(
        self, snapshot: Snapshot, blob: Ingest, earlier: Earlier | None, operation: Operation
    ) -> Packing:
        if self.layer_operation is not LayerOperation.COPY:
            return super()._pack_snapshot(snapshot, blob, earlier, operation)
        assert isinstance(snapshot, _OCISnapshot)
        return snapshot.copy_layer(blob)


class _OCISnapshot(ShownSnapshot):
    """The files of one manifest; its layers are downloaded when the first of them is asked for."""

    def __init__(
        self,
        source: OCISource,
        revision: Revision,
        repository: Repository,
        layers: tuple[Descriptor, ...],
        annotations: Mapping[str, str],
        verification: Facts,
        operation: Operation,
    ) -> None:
        self.revision = revision
        self.annotations = annotations
        self.created = _time(annotations.get(ANNOTATION_CREATED))
        self.skipped: Sequence[Skipped] = ()
        self.verification = verification
        self._source = source
        self._repository = repository
        self._layers = layers
        self._operation = operation
        self._tree: FileTree | None = None
        self._entries: list[Entry] | None = None
        self._lock = threading.Lock()
        self._closed = False

    @property
    def tree_id(self) -> str:
        """The layers' digests: what the files are is decided by nothing else."""
        return "oci:" + "+".join(str(layer.digest) for layer in self._layers)

    def ignore_files(self) -> Mapping[str, str]:
        """The text of each `.sourceignore`, by directory."""
        return read_ignore_files(self._listing(), limits=self._source.limits)

    def entries(self) -> Iterator[Entry]:
        """A new iteration over the files."""
        return iter(self._listing())

    def unpack(self, destination: Path) -> None:
        """The selected layer as a directory."""
        (layer,) = self._layers
        with naming(layer, where=self._repository.name), reading(self._repository, layer) as stream:
            if not is_archive(layer, stream):
                raise not_an_archive(layer, where=self._source.url)
            # Into a directory that only `unpack` knows of, until the stream has come to its end and is known to be good.
            tarball.unpack(as_binary(stream), destination, limits=self._source.limits, operation=self._operation)

    def copy_layer(self, blob: Ingest) -> Packing:
        """The selected layer, byte for byte."""
        (layer,) = self._layers
        with contextlib.closing(Spool()) as spool:
            self._repository.fetch(layer, spool)
            content, size = content_of(layer, spool, self._source.limits)
            stream = spool.open()
            while data := stream.read(_PIECE):
                self._operation.check("store")
                blob.write(data)
        return Packing(tarball.Packed(content, size, 0, None), layer.media_type)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._tree is not None:
                self._tree.close()

    def _listing(self) -> list[Entry]:
        with self._lock:
            if self._closed:
                raise ConfigurationError("the snapshot is closed")
            if self._entries is None:
                source = self._source
                how = source.layer_operation
                how = LayerOperation.EXTRACT if how is LayerOperation.COPY else how
                self._tree = build_tree(
                    self._repository, self._layers, how, limits=source.limits, operation=self._operation
                )
                self._entries = self._tree.entries(source.path)
                self.skipped = self._tree.skipped(source.path)
                if source.path and not self._entries:
                    raise PathNotFoundError(f"{source.url}: no such path: {source.path}", url=source.url)
            return self._entries


def _time(text: str | None) -> dt.datetime | None:
    """An annotation's time; None if it is none, or does not say in which zone."""
    try:
        time = dt.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return None if time.tzinfo is None else time


if TYPE_CHECKING:
    _: Source = OCISource("oci://host/repository")

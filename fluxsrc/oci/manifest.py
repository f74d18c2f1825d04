"""Manifests and indexes as values: strict to read, deterministic to write. Bytes in, values out."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from fluxsrc.artifact import CONFIG_MEDIA_TYPE, Artifact
from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, RemoteProtocolError, RevisionNotFoundError

__all__ = [
    "ACCEPT",
    "EMPTY_CONFIG",
    "INDEX_MEDIA_TYPE",
    "MANIFEST_MEDIA_TYPE",
    "Descriptor",
    "Index",
    "Manifest",
    "Platform",
    "artifact_documents",
    "canonical_json",
    "parse_document",
]

MANIFEST_MEDIA_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX_MEDIA_TYPE: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPT: Final = f"{MANIFEST_MEDIA_TYPE}, {INDEX_MEDIA_TYPE}, {DOCKER_MANIFEST}, {DOCKER_INDEX}"
EMPTY_CONFIG: Final = b"{}"
_MANIFESTS: Final = frozenset({MANIFEST_MEDIA_TYPE, DOCKER_MANIFEST})
_INDEXES: Final = frozenset({INDEX_MEDIA_TYPE, DOCKER_INDEX})
_SCHEMA_VERSION: Final = 2
_USUAL_VARIANTS: Final = {"arm": "v7", "arm64": "v8", "amd64": "v1"}
"""What is meant where no variant is written."""


def _mapping(value: Mapping[str, str]) -> Mapping[str, str]:
    return dict(sorted(value.items()))


@attrs.frozen
class Platform:
    """What a child of an index is for.

    >>> str(Platform.parse("linux/arm64/v8"))
    'linux/arm64/v8'
    """

    os: str
    architecture: str
    variant: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Platform":
        """Read `OS/ARCHITECTURE[/VARIANT]`.

        Raises:
            ConfigurationError: It is not of this form.
        """
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(part and part.isascii() and part.isprintable() for part in parts):
            raise ConfigurationError(f"not a platform: {text[:80]!r}", hint="write OS/ARCHITECTURE, as linux/amd64")
        return cls(*parts)

    def matches(self, wanted: "Platform") -> bool:
        """Whether this one will do where `wanted` is asked for; a variant counts only if one is asked for."""
        same = (self.os, self.architecture) == (wanted.os, wanted.architecture)
        return same and (wanted.variant is None or self._variant == wanted.variant)

    @property
    def is_usual(self) -> bool:
        """Whether it is what its architecture means where no variant is written."""
        return self._variant == _USUAL_VARIANTS.get(self.architecture)

    @property
    def _variant(self) -> str | None:
        return self.variant or _USUAL_VARIANTS.get(self.architecture)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@attrs.frozen(kw_only=True)
class Descriptor:
    """What a manifest says about a blob or another manifest.

    Attributes:
        media_type: What it is.
        digest: Of its bytes.
        size: Of its bytes.
        annotations: Facts about it.
        platform: In an index: what it is for.
        artifact_type: In a list of referrers: what it is.
    """

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = attrs.field(factory=dict, converter=_mapping, hash=False)
    platform: Platform | None = None
    artifact_type: str | None = None

    @classmethod
    def of(cls, data: bytes, media_type: str, annotations: Mapping[str, str] | None = None) -> "Descriptor":
        """The descriptor of some bytes."""
        return cls(media_type=media_type, digest=Digest.of(data), size=len(data), annotations=annotations or {})

    @property
    def is_index(self) -> bool:
        """Whether it describes an index."""
        return self.media_type in _INDEXES

    @property
    def is_manifest(self) -> bool:
        """Whether it describes a manifest or an index, and not a blob."""
        return self.media_type in _MANIFESTS or self.is_index

    @property
    def is_foreign(self) -> bool:
        """Whether it describes a layer that its owner lets nobody hand on, as Windows' are: a registry may have it, or not."""
        return "nondistributable" in self.media_type or ".foreign." in self.media_type

    def to_json(self) -> dict[str, Any]:
        """As it stands in a document."""
        value: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        if self.platform is not None:
            value["platform"] = {"os": self.platform.os, "architecture": self.platform.architecture}
            if self.platform.variant is not None:
                value["platform"]["variant"] = self.platform.variant
        if self.artifact_type is not None:
            value["artifactType"] = self.artifact_type
        return value


@attrs.frozen(kw_only=True, repr=False)
class Manifest:
    """A config and some layers.

    Attributes:
        config: The config blob.
        layers: The layers, lowest first.
        annotations: Facts about the whole.
        subject: The manifest this one is about (a signature's image), or None.
        artifact_type: What it is, where the config does not say.
        media_type: OCI's, or Docker's.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = attrs.field(factory=dict, converter=_mapping, hash=False)
    subject: Descriptor | None = None
    artifact_type: str | None = None
    media_type: str = MANIFEST_MEDIA_TYPE

    def encode(self) -> bytes:
        """Its bytes; equal manifests, equal bytes."""
        value: dict[str, Any] = {
            "schemaVersion": _SCHEMA_VERSION,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        return _encode(value, self.annotations, self.subject, self.artifact_type)

    def parts(self) -> Iterator[Descriptor]:
        """Everything it needs to be whole: config and layers, each once. Not what may not be distributed with it."""
        kept = (layer for layer in self.layers if not layer.is_foreign)
        return iter(dict.fromkeys((self.config, *kept)))

    def listed_as(self, descriptor: Descriptor) -> Descriptor:
        """Its line in a list of referrers, given its descriptor."""
        kind = self.artifact_type or self.config.media_type
        return attrs.evolve(descriptor, annotations=self.annotations, artifact_type=kind)


@attrs.frozen(kw_only=True, repr=False)
class Index:
    """A choice of manifests.

    Attributes:
        manifests: What there is to choose from.
        annotations: Facts about the whole.
        subject: The manifest this one is about, or None.
        artifact_type: What it is.
        media_type: OCI's, or Docker's.
    """

    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = attrs.field(factory=dict, converter=_mapping, hash=False)
    subject: Descriptor | None = None
    artifact_type: str | None = None
    media_type: str = INDEX_MEDIA_TYPE

    def encode(self) -> bytes:
        """Its bytes; equal indexes, equal bytes."""
        value: dict[str, Any] = {
            "schemaVersion": _SCHEMA_VERSION,
            "mediaType": self.media_type,
            "manifests": [manifest.to_json() for manifest in self.manifests],
        }
        return _encode(value, self.annotations, self.subject, self.artifact_type)

    def parts(self) -> Iterator[Descriptor]:
        """Everything it needs to be whole, each once."""
        return iter(dict.fromkeys(self.manifests))

    def listed_as(self, descriptor: Descriptor) -> Descriptor:
        """Its line in a list of referrers, given its descriptor."""
        return attrs.evolve(descriptor, annotations=self.annotations, artifact_type=self.artifact_type)

    def choose(self, platform: Platform | None, *, where: str) -> Descriptor:
        """What it lists for a platform; the only one, if none is asked for and there is but one.

        Of several variants where none is asked for, the one that is usual: `linux/arm` is `linux/arm/v7`. Attestations, which BuildKit lists beside images with an unknown platform, are not chosen.
        For what the indexes in it list, see `fluxsrc.oci.indexes.choose`.

        Raises:
            RevisionNotFoundError: There is none; the message names those there are.
            ConfigurationError: There are several, and nothing says which.
        """
        real = [m for m in self.manifests if m.platform is None or m.platform.os != "unknown"]
        if not real:
            raise RevisionNotFoundError(f"{where} is an index of nothing", url=where)
        names = ", ".join(str(m.platform or f"none ({m.digest.short})") for m in real)
        if platform is None:
            if len({m.digest for m in real}) == 1:
                return real[0]
            raise ConfigurationError(f"{where} is an index of {names}", hint="choose with platform='linux/amd64'")
        found = [(m.platform, m) for m in real if m.platform is not None and m.platform.matches(platform)]
        if not found:
            raise RevisionNotFoundError(f"{where} has nothing for {platform}, only {names}", url=where)
        return next((m for offered, m in found if offered.is_usual), found[0][1])


def parse_document(data: bytes, *, where: str, media_type: str | None = None) -> Manifest | Index:
    """Read a manifest or an index.

    Args:
        data: Its bytes, already held against its digest.
        where: Whose it is, for messages.
        media_type: What the registry, or the descriptor that led here, says it is.

    Raises:
        RemoteProtocolError: It is neither, or could be read as both (CVE-2021-41190).
    """
    value = _loads(data, where)
    stated = value.get("mediaType")
    kinds = {kind for kind in (stated, media_type) if isinstance(kind, str) and kind in _MANIFESTS | _INDEXES}
    if len(kinds) > 1 or ("manifests" in value and ("layers" in value or "config" in value)):
        raise RemoteProtocolError(f"{where}: a document that could be read in two ways", url=where)
    if value.get("schemaVersion") != _SCHEMA_VERSION:
        raise RemoteProtocolError(f"{where}: not a manifest of schema version 2", url=where)
    kind = next(iter(kinds), INDEX_MEDIA_TYPE if "manifests" in value else MANIFEST_MEDIA_TYPE)
    try:
        annotations = _annotations(value.get("annotations"))
        subject = value.get("subject")
        common: dict[str, Any] = {
            "annotations": annotations,
            "subject": None if subject is None else _descriptor(subject),
            "artifact_type": _text(value.get("artifactType")),
            "media_type": kind,
        }
        if kind in _INDEXES:
            return Index(manifests=tuple(_descriptor(item) for item in _list(value["manifests"])), **common)
        layers = tuple(_descriptor(item) for item in _list(value["layers"]))
        return Manifest(config=_descriptor(value["config"]), layers=layers, **common)
    except (KeyError, TypeError, ValueError) as exc:
        raise RemoteProtocolError(f"{where}: a malformed manifest: {exc}", url=where) from exc


def artifact_documents(artifact: Artifact, annotations: Mapping[str, str] | None = None) -> tuple[bytes, bytes]:
    """The config and the manifest of a stored artifact: the same bytes a store writes, unless there are more annotations."""
    config = canonical_json(
        {
            "architecture": "",
            "config": {},
            "os": "",
            "rootfs": {"diff_ids": [str(artifact.content_digest)], "type": "layers"},
        }
    )
    manifest = Manifest(
        config=Descriptor.of(config, CONFIG_MEDIA_TYPE),
        layers=(Descriptor(media_type=artifact.media_type, digest=artifact.digest, size=artifact.size),),
        annotations=dict(artifact.annotations) | dict(annotations or {}),
    )
    return config, manifest.encode()


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no spaces: the same value, the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _encode(
    value: dict[str, Any], annotations: Mapping[str, str], subject: Descriptor | None, artifact_type: str | None
) -> bytes:
    if annotations:
        value["annotations"] = dict(annotations)
    if subject is not None:
        value["subject"] = subject.to_json()
    if artifact_type is not None:
        value["artifactType"] = artifact_type
    return canonical_json(value)


def _loads(data: bytes, where: str) -> dict[str, Any]:
    def unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        items = list(pairs)
        result = dict(items)
        if len(result) != len(items):
            raise ValueError("a key is there twice")
        return result

    try:
        value = json.loads(data, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        value = None  # not chained: the library's error has all of the answer in it, which may quote what was sent
    if not isinstance(value, dict):
        kind = "HTML" if data[:40].lstrip().startswith(b"<") else "something that is no object in JSON"
        raise RemoteProtocolError(f"{where}: {kind} where a manifest was expected", url=where)
    return value


def _descriptor(value: Any) -> Descriptor:
    size = value["size"]
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError("a size that is none")
    media_type = value["mediaType"]
    if not isinstance(media_type, str):
        raise TypeError("a media type that is no text")
    platform = value.get("platform")
    return Descriptor(
        media_type=media_type,
        digest=Digest.parse(value["digest"]),
        size=size,
        annotations=_annotations(value.get("annotations")),
        platform=None if platform is None else _platform(platform),
        artifact_type=_text(value.get("artifactType")),
    )


def _platform(value: Any) -> Platform:
    if not isinstance(value, dict):
        raise TypeError("a platform that is not an object")
    return Platform(_text(value.get("os")) or "", _text(value.get("architecture")) or "", _text(value.get("variant")))


def _annotations(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise TypeError("annotations that are not pairs of text")
    return value


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError("something else where text was expected")
    return value


def _list(value: Any) -> list[Any]:
    if value is None:  # Go writes an empty list so
        return []
    if not isinstance(value, list):
        raise TypeError("something else where a list was expected")
    return value

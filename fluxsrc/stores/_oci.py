"""An artifact as OCI documents: config, manifest, and the index that lists what is current. Bytes out, no clock, no disk."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple

from fluxsrc.artifact import ANNOTATION_SOURCE_KEY, CONFIG_MEDIA_TYPE, Artifact, SourceKey
from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError

__all__ = [
    "INDEX_MEDIA_TYPE",
    "LAYOUT",
    "MANIFEST_MEDIA_TYPE",
    "Document",
    "Documents",
    "config_document",
    "descriptors",
    "documents",
    "is_layout",
    "merge_index",
    "own_key",
    "ref_name",
]

LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}\n'
MANIFEST_MEDIA_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX_MEDIA_TYPE: Final = "application/vnd.oci.image.index.v1+json"

_REF_NAME: Final = "org.opencontainers.image.ref.name"

_COMPONENT: Final = re.compile(r"[a-z0-9]+(?:(?:[-._]|--)[a-z0-9]+)*")
"""The part of OCI's grammar for reference names that a source key can reach."""


class Document(NamedTuple):
    """A small blob and its digest."""

    data: bytes
    digest: Digest

    @classmethod
    def of(cls, value: Any) -> "Document":
        """Canonical JSON: the same value, the same bytes."""
        data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
        return cls(data, Digest("sha256", hashlib.sha256(data).hexdigest()))


class Documents(NamedTuple):
    """What describes an artifact to OCI tools."""

    config: Document
    manifest: Document


def documents(artifact: Artifact) -> Documents:
    """The config and manifest of an artifact; a function of its content, media type and annotations alone."""
    config = config_document(str(artifact.content_digest))
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "config": {"mediaType": CONFIG_MEDIA_TYPE, "digest": str(config.digest), "size": len(config.data)},
        "layers": [{"mediaType": artifact.media_type, "digest": str(artifact.digest), "size": artifact.size}],
    }
    if artifact.annotations:
        manifest["annotations"] = dict(artifact.annotations)
    return Documents(config, Document.of(manifest))


def is_layout(data: bytes) -> bool:
    """Whether this is the content of an `oci-layout` file, ours or another tool's."""
    try:
        value = json.loads(data)
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("imageLayoutVersion") == "1.0.0"


def config_document(content_digest: str) -> Document:
    """The config of every artifact with this content."""
    return Document.of(
        {"architecture": "", "config": {}, "os": "", "rootfs": {"diff_ids": [content_digest], "type": "layers"}}
    )


def ref_name(key: SourceKey) -> str:
    """What to write behind `oci:DIRECTORY:` for a source: its key, made to fit OCI's grammar.

    The grammar has no `__`, `.-` and the like; such a name gets a `+` and sixteen digits of its hash instead, and as
    no source's name has a `+`, no two sources share a reference.

    >>> ref_name(SourceKey("gitrepository", "default", "podinfo"))
    'gitrepository/default/podinfo'
    >>> ref_name(SourceKey("gitrepository", "default", "a__b"))
    'gitrepository/default/a-b+63e5c1c455d01d5c'
    """
    return "/".join(_component(part) for part in (key.kind, key.namespace, key.name))


def _component(part: str) -> str:
    if _COMPONENT.fullmatch(part):
        return part
    return f"{re.sub(r'[-._]+', '-', part)}+{hashlib.sha256(part.encode()).hexdigest()[:16]}"


def merge_index(index: Mapping[str, Any], changes: Mapping[SourceKey, Artifact | None]) -> bytes:
    """`index.json` with these sources' entries replaced, or dropped where there is no artifact; sorted by name.

    Entries that other tools wrote are kept as they are.
    """
    ours: dict[str, Any] = {}
    foreign: list[Any] = []
    for entry in index.get("manifests", ()):
        key = own_key(entry)
        if key is None:
            foreign.append(entry)
        else:
            ours[str(key)] = entry
    for key, artifact in changes.items():
        if artifact is None:
            ours.pop(str(key), None)
        else:
            ours[str(key)] = _descriptor(key, artifact)
    merged = dict(index) | {
        "schemaVersion": 2,
        "mediaType": INDEX_MEDIA_TYPE,
        "manifests": [*foreign, *(entry for _, entry in sorted(ours.items()))],
    }
    return json.dumps(merged, separators=(",", ":")).encode()


def _descriptor(key: SourceKey, artifact: Artifact) -> dict[str, Any]:
    manifest = documents(artifact).manifest
    return {
        "mediaType": MANIFEST_MEDIA_TYPE,
        "digest": str(manifest.digest),
        "size": len(manifest.data),
        "annotations": {_REF_NAME: ref_name(key), ANNOTATION_SOURCE_KEY: str(key)},
    }


def own_key(entry: Mapping[str, Any]) -> SourceKey | None:
    """Whose entry of `index.json` this is, or None if another tool wrote it."""
    annotations = entry.get("annotations")
    name = annotations.get(ANNOTATION_SOURCE_KEY) if isinstance(annotations, dict) else None
    try:
        return SourceKey.parse(name) if isinstance(name, str) else None
    except ConfigurationError:
        return None


def descriptors(document: Any) -> Iterator[Mapping[str, Any]]:
    """Everything an OCI index or manifest points at directly."""
    if not isinstance(document, dict):
        return
    lists = [found for name in ("layers", "manifests") if isinstance(found := document.get(name), list)]
    parts: Iterable[Any] = chain((document.get("config"), document.get("subject")), *lists)
    yield from (part for part in parts if isinstance(part, dict) and isinstance(part.get("digest"), str))

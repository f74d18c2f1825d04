"""What a registry holds."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

__all__ = ["INDEX", "MANIFEST", "Repository", "digest_of"]

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"


def digest_of(data: bytes) -> str:
    """As registries write it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@attrs.define
class Repository:
    """One repository, open to whatever a test wants to do to it.

    Attributes:
        manifests: Media type and bytes, by digest.
        tags: Digests, by tag.
        blobs: Bytes, by digest.
        uploads: What arrived so far, by the name of the upload.
    """

    manifests: dict[str, tuple[str, bytes]] = attrs.field(factory=dict)
    tags: dict[str, str] = attrs.field(factory=dict)
    blobs: dict[str, bytes] = attrs.field(factory=dict)
    uploads: dict[str, bytearray] = attrs.field(factory=dict)

    def put(
        self,
        tag: str | None,
        layers: Sequence[tuple[str, bytes] | tuple[str, bytes, Mapping[str, str]]],
        annotations: Mapping[str, str] | None,
        config: tuple[str, bytes],
        subject: str | None,
        artifact_type: str | None,
    ) -> str:
        """Make a manifest; see `Registry.put`."""
        value: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._blob(*config),
            "layers": [self._blob(*layer) for layer in layers],
        }
        if annotations:
            value["annotations"] = dict(annotations)
        if artifact_type:
            value["artifactType"] = artifact_type
        if subject:
            value["subject"] = {"mediaType": MANIFEST, "digest": subject, "size": len(self.manifests[subject][1])}
        return self.put_document(tag, json.dumps(value).encode(), MANIFEST)

    def put_index(self, tag: str | None, children: Mapping[str, str]) -> str:
        """Make an index; see `Registry.put_index`."""
        manifests = []
        for platform, digest in children.items():
            system, architecture, *variant = platform.split("/")
            described: dict[str, Any] = {"os": system, "architecture": architecture}
            described |= {"variant": variant[0]} if variant else {}
            size = len(self.manifests[digest][1])
            manifests.append({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": described})
        value = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        return self.put_document(tag, json.dumps(value).encode(), INDEX)

    def put_document(self, tag: str | None, data: bytes, media_type: str) -> str:
        """Hold a manifest or index as it is, and return its digest."""
        self.manifests[digest_of(data)] = (media_type, data)
        if tag is not None:
            self.tags[tag] = digest_of(data)
        return digest_of(data)

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """The descriptors of the manifests whose subject this is."""
        found = []
        for key, (media_type, data) in self.manifests.items():
            value = json.loads(data)
            if (value.get("subject") or {}).get("digest") == digest:
                item = {"mediaType": media_type, "digest": key, "size": len(data)}
                kind = value.get("artifactType") or (value.get("config") or {}).get("mediaType")
                found.append(item | ({"artifactType": kind} if kind else {}))
        return found

    def _blob(self, media_type: str, data: bytes, notes: Mapping[str, str] | None = None) -> dict[str, Any]:
        self.blobs[digest_of(data)] = data
        value: dict[str, Any] = {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}
        return value | ({"annotations": dict(notes)} if notes else {})

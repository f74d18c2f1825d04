"""Artifacts at the URLs that Flux gives them: `<kind>/<namespace>/<name>/<revision>.tar.gz`, and `latest`."""

from typing import Final

from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.errors import ArtifactNotFoundError, ConfigurationError
from fluxsrc.server._blobs import Blob
from fluxsrc.server._serve import Representation
from fluxsrc.status import artifact_path
from fluxsrc.store import Store

__all__ = ["artifact_at"]

_LATEST: Final = frozenset({"latest", "latest.tar.gz"})
"""The second one is the link that source-controller keeps beside its archives."""
_PARTS: Final = 4
_MEDIA_TYPES: Final = {"gzip": "application/gzip", "zstd": "application/zstd"}


def artifact_at(path: str, store: Store) -> Representation:
    """What is at a path below the prefix.

    Raises:
        ArtifactNotFoundError: Nothing.
    """
    parts = path.split("/")
    if len(parts) != _PARTS:
        raise ArtifactNotFoundError("not a path of an artifact")
    try:
        key = SourceKey(*parts[:3])
    except ConfigurationError as exc:
        raise ArtifactNotFoundError("not a path of an artifact") from exc
    artifact = _find(store, key, parts[3], path)
    if artifact is None:
        raise ArtifactNotFoundError(f"{key} has no such artifact")
    return Representation(
        digest=artifact.digest,
        media_type=_MEDIA_TYPES.get(artifact.media_type.rpartition("+")[2], "application/x-tar"),
        body=Blob(artifact.digest, artifact.size, artifact),
        modified=artifact.observed,
    )


def _find(store: Store, key: SourceKey, file: str, path: str) -> Artifact | None:
    current = store.lookup(key)
    if current is None or file in _LATEST or artifact_path(current) == path:
        return current
    return next((artifact for artifact in store.history(key) if artifact_path(artifact) == path), None)

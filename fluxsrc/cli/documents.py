"""The library's values as JSON: keys are stable, and documented in the reference of the command line."""

import datetime as dt
from collections.abc import Iterable
from typing import Any

from fluxsrc.artifact import Artifact
from fluxsrc.entry import Skipped
from fluxsrc.revision import Revision

__all__ = [
    "artifact_document",
    "revision_document",
    "signed_by",
    "skipped_documents",
    "time_text",
]


def time_text(moment: dt.datetime | None) -> str | None:
    """RFC 3339 in UTC, to the second; None stays None."""
    return None if moment is None else moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def revision_document(revision: Revision) -> dict[str, Any]:
    """Its text, and the two parts of it."""
    return {"revision": str(revision), "pointer": revision.pointer, "digest": str(revision.digest)}


def skipped_documents(skipped: Iterable[Skipped]) -> list[dict[str, str]]:
    """What was left out, and why."""
    return [{"path": item.path, "reason": item.reason, "detail": item.detail} for item in skipped]


def signed_by(artifact: Artifact) -> str:
    """The names that a policy found, or else the keys; all that is known is in the JSON."""
    for kind in ("signer", "key"):
        found = [value for name, value in artifact.verification if name.rpartition(".")[2] == kind]
        if found:
            return ", ".join(dict.fromkeys(found))
    return ""


def artifact_document(artifact: Artifact) -> dict[str, Any]:
    """All that a store knows of an artifact."""
    return {
        "key": str(artifact.key),
        "url": artifact.url,
        "revision": str(artifact.revision),
        "content_digest": str(artifact.content_digest),
        "digest": str(artifact.digest),
        "size": artifact.size,
        "content_size": artifact.content_size,
        "files": artifact.files,
        "media_type": artifact.media_type,
        "manifest": None if artifact.manifest is None else str(artifact.manifest),
        "created": time_text(artifact.created),
        "observed": time_text(artifact.observed),
        "annotations": dict(artifact.annotations),
        "verification": [list(pair) for pair in artifact.verification],
        "skipped": skipped_documents(artifact.skipped),
    }

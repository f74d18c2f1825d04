"""`Record`: a source's history as it stands in `sources/<kind>/<namespace>/<name>.json`, and its JSON form.

Version 1::

    {"version": 1, "key": "gitrepository/default/podinfo",
     "artifacts": [{…, "superseded": null}, {…, "superseded": "2026-01-02T03:04:05+00:00"}],
     "observations": [["main@sha1:…", "2026-01-02T03:04:05+00:00", "git+https://…"], …]}

Both lists are newest first. An artifact may retire from the first; that it was once seen stays in the second.
"""

import datetime as dt
import json
from typing import Any, Final, NamedTuple

import attrs

from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.digest import Digest
from fluxsrc.entry import Skipped
from fluxsrc.errors import StoreReadError
from fluxsrc.revision import Revision
from fluxsrc.store import Observation

__all__ = [
    "MAX_OBSERVATIONS",
    "Entry",
    "Record",
    "artifact_from_json",
    "artifact_to_json",
    "load",
    "same",
]

VERSION: Final = 1
MAX_OBSERVATIONS: Final = 200
"""How often a source's pointer may move before the oldest observation is forgotten; about 100 bytes each."""


class Entry(NamedTuple):
    """An artifact of a history, and when another took its place; None for the current one."""

    artifact: Artifact
    superseded: dt.datetime | None = None


class Record(NamedTuple):
    """A source's history. Both sequences are newest first.

    Attributes:
        key: Whose history it is.
        entries: The artifacts; the first is the current one.
        observations: Where the source was seen, however long ago its artifacts retired; bounded.
    """

    key: SourceKey
    entries: tuple[Entry, ...] = ()
    observations: tuple[Observation, ...] = ()

    @property
    def current(self) -> Artifact | None:
        """The newest artifact."""
        return self.entries[0].artifact if self.entries else None

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Newest first."""
        return tuple(entry.artifact for entry in self.entries)

    def with_current(self, artifact: Artifact, now: dt.datetime, *, at_most: int) -> "Record":
        """The history after this artifact became the current one.

        The same artifact further back moves to the front and keeps the moment it was first observed. A revision is
        observed whenever it differs from the one before, so that moves back and forth are all seen.
        """
        earlier = next((e.artifact for e in self.entries if same(e.artifact, artifact)), None)
        first_seen = now if earlier is None else earlier.observed
        newest = Entry(attrs.evolve(artifact, observed=first_seen))
        others = [
            entry._replace(superseded=entry.superseded or now)
            for entry in self.entries
            if not same(entry.artifact, artifact)
        ]
        observations = self.observations
        if not observations or observations[0].revision != artifact.revision:
            observations = (Observation(artifact.revision, now, artifact.url), *observations)[:MAX_OBSERVATIONS]
        return Record(self.key, (newest, *others)[:at_most], observations)

    def retained(self, now: dt.datetime, *, records: int, ttl: float) -> "Record":
        """The history without what is neither among the newest `records` nor superseded less than `ttl` seconds ago."""
        horizon = now - dt.timedelta(seconds=ttl)
        kept = [
            entry
            for place, entry in enumerate(self.entries)
            if place < records or (entry.superseded is not None and entry.superseded > horizon)
        ]
        return self._replace(entries=tuple(kept))

    def to_json(self) -> bytes:
        """The file's content."""
        value = {
            "version": VERSION,
            "key": str(self.key),
            "artifacts": [
                artifact_to_json(entry.artifact) | {"superseded": _time_to_json(entry.superseded)}
                for entry in self.entries
            ],
            "observations": [[str(seen.revision), seen.observed.isoformat(), seen.url] for seen in self.observations],
        }
        return json.dumps(value, separators=(",", ":")).encode() + b"\n"

    @staticmethod
    def current_from_json(data: bytes, *, where: str) -> Artifact | None:
        """Only the current artifact of the file's content: what every look-up pays for.

        Raises:
            StoreReadError: As `from_json`.
        """
        value = load(data, version=VERSION, where=where)
        try:
            newest = value["artifacts"][:1]
            return artifact_from_json(newest[0], SourceKey.parse(value["key"])) if newest else None
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise damaged(where) from exc

    @classmethod
    def from_json(cls, data: bytes, *, where: str) -> "Record":
        """Read the file's content.

        Raises:
            StoreReadError: It is damaged, or of a version this library does not know.
        """
        value = load(data, version=VERSION, where=where)
        try:
            key = SourceKey.parse(value["key"])
            return cls(
                key,
                tuple(
                    Entry(artifact_from_json(item, key), _time_from_json(item.get("superseded")))
                    for item in value["artifacts"]
                ),
                tuple(
                    Observation(Revision.parse(revision), dt.datetime.fromisoformat(observed), *url)
                    for revision, observed, *url in value["observations"]
                ),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise damaged(where) from exc


def same(one: Artifact, other: Artifact) -> bool:
    """Whether two artifacts are one entry of a history: the same bytes, made from the same revision by the same recipe."""
    return one.revision == other.revision and one.recipe == other.recipe and one.digest == other.digest


def artifact_to_json(artifact: Artifact) -> dict[str, Any]:
    """An artifact as plain JSON values, without its key."""
    return {
        "url": artifact.url,
        "revision": str(artifact.revision),
        "contentDigest": str(artifact.content_digest),
        "digest": str(artifact.digest),
        "size": artifact.size,
        "contentSize": artifact.content_size,
        "files": artifact.files,
        "mediaType": artifact.media_type,
        "recipe": str(artifact.recipe),
        "manifest": None if artifact.manifest is None else str(artifact.manifest),
        "treeId": artifact.tree_id,
        "created": _time_to_json(artifact.created),
        "observed": _time_to_json(artifact.observed),
        "annotations": dict(artifact.annotations),
        "skipped": [[item.path, item.reason, item.detail] for item in artifact.skipped],
        "verification": [list(pair) for pair in artifact.verification],
    }


def artifact_from_json(value: dict[str, Any], key: SourceKey) -> Artifact:
    """The inverse of `artifact_to_json`; raises what a wrong shape makes Python raise."""
    return Artifact(
        key=key,
        url=value["url"],
        revision=Revision.parse(value["revision"]),
        content_digest=Digest.parse(value["contentDigest"]),
        digest=Digest.parse(value["digest"]),
        size=int(value["size"]),
        content_size=int(value["contentSize"]),
        files=int(value["files"]),
        media_type=value["mediaType"],
        recipe=Digest.parse(value["recipe"]),
        manifest=None if value["manifest"] is None else Digest.parse(value["manifest"]),
        tree_id=value["treeId"],
        created=_time_from_json(value["created"]),
        observed=_time_from_json(value["observed"]),
        annotations=value["annotations"],
        skipped=tuple(Skipped(path, reason, detail) for path, reason, detail in value["skipped"]),
        verification=tuple((name, text) for name, text in value["verification"]),
    )


def load(data: bytes, *, version: int, where: str) -> dict[str, Any]:
    """A versioned JSON object.

    Raises:
        StoreReadError: It is damaged, or of another version.
    """
    try:
        value = json.loads(data)
        found = value["version"]
    except (KeyError, TypeError, ValueError) as exc:
        raise damaged(where) from exc
    if found != version:
        raise StoreReadError(
            f"{where} has format version {found!r}, this library knows {version}",
            path=where,
            hint="a newer fluxsrc wrote it: use that one",
        )
    assert isinstance(value, dict)
    return value


def damaged(where: str) -> StoreReadError:
    """The error for a file that is not what this library writes."""
    return StoreReadError(
        f"{where} is damaged", path=where, hint="move it away; producing the artifact again makes a new one"
    )


def _time_to_json(time: dt.datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _time_from_json(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)

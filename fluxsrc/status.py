"""`SourceStatus`: how a source is doing, as Flux's status object has it, ready to be patched into a custom resource.

Values in, values out: no clock, no network. Conditions, their types, polarities and reasons are those of Flux's
source-controller, so that what reads its objects (`flux get`, `kubectl wait`, dashboards, alerts) reads these.
"""

import datetime as dt
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs

from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.events import Failure, Stage
from fluxsrc.revision import Revision
from fluxsrc.verify import is_vouched

__all__ = ["Condition", "SourceStatus", "artifact_document", "artifact_path"]

_OPERATION_FAILED: Final = {
    "gitrepository": "GitOperationFailed",
    "ocirepository": "OCIArtifactPullFailed",
    "bucket": "BucketOperationFailed",
}
_LOGIN_FAILED: Final = frozenset({"AuthenticationFailed", "PermissionDenied"})
_ORDER: Final = (
    "Ready",
    "Reconciling",
    "Stalled",
    "StorageOperationFailed",
    "FetchFailed",
    "IncludeUnavailable",
    "ArtifactOutdated",
    "ArtifactInStorage",
    "SourceVerified",
)
_MAX_MESSAGE: Final = 32768
"""Letters of a condition's message; an API server refuses a status with more."""
_STATUSES: Final = {"True": True, "False": False, "Unknown": None}
_FAILURES: Final = ("Stalled", "StorageOperationFailed", "FetchFailed", "IncludeUnavailable", "ArtifactOutdated")


@attrs.frozen(kw_only=True)
class Condition:
    """One statement about a source.

    Attributes:
        type: "Ready", "Reconciling", "Stalled", "FetchFailed", …
        status: Whether it holds; None while nobody knows yet, "Unknown" in Kubernetes' words.
        reason: One CamelCase word.
        message: A sentence for people; of a failure the first word says which stage failed.
        since: When `status` became what it is.
        observed_generation: The generation it is about; -1 if that is not known.
    """

    type: str
    status: bool | None
    reason: str
    message: str
    since: dt.datetime
    observed_generation: int

    @property
    def word(self) -> str:
        """Its status in Kubernetes' words: "True", "False" or "Unknown"."""
        return "Unknown" if self.status is None else str(self.status)

    def document(self) -> dict[str, Any]:
        """As Kubernetes has it."""
        found: dict[str, Any] = {
            "type": self.type,
            "status": self.word,
            "reason": self.reason,
            "message": self.message[:_MAX_MESSAGE],
            "lastTransitionTime": _time(self.since),
        }
        if self.observed_generation >= 0:  # of a condition that somebody else wrote it may not be known
            found["observedGeneration"] = self.observed_generation
        return found


def _by_type(value: Mapping[str, Condition]) -> Mapping[str, Condition]:
    return MappingProxyType({name: value[name] for name in _ORDER if name in value})


@attrs.frozen(kw_only=True)
class SourceStatus:
    """How one source is doing.

    Attributes:
        key: Which.
        observed_generation: The generation that was processed to its end; -1 before the first.
        conditions: By type, in Flux's order.
        artifact: What it has, or None.
        failure: What failed last, None while all is well.
        failures: How often in a row.
        handled_request: The request that was handled last: Flux's `lastHandledReconcileAt`.
        suspended: Whether it is left alone.
        checked: When the last look ended.
    """

    key: SourceKey
    observed_generation: int = -1
    conditions: Mapping[str, Condition] = attrs.field(factory=dict, converter=_by_type, hash=False)
    artifact: Artifact | None = None
    failure: Failure | None = None
    failures: int = 0
    handled_request: str | None = None
    suspended: bool = False
    checked: dt.datetime | None = None

    @property
    def ready(self) -> bool:
        """Whether its artifact is what the source points at, as of the last look."""
        condition = self.conditions.get("Ready")
        return condition is not None and condition.status is True

    @property
    def message(self) -> str:
        """What Ready says, in one line; empty before the first look."""
        condition = self.conditions.get("Ready")
        return "" if condition is None else condition.message

    @classmethod
    def from_document(
        cls, key: SourceKey, document: Mapping[str, Any], /, *, artifact: Artifact | None = None
    ) -> "SourceStatus":
        """Go on from the `status` of a custom resource, as a controller does that was restarted.

        What is no condition as `document` writes them is left out: anybody may have written into a status.

        >>> from fluxsrc.artifact import SourceKey
        >>> key = SourceKey("bucket", "default", "app")
        >>> SourceStatus.from_document(key, {"observedGeneration": 3}).observed_generation
        3

        Args:
            key: Whose.
            document: The mapping; empty for a resource without a status.
            artifact: What the store has of the source. A document's own artifact says too little, and may be gone.
        """
        generation, handled = document.get("observedGeneration"), document.get("lastHandledReconcileAt")
        found = document.get("conditions")
        conditions = [_condition(each) for each in found] if isinstance(found, list) else []
        return cls(
            key=key,
            observed_generation=generation if type(generation) is int else -1,
            conditions={each.type: each for each in conditions if each is not None},
            artifact=artifact,
            handled_request=handled if isinstance(handled, str) else None,
        )

    def document(self, *, base_url: str | None = None) -> dict[str, Any]:
        """The `status` of a custom resource.

        Args:
            base_url: Where the store is served, for the artifact's URL.
        """
        found: dict[str, Any] = {
            "observedGeneration": self.observed_generation,
            "conditions": [condition.document() for condition in self.conditions.values()],
        }
        if self.artifact is not None:
            found["artifact"] = artifact_document(self.artifact, base_url=base_url)
        if self.handled_request is not None:
            found["lastHandledReconcileAt"] = self.handled_request
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy does not pickle; a plain dict does.
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        return _rebuild, (fields | {"conditions": dict(self.conditions)},)

    # --- what happens to it ---

    def is_settled(self, generation: int, *, request: str | None = None) -> bool:
        """Whether it is ready, and what is asked for is nothing else than before."""
        return self.ready and generation == self.observed_generation and request in (None, self.handled_request)

    def started(self, generation: int, now: dt.datetime, *, request: str | None = None) -> "SourceStatus":
        """A look begins.

        That it is time for one is no news, as in Flux: a source that is ready stays as it is, unless something else is
        asked for than before.
        """
        if self.is_settled(generation, request=request):
            return self
        reason = "ProgressingWithRetry" if self.failures else "Progressing"
        changed: dict[str, tuple[bool | None, str, str]] = {"Reconciling": (True, reason, "reconciliation in progress")}
        if "Ready" not in self.conditions or generation != self.observed_generation:
            changed["Ready"] = (None, reason, "reconciliation in progress")
        return self._changed(changed, (), generation, now)

    def succeeded(
        self, artifact: Artifact, generation: int, now: dt.datetime, *, request: str | None = None
    ) -> "SourceStatus":
        """The source is up to date."""
        unchanged = artifact is self.artifact or artifact == self.artifact
        if unchanged and self.ready and generation == self.observed_generation and "Reconciling" not in self.conditions:
            # What most looks find, thousands of times: the conditions say so already.
            return attrs.evolve(self, artifact=artifact, handled_request=request or self.handled_request, checked=now)
        stored = f"stored artifact for revision '{artifact.revision}'"
        changed = {"Ready": (True, "Succeeded", stored), "ArtifactInStorage": (True, "Succeeded", stored)}
        gone: tuple[str, ...] = ("Reconciling", *_FAILURES)
        if is_vouched(artifact.verification):
            by = ", ".join(f"{name} {value}" for name, value in artifact.verification)
            changed["SourceVerified"] = (
                True,
                "Succeeded",
                f"verified signature of revision '{artifact.revision}': {by}",
            )
        else:
            gone = (*gone, "SourceVerified")
        return attrs.evolve(
            self._changed(changed, gone, generation, now),
            observed_generation=generation,
            artifact=artifact,
            failure=None,
            failures=0,
            handled_request=request or self.handled_request,
            checked=now,
        )

    def failed(
        self,
        failure: Failure,
        generation: int,
        now: dt.datetime,
        *,
        revision: Revision | None = None,
        request: str | None = None,
    ) -> "SourceStatus":
        """A look failed.

        Args:
            failure: What failed.
            generation: Of what was asked for.
            now: By the wall clock.
            revision: What the source was found to point at, if it came that far.
            request: The request this look was for.
        """
        kind, reason = _condition_of(failure, self.key.kind)
        message = str(failure)
        changed = {kind: (kind != "SourceVerified", reason, message), "Ready": (False, reason, message)}
        stalled = kind == "Stalled"
        if not stalled:
            changed["Reconciling"] = (True, "ProgressingWithRetry", f"will try again: {failure.line}")
        if revision is not None and self.artifact is not None and self.artifact.revision != revision:
            changed["ArtifactOutdated"] = (True, "NewRevision", f"new upstream revision '{revision}'")
        gone = tuple(each for each in ("Reconciling", *_FAILURES) if each not in changed)
        return attrs.evolve(
            self._changed(changed, gone, generation, now),
            observed_generation=generation if stalled else self.observed_generation,
            failure=failure,
            failures=self.failures + 1,
            handled_request=request or self.handled_request,
            checked=now,
        )

    def waiting(self, missing: SourceKey, generation: int, now: dt.datetime) -> "SourceStatus":
        """Something it depends on has no artifact yet."""
        message = f"waiting for {missing}, which has no artifact yet"
        changed = {
            "IncludeUnavailable": (True, "NoArtifact", message),
            "Ready": (False, "NoArtifact", message),
            "Reconciling": (True, "ProgressingWithRetry", message),
        }
        return self._changed(changed, (), generation, now)

    def _changed(
        self,
        changed: Mapping[str, tuple[bool | None, str, str]],
        gone: tuple[str, ...],
        generation: int,
        now: dt.datetime,
    ) -> "SourceStatus":
        conditions = {name: each for name, each in self.conditions.items() if name not in gone}
        for name, (status, reason, message) in changed.items():
            before = self.conditions.get(name)
            since = before.since if before is not None and before.status == status else now
            conditions[name] = Condition(
                type=name, status=status, reason=reason, message=message, since=since, observed_generation=generation
            )
        return attrs.evolve(self, conditions=conditions)


def _rebuild(fields: dict[str, Any]) -> SourceStatus:
    return SourceStatus(**fields)


def _condition_of(failure: Failure, kind: str) -> tuple[str, str]:
    """The condition that a failure is, and its reason."""
    match failure.stage:
        case Stage.CONFIGURATION:
            return "Stalled", failure.reason
        case Stage.STORAGE:
            return "StorageOperationFailed", failure.reason
        case Stage.VERIFICATION:
            return "SourceVerified", failure.reason
        case Stage.CONTENT if kind == "ocirepository":
            return "FetchFailed", "OCIArtifactLayerOperationFailed"
        case Stage.FETCH if failure.reason in _LOGIN_FAILED:
            return "FetchFailed", "AuthenticationFailed"
        case Stage.FETCH:
            return "FetchFailed", _OPERATION_FAILED.get(kind, failure.reason)
    return "FetchFailed", failure.reason


def artifact_path(artifact: Artifact) -> str:
    """Where Flux would serve it: `<kind>/<namespace>/<name>/<file>.tar.gz`, the file named by the revision's digest.

    >>> from fluxsrc import MemorySource, MemoryStore
    >>> artifact_path(MemorySource({}).produce_artifact(MemoryStore(), name="app"))[:24]
    'memory/default/app/e3b0c'
    """
    digest = artifact.revision.digest
    file = str(digest) if artifact.key.kind == "ocirepository" else digest.hex
    return f"{artifact.key}/{file}.tar.gz"


def artifact_document(artifact: Artifact, *, base_url: str | None = None) -> dict[str, Any]:
    """The `status.artifact` of a custom resource."""
    path = artifact_path(artifact)
    found: dict[str, Any] = {"digest": str(artifact.digest), "path": path}
    if base_url is not None:
        found["url"] = f"{base_url.rstrip('/')}/{path}"
    found |= {"revision": str(artifact.revision), "size": artifact.size}
    if artifact.observed is not None:
        found["lastUpdateTime"] = _time(artifact.observed)
    if artifact.annotations:
        found["metadata"] = dict(artifact.annotations)
    return found


def _condition(document: Any) -> Condition | None:
    match document:
        case {"type": str(kind), "status": "True" | "False" | "Unknown" as status, "lastTransitionTime": str(since)}:
            try:
                moment = dt.datetime.fromisoformat(since)
            except ValueError:
                return None
            generation = document.get("observedGeneration")
            return Condition(
                type=kind,
                status=_STATUSES[status],
                reason=str(document.get("reason", "")),
                message=str(document.get("message", "")),
                since=moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC),
                observed_generation=generation if type(generation) is int else -1,
            )
    return None


def _time(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

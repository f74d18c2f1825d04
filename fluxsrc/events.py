"""What happens to sources, as values: for callbacks, metrics and logs. `Failure` says in one line what failed."""

import enum

import attrs

from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.errors import (
    ConfigurationError,
    ContentError,
    FluxSrcError,
    OperationCancelledError,
    RateLimitedError,
    StoreError,
    VerificationError,
)
from fluxsrc.store import RefMoved

__all__ = [
    "Event",
    "Failure",
    "FetchFailed",
    "GarbageCollected",
    "NewArtifact",
    "Reconciled",
    "Recovered",
    "RefMoved",
    "Stage",
]


class Stage(enum.StrEnum):
    """What failed: the first question of whoever is on call."""

    CONFIGURATION = "configuration"
    FETCH = "fetch"
    VERIFICATION = "verification"
    CONTENT = "content"
    STORAGE = "storage"
    WORKER = "worker"
    BUG = "bug"


@attrs.frozen(kw_only=True)
class Failure:
    """What an error says, as a value: it pickles, and holds no traceback and no connection alive.

    >>> from fluxsrc.errors import TransportTimeoutError
    >>> print(Failure.of(TransportTimeoutError("timed out after 60 s during receive", hint="give it more time")))
    fetch failed (Timeout): timed out after 60 s during receive
    hint: give it more time

    Attributes:
        stage: What failed.
        reason: The error's stable CamelCase word.
        message: What failed, where and why, in one sentence.
        hint: What to do about it.
        retryable: Whether the same, later, may succeed.
        retry_after: Seconds to wait before, where the remote said so.
        url: Where, redacted, if known.
    """

    stage: Stage
    reason: str
    message: str
    hint: str | None = None
    retryable: bool = False
    retry_after: float | None = None
    url: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """What an exception says."""
        if not isinstance(error, FluxSrcError):
            return cls(stage=Stage.BUG, reason="Bug", message=f"{type(error).__name__}: {error}"[:1000])
        return cls(
            stage=_stage(error),
            reason=error.reason,
            message=error.message,
            hint=error.hint,
            retryable=error.retryable,
            retry_after=error.retry_after if isinstance(error, RateLimitedError) else None,
            url=getattr(error, "url", None),
        )

    @classmethod
    def worker(cls, message: str) -> "Failure":
        """The process or thread that did the work is gone, or does not come back."""
        return cls(stage=Stage.WORKER, reason="WorkerLost", message=message, retryable=True)

    @property
    def line(self) -> str:
        """One line: what failed, why, and the rest of the sentence."""
        return f"{self.stage} failed ({self.reason}): {self.message.splitlines()[0] if self.message else ''}"

    def __str__(self) -> str:
        return f"{self.line}\nhint: {self.hint}" if self.hint else self.line


def _stage(error: FluxSrcError) -> Stage:
    if isinstance(error, OperationCancelledError):
        return Stage.WORKER
    if isinstance(error, VerificationError):
        return Stage.VERIFICATION
    kinds = {ConfigurationError: Stage.CONFIGURATION, ContentError: Stage.CONTENT, StoreError: Stage.STORAGE}
    return next((stage for kind, stage in kinds.items() if isinstance(error, kind)), Stage.FETCH)


@attrs.frozen(kw_only=True)
class NewArtifact:
    """A source has another artifact than before: its stored bytes differ.

    Attributes:
        key: Whose.
        artifact: The new one.
        previous: The one before, None for the first.
    """

    key: SourceKey
    artifact: Artifact
    previous: Artifact | None = None


@attrs.frozen(kw_only=True)
class FetchFailed:
    """A source could not be brought up to date, whatever stage failed; what it made before stays.

    Attributes:
        key: Whose.
        failure: What failed.
        failures: How many times in a row, this one included.
        retry_in: Seconds until the next attempt; None if somebody has to change something first.
    """

    key: SourceKey
    failure: Failure
    failures: int
    retry_in: float | None


@attrs.frozen(kw_only=True)
class Recovered:
    """A source that had failed is up to date.

    Attributes:
        key: Whose.
        artifact: What it has now.
        failures: How often it had failed in a row.
    """

    key: SourceKey
    artifact: Artifact
    failures: int


@attrs.frozen(kw_only=True)
class GarbageCollected:
    """The store let go of what nobody needs any more.

    Attributes:
        retired: Artifacts that left a history.
        blobs: Blobs removed.
        bytes: Their size.
    """

    retired: int
    blobs: int
    bytes: int


@attrs.frozen(kw_only=True)
class Reconciled:
    """One look at a source is over; sent after every one, before the others.

    Attributes:
        key: Whose.
        seconds: How long it took.
        received: Bytes of content received, as far as the source reports them.
        unchanged: Whether the store held it already.
        failure: What failed, or None.
        observed: Seconds since the epoch at its end.
    """

    key: SourceKey
    seconds: float
    received: int
    unchanged: bool
    failure: Failure | None
    observed: float


Event = NewArtifact | RefMoved | FetchFailed | Recovered | GarbageCollected | Reconciled

"""Every exception fluxsrc raises. The tree is the documentation; its first level says who can fix it.

```text
FluxSrcError
├ ConfigurationError (ValueError)           the caller: change an argument, a URL, a file
│ └ MissingExtraError (ImportError)         the caller: install an optional extra
├ OperationCancelledError                   the caller: it asked for it
├ SourceError                               the remote, or the way to it
│ ├ RevisionNotFoundError (LookupError)     no such branch, tag, version, digest, commit
│ ├ PathNotFoundError (LookupError)         the revision is there, the path in it is not
│ ├ AuthenticationError                     no or wrong credentials
│ ├ PermissionDeniedError                   good credentials, not allowed
│ ├ CertificateError                        the server's certificate, or ours, is not accepted
│ ├ SourceChangedError          [retryable] what was resolved is no longer what is there
│ ├ RefMovedError                           a name does not point at what was locked
│ ├ TransportError              [retryable] connection refused, reset, cut short
│ │ ├ TransportTimeoutError (TimeoutError)  the deadline of the operation passed
│ │ └ RateLimitedError                      retry_after says when to come back
│ └ RemoteProtocolError                     it answered nonsense
├ ContentError                              whoever made the content
│ ├ DigestMismatchError                     bytes are not what their digest says
│ │ └ LockedContentError                    a locked revision has other content than was locked
│ ├ VerificationError                       a signature policy does not hold
│ ├ UnsafeEntryError                        a path, link or type that could escape or collide
│ └ LimitExceededError                      larger than a limit; names the limit and the knob
└ StoreError                                whoever runs the store: disk, permissions
  ├ ArtifactNotFoundError (LookupError)     the store does not hold it
  ├ StoreReadError                          what it holds cannot be read
  │ └ StoreStatError                        nor even looked at
  ├ StoreWriteError                         nothing can be put into it: full, read-only, not ours
  │ └ StoreDirectoryError                   a directory of it cannot be made
  └ StoreLockError                          a lock cannot be taken
    └ StoreLockedError          [retryable] another process holds it
```

Every class has two class variables: `retryable` (would the same call, later, perhaps succeed?) and `reason` (a stable
CamelCase word, fit for a Kubernetes condition). Instances pickle, and carry their facts as attributes.
"""

from typing import Any, ClassVar

__all__ = [
    "ArtifactNotFoundError",
    "AuthenticationError",
    "CertificateError",
    "ConfigurationError",
    "ContentError",
    "DigestMismatchError",
    "FluxSrcError",
    "LimitExceededError",
    "LockedContentError",
    "MissingExtraError",
    "OperationCancelledError",
    "PathNotFoundError",
    "PermissionDeniedError",
    "RateLimitedError",
    "RefMovedError",
    "RemoteProtocolError",
    "RevisionNotFoundError",
    "SourceChangedError",
    "SourceError",
    "StoreDirectoryError",
    "StoreError",
    "StoreLockError",
    "StoreLockedError",
    "StoreReadError",
    "StoreStatError",
    "StoreWriteError",
    "TransportError",
    "TransportTimeoutError",
    "UnsafeEntryError",
    "VerificationError",
]


class FluxSrcError(Exception):
    """Base of all: catch this to catch everything fluxsrc raises on purpose.

    Attributes:
        message: What failed, where, and why, in one sentence.
        hint: What to do about it, or None where the message says it all.
    """

    retryable: ClassVar[bool] = False
    reason: ClassVar[str] = "Failed"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own pickling replays only positional arguments and would lose the keyword ones.
        return _rebuild, (type(self), self.message, dict(self.__dict__))


def _rebuild(cls: type[FluxSrcError], message: str, state: dict[str, Any]) -> FluxSrcError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


# --- the caller ------------------------------------------------------------------------------------------------------


class ConfigurationError(FluxSrcError, ValueError):
    """The caller must change an argument, a URL or a file."""

    reason = "InvalidConfiguration"


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency is not installed; `extra` names the extra that brings it."""

    reason = "MissingExtra"

    def __init__(self, what: str, *, extra: str) -> None:
        super().__init__(f"{what} needs an optional dependency", hint=f"pip install 'fluxsrc[{extra}]'")
        self.extra = extra


class OperationCancelledError(FluxSrcError):
    """The operation's `cancel` said so."""

    reason = "Cancelled"


# --- the remote ------------------------------------------------------------------------------------------------------


class SourceError(FluxSrcError):
    """The remote, or the way to it, failed. `url` is redacted."""

    reason = "FetchFailed"

    def __init__(self, message: str, *, url: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.url = url


class RevisionNotFoundError(SourceError, LookupError):
    """The branch, tag, version, digest or commit is not there."""

    reason = "RevisionNotFound"


class PathNotFoundError(SourceError, LookupError):
    """The revision exists, but not the path in it that was asked for."""

    reason = "PathNotFound"


class AuthenticationError(SourceError):
    """Credentials are missing, wrong or expired."""

    reason = "AuthenticationFailed"


class PermissionDeniedError(SourceError):
    """The credentials are good, but do not allow this."""

    reason = "PermissionDenied"


class CertificateError(SourceError):
    """The server's certificate is not trusted, or it does not accept ours. Trying again would not help."""

    reason = "CertificateNotAccepted"


class SourceChangedError(SourceError):
    """What was resolved is no longer what is there. Resolve again."""

    retryable = True
    reason = "SourceChanged"


class RefMovedError(SourceError):
    """A name points at something else than was locked: somebody has to look into it.

    Attributes:
        old: The revision that is locked.
        new: The revision that the name points at.
    """

    reason = "RefMoved"

    def __init__(self, message: str, *, old: str, new: str, url: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, url=url, hint=hint)
        self.old = old
        self.new = new


class TransportError(SourceError):
    """The connection could not be made, or broke."""

    retryable = True
    reason = "TransportFailed"


class TransportTimeoutError(TransportError, TimeoutError):
    """The deadline of the operation passed. `phase` says during what."""

    reason = "Timeout"

    def __init__(
        self, message: str, *, url: str | None = None, phase: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, url=url, hint=hint)
        self.phase = phase


class RateLimitedError(TransportError):
    """The remote asks for patience. `retry_after` is in seconds, None where it did not say."""

    reason = "RateLimited"

    def __init__(
        self, message: str, *, url: str | None = None, retry_after: float | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, url=url, hint=hint)
        self.retry_after = retry_after


class RemoteProtocolError(SourceError):
    """The remote answered something its protocol does not allow."""

    reason = "RemoteProtocolError"


# --- the content -----------------------------------------------------------------------------------------------------


class ContentError(FluxSrcError):
    """The content itself is at fault. `path` names the entry, where there is one."""

    reason = "InvalidContent"

    def __init__(self, message: str, *, path: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class DigestMismatchError(ContentError):
    """Bytes are not what their digest says."""

    reason = "DigestMismatch"

    def __init__(
        self, message: str, *, expected: str, actual: str, path: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, path=path, hint=hint)
        self.expected = expected
        self.actual = actual


class LockedContentError(DigestMismatchError):
    """A locked revision has other content than was locked: it was rewritten, or is made into an artifact otherwise."""

    reason = "LockedContentChanged"


class VerificationError(ContentError):
    """A signature policy does not hold.

    Attributes:
        check: The number of the check that failed, as in the policy's documented procedure; None where there is none.
    """

    reason = "VerificationError"

    def __init__(
        self, message: str, *, check: int | None = None, path: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, path=path, hint=hint)
        self.check = check


class UnsafeEntryError(ContentError):
    """An entry whose path, link target or type could escape, overwrite or collide."""

    reason = "UnsafeEntry"


class LimitExceededError(ContentError):
    """Something is larger than a limit allows.

    Attributes:
        limit: The name of the limit, as in `Limits`.
        allowed: The limit's value.
        actual: What was seen, or None where counting stopped at the limit.
    """

    reason = "LimitExceeded"

    def __init__(
        self,
        message: str,
        *,
        limit: str,
        allowed: float,
        actual: float | None = None,
        path: str | None = None,
    ) -> None:
        super().__init__(message, path=path, hint=f"raise it with Limits({limit}=...) if the content is meant")
        self.limit = limit
        self.allowed = allowed
        self.actual = actual


# --- the store -------------------------------------------------------------------------------------------------------


class StoreError(FluxSrcError):
    """The store cannot be read or written. `path` is the file at fault, where known."""

    reason = "StorageOperationFailed"

    def __init__(self, message: str, *, path: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class ArtifactNotFoundError(StoreError, LookupError):
    """The store holds no such artifact."""

    reason = "ArtifactNotFound"


class StoreReadError(StoreError):
    """What the store holds cannot be read or listed."""

    reason = "ReadOperationFailed"


class StoreStatError(StoreReadError):
    """Whether something is there cannot be told: the way to it is barred, or leads in a circle."""

    reason = "StatOperationFailed"


class StoreWriteError(StoreError):
    """The store cannot be changed. It is as it was before."""

    reason = "ArchiveOperationFailed"


class StoreDirectoryError(StoreWriteError):
    """A directory of the store is missing and cannot be made."""

    reason = "DirectoryCreationFailed"


class StoreLockError(StoreError):
    """A lock cannot be taken: its file cannot be made or opened."""

    reason = "AcquireLockFailed"


class StoreLockedError(StoreLockError):
    """Another process holds the lock."""

    retryable = True

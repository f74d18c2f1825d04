"""`LockFile`: what a set of sources was when somebody approved it: revisions and content digests, in a file to commit.

Two uses. *Locked*: the sources must still point at what is locked; a name that moved is an error that says so. *Frozen*:
nobody asks what they point at now; exactly what is locked is taken, from the store without any network if it is there.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Final

import attrs

from fluxsrc._io.atomic import store_errors, write_atomic
from fluxsrc._units import why
from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, LockedContentError, RefMovedError
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.managed import ManagedSource
from fluxsrc.operation import Operation
from fluxsrc.produce import RESOLVED, source_key
from fluxsrc.revision import Revision
from fluxsrc.source import Snapshot, Source
from fluxsrc.store import Ingest, Store
from fluxsrc.wrappers import Wrapper

__all__ = ["LockFile", "Locked", "LockedSource", "PinnedSource", "produce_locked"]

_VERSION: Final = 1
_HINT: Final = "if that is meant, lock again"
_MAKE: Final = "write it with fluxsrc lock, or for a single URL with fluxsrc pull --lock"


@attrs.frozen(kw_only=True)
class Locked:
    """What one source was.

    Attributes:
        url: Its address, with what it followed.
        revision: What that was.
        content_digest: sha256 of the canonical tar that was made of it.
        recipe: Digest of how it was made: ignore rules, path, …
    """

    url: str
    revision: Revision
    content_digest: Digest
    recipe: Digest

    @classmethod
    def of(cls, source: Source, artifact: Artifact) -> "Locked":
        """What an artifact of a source says."""
        return cls(
            url=source.url,
            revision=artifact.revision,
            content_digest=artifact.content_digest,
            recipe=source.recipe.digest,
        )


def _sorted(value: Mapping[str, Locked]) -> Mapping[str, Locked]:
    return MappingProxyType(dict(sorted(value.items())))


@attrs.frozen
class LockFile:
    """Locked sources by name, usually `KIND/NAMESPACE/NAME`.

    Its text is canonical JSON, sorted, a fact a line: equal locks are equal files, and a diff shows what changed.

    Attributes:
        sources: What is locked.
    """

    sources: Mapping[str, Locked] = attrs.field(factory=dict, converter=_sorted, hash=False)

    @classmethod
    def parse(cls, text: str) -> "LockFile":
        """Read the text; `str(LockFile.parse(text)) == text` of what this library wrote.

        Raises:
            ConfigurationError: It is no lock file, or of a later version.
        """
        DEFAULT_LIMITS.check("max_manifest_bytes", len(text), what="the lock file")
        try:
            document = json.loads(text)
            version = document["version"]
            if version != _VERSION:
                raise ConfigurationError(f"a lock file of version {version!r}; this is for {_VERSION}")
            return cls({name: _locked(each) for name, each in document["sources"].items()})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            if isinstance(exc, ConfigurationError) and "version" in exc.message:
                raise
            raise ConfigurationError(f"no lock file: {exc}"[:300], hint="make it anew with fluxsrc lock") from exc

    @classmethod
    def load(cls, path: Path) -> "LockFile":
        """Read a file.

        Raises:
            ConfigurationError: It is not there, or no lock file.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigurationError(f"there is no lock file {path}", hint=_MAKE) from None
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"cannot read the lock file {path}: {why(exc)}") from exc
        return cls.parse(text)

    def save(self, path: Path) -> bool:
        """Write a file, all of it or nothing; say whether that changed it.

        Raises:
            StoreError: It cannot be written.
        """
        data = str(self).encode()
        with store_errors("write", path):
            if path.is_file() and path.read_bytes() == data:
                return False
            write_atomic(path, data, scratch=path.parent, durable=True)
        return True

    def __str__(self) -> str:
        sources = {
            name: {
                "content": str(each.content_digest),
                "recipe": str(each.recipe),
                "revision": str(each.revision),
                "url": each.url,
            }
            for name, each in self.sources.items()
        }
        return json.dumps({"version": _VERSION, "sources": sources}, indent=2, ensure_ascii=False) + "\n"

    def need(self, name: str, source: Source) -> Locked:
        """What is locked of a source that still is the one that was locked.

        Raises:
            ConfigurationError: It is not locked, or it follows something else or makes it otherwise than it did.
        """
        locked = self.sources.get(name)
        if locked is None:
            raise ConfigurationError(f"{name} is not locked", hint=_MAKE)
        if locked.url != source.url:
            raise ConfigurationError(f"{name} is {source.url}; locked is {locked.url}", hint=_HINT)
        if locked.recipe != source.recipe.digest:
            raise ConfigurationError(
                f"{name}: its ignore rules, path, policy or other options are not those that were locked", hint=_HINT
            )
        return locked

    def find(self, name: str, source: Source) -> Locked:
        """The same of a source that may be locked under another name: the one of this address and recipe counts then.

        Raises:
            ConfigurationError: As `need`; or it is locked under several names, and not as the same.
        """
        if name not in self.sources:
            alike = {other: each for other, each in self.sources.items() if each.url == source.url}
            same = {other: each for other, each in alike.items() if each.recipe == source.recipe.digest}
            if len(set(same.values())) > 1:
                raise ConfigurationError(f"{source.url} is locked as different things: {', '.join(same)}")
            name = next(iter(same or alike), source.url)
        return self.need(name, source)

    def stale(self, names: Sequence[str]) -> tuple[str, ...]:
        """What is locked, and not among these."""
        return tuple(name for name in self.sources if name not in names)


def _locked(document: Mapping[str, str]) -> Locked:
    unknown = set(document) - {"content", "recipe", "revision", "url"}
    if unknown:
        raise ConfigurationError(f"unknown: {min(unknown)!r}")
    return Locked(
        url=document["url"],
        revision=Revision.parse(document["revision"]),
        content_digest=Digest.parse(document["content"]),
        recipe=Digest.parse(document["recipe"]),
    )


def produce_locked(
    managed: ManagedSource, store: Store, locked: Locked, /, *, frozen: bool = False, operation: Operation | None = None
) -> Artifact:
    """The artifact of a managed source that is locked, current in the store: see `LockedSource.produce_artifact`."""
    source = LockedSource(managed.source, locked, frozen=frozen)
    return source.produce_artifact(store, name=managed.name, namespace=managed.namespace, operation=operation)


@attrs.frozen
class LockedSource(Wrapper):
    """A source that gives what is locked of it, and nothing else. It goes wherever a source goes: to a `Reconciler`, too.

    >>> from fluxsrc import MemorySource, MemoryStore
    >>> source = MemorySource({"app.yaml": "kind: App"})
    >>> locked = Locked.of(source, source.produce_artifact(MemoryStore()))
    >>> LockedSource(source, locked, frozen=True).resolve_revision() == locked.revision
    True

    Attributes:
        source: What is locked.
        locked: What it has to be.
        frozen: Do not ask what it points at now.
    """

    source: Source
    locked: Locked
    frozen: bool = attrs.field(default=False, kw_only=True)

    def resolve_revision(self, *, operation: Operation | None = None) -> Revision:
        """The locked revision; nobody is asked for it if it is frozen.

        Raises:
            RefMovedError: The source points elsewhere.
        """
        operation = self._operation(operation)
        locked = self.locked.revision
        if self.frozen:
            operation.check("resolve", url=self.url)
            return locked
        current = self.source.resolve_revision(operation=operation)
        if current != locked:
            operation.memo[RESOLVED] = current
            message = f"{self.url} moved: it points at {current}; locked is {locked}"
            raise RefMovedError(message, old=str(locked), new=str(current), url=self.url, hint=_HINT)
        return current

    def fetch(
        self, revision: Revision | None = None, /, *, operation: Operation | None = None
    ) -> AbstractContextManager[Snapshot]:
        """The files of the locked revision, as they are: only what becomes an artifact is held against the content."""
        return self.source.fetch(self.locked.revision if revision is None else revision, operation=operation)

    def produce_artifact(
        self,
        store: Store,
        /,
        *,
        name: str | None = None,
        namespace: str = "default",
        operation: Operation | None = None,
    ) -> Artifact:
        """The artifact that is locked, current in the store.

        1. Unless frozen: resolve, and hold what comes against the lock.
        2. If the store has it, it is that; nothing is fetched.
        3. Else fetch exactly the locked revision. What comes out must have the locked content, or it is not recorded.

        Raises:
            RefMovedError: The source points elsewhere.
            SourceChangedError: The locked revision is not to be had any more.
            LockedContentError: The locked revision has other content than was locked.
        """
        operation, locked = self._operation(operation), self.locked
        key = source_key(self.source, name=name, namespace=namespace)
        self.resolve_revision(operation=operation)  # 1
        for artifact in store.history(key):  # 2
            if (artifact.revision, artifact.content_digest, artifact.recipe) == (
                locked.revision,
                locked.content_digest,
                locked.recipe,
            ):
                return artifact if store.lookup(key) == artifact else store.put(artifact)
        pinned, guarded = PinnedSource(self.source, locked.revision), _GuardedStore(store, locked, key)
        return pinned.produce_artifact(guarded, name=name, namespace=namespace, operation=operation)  # 3


@attrs.frozen
class PinnedSource(Wrapper):
    """A source that points at one revision, whatever the one it wraps points at; resolving it asks nobody."""

    source: Source
    revision: Revision

    def resolve_revision(self, *, operation: Operation | None = None) -> Revision:
        """The pinned revision."""
        if operation is not None:
            operation.check("resolve", url=self.url)
        return self.revision

    def fetch(
        self, revision: Revision | None = None, /, *, operation: Operation | None = None
    ) -> AbstractContextManager[Snapshot]:
        """The files of the pinned revision; see `Source`."""
        return self.source.fetch(self.revision if revision is None else revision, operation=operation)


@attrs.frozen
class _GuardedStore:
    """A store that records nothing for a source but what is locked."""

    _store: Store
    _locked: Locked
    _key: SourceKey

    def lookup(self, key: SourceKey, /) -> Artifact | None:
        current = self._store.lookup(key)
        return None if current is None or current.revision == self._locked.revision else current

    def history(self, key: SourceKey, /) -> Sequence[Artifact]:
        # An artifact of the locked revision with other content must not pass for it.
        return [each for each in self._store.history(key) if each.revision != self._locked.revision]

    def sources(self) -> Iterator[SourceKey]:
        return self._store.sources()

    def ingest(self) -> AbstractContextManager[Ingest]:
        return self._store.ingest()

    def put(self, artifact: Artifact, ingest: Ingest | None = None, /, *, index: bytes | None = None) -> Artifact:
        expected, actual = self._locked.content_digest, artifact.content_digest
        if actual != expected:
            # Not the class above it: a source takes that for damage to what it keeps, and tries again.
            raise LockedContentError(
                f"{self._key} at {artifact.revision} has the content {actual}; locked is {expected}",
                expected=str(expected),
                actual=str(actual),
                hint="somebody rewrote what a revision is, or this version makes it otherwise: find out before you lock again",
            )
        return self._store.put(artifact, ingest, index=index)

    def index(self, artifact: Artifact, /) -> bytes | None:
        return self._store.index(artifact)

    def open(self, artifact: Artifact, /) -> BinaryIO:
        return self._store.open(artifact)

    def extract(
        self,
        artifact: Artifact,
        destination: Path,
        /,
        *,
        limits: Limits = DEFAULT_LIMITS,
        operation: Operation | None = None,
    ) -> None:
        self._store.extract(artifact, destination, limits=limits, operation=operation)


if TYPE_CHECKING:

    def _(source: PinnedSource, locked: LockedSource, store: _GuardedStore) -> tuple[Source, Source, Store]:
        return source, locked, store

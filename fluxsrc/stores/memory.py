"""`MemoryStore`: a store in memory. A fake that is part of the product, for tests, tutorials and notebooks."""

import datetime as dt
import io
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import attrs

from fluxsrc._io.atomic import store_errors
from fluxsrc._io.hashing import HashingWriter, digest_of
from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.digest import Digest
from fluxsrc.errors import ArtifactNotFoundError, ConfigurationError, DigestMismatchError
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.operation import Operation
from fluxsrc.store import Ingest, Observation, ObservingStore
from fluxsrc.stores._blobs import check_ingest
from fluxsrc.stores._oci import documents
from fluxsrc.stores._records import Record
from fluxsrc.stores._reports import GCReport, Problem, ProblemKind, VerifyReport
from fluxsrc.tarball import unpack

__all__ = ["MemoryStore"]


class _MemoryBlob(HashingWriter):
    """A blob on its way in."""

    def __init__(self) -> None:
        self.buffer = io.BytesIO()
        super().__init__(self.buffer)


class MemoryStore:
    """The contract of `Store`, and the maintenance of `LocalStore`, without a disk.

    Safe for threads. It pickles with all it holds; a copy goes its own way from there.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._records: dict[SourceKey, Record] = {}
        self._blobs: dict[Digest, bytes] = {}
        self._indexes: dict[Digest, bytes] = {}
        self._pins: dict[str, Artifact] = {}
        self._leases: list[Artifact] = []

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            state = {name: value.copy() for name, value in self.__dict__.items() if name != "_lock"}
        return state | {"_leases": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    # --- reading -----------------------------------------------------------------------------------------------------

    def lookup(self, key: SourceKey, /) -> Artifact | None:
        """The source's current artifact, or None; also None if its blob is gone."""
        with self._lock:
            record = self._records.get(key)
            current = None if record is None else record.current
            return current if current is not None and current.digest in self._blobs else None

    def history(self, key: SourceKey, /) -> Sequence[Artifact]:
        """The source's artifacts whose blobs are there, newest first."""
        with self._lock:
            record = self._records.get(key, Record(key))
            return tuple(artifact for artifact in record.artifacts if artifact.digest in self._blobs)

    def observations(self, key: SourceKey, /) -> Sequence[Observation]:
        """Where the source was seen over time, newest first; 200 at most."""
        with self._lock:
            return self._records.get(key, Record(key)).observations

    def sources(self) -> Iterator[SourceKey]:
        """Every source that has a record, sorted."""
        with self._lock:
            return iter(sorted(self._records))

    def find(self, digest: Digest, /) -> Artifact:
        """An artifact by its content digest, the digest of its blob, or that of its manifest.

        Raises:
            ArtifactNotFoundError: No history or pin has it.
        """
        with self._lock:
            recorded = [artifact for key in self.sources() for artifact in self.history(key)]
            for artifact in (*recorded, *self._pins.values()):
                if digest in (artifact.content_digest, artifact.digest, artifact.manifest):
                    return artifact
        raise ArtifactNotFoundError(f"the store holds no artifact {digest}")

    def index(self, artifact: Artifact, /) -> bytes | None:
        """The pack index put with this artifact's blob, or None."""
        return self._indexes.get(artifact.digest)

    def open(self, artifact: Artifact, /) -> BinaryIO:
        """The stored bytes, verified before the first one is handed out.

        Raises:
            ArtifactNotFoundError: The blob is not there.
            DigestMismatchError: It is there, and damaged.
        """
        data = self._blob(artifact)
        digest, size = digest_of(io.BytesIO(data))
        if (digest, size) != (artifact.digest, artifact.size):
            raise DigestMismatchError(
                f"the blob of {artifact.key} is damaged: {size} bytes with digest {digest}",
                expected=str(artifact.digest),
                actual=str(digest),
            )
        return io.BytesIO(data)

    def _blob(self, artifact: Artifact) -> bytes:
        data = self._blobs.get(artifact.digest)
        if data is None:
            raise ArtifactNotFoundError(f"the store does not hold {artifact.digest} of {artifact.key}")
        return data

    def extract(
        self,
        artifact: Artifact,
        destination: Path,
        /,
        *,
        limits: Limits = DEFAULT_LIMITS,
        operation: Operation | None = None,
    ) -> None:
        """Unpack into a directory that does not exist yet or is empty: all of it, verified, or nothing."""
        with self.open(artifact) as archive:
            unpack(
                archive,
                destination,
                limits=limits,
                expected=artifact.content_digest,
                operation=operation,
            )

    def export(self, artifact: Artifact, file: Path, /) -> None:
        """Copy the verified bytes to a file."""
        with self.open(artifact) as blob, store_errors("write", file):
            file.write_bytes(blob.read())

    # --- writing -----------------------------------------------------------------------------------------------------

    @contextmanager
    def ingest(self) -> Iterator[Ingest]:
        """Begin to write a blob."""
        yield _MemoryBlob()

    def put(self, artifact: Artifact, ingest: Ingest | None = None, /, *, index: bytes | None = None) -> Artifact:
        """Record an artifact as the source's current one; see `Store.put`."""
        if ingest is not None:
            if not isinstance(ingest, _MemoryBlob):
                raise ConfigurationError("only what this store's own ingest() gave can be put into it")
            check_ingest(artifact, ingest.digest, ingest.size)
        with self._lock:
            if ingest is not None:
                self._blobs[artifact.digest] = ingest.buffer.getvalue()
            elif len(self._blob(artifact)) != artifact.size:
                raise ArtifactNotFoundError(f"the store does not hold {artifact.digest} in {artifact.size} bytes")
            if index is not None:
                self._indexes[artifact.digest] = index
            record = self._records.get(artifact.key, Record(artifact.key))
            current = record.current
            artifact = attrs.evolve(artifact, manifest=documents(artifact).manifest.digest)
            if current is not None and attrs.evolve(artifact, observed=current.observed) == current:
                return current
            record = record.with_current(artifact, dt.datetime.now(dt.UTC), at_most=len(record.entries) + 1)
            self._records[artifact.key] = record
            return record.entries[0].artifact

    def forget(self, key: SourceKey, /) -> bool:
        """Drop a source's history; say whether there was one."""
        with self._lock:
            return self._records.pop(key, None) is not None

    # --- retention ---------------------------------------------------------------------------------------------------

    def retain(self, key: SourceKey | None = None, /, *, records: int = 2, ttl: float = 0.0) -> int:
        """Let artifacts retire from one history, or from all; see `LocalStore.retain`."""
        if records < 1:
            raise ConfigurationError(f"retain keeps at least 1 record, not {records}", hint="to drop all: forget(key)")
        retired = 0
        with self._lock:
            for each in [key] if key is not None else list(self._records):
                record = self._records.get(each, Record(each))
                retained = record.retained(dt.datetime.now(dt.UTC), records=records, ttl=ttl)
                if len(retained.entries) < len(record.entries):
                    self._records[each] = retained
                    retired += len(record.entries) - len(retained.entries)
        return retired

    def pin(self, artifact: Artifact, name: str, /) -> None:
        """Keep an artifact until `unpin`; a pin of this name moves to it."""
        with self._lock:
            self._blob(artifact)
            self._pins[name] = artifact

    def unpin(self, name: str, /) -> bool:
        """Drop a pin; say whether it was there."""
        with self._lock:
            return self._pins.pop(name, None) is not None

    def pins(self) -> Mapping[str, Artifact]:
        """What is pinned, by the pins' names."""
        with self._lock:
            return dict(self._pins)

    @contextmanager
    def lease(self, artifact: Artifact, /, *, ttl: float = 300.0) -> Iterator[Artifact]:  # noqa: ARG002 - as LocalStore
        """Protect what is being read while the block runs."""
        with self._lock:
            self._blob(artifact)
            self._leases.append(artifact)
        try:
            yield artifact
        finally:
            with self._lock:
                self._leases.remove(artifact)

    def gc(self, *, grace: float = 0.0, dry_run: bool = False) -> GCReport:  # noqa: ARG002 - as LocalStore
        """Sweep blobs that no history, pin or lease refers to. Memory has no clock: there is no grace period."""
        with self._lock:
            recorded = [artifact for record in self._records.values() for artifact in record.artifacts]
            marked = {artifact.digest for artifact in (*recorded, *self._pins.values(), *self._leases)}
            unmarked = [digest for digest in self._blobs if digest not in marked]
            size = sum(len(self._blobs[digest]) for digest in unmarked)
            if not dry_run:
                for digest in unmarked:
                    del self._blobs[digest]
                    self._indexes.pop(digest, None)
            kept = len(marked & self._blobs.keys())
        return GCReport(blobs=len(unmarked), bytes=size, kept=kept, dry_run=dry_run)

    def verify(self) -> VerifyReport:
        """Hash every blob and check every reference."""
        with self._lock:
            problems = [
                Problem(ProblemKind.CORRUPT, str(digest), "damaged")
                for digest, data in self._blobs.items()
                if Digest.of(data) != digest
            ]
            problems += [
                Problem(ProblemKind.MISSING, str(artifact.digest), f"needed by {key}")
                for key, record in self._records.items()
                for artifact in record.artifacts
                if artifact.digest not in self._blobs
            ]
            return VerifyReport(
                sources=len(self._records),
                blobs=len(self._blobs),
                bytes=sum(map(len, self._blobs.values())),
                problems=tuple(problems),
            )

    def flush(self) -> None:
        """Nothing to do: there is no OCI index."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to do."""


if TYPE_CHECKING:
    _: ObservingStore = MemoryStore()

"""`LocalStore`: a store in a directory that is an OCI image layout, shared by threads and processes.

What is where: `_layout`. How a blob gets in and out: `_blobs`. What a history is: `_records`, and what is remembered of it:
`_lookups`. How OCI tools see it: `_oci` and `_index`. What stays and goes: `_retention`. What is wrong: `_fsck`. How sources
are doing: `_statuses`.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import attrs

from fluxsrc._io.atomic import replacing, store_errors, sync_directory, write_all
from fluxsrc._io.hashing import CHUNK
from fluxsrc._lazy import later
from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.digest import Digest
from fluxsrc.errors import ArtifactNotFoundError, ConfigurationError, StoreError
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.operation import Operation
from fluxsrc.store import Ingest, Observation, ObservingStore
from fluxsrc.stores import _index
from fluxsrc.stores._blobs import (
    BlobWriter,
    check_ingest,
    holds,
    ingesting,
    need,
    open_verified,
    place,
    place_document,
    touch,
)
from fluxsrc.stores._index import FlushAtExit
from fluxsrc.stores._layout import Layout
from fluxsrc.stores._lookups import Lookups
from fluxsrc.stores._oci import documents

if TYPE_CHECKING:
    from fluxsrc.stores import _fsck, _reports, _retention, _statuses
    from fluxsrc.tarball import unpacking
else:  # who puts an artifact, or looks one up, needs none of it
    _fsck, _reports, _retention, _statuses = (
        later(f"fluxsrc.stores.{name}") for name in ("_fsck", "_reports", "_retention", "_statuses")
    )
    unpacking = later("fluxsrc.tarball.unpacking")

__all__ = ["LocalStore"]


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _absolute(path: str | Path) -> Path:
    # A value must mean the same after a change of directory, and in another process.
    return Path(path).absolute()


@attrs.frozen
class LocalStore:
    """A directory of artifacts that skopeo, oras and crane read as it stands.

    Nothing is made or opened before it is needed. A value: comparable, picklable, safe for threads; any number of
    processes may share the directory, also on a network file system with working `flock`.

    `index.json`, the list for OCI tools, is brought up to date by each `put` while it is small, up to some 130 sources.
    Beyond, `flush` does it, which leaving `with store:` and the normal end of the process do as well. Everything else is
    there, and durable, when `put` returns.

    Attributes:
        path: The directory, made absolute; it is created by the first `ingest`.
        durable: Whether `put` returns only when the disk has it (four fsyncs, two more for a small list). Without, a crash of the *process* at any
            instant is still harmless; a power cut may lose or damage what was put in the last half minute.
        lock_timeout: Seconds to wait for another writer of the same source.
        max_records: Artifacts a history holds; beyond, the oldest retires when a new one is put.
        clock: Tells the time of observations, with a time zone.
    """

    path: Path = attrs.field(converter=_absolute)
    durable: bool = attrs.field(default=True, kw_only=True)
    lock_timeout: float = attrs.field(default=30.0, kw_only=True)
    max_records: int = attrs.field(default=100, kw_only=True, validator=attrs.validators.ge(1))
    _clock: Callable[[], dt.datetime] = attrs.field(default=_utc_now, kw_only=True, repr=False, eq=False)
    _layout: Layout = attrs.field(
        default=attrs.Factory(lambda self: Layout(self.path, self.durable, self.lock_timeout), takes_self=True),
        init=False,
        repr=False,
        eq=False,
    )
    _at_exit: FlushAtExit = attrs.field(factory=FlushAtExit, init=False, repr=False, eq=False)
    _lookups: Lookups = attrs.field(factory=Lookups, init=False, repr=False, eq=False)

    # --- reading -----------------------------------------------------------------------------------------------------

    def lookup(self, key: SourceKey, /) -> Artifact | None:
        """The source's current artifact, or None; also None if its blob is gone, so that it is produced again."""
        return self._lookups.held(self._layout, key)

    def history(self, key: SourceKey, /) -> Sequence[Artifact]:
        """The source's artifacts whose blobs are there, newest first."""
        layout, artifacts = self._layout, _index.read_record(self._layout, key).artifacts
        while not (held := tuple(each for each in artifacts if holds(layout, each.digest, each.size))):
            # Gone, or all of it replaced and swept since the record was read: then there are others.
            last, artifacts = artifacts, _index.read_record(layout, key).artifacts
            if artifacts == last:
                break
        return held

    def observations(self, key: SourceKey, /) -> Sequence[Observation]:
        """Where the source was seen over time, newest first, however long ago those artifacts retired; 200 at most."""
        return _index.read_record(self._layout, key).observations

    def sources(self) -> Iterator[SourceKey]:
        """Every source that has a record, sorted."""
        return self._layout.source_keys()

    def find(self, digest: Digest, /) -> Artifact:
        """An artifact by its content digest, the digest of its blob, or that of its manifest.

        Reads all histories until one matches: meant for people and audits, not for each request.

        Raises:
            ArtifactNotFoundError: No history or pin has it.
            StoreError: None of those that can be read, and one is damaged.
        """
        damaged: StoreError | None = None

        def recorded() -> Iterator[Artifact]:
            nonlocal damaged
            for key in self.sources():
                try:
                    yield from self.history(key)
                except StoreError as exc:  # what another source left must not be in the way back
                    damaged = exc

        for artifact in chain(recorded(), self.pins().values()):
            if digest in (artifact.content_digest, artifact.digest, artifact.manifest):
                return artifact
        if damaged is not None:
            raise damaged
        raise ArtifactNotFoundError(f"the store {self.path} holds no artifact {digest}", path=str(self.path))

    def index(self, artifact: Artifact, /) -> bytes | None:
        """The pack index put with this artifact's blob, or None; a damaged one is none."""
        layout = self._layout
        data = layout.read(layout.pack_index(artifact.digest))
        if data is None:
            return None
        checksum, newline, content = data.partition(b"\n")
        return content if newline and checksum == str(Digest.of(content)).encode() else None

    def open(self, artifact: Artifact, /) -> BinaryIO:
        """The stored bytes, seekable, all of them verified before the first one is handed out.

        Raises:
            ArtifactNotFoundError: The blob is not there.
            DigestMismatchError: It is there, and damaged.
        """
        return open_verified(self._layout, artifact)

    def blob_path(self, digest: Digest, /) -> Path:
        """Where the blob of this digest lies if the store holds it; its bytes are for the caller to verify."""
        return self._layout.blob(digest)

    def extract(
        self,
        artifact: Artifact,
        destination: Path,
        /,
        *,
        limits: Limits = DEFAULT_LIMITS,
        operation: Operation | None = None,
    ) -> None:
        """Unpack into a directory that does not exist yet or is empty: all of it, verified, or nothing.

        Raises:
            ContentError: The archive is unsafe or over a limit; nothing is left behind.
        """
        with self.open(artifact) as archive:
            unpacking.unpack(
                archive,
                destination,
                limits=limits,
                expected=artifact.content_digest,
                operation=operation,
            )

    def export(self, artifact: Artifact, file: Path, /) -> None:
        """Copy the verified bytes to a file, replacing what is there at once.

        Raises:
            ArtifactNotFoundError: The blob is not there.
            DigestMismatchError: It is there, and damaged; the file is as it was.
        """
        with (
            self.open(artifact) as blob,
            store_errors("write", file),
            replacing(file, scratch=file.parent, durable=self.durable) as descriptor,
        ):
            while data := blob.read(CHUNK):
                write_all(descriptor, data)

    # --- writing -----------------------------------------------------------------------------------------------------

    def ingest(self) -> AbstractContextManager[Ingest]:
        """Begin to write a blob; leaving the context discards it unless it was put."""
        return ingesting(self._layout)

    def put(self, artifact: Artifact, ingest: Ingest | None = None, /, *, index: bytes | None = None) -> Artifact:
        """Make an artifact durable and the source's current one; see `Store.put`.

        1. Seal the blob: nothing more is written, and the disk has it. Slow, and in nobody's way.
        2. Lock the source, then the store together with other writers.
        3. Name the blob; or make the one that is there young, so that no collector takes it.
        4. Nothing new to say: return what is recorded, and write nothing.
        5. Write config, manifest and pack index. They can be made again, so the disk may take its time.
        6. Note that `index.json` is out of date.
        7. Replace the record. From here on it is the current artifact.
        8. Bring `index.json` up to date, unless it is large or somebody is at it; then that is for `flush`.

        Raises:
            DigestMismatchError: The blob is not what `artifact` says.
            ArtifactNotFoundError: No `ingest`, and the blob is not there.
            StoreLockedError: Another writer of this source took longer than `lock_timeout`.
            StoreError: The disk is full, read-only, …; the old state stands.
        """
        layout = self._layout
        blob = self._sealed(artifact, ingest)  # 1
        if blob is None:
            need(layout, artifact)
        with layout.source_locked(artifact.key), layout.writing():  # 2
            record = _index.read_record(layout, artifact.key)
            current = record.current
            described = documents(artifact)
            artifact = attrs.evolve(artifact, manifest=described.manifest.digest)
            if blob is not None:
                place(layout, blob)  # 3
            if current is not None and attrs.evolve(artifact, observed=current.observed) == current:
                if blob is None and holds(layout, artifact.digest, artifact.size):
                    return current  # 4
                if blob is not None:
                    self._describe(layout, artifact, index)
                    return current  # 4, of a blob that had vanished or was damaged, and is whole again
            if blob is None:
                touch(layout, artifact)  # 3
            self._describe(layout, artifact, index)  # 5
            record = record.with_current(artifact, self._clock(), at_most=self.max_records)
            _index.note_change(layout, artifact.key)  # 6
            layout.write(layout.record(artifact.key), record.to_json())  # 7
        self._list(layout)  # 8
        return record.entries[0].artifact

    def _list(self, layout: Layout) -> None:
        if not _index.flush_if_small(layout):
            self._at_exit.arm(layout)

    def _sealed(self, artifact: Artifact, ingest: Ingest | None) -> BlobWriter | None:
        if ingest is None:
            return None
        if not isinstance(ingest, BlobWriter) or ingest.path.parent != self._layout.ingest:
            raise ConfigurationError("only what this store's own ingest() gave can be put into it")
        check_ingest(artifact, ingest.digest, ingest.size)
        ingest.seal(durable=self.durable)
        return ingest

    def _describe(self, layout: Layout, artifact: Artifact, index: bytes | None) -> None:
        described = documents(artifact)
        place_document(layout, described.config)
        place_document(layout, described.manifest)
        if index is not None and self.index(artifact) != index:
            # Its own checksum in front: it is not fsynced, and half an index must not look like one.
            checked = str(Digest.of(index)).encode() + b"\n" + index
            layout.write(layout.pack_index(artifact.digest), checked, durable=False)

    def forget(self, key: SourceKey, /) -> bool:
        """Drop a source's history and status, as when its object is deleted; `gc` sweeps what only it referred to.

        Returns:
            Whether there was a history.
        """
        layout = self._layout
        _statuses.forget(layout, key)
        path = layout.record(key)
        if layout.read(path) is None:
            return False
        with layout.source_locked(key), layout.writing():
            _index.note_change(layout, key)
            with store_errors("remove", path), suppress(FileNotFoundError):
                path.unlink()
                if self.durable:
                    sync_directory(path.parent)
        self._list(layout)
        return True

    # --- how sources are doing ---------------------------------------------------------------------------------------

    def write_status(self, key: SourceKey, status: Mapping[str, Any], /) -> None:
        """Keep a remark about how a source is doing, in place of the one before; JSON values only.

        `fluxsrc.reconcile.SavedStatuses` writes them. A crash leaves the old one or the new one, a power cut perhaps none.
        """
        _statuses.write(self._layout, key, status)

    def status(self, key: SourceKey, /) -> Mapping[str, Any] | None:
        """The last remark about a source; None if there is none, or none that can be read."""
        return _statuses.read(self._layout, key)

    def forget_status(self, key: SourceKey, /) -> None:
        """Drop the remark about a source, if there is one; `forget` drops it with the source's history."""
        _statuses.forget(self._layout, key)

    def statuses(self) -> Iterator[SourceKey]:
        """Every source about which there is a remark, sorted, whether it has an artifact or not."""
        return self._layout.status_keys()

    # --- retention ---------------------------------------------------------------------------------------------------

    def retain(self, key: SourceKey | None = None, /, *, records: int = 2, ttl: float = 0.0) -> int:
        """Let artifacts retire from one history, or from all; `gc` sweeps what nothing refers to any more.

        Args:
            key: Whose history; None for all.
            records: How many stay whatever their age: a floor, never a ceiling. At least 1.
            ttl: Seconds an artifact stays after another took its place.

        Returns:
            How many retired.
        """
        if records < 1:
            raise ConfigurationError(f"retain keeps at least 1 record, not {records}", hint="to drop all: forget(key)")
        layout = self._layout
        retired = 0
        for each in [key] if key is not None else list(self.sources()):
            if len(_index.read_record(layout, each).entries) <= records:
                continue
            with layout.source_locked(each), layout.writing():
                record = _index.read_record(layout, each)
                retained = record.retained(self._clock(), records=records, ttl=ttl)
                if len(retained.entries) < len(record.entries):
                    layout.write(layout.record(each), retained.to_json())
                    retired += len(record.entries) - len(retained.entries)
        return retired

    def pin(self, artifact: Artifact, name: str, /) -> None:
        """Keep an artifact until `unpin`, whatever becomes of its history; a pin of this name moves to it.

        Raises:
            ArtifactNotFoundError: Its blob is not there.
        """
        _retention.pin(self._layout, artifact, name)

    def unpin(self, name: str, /) -> bool:
        """Drop a pin; say whether it was there."""
        return _retention.unpin(self._layout, name)

    def pins(self) -> Mapping[str, Artifact]:
        """What is pinned, by the pins' names."""
        return _retention.pins(self._layout)

    def lease(self, artifact: Artifact, /, *, ttl: float = 300.0) -> "AbstractContextManager[_retention.Lease]":
        """Protect what is being read while the block runs: `gc` in any process spares it.

        Args:
            artifact: What is being read.
            ttl: Seconds until the lease ends by itself, should its holder die; `renew()` starts them anew.

        Raises:
            ArtifactNotFoundError: Its blob is not there any more.
        """
        return _retention.leased(self._layout, artifact, ttl)

    def gc(self, *, grace: float = 3600.0, dry_run: bool = False) -> "_reports.GCReport":
        """Sweep blobs that no history, pin, lease or entry of `index.json` refers to, and what crashed writers left.

        Args:
            grace: Seconds since a file was last wanted during which it is spared. Writers are safe at 0 already; it is
                for consumers that hold no lease, and should exceed how far clocks may jump. Below 0 only while nobody
                writes: it takes what is put meanwhile.
            dry_run: Only count.

        Raises:
            StoreError: A history, pin or lease cannot be read. Then no blob is removed: it might be theirs.
        """
        layout = self._layout
        if not layout.ingest.exists():
            return _reports.GCReport(dry_run=dry_run)
        return _retention.collect(layout, grace=grace, dry_run=dry_run)

    def verify(self) -> "_reports.VerifyReport":
        """Hash every blob and check every reference. Changes nothing.

        Raises:
            StoreError: The directory does not exist or cannot be listed.
        """
        return _fsck.verify(self._layout)

    # --- the OCI index -----------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Bring `index.json` up to date for OCI tools; free if it is."""
        _index.flush(self._layout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()


if TYPE_CHECKING:
    _: ObservingStore = LocalStore(Path())

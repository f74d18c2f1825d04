"""`Layout`: where everything lies in a store's directory, and the locks that guard it. Nobody else joins paths.

```text
oci-layout  index.json  blobs/sha256/<hex>     an OCI image layout
sources/<kind>/<namespace>/<name>.json         each source's history: the truth, all else follows from it
index/<hex>                                    pack index of the blob of that digest: a hint, never trusted
status/<kind>/<namespace>/<name>.json          how each source is doing: a remark, for people
pins/<name>.json  leases/<id>.json             what must not be swept
index.journal                                  sources whose line in index.json is out of date
ingest/                                        files that are still being written
locks/                                         lock files, empty
```

Locks are taken in this order, so that nobody waits in a circle: `index.lock`, a source's lock, the gate and the store's
lock, the journal's.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Final

import attrs

from fluxsrc._io.atomic import make_directories, open_regular, store_errors, sync_directory, write_atomic
from fluxsrc._io.locks import LayoutLocks, locked
from fluxsrc.artifact import SourceKey
from fluxsrc.digest import Digest
from fluxsrc.errors import ArtifactNotFoundError, ConfigurationError, StoreError
from fluxsrc.stores._oci import LAYOUT

__all__ = ["Layout"]

_MAX_STEM: Final = 240
"""File systems allow names of 255 bytes; a source's name may have 253, and gets a suffix."""


@attrs.frozen(eq=False, repr=False, slots=False)  # with a dictionary, where the cached properties are
class Layout:
    """Paths and locks of a store.

    Attributes:
        root: The store's directory.
        durable: Whether to fsync.
        lock_timeout: Seconds to wait for a lock.
    """

    root: Path
    durable: bool
    lock_timeout: float

    @cached_property
    def blobs(self) -> Path:
        """Where sha256 blobs are."""
        return self.root / "blobs" / "sha256"

    @cached_property
    def ingest(self) -> Path:
        """Where files are written before they are renamed into place."""
        return self.root / "ingest"

    @cached_property
    def sources(self) -> Path:
        """Where the histories are."""
        return self.root / "sources"

    @cached_property
    def statuses(self) -> Path:
        """Where it is said how the sources are doing."""
        return self.root / "status"

    @cached_property
    def indexes(self) -> Path:
        """Where pack indexes are."""
        return self.root / "index"

    @cached_property
    def pins(self) -> Path:
        """Where pins are."""
        return self.root / "pins"

    @cached_property
    def leases(self) -> Path:
        """Where leases are."""
        return self.root / "leases"

    @cached_property
    def source_locks(self) -> Path:
        """Where the sources' lock files are."""
        return self.root / "locks" / "sources"

    @cached_property
    def index_json(self) -> Path:
        """The OCI index."""
        return self.root / "index.json"

    @cached_property
    def journal(self) -> Path:
        """Sources whose entry in the OCI index is out of date."""
        return self.root / "index.journal"

    @cached_property
    def store_lock(self) -> Path:
        """The lock that writers share and the collector takes alone."""
        return self._locks.store_lock

    @cached_property
    def _locks(self) -> LayoutLocks:
        return LayoutLocks(self.root, self.lock_timeout)

    def blob(self, digest: Digest) -> Path:
        """A blob's file."""
        return self.root / f"blobs/{digest.algorithm}/{digest.hex}"

    def pack_index(self, digest: Digest) -> Path:
        """The pack index of the blob of this digest."""
        return self.indexes / digest.hex

    def record(self, key: SourceKey) -> Path:
        """A source's history."""
        return self.sources / _file_of(key)

    def status(self, key: SourceKey) -> Path:
        """How a source is doing."""
        return self.statuses / _file_of(key)

    def source_lock(self, key: SourceKey) -> Path:
        """A source's lock file."""
        return self.source_locks / f"{key.kind}/{key.namespace}/{_stem(key.name)}.lock"

    def create(self) -> None:
        """Make the directories, and what makes them an OCI image layout; nothing that is there is touched."""
        make_directories(self.root, durable=self.durable)
        for directory in (self.ingest, self.blobs, self.sources, self.indexes):
            make_directories(directory, durable=False)
        if self.durable:
            # Each directory with new names once, and before `index.json` tells others that the store is there.
            for directory in (self.blobs.parent, self.root):
                with store_errors("write", directory):
                    sync_directory(directory)
        with self.writing():
            for path, content in (
                (self.root / "oci-layout", LAYOUT),
                (self.index_json, b'{"schemaVersion":2,"manifests":[]}'),
            ):
                if not path.exists():
                    self.write(path, content)

    def write(self, path: Path, data: bytes, *, durable: bool | None = None) -> None:
        """Replace a file atomically; durable unless the store or the caller says otherwise."""
        with store_errors("write", path):
            durable = self.durable if durable is None else durable
            write_atomic(path, data, scratch=self.ingest, durable=durable)

    def read(self, path: Path) -> bytes | None:
        """A small file's content, or None if it is not there."""
        try:
            descriptor = open_regular(path, what=path.name)
        except ArtifactNotFoundError:
            return None
        with store_errors("read", path), os.fdopen(descriptor, "rb") as stream:
            return stream.read()

    def records(self) -> Iterator[Path]:
        """Every file that may be a record, sorted; what cannot be listed is an error, never left out."""
        for kind in _names(self.sources):
            for namespace in _names(self.sources / kind):
                for name in _names(self.sources / kind / namespace):
                    if name.endswith(".json"):
                        yield self.sources / kind / namespace / name

    def relative(self, path: Path) -> str:
        """A path of the store as reports show it."""
        return str(path.relative_to(self.root))

    def source_keys(self) -> Iterator[SourceKey]:
        """Every source that has a record, sorted."""
        return self._keys(self.sources)

    def status_keys(self) -> Iterator[SourceKey]:
        """Every source of which something is said, sorted."""
        return self._keys(self.statuses)

    def _keys(self, root: Path) -> Iterator[SourceKey]:
        for kind in _names(root):
            for namespace in _names(root / kind):
                files = [root / kind / namespace / name for name in _names(root / kind / namespace)]
                yield from sorted(key for path in files if (key := self._key(kind, namespace, path)) is not None)

    def _key(self, kind: str, namespace: str, path: Path) -> SourceKey | None:
        """The key of a source's file, or None for a file that is none of ours."""
        name = path.name.removesuffix(".json")
        if "~" in name:
            name = self._name_in(path)
        try:
            key = SourceKey(kind, namespace, name)
        except ConfigurationError:
            return None
        return key if self.record(key).name == path.name else None

    def _name_in(self, path: Path) -> str:
        # Only the shortened names need a look inside; what cannot be read is `verify`'s to report.
        data = self.read(path) or b""
        return data.partition(b'"key":"')[2].partition(b'"')[0].decode(errors="replace").rpartition("/")[2]

    @contextmanager
    def source_locked(self, key: SourceKey) -> Iterator[None]:
        """Hold a source's lock: its history is read, changed and replaced by one at a time."""
        with locked(self.source_lock(key), timeout=self.lock_timeout):
            yield

    def writing(self) -> AbstractContextManager[None]:
        """Hold the store's lock together with all other writers: nothing is swept meanwhile."""
        return self._locks.writing()

    def alone(self) -> AbstractContextManager[None]:
        """Hold the store's lock alone: no artifact is between its blob and its record. Keep it short."""
        return self._locks.alone()

    def index_locked(self) -> AbstractContextManager[None]:
        """Hold the lock of the OCI index."""
        return self._locks.index()

    @contextmanager
    def journal_locked(self) -> Iterator[None]:
        """Hold the journal's lock."""
        with locked(self.root / "locks" / "journal.lock", timeout=self.lock_timeout):
            yield


def _file_of(key: SourceKey) -> str:
    return f"{key.kind}/{key.namespace}/{_stem(key.name)}.json"


def _stem(name: str) -> str:
    if len(name) <= _MAX_STEM:
        return name
    # No source's name has a tilde: shortened names cannot meet others.
    return f"{name[:180]}~{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _names(directory: Path) -> list[str]:
    try:
        with store_errors("list", directory):
            return sorted(os.listdir(directory))
    except StoreError as exc:
        if isinstance(exc.__cause__, FileNotFoundError | NotADirectoryError):
            return []
        raise

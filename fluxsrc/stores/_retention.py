"""What stays and what goes: pins, leases, and the collector.

The collector never takes a blob from under a writer. A writer makes the blob young, then writes the record that refers
to it, all while holding the store's lock together with other writers. The collector:

1. Alone: reads the file system's clock. No writer is half-way, so whatever is written later is younger than this.
2. Marks what histories, pins, leases and `index.json` refer to. If any of them cannot be read, it gives up: an unknown
   reference must not become a lost blob.
3. Alone again, a few blobs at a time: removes those that are neither marked nor younger than the first step, less the
   grace period. A blob that became wanted meanwhile has become young as well.
"""

import datetime as dt
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import attrs

from fluxsrc._io.atomic import store_errors
from fluxsrc._io.locks import try_lock
from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, StoreError
from fluxsrc.stores._blobs import need, touch
from fluxsrc.stores._index import load_index, rebuild
from fluxsrc.stores._layout import Layout
from fluxsrc.stores._oci import config_document, descriptors, documents
from fluxsrc.stores._records import artifact_from_json, artifact_to_json, damaged, load
from fluxsrc.stores._reports import GCReport

__all__ = ["Lease", "collect", "leased", "pin", "pins", "references", "unpin"]

_VERSION: Final = 1
_BATCH: Final = 64
"""Blobs removed at a time: writers wait no longer than that takes."""
_PIN_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,198}[A-Za-z0-9])?")
_BLOB_NAME: Final = re.compile(r"[0-9a-f]{64}")


# --- pins and leases -------------------------------------------------------------------------------------------------


def pin(layout: Layout, artifact: Artifact, name: str) -> None:
    """Keep an artifact until `unpin`, whatever happens to its history; a pin of this name moves here."""
    path = _pin_path(layout, name)
    need(layout, artifact)
    with layout.writing():
        touch(layout, artifact)
        layout.write(path, _protection(artifact))


def unpin(layout: Layout, name: str) -> bool:
    """Drop a pin; say whether it was there."""
    return _remove(_pin_path(layout, name))


def pins(layout: Layout) -> dict[str, Artifact]:
    """What is pinned, by the pins' names."""
    found: dict[str, Artifact] = {}
    for path in _json_files(layout.pins):
        data = layout.read(path)
        if data is not None:
            found[path.stem] = _protected(data, path)
    return found


def _pin_path(layout: Layout, name: str) -> Path:
    if not _PIN_NAME.fullmatch(name):
        raise ConfigurationError(
            f"not a name for a pin: {name[:80]!r}",
            hint="letters, digits, '-', '_' and '.', 200 at most, a letter or digit at both ends",
        )
    return layout.pins / f"{name}.json"


@attrs.frozen
class Lease:
    """The promise that an artifact is not swept for a while.

    Attributes:
        artifact: Which one.
        ttl: Seconds from the last renewal to the end of the promise.
    """

    artifact: Artifact
    ttl: float
    _layout: Layout = attrs.field(repr=False)
    _path: Path = attrs.field(repr=False)

    def renew(self) -> None:
        """Start the time anew.

        Raises:
            ArtifactNotFoundError: The lease had expired, and the artifact was swept.
        """
        expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.ttl)
        need(self._layout, self.artifact)
        with self._layout.writing():
            touch(self._layout, self.artifact)
            # A lease is for the living: after a power cut nobody holds it, so it need not survive one.
            self._layout.write(self._path, _protection(self.artifact, expires=expires.isoformat()), durable=False)


@contextmanager
def leased(layout: Layout, artifact: Artifact, ttl: float) -> Iterator[Lease]:
    """Protect an artifact while the block runs, for `ttl` seconds at most unless renewed."""
    if not ttl > 0:
        raise ConfigurationError(f"a lease lasts for a positive number of seconds, not {ttl!r}")
    lease = Lease(artifact, ttl, layout, layout.leases / f"{os.getpid()}-{os.urandom(8).hex()}.json")
    lease.renew()
    try:
        yield lease
    finally:
        _remove(lease._path)  # noqa: SLF001 - the lease is this module's own


def _protection(artifact: Artifact, **facts: str) -> bytes:
    value = {"version": _VERSION, "key": str(artifact.key), "artifact": artifact_to_json(artifact), **facts}
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _protected(data: bytes, path: Path) -> Artifact:
    value = load(data, version=_VERSION, where=str(path))
    try:
        return artifact_from_json(value["artifact"], SourceKey.parse(value["key"]))
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise damaged(str(path)) from exc


def _expired(data: bytes, path: Path) -> bool:
    try:
        expires = dt.datetime.fromisoformat(load(data, version=_VERSION, where=str(path))["expires"])
        return expires < dt.datetime.now(dt.UTC)
    except (KeyError, TypeError, ValueError) as exc:
        raise damaged(str(path)) from exc


def _remove(path: Path) -> bool:
    with store_errors("remove", path):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        return True


# --- what is referred to ---------------------------------------------------------------------------------------------


def references(layout: Layout) -> dict[str, str]:
    """Every blob that something refers to, and what does, for people.

    Raises:
        StoreError: A record, pin, lease or manifest cannot be read, so that nobody knows what it refers to.
    """
    found: dict[str, str] = {}
    for path in layout.records():
        data = layout.read(path)
        if data is not None:
            found.update(dict.fromkeys(_recorded(data, path), layout.relative(path)))
    for path in (*_json_files(layout.pins), *_json_files(layout.leases)):
        data = layout.read(path)
        if data is not None and not (path.parent == layout.leases and _expired(data, path)):
            artifact = _protected(data, path)
            described = documents(artifact)
            where = layout.relative(path)
            for needed in (artifact.digest, described.config.digest, described.manifest.digest):
                found.setdefault(str(needed), where)
    for digest in _listed(layout, load_index(layout)):
        found.setdefault(digest, "index.json")
    return found


def _recorded(data: bytes, path: Path) -> Iterator[str]:
    # Straight from the JSON: a large store has many records, and only the digests matter here.
    artifacts = load(data, version=_VERSION, where=str(path)).get("artifacts")
    if not isinstance(artifacts, list):
        raise damaged(str(path))
    for item in artifacts:
        try:
            yield item["digest"]
            yield item["manifest"]
            yield str(config_document(item["contentDigest"]).digest)
        except (KeyError, TypeError) as exc:
            raise damaged(str(path)) from exc


def _listed(layout: Layout, document: Any) -> Iterator[str]:
    """What an OCI document refers to, directly and through the documents it refers to."""
    pending = [document]
    seen: set[str] = set()
    while pending:
        for descriptor in descriptors(pending.pop()):
            digest = descriptor["digest"]
            if digest in seen:
                continue
            seen.add(digest)
            yield digest
            if str(descriptor.get("mediaType", "")).endswith(_NESTED):
                pending.append(_document(layout, digest))


_NESTED: Final = ("manifest.v1+json", "index.v1+json", "manifest.v2+json", "manifest.list.v2+json")


def _document(layout: Layout, digest: str) -> Any:
    try:
        data = layout.read(layout.blob(Digest.parse(digest)))
        return None if data is None else json.loads(data)
    except ValueError as exc:  # a digest that is none, or a document that is none
        raise damaged(f"{layout.root}: what index.json knows as {digest}") from exc


# --- the collector ---------------------------------------------------------------------------------------------------


def collect(layout: Layout, *, grace: float, dry_run: bool) -> GCReport:
    """Remove what nothing refers to, by the steps of this module's docstring."""
    with layout.index_locked():  # one collector at a time, and no flush
        with layout.alone():
            horizon = _file_system_time(layout) - int(grace * 1e9)  # 1
        full: StoreError | None = None
        if not dry_run:
            try:
                rebuild(layout)  # else entries of index.json that are out of date would keep what they name
            except StoreError as exc:
                full = exc  # a full disk is what collecting is for: go on, and try again afterwards
        marked = references(layout)  # 2
        blobs = [name for name in _names(layout.blobs) if _BLOB_NAME.fullmatch(name)]  # all else is not ours
        unmarked = [layout.blobs / name for name in blobs if f"sha256:{name}" not in marked]
        sizes = _sweep(layout, unmarked, horizon, dry_run=dry_run)  # 3
        leftovers = _sweep_leftovers(layout, horizon, dry_run=dry_run)
        if full is not None:
            rebuild(layout)
    return GCReport(
        blobs=len(sizes),
        bytes=sum(sizes),
        leftovers=leftovers,
        kept=len(blobs) - len(unmarked),
        young=len(unmarked) - len(sizes),
        dry_run=dry_run,
    )


def _file_system_time(layout: Layout) -> int:
    """Now, in nanoseconds, by the clock that stamps this file system's files: on a network it is not ours."""
    with store_errors("touch", layout.store_lock):
        os.utime(layout.store_lock)  # no new file: a full disk must not stop the collector
        return layout.store_lock.stat().st_mtime_ns


def _sweep(layout: Layout, paths: Sequence[Path], horizon: int, *, dry_run: bool) -> list[int]:
    """Remove the files that are older than the horizon; return their sizes."""
    sizes: list[int] = []
    for start in range(0, len(paths), _BATCH):
        with layout.alone(), store_errors("remove", layout.root):
            for path in paths[start : start + _BATCH]:
                with suppress(FileNotFoundError):
                    found = path.lstat()
                    if found.st_mtime_ns < horizon and stat.S_ISREG(found.st_mode):
                        if not dry_run:
                            path.unlink()
                            (layout.indexes / path.name).unlink(missing_ok=True)
                        sizes.append(found.st_size)
    return sizes


def _sweep_leftovers(layout: Layout, horizon: int, *, dry_run: bool) -> int:
    count = len(
        _sweep(layout, [p for p in _files(layout.indexes) if not _has_blob(layout, p)], horizon, dry_run=dry_run)
    )
    count += _sweep_abandoned(layout, horizon, dry_run=dry_run)
    for path in _json_files(layout.leases):
        data = layout.read(path)
        if data is not None and _expired(data, path):
            count += 1
            if not dry_run:
                _remove(path)
    for path in layout.source_locks.glob("*/*/*.lock"):
        relative = path.relative_to(layout.source_locks).with_suffix(".json")
        if not (layout.sources / relative).exists() and path.lstat().st_mtime_ns < horizon:
            descriptor = try_lock(path, create=False)
            if descriptor is not None:
                # Removed while held: whoever opened it meanwhile sees that it is gone, and makes a new one.
                count += 1
                if not dry_run:
                    _remove(path)
                os.close(descriptor)
    return count


def _has_blob(layout: Layout, index: Path) -> bool:
    return not _BLOB_NAME.fullmatch(index.name) or (layout.blobs / index.name).exists()


def _sweep_abandoned(layout: Layout, horizon: int, *, dry_run: bool) -> int:
    """Remove files in `ingest/` that no living process is writing."""
    count = 0
    with layout.alone(), store_errors("remove", layout.ingest):
        for path in _files(layout.ingest):
            if path.suffix != ".tmp" or path.is_symlink() or not path.is_file() or path.stat().st_mtime_ns >= horizon:
                continue
            descriptor = try_lock(path, create=False)
            if descriptor is not None:
                # Removed while held: a writer that is only about to lock its new file sees that it is gone.
                count += 1
                if not dry_run:
                    path.unlink(missing_ok=True)
                os.close(descriptor)
    return count


def _names(directory: Path) -> list[str]:
    with store_errors("list", directory):
        return sorted(os.listdir(directory)) if directory.exists() else []


def _files(directory: Path) -> list[Path]:
    return [directory / name for name in _names(directory)]


def _json_files(directory: Path) -> list[Path]:
    return [path for path in _files(directory) if path.suffix == ".json"]

"""`verify`: every byte of a store held against what its name and its records say. Reads only; writers may go on."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from fluxsrc._io.atomic import open_regular, store_errors
from fluxsrc._io.hashing import digest_of
from fluxsrc.artifact import Artifact
from fluxsrc.digest import Digest
from fluxsrc.errors import ArtifactNotFoundError, ConfigurationError, StoreError
from fluxsrc.stores._index import load_index
from fluxsrc.stores._layout import Layout
from fluxsrc.stores._oci import LAYOUT, documents, is_layout, own_key
from fluxsrc.stores._records import Record
from fluxsrc.stores._reports import Problem, ProblemKind, VerifyReport
from fluxsrc.stores._retention import pins, references

__all__ = ["verify"]

_BLOB_NAME: Final = re.compile(r"[0-9a-f]{64}")
_KNOWN: Final = frozenset(
    {
        "blobs",
        "index",
        "index.journal",
        "index.journal.flushing",
        "index.json",
        "ingest",
        "leases",
        "locks",
        "oci-layout",
        "pins",
        "sources",
        "status",
    }
)


def verify(layout: Layout) -> VerifyReport:
    """Check a store.

    1. Hash every blob.
    2. Read every history and pin; what they refer to must be among the sound blobs.
    3. Read `index.json`; what it lists must be there.
    4. Name what nobody refers to, and what nobody knows.
    """
    return _Check(layout).run()


@attrs.define
class _Check:
    layout: Layout
    problems: list[Problem] = attrs.Factory(list)
    sound: dict[str, int] = attrs.Factory(dict)
    """Digests of the blobs that are what their names say, and their sizes."""
    corrupt: set[str] = attrs.Factory(set)
    unknown: list[str] = attrs.Factory(list)
    sources: int = 0

    def run(self) -> VerifyReport:
        if not self.layout.root.exists():
            raise StoreError(f"{self.layout.root} does not exist", path=str(self.layout.root))
        self._blobs()  # 1
        self._records()  # 2
        self._pins()
        self._oci_index()  # 3
        orphaned = self._orphaned()  # 4
        self._strangers()
        return VerifyReport(
            sources=self.sources,
            blobs=len(self.sound) + len(self.corrupt),
            bytes=sum(self.sound.values()),
            problems=tuple(sorted(set(self.problems), key=lambda problem: (problem.path, problem.kind))),
            orphaned=orphaned,
            leftovers=tuple(self.layout.relative(path) for path in self._files(self.layout.ingest)),
            unknown=tuple(sorted(self.unknown)),
        )

    def _blobs(self) -> None:
        for path in self._files(self.layout.blobs):
            if _BLOB_NAME.fullmatch(path.name):
                self._blob(path)
            else:
                self.unknown.append(self.layout.relative(path))

    def _blob(self, path: Path) -> None:
        name = f"sha256:{path.name}"
        try:
            descriptor = open_regular(path, what=name)
            with os.fdopen(descriptor, "rb") as stream, store_errors("read", path):
                digest, size = digest_of(stream)
        except ArtifactNotFoundError:
            return  # swept since it was listed
        except StoreError as exc:
            self.corrupt.add(name)
            self._report(ProblemKind.UNREADABLE, path, exc.message)
            return
        if str(digest) == name:
            self.sound[name] = size
        else:
            self.corrupt.add(name)
            self._report(ProblemKind.CORRUPT, path, f"{size} bytes with digest {digest}")

    def _records(self) -> None:
        for path in self.layout.records():
            record = self._record(path)
            if record is None:
                continue
            self.sources += 1
            if self.layout.record(record.key) != path:
                self._report(ProblemKind.CORRUPT, path, f"it says that it belongs to {record.key}")
            for artifact in record.artifacts:
                self._artifact(artifact, path)

    def _record(self, path: Path) -> Record | None:
        try:
            data = self.layout.read(path)
            return None if data is None else Record.from_json(data, where=str(path))
        except StoreError as exc:
            self._report(ProblemKind.CORRUPT, path, exc.message)
            return None

    def _artifact(self, artifact: Artifact, path: Path) -> None:
        """What a record says of an artifact must agree with the blobs, and with itself."""
        described = documents(artifact)
        needed = [(artifact.digest, artifact.size)]
        if artifact.manifest == described.manifest.digest:
            needed += [(each.digest, len(each.data)) for each in (described.config, described.manifest)]
        else:
            self._report(
                ProblemKind.CORRUPT,
                path,
                f"{artifact.revision}: its facts make the manifest {described.manifest.digest}, "
                f"it was recorded with {artifact.manifest}",
            )
        for digest, size in needed:
            self._referred(digest, size, path, f"{artifact.key} at {artifact.revision}", artifact)

    def _referred(self, digest: Digest, size: int, path: Path, whose: str, artifact: Artifact | None) -> None:
        name = str(digest)
        if name in self.corrupt:
            return  # reported as such
        if name not in self.sound and self.layout.blob(digest).exists():
            self._blob(self.layout.blob(digest))  # put after the blobs were listed
        if self.sound.get(name) == size or name in self.corrupt:
            return
        if name in self.sound:
            self._report(ProblemKind.CORRUPT, path, f"{whose}: {size} bytes recorded, {name} has {self.sound[name]}")
        elif artifact is None or self._still_recorded(path, artifact):
            self._report(ProblemKind.MISSING, self.layout.blob(digest), f"needed by {whose}")

    def _still_recorded(self, path: Path, artifact: Artifact) -> bool:
        """Whether it is not merely that the artifact retired and was swept since its record was read."""
        if path.parent == self.layout.pins:
            return path.exists()
        record = self._record(path)
        return record is not None and artifact in record.artifacts

    def _pins(self) -> None:
        try:
            pinned = pins(self.layout)
        except StoreError as exc:
            self.problems.append(Problem(ProblemKind.CORRUPT, "pins", exc.message))
            return
        for name, artifact in pinned.items():
            path = self.layout.pins / f"{name}.json"
            self._referred(artifact.digest, artifact.size, path, f"the pin {name}", artifact)

    def _oci_index(self) -> None:
        layout_file = self.layout.root / "oci-layout"
        for path in (layout_file, self.layout.index_json):
            if not path.exists() and self.sources:  # before the first record it may still be on its way
                self._report(ProblemKind.MISSING, path, "an OCI image layout needs it")
        try:
            if not is_layout(self.layout.read(layout_file) or LAYOUT):
                self._report(ProblemKind.CORRUPT, layout_file, "not the image layout version 1.0.0")
            entries = load_index(self.layout)["manifests"]
        except StoreError as exc:
            self._report(ProblemKind.CORRUPT, self.layout.index_json, exc.message)
            return
        for entry in entries:
            key = own_key(entry)
            if key is None or str(entry.get("digest")) in self.sound:
                continue
            try:
                digest = Digest.parse(str(entry.get("digest")))
            except ConfigurationError as exc:
                self._report(ProblemKind.CORRUPT, self.layout.index_json, f"what it lists for {key}: {exc.message}")
                continue
            if not self.layout.blob(digest).exists():
                self._report(ProblemKind.MISSING, self.layout.blob(digest), f"index.json lists it for {key}")

    def _orphaned(self) -> tuple[str, ...]:
        try:
            referred = references(self.layout)
        except StoreError:
            return ()  # reported above; nobody knows what is orphaned
        return tuple(sorted(name for name in self.sound if name not in referred))

    def _strangers(self) -> None:
        for path in self._files(self.layout.root):
            if path.name not in _KNOWN:
                self.unknown.append(self.layout.relative(path))
        known = {self.layout.record(key) for key in self.layout.source_keys()}
        known |= {self.layout.status(key) for key in self.layout.status_keys()}
        for directory in (self.layout.sources, self.layout.statuses):
            self.unknown += [self.layout.relative(path) for path in self._tree(directory) if path not in known]
        for path in self._files(self.layout.indexes):
            if not _BLOB_NAME.fullmatch(path.name):
                self.unknown.append(self.layout.relative(path))

    def _tree(self, directory: Path) -> Iterator[Path]:
        for path in self._files(directory):
            if stat.S_ISDIR(path.lstat().st_mode):
                yield from self._tree(path)
            else:
                yield path

    def _files(self, directory: Path) -> list[Path]:
        with store_errors("list", directory):
            return sorted(directory.iterdir()) if directory.exists() else []

    def _report(self, kind: ProblemKind, path: Path, detail: str) -> None:
        self.problems.append(Problem(kind, self.layout.relative(path), detail))

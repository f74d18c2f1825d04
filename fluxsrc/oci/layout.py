"""`LayoutRepository`: a `Repository` in a directory, as the OCI image layout has it. For air gaps and USB sticks.

Written as a store writes, and with the store's own locks, for the directory may be one: a blob is complete under its
name or not there, `index.json` is replaced atomically by one at a time, and no collector takes what is being written.
What other tools wrote stays as it is; what a store lists for its sources is the store's alone.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from fluxsrc._io.atomic import (
    make_directories,
    open_regular,
    store_errors,
    sync_directory,
    write_all,
    write_atomic,
)
from fluxsrc._io.locks import LayoutLocks, locked_scratch
from fluxsrc.artifact import ANNOTATION_SOURCE_KEY
from fluxsrc.digest import Digest
from fluxsrc.errors import (
    ArtifactNotFoundError,
    ConfigurationError,
    RemoteProtocolError,
    RevisionNotFoundError,
    StoreReadError,
)
from fluxsrc.limits import Limits
from fluxsrc.oci.manifest import INDEX_MEDIA_TYPE, Descriptor, Index, parse_document
from fluxsrc.oci.reference import is_tag
from fluxsrc.oci.repository import BlobSource, Document, Repository, Sink, Verifier, hasher, verified
from fluxsrc.operation import Operation

__all__ = ["LayoutRepository"]

_CHUNK: Final = 1 << 20
_PATIENCE: Final = 60.0
"""Seconds to wait for another process that is changing `index.json`."""
_REF_NAME: Final = "org.opencontainers.image.ref.name"
_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}\n'


@attrs.frozen(eq=False, repr=False)
class LayoutRepository:
    """A directory with `oci-layout`, `index.json` and `blobs/`; see `Repository`."""

    _root: str
    _limits: Limits
    _operation: Operation

    @property
    def name(self) -> str:
        """`oci-layout:PATH`."""
        return f"oci-layout:{self._root}"

    @property
    def operation(self) -> Operation:
        """What it is open for."""
        return self._operation

    def resolve(self, reference: str, /) -> Descriptor:
        """From `index.json`; a digest from the blob of that name."""
        self._operation.check("resolve", url=self.name)
        digest = _digest(reference)
        listed = self._listed()
        if digest is None:
            found = [item for item in listed if item.annotations.get(_REF_NAME) == reference]
            if not found and reference == "latest" and len({item.digest for item in listed}) == 1:
                # The only one there is, as `skopeo copy … oci:DIRECTORY` leaves it; unless it has a name, and that is another.
                found = [item for item in listed if _REF_NAME not in item.annotations]
            if not found:
                names = sorted({item.annotations.get(_REF_NAME, "") for item in listed} - {""})
                there = names or [f"@{item.digest}" for item in listed]  # crane gives no names
                raise RevisionNotFoundError(
                    f"{self.name} has no {reference!r}, only {', '.join(there[:10]) or 'nothing at all'}",
                    url=self.name,
                    hint=None if names or not there else f"name one by its digest: {self.name}{there[0]}",
                )
            return found[-1]
        known = next((item for item in listed if item.digest == digest), None)
        return self.document(reference).descriptor if known is None else known

    def document(self, reference: str, /) -> Document:
        """One small file."""
        digest = _digest(reference)
        descriptor = self.resolve(reference) if digest is None else None
        digest = digest if descriptor is None else descriptor.digest
        assert digest is not None
        path = self._blob(digest)
        data = self._read(path, f"{self.name}@{digest}")
        verified(data, digest, where=self.name)
        if descriptor is None:
            media_type = parse_document(data, where=self.name).media_type
            descriptor = Descriptor(media_type=media_type, digest=digest, size=len(data))
        return Document(attrs.evolve(descriptor, annotations={}), data)

    def tags(self) -> Iterator[str]:
        """The names in `index.json`."""
        names = dict.fromkeys(item.annotations.get(_REF_NAME) for item in self._listed())
        yield from (name for name in names if name)

    def fetch(self, blob: Descriptor, sink: Sink, /) -> None:
        """Read and hashed in one pass."""
        self._limits.check("max_archive_bytes", blob.size, what=f"{self.name}: the blob {blob.digest}")
        verifier = Verifier(blob, sink, where=self.name)
        path = self._blob(blob.digest)
        with self._opened(path, f"{self.name}: the blob {blob.digest}") as descriptor, store_errors("read", path):
            while data := os.read(descriptor, _CHUNK):
                self._operation.check("receive", url=self.name)
                verifier.write(data)
                self._operation.report("receive", verifier.size, blob.size, detail=self.name)
        verifier.finish()

    def has(self, blob: Descriptor, /) -> bool:
        """By name and size; the bytes are checked when they are read."""
        try:
            found = self._blob(blob.digest).lstat()
        except OSError:
            return False
        return found.st_size == blob.size and (found.st_mode & 0o170000) == 0o100000  # noqa: PLR2004 - S_IFMT, S_IFREG

    def push(self, blob: Descriptor, source: BlobSource, /, *, mount_from: str | None = None) -> bool:
        """Copied and hashed in one pass; appears under its name by a rename."""
        del mount_from
        path = self._blob(blob.digest)
        if self._touch(blob):
            return False
        self._create()
        with store_errors("write", path):
            descriptor, temporary = locked_scratch(self._scratch)
            try:
                try:
                    verifier = Verifier(blob, _File(descriptor), where=self.name)
                    with source() as stream:
                        while data := stream.read(_CHUNK):
                            self._operation.check("upload", url=self.name)
                            verifier.write(data)
                    verifier.finish()
                    os.fsync(descriptor)
                    make_directories(path.parent, durable=True)
                    with self._locks.writing():
                        temporary.replace(path)
                        os.utime(path)  # the last byte may have been written long ago, and a collector spares the young
                    sync_directory(path.parent)
                finally:
                    os.close(descriptor)
            finally:
                with suppress(OSError):
                    temporary.unlink()
        return True

    def _touch(self, blob: Descriptor) -> bool:
        """Whether the blob is there; then it is made young, so that no collector takes it before it is referred to."""
        if not self.has(blob):
            return False
        path = self._blob(blob.digest)
        with self._locks.writing(), store_errors("touch", path), suppress(FileNotFoundError):
            os.utime(path)
            return True
        return False

    def push_document(self, document: Document, /, *, tag: str | None = None) -> None:
        """The blob, then its line in `index.json`.

        Raises:
            ConfigurationError: The tag is the name of a source of the store.
            RevisionNotFoundError: A part of it is not there any more.
        """
        descriptor = document.descriptor
        verified(document.data, descriptor.digest, where=self.name)
        parsed = parse_document(document.data, where=self.name, media_type=descriptor.media_type)
        with self._changing() as index:
            # No collector works while the index is held: what is there now is there when it is referred to.
            if (gone := next((part for part in parsed.parts() if not self.has(part)), None)) is not None:
                raise RevisionNotFoundError(
                    f"{self.name}: {gone.digest} is not there", url=self.name, hint="it was swept meanwhile: push again"
                )
            write_atomic(self._blob(descriptor.digest), document.data, scratch=self._scratch, durable=True)
            manifests = index.setdefault("manifests", [])
            if tag is not None:
                self._check_foreign([item for item in manifests if _name(item) == tag], tag)
                # The name moves here; and what has a name now needs no line without one.
                manifests[:] = [
                    item
                    for item in manifests
                    if (name := _name(item)) != tag and (name or item.get("digest") != str(descriptor.digest))
                ]
            elif any(m.get("digest") == str(descriptor.digest) for m in manifests):
                return
            annotations = {} if tag is None else {_REF_NAME: tag}
            manifests.append(attrs.evolve(descriptor, annotations=annotations).to_json())

    def referrers(self, digest: Digest, /) -> list[Descriptor]:
        """Found by reading every manifest that `index.json` lists."""
        found = []
        for item in self._listed():
            if item.is_manifest:
                data = self._read(self._blob(item.digest), self.name)
                parsed = parse_document(verified(data, item.digest, where=self.name), where=self.name)
                if parsed.subject is not None and parsed.subject.digest == digest:
                    found.append(parsed.listed_as(item))
                    self._limits.check("max_referrers", len(found), what=self.name)
        return found

    def delete(self, reference: str, /) -> None:
        """Drop the lines of `index.json`; blobs stay, as others may need them."""
        with self._changing() as index:
            digest = _digest(reference)

            def meant(item: dict[str, Any]) -> bool:
                return bool(item.get("digest") == str(digest)) if digest is not None else _name(item) == reference

            dropped = [item for item in index.get("manifests", []) if meant(item)]
            if not dropped:
                raise RevisionNotFoundError(f"{self.name} has no {reference}", url=self.name)
            self._check_foreign(dropped, reference)
            index["manifests"] = [item for item in index["manifests"] if not meant(item)]

    def _check_foreign(self, lines: list[dict[str, Any]], what: str) -> None:
        """Hands off the lines of a store's sources: the store writes them anew, and counts on them."""
        for item in lines:
            source = (item.get("annotations") or {}).get(ANNOTATION_SOURCE_KEY)
            if source is not None:
                raise ConfigurationError(
                    f"{self.name}: {what} is the store's name for its source {source}",
                    hint="choose another name; `fluxsrc store` looks after the store's own",
                )

    @property
    def _locks(self) -> LayoutLocks:
        seconds = self._operation.remaining("write", at_most=_PATIENCE, url=self.name)
        return LayoutLocks(Path(self._root), _PATIENCE if seconds is None else seconds)

    @property
    def _scratch(self) -> Path:
        return Path(self._root) / "ingest"

    def _blob(self, digest: Digest) -> Path:
        hasher(digest, where=self.name)
        return Path(self._root) / "blobs" / digest.algorithm / digest.hex

    def _create(self) -> None:
        root = Path(self._root)
        make_directories(self._scratch, durable=True)
        make_directories(root / "blobs" / "sha256", durable=True)
        with store_errors("write", root):
            if not (root / "oci-layout").exists():
                write_atomic(root / "oci-layout", _LAYOUT, scratch=self._scratch, durable=True)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """`index.json`, alone; written back when the block ends well."""
        self._create()
        path = Path(self._root) / "index.json"
        with self._locks.index():
            index = self._index() if path.exists() else {"manifests": []}
            yield index
            index |= {"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE}
            write_atomic(path, json.dumps(index).encode(), scratch=self._scratch, durable=True)

    def _index(self) -> dict[str, Any]:
        data, _ = self._read_index()
        value: dict[str, Any] = json.loads(data)
        return value

    def _listed(self) -> tuple[Descriptor, ...]:
        _, parsed = self._read_index()
        return parsed.manifests

    def _read_index(self) -> tuple[bytes, Index]:
        try:
            data = self._read(Path(self._root) / "index.json", f"{self.name}: index.json")
        except (RevisionNotFoundError, StoreReadError) as exc:
            if os.path.lexists(os.path.join(self._root, "index.json")):
                raise
            raise RevisionNotFoundError(
                f"{self.name} is no image layout: it has no index.json",
                url=self.name,
                hint="is the path right? The first push makes a layout, a directory; an archive of one has to be unpacked",
            ) from exc
        parsed = parse_document(data, where=self.name, media_type=INDEX_MEDIA_TYPE)
        if not isinstance(parsed, Index):
            raise RemoteProtocolError(f"{self.name}: index.json is none", url=self.name)
        return data, parsed

    def _read(self, path: Path, what: str) -> bytes:
        with self._opened(path, what) as descriptor, store_errors("read", path):
            self._limits.check("max_manifest_bytes", os.fstat(descriptor).st_size, what=what)
            with os.fdopen(os.dup(descriptor), "rb") as stream:
                return stream.read(self._limits.max_manifest_bytes + 1)

    @contextmanager
    def _opened(self, path: Path, what: str) -> Iterator[int]:
        try:
            descriptor = open_regular(path, what=what)
        except ArtifactNotFoundError as exc:
            raise RevisionNotFoundError(f"{what} is not there", url=self.name) from exc
        try:
            yield descriptor
        finally:
            os.close(descriptor)


@attrs.frozen(eq=False, repr=False)
class _File:
    _descriptor: int

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        write_all(self._descriptor, data)


def _name(item: dict[str, Any]) -> str | None:
    """What a line of `index.json` calls its manifest."""
    name = (item.get("annotations") or {}).get(_REF_NAME)
    return name if isinstance(name, str) else None


def _digest(reference: str) -> Digest | None:
    # A name in a layout may hold almost anything; only what is wholly a digest is one.
    algorithm, colon, _ = reference.partition(":")
    return Digest.parse(reference) if colon and algorithm in ("sha256", "sha512") and not is_tag(reference) else None


if TYPE_CHECKING:

    def _(repository: LayoutRepository) -> Repository:
        return repository

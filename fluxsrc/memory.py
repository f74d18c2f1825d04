"""`MemorySource`: files in a dict. A fake that is part of the product, for tests, tutorials and notebooks."""

import contextlib
import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import attrs

from fluxsrc._units import plural
from fluxsrc.digest import Digest
from fluxsrc.entry import Entry, Mode, check_path
from fluxsrc.errors import PathNotFoundError, SourceChangedError, UnsafeEntryError
from fluxsrc.operation import Operation
from fluxsrc.produce import SourceOptions
from fluxsrc.revision import Revision
from fluxsrc.snapshot import ListedSnapshot, read_ignore_files
from fluxsrc.source import Snapshot, Source

__all__ = ["MemoryFile", "MemorySource"]


@attrs.frozen
class MemoryFile:
    """A file with a mode other than FILE; a symbolic link's data is its target."""

    data: bytes
    mode: Mode = Mode.FILE


def _files(value: Mapping[str, bytes | str | MemoryFile]) -> Mapping[str, MemoryFile]:
    def file(content: bytes | str | MemoryFile) -> MemoryFile:
        if isinstance(content, MemoryFile):
            return content
        return MemoryFile(content.encode() if isinstance(content, str) else content)

    paths = sorted((check_path(path) for path in value), key=str.encode)
    for path in paths:
        directory = path
        while "/" in directory:
            directory = directory.rpartition("/")[0]
            if directory in value:
                raise UnsafeEntryError(f"{directory} is both a file and a directory", path=directory)
    return MappingProxyType({path: file(value[path]) for path in paths})


@attrs.frozen(repr=False)
class MemorySource(SourceOptions):
    """A source over files in memory.

    >>> source = MemorySource({"app.yaml": "kind: Namespace", "run.sh": MemoryFile(b"#!/bin/sh", Mode.EXECUTABLE)})
    >>> str(source.resolve_revision())[:14]
    'sha256:a7f8e07'

    Attributes:
        files: Content by path: text, bytes, or a `MemoryFile` with a mode.
        label: The last part of its URL, to tell sources apart.
        pointer: The pointer of its revisions, as a branch or tag would be.
        created: The time of its revisions.
    """

    files: Mapping[str, MemoryFile] = attrs.field(
        converter=_files, hash=False, repr=lambda files: f"<{plural(len(files), 'file')}>"
    )
    label: str = "memory"
    pointer: str | None = attrs.field(default=None, kw_only=True)
    created: dt.datetime | None = attrs.field(default=None, kw_only=True)

    @property
    def kind(self) -> str:
        """Always "memory"."""
        return "memory"

    @property
    def url(self) -> str:
        """`memory:LABEL`."""
        return f"memory:{quote(self.label)}" + (f"#path={quote(self.path)}" if self.path else "")

    def resolve_revision(self, *, operation: Operation | None = None) -> Revision:
        """sha256 over paths, modes and contents."""
        self._operation(operation).check("resolve", url=self.url)
        digest = hashlib.sha256()
        for path, file in self.files.items():
            digest.update(f"{path}\0{file.mode:o} {len(file.data)}\0".encode())
            digest.update(file.data)
        return Revision(Digest("sha256", digest.hexdigest()), self.pointer)

    @contextlib.contextmanager
    def fetch(self, revision: Revision | None = None, /, *, operation: Operation | None = None) -> Iterator[Snapshot]:
        """The files; see `Source`."""
        current = self.resolve_revision(operation=operation)
        if revision is not None and revision.digest != current.digest:
            raise SourceChangedError(f"{self.url} is at {current.short}, not at {revision.short}", url=self.url)
        prefix = f"{self.path}/" if self.path else ""
        entries = [
            Entry.from_bytes(
                path[len(prefix) :], file.data, file.mode, f"sha256:{hashlib.sha256(file.data).hexdigest()}"
            )
            for path, file in self.files.items()
            if path.startswith(prefix)
        ]
        if self.path and not entries:
            raise PathNotFoundError(f"{self.url}: no such path: {self.path}", url=self.url)
        snapshot = ListedSnapshot(
            revision=revision or current,
            entries=entries,
            created=self.created,
            ignore_files=read_ignore_files(entries, limits=self.limits),
        )
        with self._guarded(snapshot, self._operation(operation)) as guarded:
            yield guarded

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy does not pickle; a plain dict does.
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        return _rebuild, (fields | {"files": dict(self.files)},)


def _rebuild(fields: dict[str, Any]) -> MemorySource:
    return MemorySource(**fields)


if TYPE_CHECKING:
    _: Source = MemorySource({})

"""`ObjectDatabase`: read the objects of a repository on disk, fast, verified, and in bounded memory.

Packs, loose objects and alternates are looked through as git does. Every object is hashed when it is read: what comes
out is what was named. Small objects come as bytes; large ones that are no deltas stream.

Why not dulwich's `DiskObjectStore`: see decision 0007. What is taken from dulwich is `apply_delta`, compiled.
"""

import io
import os
import re
import threading
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial, wraps
from pathlib import Path
from typing import BinaryIO, Concatenate, Final, NamedTuple, ParamSpec, Self, TypeVar

from fluxsrc._io.regular import read_file
from fluxsrc.errors import ContentError, LimitExceededError, SourceChangedError, SourceError
from fluxsrc.git.packfile import Kind, ObjectFormat, Pack, delta_sizes
from fluxsrc.git.streams import ObjectStream, mismatch, open_loose, open_packed
from fluxsrc.limits import DEFAULT_LIMITS, Limits

__all__ = [
    "MAX_DELTA_BYTES",
    "MissingObjectError",
    "ObjectDatabase",
    "apply_delta",
    "object_directories",
]

MAX_DELTA_BYTES: Final = 512 * 1024 * 1024
"""The largest object that may be stored as a delta: git makes none above `core.bigFileThreshold`, which is this."""
_MAX_CHAIN: Final = 4096
"""Deltas between an object and its base; git's own maximum is 4095. More is a cycle."""
_MAX_ALTERNATES: Final = 5
"""Levels of alternates, as in git."""
_MAX_ALTERNATES_FILE: Final = 1 << 20
_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\[abfnrtv"\\]|\\[0-3][0-7]{2})*"')
_ESCAPED: Final = re.compile(rb"\\([0-7]{3}|.)")
_ESCAPES: Final = {bytes((code,)): bytes((char,)) for code, char in zip(b"abfnrtv", b"\a\b\f\n\r\t\v", strict=True)}
_CACHE_BYTES: Final = 24 * 1024 * 1024
_SMALL: Final = 1024 * 1024
"""Bytes up to which an object is cached as a likely base, and not streamed."""
_OVERHEAD: Final = 200

_P = ParamSpec("_P")
_T = TypeVar("_T")


class MissingObjectError(SourceError):
    """An object that another one names is not there."""


class _MovedError(MissingObjectError):
    """A loose object that was there when it was looked for."""


class _Packed(NamedTuple):
    pack: Pack
    offset: int


_Read = Callable[Concatenate["ObjectDatabase", bytes, _P], _T]


def _looking_again(read: _Read[_P, _T]) -> _Read[_P, _T]:
    """Look once more for what was loose when it was found and gone when it was opened: `git gc` has packed it."""

    @wraps(read)
    def reading(self: "ObjectDatabase", oid: bytes, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return read(self, oid, *args, **kwargs)
        except _MovedError:
            self._last = None
            return read(self, oid, *args, **kwargs)

    return reading


class ObjectDatabase:
    """The objects of one repository, read-only, from any thread; after `close` every read is an error.

    Args:
        directories: `objects` directories, the repository's own first; see `object_directories`.
        object_format: How objects are named.
        limits: How large an object may be.
    """

    def __init__(
        self, directories: Sequence[Path], object_format: ObjectFormat, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self.object_format = object_format
        self._directories = tuple(directories)
        self._limits = limits
        self._lock = threading.Lock()
        self._packs: dict[Path, Pack] = {}
        self._order: tuple[Pack, ...] = ()
        self._cache: dict[_Packed, tuple[Kind, bytes]] = {}
        self._cached_bytes = 0
        self._last: tuple[bytes, _Packed | Path] | None = None
        self._received: dict[bytes, tuple[Kind, bytes]] = {}
        self._closed = False
        self._rescan()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all files, each as soon as no other thread is reading it."""
        with self._lock:
            self._closed = True
            self._packs = {}
            self._order = ()
            self._cache = {}
            self._cached_bytes = 0
            self._last = None
            self._received = {}

    def expect(self, contents: dict[bytes, tuple[Kind, bytes]]) -> None:
        """Take over the contents of objects that were just received and named: reading them costs nothing."""
        self._received = contents

    # --- finding ---------------------------------------------------------------------------------------------------

    def __contains__(self, oid: bytes) -> bool:
        return self._find(oid) is not None

    def _find(self, oid: bytes) -> _Packed | Path | None:
        if self._closed:
            raise self._missing(oid)
        last = self._last
        if last is not None and last[0] == oid:
            return last[1]
        place = self._look(oid)
        if place is None and self._rescan():  # a repack may have moved it since the packs were listed
            place = self._look(oid)
        if place is not None:
            self._last = (oid, place)
        return place

    def _locate(self, oid: bytes) -> _Packed | Path:
        place = self._find(oid)
        if place is None:
            raise self._missing(oid)
        return place

    def _look(self, oid: bytes) -> _Packed | Path | None:
        for pack in self._order:
            offset = pack.find(oid)
            if offset is not None:
                if pack is not self._order[0]:  # neighbours tend to be asked for together
                    self._order = (pack, *(other for other in self._order if other is not pack))
                return _Packed(pack, offset)
        name = oid.hex()
        for directory in self._directories:
            path = directory / name[:2] / name[2:]
            if path.is_file():
                return path
        return None

    def _rescan(self) -> bool:
        """List the packs again; whether there are new ones."""
        found = [path for directory in self._directories for path in sorted((directory / "pack").glob("*.idx"))]
        with self._lock:
            known = self._packs
            for path in found:
                if path not in known and not self._closed:
                    with suppress(FileNotFoundError):  # removed since it was listed: its objects are elsewhere
                        known = known | {path: Pack.open(path, self.object_format)}
            if known is self._packs:
                return False
            self._packs = known
            self._order = tuple(sorted(known.values(), key=lambda pack: -pack.count))
            return True

    def _missing(self, oid: bytes) -> SourceError:
        if self._closed:
            return SourceChangedError("the snapshot is closed: read its entries inside the with statement")
        return MissingObjectError(
            f"object {oid.hex()} is missing from the repository",
            hint="it is damaged, or a partial clone: 'git fsck' tells",
        )

    # --- reading ---------------------------------------------------------------------------------------------------

    @_looking_again
    def read(self, oid: bytes, *, limit: str = "max_file_bytes") -> tuple[Kind, bytes]:
        """The kind and the content of an object.

        Args:
            oid: Its binary name.
            limit: The name of the limit on its bytes.

        Raises:
            SourceError: It is not there.
            ContentError: It is damaged, not what its name says, or over the limit.
        """
        received = self._received.get(oid)
        if received is not None:
            self._check_size(len(received[1]), limit, oid)
            return received
        place = self._locate(oid)
        kind, data = self._read_loose(place, oid, limit) if isinstance(place, Path) else self._read_packed(place, limit)
        actual = self.object_format.oid(kind, data)
        if actual != oid:
            raise mismatch(oid, actual.hex())
        return kind, data

    def read_kind(self, oid: bytes, kind: Kind) -> bytes:
        """The content of an object that must be of this kind, held against the limit on documents in memory.

        Raises:
            SourceError: It is not there.
            ContentError: It is damaged, of another kind, or over the limit.
        """
        actual, data = self.read(oid, limit="max_manifest_bytes")
        if actual is not kind:
            raise ContentError(f"object {oid.hex()} is a {actual.word.decode()}, where a {kind.word.decode()} belongs")
        return data

    @_looking_again
    def kind(self, oid: bytes) -> Kind:
        """What an object is; deltas are followed, nothing is inflated.

        Raises:
            SourceError: It is not there.
            ContentError: It is damaged.
        """
        place = self._locate(oid)
        for _ in range(_MAX_CHAIN):
            if isinstance(place, Path):
                with self._open_loose(place, oid) as stream:
                    return stream.kind
            kind, _, _, base = place.pack.header(place.offset)
            if base is None:
                return kind
            place = _Packed(place.pack, base) if isinstance(base, int) else self._locate(base)
        raise ContentError(f"damaged pack: object {oid.hex()} is a delta of itself")

    def read_blob(self, oid: bytes) -> bytes:
        """The content of a file."""
        kind, data = self.read(oid)
        if kind is not Kind.BLOB:
            raise ContentError(f"object {oid.hex()} is a {kind.word.decode()}, where a file belongs")
        return data

    @_looking_again
    def size(self, oid: bytes) -> int:
        """Bytes of an object's content, without reading all of it where that can be avoided."""
        received = self._received.get(oid)
        if received is not None:
            return len(received[1])
        place = self._locate(oid)
        if isinstance(place, Path):
            with self._open_loose(place, oid) as stream:
                return stream.size
        cached = self._cache.get(place)
        if cached is not None:
            return len(cached[1])
        _, size, start, base = place.pack.header(place.offset)
        if base is None:
            return size
        if size > _SMALL:
            return delta_sizes(_head(place.pack, start))[1]
        delta = place.pack.inflate(start, size)
        size = delta_sizes(delta)[1]
        if size <= _SMALL:  # whoever asks for the size reads next: the content is made now, and cached
            self._read_packed(place, "max_file_bytes", delta)
        return size

    @_looking_again
    def open(self, oid: bytes) -> BinaryIO:
        """A stream over an object's content; a large one is inflated as it is read, and verified at its end."""
        if oid in self._received:
            return io.BytesIO(self.read(oid)[1])
        place = self._locate(oid)
        if isinstance(place, Path):
            stream = self._open_loose(place, oid)
        else:
            header = place.pack.header(place.offset)
            if header.base is not None or header.size < _SMALL:
                return io.BytesIO(self.read(oid)[1])
            stream = open_packed(*place, oid, self.object_format)
        self._check_size(stream.size, "max_file_bytes", oid)
        return io.BufferedReader(stream, _SMALL // 4)

    def _read_packed(self, place: _Packed, limit: str, first: bytes | None = None) -> tuple[Kind, bytes]:
        """Follow the deltas to their base, then apply them the other way round. `first` is the first one, inflated."""
        deltas: list[tuple[_Packed, bytes]] = []
        chained = 0
        while True:
            found = self._cache.get(place)
            if found is not None:
                kind, data = found
                break
            pack, offset = place
            kind, size, start, base = pack.header(offset)
            if base is None:
                self._check_size(size, limit)
                data = pack.inflate(start, size)
                self._remember(place, kind, data)
                break
            chained += size
            if chained > MAX_DELTA_BYTES or len(deltas) > _MAX_CHAIN:
                raise ContentError(f"damaged pack {pack.name}: the deltas at {offset} are too large, or in a cycle")
            deltas.append((place, pack.inflate(start, size) if first is None else first))
            first = None
            found_base = _Packed(pack, base) if isinstance(base, int) else self._locate(base)
            if isinstance(found_base, Path):
                assert isinstance(base, bytes)
                kind, data = self._read_loose(found_base, base, limit)
                break
            place = found_base
        for target, delta in reversed(deltas):
            data = apply_delta(data, delta, check_size=partial(self._check_size, limit=limit))
            self._remember(target, kind, data)
        return kind, data

    def _remember(self, place: _Packed, kind: Kind, data: bytes) -> None:
        if len(data) > _SMALL:
            return
        with self._lock:
            if place in self._cache or self._closed:
                return
            self._cache[place] = (kind, data)
            self._cached_bytes += len(data) + _OVERHEAD
            while self._cached_bytes > _CACHE_BYTES:  # the oldest goes first
                _, dropped = self._cache.pop(next(iter(self._cache)))
                self._cached_bytes -= len(dropped) + _OVERHEAD

    def _read_loose(self, path: Path, oid: bytes, limit: str) -> tuple[Kind, bytes]:
        with self._open_loose(path, oid) as stream:
            self._check_size(stream.size, limit, oid)
            return stream.kind, io.BufferedReader(stream, min(max(stream.size, 1), _SMALL)).read()

    def _open_loose(self, path: Path, oid: bytes) -> ObjectStream:
        try:
            return open_loose(path, oid, self.object_format)
        except FileNotFoundError:
            raise _MovedError(f"object {oid.hex()} went away, twice, while it was read: try again") from None

    def _check_size(self, size: int, limit: str, oid: bytes | None = None) -> None:
        if size > getattr(self._limits, limit):
            self._limits.check(limit, size, what=f"the object {oid.hex()}" if oid else "an object")


def object_directories(objects: Path) -> list[Path]:
    """An `objects` directory and those its `info/alternates` name, in the order git looks through them."""
    found: dict[Path, None] = {}
    level = [objects]
    for _ in range(_MAX_ALTERNATES + 1):
        following: list[Path] = []
        for directory in level:
            if directory in found:
                continue
            found[directory] = None
            with suppress(FileNotFoundError, NotADirectoryError):
                lines = read_file(directory / "info" / "alternates", _MAX_ALTERNATES_FILE).splitlines()
                base = os.path.realpath(directory)
                following += [
                    Path(os.path.normpath(os.path.join(base, os.fsdecode(_unquoted(line).partition(b"\0")[0]))))
                    for line in lines
                    if line and not line.startswith(b"#")
                ]
        level = following
    return list(found)


def _unquoted(line: bytes) -> bytes:
    """A path, which git quotes as C does strings, if it has to."""
    if not _QUOTED.fullmatch(line):
        return line

    def plain(found: re.Match[bytes]) -> bytes:
        code = found[1]
        return bytes((int(code, 8),)) if code.isdigit() else _ESCAPES.get(code, code)

    return _ESCAPED.sub(plain, line[1:-1])


@cache
def _delta_engine() -> tuple[Callable[[bytes, bytes], list[bytes]], type[Exception]]:
    from dulwich.errors import ApplyDeltaError  # noqa: PLC0415 - not every repository has deltas

    try:  # where it is compiled, it loads without the rest of `dulwich.pack`, which takes ten times as long
        from dulwich._pack import apply_delta as apply  # type: ignore[import-not-found]  # noqa: PLC0415 - it has no stubs
    except ImportError:
        from dulwich.pack import apply_delta as apply  # noqa: PLC0415
    return apply, ApplyDeltaError


def apply_delta(base: bytes, delta: bytes, *, check_size: Callable[[int], None]) -> bytes:
    """The object that a delta makes of its base.

    Args:
        base: The base's content.
        delta: The delta, inflated.
        check_size: Called with the declared size of the result, before any of it is made.

    Raises:
        ContentError: The delta is damaged or does not belong to this base.
        LimitExceededError: `check_size` raised it, or the result is above `MAX_DELTA_BYTES`.
    """
    apply, damaged = _delta_engine()
    base_size, size = delta_sizes(delta)
    if base_size != len(base):
        raise ContentError("damaged pack: a delta does not belong to its base")
    check_size(size)
    if size > MAX_DELTA_BYTES:
        raise LimitExceededError(
            "an object that is stored as a delta is too large", limit="MAX_DELTA_BYTES", allowed=MAX_DELTA_BYTES
        )
    try:
        result = apply(base, delta)
    except (damaged, ValueError, IndexError, OverflowError) as exc:
        raise ContentError("damaged pack: a delta cannot be applied to its base") from exc
    data = result[0] if len(result) == 1 else b"".join(result)
    if len(data) != size:
        raise ContentError("damaged pack: a delta does not make what it declares")
    return data


def _head(pack: Pack, start: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(pack.data[start : start + 512], 32)
    except zlib.error as exc:
        raise ContentError(f"damaged pack {pack.name}: the object at {start} cannot be inflated: {exc}") from exc

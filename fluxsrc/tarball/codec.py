"""The compressions an archive may have: a `Codec` for writing in independent blocks, a `Stream` for reading any."""

import hashlib
import importlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from fluxsrc import gzip
from fluxsrc.errors import ContentError, LimitExceededError, MissingExtraError
from fluxsrc.gzip import Block, Inflater
from fluxsrc.limits import Limits
from fluxsrc.recipe import Compression

__all__ = ["Codec", "Stream", "codec_for"]

_PIECE: Final = 128 * 1024
_FREE_RATIO_BYTES: Final = 16 * 1024 * 1024
_ZSTD_LEVEL: Final = 3
_ZSTD_WINDOW_LOG: Final = 27
"""A frame may ask for 128 MiB of window, as in the zstd command's own default; more is refused."""
_ZSTD_MODULE: Final = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGICS: Final = (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + i]) + b"\x2a\x4d\x18" for i in range(16)))


# --- writing ---------------------------------------------------------------------------------------------------------


class Codec(Protocol):
    """A compression whose blocks are independent of each other, so that they can be made in parallel and copied."""

    header: bytes

    def compress(self, data: bytes, /, *, thorough: bool = False) -> Block:
        """One block, as well as its level of effort allows; called from several threads at once."""
        ...

    def decompress(self, payload: bytes, size: int, /) -> bytes | None:
        """The content of one block, or None if it is not one of this size."""
        ...

    def trailer(self, crc: int, size: int, /) -> bytes:
        """What follows the last block."""
        ...


class _Gzip:
    header = gzip.HEADER
    compress = staticmethod(gzip.compress)
    decompress = staticmethod(gzip.inflate)
    trailer = staticmethod(gzip.trailer)


class _Plain:
    header = b""

    def compress(self, data: bytes, /, *, thorough: bool = False) -> Block:  # noqa: ARG002 - nothing to be thorough about
        return Block(data, len(data), gzip.crc32(data))

    def decompress(self, payload: bytes, size: int, /) -> bytes | None:
        return payload if len(payload) == size else None

    def trailer(self, _crc: int, _size: int, /) -> bytes:
        return b""


class _Zstd:
    """A block is a frame; frames put after each other are a valid file."""

    header = b""

    def __init__(self) -> None:
        self._zstd = _zstd_module()

    def compress(self, data: bytes, /, *, thorough: bool = False) -> Block:  # noqa: ARG002 - one level serves all
        return Block(self._zstd.compress(data, _ZSTD_LEVEL), len(data), gzip.crc32(data))

    def decompress(self, payload: bytes, size: int, /) -> bytes | None:
        decompressor = self._zstd.ZstdDecompressor()
        try:
            data: bytes = decompressor.decompress(payload, size + 1)
        except self._zstd.ZstdError:
            return None
        return data if len(data) == size and decompressor.eof and not decompressor.unused_data else None

    def trailer(self, _crc: int, _size: int, /) -> bytes:
        return b""


def codec_for(compression: Compression) -> Codec:
    """The codec that writes this compression.

    Raises:
        MissingExtraError: zstd, where neither Python nor an extra brings it.
    """
    makers: dict[Compression, Callable[[], Codec]] = {
        Compression.GZIP: _Gzip,
        Compression.ZSTD: _Zstd,
        Compression.NONE: _Plain,
    }
    return makers[compression]()


def _zstd_module() -> Any:
    try:
        return importlib.import_module(_ZSTD_MODULE)
    except ImportError:
        raise MissingExtraError("zstd compression", extra="zstd") from None


# --- reading ---------------------------------------------------------------------------------------------------------


class Stream:
    """The bytes inside an archive of any of the compressions, read once from start to end.

    Attributes:
        digest: Of everything read so far; of the whole content once `at_end`.
    """

    def __init__(
        self, archive: BinaryIO, limits: Limits, compression: Compression | None = None, algorithm: str = "sha256"
    ) -> None:
        self.digest = hashlib.new(algorithm)
        self._archive = archive
        self._limits = limits
        self._head = b""
        self._read_in = self._read_out = 0
        self._ahead = memoryview(b"")
        while len(self._head) < len(_ZSTD_MAGICS[0]) and (data := archive.read(_PIECE)):
            self._head += data
        self._produce = self._producer(compression)

    def read(self, size: int) -> memoryview:
        """Some of the next bytes, at most `size`; none at the end.

        Raises:
            ContentError: The compressed data is damaged or cut short.
            LimitExceededError: It is over `max_archive_bytes` or `max_ratio`.
        """
        if not self._ahead:
            self._ahead = memoryview(self._produce())
            self.digest.update(self._ahead)
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data

    def read_exactly(self, size: int) -> bytes:
        """Exactly the next `size` bytes, or fewer at the end."""
        data = bytes(self.read(size))
        while len(data) < size and (more := self.read(size - len(data))):
            data += more
        return data

    def _producer(self, compression: Compression | None) -> Callable[[], bytes]:
        if compression is None:
            if self._head.startswith(_GZIP_MAGIC):
                compression = Compression.GZIP
            elif self._head.startswith(_ZSTD_MAGICS):
                compression = Compression.ZSTD
            else:
                compression = Compression.NONE
        if compression is Compression.NONE:
            return self._compressed
        if compression is Compression.GZIP:
            return _Members(self._compressed, gzip.inflater, gzip.InflateError, self._count).read
        zstd = _zstd_module()
        options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}

        def frame() -> Inflater:
            return _ZstdFrame(zstd.ZstdDecompressor(options=options))

        return _Members(self._compressed, frame, (zstd.ZstdError,), self._count).read

    def _compressed(self) -> bytes:
        data, self._head = self._head or self._archive.read(_PIECE), b""
        self._read_in += len(data)
        self._limits.check("max_archive_bytes", self._read_in, what="the archive")
        return data

    def _count(self, produced: int) -> None:
        self._read_out += produced
        beyond = self._read_out - _FREE_RATIO_BYTES
        if beyond > self._limits.max_ratio * self._read_in:
            raise LimitExceededError(
                f"the archive unpacks to more than {self._limits.max_ratio} times its size",
                limit="max_ratio",
                allowed=self._limits.max_ratio,
            )


class _ZstdFrame:
    """A zstd decompressor with the manners of zlib's, which hands back what it did not take yet."""

    unconsumed_tail = b""

    def __init__(self, decompressor: Any) -> None:
        self._decompressor = decompressor

    @property
    def eof(self) -> bool:
        return bool(self._decompressor.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._decompressor.unused_data)

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return bytes(self._decompressor.decompress(data, max_length))


class _Members:
    """The contents of gzip members or zstd frames that follow each other until the end of the data, and nothing else."""

    def __init__(
        self,
        source: Callable[[], bytes],
        start: Callable[[], Inflater],
        errors: tuple[type[Exception], ...],
        count: Callable[[int], None],
    ) -> None:
        self._source = source
        self._start = start
        self._errors = errors
        self._count = count
        self._member: Inflater | None = None
        self._data = b""
        self._is_full = False
        self._count_of_members = 0
        self._padded = False

    def read(self) -> bytes:
        while True:
            if self._member is not None and self._member.eof:
                self._data, self._member = self._member.unused_data, None
            # A decompressor that filled its last piece may hold more, although it took all of its input.
            if not self._data and not self._is_full:
                self._data = self._source()
                if not self._data:
                    if self._member is None:
                        return b""
                    raise ContentError("the archive is cut short inside its compressed data")
            if self._member is None:
                if self._is_padding():
                    continue
                self._member = self._start()
                self._count_of_members += 1
            try:
                out = self._member.decompress(self._data, _PIECE)
            except self._errors as exc:
                raise ContentError(f"the archive's compressed data is damaged: {exc}") from exc
            self._data = b"" if self._member.eof else self._member.unconsumed_tail
            self._is_full = len(out) == _PIECE and not self._member.eof
            if out:
                self._count(len(out))
                return out

    def _is_padding(self) -> bool:
        """Drop the zeros that bsdtar and tapes put after the last member; there is nothing else behind them."""
        if not self._padded and not (self._count_of_members and self._data.startswith(b"\0")):
            return False
        if self._data.strip(b"\0"):
            raise ContentError("the archive has data after its end")
        self._padded, self._data = True, b""
        return True


if TYPE_CHECKING:
    _: tuple[Codec, ...] = (_Gzip(), _Plain(), _Zstd())

"""Gzip in independent blocks: what lets it run in parallel, and lets a later archive copy the blocks of an earlier one.

A member is a fixed header, any number of blocks, and a trailer. Each block is a run of deflate data that refers to
nothing before it and ends on a byte, so blocks can be made in any order, by any number of threads, and put after each
other. Every gzip reader takes the result for one ordinary member, which it is.

ISA-L does the work where a wheel exists, zlib elsewhere. They make different bytes of the same content, and so do
their versions: nothing may be promised on the compressed bytes.
"""

import functools
import importlib
import struct
import zlib
from typing import Any, Final, NamedTuple, Protocol

__all__ = [
    "HEADER",
    "Block",
    "InflateError",
    "Inflater",
    "compress",
    "crc32",
    "crc32_combine",
    "inflate",
    "inflater",
    "trailer",
    "zlib_compress",
]

HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""Of a member without name and time, from an unknown system."""

_LAST_BLOCK: Final = b"\x03\x00"
"""An empty final block: what ends the deflate stream after the last of ours."""
_RAW: Final = -15
_MEMBER: Final = 31
_MAX_STORED: Final = 0xFFFF
_PROBES: Final = 16
_PROBE_BYTES: Final = 1024
_NOISY: Final = 200
_TEXT: Final = bytes((0x00, 0x09, 0x0A, 0x0D, *range(0x20, 0x7F)))
"""What there is in text, and between the texts of a tar."""
_WORTHWHILE: Final = 0.97
"""A sample that deflates to more than this part of its size is not worth deflating."""


def _library() -> Any:
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:  # no wheel for this machine or interpreter
        return zlib


_deflate: Final = _library()
_LEVEL: Final = 6 if _deflate is zlib else 2
_THOROUGH_LEVEL: Final = 6 if _deflate is zlib else 3
"""ISA-L's best: a seventh of the time of zlib's 6 for some hundredths more bytes."""
_MEM_LEVEL: Final = 9 if _deflate is zlib else 3
"""ISA-L makes its Huffman codes for as much as its buffer holds: a small one adapts them sooner, and saves 1 %."""
_PROBE_LEVEL: Final = 1

InflateError: Final[tuple[type[Exception], ...]] = (zlib.error, _deflate.error)
"""What inflating damaged data raises."""


class Block(NamedTuple):
    """A compressed block.

    Attributes:
        payload: The deflate data.
        size: Bytes before compression.
        crc: CRC-32 of those.
    """

    payload: bytes
    size: int
    crc: int


def compress(data: bytes, /, *, thorough: bool = False) -> Block:
    """Compress one block; releases the GIL while it works. Incompressible data is stored, at 5 bytes per 64 KiB.

    Args:
        data: What to compress.
        thorough: Take about three times as long for some 3 % less, where ISA-L does the work.
    """
    payload = _deflated(data, _THOROUGH_LEVEL if thorough else _LEVEL) if _is_compressible(data) else b""
    if not payload or len(payload) > len(data):
        payload = _stored(data)
    return Block(payload, len(data), crc32(data))


def _deflated(data: bytes, level: int) -> bytes:
    compressor = _deflate.compressobj(level, zlib.DEFLATED, _RAW, _MEM_LEVEL)
    payload: bytes = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return payload


def _is_compressible(data: bytes) -> bool:
    """Whether samples from all over the data deflate: a few microseconds that save milliseconds on images and archives."""
    if len(data) <= 2 * _PROBES * _PROBE_BYTES:
        return True
    step = len(data) // _PROBES
    samples = [data[start : start + _PROBE_BYTES] for start in range(0, step * _PROBES, step)]
    # Text has some sixty different bytes, 1,024 bytes of noise some 250: most data is told apart by a look at a few samples.
    plain = 0
    for sample in samples:
        # Counting what is not text is much faster than the set, and enough for text.
        plain += len(_TEXT) + len(sample.translate(None, _TEXT)) < _NOISY or len(set(sample)) < _NOISY
        if plain > _PROBES // 4:
            return True
    joined = b"".join(samples)
    return len(_deflated(joined, _PROBE_LEVEL)) < len(joined) * _WORTHWHILE


def _stored(data: bytes) -> bytes:
    view = memoryview(data)
    parts: list[bytes | memoryview] = []
    for start in range(0, len(data), _MAX_STORED):
        piece = view[start : start + _MAX_STORED]
        parts += (struct.pack("<BHH", 0, len(piece), len(piece) ^ 0xFFFF), piece)
    return b"".join(parts)


def zlib_compress(data: bytes) -> bytes:
    """Some bytes in zlib's own format, fast."""
    payload: bytes = _deflate.compress(data, 1)
    return payload


def inflate(payload: bytes, size: int) -> bytes | None:
    """The content of one block, or None if the payload is not one whole block of this size."""
    inflater = _deflate.decompressobj(_RAW)
    try:
        data: bytes = inflater.decompress(payload, size + 1)
    except InflateError:
        return None
    # A sync flush leaves the stream open: that it is not at its end is how a block differs from a whole member.
    return data if len(data) == size and not (inflater.eof or inflater.unconsumed_tail) else None


def trailer(crc: int, size: int) -> bytes:
    """What ends a member whose blocks together have this CRC-32 and size."""
    return _LAST_BLOCK + struct.pack("<II", crc, size & 0xFFFFFFFF)


class Inflater(Protocol):
    """The part of a decompressor object that a streaming reader needs; see `zlib.decompressobj`."""

    @property
    def eof(self) -> bool:
        """Whether the end was reached, and found right."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What came after the end."""
        ...

    @property
    def unconsumed_tail(self) -> bytes:
        """Input that was not looked at, because there was enough output."""
        ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """At most so many bytes of output."""
        ...


def inflater() -> Inflater:
    """A decompressor of one gzip member, which checks its trailer."""
    made: Inflater = _deflate.decompressobj(_MEMBER)
    return made


# --- CRC-32 of joined data -------------------------------------------------------------------------------------------

_POLYNOMIAL: Final = 0xEDB88320
_ONE: Final = 1 << 31


def crc32(data: bytes) -> int:
    """The CRC-32 of some bytes."""
    value: int = _deflate.crc32(data)
    return value


def crc32_combine(first: int, second: int, second_size: int) -> int:
    """The CRC-32 of two pieces of data put together, from theirs and the size of the second."""
    if _deflate is not zlib:
        value: int = _deflate.crc32_combine(first, second, second_size)
        return value
    return _crc32_combine(first, second, second_size)


def _crc32_combine(first: int, second: int, second_size: int) -> int:
    """The same, where no library does it."""
    return _multiply(_x_to_the(8 * second_size), first) ^ second


def _multiply(a: int, b: int) -> int:
    """The product of two polynomials over GF(2), modulo CRC-32's; bit 31 is the coefficient of x^0."""
    product = 0
    bit = _ONE
    while bit:
        if a & bit:
            product ^= b
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
        bit >>= 1
    return product


@functools.lru_cache(maxsize=64)
def _x_to_the(exponent: int) -> int:
    power, square = _ONE, _ONE >> 1
    while exponent:
        if exponent & 1:
            power = _multiply(power, square)
        square = _multiply(square, square)
        exponent >>= 1
    return power

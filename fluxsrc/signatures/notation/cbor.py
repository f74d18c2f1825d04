"""CBOR (RFC 8949), as much of it as a COSE envelope needs, and each value in one form only.

Integers, byte and text strings, arrays, maps with distinct keys, tags, booleans and null; definite lengths, in their shortest form.
Everything else is refused: what two readers could read in two ways must not be signed data.
"""

from typing import Any, Final

import attrs

__all__ = ["CBORError", "Tag", "decode", "encode_array_of_strings"]

_MAX_DEPTH: Final = 16
_LENGTHS: Final = {24: 1, 25: 2, 26: 4, 27: 8}
_SIMPLE: Final = {20: False, 21: True, 22: None}
_BYTES, _TEXT, _ARRAY = 2, 3, 4


class CBORError(ValueError):
    """Bytes are not what they should be. Never leaves the package."""


@attrs.frozen
class Tag:
    """A value with a meaning.

    Attributes:
        number: The meaning.
        value: The value.
    """

    number: int
    value: Any


def decode(data: bytes) -> Any:
    """The one value that these bytes are.

    >>> decode(bytes.fromhex("a201382402816178"))
    {1: -37, 2: ['x']}

    Raises:
        CBORError: They are none, or more, or one in another form.
    """
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise CBORError("something follows it")
    return value


def encode_array_of_strings(*values: bytes | str) -> bytes:
    """An array of byte and text strings; what COSE signs is one.

    >>> encode_array_of_strings("Signature1", b"").hex()
    '826a5369676e61747572653140'
    """
    parts = [_head(_ARRAY, len(values))]
    for value in values:
        data = value.encode() if isinstance(value, str) else value
        parts += [_head(_TEXT if isinstance(value, str) else _BYTES, len(data)), data]
    return b"".join(parts)


def _head(major: int, argument: int) -> bytes:
    if argument < min(_LENGTHS):
        return bytes([major << 5 | argument])
    for code, size in _LENGTHS.items():
        if argument < 1 << 8 * size:
            return bytes([major << 5 | code]) + argument.to_bytes(size)
    raise CBORError("it is too long")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.at = 0
        self._data = data

    def value(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise CBORError("it is nested too deeply")
        major, argument = self._read_head()
        match major:
            case 0:
                return argument
            case 1:
                return -1 - argument
            case 2:
                return self._take(argument)
            case 3:
                return self._text(argument)
            case 4:
                return [self.value(depth + 1) for _ in range(self._count(argument))]
            case 5:
                return self._map(self._count(argument), depth)
            case 6:
                return Tag(argument, self.value(depth + 1))
        if argument not in _SIMPLE:
            raise CBORError("it has an unknown value")
        return _SIMPLE[argument]

    def _read_head(self) -> tuple[int, int]:
        """What follows, and its size or value."""
        start = self.at
        (first,) = self._take(1)
        major, argument = first >> 5, first & 31
        if argument > max(_LENGTHS):
            raise CBORError("it has no definite length")
        if argument in _LENGTHS:
            argument = int.from_bytes(self._take(_LENGTHS[argument]))
        # Numbers with fractions look like simple values of more than a byte; none of these is known.
        if self._data[start : self.at] != _head(major, argument):
            raise CBORError("a number is not in its shortest form")
        return major, argument

    def _map(self, count: int, depth: int) -> dict[int | str, Any]:
        found: dict[int | str, Any] = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, int | str) or isinstance(key, bool) or key in found:
                raise CBORError("a key is there twice, or is neither a number nor text")
            found[key] = self.value(depth + 1)
        return found

    def _text(self, size: int) -> str:
        try:
            return self._take(size).decode()
        except UnicodeDecodeError:
            raise CBORError("a text is not UTF-8") from None

    def _count(self, count: int) -> int:
        # Each item takes a byte at least: a length must not make us loop for what cannot be there.
        if count > len(self._data) - self.at:
            raise CBORError("it ends too early")
        return count

    def _take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self._data):
            raise CBORError("it ends too early")
        taken, self.at = self._data[self.at : end], end
        return taken

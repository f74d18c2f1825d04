"""The canonical header blocks of one entry: bytes out of a path, a mode and a size, and nothing else.

Format version 1 is USTAR, with a PAX header in front only where USTAR cannot express the entry:

- the path is not ASCII, or does not split at a slash into a prefix of 155 and a name of 100 bytes;
- a link's target is not ASCII or longer than 100 bytes;
- the size is 8 GiB or more.

Everything a machine or a moment could leak into a header is fixed: owner, group and time are zero, names are empty,
modes are 0644, 0755 and 0777. A path splits at the last slash that leaves a prefix of at most 155 bytes.
"""

from typing import Final
from zlib import adler32

from fluxsrc.entry import Mode

__all__ = ["BLOCK", "END", "MAX_USTAR_SIZE", "PADDING", "header", "padded"]

BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)
"""The end of an archive: two blocks of zeros, and nothing after them."""
MAX_USTAR_SIZE: Final = 0o77777777777
"""8 GiB - 1: the most that eleven octal digits say."""
PADDING: Final = tuple(bytes(-length % BLOCK) for length in range(BLOCK))
"""The zeros that follow a content, by its length modulo 512."""

_NAME: Final = 100
_PREFIX: Final = 155
_TO_ASCII: Final = bytes(range(128)) + b"_" * 128
_PAX_NAME: Final = b"././@PaxHeader"


_AFTER_SIZE: Final = b"\0" + b"0" * 11 + b"\0"
_AFTER_LINK: Final = b"ustar\x0000" + bytes(64) + b"0000000\0" * 2
_Kind = tuple[tuple[bytes, ...], bytes, int]


def _fields(mode: int, typeflag: bytes) -> _Kind:
    """What all headers of a kind have: after the name, by its length; after the checksum; and the sum of constant bytes."""
    permissions = b"%07o\0" % mode + b"0000000\0" * 2
    after_name = tuple(bytes(_NAME - length) + permissions for length in range(_NAME + 1))
    # The checksum counts its own field as spaces.
    fixed = permissions + _AFTER_SIZE + b" " * 8 + typeflag + _AFTER_LINK
    return after_name, b"\0 " + typeflag, sum(fixed)


_FILE: Final = _fields(Mode.FILE.permissions, b"0")
_EXECUTABLE: Final = _fields(Mode.EXECUTABLE.permissions, b"0")
_SYMLINK: Final = _fields(Mode.SYMLINK.permissions, b"2")
_PAX: Final = _fields(0o644, b"x")
_NO_LINK_NO_PREFIX: Final = bytes(_NAME) + _AFTER_LINK + bytes(_PREFIX + 12)
_FILE_MODE: Final = Mode.FILE
"""Before Python 3.12 it takes a call to get a member from its enum."""
_EXECUTABLE_MODE: Final = Mode.EXECUTABLE


def padded(size: int) -> int:
    """The bytes a content of this size takes in the archive."""
    return size + (-size % BLOCK)


def header(name: bytes, mode: Mode, size: int, target: bytes = b"") -> bytes:
    """The header blocks of one entry: 512 bytes, or more where it needs PAX.

    Args:
        name: The path in UTF-8.
        mode: FILE, EXECUTABLE or SYMLINK.
        size: Bytes of the content that follows; 0 for a link.
        target: Where a link points; empty for files.
    """
    # No look-up by mode: hashing an enum member costs as much as half a header.
    kind = _FILE if mode is _FILE_MODE else _EXECUTABLE if mode is _EXECUTABLE_MODE else _SYMLINK
    if len(name) <= _NAME and size <= MAX_USTAR_SIZE and not target and name.isascii():
        return _plain(name, size, kind)
    return _general(name, size, target, kind)


def _plain(name: bytes, size: int, kind: _Kind) -> bytes:
    """A header without link target and prefix: nearly all of them, and so the one that must be cheap."""
    after_name, after_checksum, fixed = kind
    digits = b"%011o" % size
    # The low half of Adler-32 is one more than the sum of the bytes, in C. It wraps at 65521, far above what 111 bytes add up to.
    checksum = fixed + (adler32(name + digits) & 0xFFFF) - 1
    return b"".join(
        (
            name,
            after_name[len(name)],
            digits,
            _AFTER_SIZE,
            b"%06o" % checksum,
            after_checksum,
            _NO_LINK_NO_PREFIX,
        )
    )


def _general(name: bytes, size: int, target: bytes, kind: _Kind) -> bytes:
    records = {}
    prefix, short = _split(name)
    if not short:
        records[b"path"] = name
        short = _ascii(name)
    if len(target) > _NAME or not target.isascii():
        records[b"linkpath"] = target
        target = _ascii(target)
    if size > MAX_USTAR_SIZE:
        records[b"size"] = b"%d" % size
        size = 0
    block = _assemble(short, size, target, prefix, kind)
    if not records:
        return block
    body = b"".join(_record(key, value) for key, value in sorted(records.items()))
    return _plain(_PAX_NAME, len(body), _PAX) + body + PADDING[len(body) % BLOCK] + block


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Prefix and name as USTAR wants them; an empty name where it cannot hold this one."""
    if not name.isascii():
        return b"", b""
    if len(name) <= _NAME:
        return b"", name
    slash = name.rfind(b"/", 0, _PREFIX + 1)
    prefix, short = name[:slash], name[slash + 1 :]
    return (prefix, short) if slash > 0 and len(short) <= _NAME else (b"", b"")


def _ascii(name: bytes) -> bytes:
    """What a reader that does not know PAX gets to see."""
    return name[:_NAME].translate(_TO_ASCII).rstrip(b"/")


def _assemble(name: bytes, size: int, target: bytes, prefix: bytes, kind: _Kind) -> bytes:
    after_name, after_checksum, fixed = kind
    digits = b"%011o" % size
    return b"".join(
        (
            name,
            after_name[len(name)],
            digits,
            _AFTER_SIZE,
            b"%06o" % (fixed + sum(name) + sum(digits) + sum(target) + sum(prefix)),
            after_checksum,
            target.ljust(_NAME, b"\0"),
            _AFTER_LINK,
            prefix.ljust(_PREFIX + 12, b"\0"),
        )
    )


def _record(key: bytes, value: bytes) -> bytes:
    """One PAX record, whose length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)

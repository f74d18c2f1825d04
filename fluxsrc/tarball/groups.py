"""Where an archive is cut: into groups of entries that a later archive can take over whole, and groups into blocks.

A cut depends on the entries near it, never on the bytes before: after a change, the cuts of the old and the new archive
fall together again at the next one. A group is one of these:

- a run of small files, which ends after a file that the hash of its path picks, the more likely the larger it is; not
  before `_MIN` bytes, at the latest at `_FULL`. It is compressed as one block;
- one large file, in as many blocks of `MAX_BLOCK` bytes as it takes.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final
from zlib import crc32

from fluxsrc.entry import Entry, Mode, resolve_link
from fluxsrc.errors import SourceChangedError, UnsafeEntryError
from fluxsrc.tarball.headers import BLOCK, PADDING, header

__all__ = ["LARGE", "MAX_BLOCK", "Lookahead", "fingerprint", "large_blocks", "run_block"]

MAX_BLOCK: Final = 512 * 1024
"""The most bytes compressed at once: what memory use is counted in."""
LARGE: Final = MAX_BLOCK // 4
"""A file of more bytes is a group of its own."""
_MIN: Final = 64 * 1024
_MEAN: Final = 128 * 1024
"""Mean bytes of a run beyond `_MIN`: larger deflates a little better, smaller repeats less after a change."""
_FULL: Final = MAX_BLOCK - LARGE - 16 * 1024
"""A run of more bytes may not hold one more small file and its headers."""
_MAX_TARGET: Final = 4096
_SYMLINK: Final = Mode.SYMLINK
"""Before Python 3.12 it takes a call to get a member from its enum."""
_FINGERPRINT_BYTES: Final = 16


class Lookahead:
    """An iterator that can show what comes next."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._iterator = iter(entries)
        self._seen: deque[Entry] = deque()

    def peek(self, count: int) -> list[Entry]:
        """The next entries; fewer at the end."""
        missing = count - len(self._seen)
        if missing > 0:
            self._seen.extend(islice(self._iterator, missing))
        return list(islice(self._seen, count))

    def take(self) -> Entry | None:
        """The next entry, None at the end."""
        return self._seen.popleft() if self._seen else next(self._iterator, None)

    def drop(self, count: int) -> None:
        """Pass over entries that were peeked at."""
        for _ in range(count):
            self._seen.popleft()

    def clear(self) -> int:
        """Forget what was peeked at; how many entries that was."""
        count = len(self._seen)
        self._seen.clear()
        return count

    def restart(self, entries: Iterable[Entry]) -> None:
        """Go on with other entries."""
        self._iterator = iter(entries)

    def put_back(self, entry: Entry) -> None:
        """Make an entry the next one again."""
        self._seen.appendleft(entry)


def fingerprint(entries: Sequence[Entry], count: int) -> bytes | None:
    """A name of the bytes that the first `count` entries are in the archive, found without reading them.

    The entry after them belongs to it, too, for it may be what the group ended at. None if the source does not know
    their content by name.
    """
    digest = hashlib.sha256(b"" if len(entries) > count else b"end\0")
    lines = []
    for entry in entries:
        if entry.content_id is None:
            return None
        lines.append(f"{int(entry.mode)} {entry.content_id}\0{entry.path}\0")  # int: formatting an enum is slow
    digest.update("".join(lines).encode())
    return digest.digest()[:_FINGERPRINT_BYTES]


def run_block(
    ahead: Lookahead, recall: Callable[[Entry], bytes | None] | None = None, *, at_most: int = LARGE
) -> tuple[bytes, list[Entry]]:
    """The next run of small files: as it is in the archive, and of which entries. None are taken before a large file.

    Args:
        ahead: The entries.
        recall: Asked for a content before the source is.
        at_most: A file of more bytes is large, or too large.

    Raises:
        SourceChangedError: A content is not of its listed size.
        UnsafeEntryError: A link's target could not be unpacked again.
    """
    taken: list[Entry] = []
    parts: list[bytes] = []
    total = 0
    while (entry := ahead.take()) is not None:
        data = recall(entry) if recall is not None else None
        if data is None:
            data = entry.read_small(at_most)
        name = entry.path.encode()
        if entry.mode is _SYMLINK:
            head = header(name, _SYMLINK, 0, _checked_target(entry.path, data))
            data = b""
        elif data is None:
            ahead.put_back(entry)
            break
        else:
            head = header(name, entry.mode, len(data))
        padding = PADDING[len(data) % BLOCK]
        parts += (head, data, padding)
        size = len(head) + len(data) + len(padding)
        total += size
        taken.append(entry)
        if total >= _MIN and (total > _FULL or crc32(name) * _MEAN < size << 32):
            break
    return b"".join(parts), taken


def large_blocks(entry: Entry, size: int) -> Iterator[bytes]:
    """A large file as it is in the archive, in blocks.

    Raises:
        SourceChangedError: The content is not of that size.
    """
    left = size
    start = header(entry.path.encode(), entry.mode, size)
    with entry.open() as stream:
        while left:
            data = _read_up_to(stream.read, min(left, MAX_BLOCK - len(start)))
            if not data:
                raise SourceChangedError(f"{entry.path}: {size - left} bytes were read where {size} were listed")
            left -= len(data)
            yield data if left and not start else start + data + (b"" if left else PADDING[size % BLOCK])
            start = b""
        if stream.read(1):
            raise SourceChangedError(f"{entry.path}: more bytes were read than the {size} that were listed")


def _read_up_to(read: Callable[[int], bytes], size: int) -> bytes:
    """Exactly so many bytes, fewer only at the end: a stream may give less than it was asked for."""
    data = read(size)
    while 0 < len(data) < size and (more := read(size - len(data))):
        data += more
    return data


def _checked_target(path: str, data: bytes | None) -> bytes:
    if data is None or len(data) > _MAX_TARGET:
        raise UnsafeEntryError(f"{path}: a link target of more than {_MAX_TARGET} bytes", path=path)
    try:
        resolve_link(path, data.decode())
    except UnicodeDecodeError:
        raise UnsafeEntryError(f"{path}: the link target is not UTF-8", path=path) from None
    return data

"""Looking into sources and artifacts: `ls` their files, `cat` one, `diff` any two of them, wherever they live.

What is compared is what an artifact would hold: ignore rules and symlink policies apply.
"""

import difflib
import enum
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import attrs

from fluxsrc._html.cards import card
from fluxsrc._html.patch import changed
from fluxsrc._units import size
from fluxsrc.artifact import Artifact
from fluxsrc.entry import Entry, Mode
from fluxsrc.errors import ConfigurationError, PathNotFoundError
from fluxsrc.limits import DEFAULT_LIMITS
from fluxsrc.operation import Operation
from fluxsrc.select import select
from fluxsrc.snapshot import ListedSnapshot
from fluxsrc.source import Snapshot, Source
from fluxsrc.store import Store
from fluxsrc.tarball.tree import FileTree

__all__ = ["Change", "ChangeKind", "Listed", "Stored", "cat", "diff", "ls", "unified"]

_PIECE: Final = 1 << 20
_TEXT_PROBE: Final = 8192
_MAX_TEXT: Final = 1 << 20
"""Bytes of a file up to which its text is compared line by line."""
_MAX_LINES: Final = 20_000
"""Lines up to which it is: comparing takes the square of their number at worst."""


_MAX_LINES_SHOWN: Final = 1000


@attrs.frozen
class Stored:
    """An artifact, and the store that holds it."""

    artifact: Artifact
    store: Store


Target = Source | Stored
"""What can be looked into."""


@attrs.frozen
class Listed:
    """One file.

    Attributes:
        path: Its path.
        mode: FILE, EXECUTABLE or SYMLINK.
        size: Bytes of its content.
    """

    path: str
    mode: Mode
    size: int


class ChangeKind(enum.StrEnum):
    """What happened to a path between the first and the second."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    MODE = "mode"


@attrs.frozen(kw_only=True)
class Change:
    """One path that differs.

    Attributes:
        kind: ADDED, REMOVED, CHANGED (its content, and perhaps its mode), or MODE (nothing else).
        path: Its path.
        old_mode: Its mode in the first, None if it is not there.
        new_mode: Its mode in the second, None if it is not there.
        old_size: Its size in the first, None if it is not there.
        new_size: Its size in the second, None if it is not there.
        text: The unified diff of the two texts, "" if one of them is not text, or too long.
    """

    kind: ChangeKind
    path: str
    old_mode: Mode | None = None
    new_mode: Mode | None = None
    old_size: int | None = None
    new_size: int | None = None
    text: str = ""

    @property
    def summary(self) -> str:
        """What is known besides the lines: sizes and modes.

        >>> Change(kind=ChangeKind.CHANGED, path="a", old_mode=Mode.FILE, new_mode=Mode.FILE, old_size=9, new_size=8).summary
        '9 B to 8 B'
        """
        sizes = [size(each) for each in (self.old_size, self.new_size) if each is not None]
        modes = [f"{each:o}" for each in (self.old_mode, self.new_mode) if each is not None]
        facts = [" to ".join(dict.fromkeys(sizes))] if self.kind is not ChangeKind.MODE else []
        if len(set(modes)) > 1:
            facts.append(f"mode {' to '.join(modes)}")
        return ", ".join(facts)

    def _repr_html_(self) -> str:
        """What notebooks show: the path, and its lines."""
        return card(
            None, changed(self.kind.value, self.path, self.summary, self.text, at_most=_MAX_LINES_SHOWN, is_open=True)
        )


def ls(target: Target, /, *, operation: Operation | None = None) -> Iterator[Listed]:
    """Every file, sorted by path; nothing is read but what it takes to list.

    Raises:
        FluxSrcError: The target cannot be read.
    """
    operation = operation or Operation()
    with _opened(target, operation) as (_, entries):
        for entry in entries():
            operation.check("list")
            yield Listed(entry.path, entry.mode, entry.size)


def cat(target: Target, path: str, /, *, operation: Operation | None = None) -> Iterator[bytes]:
    """The content of one file, in pieces.

    Raises:
        PathNotFoundError: There is no such file, or it is ignored.
    """
    operation = operation or Operation()
    with _opened(target, operation) as (_, entries):
        entry = next((entry for entry in entries() if entry.path == path), None)
        if entry is None:
            raise PathNotFoundError(f"{_name(target)} has no file {path!r}", url=_name(target))
        with entry.open() as stream:
            while data := stream.read(_PIECE):
                operation.check("read")
                yield data


def diff(old: Target, new: Target, /, *, context: int = 3, operation: Operation | None = None) -> Iterator[Change]:
    """Every path that differs, sorted, with the lines that do.

    1. Two snapshots of one tree, known without reading it, differ in nothing.
    2. Both listings are walked at once. Of a path in both, mode and size are compared, then names that the source has
       for the bytes, and only then the bytes, piece by piece.

    Args:
        old: The first.
        new: The second.
        context: Lines of context around the changed ones.
        operation: The deadline, cancel switch and progress callback.

    Raises:
        FluxSrcError: One of them cannot be read.
    """
    operation = operation or Operation()
    with _opened(old, operation) as (before, old_entries), _opened(new, operation) as (after, new_entries):
        if _same_tree(old, before, new, after):  # 1
            return
        trust_ids = _same_place(old, new)
        for one, other in _side_by_side(old_entries(), new_entries()):  # 2
            operation.check("compare")
            change = _compare(one, other, context, trust_ids=trust_ids)
            if change is not None:
                yield change


def unified(changes: Iterator[Change] | Sequence[Change], /) -> Iterator[str]:
    """The changes as lines of text, as `git diff` would show them."""
    for change in changes:
        yield f"diff --git a/{change.path} b/{change.path}\n"
        if change.old_mode is None and change.new_mode is not None:
            yield f"new file mode {change.new_mode:o}\n"
        elif change.new_mode is None and change.old_mode is not None:
            yield f"deleted file mode {change.old_mode:o}\n"
        elif change.old_mode != change.new_mode:
            yield f"old mode {change.old_mode:o}\nnew mode {change.new_mode:o}\n"
        if change.text:
            yield change.text
        elif change.kind is not ChangeKind.MODE and (change.old_size or change.new_size):
            yield f"Binary files differ: {change.old_size or 0:,} and {change.new_size or 0:,} bytes\n"


@contextmanager
def _opened(target: Target, operation: Operation) -> Iterator[tuple[Snapshot, Callable[[], Iterator[Entry]]]]:
    """The snapshot, and what begins to read its files: often its tree's name tells enough."""
    if isinstance(target, Stored):
        tree = FileTree(DEFAULT_LIMITS, operation)
        try:
            with target.store.open(target.artifact) as stream:
                tree.add_archive(stream)
            entries = tree.entries()
            tree_id = f"content:{target.artifact.content_digest}"
            yield (
                ListedSnapshot(revision=target.artifact.revision, entries=entries, tree_id=tree_id),
                lambda: iter(entries),
            )
        finally:
            tree.close()
        return
    with target.fetch(operation=operation) as snapshot:
        yield snapshot, lambda: select(snapshot, target.recipe, [])


def _name(target: Target) -> str:
    return target.artifact.url if isinstance(target, Stored) else target.url


def _same_tree(old: Target, before: Snapshot, new: Target, after: Snapshot) -> bool:
    if before.tree_id is None or before.tree_id != after.tree_id:
        return False
    if isinstance(old, Stored) or isinstance(new, Stored):
        return isinstance(old, Stored) and isinstance(new, Stored)
    return old.kind == new.kind and old.recipe == new.recipe


def _same_place(old: Target, new: Target) -> bool:
    """Whether equal content ids promise equal bytes: they do within one source."""
    if isinstance(old, Stored) or isinstance(new, Stored):
        return False
    return old.kind == new.kind and old.url.partition("?")[0] == new.url.partition("?")[0]


def _side_by_side(old: Iterator[Entry], new: Iterator[Entry]) -> Iterator[tuple[Entry | None, Entry | None]]:
    one, other = next(old, None), next(new, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.path.encode() < other.path.encode()):
            yield one, None
            one = next(old, None)
        elif one is None or other.path.encode() < one.path.encode():
            yield None, other
            other = next(new, None)
        else:
            yield one, other
            one, other = next(old, None), next(new, None)


def _compare(old: Entry | None, new: Entry | None, context: int, *, trust_ids: bool) -> Change | None:
    entry = new or old
    if entry is None:
        raise ConfigurationError("nothing to compare")
    if old is not None and new is not None and _same_content(old, new, trust_ids=trust_ids):
        if old.mode == new.mode:
            return None
        kind = ChangeKind.MODE
    elif old is None:
        kind = ChangeKind.ADDED
    else:
        kind = ChangeKind.REMOVED if new is None else ChangeKind.CHANGED
    return Change(
        kind=kind,
        path=entry.path,
        old_mode=None if old is None else old.mode,
        new_mode=None if new is None else new.mode,
        old_size=None if old is None else old.size,
        new_size=None if new is None else new.size,
        text="" if kind is ChangeKind.MODE else _text_diff(entry.path, old, new, context),
    )


def _same_content(old: Entry, new: Entry, *, trust_ids: bool) -> bool:
    if trust_ids and old.content_id is not None and old.content_id == new.content_id:
        return True
    if old.size != new.size or (old.mode is Mode.SYMLINK) != (new.mode is Mode.SYMLINK):
        return False
    if old.size <= _PIECE:
        return old.read() == new.read()
    return _hash(old) == _hash(new)


def _hash(entry: Entry) -> bytes:
    digest = hashlib.sha256()
    with entry.open() as stream:
        while data := stream.read(_PIECE):
            digest.update(data)
    return digest.digest()


def _text_diff(path: str, old: Entry | None, new: Entry | None, context: int) -> str:
    before, after = _lines(old), _lines(new)
    if before is None or after is None:
        return ""
    names = ("/dev/null" if old is None else f"a/{path}", "/dev/null" if new is None else f"b/{path}")
    lines = difflib.unified_diff(before, after, *names, n=context)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _lines(entry: Entry | None) -> list[str] | None:
    """The lines of a text with their ends, None if it is not text or too long to compare by lines."""
    if entry is None:
        return []
    if entry.size > _MAX_TEXT:
        return None
    data = entry.read()
    if b"\0" in data[:_TEXT_PROBE] or data.count(b"\n") > _MAX_LINES:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    # Only "\n" ends a line here; str.splitlines knows nine more characters that do.
    *whole, last = text.split("\n")
    return [f"{line}\n" for line in whole] + ([last] if last else [])

"""Trees, of whoever made them: parse one, look up a path, walk the files. Nothing in a tree is believed.

A tree's order, with a directory compared as if its name ended in a slash, is the order of the UTF-8 bytes of the full
paths. So a walk that insists on the order yields sorted paths without sorting, and without holding them.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, NoReturn

from fluxsrc.entry import check_path
from fluxsrc.errors import ContentError, PathNotFoundError, UnsafeEntryError
from fluxsrc.limits import DEFAULT_LIMITS, Limits

__all__ = [
    "DIRECTORY",
    "Node",
    "ReadTree",
    "changed_paths",
    "check_name",
    "is_selected",
    "lookup",
    "parse_tree",
    "walk",
]

DIRECTORY: Final = 0o040000
_SUBMODULE: Final = 0o160000
_SYMLINK: Final = 0o120000
_REGULAR: Final = 0o100000
_TYPE_MASK: Final = 0o170000
_MODES: Final = {
    b"100644": 0o100644,
    b"40000": DIRECTORY,
    b"100755": 0o100755,
    b"120000": _SYMLINK,
    b"160000": _SUBMODULE,
}
_DOTS: Final = frozenset({".", ".."})

_ENTRIES: Final = {width: re.compile(rb"([0-7]{5,7}) ([^\0]+)\0(.{%d})" % width, re.DOTALL) for width in (20, 32)}
# Characters HFS+ ignores in names, so that ".g\u200cit" opens ".git" there.
_HFS_IGNORED: Final = "[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]"
# NTFS: the short name, streams, and trailing dots and spaces, all of which open ".git" there.
_NTFS_GIT: Final = r"(?i)(?:\.git|git~1)[. ]*(?::.*)?"


class Node(NamedTuple):
    """An entry of a tree.

    Attributes:
        path: From the root of the walk; of a parsed tree just the name.
        mode: Git's, made canonical: 0o040000, 0o100644, 0o100755, 0o120000 or 0o160000.
        oid: The binary name of the tree, blob or commit.
    """

    path: str
    mode: int
    oid: bytes

    @property
    def is_directory(self) -> bool:
        """Whether it is a tree."""
        return self.mode == DIRECTORY

    @property
    def is_submodule(self) -> bool:
        """Whether it is a link to a commit of another repository."""
        return self.mode == _SUBMODULE


ReadTree = Callable[[bytes, str], Sequence[Node]]
"""Gives the entries of the tree of this name; the path is for messages."""


def parse_tree(data: bytes, raw_size: int, *, where: str = "") -> list[Node]:
    """The entries of one tree object, checked.

    Args:
        data: The object's content.
        raw_size: Bytes of a binary object name.
        where: The tree's own path, for messages.

    Raises:
        ContentError: It is not a tree.
        UnsafeEntryError: It has a name no work tree may hold, holds one twice, or is not in order.
    """
    rows = _ENTRIES[raw_size].findall(data)
    if sum([len(mode) + len(name) for mode, name, _ in rows]) + len(rows) * (raw_size + 2) != len(data):
        raise ContentError(f"damaged tree {where or '/'}", path=where, hint="'git fsck' in the repository tells more")
    modes = [_MODES.get(digits) or _mode(int(digits, 8), where) for digits, _, _ in rows]
    names = [name for _, name, _ in rows]
    keys = [name + b"/" if mode == DIRECTORY else name for name, mode in zip(names, modes, strict=True)]
    if len(set(names)) != len(names) or sorted(keys) != keys:
        _complain(names, keys, where)
    texts = _check_names(names, where)
    return [Node(text, mode, row[2]) for text, mode, row in zip(texts, modes, rows, strict=True)]


def _complain(names: Sequence[bytes], keys: Sequence[bytes], where: str) -> NoReturn:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UnsafeEntryError(f"a tree holds {twice!a} twice in {where or '/'}", path=where)
    late = next(key for before, key in pairwise(keys) if key < before)
    raise UnsafeEntryError(f"a tree holds {late!a} out of order in {where or '/'}", path=where)


def _mode(mode: int, where: str) -> int:
    kind = mode & _TYPE_MASK
    if kind == _REGULAR:  # old tools wrote 100664: only the owner's execute bit means anything
        return 0o100755 if mode & 0o100 else 0o100644
    if kind in (DIRECTORY, _SYMLINK, _SUBMODULE):
        return kind
    raise UnsafeEntryError(f"a tree has an entry of the unknown mode {mode:o} in {where or '/'}", path=where)


def _check_names(names: Sequence[bytes], where: str) -> Sequence[str]:
    """All names of a tree as text: at once, if nothing about any of them is suspicious, which is nearly always."""
    joined = b"/".join(names)
    if joined.isascii() and b"git" not in joined.lower() and joined.count(b"/") == len(names) - 1:
        texts = joined.decode("ascii").split("/")
        if _DOTS.isdisjoint(texts):
            return texts
    return [check_name(name, where) for name in names]


def check_name(name: bytes, where: str = "") -> str:
    """One component of a path, as text.

    Raises:
        UnsafeEntryError: It is `.`, `..`, has a separator, is not UTF-8, or opens `.git` on some file system.
    """
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise UnsafeEntryError(f"a name is not UTF-8: {name!a} in {where or '/'}", path=where) from None
    if "/" in text or text in _DOTS:
        raise UnsafeEntryError(f"a tree has an entry named {text!a} in {where or '/'}", path=where)
    # Cheap tests first: nearly every name has no "git" in it, and is ASCII.
    suspect = text if text.isascii() else re.sub(_HFS_IGNORED, "", unicodedata.normalize("NFD", text))
    if "git" in suspect.casefold() and re.fullmatch(_NTFS_GIT, suspect):
        raise UnsafeEntryError(f"a tree has an entry that is .git somewhere: {text!a} in {where or '/'}", path=where)
    return text


def lookup(root: bytes, path: str, read_tree: ReadTree) -> Node:
    """The entry at a path; the root itself for "".

    Raises:
        PathNotFoundError: There is none.
    """
    node = Node("", DIRECTORY, root)
    for name in path.split("/") if path else ():
        below = read_tree(node.oid, node.path) if node.is_directory else ()
        found = next((child for child in below if child.path == name), None)
        if found is None:
            raise PathNotFoundError(f"{path} is not in the tree: {node.path or '/'} has no {name!r}")
        node = found._replace(path=f"{node.path}/{name}" if node.path else name)
    return node


def walk(
    root: bytes,
    read_tree: ReadTree,
    *,
    limits: Limits = DEFAULT_LIMITS,
    select: Sequence[str] = (),
    start: str = "",
) -> Iterator[Node]:
    """Everything below a tree, sorted by the UTF-8 bytes of the full path, a directory right before what it holds.

    Args:
        root: The tree's binary name.
        read_tree: Gives a tree's entries, checked and in order, as `parse_tree` does.
        limits: On the number of entries, and on the length and depth of paths.
        select: Directories and files to stay within; all of them, if empty. The way to them is part of the walk.
        start: What comes before this path is passed over, trees unread; the way to it is part of the walk.

    Raises:
        ContentError: A tree is damaged, unsafe, or over a limit.
    """
    seen = 0
    stack = [("", iter(read_tree(root, "")))]
    while stack:
        prefix, siblings = stack[-1]
        node = next(siblings, None)
        if node is None:
            stack.pop()
            continue
        path = prefix + node.path
        if path < start and not (node.is_directory and f"{path}/" >= start[: len(path) + 1]):
            continue
        if select and not is_selected(path, select, directory=node.is_directory):
            continue
        seen += 1
        if seen > limits.max_entries:  # directories count too: a tree of nothing but trees must end
            limits.check("max_entries", seen, what="the tree")
        node = Node(check_path(path, limits=limits), node.mode, node.oid)
        yield node
        if node.is_directory:
            stack.append((f"{path}/", iter(read_tree(node.oid, path))))


def changed_paths(
    old: bytes, new: bytes, read_tree: ReadTree, *, limits: Limits = DEFAULT_LIMITS, select: Sequence[str] = ()
) -> Iterator[str]:
    """The paths, unsorted, of everything but directories that is in one of two trees only, or different in the other.

    Trees of the same name are not read: the cost grows with the change.

    Raises:
        ContentError: A tree is damaged, unsafe, or over a limit.
    """
    stack = [("", old, new)]
    while stack:
        prefix, before, after = stack.pop()
        olds = {node.path: node for node in read_tree(before, prefix)}
        news = {node.path: node for node in read_tree(after, prefix)}
        for name in olds.keys() | news.keys():
            was, now = olds.get(name), news.get(name)
            if was == now:
                continue
            path = check_path(prefix + name, limits=limits)
            if was is not None and now is not None and was.is_directory and now.is_directory:
                if not select or is_selected(path, select, directory=True):
                    stack.append((f"{path}/", was.oid, now.oid))
                continue
            for node in (was, now):
                if node is not None and node.is_directory:
                    below = walk(node.oid, read_tree, limits=limits)
                    yield from (f"{path}/{found.path}" for found in below if not found.is_directory)
                elif node is not None:
                    yield path


def is_selected(path: str, select: Sequence[str], *, directory: bool) -> bool:
    """Whether a path is one of these, below one of them, or (a directory) above one of them."""
    return any(
        path == wanted or path.startswith(f"{wanted}/") or (directory and wanted.startswith(f"{path}/"))
        for wanted in select
    )

"""Sparse fetches: which objects of a commit some paths need, and which of them are not there yet."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from fluxsrc.errors import PathNotFoundError
from fluxsrc.git.commit import Commit
from fluxsrc.git.objects import ObjectDatabase
from fluxsrc.git.packfile import Kind
from fluxsrc.git.tree import Node, parse_tree
from fluxsrc.limits import Limits
from fluxsrc.snapshot import IGNORE_FILE

__all__ = ["GOVERNING_FILES", "Missing", "find_missing", "trees_filter"]

GOVERNING_FILES: Final = frozenset({IGNORE_FILE, ".gitattributes", ".gitmodules", ".lfsconfig"})
"""Files that matter to everything below their directory."""


class Missing(NamedTuple):
    """What has to be asked for.

    Attributes:
        trees: Binary names of trees; what is below them is unknown, and needed unless they are only on the way.
        blobs: Binary names of blobs.
        on_the_way: Whether a path could not be followed to its end for want of a tree.
    """

    trees: tuple[bytes, ...]
    blobs: tuple[bytes, ...]
    on_the_way: bool

    def __bool__(self) -> bool:
        return bool(self.trees or self.blobs)


def trees_filter(paths: Sequence[str]) -> str:
    """The filter that lets only the trees on the way to these paths through, and no blob.

    >>> trees_filter(["deploy", "teams/a"])
    'combine:blob:none+tree:2'
    """
    return f"combine:blob:none+tree:{max(path.count('/') for path in paths) + 1}"


def find_missing(objects: ObjectDatabase, commit: bytes, paths: Sequence[str], limits: Limits) -> Missing:
    """What these paths of a commit need, and is not there. The commit itself is.

    Raises:
        PathNotFoundError: The commit does not have one of them.
        ContentError: A tree is damaged, unsafe, or has too many entries.
    """
    root = Commit.parse(objects.read_kind(commit, Kind.COMMIT)).tree
    trees: dict[bytes, None] = {}
    blobs: dict[bytes, None] = {}
    on_the_way = False
    tops: list[Node] = []
    for path in paths:
        found = _follow(objects, root, path, blobs)
        if isinstance(found, bytes):
            trees[found] = None
            on_the_way = True
        else:
            tops.append(found)
    seen = 0
    todo = [node for node in tops if not node.is_submodule]
    while todo:
        node = todo.pop()
        if not node.is_directory:
            if node.oid not in objects:
                blobs[node.oid] = None
        elif node.oid in trees or node.oid not in objects:
            trees[node.oid] = None
        else:
            below = _read(objects, node.oid, node.path)
            seen += len(below)
            limits.check("max_entries", seen, what="the tree")
            todo += [child for child in below if not child.is_submodule]
    return Missing(tuple(trees), tuple(blobs), on_the_way)


def _follow(objects: ObjectDatabase, root: bytes, path: str, blobs: dict[bytes, None]) -> Node | bytes:
    """The node at a path, or the first tree on the way that is not there. Notes governing files that are missing."""
    node = Node("", 0o040000, root)
    for name in path.split("/"):
        if not node.is_directory:
            below: list[Node] = []
        elif node.oid not in objects:
            return node.oid
        else:
            below = _read(objects, node.oid, node.path)
        for child in _governing(below):
            if child.oid not in objects:
                blobs[child.oid] = None
        found = next((child for child in below if child.path == name), None)
        if found is None:
            raise PathNotFoundError(f"{path} is not in the tree: {node.path or '/'} has no {name!r}")
        node = found
    return node


def _governing(nodes: Sequence[Node]) -> Iterator[Node]:
    return (node for node in nodes if node.path in GOVERNING_FILES and node.mode in (0o100644, 0o100755))


def _read(objects: ObjectDatabase, oid: bytes, where: str) -> list[Node]:
    return parse_tree(objects.read_kind(oid, Kind.TREE), objects.object_format.raw_size, where=where)

"""`GitSnapshot`: the files of one commit, straight from the object database."""

import datetime as dt
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from fluxsrc.entry import Entry, Mode, Skipped, check_path
from fluxsrc.errors import ContentError, PathNotFoundError, SourceError
from fluxsrc.git.commit import Commit
from fluxsrc.git.lfs import MAX_POINTER_BYTES, MIN_POINTER_BYTES, LFSPointer, LFSPolicy
from fluxsrc.git.objects import ObjectDatabase
from fluxsrc.git.packfile import Kind
from fluxsrc.git.tree import DIRECTORY, Node, changed_paths, is_selected, lookup, parse_tree, walk
from fluxsrc.limits import Limits
from fluxsrc.operation import Operation
from fluxsrc.revision import Revision
from fluxsrc.snapshot import IGNORE_FILE, ShownSnapshot
from fluxsrc.source import Comparable, Snapshot

if TYPE_CHECKING:
    from fluxsrc.git.lfs_store import LFSStore

__all__ = ["GitSnapshot", "OpenLFS", "SnapshotOptions"]

OpenLFS = Callable[[bytes | None], "LFSStore"]
"""Opens the store of LFS files, given the content of `.lfsconfig`."""
_ATTRIBUTES: Final = ".gitattributes"
_LFS_CONFIG: Final = ".lfsconfig"
_DECIDING: Final = frozenset({IGNORE_FILE, _ATTRIBUTES})
"""Files that decide what becomes of others."""
_MANY: Final = 5000
"""Changed files from which on going through all of them costs no more."""
_LFS_FILTER: Final = b"filter=lfs"
_MODES: Final = {int(mode): mode for mode in Mode}
_REGULAR: Final = frozenset({int(Mode.FILE), int(Mode.EXECUTABLE)})
_CACHED_NODES: Final = 100_000
"""Entries of parsed trees that are kept, since the listing is walked twice: some 20 MB at most."""
_CHECK_EVERY: Final = 1024


class SnapshotOptions(NamedTuple):
    """What of a commit is its snapshot.

    Attributes:
        path: The directory that is its root.
        sparse: Directories and files below the root to stay within; all, if empty.
        lfs: What becomes of LFS pointers.
        limits: How much is too much.
    """

    path: str
    sparse: tuple[str, ...]
    lfs: LFSPolicy
    limits: Limits


class _Survey(NamedTuple):
    """What one pass over the directories finds out: rules, where pointers to look for, and what above the root decides."""

    ignore_files: Mapping[str, str]
    lfs_below: tuple[str, ...]
    above: str

    def __str__(self) -> str:
        return json.dumps([dict(self.ignore_files), self.lfs_below, self.above])

    @classmethod
    def parse(cls, text: str) -> "_Survey | None":
        """The survey of another snapshot, None if it is none."""
        try:
            ignore_files, lfs_below, above = json.loads(text)
            return cls(dict(ignore_files), tuple(lfs_below), above)
        except (ValueError, TypeError):
            return None


class GitSnapshot(ShownSnapshot):
    """A `Snapshot` of a commit. Any thread may use it, until the context that gave it closes the object database."""

    def __init__(
        self,
        objects: ObjectDatabase,
        revision: Revision,
        options: SnapshotOptions,
        operation: Operation,
        *,
        open_lfs: OpenLFS | None = None,
        verification: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._objects = objects
        self._revision = revision
        self._options = options
        self._operation = operation
        self._open_lfs = open_lfs
        self._verification = verification
        self._lfs: LFSStore | None = None
        self._lock = threading.Lock()
        self._trees: dict[bytes, list[Node]] = {}
        self._cached = 0
        self._skipped: dict[str, Skipped] = {}
        self._survey: _Survey | None = None
        self._commit = Commit.parse(objects.read_kind(bytes.fromhex(revision.digest.hex), Kind.COMMIT))
        self._root = lookup(self._commit.tree, options.path, self._read_tree)
        if not self._root.is_directory:
            raise PathNotFoundError(
                f"{options.path} is not a directory of the tree", hint="name the directory above it"
            )
        self._selected = tuple(lookup(self._root.oid, path, self._read_tree) for path in options.sparse)

    def __repr__(self) -> str:
        return f"GitSnapshot({str(self._revision)!r})"

    @property
    def revision(self) -> Revision:
        """What this is a snapshot of."""
        return self._revision

    @property
    def created(self) -> dt.datetime | None:
        """The committer's time."""
        return self._commit.committed

    @property
    def tree_id(self) -> str | None:
        """The name of the tree that is the root; of a sparse snapshot a hash over its parts' names.

        With it goes what decides about the tree's files from outside of it: equal names have equal files.
        """
        if not self._selected:
            return f"git:{self._root.oid.hex()}" + ("+lfs" if self._lfs_above() else "")
        parts = [f"{node.path}\0{node.mode:o} {node.oid.hex()}" for node in self._selected]
        survey = self._surveyed()
        parts += [f"{path}\0{text}" for path, text in sorted(survey.ignore_files.items())]
        parts += [f"lfs\0{directory}" for directory in sorted(survey.lfs_below)]
        return "git-sparse:" + hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()

    @property
    def annotations(self) -> Mapping[str, str]:
        """The commit's subject line."""
        return {"dev.fluxsrc.git.subject": self._commit.subject} if self._commit.subject else {}

    @property
    def skipped(self) -> Sequence[Skipped]:
        """Submodules, and LFS pointers that are kept as they are."""
        return tuple(sorted(self._skipped.values(), key=lambda item: item.path.encode()))

    @property
    def verification(self) -> tuple[tuple[str, str], ...]:
        """What the source's policy found out."""
        return self._verification

    def ignore_files(self) -> Mapping[str, str]:
        """The text of each `.sourceignore`, by directory; of a sparse snapshot also those on the way to its parts."""
        return self._surveyed().ignore_files

    def submodules(self) -> list[Node]:
        """The links to commits of other repositories, by their paths in this snapshot."""
        return [node for node in self._walk() if node.is_submodule]

    def read_from_root(self, path: str) -> bytes:
        """A small file of the commit's root, wherever the snapshot's is; nothing, if it is not there or no file."""
        for node in self._read_tree(self._commit.tree, ""):
            if node.path == path and node.mode in _REGULAR:
                return self._objects.read_kind(node.oid, Kind.BLOB)
        return b""

    def survey(self) -> str:
        """The rules and LFS settings of the tree; see `Comparable`."""
        return str(self._surveyed())

    def changed_since(self, revision: Revision, survey: str, /) -> Sequence[str] | None:
        """What differs between the trees of two commits; see `Comparable`.

        None, if the earlier one is not among the objects, or if a file changed that decides about others.
        """
        earlier = _Survey.parse(survey)
        if earlier is None or earlier.above != self._above():
            return None
        paths: set[str] = set()
        try:
            before = Commit.parse(self._objects.read_kind(bytes.fromhex(revision.digest.hex), Kind.COMMIT))
            root = lookup(before.tree, self._options.path, self._read_tree)
            options = self._options
            for path in changed_paths(
                root.oid, self._root.oid, self._read_tree, limits=options.limits, select=options.sparse
            ):
                if path.rpartition("/")[2] in _DECIDING or len(paths) > _MANY:
                    return None
                paths.add(path)
        except (SourceError, ContentError):
            return None
        self._survey = earlier  # as it was: nothing that it was made of has changed
        return sorted(paths)

    def entries(self) -> Iterator[Entry]:
        """Every file and link, in order, straight from the trees; blobs are not looked at."""
        return self.entries_from("")

    def entries_from(self, path: str, /) -> Iterator[Entry]:
        """As `entries`, but from a path on; see `Comparable`."""
        start = path
        lfs_below = self._surveyed().lfs_below
        objects = self._objects
        size, opener, reader = objects.size, objects.open, objects.read_blob
        for node in self._walk(start):
            path, number, oid = node
            mode = _MODES.get(number)
            if mode is None:
                if node.is_submodule:
                    self._skipped[path] = Skipped(path, "submodule", oid.hex())
                continue
            if lfs_below and mode is not Mode.SYMLINK and path.startswith(lfs_below):
                pointer = self._pointer(oid)
                if pointer is not None:
                    yield self._lfs_entry(path, mode, oid, pointer)
                    continue
            yield Entry(path, mode, partial(size, oid), partial(opener, oid), f"git:{oid.hex()}", partial(reader, oid))

    def _walk(self, start: str = "") -> Iterator[Node]:
        options = self._options
        nodes = walk(self._root.oid, self._read_tree, limits=options.limits, select=options.sparse, start=start)
        for count, node in enumerate(nodes):
            if not count % _CHECK_EVERY:
                self._operation.check("list")
            yield node

    def _read_tree(self, oid: bytes, where: str) -> list[Node]:
        nodes = self._trees.get(oid)
        if nodes is None:
            data = self._objects.read_kind(oid, Kind.TREE)
            nodes = parse_tree(data, self._objects.object_format.raw_size, where=where)
            with self._lock:
                if self._cached + len(nodes) <= _CACHED_NODES:
                    self._trees[oid] = nodes
                    self._cached += len(nodes)
        return nodes

    def _surveyed(self) -> _Survey:
        if self._survey is None:
            self._survey = self._look_around()
        return self._survey

    def _look_around(self) -> _Survey:
        """One pass over the directories, those on the way to sparse parts included."""
        ignore_files: dict[str, str] = {}
        lfs_below = [""] if self._lfs_above() else []
        select, limits = self._options.sparse, self._options.limits
        seen = 0
        todo = [("", self._root.oid)]
        while todo:
            directory, tree = todo.pop()
            nodes = self._read_tree(tree, directory)
            seen += len(nodes)
            limits.check("max_entries", seen, what="the tree")  # a tree of nothing but trees must end
            self._operation.check("list")
            prefix = f"{directory}/" if directory else ""
            for name, mode, oid in nodes:
                if mode == DIRECTORY:
                    path = prefix + name
                    if not select or is_selected(path, select, directory=True):
                        todo.append((check_path(path, limits=limits), oid))
                elif name == IGNORE_FILE and mode in _REGULAR:
                    text = self._objects.read_kind(oid, Kind.BLOB).decode(errors="surrogateescape")
                    ignore_files[directory] = text
                elif name == _ATTRIBUTES and mode in _REGULAR and self._sends_to_lfs(oid):
                    lfs_below.append(prefix)
        return _Survey(ignore_files, tuple(lfs_below), self._above())

    def _sends_to_lfs(self, attributes: bytes) -> bool:
        return _LFS_FILTER in self._objects.read_kind(attributes, Kind.BLOB)

    def _lfs_above(self) -> bool:
        """Whether attributes above the root send some files to LFS."""
        if not self._options.path:
            return False
        for directory in ("", *_parents(self._options.path)[:-1]):
            node = lookup(self._commit.tree, directory, self._read_tree)
            for name, mode, oid in self._read_tree(node.oid, directory):
                if name == _ATTRIBUTES and mode in _REGULAR and self._sends_to_lfs(oid):
                    return True
        return False

    def _above(self) -> str:
        """A name of what decides about the tree without being in it: LFS settings, and attributes above the root."""
        nodes = [node for node in self._read_tree(self._commit.tree, "") if node.path == _LFS_CONFIG]
        for directory in ("", *_parents(self._options.path)[:-1]) if self._options.path else ():
            tree = lookup(self._commit.tree, directory, self._read_tree)
            nodes += [node for node in self._read_tree(tree.oid, directory) if node.path == _ATTRIBUTES]
        return " ".join(f"{node.mode:o}:{node.oid.hex()}" for node in nodes)

    def _pointer(self, oid: bytes) -> LFSPointer | None:
        if MIN_POINTER_BYTES <= self._objects.size(oid) < MAX_POINTER_BYTES:
            return LFSPointer.parse(self._objects.read_blob(oid))
        return None

    def _lfs_entry(self, path: str, mode: Mode, oid: bytes, pointer: LFSPointer) -> Entry:
        if self._options.lfs is LFSPolicy.KEEP:
            self._skipped[path] = Skipped(path, "lfs-pointer", f"sha256:{pointer.oid}")
            objects = self._objects
            read, opener = partial(objects.read_blob, oid), partial(objects.open, oid)
            return Entry(path, mode, partial(objects.size, oid), opener, f"git:{oid.hex()}", read)
        if self._options.lfs is LFSPolicy.FETCH and self._open_lfs is not None:
            store = self._lfs_store(self._open_lfs)
            store.announce(pointer)
            read, opener = partial(store.read, pointer), partial(store.open, pointer)
            expect = partial(store.expect, pointer)
            return Entry(path, mode, pointer.size, opener, f"sha256:{pointer.oid}", read, expect)
        refuse = partial(_refuse_lfs, path)
        return Entry(path, mode, pointer.size, refuse, None, refuse)

    def _lfs_store(self, open_lfs: OpenLFS) -> "LFSStore":
        if self._lfs is None:
            config = self._lfs_config()
            with self._lock:
                if self._lfs is None:
                    self._lfs = open_lfs(config)
        return self._lfs

    def _lfs_config(self) -> bytes | None:
        """The `.lfsconfig` of the commit's own root."""
        for name, mode, oid in self._read_tree(self._commit.tree, ""):
            if name == _LFS_CONFIG and mode in _REGULAR:
                return self._objects.read_kind(oid, Kind.BLOB)
        return None


def _refuse_lfs(path: str) -> NoReturn:
    raise ContentError(
        f"{path} is a Git LFS pointer, not the file itself",
        path=path,
        hint="ignore the path, or choose lfs='fetch' for the files or lfs='keep' for the pointers",
    )


def _parents(path: str) -> list[str]:
    """The directories on the way to a path, and the path itself: `a`, `a/b`, `a/b/c`."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


if TYPE_CHECKING:

    def _(snapshot: GitSnapshot) -> tuple[Snapshot, Comparable]:
        return snapshot, snapshot

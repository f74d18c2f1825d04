"""`GitRepositoryBuilder`: small Git repositories for tests, written without git, hostile ones included."""

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from fluxsrc.entry import Mode
from fluxsrc.git.packfile import Kind, ObjectFormat
from fluxsrc.memory import MemoryFile

__all__ = ["GitRepositoryBuilder"]

_TREE: Final = 0o040000
_WHO: Final = "Ada <ada@example.com>"


class GitRepositoryBuilder:
    """A bare repository that commits are written to, object by object.

    >>> import tempfile
    >>> from fluxsrc import GitSource
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     repository = GitRepositoryBuilder(Path(directory) / "app.git")
    ...     commit = repository.commit({"app.yaml": b"kind: Namespace"})
    ...     str(GitSource(repository.path, branch="main").resolve_revision()) == f"main@sha1:{commit}"
    True

    Args:
        path: Where it is made.
        branch: What HEAD points at.
        object_format: "sha1" or "sha256".
    """

    def __init__(self, path: Path, *, branch: str = "main", object_format: str = "sha1") -> None:
        self.path = path
        self.branch = branch
        self._format = ObjectFormat(object_format)
        for directory in ("objects/pack", "objects/info", "refs/heads", "refs/tags"):
            (path / directory).mkdir(parents=True, exist_ok=True)
        version = 0 if self._format is ObjectFormat.SHA1 else 1
        extension = "" if version == 0 else f"[extensions]\n\tobjectFormat = {object_format}\n"
        (path / "config").write_text(f"[core]\n\trepositoryformatversion = {version}\n\tbare = true\n{extension}")
        (path / "HEAD").write_text(f"ref: refs/heads/{branch}\n")

    def commit(
        self,
        files: Mapping[str, bytes | str | MemoryFile],
        *,
        branch: str | None = None,
        when: str = "1767323045 +0000",
        message: str = "A commit",
    ) -> str:
        """Commit exactly these files on a branch, on top of what is there; return the commit.

        Args:
            files: Content by path, as of `MemorySource`.
            branch: The branch; HEAD's if none is given.
            when: The committer's time, in git's form: seconds since 1970 and a zone.
            message: The message.
        """
        tree: dict[str, object] = {}
        for path, content in files.items():
            *directories, name = path.split("/")
            node = tree
            for directory in directories:
                node = node.setdefault(directory, {})  # type: ignore[assignment]  # a tree of dicts has no finite type
            node[name] = content
        return self.commit_tree(self._tree(tree), branch=branch, when=when, message=message)

    def commit_tree(
        self, tree: bytes, *, branch: str | None = None, when: str = "1767323045 +0000", message: str = "A commit"
    ) -> str:
        """Commit a tree, whatever it holds; return the commit."""
        name = f"refs/heads/{branch or self.branch}"
        parent = self.path / name
        lines = [f"tree {tree.hex()}"]
        if parent.is_file():
            lines.append(f"parent {parent.read_text().strip()}")
        lines += [f"author {_WHO} {when}", f"committer {_WHO} {when}", "", message, ""]
        commit = self.write(Kind.COMMIT, "\n".join(lines).encode()).hex()
        self.set_ref(name, commit)
        return commit

    def tag(self, name: str, target: str, *, message: str | None = None, kind: str = "commit") -> str:
        """Tag an object; with a message the tag is an annotated one. Return what the reference points at."""
        if message is not None:
            lines = [f"object {target}", f"type {kind}", f"tag {name}", f"tagger {_WHO} 1767323045 +0000", "", message]
            target = self.write(Kind.TAG, "\n".join([*lines, ""]).encode()).hex()
        self.set_ref(f"refs/tags/{name}", target)
        return target

    def set_ref(self, name: str, value: str) -> None:
        """Point a reference at an object, or (`ref: refs/…`) at another reference."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")

    def tree(self, entries: Iterable[tuple[bytes, int, bytes]]) -> bytes:
        """Write a tree of (name, mode, object) as they are given, in this order; return its binary name."""
        return self.write(Kind.TREE, b"".join(b"%o %s\0%s" % (mode, name, oid) for name, mode, oid in entries))

    def blob(self, data: bytes) -> bytes:
        """Write a blob; return its binary name."""
        return self.write(Kind.BLOB, data)

    def write(self, kind: Kind, data: bytes) -> bytes:
        """Write any object; return its binary name."""
        oid = self._format.oid(kind, data)
        name = oid.hex()
        file = self.path / "objects" / name[:2] / name[2:]
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(zlib.compress(b"%s %d\0%s" % (kind.word, len(data), data), 1))
        return oid

    def _tree(self, node: Mapping[str, object]) -> bytes:
        entries = []
        for name, content in node.items():
            if isinstance(content, dict):
                entries.append((name.encode() + b"/", _TREE, self._tree(content)))
            elif isinstance(content, MemoryFile):
                entries.append((name.encode(), int(content.mode), self.blob(content.data)))
            else:
                data = content.encode() if isinstance(content, str) else content
                assert isinstance(data, bytes)
                entries.append((name.encode(), int(Mode.FILE), self.blob(data)))
        return self.tree((name.rstrip(b"/"), mode, oid) for name, mode, oid in sorted(entries))

"""Repositories on this machine: where their parts are, and their references. Read-only, without running git."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

import attrs

from fluxsrc._io.regular import open_file, read_file
from fluxsrc.errors import (
    ConfigurationError,
    ContentError,
    PermissionDeniedError,
    RevisionNotFoundError,
    SourceError,
)
from fluxsrc.git.commit import Tag
from fluxsrc.git.config import parse_config
from fluxsrc.git.objects import ObjectDatabase, object_directories
from fluxsrc.git.packfile import Kind, ObjectFormat
from fluxsrc.git.refs import GitRef
from fluxsrc.limits import DEFAULT_LIMITS, Limits

__all__ = ["LocalRepository", "local_errors", "peel", "read_tags"]

_MAX_LINK_FILE: Final = 4096
"""Bytes of a `.git` file, a symbolic reference and the like."""
_MAX_CONFIG: Final = 16 << 20
_MAX_PACKED_REFS: Final = 256 << 20
"""Bytes: some four million references."""
_MAX_SYMREFS: Final = 5
"""Symbolic references followed, as in git."""
_OF_WORK_TREES: Final = ("refs/bisect/", "refs/rewritten/", "refs/worktree/")
_MAX_TAGS: Final = 32
"""Tags of tags followed."""


@attrs.frozen(eq=False, repr=False)
class LocalRepository:
    """A repository's directories.

    Attributes:
        git_dir: Its own: `HEAD` is here.
        common_dir: What its work trees share: references and objects are here. The same, except in a linked work tree.
        object_format: How objects are named.
    """

    git_dir: Path
    common_dir: Path
    object_format: ObjectFormat

    @classmethod
    def find(cls, path: Path) -> Self:
        """The repository at a path, as `git clone` finds it: bare, or with a work tree there, linked ones included.

        As there, `.git` may be left off the end. Parents are not looked at.

        Raises:
            RevisionNotFoundError: There is none.
            ConfigurationError: It is of a kind that is not supported.
        """
        git_dir = _git_dir(path)
        common = git_dir
        if (git_dir / "commondir").is_file():
            common = git_dir / _line(git_dir / "commondir")
        config = parse_config(_bytes(common / "config", _MAX_CONFIG))
        extensions = config.get(("extensions", ""), {})
        if extensions.get("refstorage", "files") != "files":
            raise ConfigurationError(
                f"{path}: references in the format {extensions['refstorage']!r} are not supported",
                hint="git refs migrate --ref-format=files",
            )
        try:
            object_format = ObjectFormat(extensions.get("objectformat", "sha1").lower())
        except ValueError:
            raise ConfigurationError(f"{path}: unknown object format {extensions['objectformat']!r}") from None
        return cls(git_dir, common, object_format)

    def open_objects(self, limits: Limits = DEFAULT_LIMITS) -> ObjectDatabase:
        """Its objects, alternates included; close it."""
        return ObjectDatabase(object_directories(self.common_dir / "objects"), self.object_format, limits)

    @property
    def lfs_objects(self) -> Path:
        """Where git-lfs keeps files."""
        return self.common_dir / "lfs" / "objects"

    def refs(self, prefixes: tuple[str, ...], limits: Limits = DEFAULT_LIMITS) -> dict[str, GitRef]:
        """The references whose names begin with one of these, by name. HEAD only if asked for.

        Tags of `packed-refs` come peeled if git recorded that; `peel` does the rest.

        Raises:
            LimitExceededError: There are more than `Limits.max_refs`.
        """
        # Loose ones first: whoever packs them meanwhile writes `packed-refs` before removing their files.
        texts = {name: self._text(name) for name in self._loose_names(prefixes)}
        found = self._packed(prefixes, limits)
        for name, text in texts.items():
            if text is None:
                continue
            ref = self._follow(name, text)
            if ref is not None:
                found[name] = ref
            else:  # it stands for nothing, and hides what was packed under its name
                found.pop(name, None)
        limits.check("max_refs", len(found), what="the repository")
        return found

    def _loose_names(self, prefixes: tuple[str, ...]) -> Iterator[str]:
        for prefix in prefixes:
            if prefix == "HEAD":
                yield prefix
                continue
            root = self._root(prefix)
            base = root / prefix
            for directory, _, files in os.walk(base if prefix.endswith("/") else base.parent):
                relative = Path(directory).relative_to(root).as_posix()
                names = (f"{relative}/{file}" for file in files if not file.endswith(".lock"))
                yield from (name for name in names if name.startswith(prefix))

    def _root(self, name: str) -> Path:
        """Where a reference's file is: some are a work tree's own."""
        return self.git_dir if name == "HEAD" or name.startswith(_OF_WORK_TREES) else self.common_dir

    def _text(self, name: str) -> str | None:
        """What a loose reference's file says; None if there is none."""
        try:
            return _ref_text(self._root(name) / name)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None

    def _follow(self, name: str, text: str | None) -> GitRef | None:
        """A loose reference, symbolic ones followed; None if it stands for nothing."""
        target = name
        for _ in range(_MAX_SYMREFS):
            if text is None:
                ref = self._packed((target,), DEFAULT_LIMITS).get(target)
                return None if ref is None else ref._replace(name=name, target=target)
            if not text.startswith("ref:"):
                if not self.object_format.is_oid(text):
                    return None  # litter, which git passes over too
                return GitRef(name, text, target=target if target != name else None)
            target = text.removeprefix("ref:").strip()
            if ".." in target or not (target == "HEAD" or target.startswith("refs/")):
                raise ContentError(f"damaged repository: {name} stands for {target[:200]!a}", path=name)
            text = self._text(target)
        raise ContentError(f"damaged repository: {name} stands for itself, through symbolic references", path=name)

    def _packed(self, prefixes: tuple[str, ...], limits: Limits) -> dict[str, GitRef]:
        wanted = tuple(prefix.encode(errors="surrogateescape") for prefix in prefixes if prefix != "HEAD")
        data = _bytes(self.common_dir / "packed-refs", _MAX_PACKED_REFS) if wanted else b""
        found: dict[str, GitRef] = {}
        last: str | None = None
        for line in data.splitlines():
            if line.startswith(b"^"):
                if last is not None:
                    found[last] = found[last]._replace(peeled=self._packed_oid(line[1:], last))
                continue
            oid, _, name = line.partition(b" ")
            last = None
            if name.startswith(wanted) and not line.startswith(b"#"):
                last = name.decode(errors="surrogateescape")
                found[last] = GitRef(last, self._packed_oid(oid, last))
                if len(found) > limits.max_refs:
                    limits.check("max_refs", len(found), what="the repository")
        return found

    def _packed_oid(self, raw: bytes, name: str) -> str:
        oid = raw.decode("ascii", "replace")
        if not self.object_format.is_oid(oid):
            raise ContentError(f"damaged repository: packed-refs has {oid[:80]!a} for {name!a}", path=name)
        return oid


def peel(ref: GitRef, objects: ObjectDatabase) -> GitRef:
    """The reference with annotated tags followed, in the object database, to the commit they stand for.

    Raises:
        RevisionNotFoundError: They stand for something else.
        SourceError: An object is missing.
        ContentError: One is damaged.
    """
    oid = bytes.fromhex(ref.final)
    for _ in range(_MAX_TAGS):
        kind = objects.kind(oid)
        if kind is Kind.COMMIT:
            return ref if oid.hex() == ref.oid else ref._replace(peeled=oid.hex())
        if kind is not Kind.TAG:
            raise RevisionNotFoundError(f"{ref.name} points at a {kind.word.decode()}, not at a commit")
        oid = Tag.parse(objects.read_kind(oid, Kind.TAG)).target
    raise ContentError(f"{ref.name} is a tag of a tag, {_MAX_TAGS} times over")


def read_tags(objects: ObjectDatabase, oid: str) -> tuple[bytes, ...]:
    """The content of a tag object and of the tags it leads to, in this order; nothing, if the object is no tag.

    Raises:
        SourceError: An object is missing.
        ContentError: One is damaged.
    """
    found: list[bytes] = []
    current = bytes.fromhex(oid)
    while objects.kind(current) is Kind.TAG:
        if len(found) == _MAX_TAGS:
            raise ContentError(f"{oid} is a tag of a tag, {_MAX_TAGS} times over")
        found.append(objects.read_kind(current, Kind.TAG))
        current = Tag.parse(found[-1]).target
    return tuple(found)


@contextmanager
def local_errors(path: Path) -> Iterator[None]:
    """Translate what the operating system says about a repository at `path`."""
    try:
        yield
    except PermissionError as exc:
        raise PermissionDeniedError(f"not allowed to read the repository at {path}: {exc.filename}") from exc
    except OSError as exc:
        raise SourceError(f"cannot read the repository at {path}: {exc}") from exc


def _git_dir(path: Path) -> Path:
    for suffix in ("/.git", "", ".git/.git", ".git"):  # in the order of git
        found = Path(f"{path}{suffix}")
        if found.is_file():
            text = _line(found)
            if not text.startswith("gitdir:"):
                raise SourceError(f"{found} is a file, but does not say where the repository is")
            found = found.parent / text.removeprefix("gitdir:").strip()
        if _is_git_dir(found):
            return found
    raise RevisionNotFoundError(
        f"there is no Git repository at {path}",
        hint="name the directory that holds .git, or a bare repository"
        if path.is_dir()
        else "the directory is not there",
    )


def _is_git_dir(path: Path) -> bool:
    head = path / "HEAD"  # as a link it may lead nowhere: to a packed reference, or to a branch without a commit
    return (head.is_file() or head.is_symlink()) and ((path / "objects").is_dir() or (path / "commondir").is_file())


def _ref_text(path: Path) -> str:
    """What a reference's file says; symbolic ones may be links, as git once wrote them (`core.preferSymlinkRefs`)."""
    with suppress(OSError):
        target = os.readlink(path)
        if target.startswith("refs/"):
            return f"ref: {target}"
    return _line(path)


def _line(path: Path) -> str:
    with open_file(path) as file:
        # It ends at a NUL, as strings of git do: no path may have one.
        return file.read(_MAX_LINK_FILE).partition(b"\0")[0].decode(errors="surrogateescape").strip()


def _bytes(path: Path, at_most: int) -> bytes:
    try:
        return read_file(path, at_most)
    except FileNotFoundError:
        return b""

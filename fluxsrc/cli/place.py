"""Where artifacts go outside a store: a directory, a file. All of it or nothing, and never over something else."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import attrs

from fluxsrc import stores, tarball
from fluxsrc._lazy import later
from fluxsrc.address import Address
from fluxsrc.artifact import Artifact
from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, StoreError
from fluxsrc.operation import Operation
from fluxsrc.produce import SourceOptions
from fluxsrc.recipe import Compression, SymlinkPolicy
from fluxsrc.source import Source
from fluxsrc.urls import address_of

if TYPE_CHECKING:
    import tempfile

    from fluxsrc import directory, select
else:  # for an --output that holds something already
    directory, select, tempfile = later("fluxsrc.directory"), later("fluxsrc.select"), later("tempfile")

__all__ = ["apart", "save_archive", "tree_digest", "unpack_tree"]


class _Nowhere:
    """A sink for an archive of which only the digest matters."""

    def write(self, data: bytes, /) -> int:
        return len(data)


_PACKED: Final = frozenset({"file", "bucket+file"})
"""Schemes of sources that are the files of a directory, whoever wrote them."""
_KEPT: Final = frozenset({"git+file", "oci-layout"})
"""Schemes of sources whose directory a program keeps: what lies among its files is no part of them, but may do harm."""
_OWN: Final = frozenset({"--output", "--archive"})
"""What only this command writes; a store and a layout may well be in one place."""


def apart(source: Source, places: Mapping[str, Path | None]) -> tuple[Source, list[str]]:
    """A source on this machine without the places that a command writes to, and which of them lie in it.

    What is written into a directory would be packed with it, at the latest the next time.

    Args:
        source: Any source; those that are elsewhere stay as they are.
        places: By the option that names each.

    Returns:
        The source with a rule for each place inside it, and those places, relative to it.

    Raises:
        ConfigurationError: A place is the source itself, or among the files of a repository or an image layout.
    """
    address = address_of(source.url)
    given = {option: place for option, place in places.items() if place is not None}
    if address.scheme in _KEPT:
        root = _kept(address)
        for option in _OWN & given.keys():
            if _within(given[option], root) is not None:
                raise ConfigurationError(f"{option} {given[option]} is inside {root}", hint="choose another place")
    if address.scheme not in _PACKED or not isinstance(source, SourceOptions):
        return source, []
    root = _packed(address)
    inside = []
    for option, place in given.items():
        relative = _within(place, root)
        if relative == ".":
            raise ConfigurationError(f"{option} {place} is the source itself", hint="choose another place")
        if relative is not None:
            inside.append(relative)
    rules = ["/" + re.sub(r"([\\*?\[ ])", r"\\\1", path) for path in inside]
    return attrs.evolve(source, ignore="\n".join(filter(None, [source.ignore, *rules])) or None), inside


def _packed(address: Address) -> str:
    """The directory that becomes an artifact's root."""
    root = address.location
    if address.scheme == "bucket+file":
        root = unquote(root.removeprefix("//"))
        if address.options.get("strip_prefix") == "true":
            root = os.path.join(root, address.options.get("prefix", ""))
    return os.path.join(root, address.path)


def _kept(address: Address) -> str:
    """The directory that is not ours: an image layout, a bare repository, or the part of a work tree that is git's."""
    if address.scheme == "oci-layout":
        return address.location.removeprefix("//").partition(":")[0].partition("@sha")[0]
    inner = os.path.join(address.location, ".git")
    return inner if os.path.exists(inner) else address.location


def _within(place: Path, root: str) -> str | None:
    """A place relative to a directory that it lies in; "." for the directory itself, None elsewhere."""
    relative = os.path.relpath(os.path.realpath(place), os.path.realpath(root))
    return None if relative == ".." or relative.startswith("../") else relative


def tree_digest(root: Path) -> Digest:
    """The content digest of everything in a directory, ignore rules or not."""
    # The extra rule has the last word, and brings back whatever a .sourceignore in there excludes.
    source = directory.DirectorySource(str(root), ignore="!*", symlinks=SymlinkPolicy.KEEP)
    with source.fetch() as snapshot:
        entries = select.select(snapshot, source.recipe, [])
        return tarball.pack(entries, _Nowhere(), compression=Compression.NONE).content_digest


def unpack_tree(
    store: "stores.LocalStore",
    artifact: Artifact,
    output: Path,
    *,
    replace: bool = False,
    operation: Operation | None = None,
) -> bool:
    """Make a directory hold exactly the artifact's files.

    Args:
        store: What holds the artifact.
        artifact: What to unpack.
        output: Not there yet, or empty, or already holding exactly this.
        replace: Take the place of whatever it holds.
        operation: The deadline, cancel switch and progress callback.

    Returns:
        Whether anything was written.

    Raises:
        ConfigurationError: It holds something else, or is nothing one may replace.
    """
    with _writing(output):
        if not output.is_dir() or not any(output.iterdir()):
            if output.exists() and not output.is_dir():
                raise ConfigurationError(f"{output} is not a directory", hint="choose another --output")
            output.parent.mkdir(parents=True, exist_ok=True)
            store.extract(artifact, output, operation=operation)
            return True
    if tree_digest(output) == artifact.content_digest:
        return False
    if not replace:
        raise ConfigurationError(
            f"{output} holds something else", hint="choose an empty or new directory, or say --replace"
        )
    _replace(store, artifact, output, operation)
    return True


def _replace(store: "stores.LocalStore", artifact: Artifact, output: Path, operation: Operation | None) -> None:
    real = output.resolve()
    precious = [Path.cwd().resolve()]
    with contextlib.suppress(RuntimeError):  # not every user of a cluster has a home
        precious.append(Path.home().resolve())
    if output.is_symlink() or any(path.is_relative_to(real) for path in precious) or (real / ".git").exists():
        raise ConfigurationError(
            f"{output} is not replaced: it is a link, a Git work tree, or holds the working or home directory",
            hint="empty it by hand if it is meant",
        )
    # Two renames are not one atomic step, but what is lost between them is a name, and no file: it is put back.
    with _writing(output), tempfile.TemporaryDirectory(dir=real.parent, prefix=f".{real.name}.") as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        store.extract(artifact, new, operation=operation)
        real.rename(old)
        try:
            new.rename(real)
        except BaseException:
            old.rename(real)
            raise


def save_archive(store: "stores.LocalStore", artifact: Artifact, file: Path) -> None:
    """Write the stored bytes to a file, which is there whole or not at all."""
    with _writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    store.export(artifact, file)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise StoreError(f"cannot write {path}: {exc.strerror or exc}", path=str(path)) from exc

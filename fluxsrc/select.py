"""Which entries of a snapshot belong into its artifact: ignore rules, then the symlink policy."""

from collections.abc import Callable, Iterator
from typing import Final

import attrs

from fluxsrc import ignore
from fluxsrc.entry import Entry, Mode, Skipped, resolve_link
from fluxsrc.errors import UnsafeEntryError
from fluxsrc.recipe import Dialect, Recipe, SymlinkPolicy
from fluxsrc.source import Snapshot

__all__ = ["select", "selector"]

_MAX_LINKS: Final = 40
"""Links followed for one path, as in Linux; more is a cycle."""
_MAX_TARGET_BYTES: Final = 4096
_SYMLINK: Final = Mode.SYMLINK
"""Before Python 3.12 it takes a call to get a member from its enum."""


def select(snapshot: Snapshot, recipe: Recipe, skipped: list[Skipped]) -> Iterator[Entry]:
    """The entries that belong into the artifact, sorted as the snapshot's.

    Args:
        snapshot: What to choose from.
        recipe: Its rules and policies.
        skipped: Grows by each link that is left out.

    Raises:
        UnsafeEntryError: The policy refuses a link, or a link leads out of the tree or nowhere.
    """
    return selector(snapshot, recipe, skipped)(snapshot.entries())


def selector(
    snapshot: Snapshot, recipe: Recipe, skipped: list[Skipped]
) -> Callable[[Iterator[Entry]], Iterator[Entry]]:
    """What `select` does, as a function of some of the snapshot's entries. Arguments and errors are those of `select`."""
    keep = _keep(snapshot, recipe)
    if recipe.symlinks is SymlinkPolicy.DEREFERENCE:
        return lambda entries: _dereference(keep(entries))
    return lambda entries: _without_links(keep(entries), recipe.symlinks, skipped)


def _keep(snapshot: Snapshot, recipe: Recipe) -> Callable[[Iterator[Entry]], Iterator[Entry]]:
    """What drops the entries that the ignore rules exclude."""
    if getattr(snapshot, "filtered_by", None) == recipe:  # one that was listed by these rules
        return iter
    files = snapshot.ignore_files()
    if recipe.dialect is Dialect.GITIGNORE and not (files or recipe.ignore):
        return iter  # nobody has said a rule, and git has none of its own
    defaults = None if recipe.default_ignores else ()
    excluded = ignore.IgnoreRules(recipe.dialect, files, recipe.ignore, defaults=defaults).excluded
    return lambda entries: (entry for entry in entries if not excluded(entry.path))


def _without_links(entries: Iterator[Entry], policy: SymlinkPolicy, skipped: list[Skipped]) -> Iterator[Entry]:
    for entry in entries:
        if entry.mode is not _SYMLINK:
            yield entry
            continue
        target = _target(entry)
        if policy is SymlinkPolicy.ERROR:
            raise UnsafeEntryError(
                f"{entry.path} is a symbolic link to {target!r}",
                path=entry.path,
                hint="choose symlinks='skip', 'keep' or 'dereference', or ignore the path",
            )
        if policy is SymlinkPolicy.SKIP:
            skipped.append(Skipped(entry.path, "symlink", target))
        else:
            resolve_link(entry.path, target)
            yield entry


def _target(entry: Entry) -> str:
    if entry.size > _MAX_TARGET_BYTES:
        raise UnsafeEntryError(f"{entry.path}: a link target of {entry.size} bytes", path=entry.path)
    return entry.read().decode(errors="surrogateescape")


def _dereference(entries: Iterator[Entry]) -> Iterator[Entry]:
    """Each link replaced by what it points at, a directory's files included. Holds the listing in memory."""
    listing = list(entries)
    links = {entry.path: _target(entry) for entry in listing if entry.mode is Mode.SYMLINK}
    if not links:
        yield from listing
        return
    files = {entry.path: entry for entry in listing if entry.mode is not Mode.SYMLINK}
    replaced = dict(files)
    for path in links:
        real = _follow(path, links)
        if real in files:
            replaced[path] = attrs.evolve(files[real], path=path)
            continue
        below = [name for name in files if name.startswith(f"{real}/")] if real else []
        if not below or path.startswith(f"{real}/"):
            raise UnsafeEntryError(
                f"{path}: the link leads to {real!r}, which is not a file or directory of the tree beside it", path=path
            )
        for name in below:
            inside = path + name[len(real) :]
            replaced[inside] = attrs.evolve(files[name], path=inside)
    yield from sorted(replaced.values(), key=lambda entry: entry.path.encode())


def _follow(path: str, links: dict[str, str]) -> str:
    """The path with every link on the way resolved."""
    for _ in range(_MAX_LINKS):
        parts = path.split("/")
        prefix = next((p for i in range(1, len(parts) + 1) if (p := "/".join(parts[:i])) in links), None)
        if prefix is None:
            return path
        path = (resolve_link(prefix, links[prefix]) + path[len(prefix) :]).lstrip("/")
    raise UnsafeEntryError(f"{path}: too many levels of symbolic links", path=path)

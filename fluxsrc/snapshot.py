"""`ListedSnapshot`: a snapshot whose listing fits in memory, for backends that have nothing better to stream from."""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from fluxsrc._html.cards import card, code, fold, note, properties, vouched
from fluxsrc._html.markup import Child, Html, join
from fluxsrc._lazy import later
from fluxsrc._units import moment, plural
from fluxsrc.entry import Entry, Mode, Skipped
from fluxsrc.errors import FluxSrcError
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.recipe import Recipe
from fluxsrc.revision import Revision
from fluxsrc.source import Snapshot

if TYPE_CHECKING:
    from fluxsrc._html import tree as trees
else:
    trees = later("fluxsrc._html.tree")

__all__ = ["IGNORE_FILE", "ListedSnapshot", "ShownSnapshot", "file_kind", "read_ignore_files"]

IGNORE_FILE: Final = ".sourceignore"


class ShownSnapshot:
    """What makes a `Snapshot` show itself in a notebook. It adds nothing else, and no state."""

    __slots__ = ()

    def _repr_html_(self: Snapshot) -> str:
        """Revision, who vouched for it, and its files as a tree; of a huge one the first fifty thousand.

        Asks for the size of each, as listing does: nothing else of a file is read.
        """
        revision: tuple[str, Child] = ("revision", code(str(self.revision)))
        try:
            title, facts, notes = join("Snapshot", vouched(self.verification)), _facts(self), _notes(self)
        except FluxSrcError as exc:  # it is sealed, and does not hold: nothing but its revision is known
            return card("Snapshot", properties([revision]), note(f"It cannot be read: {exc}"))
        try:
            tree = trees.Tree.of((entry.path, entry.size, file_kind(entry.mode)) for entry in self.entries())
        except FluxSrcError as exc:  # its context is over, most of the time; what is known without files is shown
            files = note(f"The files cannot be read: {exc}")
        else:
            files = join(tree.html(), note(tree.summary))
        return card(title, properties([revision, *facts]), notes, files)


def _facts(snapshot: Snapshot) -> list[tuple[str, Child]]:
    created = None if snapshot.created is None else moment(snapshot.created)
    return [("created", created), *snapshot.verification]


def _notes(snapshot: Snapshot) -> Html | None:
    found = snapshot.annotations
    return fold(plural(len(found), "annotation"), properties(found.items())) if found else None


def file_kind(mode: Mode) -> str:
    """A word for what is not the usual kind of file."""
    return {Mode.EXECUTABLE: "executable", Mode.SYMLINK: "link"}.get(mode, "")


@attrs.frozen(kw_only=True, eq=False)
class ListedSnapshot(ShownSnapshot):
    """A `Snapshot` of entries that can be iterated over repeatedly, sorted by the UTF-8 bytes of their paths.

    Attributes:
        filtered_by: The recipe whose ignore rules have left nothing to exclude, if one has: nobody needs to judge again.
    """

    revision: Revision
    _entries: Iterable[Entry] = attrs.field(repr=False)
    created: dt.datetime | None = None
    tree_id: str | None = None
    annotations: Mapping[str, str] = attrs.field(factory=dict)
    skipped: Sequence[Skipped] = ()
    verification: tuple[tuple[str, str], ...] = ()
    filtered_by: Recipe | None = None
    _ignore_files: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    def ignore_files(self) -> Mapping[str, str]:
        """The text of each `.sourceignore`, by directory."""
        return self._ignore_files

    def entries(self) -> Iterator[Entry]:
        """A new iteration over the entries."""
        return iter(self._entries)


def read_ignore_files(entries: Iterable[Entry], *, limits: Limits = DEFAULT_LIMITS) -> dict[str, str]:
    """The text of each `.sourceignore` among some entries, by directory.

    Raises:
        LimitExceededError: One is larger than `max_manifest_bytes`.
    """
    found = {}
    for entry in entries:
        directory, _, name = entry.path.rpartition("/")
        if name == IGNORE_FILE and entry.mode is not Mode.SYMLINK:
            limits.check("max_manifest_bytes", entry.size, what="an ignore file", path=entry.path)
            found[directory] = entry.read().decode(errors="surrogateescape")
    return found


if TYPE_CHECKING:

    def _(snapshot: ListedSnapshot) -> Snapshot:
        return snapshot

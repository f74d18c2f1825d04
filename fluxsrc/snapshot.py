"""`ListedSnapshot`: a snapshot whose listing fits in memory, for backends that have nothing better to stream from."""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from fluxsrc.entry import Entry, Mode, Skipped
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.revision import Revision
from fluxsrc.source import Snapshot

__all__ = ["IGNORE_FILE", "ListedSnapshot", "read_ignore_files"]

IGNORE_FILE: Final = ".sourceignore"


@attrs.frozen(kw_only=True, eq=False)
class ListedSnapshot:
    """A `Snapshot` made of a list (or anything else to iterate over repeatedly) of entries, sorted by the UTF-8 bytes of their paths."""

    revision: Revision
    _entries: Iterable[Entry] = attrs.field(repr=False)
    created: dt.datetime | None = None
    tree_id: str | None = None
    annotations: Mapping[str, str] = attrs.field(factory=dict)
    skipped: Sequence[Skipped] = ()
    verification: tuple[tuple[str, str], ...] = ()
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

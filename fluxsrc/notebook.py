"""For notebooks: files, differences and histories as values that show themselves, and as tables for pandas.

Artifacts and snapshots show themselves as they are. What elsewhere comes as an iterator is a whole here: the `files` of
anything, the `changes` between any two, and the `history` of a source, with pictures of where its pointer was (`timeline`)
and of how large its artifacts are (`sizes`).

```python
from fluxsrc import MemorySource, MemoryStore, notebook

store = MemoryStore()
artifact = MemorySource({"app.yaml": "replicas: 3"}).produce_artifact(store, name="app")
notebook.history(store, artifact.key)
```

All that is shown and comes from a source is escaped; characters that cannot be seen, or turn the direction of writing, are
named. Nothing that is shown loads or runs anything. Large things are cut, and say how much is left out. The pictures are
SVG, in the colors of the page around them. Only tables need more than this library: pandas, of the extra `notebook`.
"""

import datetime as dt
import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, get_args, runtime_checkable

import attrs

from fluxsrc import inspect
from fluxsrc._html.cards import badge, card, code, note, table, vouched
from fluxsrc._html.charts import Bar, Mark, Picture, bars, steps
from fluxsrc._html.markup import Html, join, tag
from fluxsrc._html.patch import changed
from fluxsrc._html.tree import Tree
from fluxsrc._units import plural, size
from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.entry import Mode
from fluxsrc.errors import ConfigurationError, MissingExtraError
from fluxsrc.inspect import Change, ChangeKind, Listed, Target
from fluxsrc.operation import Operation
from fluxsrc.revision import Revision
from fluxsrc.snapshot import file_kind
from fluxsrc.source import Snapshot
from fluxsrc.store import ObservingStore, Store

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "Changes",
    "Files",
    "History",
    "Picture",
    "Seen",
    "changes",
    "files",
    "history",
    "sizes",
    "timeline",
    "to_pandas",
]

_MAX_CHANGES: Final = 200
_MAX_LINES: Final = 2000
_MAX_LINES_OF_ONE: Final = 400
_MAX_UNFOLDED: Final = 60
"""Lines shown at once; the paths that have more wait until they are asked."""
_MAX_ARTIFACTS: Final = 50


# --- what is there ---------------------------------------------------------------------------------------------------


class Files(tuple[Listed, ...]):
    """The files of something, by path. A tuple that shows itself as a tree."""

    __slots__ = ()

    def to_pandas(self) -> "DataFrame":
        """One row for each file; see `to_pandas`."""
        return _frame(Listed, self)

    def __repr__(self) -> str:
        return f"<{plural(len(self), 'file')}, {size(sum(file.size for file in self))}>"

    def _repr_html_(self) -> str:
        tree = Tree.of((file.path, file.size, file_kind(file.mode)) for file in self)
        return card(tree.summary, tree.html())


def files(what: Target | Snapshot, /, *, operation: Operation | None = None) -> Files:
    """The files of a source, a stored artifact or an open snapshot, sorted by path.

    Of a source and an artifact, what an artifact holds; of a snapshot, all of it, before ignore rules apply.

    Raises:
        FluxSrcError: They cannot be read.
    """
    if isinstance(what, Snapshot):
        return Files(Listed(entry.path, entry.mode, entry.size) for entry in what.entries())
    return Files(inspect.ls(what, operation=operation))


# --- what differs ----------------------------------------------------------------------------------------------------


class Changes(tuple[Change, ...]):
    """What differs between two things, by path. A tuple that shows itself path by path, with the lines that differ."""

    __slots__ = ()

    @property
    def summary(self) -> str:
        """In one line.

        >>> Changes().summary
        'no differences'
        """
        if not self:
            return "no differences"
        counted = [(kind.value, sum(one.kind is kind for one in self)) for kind in ChangeKind]
        return f"{plural(len(self), 'path')}: " + ", ".join(f"{count:,} {name}" for name, count in counted if count)

    def to_pandas(self) -> "DataFrame":
        """One row for each path; see `to_pandas`."""
        return _frame(Change, self)

    def __repr__(self) -> str:
        return f"<{self.summary}>"

    def _repr_html_(self) -> str:
        more = len(self) - _MAX_CHANGES
        return card(
            self.summary,
            *self._shown(),
            note(f"{plural(more, 'more path')} not shown") if more > 0 else None,
        )

    def _shown(self) -> Iterator[Html]:
        left, unfolded = _MAX_LINES, _MAX_UNFOLDED
        for one in self[:_MAX_CHANGES]:
            lines = min(one.text.count("\n"), _MAX_LINES_OF_ONE, left)
            is_open = lines <= unfolded
            left, unfolded = left - lines, unfolded - lines * is_open
            yield changed(one.kind.value, one.path, one.summary, one.text, at_most=lines, is_open=is_open)


def changes(old: Target, new: Target, /, *, context: int = 3, operation: Operation | None = None) -> Changes:
    """Every path that differs between two sources or stored artifacts; see `fluxsrc.inspect.diff`.

    Raises:
        FluxSrcError: One of them cannot be read.
    """
    return Changes(inspect.diff(old, new, context=context, operation=operation))


# --- what was --------------------------------------------------------------------------------------------------------


@runtime_checkable
class Seen(Protocol):
    """Something at a revision from a moment on: a store's observation, or an artifact."""

    @property
    def revision(self) -> Revision:
        """The revision."""
        ...

    @property
    def observed(self) -> dt.datetime | None:
        """The moment, by the store's clock."""
        ...


@attrs.frozen
class History:
    """What one source was over time, as a store saw it.

    Attributes:
        key: Whose history it is.
        artifacts: Those the store holds, newest first.
        observations: Where the source was, newest first, returns to an earlier revision included.
    """

    key: SourceKey
    artifacts: tuple[Artifact, ...]
    observations: tuple[Seen, ...]

    def timeline(self) -> Picture:
        """Where the source was over time, one row for each revision, with what it was made from if that is known."""
        return timeline(
            self.observations, origins={a.revision: _shortened(a.origin) for a in self.artifacts}, of=str(self.key)
        )

    def sizes(self) -> Picture:
        """How large its artifacts are, oldest first."""
        return sizes(self.artifacts)

    def to_pandas(self) -> "DataFrame":
        """One row for each artifact; see `to_pandas`."""
        return _frame(Artifact, self.artifacts)

    def __repr__(self) -> str:
        return f"<{self.key}: {plural(len(self.artifacts), 'artifact')}, seen {plural(len(self.observations), 'time')}>"

    def _repr_html_(self) -> str:
        moves = max(0, len(self.observations) - 1)
        more = len(self.artifacts) - _MAX_ARTIFACTS
        return card(
            join(
                str(self.key), badge(plural(len(self.artifacts), "artifact")), badge(f"moved {plural(moves, 'time')}")
            ),
            self.timeline().inline() if moves else None,
            _artifact_table(self.artifacts[:_MAX_ARTIFACTS]),
            note(f"{plural(more, 'older artifact')} not shown") if more > 0 else None,
        )


def history(store: Store, key: SourceKey | str, /) -> History:
    """What a source was over time, as a store saw it; empty for a source it never saw.

    Args:
        store: The store. One that has no `observations` knows no returns: its artifacts are all that is shown.
        key: The source's name there, such as "gitrepository/default/podinfo".

    Raises:
        ConfigurationError: That is not a key.
        StoreError: The record cannot be read.
    """
    key = SourceKey.parse(key) if isinstance(key, str) else key
    artifacts = tuple(store.history(key))
    return History(key, artifacts, tuple(store.observations(key)) if isinstance(store, ObservingStore) else artifacts)


def _artifact_table(artifacts: Sequence[Artifact]) -> Html:
    rows = [
        (
            "" if each.observed is None else f"{each.observed.astimezone(dt.UTC):%Y-%m-%d %H:%M}",
            _revision(each),
            code(each.content_digest.short, full=str(each.content_digest)),
            f"{each.files:,}",
            size(each.size),
            vouched(each.verification, short=True),
        )
        for each in artifacts
    ]
    head = ("first seen (UTC)", "revision", "content", "files", "stored", "verified")
    return table(head, rows, right=frozenset({3, 4}))


def _revision(artifact: Artifact) -> Html:
    origin = tag("bdi", _shortened(artifact.origin), title=artifact.origin)
    made = tag("div", "made from ", origin, class_="fx-dim") if artifact.origin else None
    return join(code(artifact.revision.short, full=str(artifact.revision)), made)


def _shortened(revision: str) -> str:
    """As people write it, if it is a revision; the annotation may say anything."""
    try:
        return Revision.parse(revision).short
    except ConfigurationError:
        return revision


# --- pictures --------------------------------------------------------------------------------------------------------


def timeline(
    seen: Iterable[Seen], /, *, origins: Mapping[Revision, str] | None = None, of: str = "the source"
) -> Picture:
    """Where something was over time: a line from row to row, a row for each digest, the latest on top.

    A move back to an earlier digest is a line back down to its row. Of many moves the latest are shown.

    Args:
        seen: Observations of a store, or artifacts, in any order; those without a time are left out.
        origins: A second line for a revision's row, such as what it was made from.
        of: Whose timeline it is, for those who cannot see it.
    """
    dated = [(one.observed, one.revision) for one in seen if one.observed is not None]
    several = len({revision.pointer for _, revision in dated}) > 1
    marks = []
    for observed, revision in dated:
        notes = (revision.pointer if several else None, (origins or {}).get(revision))
        marks.append(Mark(observed, str(revision.digest), ", ".join(each for each in notes if each)))
    return steps(f"Where {of} was over time", marks)


def sizes(artifacts: Iterable[Artifact], /) -> Picture:
    """How large artifacts are: bars for stored and for unpacked bytes, oldest on the left.

    Args:
        artifacts: A history, newest first.
    """
    items = [
        Bar(one.content_digest.short, str(one.revision), one.size, one.content_size)
        for one in reversed(list(artifacts))
    ]
    return bars("How large the artifacts are", items, inner="stored", outer="unpacked")


# --- tables ----------------------------------------------------------------------------------------------------------

_PLAIN: Final = (int, float, bool, bytes, dt.datetime, tuple, Mapping, type(None))


def to_pandas(values: Iterable[Any], /) -> "DataFrame":
    """A table of values of one kind: listings, tags, candidates, observations, changes, artifacts.

    One row for each value and one column for each of its attributes. Times are UTC, numbers that may be missing are nullable
    integers, digests, revisions, keys and kinds are text, modes are octal text; sequences and mappings stay what they are.
    Text is unchanged: what pandas shows of it is escaped, but invisible characters stay invisible.

    Raises:
        MissingExtraError: pandas is not installed.
        TypeError: The values are not of one attrs class.
    """
    rows = list(values)
    kinds = {type(row) for row in rows}
    if len(kinds) > 1 or not all(attrs.has(kind) for kind in kinds):
        raise TypeError(f"a table holds values of one attrs class, not {sorted(kind.__name__ for kind in kinds)}")
    return _frame(kinds.pop() if kinds else None, rows)


def _frame(kind: type | None, rows: Sequence[Any]) -> "DataFrame":
    try:
        import pandas as pd  # noqa: PLC0415 - belongs to an extra
    except ImportError:
        raise MissingExtraError("tables for pandas", extra="notebook") from None
    fields = [] if kind is None else [field for field in attrs.fields(kind) if not field.name.startswith("_")]
    return pd.DataFrame(
        {
            field.name: pd.Series([_cell(getattr(row, field.name)) for row in rows], dtype=_dtype(field.type))
            for field in fields
        }
    )


def _cell(value: Any) -> Any:
    if isinstance(value, Mode):
        return f"{value:o}"
    if isinstance(value, enum.Enum):
        return value.value
    return value if isinstance(value, _PLAIN) else str(value)


def _dtype(annotation: Any) -> str:
    kinds = set(get_args(annotation) or (annotation,))
    optional = type(None) in kinds
    kinds.discard(type(None))
    if kinds == {dt.datetime}:
        return "datetime64[us, UTC]"
    if kinds == {int}:
        return "Int64" if optional else "int64"
    return "bool" if kinds == {bool} else "object"

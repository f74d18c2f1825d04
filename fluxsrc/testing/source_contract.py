"""`SourceContract`: what every `Source` must do, as a pytest suite that a backend passes with a fixture and a class.

```python
class TestMySource(SourceContract):
    @pytest.fixture
    def origin(self, tmp_path):
        return MyOrigin(tmp_path)
```

The origin goes *around* the library: it writes to the remote directly, so that reading is tested on its own.
"""

import concurrent.futures
import pickle
import threading
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

import pytest

from fluxsrc.entry import Mode
from fluxsrc.errors import FluxSrcError, OperationCancelledError, PathNotFoundError, SourceChangedError
from fluxsrc.memory import MemoryFile, MemorySource
from fluxsrc.operation import Operation
from fluxsrc.revision import Revision
from fluxsrc.source import Snapshot, Source
from fluxsrc.stores import MemoryStore

__all__ = ["Origin", "SourceContract"]


class Origin(Protocol):
    """The remote of one test, written to directly.

    Attributes:
        secrets: Texts that the sources know and no text may show.
        keeps_modes: Whether the executable bit survives there (it does not in a bucket).
    """

    secrets: tuple[str, ...]
    keeps_modes: bool

    def publish(self, files: Mapping[str, MemoryFile], /) -> None:
        """Make the remote hold exactly these files where `source()` looks."""
        ...

    def source(self, **options: Any) -> Source:
        """A source that follows what was published, with more options of `SourceOptions`."""
        ...

    def missing(self) -> Source:
        """A source of the same kind that points at nothing."""
        ...


# Sorted by full path, "a.b" < "a/b" < "a0": the order that neither git's trees nor a directory listing give by themselves.
TREE: Final[Mapping[str, MemoryFile]] = {
    "README.md": MemoryFile(b"# readme\n"),
    "a.b": MemoryFile(b"dot\n"),
    "a/b": MemoryFile(b"slash\n"),
    "a0": MemoryFile(b"zero\n"),
    "deploy/base/app.yaml": MemoryFile(b"kind: Deployment\n"),
    "deploy/prod/app.yaml": MemoryFile(b"replicas: 3\n"),
    "deploy/prod/empty": MemoryFile(b""),
    "deploy/prod/\u00fcml\u00e4ut \U0001f680.txt": MemoryFile("\u00fc".encode()),
    "large.bin": MemoryFile(bytes(range(256)) * 2000),
    "run.sh": MemoryFile(b"#!/bin/sh\n", Mode.EXECUTABLE),
}

_APP: Final = TREE["deploy/prod/app.yaml"].data
CHANGES: Final[Sequence[Mapping[str, MemoryFile | None]]] = (
    {"a.b": None, "a/b": None, "zz": MemoryFile(b"last\n")},
    {"a": MemoryFile(b"a file where a directory was\n"), "large.bin": MemoryFile(bytes(range(256)) * 2001)},
    {"deploy/.sourceignore": MemoryFile(b"base/\n")},
    {"deploy/.sourceignore": None, "deploy/base/app.yaml": MemoryFile(b"kind: Deployment\n", Mode.EXECUTABLE)},
    {
        "deploy/prod/app.yaml": None,
        "deploy/prod/moved.yaml": MemoryFile(_APP),
        "deploy/stage/app.yaml": MemoryFile(_APP),
    },
    {"a": None, "a/c/d": MemoryFile(b"a directory where a file was\n"), "README.md": None, "zz": None},
)
"""One after the other, on top of `TREE`; None is removed."""


def _contents(snapshot: Snapshot) -> dict[str, bytes]:
    return {entry.path: entry.read() for entry in snapshot.entries()}


class SourceContract:
    """Subclass it, and give it an `origin` fixture."""

    tree: ClassVar[Mapping[str, MemoryFile]] = TREE

    @pytest.fixture
    def published(self, origin: Origin) -> Origin:
        """The origin, holding `tree`."""
        origin.publish(self._expected(origin))
        return origin

    def _expected(self, origin: Origin) -> dict[str, MemoryFile]:
        if origin.keeps_modes:
            return dict(self.tree)
        return {path: MemoryFile(file.data) for path, file in self.tree.items()}

    def _changed(self, origin: Origin) -> dict[str, MemoryFile]:
        return self._expected(origin) | {"README.md": MemoryFile(b"# changed\n"), "new.txt": MemoryFile(b"new\n")}

    # --- resolving ---

    def test_resolves_to_a_revision_that_round_trips(self, published: Origin) -> None:
        """`Revision.parse(str(r)) == r`."""
        revision = published.source().resolve_revision()
        assert Revision.parse(str(revision)) == revision

    def test_unchanged_content_keeps_its_revision(self, published: Origin) -> None:
        """A revision does not drift by being looked at."""
        source = published.source()
        first = source.resolve_revision()
        with source.fetch(first) as snapshot:
            _contents(snapshot)
        assert source.resolve_revision() == first
        assert published.source().resolve_revision() == first

    def test_changed_content_changes_the_revision(self, published: Origin) -> None:
        """And the same source, an immutable value, sees it."""
        source = published.source()
        before = source.resolve_revision()
        published.publish(self._changed(published))
        assert source.resolve_revision() != before

    def test_a_missing_origin_is_one_of_our_errors(self, origin: Origin) -> None:
        """Nothing foreign escapes, and the text names no secret."""
        with pytest.raises(FluxSrcError) as caught:
            origin.missing().resolve_revision()
        self._assert_no_secret(origin, _texts(caught.value))

    def test_cancelling_stops_it(self, published: Origin) -> None:
        """A cancelled operation does nothing."""
        cancel = threading.Event()
        cancel.set()
        with pytest.raises(OperationCancelledError):
            published.source().resolve_revision(operation=Operation(cancel=cancel))

    # --- fetching ---

    def test_a_snapshot_holds_exactly_what_was_published(self, published: Origin) -> None:
        """Paths, modes, sizes and bytes."""
        source = published.source()
        with source.fetch() as snapshot:
            found = {entry.path: MemoryFile(entry.read(), entry.mode) for entry in snapshot.entries()}
            sizes = {entry.path: entry.size for entry in snapshot.entries()}
        assert found == self._expected(published)
        assert sizes == {path: len(file.data) for path, file in found.items()}

    def test_entries_come_in_the_order_of_their_paths_bytes(self, published: Origin) -> None:
        """By the UTF-8 bytes of the full path, each once."""
        with published.source().fetch() as snapshot:
            paths = [entry.path.encode() for entry in snapshot.entries()]
        assert paths == sorted(set(paths))
        assert len(paths) == len(self.tree)

    def test_entries_can_be_iterated_again_and_at_once(self, published: Origin) -> None:
        """Each call is a new iteration, also while another is under way."""
        with published.source().fetch() as snapshot:
            pairs = zip(snapshot.entries(), snapshot.entries(), strict=True)
            assert all(one.path == other.path for one, other in pairs)
            assert _contents(snapshot) == _contents(snapshot)

    def test_an_entry_can_be_opened_again_and_read_as_a_stream(self, published: Origin) -> None:
        """Each opening starts at the beginning."""
        with published.source().fetch() as snapshot:
            for entry in snapshot.entries():
                with entry.open() as one, entry.open() as other:
                    head = one.read(3)
                    assert head + one.read() == other.read() == entry.read() == self.tree[entry.path].data

    def test_what_was_resolved_is_what_is_fetched(self, published: Origin) -> None:
        """After a change the old revision is served whole, or refused as changed; never mixed."""
        source = published.source()
        before = source.resolve_revision()
        published.publish(self._changed(published))
        try:
            with source.fetch(before) as snapshot:
                assert snapshot.revision == before
                contents = _contents(snapshot)
        except SourceChangedError:
            return
        assert contents == {path: file.data for path, file in self._expected(published).items()}

    def test_content_that_goes_away_while_it_is_read_is_one_of_our_errors(self, published: Origin) -> None:
        """The remote drops every file below an open snapshot: what was there comes whole, or an error of this library."""
        try:
            with published.source().fetch() as snapshot:
                entries = snapshot.entries()
                first = next(entries)
                published.publish({"other.txt": MemoryFile(b"other\n")})
                contents = {entry.path: entry.read() for entry in (first, *entries)}
                again = _contents(snapshot)
        except FluxSrcError as exc:
            self._assert_no_secret(published, _texts(exc))
            return
        assert contents == again == {path: file.data for path, file in self.tree.items()}

    def test_a_snapshot_is_of_the_revision_it_was_asked_for(self, published: Origin) -> None:
        """Whether given or resolved on the way."""
        source = published.source()
        revision = source.resolve_revision()
        with source.fetch(revision) as given, source.fetch() as resolved:
            assert given.revision == revision == resolved.revision

    def test_threads_can_share_it(self, published: Origin) -> None:
        """Four threads, one source, equal snapshots."""
        source = published.source()

        def fetch(_: int) -> dict[str, bytes]:
            with source.fetch() as snapshot:
                return _contents(snapshot)

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            first, *others = pool.map(fetch, range(4))
        assert all(other == first for other in others)

    # --- values ---

    def test_it_is_a_value(self, published: Origin) -> None:
        """Equal to itself made again, hashable, immutable, picklable."""
        source = published.source()
        assert source == published.source()
        assert hash(source) == hash(published.source())
        copy = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own bytes
        assert copy == source
        assert copy.resolve_revision() == source.resolve_revision()
        with pytest.raises(AttributeError):
            source.timeout = 1.0  # type: ignore[attr-defined]  # that it fails is the point
        assert isinstance(source, Source)

    def test_it_shows_no_secret(self, published: Origin) -> None:
        """Not in its repr, its URL, its recipe, nor those of its snapshot."""
        source = published.source()
        texts = [repr(source), str(source), source.url, repr(source.recipe)]
        with source.fetch() as snapshot:
            texts += [repr(snapshot), repr(list(snapshot.entries())), repr(dict(snapshot.annotations))]
        self._assert_no_secret(published, texts)

    # --- artifacts ---

    def test_equal_trees_have_equal_content_digests(self, published: Origin) -> None:
        """Whatever the backend: the same digest as the same files in memory."""
        artifact = published.source().produce_artifact(MemoryStore())
        expected = MemorySource(self._expected(published)).produce_artifact(MemoryStore())
        assert artifact.content_digest == expected.content_digest
        assert artifact.files == len(self.tree)

    def test_an_unchanged_source_is_left_alone(self, published: Origin) -> None:
        """The second time the store's artifact is returned as it is."""
        store = MemoryStore()
        source = published.source()
        first = source.produce_artifact(store)
        assert source.produce_artifact(store) == first
        assert list(store.history(first.key)) == [first]

    def test_a_changed_source_makes_a_new_artifact(self, published: Origin) -> None:
        """Its content is that of a fresh start, although unchanged chunks are reused."""
        store = MemoryStore()
        source = published.source()
        first = source.produce_artifact(store)
        published.publish(self._changed(published))
        second = source.produce_artifact(store)
        fresh = MemorySource(self._changed(published)).produce_artifact(MemoryStore())
        assert second.content_digest == fresh.content_digest != first.content_digest
        assert [artifact.revision for artifact in store.history(first.key)] == [second.revision, first.revision]

    def test_changes_of_every_kind_make_what_a_fresh_start_makes(self, published: Origin) -> None:
        """Added, removed, moved, ignored, executable, a file for a directory and back: what was reused never shows."""
        store = MemoryStore()
        source = published.source()
        tree = self._expected(published)
        source.produce_artifact(store)
        for change in CHANGES:
            tree = {path: file for path, file in {**tree, **change}.items() if file is not None}
            if not published.keeps_modes:
                tree = {path: MemoryFile(file.data) for path, file in tree.items()}
            published.publish(tree)
            fresh = MemorySource(tree).produce_artifact(MemoryStore())
            artifact = source.produce_artifact(store)
            assert (artifact.content_digest, artifact.files) == (fresh.content_digest, fresh.files), change

    def test_ignore_rules_decide(self, published: Origin) -> None:
        """The source's own, and those of `.sourceignore` files in the tree."""
        rules = {".sourceignore": MemoryFile(b"*.bin\n"), "deploy/.sourceignore": MemoryFile(b"prod/\n")}
        published.publish(self._expected(published) | rules)
        artifact = published.source(ignore="/a*\n!/a0\n").produce_artifact(MemoryStore())
        gone = {"large.bin", "a.b", "a/b"} | {path for path in self.tree if path.startswith("deploy/prod/")}
        kept = {path: file for path, file in (self._expected(published) | rules).items() if path not in gone}
        assert artifact.content_digest == MemorySource(kept).produce_artifact(MemoryStore()).content_digest

    def test_a_path_makes_a_sub_tree_the_whole(self, published: Origin) -> None:
        """Its digest is that of the sub-tree alone, untouched by changes elsewhere."""
        source = published.source(path="deploy/prod")
        below = {
            p.removeprefix("deploy/prod/"): f
            for p, f in self._expected(published).items()
            if p.startswith("deploy/prod/")
        }
        expected = MemorySource(below).produce_artifact(MemoryStore()).content_digest
        assert source.produce_artifact(MemoryStore()).content_digest == expected
        published.publish(self._changed(published))
        assert source.produce_artifact(MemoryStore()).content_digest == expected

    def test_a_path_that_is_not_there_is_an_error(self, published: Origin) -> None:
        """Missing is an error, never an omission."""
        with pytest.raises(PathNotFoundError), published.source(path="no/such/path").fetch() as snapshot:
            _contents(snapshot)

    def _assert_no_secret(self, origin: Origin, texts: list[str]) -> None:
        for secret in origin.secrets:
            for text in texts:
                assert secret not in text


def _texts(error: BaseException | None) -> list[str]:
    """Every text of an exception and of all that are chained to it."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error), repr(error.__dict__)]
        error = error.__cause__ or error.__context__
    return texts

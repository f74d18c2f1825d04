"""Lock files: approved revisions and contents, and what happens when the world moves on."""

import contextlib

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, DigestMismatchError, RefMovedError, TransportError
from fluxsrc.git import GitSource
from fluxsrc.lock import Locked, LockedSource, LockFile, PinnedSource, produce_locked
from fluxsrc.managed import ManagedSource
from fluxsrc.memory import MemorySource
from fluxsrc.reconcile import Reconciler
from fluxsrc.revision import Revision
from fluxsrc.status import SourceStatus
from fluxsrc.stores import LocalStore, MemoryStore
from fluxsrc.testing.git import GitRepositoryBuilder

DIGESTS = st.binary(min_size=1, max_size=8).map(Digest.of)
LOCKED = st.builds(
    Locked,
    url=st.text(min_size=1, max_size=20),
    revision=st.builds(Revision, DIGESTS, st.none() | st.sampled_from(["main", "v1@2", "fe/at"])),
    content_digest=DIGESTS,
    recipe=DIGESTS,
)


@given(st.dictionaries(st.text(max_size=20), LOCKED, max_size=5).map(LockFile))
def test_the_text_round_trips_and_is_canonical(lock):
    """Equal locks, equal files, whatever order they were made in."""
    text = str(lock)
    assert LockFile.parse(text) == lock
    assert str(LockFile(dict(reversed(lock.sources.items())))) == text


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version": 1}', '{"version": 2, "sources": {}}', '{"version": 1, "sources": {"a": {"x": 1}}}'],
)
def test_what_is_no_lock_file_is_refused(text):
    """Half a lock pins nothing."""
    with pytest.raises(ConfigurationError):
        LockFile.parse(text)


class Repository:
    """A Git repository on disk, and the managed source that follows its branch."""

    def __init__(self, root):
        self.builder = GitRepositoryBuilder(root / "repository.git")
        self.builder.commit({"app.yaml": "v1"})
        self.managed = ManagedSource(name="app", source=GitSource(str(root / "repository.git"), branch="main"))

    def lock(self, store):
        artifact = self.managed.source.produce_artifact(store, name="app")
        return artifact, Locked.of(self.managed.source, artifact)


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


def test_a_name_that_moved_is_reported_as_moved(repository):
    """Both revisions are in the message, and the store is as it was."""
    store = MemoryStore()
    artifact, locked = repository.lock(store)
    repository.builder.commit({"app.yaml": "v2"})
    with pytest.raises(RefMovedError, match="moved") as caught:
        produce_locked(repository.managed, store, locked)
    now = repository.managed.source.resolve_revision()
    assert (caught.value.old, caught.value.new) == (str(locked.revision), str(now))
    assert str(locked.revision) in str(caught.value)
    assert str(now) in str(caught.value)
    assert store.lookup(artifact.key) == artifact


def test_frozen_takes_what_is_locked_although_the_name_moved(repository):
    """The old commit is fetched again into an empty store: same revision, same content."""
    artifact, locked = repository.lock(MemoryStore())
    repository.builder.commit({"app.yaml": "v2"})
    found = produce_locked(repository.managed, MemoryStore(), locked, frozen=True)
    assert (found.revision, found.content_digest) == (artifact.revision, artifact.content_digest)


def test_a_reconciler_says_that_a_locked_source_moved(repository):
    """As a failure of its own, with what the source points at by now; the artifact stays. Then it is locked again."""
    store = MemoryStore()
    artifact, locked = repository.lock(store)
    repository.builder.commit({"app.yaml": "v2"})
    moved = attrs.evolve(repository.managed, source=LockedSource(repository.managed.source, locked))
    reconciler = Reconciler(store, [moved], known=[SourceStatus(key=moved.key, artifact=artifact)])
    status = reconciler.run_once()[moved.key]
    assert (status.failure.reason, store.lookup(moved.key)) == ("RefMoved", artifact)
    newer = repository.managed.source.resolve_revision()
    assert str(newer) in status.conditions["ArtifactOutdated"].message
    made = repository.managed.source.produce_artifact(MemoryStore(), name="app")
    again = LockedSource(repository.managed.source, Locked.of(repository.managed.source, made))
    reconciler = Reconciler(store, [attrs.evolve(moved, source=again)])
    assert reconciler.run_once()[moved.key].artifact.revision == newer


def test_the_files_of_a_locked_source_are_those_of_its_revision(repository):
    """Wherever a source goes: to whoever lists or compares files, too."""
    _, locked = repository.lock(MemoryStore())
    repository.builder.commit({"app.yaml": "v2"})
    with LockedSource(repository.managed.source, locked, frozen=True).fetch() as snapshot:
        [entry] = snapshot.entries()
        assert (snapshot.revision, entry.size) == (locked.revision, 2)


@attrs.frozen
class Unreachable:
    """A source whose every question goes to a network that is not there."""

    inner: object

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def resolve_revision(self, *, operation=None):
        raise TransportError("no network")

    @contextlib.contextmanager
    def fetch(self, revision=None, /, *, operation=None):
        raise TransportError("no network")
        yield


def test_frozen_touches_no_network_for_what_the_store_has(repository, tmp_path):
    """Also when another artifact is the current one by now: then the locked one becomes it again."""
    with LocalStore(tmp_path / "store", durable=False) as store:
        artifact, locked = repository.lock(store)
        offline = attrs.evolve(repository.managed, source=Unreachable(repository.managed.source))
        assert produce_locked(offline, store, locked, frozen=True) == artifact
        repository.builder.commit({"app.yaml": "v2"})
        newer = repository.managed.source.produce_artifact(store, name="app")
        assert newer != artifact
        again = produce_locked(offline, store, locked, frozen=True)
        assert again.revision == artifact.revision
        assert store.lookup(artifact.key) == again
        with pytest.raises(TransportError):
            produce_locked(offline, MemoryStore(), locked, frozen=True)


@pytest.mark.parametrize("held", [True, False])
def test_other_content_than_was_locked_is_not_recorded(held):
    """A revision that suddenly means something else: the store stays as it was."""
    store = MemoryStore()
    managed = ManagedSource(name="app", source=MemorySource({"app.yaml": "v1"}))
    artifact = managed.source.produce_artifact(store if held else MemoryStore(), name="app")
    locked = attrs.evolve(Locked.of(managed.source, artifact), content_digest=Digest.of(b"other"))
    for frozen in (False, True):
        with pytest.raises(DigestMismatchError, match="locked is"):
            produce_locked(managed, store, locked, frozen=frozen)
    assert list(store.history(managed.key)) == [artifact] * held


def test_a_source_that_is_not_the_one_that_was_locked_is_not_held_against_it():
    """Another address, other rules, or none at all."""
    source = MemorySource({"app.yaml": "v1"})
    lock = LockFile({"a": Locked.of(source, source.produce_artifact(MemoryStore()))})
    assert lock.need("a", source).url == source.url
    for name, other, says in [
        ("b", source, "not locked"),
        ("a", attrs.evolve(source, label="other"), "locked is memory:memory"),
        ("a", attrs.evolve(source, ignore="*.md"), "ignore rules"),
    ]:
        with pytest.raises(ConfigurationError, match=says):
            lock.need(name, other)
    assert lock.stale(["b"]) == ("a",)


def test_a_source_is_found_under_any_name_unless_they_say_different_things():
    """By its address, and the one made by the same options first."""
    source = MemorySource({"app.yaml": "v1"})
    locked = Locked.of(source, source.produce_artifact(MemoryStore()))
    other = attrs.evolve(locked, recipe=Digest.of(b"other"))
    assert LockFile({"a": other, "b": locked}).find("mine", source) == locked
    assert LockFile({"a": locked, "b": locked}).find("mine", source) == locked
    assert LockFile({"mine": locked, "a": other}).find("mine", source) == locked
    with pytest.raises(ConfigurationError, match="ignore rules"):
        LockFile({"a": other}).find("mine", source)
    with pytest.raises(ConfigurationError, match="is not locked"):
        LockFile().find("mine", source)
    moved = attrs.evolve(locked, content_digest=Digest.of(b"other"))
    with pytest.raises(ConfigurationError, match="locked as different things: a, b"):
        LockFile({"a": locked, "b": moved}).find("mine", source)


def test_a_file_is_written_whole_and_only_when_it_changes(tmp_path):
    """A commit without a change is none."""
    lock = LockFile()
    assert lock.save(tmp_path / "fluxsrc.lock")
    assert not lock.save(tmp_path / "fluxsrc.lock")
    assert LockFile.load(tmp_path / "fluxsrc.lock") == lock
    assert [path.name for path in tmp_path.iterdir()] == ["fluxsrc.lock"]
    with pytest.raises(ConfigurationError, match="no lock file"):
        LockFile.load(tmp_path / "missing")


def test_a_pinned_source_resolves_to_its_pin():
    """Without asking anybody."""
    source = MemorySource({"a": "1"})
    pinned = PinnedSource(Unreachable(source), source.resolve_revision())
    assert pinned.resolve_revision() == source.resolve_revision()
    assert (pinned.kind, pinned.url, pinned.recipe) == (source.kind, source.url, source.recipe)

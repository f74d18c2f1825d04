"""Include: other sources' files in a source's directories."""

import pytest

from fluxsrc.entry import Mode
from fluxsrc.errors import ConfigurationError, SourceChangedError, UnsafeEntryError
from fluxsrc.git import GitSource
from fluxsrc.memory import MemoryFile, MemorySource
from fluxsrc.mounted import MountedSnapshot
from fluxsrc.operation import Operation
from fluxsrc.stores import MemoryStore
from fluxsrc.testing.git import GitRepositoryBuilder
from fluxsrc.wrappers import Include, Included


def files(source):
    with source.fetch() as snapshot:
        entries = list(snapshot.entries())
        assert [entry.path.encode() for entry in entries] == sorted({entry.path.encode() for entry in entries})
        return {entry.path: entry.read().decode() for entry in entries}


def include(base, *others, **options):
    return Include(
        source=MemorySource(base), includes=[Included(MemorySource(tree), to) for tree, to in others], **options
    )


def test_directories_that_exist_are_merged():
    """Unlike Flux, whose include fails if the directory is there."""
    source = include({"a/x": "1", "a.b": "2"}, ({"y": "3"}, "a"), ({"z": "4"}, ""), ({"w": "5"}, "b/c"))
    assert files(source) == {"a.b": "2", "a/x": "1", "a/y": "3", "b/c/w": "5", "z": "4"}


@pytest.mark.parametrize(
    ("base", "mount", "to"),
    [
        ({"a/x": "1"}, {"x": "2"}, "a"),
        ({"a": "1"}, {"x": "2"}, "a"),
        ({"a/b/c": "1"}, {"b": "2"}, "a"),
        ({"a": "1"}, {"b/c": "2"}, "a"),
    ],
)
def test_collisions_are_an_error_unless_a_side_is_chosen(base, mount, to):
    """The same path, or a file where the other has a directory."""
    with pytest.raises(UnsafeEntryError):
        files(include(base, (mount, to)))
    assert files(include(base, (mount, to), collisions="base")) == base
    mounted = {f"{to}/{path}": text for path, text in mount.items()}
    assert files(include(base, (mount, to), collisions="mount")) == mounted


def test_of_several_mounts_the_last_wins():
    """Or none, if what was there first is kept."""
    others = [({"x": "2"}, ""), ({"x": "3"}, "")]
    assert files(include({"x": "1"}, *others, collisions="mount")) == {"x": "3"}
    assert files(include({"x": "1"}, *others, collisions="base")) == {"x": "1"}


def test_it_is_a_source_like_any_other(tmp_path):
    """An artifact of equal content, left alone while nothing changes, made anew when an included one moves."""
    repository = GitRepositoryBuilder(tmp_path / "r.git")
    repository.commit({"y": b"1", "run": MemoryFile(b"#!", Mode.EXECUTABLE)})
    git = GitSource(repository.path)
    source = Include(source=MemorySource({"x": "1"}), includes=[Included(git, "lib")])
    store = MemoryStore()
    first = source.produce_artifact(store)
    same = MemorySource({"x": "1", "lib/y": "1", "lib/run": MemoryFile(b"#!", Mode.EXECUTABLE)})
    assert first.content_digest == same.produce_artifact(MemoryStore()).content_digest
    assert source.produce_artifact(store) == first
    repository.commit({"y": b"2"})
    second = source.produce_artifact(store)
    assert second.revision != first.revision
    assert (
        second.content_digest == MemorySource({"x": "1", "lib/y": "2"}).produce_artifact(MemoryStore()).content_digest
    )


def test_a_revision_that_has_moved_is_refused(tmp_path):
    """What was resolved is what is fetched, or an error."""
    repository = GitRepositoryBuilder(tmp_path / "r.git")
    repository.commit({"y": b"1"})
    source = Include(source=MemorySource({"x": "1"}), includes=[Included(GitSource(repository.path), "lib")])
    operation = Operation()
    revision = source.resolve_revision(operation=operation)
    repository.commit({"y": b"2"})
    with source.fetch(revision, operation=operation) as snapshot:  # of the same operation: still known
        assert isinstance(snapshot, MountedSnapshot)
        assert [entry.read() for entry in snapshot.entries()] == [b"1", b"1"]
    with pytest.raises(SourceChangedError), source.fetch(revision):
        pass


def test_ignore_files_govern_where_they_end_up():
    """The base's rules everywhere, an included one's below its directory."""
    source = include(
        {".sourceignore": "*.md\n", "a.md": "", "a": ""}, ({".sourceignore": "y\n", "y": "", "b.md": ""}, "lib")
    )
    with source.fetch() as snapshot:
        assert snapshot.ignore_files() == {"": "*.md\n", "lib": "y\n"}
    assert source.produce_artifact(MemoryStore()).files == 1 + 1 + 1  # a, and the two .sourceignore files


def test_the_recipe_tells_what_is_mounted_where():
    """Or an artifact of other includes could be taken for this one's."""
    digests = {
        include({"x": "1"}, ({"y": "1"}, "a")).recipe.digest,
        include({"x": "1"}, ({"y": "1"}, "b")).recipe.digest,
        include({"x": "1"}, ({"y": "1"}, "a"), collisions="base").recipe.digest,
        MemorySource({"x": "1"}).recipe.digest,
    }
    assert len(digests) == 4


@pytest.mark.parametrize("to", ["..", "/", "a/../b", "a//b", "a\\b"])
def test_a_place_outside_is_refused(to):
    """`/` alone is the root, and stays inside."""
    if to == "/":
        assert Included(MemorySource({}), to).to == ""
    else:
        with pytest.raises(ConfigurationError):
            Included(MemorySource({}), to)


def test_nothing_to_include_is_refused():
    """An empty conjunction says something else than what was meant."""
    with pytest.raises(ConfigurationError):
        Include(source=MemorySource({}), includes=[])

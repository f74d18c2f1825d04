"""`DirectorySource`: what is listed, what is not, and what happens when the directory changes meanwhile."""

import os

import pytest

from fluxsrc.bucket import BucketSource, LocalBucket
from fluxsrc.directory import DirectorySource
from fluxsrc.errors import LimitExceededError, PathNotFoundError, SourceChangedError, UnsafeEntryError
from fluxsrc.limits import Limits


def paths(source):
    with source.fetch() as snapshot:
        return [entry.path for entry in snapshot.entries()]


def test_excluded_directories_are_not_entered(tmp_path):
    (tmp_path / ".sourceignore").write_text("vendor/\n")
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "secret").mkdir(mode=0o000)
    (tmp_path / "kept").write_text("x")
    entered = []
    scandir = os.scandir

    def spy(path):
        entered.append(os.fspath(path))
        return scandir(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", spy)
        assert paths(DirectorySource(tmp_path)) == [".sourceignore", "kept"]
    assert set(entered) == {str(tmp_path)}


def test_ignored_files_do_not_change_the_revision(tmp_path):
    (tmp_path / "kept").write_text("x")
    source = DirectorySource(tmp_path, ignore="*.log")
    before = source.resolve_revision()
    (tmp_path / "noise.log").write_text("x")
    assert source.resolve_revision() == before


def test_git_metadata_is_never_listed(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".git").write_text("gitdir: elsewhere")
    (tmp_path / "kept").write_text("x")
    assert paths(DirectorySource(tmp_path)) == ["kept"]


@pytest.mark.parametrize(
    ("make", "error"),
    [(DirectorySource, LimitExceededError), (lambda root: BucketSource(LocalBucket(root)), UnsafeEntryError)],
)
def test_directories_in_each_other_end_before_our_stack_does(tmp_path, make, error):
    deep = tmp_path
    for _ in range(6):
        deep = deep / ("a/" * 100)
        deep.mkdir(parents=True)
    with pytest.raises(error):
        make(tmp_path).resolve_revision()


def test_in_the_flux_dialect_a_nested_rule_switches_the_defaults_off(tmp_path):
    (tmp_path / "picture.png").write_text("x")
    assert paths(DirectorySource(tmp_path, dialect="flux")) == []
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".sourceignore").write_text("nothing\n")
    assert paths(DirectorySource(tmp_path, dialect="flux")) == ["picture.png", "sub/.sourceignore"]


def test_a_file_that_changes_after_listing_is_noticed(tmp_path):
    (tmp_path / "a").write_text("one")
    with DirectorySource(tmp_path).fetch() as snapshot:
        (entry,) = snapshot.entries()
        (tmp_path / "a").write_text("two")
        with pytest.raises(SourceChangedError):
            entry.read()
        with pytest.raises(SourceChangedError):
            entry.open()
        (tmp_path / "a").unlink()
        with pytest.raises(SourceChangedError, match="vanished"):
            entry.read()


@pytest.mark.parametrize("becomes", ["a file", "nothing"])
def test_a_link_that_changes_after_listing_is_noticed(tmp_path, becomes):
    (tmp_path / "link").symlink_to("target")
    with DirectorySource(tmp_path, symlinks="keep").fetch() as snapshot:
        (entry,) = snapshot.entries()
        (tmp_path / "link").unlink()
        if becomes == "a file":
            (tmp_path / "link").write_text("target")
        with pytest.raises(SourceChangedError, match="link"):
            entry.read()


def test_a_same_sized_write_at_once_changes_the_revision(tmp_path):
    source = DirectorySource(tmp_path)
    seen = set()
    for number in range(30):
        (tmp_path / "a").write_text(f"{number:04}")
        seen.add(source.resolve_revision())
    assert len(seen) == 30


def test_special_files_are_reported(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with DirectorySource(tmp_path).fetch() as snapshot:
        assert list(snapshot.entries()) == []
        assert [(item.path, item.reason) for item in snapshot.skipped] == [("pipe", "special-file")]


def test_names_that_are_not_utf8_are_refused(tmp_path):
    (tmp_path / os.fsdecode(b"\xff")).write_text("x")
    with pytest.raises(UnsafeEntryError, match="UTF-8"):
        paths(DirectorySource(tmp_path))


def test_a_sub_path_must_be_a_directory_reached_without_links(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").write_text("x")
    assert paths(DirectorySource(tmp_path, path="real")) == []
    for path in ("link", "file", "missing"):
        with pytest.raises(PathNotFoundError):
            paths(DirectorySource(tmp_path, path=path))


def test_the_root_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_text("x")
    (tmp_path / "link").symlink_to("real")
    assert paths(DirectorySource(tmp_path / "link")) == ["a"]


def test_entries_are_limited(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text("x")
    with pytest.raises(LimitExceededError, match="max_entries"):
        paths(DirectorySource(tmp_path, limits=Limits(max_entries=2)))


def test_an_executable_bit_of_the_owner_counts(tmp_path):
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").chmod(0o744)
    with DirectorySource(tmp_path).fetch() as snapshot:
        assert [entry.mode.name for entry in snapshot.entries()] == ["EXECUTABLE"]

"""What becomes of symbolic links."""

import pytest

from fluxsrc.entry import Mode
from fluxsrc.errors import UnsafeEntryError
from fluxsrc.memory import MemoryFile, MemorySource
from fluxsrc.recipe import Recipe
from fluxsrc.select import resolve_link, select


def chosen(files, **recipe):
    skipped = []
    links = {
        path: MemoryFile(file[3:].encode(), Mode.SYMLINK) if file.startswith("-> ") else file
        for path, file in files.items()
    }
    with MemorySource(links).fetch() as snapshot:
        entries = {e.path: e.read().decode() for e in select(snapshot, Recipe(**recipe), skipped)}
    return entries, skipped


TREE = {"a/one": "1", "a/two": "2", "file": "f", "link": "-> file", "to-dir": "-> a"}


def test_links_are_skipped_and_reported():
    entries, skipped = chosen(TREE, symlinks="skip")
    assert list(entries) == ["a/one", "a/two", "file"]
    assert [(s.path, s.reason, s.detail) for s in skipped] == [("link", "symlink", "file"), ("to-dir", "symlink", "a")]


def test_links_can_be_refused():
    with pytest.raises(UnsafeEntryError, match="symbolic link"):
        chosen(TREE, symlinks="error")


def test_an_ignored_link_is_refused_by_nobody():
    assert chosen(TREE, symlinks="error", ignore="link\nto-dir\n")[0] == {"a/one": "1", "a/two": "2", "file": "f"}


def test_links_can_be_kept():
    assert chosen(TREE, symlinks="keep")[0]["link"] == "file"


def test_links_can_be_followed_to_files_and_directories():
    entries, _ = chosen(TREE, symlinks="dereference")
    assert entries == {"a/one": "1", "a/two": "2", "file": "f", "link": "f", "to-dir/one": "1", "to-dir/two": "2"}
    assert list(entries) == sorted(entries)


def test_links_through_links_are_followed():
    entries, _ = chosen({"a/x": "1", "b": "-> a", "c": "-> b/x"}, symlinks="dereference")
    assert entries == {"a/x": "1", "b/x": "1", "c": "1"}


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "a/../../x", "", "a\\b", "a\0b"])
@pytest.mark.parametrize("policy", ["keep", "dereference"])
def test_links_that_lead_out_are_refused(target, policy):
    with pytest.raises(UnsafeEntryError):
        chosen({"link": f"-> {target}", "file": "f"}, symlinks=policy)


@pytest.mark.parametrize(
    "files",
    [
        {"a": "-> b", "b": "-> a"},
        {"a": "-> a"},
        {"a": "-> missing"},
        {"d/x": "1", "d/loop": "-> ../d"},
        {"d/x": "1", "root": "-> ."},
    ],
)
def test_cycles_and_dangling_links_cannot_be_followed(files):
    with pytest.raises(UnsafeEntryError):
        chosen(files, symlinks="dereference")


def test_a_link_target_is_resolved_inside_the_tree():
    assert resolve_link("a/b/link", "../../c/./d") == "c/d"
    assert resolve_link("a/link", "..") == ""

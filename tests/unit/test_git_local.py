"""Repositories on disk: references, layouts, odd trees, and agreement with the real git."""

import datetime as dt
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import ClassVar

import attrs
import pytest

from fluxsrc.entry import Mode, Skipped
from fluxsrc.errors import (
    ConfigurationError,
    ContentError,
    DigestMismatchError,
    LimitExceededError,
    PathNotFoundError,
    RevisionNotFoundError,
    SourceChangedError,
    SourceError,
    UnsafeEntryError,
)
from fluxsrc.git import GitSource
from fluxsrc.git import snapshot as snapshot_module
from fluxsrc.git.objects import object_directories
from fluxsrc.git.packfile import Kind
from fluxsrc.limits import Limits
from fluxsrc.memory import MemoryFile
from fluxsrc.revision import Revision
from fluxsrc.stores import LocalStore, MemoryStore
from fluxsrc.testing.git import GitRepositoryBuilder
from helpers.git_sources import contents

FILE, EXECUTABLE, SYMLINK, TREE, SUBMODULE = 0o100644, 0o100755, 0o120000, 0o040000, 0o160000


@pytest.fixture
def repository(tmp_path):
    return GitRepositoryBuilder(tmp_path / "repository.git")


def git(*arguments, cwd=None, **environment):
    env = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.com",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.com",
        **environment,
    }
    done = subprocess.run(["git", *map(str, arguments)], cwd=cwd, env=env, capture_output=True, check=True, input=b"")
    return done.stdout


class TestReferences:
    def test_a_branch_is_its_pointer(self, repository):
        commit = repository.commit({"a": b"1"}, branch="feature/x")
        assert str(GitSource(repository.path, branch="feature/x").resolve_revision()) == f"feature/x@sha1:{commit}"

    def test_no_choice_is_head_and_its_branch_the_pointer(self, repository):
        commit = repository.commit({"a": b"1"})
        assert str(GitSource(repository.path).resolve_revision()) == f"main@sha1:{commit}"

    def test_a_detached_head_has_no_pointer(self, repository):
        commit = repository.commit({"a": b"1"})
        repository.set_ref("HEAD", commit)
        assert str(GitSource(repository.path).resolve_revision()) == f"sha1:{commit}"

    @pytest.mark.parametrize("message", [None, "annotated"])
    def test_a_tag_stands_for_its_commit(self, repository, message):
        commit = repository.commit({"a": b"1"})
        repository.tag("v1.0", commit, message=message)
        source = GitSource(repository.path, tag="v1.0")
        assert str(source.resolve_revision()) == f"v1.0@sha1:{commit}"
        assert contents(source) == {"a": b"1"}

    @pytest.mark.parametrize(
        "branch", ["sch\u00f6n/\u65e5\u672c", "two\u200djoined", "a\u00a0b", "@", "a@b", "\U0001f680"]
    )
    def test_a_name_of_any_script_is_a_pointer(self, repository, branch):
        commit = repository.commit({"a": b""}, branch=branch)
        repository.set_ref("HEAD", f"ref: refs/heads/{branch}")
        for source in (GitSource(repository.path, branch=branch), GitSource(repository.path)):
            assert source.produce_artifact(store := MemoryStore()).revision == Revision.parse(f"{branch}@sha1:{commit}")
            assert source.produce_artifact(store).revision.pointer == branch

    @pytest.mark.parametrize("branch", ["caf\udce9", "\x9b31m", "a\u2028b"])
    def test_a_head_whose_branch_is_no_text_has_no_pointer(self, repository, branch, tmp_path):
        commit = repository.commit({"a": b""})
        for name in (f"refs/heads/{branch}", f"refs/tags/{branch}-1.0.0"):
            (repository.path / name).write_text(commit)
        (repository.path / "HEAD").write_bytes(f"ref: refs/heads/{branch}".encode(errors="surrogateescape"))
        store = LocalStore(tmp_path / "store")
        for _ in range(2):
            assert str(GitSource(repository.path).produce_artifact(store).revision) == f"sha1:{commit}"
        with pytest.raises(RevisionNotFoundError):
            GitSource(repository.path, semver="*", tag_pattern=r".*-(\d.*)").resolve_revision()

    def test_a_tag_of_a_tag_is_peeled_to_the_end(self, repository):
        commit = repository.commit({"a": b"1"})
        inner = repository.tag("inner", commit, message="inner")
        repository.tag("outer", inner, message="outer", kind="tag")
        assert GitSource(repository.path, tag="outer").resolve_revision().digest.hex == commit

    def test_a_range_chooses_the_highest_version(self, repository):
        for name in ("v1.0.0", "v1.10.0", "v1.9.0", "v2.0.0", "nightly"):
            last = repository.commit({"a": name.encode()})
            repository.tag(name, last)
            if name == "v1.10.0":
                expected = last
        assert str(GitSource(repository.path, semver="1.x").resolve_revision()) == f"v1.10.0@sha1:{expected}"

    def test_a_pattern_reads_versions_out_of_monorepo_tags(self, repository):
        commit = repository.commit({"a": b"1"})
        for name in ("api/v1.2.3", "api/v1.10.0", "web/v9.0.0"):
            repository.tag(name, commit)
        source = GitSource(repository.path, semver="*", tag_pattern=r"^api/(.+)$")
        assert source.resolve_revision().pointer == "api/v1.10.0"

    def test_a_tag_that_points_at_a_tree_hurts_only_whoever_chooses_it(self, repository):
        commit = repository.commit({"a": b"1"})
        tree = repository.tree([(b"a", FILE, repository.blob(b"1"))])
        repository.tag("v2.0.0", tree.hex())
        repository.tag("v1.0.0", commit)
        assert GitSource(repository.path, semver="<2").resolve_revision().pointer == "v1.0.0"
        with pytest.raises(RevisionNotFoundError, match="points at a tree"):
            GitSource(repository.path, tag="v2.0.0").resolve_revision()

    def test_a_full_reference_name_is_its_own_pointer(self, repository):
        commit = repository.commit({"a": b"1"})
        repository.set_ref("refs/pull/7/head", commit)
        source = GitSource(repository.path, ref="refs/pull/7/head")
        assert str(source.resolve_revision()) == f"refs/pull/7/head@sha1:{commit}"

    def test_a_peeled_reference_name_is_understood(self, repository):
        commit = repository.commit({"a": b"1"})
        repository.tag("v1", commit, message="m")
        source = GitSource(repository.path, ref="refs/tags/v1^{}")
        assert str(source.resolve_revision()) == f"refs/tags/v1^{{}}@sha1:{commit}"

    def test_a_commit_has_no_pointer_and_may_be_one_no_reference_reaches(self, repository):
        first = repository.commit({"a": b"1"})
        repository.set_ref("refs/heads/main", first[::-1])
        source = GitSource(repository.path, commit=first)
        assert str(source.resolve_revision()) == f"sha1:{first}"
        assert contents(source) == {"a": b"1"}

    @pytest.mark.parametrize("choice", ["branch", "tag"])
    def test_a_missing_name_is_an_error(self, repository, choice):
        repository.commit({"a": b"1"})
        with pytest.raises(RevisionNotFoundError, match="missing"):
            GitSource(repository.path, **{choice: "missing"}).resolve_revision()

    def test_a_name_that_only_begins_alike_is_another(self, repository):
        repository.commit({"a": b"1"}, branch="main2")
        with pytest.raises(RevisionNotFoundError):
            GitSource(repository.path, branch="main").resolve_revision()

    def test_no_version_in_range_is_an_error_that_counts(self, repository):
        repository.tag("v1.0.0", repository.commit({"a": b"1"}))
        with pytest.raises(RevisionNotFoundError, match="none of the 1 tags"):
            GitSource(repository.path, semver=">=2").resolve_revision()

    def test_an_empty_repository_has_no_revision(self, repository):
        with pytest.raises(RevisionNotFoundError, match="empty"):
            GitSource(repository.path).resolve_revision()

    def test_a_missing_commit_is_an_error(self, repository):
        repository.commit({"a": b"1"})
        with pytest.raises(RevisionNotFoundError, match="not in"):
            GitSource(repository.path, commit="1" * 40).resolve_revision()

    def test_a_commit_that_is_a_tree_is_an_error(self, repository):
        tree = repository.tree([(b"a", FILE, repository.blob(b"1"))])
        with pytest.raises(RevisionNotFoundError, match="is a tree"):
            GitSource(repository.path, commit=tree.hex()).resolve_revision()

    def test_no_repository_is_an_error(self, tmp_path):
        with pytest.raises(RevisionNotFoundError, match="no Git repository"):
            GitSource(tmp_path / "nothing").resolve_revision()

    def test_references_beyond_the_limit_are_refused(self, repository):
        commit = repository.commit({"a": b"1"})
        for number in range(5):
            repository.tag(f"v1.0.{number}", commit)
        with pytest.raises(LimitExceededError, match="refs"):
            GitSource(repository.path, semver="*", limits=Limits(max_refs=4)).resolve_revision()

    def test_a_symbolic_reference_in_a_circle_ends(self, repository):
        repository.set_ref("refs/heads/a", "ref: refs/heads/b")
        repository.set_ref("refs/heads/b", "ref: refs/heads/a")
        with pytest.raises(ContentError, match="stands for itself"):
            GitSource(repository.path, branch="a").resolve_revision()

    def test_a_symbolic_reference_out_of_the_repository_is_refused(self, repository):
        repository.set_ref("refs/heads/a", "ref: refs/../../../etc/passwd")
        with pytest.raises(ContentError, match="stands for"):
            GitSource(repository.path, branch="a").resolve_revision()


class TestWhatIsNoFile:
    """Whoever made the repository can have put there what no reader comes back from."""

    PLACES: ClassVar = ["config", "packed-refs", "objects/info/alternates"]

    def replaced(self, repository, name):
        repository.commit({"a": b"1"})
        path = Path(repository.path, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        return path

    def refused(self, repository):
        with pytest.raises(SourceError, match="cannot read the repository"):
            GitSource(repository.path, branch="main").produce_artifact(MemoryStore())

    @pytest.mark.parametrize("name", [*PLACES, "refs/heads/main", "objects/pack/pack-1.idx"])
    def test_a_pipe_is_not_waited_for(self, repository, name):
        os.mkfifo(self.replaced(repository, name))
        self.refused(repository)

    @pytest.mark.parametrize("name", PLACES)
    def test_a_device_is_not_read_to_its_end(self, repository, name):
        self.replaced(repository, name).symlink_to("/dev/zero")
        self.refused(repository)

    @pytest.mark.parametrize("name", PLACES)
    def test_a_file_that_is_one_large_hole_is_not_read(self, repository, name):
        path = self.replaced(repository, name)
        path.touch()
        os.truncate(path, 1 << 31)
        self.refused(repository)

    def test_many_alternates_are_looked_through_once_each(self, repository, monkeypatch):
        """Also those that are not there: comparing each with all before it would take minutes."""
        lines = "".join(f"/nowhere/{number}\n" for number in range(3000))
        self.replaced(repository, "objects/info/alternates").write_text(lines * 2)
        compared = 0
        equal = Path.__eq__

        def count(self, other):
            nonlocal compared
            compared += 1
            return equal(self, other)

        monkeypatch.setattr(Path, "__eq__", count)
        found = object_directories(Path(repository.path, "objects"))
        assert len(found) == 3001
        assert compared < 30_000


class TestArguments:
    @pytest.mark.parametrize(
        "options",
        [
            {"branch": "main", "tag": "v1"},
            {"semver": "*", "commit": "1" * 40},
            {"branch": "a..b"},
            {"branch": ""},
            {"branch": "-x y"},
            {"tag": "a\x00b"},
            {"tag": "a.lock"},
            {"ref": "main"},
            {"ref": "refs/heads/"},
            {"ref": "/refs/heads/main"},
            {"commit": "abc123"},
            {"commit": "G" * 40},
            {"semver": "not a range"},
            {"tag_pattern": "x"},
            {"semver": "*", "tag_pattern": "("},
            {"sparse": "deploy"},
            {"sparse": ["../x"]},
        ],
    )
    def test_nonsense_is_refused_before_anything_is_read(self, options):
        with pytest.raises(ConfigurationError):
            GitSource("/nowhere", **options)

    @pytest.mark.parametrize(
        ("text", "canonical"),
        [
            ("/srv/repo.git", "git+file:///srv/repo.git"),
            ("git+file:///srv/a%20b", "git+file:///srv/a%20b"),
            ("file:///srv/repo/", "git+file:///srv/repo"),
            ("git+file:/srv/a%20b", "git+file:///srv/a%2520b"),
            ("https://Example.com/team/repo.git", "git+https://example.com/team/repo.git"),
            ("git+https://user:pw@example.com:8443/r", "git+https://example.com:8443/r"),
            ("git+ssh://git@example.com:2222/r.git", "git+ssh://git@example.com:2222/r.git"),
            ("git@example.com:team/repo.git", "git@example.com:team/repo.git"),
            ("git@h:team/repo.git", "git@h:team/repo.git"),
            ("git@example.com:/srv/repo.git", "git+ssh://git@example.com/srv/repo.git"),
            ("git@example.com:~ada/a b#c", "git@example.com:~ada/a b#c"),
            ("git://example.com/r", "git://example.com/r"),
            ("https://example.com/a b/\u00fc.git", "git+https://example.com/a%20b/%C3%BC.git"),
            ("https://example.com/a%20b/%C3%BC.git", "git+https://example.com/a%20b/%C3%BC.git"),
            ("http://[::1]:8080/r", "git+http://[::1]:8080/r"),
        ],
    )
    def test_addresses_have_one_canonical_spelling(self, text, canonical):
        source = GitSource(text)
        assert source.url == canonical
        assert GitSource(source.url).url == canonical
        if "pw" not in text:
            assert GitSource(source.url) == source

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "ftp://example.com/r",
            "https://example.com",
            "https:///r",
            "https:/example.com/r",
            "git+https:example.com/r",
            "file:/srv/r",
            "ssh:/example.com/r",
            "https://exam\nple.com/r",
            "https://example.com/r\t",
            "https://example.com\\@example.org/r",
            "https://exa mple.com/r",
            "https://example.com:port/r",
            "https://example.com/r?branch=main",
            "ssh://-oProxyCommand=x/r",
            "-oProxyCommand=x:r",
            "git@host:a\nb",
        ],
    )
    def test_what_is_no_address_is_refused(self, text):
        with pytest.raises(ConfigurationError):
            GitSource(text)

    def test_the_url_says_what_is_chosen(self):
        source = GitSource("https://example.com/r.git", semver=">=1.0 <2", tag_pattern="^a/(.+)$", path="deploy/prod")
        assert source.url == (
            "git+https://example.com/r.git?semver=%3E%3D1.0%20%3C2&tag_pattern=%5Ea/%28.%2B%29%24#path=deploy/prod"
        )

    def test_a_password_in_an_address_shows_nowhere(self):
        source = GitSource("https://user:hunter2@example.com/r.git")
        assert "hunter2" not in f"{source!r} {source} {source.url} {source.recipe!r}"


class TestSnapshots:
    def test_time_and_subject_are_the_commits(self, repository):
        repository.commit({"a": b"1"}, when="1700000000 +0530", message="Deploy it\n\nBecause.")
        with GitSource(repository.path).fetch() as snapshot:
            zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
            assert snapshot.created == dt.datetime.fromtimestamp(1700000000, zone)
            assert snapshot.annotations == {"dev.fluxsrc.git.subject": "Deploy it"}

    @pytest.mark.parametrize("when", ["nonsense", "999999999999999 +0000", "0 +9999"])
    def test_a_time_that_is_none_is_no_time(self, repository, when):
        repository.commit({"a": b"1"}, when=when)
        with GitSource(repository.path).fetch() as snapshot:
            assert snapshot.created is None

    def test_a_directory_and_a_file_of_one_beginning_are_in_order(self, repository):
        files = {"a.b": b"", "a/x": b"", "a0": b"", "a-": b"", "b/a.b": b"", "b/a/x": b"", "b/a0": b""}
        repository.commit(files)
        with GitSource(repository.path).fetch() as snapshot:
            assert [entry.path for entry in snapshot.entries()] == sorted(files, key=str.encode)

    def test_equal_sub_trees_have_one_tree_id(self, repository):
        repository.commit({"a/x": b"1", "b/x": b"1"})
        with GitSource(repository.path, path="a").fetch() as a, GitSource(repository.path, path="b").fetch() as b:
            assert a.tree_id == b.tree_id != GitSource(repository.path).recipe.path

    def test_a_path_that_is_a_file_is_refused(self, repository):
        repository.commit({"a/x": b"1"})
        with pytest.raises(PathNotFoundError, match="not a directory"), GitSource(repository.path, path="a/x").fetch():
            pass

    def test_only_blobs_that_are_read_are_inflated(self, repository):
        oid = repository.blob(b"1")
        repository.commit({"a": b"1", "b": b"2"})
        (repository.path / "objects" / oid.hex()[:2] / oid.hex()[2:]).write_bytes(b"damaged")
        with GitSource(repository.path).fetch() as snapshot:
            first, second = snapshot.entries()
            assert second.read() == b"2"
            with pytest.raises(ContentError, match="damaged"):
                first.read()

    def test_an_object_of_another_name_is_found_out(self, repository):
        good, bad = repository.blob(b"1"), repository.blob(b"2")
        repository.commit({"a": b"1"})
        objects = repository.path / "objects"
        other = (objects / bad.hex()[:2] / bad.hex()[2:]).read_bytes()
        (objects / good.hex()[:2] / good.hex()[2:]).write_bytes(other)
        with GitSource(repository.path).fetch() as snapshot:
            (entry,) = snapshot.entries()
            with pytest.raises(DigestMismatchError) as caught:
                entry.read()
            with entry.open() as stream, pytest.raises(DigestMismatchError):
                stream.read()
        assert caught.value.expected == good.hex()

    def test_a_missing_object_is_an_error(self, repository):
        oid = repository.blob(b"1")
        repository.commit({"a": b"1"})
        (repository.path / "objects" / oid.hex()[:2] / oid.hex()[2:]).unlink()
        with GitSource(repository.path).fetch() as snapshot, pytest.raises(SourceError, match="missing"):
            [entry.read() for entry in snapshot.entries()]

    def test_after_the_with_statement_nothing_can_be_read(self, repository):
        repository.commit({"a": b"1"})
        with GitSource(repository.path).fetch() as snapshot:
            (entry,) = snapshot.entries()
        with pytest.raises(SourceChangedError, match="closed"):
            entry.read()

    def test_sparse_paths_are_directories_not_prefixes(self, repository):
        repository.commit({"deploy/a": b"", "deploy-x/b": b"", "deploy.yaml": b"", "docs/c": b"", "docs/d/e": b""})
        assert set(contents(GitSource(repository.path, sparse=["./deploy/", "docs/d"]))) == {"deploy/a", "docs/d/e"}

    def test_a_sparse_path_that_is_not_there_is_an_error(self, repository):
        repository.commit({"deploy/a": b""})
        with pytest.raises(PathNotFoundError), GitSource(repository.path, sparse=["deplo"]).fetch():
            pass

    def test_sparse_snapshots_obey_the_rules_on_the_way(self, repository):
        files = {
            ".sourceignore": b"*.md\n",
            "a/.sourceignore": b"*.txt\n",
            "a/b/x.md": b"",
            "a/b/x.txt": b"",
            "a/b/x": b"",
        }
        repository.commit(files | {"c/.sourceignore": b"x\n"})
        source = GitSource(repository.path, sparse=["a/b"])
        with source.fetch() as snapshot:
            assert set(snapshot.ignore_files()) == {"", "a"}
        assert source.produce_artifact(MemoryStore()).files == 1

    def test_a_sparse_tree_id_changes_with_its_parts_and_rules_only(self, repository):
        def tree_id():
            with GitSource(repository.path, sparse=["a"]).fetch() as snapshot:
                return snapshot.tree_id

        repository.commit({"a/x": b"1", "b": b"1"})
        first = tree_id()
        repository.commit({"a/x": b"1", "b": b"2"})
        assert tree_id() == first
        repository.commit({"a/x": b"1", "b": b"2", ".sourceignore": b"y"})
        second = tree_id()
        repository.commit({"a/x": b"2", "b": b"2", ".sourceignore": b"y"})
        assert len({first, second, tree_id()}) == 3

    def test_submodules_are_reported(self, repository):
        commit = repository.commit({"a": b"1"})
        oid = repository.blob(b"1")
        tree = repository.tree([(b"a", FILE, oid), (b"module", SUBMODULE, bytes.fromhex(commit))])
        repository.commit_tree(tree)
        artifact = GitSource(repository.path).produce_artifact(MemoryStore())
        assert artifact.skipped == (Skipped("module", "submodule", commit),)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 12345\n"


def listed_from(source, start):
    with source.fetch() as snapshot:
        return [entry.path for entry in snapshot.entries_from(start)]


class TestComparison:
    """What changed between two commits is found by comparing names of trees, and only that is read."""

    TREE: ClassVar = {f"team{n // 100}/app{n // 10}/file{n}.yaml": b"v: 1\n" * 4 * n for n in range(600)}

    def test_the_changed_paths_are_those_of_git_diff(self, tmp_path):
        odd = {"a": b"1", "d/x": b"1", "d/y": b"1", "e/f/g": b"1"}
        builder = GitRepositoryBuilder(tmp_path / "r.git")
        old = builder.commit(odd)
        new = builder.commit({"a/b/c": b"1", "d/x": b"2", "d/z": b"1", "e/f/g": MemoryFile(b"1", Mode.EXECUTABLE)})
        wanted = git("-C", builder.path, "diff-tree", "-r", "--no-renames", "--name-only", old, new).decode().split()
        with GitSource(builder.path, commit=old).fetch() as before:
            note, revision = before.survey(), before.revision
        with GitSource(builder.path, commit=new).fetch() as after:
            assert after.changed_since(revision, note) == sorted(wanted)

    @pytest.mark.parametrize("start", ["", "a", "a-", "a/", "a/b", "a/b/z", "a0", "zz", "team1/app10/file1.yaml", "é"])
    def test_a_listing_from_a_path_is_the_rest_of_the_listing(self, start, repository):
        names = {"a-b": b"", "a/b": b"", "a/b-": b"", "a/c/d": b"", "a0": b"", "é/x": b"", **self.TREE}
        repository.commit(names)
        wanted = sorted((name for name in names if name >= start), key=str.encode)
        assert listed_from(GitSource(repository.path), start) == wanted

    def test_the_next_artifact_lists_only_what_is_near_the_change(self, repository, monkeypatch):
        repository.commit(self.TREE | {"link": MemoryFile(b"team0", Mode.SYMLINK)})
        store = MemoryStore()
        source = GitSource(repository.path)
        first = source.produce_artifact(store, name="x")
        repository.commit(self.TREE | {"link": MemoryFile(b"team0", Mode.SYMLINK), "team3/app30/new": b"1"})
        scratch = source.produce_artifact(MemoryStore(), name="x")
        read = []
        parse = snapshot_module.parse_tree
        monkeypatch.setattr(snapshot_module, "parse_tree", lambda *a, **k: read.append(k["where"]) or parse(*a, **k))
        second = source.produce_artifact(store, name="x")
        assert second == attrs.evolve(scratch, observed=second.observed)
        assert second.skipped == first.skipped == (Skipped("link", "symlink", "team0"),)
        assert len(read) < 30, "of 67 trees in each of two commits"

    @pytest.mark.parametrize("path", [".sourceignore", "team1/.sourceignore", "team5/.gitattributes"])
    def test_a_file_that_decides_about_others_is_no_small_change(self, path, repository):
        """It may change the verdict about every file, so that all are listed."""
        repository.commit(self.TREE)
        store = MemoryStore()
        source = GitSource(repository.path)
        source.produce_artifact(store, name="x")
        repository.commit(self.TREE | {path: b"*1.yaml\n"})
        second = source.produce_artifact(store, name="x")
        assert second == attrs.evolve(source.produce_artifact(MemoryStore(), name="x"), observed=second.observed)

    def test_rules_of_the_earlier_commit_still_hold(self, repository):
        rules = {".sourceignore": b"*7.yaml\n", "team2/.sourceignore": b"!*7.yaml\n"}
        repository.commit(self.TREE | rules)
        store = MemoryStore()
        source = GitSource(repository.path, dialect="flux")
        source.produce_artifact(store, name="x")
        repository.commit(self.TREE | rules | {"team3/app30/new7.yaml": b"1", "team2/app20/new7.yaml": b"1"})
        second = source.produce_artifact(store, name="x")
        assert second == attrs.evolve(source.produce_artifact(MemoryStore(), name="x"), observed=second.observed)

    def test_a_commit_that_is_gone_is_no_basis(self, repository):
        repository.commit(self.TREE)
        with GitSource(repository.path).fetch() as snapshot:
            assert snapshot.changed_since(Revision.parse("main@sha1:" + "1" * 40), snapshot.survey()) is None
            assert snapshot.changed_since(snapshot.revision, "not a survey") is None
            assert snapshot.changed_since(snapshot.revision, snapshot.survey()) == []

    def test_following_links_goes_through_the_whole_tree(self, repository):
        """What a link stands for changes without the link."""
        link = {"z-link": MemoryFile(b"team0", Mode.SYMLINK)}
        repository.commit(self.TREE | link)
        store = MemoryStore()
        source = GitSource(repository.path, symlinks="dereference")
        source.produce_artifact(store, name="x")
        repository.commit(self.TREE | link | {"team0/app0/file0.yaml": b"changed"})
        second = source.produce_artifact(store, name="x")
        assert second == attrs.evolve(source.produce_artifact(MemoryStore(), name="x"), observed=second.observed)


class TestLFS:
    FILES = {".gitattributes": b"*.bin filter=lfs diff=lfs merge=lfs -text\n", "d/x.bin": POINTER, "d/y": b"y"}

    def test_a_kept_pointer_is_reported(self, repository):
        repository.commit(self.FILES)
        source = GitSource(repository.path)
        assert contents(source)["d/x.bin"] == POINTER
        skipped = source.produce_artifact(MemoryStore()).skipped
        assert skipped == (Skipped("d/x.bin", "lfs-pointer", "sha256:" + "ab" * 32),)

    @pytest.mark.parametrize(
        "pointer",
        [
            POINTER.replace(b"git-lfs", b"hawser"),
            POINTER.replace(b"https://git-lfs.github.com/spec/v1", b"http://git-media.io/v/2"),
            POINTER.replace(b"\n", b"\r\n"),
            POINTER[:-1],
            b"\n" + POINTER + b"\n \n",
            POINTER.replace(b"\noid", b"\next-0-foo sha256:" + b"cd" * 32 + b"\noid"),
        ],
    )
    def test_every_spelling_that_lfs_reads_is_a_pointer(self, repository, pointer):
        repository.commit({**self.FILES, "d/x.bin": pointer})
        skipped = GitSource(repository.path).produce_artifact(MemoryStore()).skipped
        assert skipped == (Skipped("d/x.bin", "lfs-pointer", "sha256:" + "ab" * 32),)

    def test_a_pointer_can_be_an_error(self, repository):
        repository.commit(self.FILES)
        with pytest.raises(ContentError, match=r"d/x\.bin is a Git LFS pointer"):
            GitSource(repository.path, lfs="error").produce_artifact(MemoryStore())

    def test_an_ignored_pointer_is_no_error(self, repository):
        repository.commit(self.FILES)
        source = GitSource(repository.path, lfs="error", ignore="*.bin\n.gitattributes\n")
        assert source.produce_artifact(MemoryStore()).files == 1

    def test_attributes_above_the_path_count(self, repository):
        repository.commit(self.FILES)
        with GitSource(repository.path, path="d").fetch() as snapshot:
            list(snapshot.entries())
            assert [item.path for item in snapshot.skipped] == ["x.bin"]

    @pytest.mark.parametrize("choice", [{"path": "d"}, {"sparse": ["d"]}, {"path": "d", "sparse": ["x.bin"]}])
    def test_attributes_elsewhere_can_make_pointers_of_files_that_did_not_change(self, repository, choice):
        store = MemoryStore()
        for files, reported in (({**self.FILES, ".gitattributes": b"* text\n"}, 0), (self.FILES, 1)):
            repository.commit(files)
            assert len(GitSource(repository.path, **choice).produce_artifact(store).skipped) == reported
        with pytest.raises(ContentError, match="is a Git LFS pointer"):
            GitSource(repository.path, lfs="error", **choice).produce_artifact(store)

    def test_what_merely_looks_like_a_pointer_is_a_file(self, repository):
        repository.commit({"d/x.bin": POINTER})
        with GitSource(repository.path, lfs="error").fetch() as snapshot:
            assert [entry.read() for entry in snapshot.entries()] == [POINTER]


class TestHostileTrees:
    @pytest.mark.parametrize(
        "name",
        [
            b"..", b".", b".git", b".GIT", b".Git", b"git~1", b"GIT~1", b".git ", b".git.", b".git. .", b".git::$INDEX_ALLOCATION",
            b".g\xe2\x80\x8cit", b"a/b", b"a\\b", b"\xff\xfe", b"a\nb", b"a\x7fb", b"\xe2\x80\x8d.git", b"a" * 5000,
        ],
        ids=ascii,
    )  # fmt: skip
    @pytest.mark.parametrize("mode", [FILE, TREE, SYMLINK])
    def test_a_name_no_work_tree_may_hold_is_refused(self, repository, name, mode):
        inner = repository.tree([(b"x", FILE, repository.blob(b"x"))]) if mode == TREE else repository.blob(b"x")
        repository.commit_tree(repository.tree([(name, mode, inner)]))
        with pytest.raises(ContentError), GitSource(repository.path).fetch() as snapshot:
            list(snapshot.entries())

    @pytest.mark.parametrize(
        "name", [b".gitignore", b".github", b"git", b"git~10", b"digit", b".gitea.git", "ü.git".encode()]
    )
    def test_a_name_that_is_only_alike_is_fine(self, repository, name):
        repository.commit_tree(repository.tree([(name, FILE, repository.blob(b"x"))]))
        assert contents(GitSource(repository.path)) == {name.decode(): b"x"}

    @pytest.mark.parametrize(
        "names",
        [
            [(b"a", FILE), (b"a", FILE)],
            [(b"a", FILE), (b"a.b", FILE), (b"a", TREE)],
            [(b"a", SYMLINK), (b"a", TREE)],
            [(b"b", FILE), (b"a", FILE)],
            [(b"a", TREE), (b"a.b", FILE)],
        ],
    )
    def test_a_name_twice_or_out_of_order_is_refused(self, repository, names):
        inner = repository.tree([(b"x", FILE, repository.blob(b"x"))])
        rows = [(name, mode, inner if mode == TREE else repository.blob(b"x")) for name, mode in names]
        repository.commit_tree(repository.tree(rows))
        with (
            pytest.raises(UnsafeEntryError, match=r"twice|out of order"),
            GitSource(repository.path).fetch() as snapshot,
        ):
            list(snapshot.entries())

    def test_an_unknown_mode_is_refused(self, repository):
        repository.commit_tree(repository.tree([(b"fifo", 0o010644, repository.blob(b"x"))]))
        with pytest.raises(UnsafeEntryError, match="mode"), GitSource(repository.path).fetch() as snapshot:
            list(snapshot.entries())

    @pytest.mark.parametrize(
        "data", [b"100644 a", b"100644 a\0short", b"garbage", b"100644 \0" + b"x" * 20, b"x 100644 a\0" + b"x" * 20]
    )
    def test_a_tree_that_is_none_is_refused(self, repository, data):
        repository.commit_tree(repository.write(Kind.TREE, data))
        with pytest.raises(ContentError, match="damaged tree"), GitSource(repository.path).fetch() as snapshot:
            list(snapshot.entries())

    def test_a_tree_that_stands_for_billions_of_files_ends_at_the_limit(self, repository):
        tree = repository.tree([(b"f", FILE, repository.blob(b"x"))])
        for _ in range(20):
            tree = repository.tree([(b"%02d" % number, TREE, tree) for number in range(10)])
        repository.commit_tree(tree)
        with pytest.raises(LimitExceededError, match="entries"):
            GitSource(repository.path, limits=Limits(max_entries=1000)).produce_artifact(MemoryStore())

    def test_a_tree_that_is_too_deep_is_refused(self, repository):
        tree = repository.tree([(b"f", FILE, repository.blob(b"x"))])
        for _ in range(300):
            tree = repository.tree([(b"d", TREE, tree)])
        repository.commit_tree(tree)
        with pytest.raises(LimitExceededError, match="depth"):
            GitSource(repository.path).produce_artifact(MemoryStore())

    def test_a_blob_where_a_tree_belongs_is_refused(self, repository):
        repository.commit_tree(repository.tree([(b"d", TREE, repository.blob(b"x"))]))
        with pytest.raises(ContentError, match="is a blob"), GitSource(repository.path).fetch() as snapshot:
            list(snapshot.entries())

    def test_a_file_above_the_limit_is_refused(self, repository):
        repository.commit({"a": b"x" * 1001})
        with pytest.raises(LimitExceededError, match="file bytes"):
            contents(GitSource(repository.path, limits=Limits(max_file_bytes=1000)))


@pytest.fixture(scope="module")
def made_by_git(tmp_path_factory):
    """A repository made by the real git: odd names, modes, links, a submodule, history, several packs and loose objects."""
    path = tmp_path_factory.mktemp("git") / "odd"
    git("init", "-q", "-b", "main", path)
    for name, data in {
        "a.b": b"dot", "a/b": b"slash", "a0": b"zero", "empty": b"", "dir with space/new\u00efline": b"\r\n", "deep/" * 30 + "x": b"deep",
        "ü/ö": "ä".encode(), "\U0001f680": b"rocket", "-dash": b"-", "large": os.urandom(100_000) * 12, "#": b"#", "'q\"": b"q",
    }.items():  # fmt: skip
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    (path / "run.sh").write_bytes(b"#!/bin/sh\n")
    (path / "run.sh").chmod(0o755)
    (path / "link").symlink_to("a/b")
    (path / "nowhere").symlink_to("../../etc/passwd")
    git("add", "-A", cwd=path)
    git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module", cwd=path)
    git("commit", "-qm", "first", cwd=path)
    git("repack", "-adq", cwd=path)
    for number in range(20):
        (path / "a0").write_bytes(b"line\n" * 500 + b"%d\n" % number)
        git("commit", "-qam", f"change {number}", cwd=path)
        if number == 10:
            git("repack", "-dq", cwd=path)
    return path


@pytest.fixture
def odd(made_by_git, tmp_path):
    """A copy of it, to do anything with."""
    return Path(shutil.copytree(made_by_git, tmp_path / "odd", symlinks=True))


class TestAgreementWithGit:
    def expected(self, path):
        """Paths, modes and bytes as `git archive` gives them; link targets as bytes."""
        archive = git("archive", "--format=tar", "HEAD", cwd=path)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            found = {}
            for member in tar:
                if member.issym():
                    found[member.name] = (Mode.SYMLINK, member.linkname.encode())
                elif member.isfile():
                    mode = Mode.EXECUTABLE if member.mode & 0o100 else Mode.FILE
                    found[member.name] = (mode, tar.extractfile(member).read())
        return found

    def actual(self, source):
        with source.fetch() as snapshot:
            return {entry.path: (entry.mode, entry.read()) for entry in snapshot.entries()}

    def test_paths_modes_and_bytes_are_those_of_git_archive(self, odd):
        assert self.actual(GitSource(odd)) == self.expected(odd)

    def test_order_ids_and_sizes_are_those_of_git_ls_tree(self, odd):
        rows = []
        for line in git("ls-tree", "-r", "-z", "-l", "HEAD", cwd=odd).split(b"\0")[:-1]:
            meta, _, path = line.partition(b"\t")
            mode, kind, oid, size = meta.split()
            if kind == b"blob":
                rows.append((path.decode(), int(mode, 8), f"git:{oid.decode()}", int(size)))
        with GitSource(odd).fetch() as snapshot:
            assert [(e.path, int(e.mode), e.content_id, e.size) for e in snapshot.entries()] == rows

    def test_streams_give_the_same_bytes(self, odd):
        with GitSource(odd).fetch() as snapshot:
            for entry in snapshot.entries():
                with entry.open() as stream:
                    assert stream.read() == entry.read()

    @pytest.mark.parametrize(
        "pack",
        [
            ("gc", "-q", "--aggressive"),
            ("repack", "-adfq", "--window=0"),
            ("-c", "pack.indexVersion=1", "repack", "-adfq"),
            ("repack", "-adfq", "--write-midx", "--write-bitmap-index"),
            ("unpack",),
        ],
    )
    def test_every_way_to_pack_reads_alike(self, odd, pack):
        expected = self.expected(odd)
        if pack == ("unpack",):
            for file in list((odd / ".git/objects/pack").glob("*.pack")):
                data = file.read_bytes()
                for other in file.parent.glob(f"{file.stem}.*"):
                    other.unlink()
                subprocess.run(["git", "unpack-objects", "-q"], cwd=odd, input=data, check=True)
        else:
            git(*pack, cwd=odd)
        assert self.actual(GitSource(odd)) == expected

    def test_a_clone_without_a_work_tree_reads_alike(self, odd, tmp_path):
        git("clone", "-q", "--bare", odd, tmp_path / "bare.git")
        assert self.actual(GitSource(tmp_path / "bare.git")) == self.expected(odd)

    def test_a_clone_that_borrows_its_objects_reads_alike(self, odd, tmp_path):
        git("clone", "-q", "--shared", "--no-checkout", odd, tmp_path / "shared")
        git("clone", "-q", "--shared", "--bare", tmp_path / "shared", tmp_path / "again.git")
        assert self.actual(GitSource(tmp_path / "again.git")) == self.expected(odd)

    @pytest.mark.parametrize(
        "name", ["../../odd/.git/objects", '"../../odd/.git/objects"', '"../../o\\144d/.git/objects"']
    )
    def test_a_borrowed_directory_may_be_relative_and_quoted(self, odd, tmp_path, name):
        git("clone", "-q", "--shared", "--bare", odd, tmp_path / "borrows.git")
        (tmp_path / "borrows.git/objects/info/alternates").write_text(f"# a comment\n{name}\n")
        assert self.expected(tmp_path / "borrows.git") == self.actual(GitSource(tmp_path / "borrows.git"))

    def test_a_linked_work_tree_has_a_head_of_its_own(self, odd, tmp_path):
        git("worktree", "add", "-q", "-b", "other", tmp_path / "linked", "HEAD~3", cwd=odd)
        source = GitSource(tmp_path / "linked")
        assert source.resolve_revision().pointer == "other"
        assert self.actual(source) == self.expected(tmp_path / "linked")
        assert GitSource(tmp_path / "linked", branch="main").resolve_revision().pointer == "main"

    def test_references_of_a_work_tree_are_its_own(self, odd, tmp_path):
        git("worktree", "add", "-q", "--detach", tmp_path / "linked", "HEAD~3", cwd=odd)
        git("update-ref", "refs/worktree/mine", "HEAD~4", cwd=odd)
        git("update-ref", "refs/worktree/mine", "HEAD", cwd=tmp_path / "linked")
        for path in (odd, tmp_path / "linked"):
            revision = GitSource(path, ref="refs/worktree/mine").resolve_revision()
            assert revision.digest.hex == git("rev-parse", "refs/worktree/mine", cwd=path).decode().strip()

    @pytest.mark.parametrize("packed", [False, True])
    def test_a_head_that_is_a_link_stands_for_its_branch(self, odd, packed):
        git("-c", "core.preferSymlinkRefs=true", "checkout", "-q", "-b", "other", cwd=odd)
        assert (odd / ".git/HEAD").is_symlink()
        if packed:
            git("pack-refs", "--all", cwd=odd)
        assert GitSource(odd).resolve_revision().pointer == "other"
        assert self.actual(GitSource(odd)) == self.expected(odd)

    def test_a_repository_is_found_where_git_clone_finds_it(self, odd, tmp_path):
        git("clone", "-q", "--bare", odd, tmp_path / "bare.git")
        git("worktree", "add", "-q", tmp_path / "linked", cwd=odd)
        for number, path in enumerate((odd / ".git", tmp_path / "bare", tmp_path / "linked/.git")):
            git("clone", "-q", "--no-checkout", path, tmp_path / f"clone {number}")
            assert self.actual(GitSource(path)) == self.expected(odd)

    def test_a_submodule_is_found_through_a_link_to_its_directory(self, odd, tmp_path):
        git("init", "-q", tmp_path / "outer")
        add = ("-c", "protocol.file.allow=always", "submodule", "add", "-q", odd, "far/inside")
        git(*add, cwd=tmp_path / "outer")
        (tmp_path / "link").symlink_to(tmp_path / "outer/far/inside")
        assert self.actual(GitSource(tmp_path / "link")) == self.expected(odd)

    def test_packed_references_are_found_loose_ones_win(self, odd):
        git("tag", "-a", "-m", "m", "v1.0.0", "HEAD~1", cwd=odd)
        git("tag", "v1.1.0", "HEAD~2", cwd=odd)
        git("pack-refs", "--all", cwd=odd)
        git("tag", "-f", "v1.1.0", "HEAD", cwd=odd)
        for source in (
            GitSource(odd),
            GitSource(odd, branch="main"),
            GitSource(odd, tag="v1.0.0"),
            GitSource(odd, semver="1.x"),
            GitSource(odd, ref="refs/tags/v1.0.0"),
        ):
            revision = source.resolve_revision()
            name = {"main": "main"}.get(revision.pointer, revision.pointer)
            assert revision.digest.hex == git("rev-parse", f"{name}^{{commit}}", cwd=odd).decode().strip()

    def test_a_reference_that_stands_for_nothing_hides_the_packed_one(self, odd):
        git("branch", "other", "HEAD~1", cwd=odd)
        git("pack-refs", "--all", cwd=odd)
        git("symbolic-ref", "refs/heads/other", "refs/heads/nowhere", cwd=odd)
        with pytest.raises(RevisionNotFoundError):
            GitSource(odd, branch="other").resolve_revision()

    def test_a_lock_is_no_tag(self, odd):
        git("tag", "v1.0.0-rc.1", cwd=odd)
        shutil.copy(odd / ".git/refs/tags/v1.0.0-rc.1", odd / ".git/refs/tags/v1.0.0-rc.1.lock")
        assert GitSource(odd, semver=">=0.0.0-0").resolve_revision().pointer == "v1.0.0-rc.1"

    def test_references_that_are_packed_meanwhile_are_not_taken_from_before(self, odd, monkeypatch):
        git("pack-refs", "--all", cwd=odd)
        git("commit", "-q", "--allow-empty", "-m", "newer", cwd=odd)
        listed = os.walk

        def packed_before_it_is_read(top, *args, **kwargs):
            rows = list(listed(top, *args, **kwargs))
            git("pack-refs", "--all", cwd=odd)
            return iter(rows)

        monkeypatch.setattr(os, "walk", packed_before_it_is_read)
        revision = GitSource(odd, branch="main").resolve_revision()
        assert revision.digest.hex == git("rev-parse", "HEAD", cwd=odd).decode().strip()

    def test_thousands_of_tags_are_listed(self, odd):
        head = git("rev-parse", "HEAD", cwd=odd).decode().strip()
        lines = "".join(f"{head} refs/tags/v0.{number // 100}.{number % 100}\n" for number in range(5000))
        with (odd / ".git/packed-refs").open("a") as file:
            file.write(lines)
        assert GitSource(odd, semver="0.x").resolve_revision().pointer == "v0.49.99"

    def test_a_repository_of_the_sha256_format_reads_alike(self, tmp_path):
        path = tmp_path / "sha256"
        git("init", "-q", "-b", "main", "--object-format=sha256", path)
        (path / "a").write_bytes(b"line\n" * 1000)
        git("add", "-A", cwd=path)
        git("commit", "-qm", "1", cwd=path)
        (path / "a").write_bytes(b"line\n" * 1000 + b"more")
        git("commit", "-qam", "2", cwd=path)
        git("gc", "-q", "--aggressive", cwd=path)
        revision = GitSource(path).resolve_revision()
        assert str(revision) == f"main@sha256:{git('rev-parse', 'HEAD', cwd=path).decode().strip()}"
        assert self.actual(GitSource(path)) == self.expected(path)
        assert self.actual(GitSource(path, commit=revision.digest.hex)) == self.expected(path)

    def test_a_file_packed_between_two_looks_at_it_is_read_from_its_pack(self, tmp_path):
        """Its size is asked for while it is a loose object, its content when `git gc` has packed and removed that."""
        git("init", "-q", tmp_path)
        (tmp_path / "a").write_bytes(b"line\n")
        git("add", "-A", cwd=tmp_path)
        git("commit", "-qm", "1", cwd=tmp_path)
        with GitSource(tmp_path).fetch() as snapshot:
            (entry,) = snapshot.entries()
            assert entry.size == 5
            git("gc", "-q", "--prune=now", cwd=tmp_path)
            with entry.open() as file:
                assert file.read() == b"line\n"

    def test_a_repack_while_it_is_read_goes_unnoticed(self, odd):
        expected = self.expected(odd)
        with GitSource(odd).fetch() as snapshot:
            entries = list(snapshot.entries())
            git("gc", "-q", "--prune=now", cwd=odd)
            assert {entry.path: (entry.mode, entry.read()) for entry in entries} == expected

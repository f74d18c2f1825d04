"""Git sources hand out LFS files in place of their pointers: only those that are opened, from the right lfs."""

import shutil

import pytest

from fluxsrc.auth import BasicAuth, StaticKeychain
from fluxsrc.errors import ConfigurationError, ContentError, DigestMismatchError, PathNotFoundError
from fluxsrc.git import GitCache, GitSource
from fluxsrc.git.lfs import LFSPointer
from fluxsrc.stores import MemoryStore
from fluxsrc.testing.git import GitRepositoryBuilder
from fluxsrc.testing.git_server import GitHTTPServer
from helpers.git_sources import contents

ATTRIBUTES = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"


def text(pointer: LFSPointer) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{pointer.oid}\nsize {pointer.size}\n".encode()


@pytest.fixture
def repository(tmp_path):
    return GitRepositoryBuilder(tmp_path / "app.git")


@pytest.fixture
def remote(tmp_path, lfs, repository):
    """A source over a remote repository, with its LFS server elsewhere by `lfs_url`."""
    with GitHTTPServer(tmp_path) as git:

        def source(**options):
            options = {"lfs": "fetch", "lfs_url": f"{lfs.url}/app.git/info/lfs"} | options
            cache = options.pop("cache", GitCache(path=tmp_path / "cache"))
            return GitSource(git.url("app.git"), branch="main", cache=cache, **options)

        source.origin = git.url("app.git").removeprefix("git+")
        yield source


def test_files_come_in_place_of_their_pointers(lfs, repository, remote):
    pointer = lfs.add(b"\0" * 100_000)
    repository.commit({".gitattributes": ATTRIBUTES, "a.bin": text(pointer), "note": text(pointer)})
    with remote().fetch() as snapshot:
        entries = {entry.path: entry for entry in snapshot.entries()}
        assert entries["a.bin"].size == 100_000
        assert lfs.requests == []
        assert entries["a.bin"].read() == b"\0" * 100_000
        assert entries["note"].read() == b"\0" * 100_000, "git-lfs decides by content below a filter, and so do we"


def test_what_is_ignored_is_not_downloaded(lfs, repository, remote):
    wanted, ignored = lfs.add(b"wanted"), lfs.add(b"ignored")
    repository.commit(
        {
            ".gitattributes": ATTRIBUTES,
            ".sourceignore": b"ignored.bin\n",
            "ignored.bin": text(ignored),
            "wanted.bin": text(wanted),
        }
    )
    remote().produce_artifact(MemoryStore())
    assert [request.path for request in lfs.requests if request.method == "GET"] == [f"/objects/{wanted.oid}"]


def test_artifacts_of_files_and_of_pointers_differ(lfs, repository, remote):
    repository.commit({".gitattributes": ATTRIBUTES, "a.bin": text(lfs.add(b"content"))})
    store = MemoryStore()
    digests = {lfs: remote(lfs=lfs).produce_artifact(store).content_digest for lfs in ("fetch", "keep")}
    assert digests["fetch"] != digests["keep"]


@pytest.mark.parametrize("cached", [True, False])
def test_files_are_kept_with_the_cache_and_nowhere_else(lfs, repository, remote, tmp_path, cached):
    repository.commit({".gitattributes": ATTRIBUTES, "a.bin": text(lfs.add(b"content"))})
    source = remote() if cached else remote(cache=None)
    contents(source)
    lfs.requests.clear()
    assert contents(source)["a.bin"] == b"content"
    assert bool(lfs.requests) is not cached


def test_a_sparse_snapshot_downloads_only_its_part(lfs, repository, remote):
    ours, theirs = lfs.add(b"ours"), lfs.add(b"theirs")
    repository.commit({".gitattributes": ATTRIBUTES, "a/x.bin": text(ours), "b/x.bin": text(theirs)})
    assert contents(remote(sparse=["a"])) == {"a/x.bin": b"ours"}
    assert lfs.batches == [[ours.oid]]


def test_lfsconfig_is_read_but_leads_to_the_same_origin_only(lfs, repository, remote):
    config = f"[lfs]\n\turl = {lfs.url}/app.git/info/lfs\n".encode()
    files = {".gitattributes": ATTRIBUTES, ".lfsconfig": config, "a.bin": text(lfs.add(b"content"))}
    repository.commit(files)
    with pytest.raises(ConfigurationError, match="another origin"):
        contents(remote(lfs_url=None))
    assert lfs.requests == []
    assert contents(remote())["a.bin"] == b"content"


def test_lfsconfig_of_a_sparse_snapshot_is_the_one_at_the_root(lfs, repository, remote):
    config = b"[lfs]\n\turl = https://elsewhere.example/\n"
    repository.commit({"x/.gitattributes": ATTRIBUTES, ".lfsconfig": config, "x/y.bin": text(lfs.add(b"content"))})
    with pytest.raises(ConfigurationError, match=r"elsewhere\.example"):
        contents(remote(lfs_url=None, sparse=["x"]))


def test_credentials_of_the_repository_do_not_reach_an_lfs_server_elsewhere(lfs, repository, remote):
    repository.commit({".gitattributes": ATTRIBUTES, "a.bin": text(lfs.add(b"content"))})
    keychain = StaticKeychain.for_url(remote.origin, BasicAuth("me", "hunter2"))
    assert contents(remote(keychain=keychain))["a.bin"] == b"content"
    assert not any("authorization" in request.headers for request in lfs.requests)


def test_a_missing_file_is_an_error_and_no_omission(lfs, repository, remote):
    repository.commit({".gitattributes": ATTRIBUTES, "a.bin": text(LFSPointer("00" * 32, 5))})
    with pytest.raises(PathNotFoundError):
        contents(remote())


def test_wrong_bytes_are_the_lfs_server_s_fault_and_not_the_cache_s(lfs, repository, remote, tmp_path):
    repository.commit({".gitattributes": ATTRIBUTES, "a.bin": text(lfs.add(b"content"))})
    lfs.spoil = lambda data: data[::-1]
    with pytest.raises(DigestMismatchError):
        contents(remote())
    assert list((tmp_path / "cache").glob("*/refs/held/*"))


def test_a_local_repository_has_its_files_itself_or_asks_the_server_that_is_named(lfs, repository, tmp_path):
    pointer = lfs.add(b"content")
    repository.commit({".gitattributes": ATTRIBUTES, "a.bin": text(pointer)})
    source = GitSource(repository.path, branch="main", lfs="fetch")
    with pytest.raises(ConfigurationError, match="no LFS server"):
        contents(source)
    assert contents(GitSource(repository.path, branch="main", lfs="fetch", lfs_url=lfs.url + "/app.git/info/lfs"))
    lfs.requests.clear()
    place = repository.path / "lfs" / "objects" / pointer.oid[:2] / pointer.oid[2:4] / pointer.oid
    place.parent.mkdir(parents=True)
    place.write_bytes(b"content")
    assert contents(source)["a.bin"] == b"content"
    assert lfs.requests == []
    shutil.rmtree(place.parent)


def test_without_fetching_a_pointer_is_refused_or_kept(lfs, repository, remote):
    pointer = lfs.add(b"content")
    repository.commit({".gitattributes": ATTRIBUTES, "a.bin": text(pointer)})
    with pytest.raises(ContentError, match="LFS pointer"):
        contents(remote(lfs="error"))
    assert contents(remote(lfs="keep"))["a.bin"] == text(pointer)
    assert lfs.requests == []

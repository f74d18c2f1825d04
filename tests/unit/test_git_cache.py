"""The cache of remote repositories: shared, bounded, deleted and killed at any moment, and never believed."""

import concurrent.futures
import contextlib
import errno
import hashlib
import os
import pickle
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from fluxsrc.auth import BasicAuth, StaticKeychain
from fluxsrc.errors import ConfigurationError, SourceChangedError, StoreError, TransportError, TransportTimeoutError
from fluxsrc.git import GitCache, GitSource, pack
from fluxsrc.git.cached_repository import CachedRepository
from fluxsrc.git.lfs import LFSPointer
from fluxsrc.git.lfs_files import LFSFiles
from fluxsrc.operation import Operation
from fluxsrc.stores import MemoryStore
from fluxsrc.testing.git import GitRepositoryBuilder
from helpers.git_sources import contents, monorepo, posts

FILTERS = {"uploadpack.allowFilter": "true"}


def directories(cache):
    return sorted(path for path in cache.directory.iterdir() if path.is_dir())


def test_other_credentials_are_another_repository(repository, serve, cache):
    repository.commit({"a": b"1"})
    url = serve().url("repository.git")
    for password in ("one", "two", "one"):
        keychain = StaticKeychain.for_url(url.removeprefix("git+"), BasicAuth("ada", password))
        contents(GitSource(url, cache=cache, keychain=keychain))
    assert len(directories(cache)) == 2


def test_nothing_in_it_tells_the_credentials(repository, serve, cache):
    repository.commit({"a": b"1"})
    url = serve().url("repository.git")
    keychain = StaticKeychain.for_url(url.removeprefix("git+"), BasicAuth("ada", "hunter2"))
    contents(GitSource(url, cache=cache, keychain=keychain))
    for path in cache.directory.rglob("*"):
        assert "hunter2" not in str(path)
        assert not path.is_file() or b"hunter2" not in path.read_bytes()


def test_it_can_be_deleted_at_any_time(repository, serve, cache):
    files = monorepo()
    repository.commit(files)
    source = GitSource(serve().url("repository.git"), cache=cache)
    with source.fetch() as snapshot:
        entries = list(snapshot.entries())
        shutil.rmtree(cache.directory)
        assert {entry.path: entry.read() for entry in entries} == files
    assert contents(source) == files


def test_what_was_not_used_for_longest_goes_first(tmp_path, serve):
    server = serve()
    for number in range(3):
        GitRepositoryBuilder(tmp_path / "served" / f"{number}.git").commit({"a": os.urandom(100_000)})
    cache = GitCache(path=tmp_path / "cache", max_bytes=250_000)
    sources = [GitSource(server.url(f"{number}.git"), cache=cache) for number in range(3)]
    for number in (0, 1, 0, 2):
        contents(sources[number])
        time.sleep(0.01)
    posts(server)
    contents(sources[0])
    assert not any(b"command=fetch" in post.body for post in posts(server))
    contents(sources[1])
    assert any(b"command=fetch" in post.body for post in posts(server))


def test_a_damaged_copy_is_noticed_and_heals(repository, serve, cache):
    files = monorepo()
    repository.commit(files)
    source = GitSource(serve().url("repository.git"), cache=cache)
    contents(source)
    (path,) = cache.directory.rglob("*.pack")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(SourceChangedError, match="damaged"):
        contents(source)
    assert contents(source) == files


def test_an_index_that_points_elsewhere_is_noticed_and_heals(repository, serve, cache):
    """The pack is whole: what is not, is where in it things are."""
    files = monorepo()
    repository.commit(files)
    source = GitSource(serve().url("repository.git"), cache=cache)
    contents(source)
    (path,) = cache.directory.rglob("*.idx")
    data = bytearray(path.read_bytes())
    count = int.from_bytes(data[8 + 255 * 4 : 8 + 256 * 4], "big")
    for row in range(count):
        data[8 + 256 * 4 + count * 24 + row * 4 + 3] ^= 1  # the last byte of an offset
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(SourceChangedError, match="damaged"):
        contents(source)
    assert contents(source) == files


def test_a_commit_that_a_damaged_index_hides_is_fetched(repository, serve, cache):
    """The server leaves it out, since it is below one that is said to be there."""
    old = repository.commit({"a": b"1"})
    middle = repository.commit({"a": b"2"})
    repository.commit({"a": b"3"})
    repository.set_ref("refs/heads/old", old)
    url = serve(version=0).url("repository.git")
    contents(GitSource(url, cache=cache, commit=middle))  # no server of this version gives it out without its history
    (path,) = cache.directory.rglob("*.idx")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(bytes.fromhex(old), bytes.fromhex(old)[:-1] + b"\0"))
    assert contents(GitSource(url, cache=cache, branch="old")) == {"a": b"1"}


@pytest.mark.parametrize("sparse", [(), ("a",)])
def test_a_forced_push_back_is_fetched_though_the_list_of_shallow_commits_is_gone(repository, serve, cache, sparse):
    """Without the list, the server takes what is below the commit that is there for being there, and leaves it out."""
    for number in range(3):
        repository.commit({"a": f"{number}"}, branch="old" if number == 0 else "main")
        if number == 0:
            repository.set_ref("refs/heads/main", (repository.path / "refs" / "heads" / "old").read_text().strip())
    server = serve(config={"uploadpack.allowFilter": "true"})
    contents(GitSource(server.url("repository.git"), cache=cache))
    (path,) = cache.directory.rglob("shallow")
    path.unlink()
    old = GitSource(server.url("repository.git"), cache=cache, branch="old", sparse=sparse)
    assert contents(old) == {"a": b"0"}


@pytest.mark.parametrize("what", ["*.pack", "*.idx", "shallow"])
@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"\xff" * len(data), None], ids=["cut", "ones", "gone"]
)
def test_damage_to_what_is_there_is_nothing_to_what_comes(repository, serve, cache, what, damage):
    """What a new commit's objects are deltas of, or what the server is told is there, may be what is damaged."""
    files = {f"{number}": os.urandom(2000) for number in range(4)}
    repository.commit(files)
    source = GitSource(serve().url("repository.git"), cache=cache)
    contents(source)
    (path,) = cache.directory.rglob(what)
    if damage is None:
        path.unlink()
    else:
        path.chmod(0o644)
        path.write_bytes(damage(path.read_bytes()))
    files = {name: data + b"more" for name, data in files.items()}
    repository.commit(files)
    assert contents(source) == files


def test_an_artifact_survives_a_damaged_copy(repository, serve, cache):
    repository.commit(monorepo())
    source = GitSource(serve().url("repository.git"), cache=cache)
    expected = source.produce_artifact(MemoryStore()).content_digest
    for path in cache.directory.rglob("*.pack"):
        path.write_bytes(path.read_bytes()[:-100] + b"x" * 100)
    assert source.produce_artifact(MemoryStore()).content_digest == expected


def test_half_a_download_leaves_nothing_behind(repository, serve, cache):
    files = monorepo()
    repository.commit(files)
    cut = [True]

    def before(handler):
        if handler.command == "POST" and cut[0]:
            write = handler.wfile.write

            def short(data):
                if len(data) > 4096 and cut[0]:
                    write(data[:1000])
                    handler.connection.shutdown(2)
                    cut[0] = False
                    raise ConnectionResetError
                return write(data)

            handler.wfile.write = short
        return False

    source = GitSource(serve(before=before).url("repository.git"), cache=cache)
    revision = source.resolve_revision()
    with pytest.raises(TransportError), source.fetch(revision):
        pass
    assert list(cache.directory.rglob("*.pack")) == []
    assert contents(source) == files


def test_more_packs_than_are_good_are_one_again(repository, serve, cache, monkeypatch):
    """A fetch from scratch is cheaper than looking through all of them."""
    monkeypatch.setattr("fluxsrc.git.cached_repository._MAX_PACKS", 5)
    source = GitSource(serve().url("repository.git"), cache=cache)
    for number in range(12):
        repository.commit({"a": b"%d" % number})
        assert contents(source) == {"a": b"%d" % number}
        assert len(list(cache.directory.rglob("*.pack"))) <= 5


def test_a_source_with_a_cache_pickles(cache):
    source = GitSource("https://example.com/r.git", cache=cache)
    assert pickle.loads(pickle.dumps(source)) == source


# --- one fetch ---------------------------------------------------------------------------------------------------------


def fetch_in_threads(arguments):
    """In a process of its own: so many sources of one repository, each another path of it, from eight threads."""
    url, directory, numbers, password = arguments
    keychain = StaticKeychain.for_url(url.removeprefix("git+"), BasicAuth("ada", password))
    sources = [
        GitSource(url, branch="main", cache=GitCache(path=directory), path=f"teams/{n % 10:02}", keychain=keychain)
        for n in numbers
    ]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(contents, sources))


def test_two_hundred_sources_in_threads_and_processes_are_one_fetch(repository, serve, cache):
    """From nothing, and with credentials, whose salt is made by whoever comes first."""
    files = monorepo()
    repository.commit(files)
    server = serve(username="ada", password="hunter2")
    parts = [range(start, start + 50) for start in range(0, 200, 50)]
    with concurrent.futures.ProcessPoolExecutor(4) as pool:
        arguments = [(server.url("repository.git"), str(cache.directory), part, "hunter2") for part in parts]
        found = [content for part in pool.map(fetch_in_threads, arguments) for content in part]
    assert len(found) == 200
    for number, content in enumerate(found):
        prefix = f"teams/{number % 10:02}/"
        assert content == {path.removeprefix(prefix): data for path, data in files.items() if path.startswith(prefix)}
    assert sum(b"command=fetch" in post.body for post in posts(server)) == 1
    assert len(directories(cache)) == 1


def test_waiting_for_somebody_elses_fetch_ends_at_the_deadline(repository, serve, cache):
    """And says what was waited for."""
    repository.commit(monorepo())
    arrived, released = threading.Event(), threading.Event()

    def before(handler):
        if revision and handler.command == "POST":  # after the references the pack
            arrived.set()
            released.wait(60)
        return False

    revision = None
    source = GitSource(serve(before=before).url("repository.git"), branch="main", cache=cache)
    revision = source.resolve_revision()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: source.fetch(revision).__enter__())
        try:
            assert arrived.wait(60)
            with (
                pytest.raises(TransportTimeoutError, match="another fetch"),
                source.fetch(revision, operation=Operation(2)),
            ):
                pass
        finally:
            released.set()
        assert first.result().revision == revision


# --- deleted -----------------------------------------------------------------------------------------------------------

DELETES = ["listing", "fetch", "received", "indexed", "recorded"]


@pytest.mark.parametrize("sparse", [(), ("teams/03",)], ids=["whole", "sparse"])
@pytest.mark.parametrize("moment", DELETES)
def test_deleting_it_while_somebody_fetches_is_not_noticed(repository, serve, cache, monkeypatch, moment, sparse):
    """Whenever it happens, the fetch comes to its end, with the right files, and the next one finds them there."""
    files = monorepo()
    repository.commit(files)
    done = []

    def delete():
        if not done:
            done.append(True)
            shutil.rmtree(cache.directory)

    posted = []

    def before(handler):
        if handler.command == "POST":
            posted.append(True)
            if (moment, len(posted)) in {("listing", 1), ("fetch", 2)}:
                delete()
        return False

    def deleting_after(owner, name):
        function = getattr(owner, name)

        def wrapper(*arguments, **options):
            result = function(*arguments, **options)
            delete()
            return result

        monkeypatch.setattr(owner, name, wrapper)

    if moment == "received":
        deleting_after(pack, "_write")
    elif moment == "indexed":
        deleting_after(pack, "_write_index")
    elif moment == "recorded":
        deleting_after(CachedRepository, "record")
        deleting_after(CachedRepository, "record_partial")
    server = serve(before=before, config=FILTERS)
    source = GitSource(server.url("repository.git"), branch="main", cache=cache, sparse=sparse)
    expected = {path: data for path, data in files.items() if not sparse or path.startswith("teams/03/")}
    assert contents(source) == expected
    assert done
    posts(server)
    assert contents(source) == expected
    assert not any(b"command=fetch" in post.body for post in posts(server))


def test_deleting_it_again_and_again_hurts_nobody(repository, serve, cache):
    """Six threads fetch and read while a seventh removes everything, thirty times."""
    files = monorepo(teams=3)
    repository.commit(files)
    url = serve().url("repository.git")

    def delete():
        for _ in range(30):
            time.sleep(0.02)
            shutil.rmtree(cache.directory, ignore_errors=True)

    def fetch(_):
        while True:
            with contextlib.suppress(SourceChangedError):  # says: try again
                return contents(GitSource(url, branch="main", cache=cache))

    with concurrent.futures.ThreadPoolExecutor(7) as pool:
        deleting = pool.submit(delete)
        for found in pool.map(fetch, range(18)):
            assert found == files
        deleting.result()


@pytest.mark.parametrize("vanishing", ["pack", "held", "partial", "cache"])
def test_a_directory_deleted_as_it_is_found_is_made_again(repository, serve, cache, monkeypatch, vanishing):
    """The narrowest moment: `mkdir` says that it is there, and then it is not."""
    files = monorepo(teams=1)
    repository.commit(files)
    make, left = os.mkdir, [True]

    def found_and_gone(path, *args, **kwargs):
        if Path(path).name == vanishing and left:
            left.clear()
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(path))
        make(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", found_and_gone)
    source = GitSource(serve().url("repository.git"), branch="main", cache=cache)
    with contextlib.suppress(SourceChangedError):  # says: try again
        contents(source)
    assert contents(source) == files
    assert not left


@pytest.mark.parametrize("place", ["dangling", "file", "/proc/fluxsrc/cache"])
def test_a_cache_that_cannot_be_made_is_an_error_at_once(repository, serve, tmp_path, place):
    """A link to a volume that is not mounted looks like a directory that somebody removes all the time."""
    repository.commit({"a": b"1"})
    (tmp_path / "dangling").symlink_to(tmp_path / "unmounted")
    (tmp_path / "file").touch()
    for cache in (GitCache(path=tmp_path / place), GitCache(path=tmp_path / place / "below")):
        with pytest.raises(StoreError, match="cannot"):
            contents(GitSource(serve().url("repository.git"), cache=cache))


def test_the_cache_is_in_the_users_directory_for_caches(tmp_path, monkeypatch):
    """Never somewhere in the current one: a relative XDG_CACHE_HOME is invalid, and some users have no home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, base in ((str(tmp_path / "xdg"), "xdg"), ("relative", ".cache"), ("", ".cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert GitCache().directory == tmp_path / base / "fluxsrc" / "git"
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user whom the system does not know
    with pytest.raises(ConfigurationError, match="no home directory"):
        _ = GitCache().directory


def test_leftovers_of_those_who_died_are_swept(repository, serve, cache):
    """By the next fetch: half removed repositories at once, files that somebody may still be writing after a day."""
    repository.commit({"a": b"1"})
    cache.directory.mkdir()
    (cache.directory / ".doomed-1" / "objects").mkdir(parents=True)
    for name, age in (("1-old.tmp", 2 * 86400), ("2-new.tmp", 0)):
        (cache.directory / name).touch()
        os.utime(cache.directory / name, (time.time() - age,) * 2)
    contents(GitSource(serve().url("repository.git"), cache=cache))
    assert [path.name for path in cache.directory.iterdir() if path.suffix == ".tmp" or path.name[0] == "."] == [
        "2-new.tmp"
    ]


def test_packs_that_vanish_are_fetched_anew(repository, serve, cache):
    """Somebody cleaned up by size; what says that the commit is there is still there."""
    files = monorepo()
    repository.commit(files)
    source = GitSource(serve().url("repository.git"), cache=cache)
    contents(source)
    for path in cache.directory.rglob("objects/pack/*"):
        path.unlink()
    assert contents(source) == files


def test_deleting_it_while_an_lfs_file_comes_says_try_again(cache):
    """And the next attempt keeps the file."""
    data = os.urandom(1000)
    pointer = LFSPointer(hashlib.sha256(data).hexdigest(), len(data))
    files = LFSFiles(cache.directory / "lfs" / "objects")

    def chunks():
        yield memoryview(data)[:500]
        shutil.rmtree(cache.directory)
        yield memoryview(data)[500:]

    with pytest.raises(SourceChangedError, match="try again"):
        files.keep(pointer, chunks(), url="https://git.example.com")
    files.keep(pointer, [memoryview(data)], url="https://git.example.com")
    with files.open(pointer) as stream:
        assert stream.read() == data


# --- killed ------------------------------------------------------------------------------------------------------------

CHANGES = ("open", "write", "ftruncate", "rename", "replace", "unlink", "mkdir", "rmdir", "utime")


def killed_at(step, source, revision):
    """Fetch in a child that is killed before the given change to the disk; whether it came so far."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    try:
        left = [step]

        def dying(name, function):
            def change(*arguments, **options):
                reads = name == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR)
                if not reads:
                    if not left[0]:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left[0] -= 1
                return function(*arguments, **options)

            return change

        for name in CHANGES:
            setattr(os, name, dying(name, getattr(os, name)))
        with source.fetch(revision):
            os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.timeout(300)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_process_that_is_killed_at_any_step_leaves_nothing_that_hurts(repository, serve, cache):
    """Before each single change that it makes to the disk, in a fetch from nothing and in the next one."""
    files = monorepo(teams=2)
    saved = cache.directory.with_name("saved")
    saved.mkdir()
    source = GitSource(serve().url("repository.git"), branch="main", cache=cache)
    for at_least in (10, 5):
        repository.commit(files)
        revision = source.resolve_revision()
        steps = 0
        while killed_at(steps, source, revision):
            assert contents(source) == files
            assert not [path for place in directories(cache) for path in place.rglob("*tmp*")]
            shutil.rmtree(cache.directory)
            shutil.copytree(saved, cache.directory)
            steps += 1
        assert steps > at_least
        shutil.rmtree(saved)
        shutil.copytree(cache.directory, saved)
        files["teams/00/app-00.yaml"] = b"changed"

"""Remote repositories: one exchange to resolve, one commit to fetch, nothing twice, and every way to fail."""

import os
import subprocess
import threading

import pytest

from fluxsrc.auth import BasicAuth, BearerToken, Origin, SSHKey, StaticKeychain
from fluxsrc.errors import (
    AuthenticationError,
    ConfigurationError,
    ContentError,
    LimitExceededError,
    OperationCancelledError,
    PathNotFoundError,
    RemoteProtocolError,
    RevisionNotFoundError,
    SourceChangedError,
    TransportError,
    TransportTimeoutError,
    UnsafeEntryError,
)
from fluxsrc.git import GitSource
from fluxsrc.git.pktline import FLUSH_PKT, pkt, pkts
from fluxsrc.limits import Limits
from fluxsrc.memory import MemoryFile, MemorySource
from fluxsrc.operation import Operation
from fluxsrc.revision import Revision
from fluxsrc.stores import MemoryStore
from fluxsrc.testing.git import GitRepositoryBuilder
from helpers.git_sources import contents, monorepo, posts
from helpers.waiting import expire

FILTERS = {"uploadpack.allowFilter": "true"}
STRICT = {"uploadpack.allowAnySHA1InWant": "false"}


class TestResolving:
    @pytest.mark.parametrize("version", [0, 1, 2])
    @pytest.mark.parametrize(
        "choice",
        [
            {},
            {"branch": "main"},
            {"tag": "v1.0.0"},
            {"semver": "1.x"},
            {"ref": "refs/pull/1/head"},
            {"ref": "refs/tags/v1.0.0^{}"},
        ],
        ids=str,
    )
    def test_every_choice_resolves_as_it_does_on_disk(self, repository, serve, cache, version, choice):
        commit = repository.commit({"a": b"1"})
        repository.tag("v1.0.0", commit, message="annotated")
        repository.tag("v1.1.0", commit)
        repository.set_ref("refs/pull/1/head", commit)
        server = serve(version=version)
        remote = GitSource(server.url("repository.git"), cache=cache, **choice).resolve_revision()
        assert remote == GitSource(repository.path, **choice).resolve_revision()

    def test_it_costs_one_exchange_and_downloads_nothing(self, repository, serve, cache):
        for number in range(50):
            repository.tag(f"v1.0.{number}", repository.commit({"a": os.urandom(10_000)}))
        server = serve()
        GitSource(server.url("repository.git"), cache=cache, semver="*").resolve_revision()
        (post,) = posts(server)
        assert b"command=ls-refs" in post.body
        assert b"ref-prefix refs/tags/\n" in post.body
        assert post.sent < 50 * 100

    def test_the_second_time_it_is_one_request(self, repository, serve, cache):
        repository.commit({"a": b"1"})
        server = serve()
        source = GitSource(server.url("repository.git"), cache=cache)
        first = source.resolve_revision()
        assert [served.method for served in server.take_served()] == ["GET", "POST"]
        assert source.resolve_revision() == first
        assert [served.method for served in server.take_served()] == ["POST"]

    @pytest.mark.parametrize("version", [0, 1])
    def test_a_server_that_forgot_version_2_is_asked_from_the_start(self, repository, serve, cache, version):
        commit = repository.commit({"a": b"1"})
        server = serve()
        source = GitSource(server.url("repository.git"), cache=cache)
        source.resolve_revision()
        server.version = version
        assert source.resolve_revision().digest.hex == commit
        assert contents(source) == {"a": b"1"}

    def test_a_pinned_commit_costs_nothing(self, cache):
        source = GitSource("https://nobody.invalid/r.git", commit="1" * 40, cache=cache)
        assert str(source.resolve_revision()) == f"sha1:{'1' * 40}"

    def test_a_detached_head_has_no_pointer(self, repository, serve, cache):
        repository.set_ref("HEAD", repository.commit({"a": b"1"}))
        assert GitSource(serve().url("repository.git"), cache=cache).resolve_revision().pointer is None

    @pytest.mark.parametrize("version", [0, 2])
    def test_an_empty_repository_has_no_revision(self, repository, serve, cache, version):
        with pytest.raises(RevisionNotFoundError):
            GitSource(serve(version=version).url("repository.git"), cache=cache).resolve_revision()

    def test_a_repository_that_is_not_there_is_not_found(self, serve, cache):
        with pytest.raises(RevisionNotFoundError):
            GitSource(serve().url("other.git"), cache=cache).resolve_revision()

    @pytest.mark.parametrize("version", [0, 2])
    def test_references_beyond_the_limit_are_refused(self, repository, serve, cache, version):
        commit = repository.commit({"a": b"1"})
        lines = "".join(f"{commit} refs/tags/v1.0.{number}\n" for number in range(500))
        (repository.path / "packed-refs").write_text(lines)
        url = serve(version=version).url("repository.git")
        with pytest.raises(LimitExceededError, match=r"references|refs"):
            GitSource(url, cache=cache, semver="*", limits=Limits(max_refs=100)).resolve_revision()

    def test_a_sha256_repository_resolves_and_fetches(self, tmp_path, serve, cache):
        repository = GitRepositoryBuilder(tmp_path / "served" / "sha256.git", object_format="sha256")
        commit = repository.commit({"a": b"1"})
        source = GitSource(serve().url("sha256.git"), cache=cache)
        assert str(source.resolve_revision()) == f"main@sha256:{commit}"
        assert contents(source) == {"a": b"1"}

    @pytest.mark.parametrize("version", [0, 2])
    @pytest.mark.parametrize("sparse", [[], ["a"]])
    @pytest.mark.parametrize(("object_format", "wanted"), [("sha1", "ab" * 32), ("sha256", "ab" * 20)])
    def test_a_commit_of_the_other_format_is_not_there(self, tmp_path, serve, object_format, wanted, sparse, version):
        GitRepositoryBuilder(tmp_path / "served" / "other.git", object_format=object_format).commit({"a": b"1"})
        server = serve(config={"uploadpack.allowFilter": "true"}, version=version)
        source = GitSource(server.url("other.git"), commit=wanted, sparse=sparse, cache=None)
        with pytest.raises(RevisionNotFoundError, match=f"whose objects have {object_format} names"):
            contents(source)


class TestFetching:
    def test_only_one_commit_travels(self, repository, serve, cache):
        for _ in range(20):
            repository.commit({"large": os.urandom(50_000)})
        server = serve()
        contents(GitSource(server.url("repository.git"), cache=cache))
        assert 50_000 < posts(server)[-1].sent < 60_000

    def test_what_is_there_does_not_travel_again(self, repository, serve, cache):
        files = monorepo()
        repository.commit(files)
        server = serve()
        source = GitSource(server.url("repository.git"), cache=cache)
        assert contents(source) == files
        whole = posts(server)[-1].sent
        assert contents(source) == files
        assert not any(b"command=fetch" in post.body for post in posts(server))
        files["teams/03/app-07.yaml"] = b"changed"
        repository.commit(files)
        assert contents(source) == files
        assert posts(server)[-1].sent < whole / 20

    def test_a_rewritten_branch_is_still_incremental(self, repository, serve, cache):
        files = monorepo()
        repository.commit(files)
        server = serve()
        source = GitSource(server.url("repository.git"), cache=cache)
        contents(source)
        whole = posts(server)[-1].sent
        files["new"] = b"new"
        (repository.path / "refs/heads/main").unlink()
        repository.commit(files, message="no parent")
        assert contents(source) == files
        assert posts(server)[-1].sent < whole / 20

    def test_the_cache_is_a_repository_that_git_finds_sound(self, repository, serve, cache):
        files = monorepo()
        source = GitSource(serve().url("repository.git"), cache=cache)
        for number in range(3):
            repository.commit(files | {"n": b"%d" % number, "teams/03/app-07.yaml": os.urandom(300) + b"x" * number})
            contents(source)
        (directory,) = [path for path in cache.directory.iterdir() if path.is_dir()]
        done = subprocess.run(["git", "fsck", "--strict"], cwd=directory, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_producing_uses_one_conversation(self, repository, serve, cache):
        repository.commit({"a": b"1"})
        server = serve()
        GitSource(server.url("repository.git"), cache=cache).produce_artifact(MemoryStore())
        assert [served.method for served in server.take_served()] == ["GET", "POST", "POST"]

    def test_an_old_commit_that_no_reference_reaches_is_fetched_by_name(self, repository, serve, cache):
        old = repository.commit({"a": b"old"})
        (repository.path / "refs/heads/main").unlink()
        repository.commit({"a": b"new"})
        source = GitSource(serve().url("repository.git"), cache=cache, commit=old)
        assert contents(source) == {"a": b"old"}

    def test_a_commit_that_is_not_there_is_not_found(self, repository, serve, cache):
        repository.commit({"a": b"1"})
        for version in (0, 2):
            source = GitSource(serve(version=version).url("repository.git"), cache=cache, commit="1" * 40)
            with pytest.raises(RevisionNotFoundError), source.fetch():
                pass

    def test_a_tag_of_a_tree_is_no_revision(self, repository, serve, cache):
        repository.commit({"a": b"1"})
        repository.tag("tree", repository.tree([(b"a", 0o100644, repository.blob(b"1"))]).hex())
        with (
            pytest.raises(RevisionNotFoundError),
            GitSource(serve().url("repository.git"), cache=cache, tag="tree").fetch(),
        ):
            pass

    def test_an_object_of_another_kind_is_no_commit(self, repository, serve, cache):
        repository.commit({"a": b"1"})
        tree = repository.tree([(b"a", 0o100644, repository.blob(b"1"))]).hex()
        with (
            pytest.raises(RevisionNotFoundError),
            GitSource(serve().url("repository.git"), cache=cache, commit=tree).fetch(),
        ):
            pass

    def test_without_a_cache_nothing_is_left_behind(self, repository, serve, tmp_path, monkeypatch):
        monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
        (tmp_path / "tmp").mkdir()
        repository.commit({"a": b"1"})
        assert contents(GitSource(serve().url("repository.git"), cache=None)) == {"a": b"1"}
        assert list((tmp_path / "tmp").iterdir()) == []


class TestServersThatGiveOutOnlyWhatTheyList:
    """Version 0 without `allow-reachable-sha1-in-want`: what many servers of today still are."""

    def test_a_tip_is_one_fetch_of_depth_one(self, repository, serve, cache):
        for _ in range(20):
            repository.commit({"large": os.urandom(50_000)})
        server = serve(version=0)
        contents(GitSource(server.url("repository.git"), cache=cache))
        (post,) = posts(server)
        assert b"deepen 1\n" in post.body
        assert 50_000 < post.sent < 60_000

    def test_the_next_commit_is_incremental(self, repository, serve, cache):
        files = monorepo()
        repository.commit(files)
        server = serve(version=0)
        source = GitSource(server.url("repository.git"), cache=cache)
        contents(source)
        whole = posts(server)[-1].sent
        repository.commit(files | {"new": b"new"})
        assert contents(source)["new"] == b"new"
        assert posts(server)[-1].sent < whole / 10

    def test_a_branch_that_moved_on_is_deepened_a_little(self, repository, serve, cache):
        commits = [repository.commit({"large": os.urandom(20_000)}) for _ in range(60)]
        server = serve(version=0)
        source = GitSource(server.url("repository.git"), cache=cache, branch="main")
        with source.fetch(Revision.parse(f"main@sha1:{commits[-5]}")) as snapshot:
            assert len(list(snapshot.entries())) == 1
        (post,) = posts(server)
        assert post.sent < 20 * 21_000

    def test_a_pinned_commit_is_found_by_deepening(self, repository, serve, cache):
        commits = [repository.commit({"a": b"%d" % number}) for number in range(60)]
        server = serve(version=0)
        source = GitSource(server.url("repository.git"), cache=cache, commit=commits[20])
        assert contents(source) == {"a": b"20"}
        assert [b"deepen 16\n" in post.body or b"deepen 256\n" in post.body for post in posts(server)] == [True, True]

    def test_version_2_may_refuse_too(self, repository, serve, cache):
        """Git itself never does there, others do: the branch at depth one, then a little deeper, as in version 0."""
        commits = [repository.commit({"large": os.urandom(20_000)}) for _ in range(60)]

        refused = []

        def before(handler):
            if handler.command != "POST" or refused:
                return False
            refused.append(True)
            answer = pkt(f"ERR upload-pack: not our ref {commits[-3]}")
            handler.send_response(200)
            handler.send_header("Content-Type", "application/x-git-upload-pack-result")
            handler.send_header("Content-Length", str(len(answer)))
            handler.end_headers()
            handler.wfile.write(answer)
            return True

        server = serve(before=before)
        source = GitSource(server.url("repository.git"), cache=cache, branch="main")
        with source.fetch(Revision.parse(f"main@sha1:{commits[-3]}")) as snapshot:
            assert len(list(snapshot.entries())) == 1
        fetches = [post for post in posts(server) if b"command=fetch" in post.body]
        assert all(b"deepen 16\n" in post.body for post in fetches)
        assert sum(post.sent for post in fetches) < 20 * 21_000

    def test_a_history_is_never_fetched_whole_for_want_of_anything_smaller(self, repository, serve, cache):
        """A commit on no branch: it is deepened by steps, up to a bound, and then given up."""
        lonely = repository.commit({"a": b"lonely"})
        (repository.path / "refs/heads/main").unlink()
        for number in range(20):
            repository.commit({"a": b"%d" % number})
        server = serve(version=0)
        with pytest.raises(RevisionNotFoundError, match="choose a branch or a tag"):
            contents(GitSource(server.url("repository.git"), cache=cache, commit=lonely))
        assert all(b"deepen " in post.body for post in posts(server))

    def test_a_revision_that_is_gone_is_a_changed_source(self, repository, serve, cache):
        repository.commit({"a": b"1"})
        source = GitSource(serve(version=0).url("repository.git"), cache=cache, branch="main")
        with pytest.raises(SourceChangedError), source.fetch(Revision.parse(f"main@sha1:{'1' * 40}")):
            pass


class TestSparse:
    @pytest.mark.parametrize("config", [FILTERS, FILTERS | {"uploadpackfilter.combine.allow": "false"}, {}], ids=str)
    def test_the_files_are_those_of_the_whole(self, repository, serve, cache, config):
        files = monorepo()
        repository.commit(files)
        source = GitSource(serve(config=config).url("repository.git"), cache=cache, sparse=["teams/03", "README.md"])
        expected = {path: data for path, data in files.items() if path.startswith(("teams/03/", "README"))}
        with source.fetch() as snapshot:
            assert snapshot.ignore_files() == {"": "*.md\n"}
            assert {entry.path: entry.read() for entry in snapshot.entries()} == expected

    def test_only_what_is_needed_travels(self, repository, serve, cache):
        repository.commit(monorepo(teams=50))
        server = serve(config=FILTERS)
        contents(GitSource(server.url("repository.git"), cache=None))
        whole = posts(server)[-1].sent
        contents(GitSource(server.url("repository.git"), cache=cache, sparse=["teams/03"]))
        sparse = [post for post in posts(server) if b"command=fetch" in post.body]
        assert len(sparse) <= 2
        assert sum(post.sent for post in sparse) < whole / 10

    def test_a_refusal_is_remembered_for_a_day(self, repository, serve, cache):
        """The server is upgraded one day, but not before each fetch."""
        server = serve(config=FILTERS | {"uploadpackfilter.combine.allow": "false"})

        def combined():
            repository.commit(monorepo())
            contents(GitSource(server.url("repository.git"), cache=cache, sparse=["teams/03"]))
            return [b"filter combine" in post.body for post in posts(server) if b"filter " in post.body]

        assert combined()[:2] == [True, False]
        assert not any(combined())
        (memory,) = cache.directory.rglob("refused/*")
        os.utime(memory, (0, 0))
        assert combined()[:2] == [True, False]
        assert not any(combined())

    def test_the_next_commit_brings_only_what_is_new(self, repository, serve, cache):
        files = monorepo(teams=3, files=200)
        repository.commit(files)
        server = serve(config=FILTERS)
        source = GitSource(server.url("repository.git"), cache=cache, sparse=["teams/01"])
        contents(source)
        first = sum(post.sent for post in posts(server))
        files["teams/01/app-07.yaml"] = b"changed"
        repository.commit(files)
        assert contents(source)["teams/01/app-07.yaml"] == b"changed"
        assert sum(post.sent for post in posts(server)) < first / 3

    def test_a_path_below_the_root_counts_from_there(self, repository, serve, cache):
        repository.commit(monorepo())
        url = serve(config=FILTERS).url("repository.git")
        assert set(contents(GitSource(url, cache=cache, path="teams", sparse=["03"]))) == {
            f"03/app-{n:02}.yaml" for n in range(20)
        }

    def test_a_path_that_is_not_there_is_an_error(self, repository, serve, cache):
        repository.commit(monorepo())
        url = serve(config=FILTERS).url("repository.git")
        for path in ("teams/0", "teams/03/none", "README.md/x"):
            with pytest.raises(PathNotFoundError), GitSource(url, cache=cache, sparse=[path]).fetch():
                pass

    @pytest.mark.parametrize("config", [FILTERS, {}], ids=["filtering", "not filtering"])
    def test_the_rules_at_the_root_hold_for_the_artifact_of_a_part(self, repository, serve, cache, config):
        """Though nothing else of the root travels."""
        files = {
            "deploy/app.yaml": b"app",
            "deploy/notes.md": b"notes",
            "other/x.yaml": b"x",
            ".sourceignore": b"*.md\n",
        }
        repository.commit(files)
        store = MemoryStore()
        source = GitSource(serve(config=config).url("repository.git"), cache=cache, sparse=["deploy"])
        artifact = source.produce_artifact(store)
        assert artifact.files == 1
        assert (
            artifact.content_digest == MemorySource({"deploy/app.yaml": b"app"}).produce_artifact(store).content_digest
        )

    @pytest.mark.parametrize("name", [b"..", b".GIT", b"git~1", b"a\\b"])
    def test_a_hostile_name_in_a_part_is_refused(self, repository, serve, cache, name):
        """Before anything of it is asked for, or when it is listed."""
        part = repository.tree([(name, 0o100644, repository.blob(b"bad"))])
        repository.commit_tree(repository.tree([(b"part", 0o040000, part)]))
        source = GitSource(serve(config=FILTERS).url("repository.git"), cache=cache, sparse=["part"])
        with pytest.raises(UnsafeEntryError):
            contents(source)

    def test_the_whole_is_fetched_whole_afterwards(self, repository, serve, cache):
        files = monorepo()
        repository.commit(files)
        url = serve(config=FILTERS).url("repository.git")
        contents(GitSource(url, cache=cache, sparse=["teams/03"]))
        assert contents(GitSource(url, cache=cache)) == files
        assert set(contents(GitSource(url, cache=cache, sparse=["teams/04"]))) < set(files)


class TestCredentials:
    @pytest.fixture
    def server(self, repository, serve):
        repository.commit({"a": b"1"})
        return serve(username="ada", password="hunter2")

    def test_a_keychain_is_asked_anew_each_time(self, server, cache):
        class Rotating:
            __hash__ = None  # a keychain need not be hashable

            def __init__(self):
                self.password = "old"

            def credentials(self, origin, *, operation):
                return BasicAuth("ada", self.password)

        keychain = Rotating()
        source = GitSource(server.url("repository.git"), cache=cache, keychain=keychain)
        with pytest.raises(AuthenticationError):
            source.resolve_revision()
        keychain.password = "hunter2"
        assert contents(source) == {"a": b"1"}

    def test_those_written_into_the_address_are_used(self, server, cache):
        url = server.url("repository.git").replace("://", "://ada:hunter2@")
        assert contents(GitSource(url, cache=cache)) == {"a": b"1"}

    @pytest.mark.parametrize("credentials", [None, BasicAuth("ada", "wrong-hunter3"), BearerToken("wrong-hunter3")])
    def test_wrong_ones_are_an_error_that_shows_none(self, server, cache, credentials):
        url = server.url("repository.git")
        keychain = credentials and StaticKeychain.for_url(url.removeprefix("git+"), credentials)
        with pytest.raises(AuthenticationError) as caught:
            GitSource(url, cache=cache, keychain=keychain).resolve_revision()
        assert "hunter3" not in f"{caught.value!r} {caught.value} {caught.value.__dict__}"

    def test_an_ssh_key_is_of_no_use_over_http(self, server, cache):
        url = server.url("repository.git")
        keychain = StaticKeychain.for_url(url.removeprefix("git+"), SSHKey(identity="k", known_hosts=""))
        with pytest.raises(ConfigurationError, match="SSH key"):
            GitSource(url, cache=cache, keychain=keychain).resolve_revision()

    def test_a_redirect_elsewhere_never_sees_them(self, repository, serve, cache):
        repository.commit({"a": b"1"})
        seen = []

        def note(handler):
            seen.append(handler.headers.get("Authorization"))
            return False

        target = serve(before=note)

        def redirect(handler):
            handler.send_response(302)
            handler.send_header("Location", f"http://127.0.0.1:{target.port}{handler.path}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return True

        first = serve(before=redirect)
        url = first.url("repository.git")
        keychain = StaticKeychain.for_url(url.removeprefix("git+"), BasicAuth("ada", "hunter2"))
        assert contents(GitSource(url, cache=cache, keychain=keychain)) == {"a": b"1"}
        assert seen
        assert set(seen) == {None}

    def test_a_redirect_elsewhere_gets_its_own(self, repository, serve, cache):
        repository.commit({"a": b"1"})
        target = serve(username="bob", password="other")

        def redirect(handler):
            handler.send_response(301)
            handler.send_header("Location", f"http://127.0.0.1:{target.port}{handler.path}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return True

        url = serve(before=redirect).url("repository.git")
        keychain = StaticKeychain(((Origin("http", "127.0.0.1", target.port), BasicAuth("bob", "other")),))
        assert contents(GitSource(url, cache=cache, keychain=keychain)) == {"a": b"1"}


class TestServersThatMisbehave:
    def answer(self, serve, body, *, content_type="application/x-git-upload-pack-advertisement", post=None):
        def before(handler):
            data = body
            kind = content_type
            if handler.command == "POST" and post is not None:
                data, kind = post, "application/x-git-upload-pack-result"
            handler.send_response(200)
            handler.send_header("Content-Type", kind)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)
            return True

        return serve(before=before).url("repository.git")

    V2 = b"000eversion 2\n0013ls-refs=unborn\n0012fetch=shallow\n0000"

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            (b"", TransportError),
            (b"<html>hello</html>", RemoteProtocolError),
            (b"zzzz", RemoteProtocolError),
            (b"0003", RemoteProtocolError),
            (b"ffff" + b"x" * 70000, RemoteProtocolError),
            (b"0010short", TransportError),
            (b"0000", RevisionNotFoundError),
            (b"001e# service=git-receive-pack\n0000", RemoteProtocolError),
            (b"0014not an oid refs/0000", RemoteProtocolError),
            (b"0022ERR repository does not exist\n", RevisionNotFoundError),
        ],
    )
    def test_nonsense_instead_of_an_advertisement_is_an_error(self, serve, cache, body, error):
        with pytest.raises(error):
            GitSource(self.answer(serve, body), cache=cache).resolve_revision()

    @pytest.mark.parametrize(
        "body",
        [
            pkts(["version 2", "ls-refs", "fetch"]) + FLUSH_PKT,
            pkts([f"{'1' * 40} refs/heads/main\0side-band-64k"]) + FLUSH_PKT,
        ],
        ids=["version 2", "version 0"],
    )
    def test_a_server_that_can_only_send_whole_histories_is_refused(self, serve, cache, body):
        """Not asked for one silently."""
        source = GitSource(self.answer(serve, body), cache=cache, commit="1" * 40)
        with pytest.raises(RemoteProtocolError, match="whole history"):
            contents(source)

    def test_a_web_page_is_no_repository(self, serve, cache):
        with pytest.raises(RemoteProtocolError, match="no Git repository"):
            GitSource(self.answer(serve, b"<html>", content_type="text/html"), cache=cache).resolve_revision()

    @pytest.mark.parametrize(
        ("post", "error"),
        [
            (b"0017not-hex refs/heads/x\n0000", RemoteProtocolError),
            (b"0009ERR x", RemoteProtocolError),
            (b"", TransportError),
        ],
    )
    def test_nonsense_instead_of_references_is_an_error(self, serve, cache, post, error):
        with pytest.raises(error):
            GitSource(self.answer(serve, self.V2, post=post), cache=cache).resolve_revision()

    @pytest.mark.parametrize(
        ("post", "error"),
        [
            (b"0000", RemoteProtocolError),
            (b"000dpackfile\n0000", RemoteProtocolError),
            (b"000dpackfile\n0009\x01PACK0000", RemoteProtocolError),
            (b"000dpackfile\n000d\x03out of mem0000", RemoteProtocolError),
            (b"000dpackfile\n0009\x07PACK0000", RemoteProtocolError),
            (b"000dpackfile\n0029\x01PACK\0\0\0\2\0\0\0\1" + b"x" * 24 + b"0000", ContentError),
        ],
    )
    def test_nonsense_instead_of_a_pack_is_an_error(self, serve, cache, post, error):
        source = GitSource(self.answer(serve, self.V2, post=post), cache=cache, commit="1" * 40)
        with pytest.raises(error), source.fetch():
            pass
        assert list(cache.directory.rglob("*.pack")) == []

    def test_a_pack_without_the_commit_is_an_error(self, repository, serve, cache):
        import hashlib

        pack = b"PACK\0\0\0\2\0\0\0\0"
        pack += hashlib.sha1(pack).digest()
        post = b"000dpackfile\n%04x\x01%s0000" % (len(pack) + 5, pack)
        source = GitSource(self.answer(serve, self.V2, post=post), cache=cache, commit="1" * 40)
        with pytest.raises((RevisionNotFoundError, RemoteProtocolError)), source.fetch():
            pass

    def test_a_silent_server_runs_into_the_deadline(self, serve, cache):
        released = threading.Event()

        def before(handler):
            released.wait(60)
            return True

        source = GitSource(serve(before=before).url("repository.git"), cache=cache, timeout=0.3)
        with pytest.raises(TransportTimeoutError):
            source.resolve_revision()
        released.set()

    def test_a_server_that_drips_runs_into_the_deadline(self, serve, cache):
        released = threading.Event()

        def before(handler):
            handler.send_response(200)
            handler.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
            handler.end_headers()
            try:
                while not released.wait(0.02):
                    handler.wfile.write(b"0")
                    handler.wfile.flush()
            except OSError:
                pass
            handler.close_connection = True
            return True

        source = GitSource(serve(before=before).url("repository.git"), cache=cache, timeout=0.5)
        with pytest.raises((TransportTimeoutError, RemoteProtocolError)):
            source.resolve_revision()
        released.set()

    def test_cancelling_ends_a_fetch(self, repository, serve, cache):
        repository.commit({"a": b"1"})
        cancel, released = threading.Event(), threading.Event()

        def before(handler):
            if handler.command == "POST":
                cancel.set()
                released.wait(60)
            return False

        source = GitSource(serve(before=before).url("repository.git"), cache=cache)
        with pytest.raises(OperationCancelledError):
            source.resolve_revision(operation=Operation(cancel=cancel))
        released.set()

    @pytest.mark.parametrize("phase", ["GET 1", "POST 1", "POST 2", "receive", "index", "list"])
    @pytest.mark.parametrize("ends", [OperationCancelledError, TransportTimeoutError])
    def test_every_phase_ends_when_it_is_told_to(self, repository, serve, cache, phase, ends):
        """By the switch, or by the deadline: while the server is asked, sends, or is silent; afterwards all is well again."""
        blob = repository.blob(b"x")
        repository.commit_tree(repository.tree([(b"%04d" % number, 0o100644, blob) for number in range(1100)]))
        cancel, released = threading.Event(), threading.Event()
        asked = {"GET": 0, "POST": 0}
        told = []

        def end():
            told.append(True)
            if ends is OperationCancelledError:
                cancel.set()
            else:
                expire(operation)

        def before(handler):
            if not told:
                asked[handler.command] += 1
                if phase == f"{handler.command} {asked[handler.command]}":
                    end()
                    released.wait(60)
            return False

        def progress(event):
            if event.phase == phase and not told:
                end()

        operation = Operation(60, cancel=cancel, progress=progress)
        source = GitSource(serve(before=before).url("repository.git"), branch="main", cache=cache)
        with pytest.raises(ends), source.fetch(operation=operation) as snapshot:
            for place, _ in enumerate(snapshot.entries()):
                if phase == "list" and not place:
                    end()
        released.set()
        assert told
        assert len(contents(source)) == 1100

    def test_nobody_there_is_a_transport_error(self, cache):
        with pytest.raises(TransportError):
            GitSource("http://127.0.0.1:1/r.git", cache=cache).resolve_revision()

    def test_a_pack_above_the_limit_is_refused(self, repository, serve, cache):
        repository.commit({"a": os.urandom(100_000)})
        source = GitSource(serve().url("repository.git"), cache=cache, limits=Limits(max_archive_bytes=50_000))
        with pytest.raises(LimitExceededError, match="archive bytes"), source.fetch():
            pass

    def test_a_file_above_the_limit_is_refused_while_it_is_received(self, repository, serve, cache):
        repository.commit({"a": b"x" * 100_000})
        source = GitSource(serve().url("repository.git"), cache=cache, limits=Limits(max_file_bytes=50_000))
        with pytest.raises(LimitExceededError, match="file bytes"), source.fetch():
            pass

    def test_progress_is_reported(self, repository, serve, cache):
        repository.commit({"a": MemoryFile(b"1")})
        seen = []
        source = GitSource(serve().url("repository.git"), cache=cache)
        with source.fetch(operation=Operation(progress=seen.append)):
            pass
        assert {"receive", "index"} <= {progress.phase for progress in seen}

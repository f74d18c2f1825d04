"""The Git source against the servers of others: the contract, references, sparse and incremental fetches."""

import os
import shutil

import pytest

from fluxsrc.auth import BasicAuth, SSHKey, StaticKeychain, TLSConfig
from fluxsrc.errors import AuthenticationError, CertificateError, PathNotFoundError, RevisionNotFoundError
from fluxsrc.git import GitSource
from fluxsrc.memory import MemoryFile
from fluxsrc.testing import SourceContract
from helpers import git_servers as servers
from helpers.git_sources import contents

pytestmark = pytest.mark.servers


class GitServerContract(SourceContract):
    """What every server has to do, besides the contract of all sources."""

    FILES = {f"teams/{team}/{n}.yaml": MemoryFile(os.urandom(200)) for team in range(5) for n in range(20)}

    def test_every_choice_resolves_as_it_does_on_disk(self, origin):
        """Annotated and plain tags, ranges, pull requests, HEAD, commits."""
        origin.publish({"a": MemoryFile(b"1")})
        for name, arguments in (("v1.0.0", ["-a", "-m", "m"]), ("v1.1.0", [])):
            servers.git("tag", *arguments, name, "main", cwd=origin.path)
        servers.git("update-ref", "refs/pull/1/head", "main", cwd=origin.path)
        commit = servers.git("rev-parse", "main", cwd=origin.path).strip()
        for choice in (
            {"branch": "main"},
            {"tag": "v1.0.0"},
            {"tag": "v1.1.0"},
            {"semver": "1.x"},
            {"ref": "refs/pull/1/head"},
            {"commit": commit},
        ):
            source = origin.source(**choice)
            assert source.resolve_revision() == GitSource(origin.path, **choice).resolve_revision()
            assert contents(source) == {"a": b"1"}

    def test_a_commit_that_no_reference_reaches_is_fetched(self, origin):
        """As of a pull request that was closed."""
        origin.publish({"a": MemoryFile(b"1")})
        commit = servers.git("rev-parse", "main", cwd=origin.path).strip()
        tree = servers.git("rev-parse", "main^{tree}", cwd=origin.path).strip()
        lonely = servers.git("commit-tree", "-m", "lonely", tree, cwd=origin.path).strip()
        assert lonely != commit
        assert contents(origin.source(commit=lonely)) == {"a": b"1"}

    def test_versions_are_read_out_of_monorepo_tags(self, origin):
        """Thousands of them, packed; and a tag that points at a tree is in nobody's way."""
        origin.publish({"a": MemoryFile(b"1")})
        commit = servers.git("rev-parse", "main", cwd=origin.path).strip()
        tree = servers.git("rev-parse", "main^{tree}", cwd=origin.path).strip()
        lines = [f"{commit} refs/tags/app/v1.{minor}.{patch}" for minor in range(40) for patch in range(60)]
        lines.append(f"{tree} refs/tags/app/v9.9.9")
        refs = origin.path / "packed-refs"
        refs.write_text(
            "# pack-refs with: sorted\n" + "".join(f"{line}\n" for line in sorted(lines, key=lambda x: x[41:]))
        )
        source = origin.source(semver=">=1.0.0 <1.39.0", tag_pattern="^app/v(?P<version>.*)$")
        assert source.resolve_revision().pointer == "app/v1.38.59"
        assert contents(source) == {"a": b"1"}
        with pytest.raises(RevisionNotFoundError):
            contents(origin.source(tag="app/v9.9.9"))

    def test_a_repository_without_a_commit_has_no_revision(self, origin):
        """Nothing was pushed yet."""
        for choice in ({"branch": "main"}, {"semver": "*"}):
            with pytest.raises(RevisionNotFoundError):
                origin.source(**choice).resolve_revision()

    def test_a_repository_of_the_sha256_format(self, origin):
        """Resolved, fetched, and one commit later fetched incrementally."""
        shutil.rmtree(origin.path)
        servers.git("init", "-q", "--bare", "-b", "main", "--object-format=sha256", origin.path)
        (origin.path / "git-daemon-export-ok").touch()
        origin.publish(self.FILES)
        source = origin.source()
        assert source.resolve_revision().digest.algorithm == "sha256"
        assert contents(source) == {path: file.data for path, file in self.FILES.items()}
        origin.publish(self.FILES | {"new": MemoryFile(b"new")})
        assert contents(source)["new"] == b"new"

    def test_submodules_are_fetched_from_where_they_are(self, origin):
        """By a relative URL: the same server, the same credentials; and the commit that is linked, not the newest."""
        library = origin.path.with_name("library.git")
        shutil.copytree(origin.path, library)
        main, origin.path = origin.path, library
        origin.publish({"lib.yaml": MemoryFile(b"linked")})
        linked = servers.git("rev-parse", "main", cwd=library).strip()
        origin.publish({"lib.yaml": MemoryFile(b"newer")})
        origin.path = main
        origin.publish({"a": MemoryFile(b"1")})
        modules = '[submodule "lib"]\n\tpath = vendor/lib\n\turl = ../library.git\n'
        (origin.work / ".gitmodules").write_text(modules)
        servers.git("add", ".gitmodules", cwd=origin.work)
        servers.git("update-index", "--add", "--cacheinfo", f"160000,{linked},vendor/lib", cwd=origin.work)
        servers.git("commit", "-q", "-m", "with a submodule", cwd=origin.work)
        servers.git("push", "-q", "origin", "main", cwd=origin.work)
        found = contents(origin.source(submodules=True))
        assert found == {".gitmodules": modules.encode(), "a": b"1", "vendor/lib/lib.yaml": b"linked"}

    def test_a_history_that_was_rewritten_is_still_fetched_incrementally(self, origin):
        """After a force push."""
        origin.publish(self.FILES)
        contents(origin.source())
        cache = origin.options["cache"].directory
        before = set(cache.rglob("*.pack"))
        tree = servers.git("rev-parse", "main^{tree}", cwd=origin.path).strip()
        lonely = servers.git("commit-tree", "-m", "another beginning", tree, cwd=origin.path).strip()
        servers.git("update-ref", "refs/heads/main", lonely, cwd=origin.path)
        assert contents(origin.source()) == {path: file.data for path, file in self.FILES.items()}
        (second,) = set(cache.rglob("*.pack")) - before
        assert second.stat().st_size < 1000

    def test_a_sparse_fetch_one_commit_later_brings_what_is_new(self, origin):
        """And a path that is not there is an error over every transport."""
        origin.publish(self.FILES)
        contents(origin.source(sparse=["teams/3"]))
        origin.publish(self.FILES | {"teams/3/new.yaml": MemoryFile(b"new"), "teams/4/new.yaml": MemoryFile(b"new")})
        found = contents(origin.source(sparse=["teams/3"]))
        assert len(found) == 21
        assert found["teams/3/new.yaml"] == b"new"
        with pytest.raises(PathNotFoundError):
            contents(origin.source(sparse=["teams/9"]))

    def test_a_sparse_fetch_gives_the_files_of_its_paths(self, origin):
        """Whether or not the server filters."""
        origin.publish(self.FILES)
        expected = {path: file.data for path, file in self.FILES.items() if path.startswith("teams/3/")}
        assert contents(origin.source(sparse=["teams/3"])) == expected

    def test_the_next_commit_adds_a_small_pack(self, origin):
        """What is there does not travel again."""
        origin.publish(self.FILES)
        contents(origin.source())
        cache = origin.options["cache"].directory
        (first,) = cache.rglob("*.pack")
        origin.publish(self.FILES | {"new": MemoryFile(b"new")})
        assert contents(origin.source())["new"] == b"new"
        (second,) = set(cache.rglob("*.pack")) - {first}
        assert second.stat().st_size < first.stat().st_size / 5

    def test_a_repository_that_is_not_there_is_not_found(self, origin):
        """And no other error."""
        source = GitSource(origin.url.replace("repository.git", "other.git"), **origin.options)
        with pytest.raises(RevisionNotFoundError):
            source.resolve_revision()


class TestHTTPSWithAPassword(GitServerContract):
    @pytest.fixture
    def origin(self, tmp_path):
        with servers.https(tmp_path) as origin:
            yield origin

    def test_a_wrong_password_and_an_unknown_ca_are_named(self, origin):
        """The right error for each."""
        origin.publish({"a": MemoryFile(b"1")})
        wrong = StaticKeychain(((origin.source().address.origin, BasicAuth("robot", "wrong")),))
        with pytest.raises(AuthenticationError):
            GitSource(origin.url, **(origin.options | {"keychain": wrong})).resolve_revision()
        with pytest.raises(CertificateError):
            GitSource(origin.url, **(origin.options | {"tls": TLSConfig()})).resolve_revision()


class TestGitDaemon(GitServerContract):
    @pytest.fixture
    def origin(self, tmp_path):
        with servers.daemon(tmp_path) as origin:
            yield origin


class TestOpenSSH(GitServerContract):
    @pytest.fixture
    def origin(self, tmp_path):
        with servers.sshd(tmp_path) as origin:
            yield origin

    def test_an_unknown_host_and_an_unknown_key_are_refused(self, origin):
        """The right error for each."""
        address = origin.source().address
        good = origin.options["keychain"].credentials(address.origin)
        host = good.known_hosts.split()[0]
        for known_hosts, identity, error in (
            (good.known_hosts.replace(host, "elsewhere"), good.identity, CertificateError),
            (good.known_hosts, (origin.path.parent / "sshd" / "host").read_text(), AuthenticationError),
        ):
            chain = StaticKeychain(((address.origin, SSHKey(identity=identity, known_hosts=known_hosts)),))
            with pytest.raises(error):
                GitSource(origin.url, **(origin.options | {"keychain": chain})).resolve_revision()

"""Submodules: mounted where they are linked, fetched from where we may go, failing loudly."""

import attrs
import pytest

from fluxsrc.auth import BasicAuth, Origin, StaticKeychain
from fluxsrc.entry import Skipped
from fluxsrc.errors import (
    AuthenticationError,
    ContentError,
    LimitExceededError,
    RevisionNotFoundError,
    VerificationError,
)
from fluxsrc.git import GitCache, GitSource
from fluxsrc.git.address import GitAddress
from fluxsrc.git.submodules import parse_modules, submodule_address
from fluxsrc.stores import MemoryStore
from fluxsrc.testing.git import GitRepositoryBuilder
from fluxsrc.testing.git_server import GitHTTPServer
from fluxsrc.verify import policy_digest
from helpers.git_sources import contents

FILE, TREE, LINK = 0o100644, 0o040000, 0o160000


def modules(**urls):
    return "".join(f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n' for path, url in urls.items()).encode()


@pytest.fixture
def library(tmp_path):
    repository = GitRepositoryBuilder(tmp_path / "served" / "library.git")
    repository.first = repository.commit({"x": b"1", ".sourceignore": b"*.md\n", "r.md": b"r"})
    repository.commit({"x": b"2"})
    return repository


@pytest.fixture
def parent(tmp_path, library):
    return GitRepositoryBuilder(tmp_path / "served" / "parent.git")


def link(parent, commit, *, name="lib", gitmodules=None, extra=()):
    """Commit a tree with a submodule between names that sort around what is in it."""
    rows = [
        (b".gitmodules", FILE, parent.blob(modules(**{name: "../library.git"}) if gitmodules is None else gitmodules))
    ]
    rows += [(name.encode(), LINK, bytes.fromhex(commit))]
    rows += [(f"{name}.b".encode(), FILE, parent.blob(b"after")), *extra]
    return parent.commit_tree(parent.tree(rows))


def test_files_appear_where_the_link_is_in_order(parent, library):
    """`lib.b` comes before `lib/x`, although the link comes before both."""
    link(parent, library.first)
    source = GitSource(parent.path, submodules=True)
    with source.fetch() as snapshot:
        entries = list(snapshot.entries())
        assert [entry.path for entry in entries] == [".gitmodules", "lib.b", "lib/.sourceignore", "lib/r.md", "lib/x"]
        assert entries[-1].read() == b"1"
        assert snapshot.skipped == ()
        assert snapshot.ignore_files() == {"lib": "*.md\n"}
    assert source.produce_artifact(MemoryStore()).skipped == ()


def test_they_are_opted_in(parent, library):
    """Without being asked for they are reported."""
    link(parent, library.first)
    assert GitSource(parent.path).produce_artifact(MemoryStore()).skipped == (
        Skipped("lib", "submodule", library.first),
    )
    assert GitSource(parent.path).recipe != GitSource(parent.path, submodules=True).recipe


def test_submodules_have_submodules(tmp_path, parent, library):
    """A relative URL is relative to the repository it is written in."""
    middle = GitRepositoryBuilder(tmp_path / "served" / "middle.git")
    commit = link(middle, library.first)
    link(parent, commit, name="mid", gitmodules=modules(mid="../middle.git"))
    assert contents(GitSource(parent.path, submodules=True))["mid/lib/x"] == b"1"


def test_a_submodule_of_itself_ends(parent):
    """At ten levels."""
    commit = parent.commit({"a": b"1"})
    for _ in range(12):
        commit = link(parent, commit, gitmodules=modules(lib="../parent.git"))
    with pytest.raises(LimitExceededError, match="deep"):
        contents(GitSource(parent.path, submodules=True))


@attrs.define(eq=False)
class Witness:
    """A policy that holds, or does not, and remembers what it was asked about."""

    holds: bool
    asked: list[str] = attrs.field(factory=list)
    needs = frozenset({"commit"})
    digest = policy_digest("witness")

    def check(self, evidence):
        self.asked.append(evidence.commit_id.hex)
        if not self.holds:
            raise VerificationError("no", check="1")
        return (("witness", "yes"),)


def test_a_policy_is_about_the_commit_that_names_the_submodules(tmp_path, parent, library):
    """It pins each of them by hash, so what is signed there is signed here; nothing is asked of theirs."""
    commit = link(parent, library.first)
    policy = Witness(holds=True)
    assert contents(GitSource(parent.path, submodules=True, verify=policy))["lib/x"] == b"1"
    assert policy.asked == [commit]


def test_nothing_is_fetched_of_the_submodules_of_a_commit_that_a_policy_refuses(tmp_path, parent, library):
    """Whoever may not say what is deployed may not say whom we talk to, either."""
    link(parent, library.first)
    with GitHTTPServer(tmp_path / "served") as server:
        source = GitSource(server.url("parent.git"), submodules=True, cache=None, verify=Witness(holds=False))
        with pytest.raises(VerificationError), source.fetch():
            pass
        assert not [served for served in server.take_served() if "library" in served.path]


def test_a_path_below_the_root_finds_the_modules_of_the_root(parent, library):
    """`.gitmodules` is at the root, whatever the path."""
    inner = parent.tree([(b"lib", LINK, bytes.fromhex(library.first))])
    gitmodules = b'[submodule "l"]\n\tpath = vendor/lib\n\turl = ../library.git\n'
    parent.commit_tree(parent.tree([(b".gitmodules", FILE, parent.blob(gitmodules)), (b"vendor", TREE, inner)]))
    assert contents(GitSource(parent.path, submodules=True, path="vendor"))["lib/x"] == b"1"


@pytest.mark.parametrize(
    "gitmodules",
    [
        b"",
        modules(other="../library.git"),
        modules(lib="/etc"),
        modules(lib="library.git"),
        modules(lib="-oProxyCommand=x:y"),
        modules(lib="ssh://-oProxyCommand=x/y"),
        modules(lib="http://127.0.0.1/internal"),
        modules(lib="git://127.0.0.1/internal"),
        modules(lib="ext::sh -c true"),
        modules(lib="../../../../../../../../.."),
    ],
)
def test_a_link_that_leads_nowhere_we_may_go_is_an_error(parent, library, gitmodules):
    """Never passed over."""
    link(parent, library.first, gitmodules=gitmodules)
    with pytest.raises(ContentError):
        contents(GitSource(parent.path, submodules=True))


def test_a_commit_that_is_not_there_is_an_error(parent):
    """The link is older, or newer, than what the other repository has."""
    link(parent, "1" * 40)
    with pytest.raises(RevisionNotFoundError):
        contents(GitSource(parent.path, submodules=True))


@pytest.mark.parametrize("url", ["file:///etc", "git+file:///etc", "file://./x"])
def test_a_remote_repository_cannot_send_us_to_files(url):
    """Nor to less than TLS."""
    parent = GitAddress.parse("https://example.com/team/app.git")
    for bad in (url, "http://example.com/x", "git://example.com/x"):
        with pytest.raises(ContentError, match="may not send us"):
            submodule_address(parent, "lib", bad)


@pytest.mark.parametrize(
    ("parent", "url", "expected"),
    [
        ("https://example.com/team/app.git", "../lib.git", "git+https://example.com/team/lib.git"),
        ("https://example.com/team/app", "./lib", "git+https://example.com/team/app/lib"),
        ("git@example.com:team/app.git", "../lib.git", "git@example.com:team/lib.git"),
        ("ssh://git@example.com:2222/a/b", "../../c/d", "git+ssh://git@example.com:2222/c/d"),
        ("https://example.com/a", "git@elsewhere.example:x/y", "git@elsewhere.example:x/y"),
    ],
)
def test_urls_are_resolved_as_git_does(parent, url, expected):
    """Relative to the repository as to a directory."""
    assert submodule_address(GitAddress.parse(parent), "lib", url).url == expected


def test_modules_without_path_or_url_are_none():
    """git ignores them too."""
    assert parse_modules(b'[submodule "a"]\npath = a\n[submodule "b"]\nurl = b\n[submodule]\npath=c\nurl=d\n') == {
        "c": "d"
    }


class TestOverHTTP:
    def served(self, tmp_path, **options):
        return GitHTTPServer(tmp_path / "served", username="ada", password="hunter2", **options)

    def test_the_same_host_gets_the_credentials(self, tmp_path, parent, library):
        link(parent, library.first)
        with self.served(tmp_path) as server:
            url = server.url("parent.git").replace("://", "://ada:hunter2@")
            source = GitSource(url, submodules=True, cache=GitCache(path=tmp_path / "cache"))
            assert contents(source)["lib/x"] == b"1"

    def test_another_host_gets_only_its_own(self, tmp_path, parent, library):
        with self.served(tmp_path) as server, self.served(tmp_path) as other:
            link(parent, library.first, gitmodules=modules(lib=other.url("library.git").removeprefix("git+")))
            mine = (Origin("http", "127.0.0.1", server.port), BasicAuth("ada", "hunter2"))
            theirs = (Origin("http", "127.0.0.1", other.port), BasicAuth("ada", "hunter2"))
            options = {"submodules": True, "cache": GitCache(path=tmp_path / "cache")}
            with pytest.raises(AuthenticationError):
                contents(GitSource(server.url("parent.git"), keychain=StaticKeychain((mine,)), **options))
            source = GitSource(server.url("parent.git"), keychain=StaticKeychain((mine, theirs)), **options)
            assert contents(source)["lib/x"] == b"1"

    def test_a_sparse_fetch_brings_the_modules_along(self, tmp_path, parent, library):
        link(parent, library.first)
        with self.served(tmp_path, config={"uploadpack.allowFilter": "true"}) as server:
            url = server.url("parent.git").replace("://", "://ada:hunter2@")
            source = GitSource(url, submodules=True, sparse=["lib"], cache=GitCache(path=tmp_path / "cache"))
            assert set(contents(source)) == {"lib/.sourceignore", "lib/r.md", "lib/x"}

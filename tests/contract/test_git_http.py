"""Git repositories behind an HTTP server pass the contract: cached, uncached, with credentials, over the old protocol."""

import pytest

from fluxsrc.auth import BasicAuth, StaticKeychain
from fluxsrc.git import GitCache, GitSource
from fluxsrc.testing import SourceContract
from fluxsrc.testing.git import GitRepositoryBuilder
from fluxsrc.testing.git_server import GitHTTPServer


class RemoteGitOrigin:
    keeps_modes = True

    def __init__(self, root, server, *, password=None, cache):
        self.repository = GitRepositoryBuilder(root / "repository.git")
        self.url = server.url("repository.git")
        self.secrets = () if password is None else (password,)
        self.options = {"cache": cache}
        if password is not None:
            self.options["keychain"] = StaticKeychain.for_url(self.url.removeprefix("git+"), BasicAuth("ada", password))

    def publish(self, files):
        self.repository.commit(files)

    def source(self, **options):
        return GitSource(self.url, branch="main", **self.options, **options)

    def missing(self):
        return GitSource(self.url, branch="missing", **self.options)


class TestGitOverHTTP(SourceContract):
    @pytest.fixture
    def origin(self, tmp_path):
        with GitHTTPServer(tmp_path, username="ada", password="hunter2") as server:
            yield RemoteGitOrigin(tmp_path, server, password="hunter2", cache=GitCache(path=tmp_path / "cache"))


class TestGitOverHTTPWithoutCache(SourceContract):
    @pytest.fixture
    def origin(self, tmp_path):
        with GitHTTPServer(tmp_path) as server:
            yield RemoteGitOrigin(tmp_path, server, cache=None)


class TestGitOverHTTPInVersion0(SourceContract):
    @pytest.fixture
    def origin(self, tmp_path):
        with GitHTTPServer(tmp_path, version=0) as server:
            yield RemoteGitOrigin(tmp_path, server, cache=GitCache(path=tmp_path / "cache"))

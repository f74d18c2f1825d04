"""What tests of remote repositories share: a repository, servers over it, a cache, and a look at what was asked for."""

import os
import time

import pytest

from fluxsrc.git import GitCache
from fluxsrc.testing.git import GitRepositoryBuilder
from fluxsrc.testing.git_server import GitHTTPServer


@pytest.fixture
def repository(tmp_path):
    return GitRepositoryBuilder(tmp_path / "served" / "repository.git")


@pytest.fixture
def serve(tmp_path, repository):
    """Start servers over the repository's directory; they end with the test."""
    started = []

    def start(**options):
        server = GitHTTPServer(tmp_path / "served", **options).__enter__()
        started.append(server)
        return server

    yield start
    for server in started:
        server.__exit__(None, None, None)


@pytest.fixture
def cache(tmp_path):
    return GitCache(path=tmp_path / "cache")


def contents(source):
    with source.fetch() as snapshot:
        return {entry.path: entry.read() for entry in snapshot.entries()}


def posts(server):
    """The bodies of the requests that were posted, of the served ones."""
    time.sleep(0.05)  # the server notes a request after it has answered it
    return [served for served in server.take_served() if served.method == "POST"]


def monorepo(teams=10, files=20):
    return {
        f"teams/{team:02}/app-{number:02}.yaml": os.urandom(300) for team in range(teams) for number in range(files)
    } | {"README.md": b"# readme\n", ".sourceignore": b"*.md\n"}

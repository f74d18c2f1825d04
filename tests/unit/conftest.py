"""What many unit tests begin with: a store, and servers in this process."""

import contextlib

import pytest

from fluxsrc.git import GitCache
from fluxsrc.stores import LocalStore
from fluxsrc.testing.git import GitRepositoryBuilder
from fluxsrc.testing.git_server import GitHTTPServer
from fluxsrc.testing.lfs_server import LFSServer
from fluxsrc.testing.registry import Registry


@pytest.fixture
def disk(tmp_path):
    return LocalStore(tmp_path / "store", durable=False)


@pytest.fixture
def store(disk):
    """That one; some modules have their own, to go through several kinds."""
    return disk


@pytest.fixture
def registry():
    with Registry() as server:
        yield server


@pytest.fixture(params=[True, False], ids=["referrers-api", "tag-schema"])
def each_registry(request):
    """Signatures are found by the referrers API, or by a tag where a registry does not know it."""
    with Registry(has_referrers=request.param) as server:
        yield server


@pytest.fixture
def repository(tmp_path):
    return GitRepositoryBuilder(tmp_path / "served" / "repository.git")


@pytest.fixture
def serve(tmp_path, repository):
    """Start servers over the repository's directory; they end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(GitHTTPServer(tmp_path / "served", **options))


@pytest.fixture
def cache(tmp_path):
    return GitCache(path=tmp_path / "cache")


@pytest.fixture
def lfs():
    with LFSServer() as server:
        yield server

"""Resolving again and again leaves nothing open: what is kept for a fetch of the same operation ends with the operation."""

import gc
import threading
import weakref

import pytest

from fluxsrc.auth import StaticKeychain
from fluxsrc.git import GitSource
from fluxsrc.git.ssh_pool import IDLE_CONNECTIONS
from fluxsrc.operation import Operation
from fluxsrc.testing.git import GitRepositoryBuilder
from fluxsrc.testing.git_server import GitHTTPServer
from fluxsrc.testing.ssh_server import SSHServer


@pytest.fixture(params=["http, version 2", "http, version 0", "ssh, version 2", "ssh, version 0"])
def source(request, tmp_path):
    GitRepositoryBuilder(tmp_path / "app.git").commit({"a": b"a"})
    scheme, _, version = request.param.partition(", version ")
    if scheme == "http":
        with GitHTTPServer(tmp_path, version=int(version)) as server:
            yield GitSource(server.url("app.git"), branch="main", cache=None)
    else:
        with SSHServer(tmp_path, protocol=int(version)) as server:
            url = server.url("app.git")
            yield GitSource(url, branch="main", cache=None, keychain=StaticKeychain.for_url(url, server.key))


def test_an_operation_that_is_over_takes_its_connection_along(source):
    """Its finalizer closes what was kept; nothing that was kept may keep the operation alive."""
    operation = Operation(20)
    source.resolve_revision(operation=operation)
    gone = weakref.ref(operation)
    del operation
    gc.collect()
    assert gone() is None
    IDLE_CONNECTIONS.close()  # an SSH connection rests there for a while
    assert not [thread for thread in threading.enumerate() if thread.name == "fluxsrc-ssh"]

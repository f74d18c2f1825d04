"""The client suite against the registry in this process, in all its moods. The real servers run the same suite."""

from collections.abc import Iterator

import pytest

from fluxsrc.auth import BasicAuth, StaticKeychain
from fluxsrc.oci import Access
from fluxsrc.testing.registry import Registry
from fluxsrc.testing.registry_contract import RegistryContract, Remote

USERS = {"robot": "hunter2"}


@pytest.fixture(params=["anonymous", "basic", "token", "old"])
def registry(request: pytest.FixtureRequest) -> Iterator[Registry]:
    options = {
        "anonymous": {"page": 2},
        "basic": {"users": USERS},
        "token": {"users": USERS, "token": True},
        "old": {"has_referrers": False, "has_head": False, "has_ranges": False, "has_totals": False},
    }[request.param]
    with Registry(**options) as server:
        yield server


class TestInProcess(RegistryContract):
    @pytest.fixture
    def remote(self, registry: Registry) -> Remote:
        keychain = StaticKeychain.for_url(registry.url, BasicAuth("robot", "hunter2")) if registry.users else None
        return Remote(f"oci://{registry.host}/scratch", Access(keychain=keychain, insecure=True))

"""The client suite against registries that others wrote; what our own is held to."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxsrc.auth import BasicAuth, StaticKeychain, TLSConfig
from fluxsrc.errors import AuthenticationError, CertificateError
from fluxsrc.oci import Access, OCISource
from fluxsrc.testing.registry_contract import RegistryContract, Remote

pytestmark = pytest.mark.servers

_spec = importlib.util.spec_from_file_location("oci_servers", Path(__file__).with_name("oci_servers.py"))
servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(servers)


def keychain(url: str, password: str = servers.PASSWORD) -> StaticKeychain:
    return StaticKeychain.for_url(url, BasicAuth(servers.USER, password))


class TestDockerRegistryWithPasswordsAndTLS(RegistryContract):
    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
        with servers.docker_registry(tmp_path_factory.mktemp("registry"), tls=True, htpasswd=True) as host:
            yield host

    @pytest.fixture
    def remote(self, host: str) -> Remote:
        tls = TLSConfig(ca=(servers.TLS / "ca.pem").read_text())
        return Remote(f"oci://{host}/scratch", Access(keychain=keychain(f"https://{host}"), tls=tls))

    def test_a_wrong_password_and_an_unknown_ca_are_named(self, host: str) -> None:
        """The right error for each."""
        tls = TLSConfig(ca=(servers.TLS / "ca.pem").read_text())
        for chain in (None, keychain(f"https://{host}", "wrong")):
            with pytest.raises(AuthenticationError):
                OCISource(f"oci://{host}/x", keychain=chain, tls=tls).resolve_revision()
        with pytest.raises(CertificateError):
            OCISource(f"oci://{host}/x", keychain=keychain(f"https://{host}")).resolve_revision()


class TestDockerRegistryWithTokens(RegistryContract):
    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
        root = tmp_path_factory.mktemp("registry")
        with (
            servers.token_service(root) as (realm, certificate),
            servers.docker_registry(root, token_realm=realm, bundle=certificate) as host,
        ):
            yield host

    @pytest.fixture
    def remote(self, host: str) -> Remote:
        return Remote(f"oci://{host}/scratch", Access(keychain=keychain(f"http://{host}"), insecure=True))

    def test_a_wrong_password_is_named(self, host: str) -> None:
        """By who issues the tokens."""
        with pytest.raises(AuthenticationError):
            OCISource(f"oci://{host}/x", keychain=keychain(f"http://{host}", "no"), insecure=True).resolve_revision()


class TestCraneRegistry(RegistryContract):
    """go-containerregistry's own, which shares no code with distribution."""

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
        with servers.crane_registry(tmp_path_factory.mktemp("registry")) as host:
            yield host

    @pytest.fixture
    def remote(self, host: str) -> Remote:
        return Remote(f"oci://{host}/scratch", Access(insecure=True))

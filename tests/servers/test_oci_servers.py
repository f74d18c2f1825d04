"""The client suite against registries that others wrote; what our own is held to."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxsrc.auth import BasicAuth, StaticKeychain, TLSConfig
from fluxsrc.errors import AuthenticationError, CertificateError
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, OCISource, push, transfer
from fluxsrc.testing.registry_contract import RegistryContract, Remote
from helpers import oci_servers as servers

pytestmark = pytest.mark.servers


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


class TestZot(RegistryContract):
    """Written for the OCI specification alone, it is stricter than distribution about what may be pushed."""

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
        with servers.zot(tmp_path_factory.mktemp("registry")) as host:
            yield host

    @pytest.fixture
    def remote(self, host: str) -> Remote:
        access = Access(keychain=keychain(f"http://{host}"), insecure=True)
        return Remote(f"oci://{host}/scratch", access, names_artifact_types=False, keeps_untagged=False)

    def test_a_wrong_password_is_named(self, host: str) -> None:
        """By the registry itself."""
        with pytest.raises(AuthenticationError):
            OCISource(f"oci://{host}/x", keychain=keychain(f"http://{host}", "no"), insecure=True).resolve_revision()


def test_a_real_registry_goes_on_after_broken_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads in chunks and downloads by range, over a wire that breaks."""
    monkeypatch.setattr(transfer, "_UPLOAD_CHUNK", 4 << 20)
    files = {"large": secrets.token_bytes(12 << 20)}
    with servers.docker_registry(tmp_path) as host:
        with servers.cutting_wire(host, 3 << 20, 2) as (wire, breaks):
            push(MemorySource(files), f"oci://{wire}/app:v1", access=Access(insecure=True))
        assert len(breaks) == 2
        with servers.cutting_wire(host, 3 << 20, 3) as (wire, breaks):
            with OCISource(f"oci://{wire}/app:v1", insecure=True).fetch() as snapshot:
                assert {entry.path: entry.read() for entry in snapshot.entries()} == files
        assert len(breaks) == 3

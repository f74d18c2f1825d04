"""The whole contract of sources against Debian's registry; crane writes what is read, around our own code."""

import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from fluxsrc.auth import BasicAuth, StaticKeychain, TLSConfig
from fluxsrc.memory import MemoryFile
from fluxsrc.oci import OCISource
from fluxsrc.testing import SourceContract
from helpers import oci_servers as servers
from helpers import programs

pytestmark = pytest.mark.servers


@attrs.define
class CraneOrigin:
    host: str
    scratch: Path
    secrets: tuple[str, ...] = (servers.PASSWORD,)
    keeps_modes: bool = True

    def publish(self, files: Mapping[str, MemoryFile], /) -> None:
        archive = self.scratch / "layer.tgz"
        with tarfile.open(archive, "w:gz") as tar:
            for path, file in reversed(files.items()):
                info = tarfile.TarInfo(f"./{path}")
                info.mode, info.size, info.mtime = file.mode.permissions, len(file.data), 1_700_000_000
                tar.addfile(info, io.BytesIO(file.data))
        environment = {"DOCKER_CONFIG": str(self.scratch), "SSL_CERT_FILE": str(servers.TLS / "ca.pem")}
        programs.run("crane", "auth", "login", self.host, "-u", servers.USER, "-p", servers.PASSWORD, env=environment)
        reference = f"{self.host}/team/{self.scratch.name.lower()}:v1"
        programs.run("crane", "append", "--oci-empty-base", "-t", reference, "-f", archive, env=environment)

    def _source(self, tag: str, options: dict[str, Any]) -> OCISource:
        return OCISource(
            f"oci://{self.host}/team/{self.scratch.name.lower()}:{tag}",
            keychain=StaticKeychain.for_url(f"https://{self.host}", BasicAuth(servers.USER, servers.PASSWORD)),
            tls=TLSConfig(ca=(servers.TLS / "ca.pem").read_text()),
            **options,
        )

    def source(self, **options: Any) -> OCISource:
        return self._source("v1", options)

    def missing(self) -> OCISource:
        return self._source("none", {})


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.docker_registry(tmp_path_factory.mktemp("registry"), tls=True, htpasswd=True) as found:
        yield found


class TestDockerRegistry(SourceContract):
    @pytest.fixture
    def origin(self, host: str, tmp_path_factory: pytest.TempPathFactory) -> CraneOrigin:
        return CraneOrigin(host, tmp_path_factory.mktemp("origin"))

"""Every kind of OCI repository is a source like all others."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from fluxsrc.auth import BasicAuth, StaticKeychain
from fluxsrc.entry import Mode
from fluxsrc.memory import MemoryFile
from fluxsrc.oci import OCISource
from fluxsrc.testing import SourceContract
from fluxsrc.testing.registry import Registry

LAYER = "application/vnd.cncf.flux.content.v1.tar+gzip"


def tar_gz(files: Mapping[str, MemoryFile], *, reverse: bool = False) -> bytes:
    """A layer as others make them: unsorted, with directories, owners and times."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        directories: set[str] = set()
        for path in sorted(files, reverse=reverse):
            for parent in reversed(Path(path).parents[:-1]):
                if str(parent) not in directories:
                    directories.add(str(parent))
                    info = tarfile.TarInfo(f"{parent}/")
                    info.type, info.mode = tarfile.DIRTYPE, 0o750
                    tar.addfile(info)
            info = tarfile.TarInfo(path)
            info.mode, info.mtime, info.uid, info.uname = files[path].mode.permissions, 1_700_000_000, 1000, "me"
            if files[path].mode is Mode.SYMLINK:
                info.type, info.linkname = tarfile.SYMTYPE, files[path].data.decode()
                tar.addfile(info)
            else:
                info.size = len(files[path].data)
                tar.addfile(info, io.BytesIO(files[path].data))
    return gzip.compress(buffer.getvalue(), mtime=0)


@attrs.define
class RegistryOrigin:
    registry: Registry
    options: dict[str, Any]
    secrets: tuple[str, ...] = ()
    keeps_modes: bool = True

    def publish(self, files: Mapping[str, MemoryFile], /) -> None:
        self.registry.put("team/app", "v1", layers=[(LAYER, tar_gz(files, reverse=True))])

    def source(self, **options: Any) -> OCISource:
        return OCISource(f"oci://{self.registry.host}/team/app:v1", insecure=True, **self.options, **options)

    def missing(self) -> OCISource:
        return OCISource(f"oci://{self.registry.host}/team/app:none", insecure=True, **self.options)


class TestRegistry(SourceContract):
    """An anonymous registry."""

    @pytest.fixture
    def origin(self) -> Iterator[RegistryOrigin]:
        with Registry() as registry:
            yield RegistryOrigin(registry, {})


class TestRegistryWithTokens(SourceContract):
    """A registry that wants a bearer token."""

    @pytest.fixture
    def origin(self) -> Iterator[RegistryOrigin]:
        with Registry(users={"robot": "hunter2"}, token=True) as registry:
            keychain = StaticKeychain.for_url(registry.url, BasicAuth("robot", "hunter2"))
            yield RegistryOrigin(registry, {"keychain": keychain}, secrets=("hunter2",))


@attrs.define
class LayoutOrigin:
    root: Path
    secrets: tuple[str, ...] = ()
    keeps_modes: bool = True

    def publish(self, files: Mapping[str, MemoryFile], /) -> None:
        config, layer = b"{}", tar_gz(files)
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self._blob(config, "application/vnd.oci.empty.v1+json"),
            "layers": [self._blob(layer, LAYER)],
        }
        described = self._blob(json.dumps(manifest).encode(), manifest["mediaType"])
        described["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
        (self.root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        (self.root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))

    def _blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        path = self.root / "blobs" / "sha256" / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def source(self, **options: Any) -> OCISource:
        return OCISource(f"oci-layout:{self.root}:v1", **options)

    def missing(self) -> OCISource:
        return OCISource(f"oci-layout:{self.root}:none")


class TestLayout(SourceContract):
    """An image layout on disk."""

    @pytest.fixture
    def origin(self, tmp_path: Path) -> LayoutOrigin:
        return LayoutOrigin(tmp_path)

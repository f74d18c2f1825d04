"""The real skopeo reads a store as it stands: nothing exported, nothing converted."""

import json
import subprocess

import pytest

from fluxsrc.artifact import CONFIG_MEDIA_TYPE, SourceKey
from fluxsrc.digest import Digest
from fluxsrc.memory import MemorySource
from fluxsrc.stores import LocalStore
from fluxsrc.stores._oci import ref_name
from fluxsrc.testing.store_contract import put_new

pytestmark = pytest.mark.servers


def skopeo(*arguments):
    done = subprocess.run(["skopeo", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def produced(tmp_path):
    with LocalStore(tmp_path / "store") as store:
        artifact = MemorySource({"deploy/app.yaml": "kind: Deployment\n"}).produce_artifact(store, name="podinfo")
    return store, artifact


def test_skopeo_inspects_the_manifest(produced):
    """By the source's key, as a reference behind the directory; its bytes are what our digest names."""
    store, artifact = produced
    raw = skopeo("inspect", "--raw", f"oci:{store.path}:memory/default/podinfo")
    assert Digest.of(raw.encode()) == artifact.manifest
    manifest = json.loads(raw)
    assert manifest["config"]["mediaType"] == CONFIG_MEDIA_TYPE
    assert manifest["layers"] == [
        {"mediaType": artifact.media_type, "digest": str(artifact.digest), "size": artifact.size}
    ]
    assert manifest.get("annotations", {}) == dict(artifact.annotations)


def test_skopeo_copies_an_artifact_unchanged(produced, tmp_path):
    """To another layout, and to a plain directory: manifest, config and layer, byte for byte."""
    store, artifact = produced
    reference = f"oci:{store.path}:memory/default/podinfo"
    skopeo("copy", "--preserve-digests", reference, f"oci:{tmp_path / 'copy'}:podinfo")
    skopeo("copy", "--preserve-digests", reference, f"dir:{tmp_path / 'plain'}")
    copied = tmp_path / "copy" / "blobs" / "sha256"
    assert {path.name for path in copied.iterdir()} == {
        path.name for path in (store.path / "blobs" / "sha256").iterdir()
    }
    assert Digest.of((copied / artifact.digest.hex).read_bytes()) == artifact.digest
    assert Digest.of((tmp_path / "plain" / "manifest.json").read_bytes()) == artifact.manifest


@pytest.mark.parametrize("name", ["a__b", "a.-b", "a---b", "n" * 253, "a.b-c_d"])
def test_skopeo_takes_the_reference_of_any_source(tmp_path, name):
    """Names that OCI's grammar does not know included."""
    with LocalStore(tmp_path / "store", durable=False) as store:
        artifact = put_new(store, key=SourceKey("gitrepository", "default", name))
    raw = skopeo("inspect", "--raw", f"oci:{store.path}:{ref_name(artifact.key)}")
    assert Digest.of(raw.encode()) == artifact.manifest


def test_what_skopeo_copies_in_lives_on(produced, tmp_path):
    """Another tool's entry of the index is kept by flush, and its blobs by gc."""
    store, artifact = produced
    other = LocalStore(tmp_path / "other", durable=False)
    with other:
        put_new(other, "ours")
    skopeo("copy", "--preserve-digests", f"oci:{store.path}:memory/default/podinfo", f"oci:{other.path}:theirs")
    with other:
        put_new(other, "ours, newer")
    other.gc(grace=-60)
    assert other.verify().clean
    raw = skopeo("inspect", "--raw", f"oci:{other.path}:theirs")
    assert Digest.of(raw.encode()) == artifact.manifest
    skopeo("inspect", "--raw", f"oci:{other.path}:gitrepository/default/podinfo")
    assert (other.path / "blobs" / "sha256" / artifact.digest.hex).exists()

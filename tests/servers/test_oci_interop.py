"""Both ways with tools that others wrote: what they push we pull, what we push they pull, with equal content."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxsrc.directory import DirectorySource
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, OCISource
from fluxsrc.oci.publish import promote
from fluxsrc.oci.pushing import push
from fluxsrc.stores import LocalStore, MemoryStore
from helpers import oci_servers as servers
from helpers.programs import run, tool

pytestmark = pytest.mark.servers


ACCESS = Access(insecure=True)
LAYER = "application/vnd.cncf.flux.content.v1.tar+gzip"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """No empty directories, no odd modes: what every tool can carry."""
    root = tmp_path / "tree"
    for path, text in {"app.yaml": "kind: Deployment\n", "base/kustomization.yaml": "resources: []\n",
                       "base/\u00fc/deep/x": "x" * 10_000}.items():  # fmt: skip
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    return root


def content(source) -> str:
    return str(source.produce_artifact(MemoryStore()).content_digest)


def pulled(reference: str, **options) -> str:
    return content(OCISource(reference, insecure=True, **options))


def unpacked(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# --- what we push ----------------------------------------------------------------------------------------------------


def test_crane_validates_and_exports_what_we_push(host, tree, tmp_path):
    pushed = push(DirectorySource(tree), f"oci://{host}/crane/app:v1", access=ACCESS)
    reference = f"{host}/crane/app:v1"
    assert run("crane", "digest", "--insecure", reference).strip() == str(pushed.digest)
    assert "PASS" in run("crane", "validate", "--insecure", "--remote", reference)
    manifest = json.loads(run("crane", "manifest", "--insecure", reference))
    assert manifest["layers"][0]["mediaType"] == LAYER
    blob = f"{host}/crane/app@{manifest['layers'][0]['digest']}"
    data = subprocess.run([tool("crane"), "blob", "--insecure", blob], capture_output=True, check=True).stdout
    (tmp_path / "layer.tgz").write_bytes(data)
    (tmp_path / "out").mkdir()
    run("tar", "-xzf", tmp_path / "layer.tgz", "-C", tmp_path / "out")
    assert unpacked(tmp_path / "out") == unpacked(tree)


def test_skopeo_copies_what_we_push_to_a_layout_that_we_read(host, tree, tmp_path):
    pushed = push(DirectorySource(tree), f"oci://{host}/skopeo/app:v1", access=ACCESS)
    raw = run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{host}/skopeo/app:v1")
    assert json.loads(raw)["config"]["mediaType"] == "application/vnd.cncf.flux.config.v1+json"
    run("skopeo", "copy", "--src-tls-verify=false", "--preserve-digests", f"docker://{host}/skopeo/app:v1",
        f"oci:{tmp_path}/layout:v1")  # fmt: skip
    source = OCISource(f"oci-layout:{tmp_path}/layout:v1")
    assert source.resolve_revision().digest == pushed.digest
    assert content(source) == content(DirectorySource(tree))


def test_oras_pulls_what_we_push_as_a_blob(host, tree, tmp_path):
    pushed = push(DirectorySource(tree), f"oci://{host}/oras/app:v1", access=ACCESS)
    manifest = json.loads(run("oras", "manifest", "fetch", "--plain-http", f"{host}/oras/app:v1"))
    digest = manifest["layers"][0]["digest"]
    run("oras", "blob", "fetch", "--plain-http", f"{host}/oras/app@{digest}", "--output", tmp_path / "layer.tgz")
    assert str(pushed.artifact.digest) == digest
    (tmp_path / "out").mkdir()
    run("tar", "-xzf", tmp_path / "layer.tgz", "-C", tmp_path / "out")
    assert unpacked(tmp_path / "out") == unpacked(tree)


def test_flux_pulls_what_we_push(host, tree, tmp_path):
    pushed = push(
        DirectorySource(tree), f"oci://{host}/flux/app:v1", access=ACCESS,
        annotations={"org.opencontainers.image.source": "https://example.com/repo",
                     "org.opencontainers.image.revision": "main@sha1:abc"},
    )  # fmt: skip
    (tmp_path / "out").mkdir()
    found = flux(tmp_path, "oci-pull", f"{host}/flux/app:v1", tmp_path / "out")
    assert found["digest"].endswith(str(pushed.digest))
    assert (found["source"], found["revision"]) == ("https://example.com/repo", "main@sha1:abc")
    assert unpacked(tmp_path / "out") == unpacked(tree)


# --- what others push ------------------------------------------------------------------------------------------------


def test_we_pull_what_flux_pushes(host, tree, tmp_path):
    flux(tmp_path, "oci-push", f"{host}/flux/theirs:v1", tree)
    assert pulled(f"oci://{host}/flux/theirs:v1") == content(DirectorySource(tree))
    artifact = OCISource(f"oci://{host}/flux/theirs:v1", insecure=True).produce_artifact(MemoryStore())
    assert artifact.annotations["org.opencontainers.image.source"] == "https://example.com/flux"


def test_we_pull_what_oras_pushes(host, tree):
    run("oras", "push", "--plain-http", f"{host}/oras/theirs:v1", "app.yaml:text/yaml", "base", "run.sh", cwd=tree)
    theirs = pulled(f"oci://{host}/oras/theirs:v1", layer_operation="files", ignore="run.sh")
    assert theirs == content(DirectorySource(tree, ignore="run.sh"))  # ORAS keeps no modes of single files


def test_we_pull_what_crane_pushes(host, tree, tmp_path):
    """An image of two layers, as `docker build` would make."""
    run("tar", "-C", tree, "-czf", tmp_path / "one.tgz", "app.yaml", "run.sh")
    run("tar", "-C", tree, "-czf", tmp_path / "two.tgz", "base")
    reference = f"{host}/crane/image:v1"
    run("crane", "append", "--insecure", "-t", reference, "-f", f"{tmp_path}/one.tgz,{tmp_path}/two.tgz")
    assert pulled(f"oci://{reference}", layer_operation="image") == content(DirectorySource(tree))
    assert pulled(f"oci://{reference}") == content(DirectorySource(tree, ignore="base"))


def test_we_pull_and_promote_an_index_of_indexes_that_crane_makes(host, tree, tmp_path):
    """Crane finds a promoted one whole; and a layout that crane makes of it is read by the same rules."""
    here = f"{host}/crane/nested"
    digests = {}
    for platform in ("linux/amd64", "linux/arm64"):
        tag = platform.replace("/", "-")
        (tree / "app.yaml").write_text(platform)
        run("tar", "-C", tree, "-czf", tmp_path / "layer.tgz", ".")
        run("crane", "append", "--insecure", "-t", f"{here}:{tag}", "-f", tmp_path / "layer.tgz")
        run("crane", "mutate", "--insecure", "-t", f"{here}:{tag}", "--set-platform", platform, f"{here}:{tag}")
        digests[platform] = content(DirectorySource(tree))
    run("crane", "index", "append", "--insecure", "-t", f"{here}:arm", "-m", f"{here}:linux-arm64")
    run("crane", "index", "append", "--insecure", "--flatten=false", "-t", f"{here}:all",
        "-m", f"{here}:arm", "-m", f"{here}:linux-amd64")  # fmt: skip
    manifests = json.loads(run("crane", "manifest", "--insecure", f"{here}:all"))["manifests"]
    assert [each["mediaType"].rpartition(".")[2] for each in manifests] == [
        "v1+json",
        "v2+json",
    ]  # an index, a manifest
    promote(f"oci://{here}:all", f"oci://{host}/crane/promoted:all", access=ACCESS)
    assert "PASS" in run("crane", "validate", "--insecure", "--remote", f"{host}/crane/promoted:all")
    run("crane", "pull", "--insecure", "--format", "oci", f"{host}/crane/promoted:all", tmp_path / "layout")
    for platform, digest in digests.items():
        assert pulled(f"oci://{host}/crane/promoted:all", platform=platform) == digest
        assert content(OCISource(f"oci-layout:{tmp_path}/layout", platform=platform)) == digest


def test_we_pull_what_skopeo_copies_from_our_store(host, tree, tmp_path):
    with LocalStore(tmp_path / "store") as store:
        DirectorySource(tree).produce_artifact(store, name="app")
    run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{tmp_path}/store:directory/default/app",
        f"docker://{host}/skopeo/theirs:v1")  # fmt: skip
    assert pulled(f"oci://{host}/skopeo/theirs:v1") == content(DirectorySource(tree))


def test_we_pull_layers_of_the_zstd_command(host, tree, tmp_path):
    run("tar", "-C", tree, "-cf", tmp_path / "layer.tar", ".")
    run("zstd", "-q", tmp_path / "layer.tar", "-o", tmp_path / "layer.tar.zst")
    run("oras", "push", "--plain-http", f"{host}/oras/zstd:v1",
        "layer.tar.zst:application/vnd.oci.image.layer.v1.tar+zstd", cwd=tmp_path)  # fmt: skip
    assert pulled(f"oci://{host}/oras/zstd:v1") == content(DirectorySource(tree))


# --- promises --------------------------------------------------------------------------------------------------------


def test_equal_content_has_one_layer_digest_whatever_made_it(host, tree, tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(tree, copied)
    files = {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    files.pop("run.sh")
    digests = {
        str(push(source, f"oci://{host}/stable/{number}:v1", access=ACCESS).artifact.digest)
        for number, source in enumerate(
            (DirectorySource(tree, ignore="run.sh"), DirectorySource(copied, ignore="run.sh"), MemorySource(files))
        )
    }
    assert len(digests) == 1


def test_a_promoted_artifact_is_the_same_for_crane(host, tree):
    pushed = push(DirectorySource(tree), f"oci://{host}/staging/app:v1", access=ACCESS)
    promote(f"oci://{host}/staging/app:v1", f"oci://{host}/production/app:stable", access=ACCESS)
    assert run("crane", "digest", "--insecure", f"{host}/production/app:stable").strip() == str(pushed.digest)
    assert "PASS" in run("crane", "validate", "--insecure", "--remote", f"{host}/production/app:stable")


def flux(scratch: Path, *arguments: object) -> dict[str, str]:
    return json.loads(run("flux-peer", *arguments, env={"HOME": str(scratch), "DOCKER_CONFIG": str(scratch)}))

"""Layers in every packing, archives that are built but not pushed, and the order of tags."""

import gzip
import io
import subprocess
import sys
import tarfile

import pytest

from fluxsrc.bucket import BucketSource, LocalBucket
from fluxsrc.digest import Digest
from fluxsrc.directory import DirectorySource
from fluxsrc.git import GitSource
from fluxsrc.inspect import ChangeKind, cat, diff, ls
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, OCISource, build, copy, list_tags, push
from fluxsrc.stores import MemoryStore
from fluxsrc.testing.git import GitRepositoryBuilder
from fluxsrc.testing.registry import Registry

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FILES = {"app/deployment.yaml": b"kind: Deployment\n", "values.yaml": b"replicas: 3\n"}
ACCESS = Access(insecure=True)


def tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def source(registry, **options):
    return OCISource(f"oci://{registry.host}/app:v1", insecure=True, **options)


@pytest.mark.parametrize(
    ("media_type", "pack"),
    [
        ("application/vnd.oci.image.layer.v1.tar", bytes),
        ("application/vnd.oci.image.layer.v1.tar+gzip", gzip.compress),
        ("application/vnd.oci.image.layer.v1.tar+zstd", zstd.compress),
        ("application/vnd.cncf.flux.content.v1.tar+gzip", gzip.compress),
        ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", gzip.compress),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", gzip.compress),
    ],
)
@pytest.mark.parametrize("operation", ["extract", "image"])
def test_a_layer_is_read_however_it_is_packed(registry, media_type, pack, operation, tmp_path):
    registry.put("app", "v1", layers=[(media_type, pack(tar(FILES)))])
    found = source(registry, layer_operation=operation)
    artifact = found.produce_artifact(MemoryStore())
    assert artifact.content_digest == MemorySource(FILES).produce_artifact(MemoryStore()).content_digest
    if operation == "extract":
        found.pull(tmp_path / "out")
        assert (tmp_path / "out" / "values.yaml").read_bytes() == FILES["values.yaml"]


def test_a_copied_layer_in_zstd_keeps_its_bytes_and_tells_its_content(registry):
    """The digest of the layer is the registry's, that of the content is of what is in it."""
    data = zstd.compress(tar(FILES))
    registry.put("app", "v1", layers=[("application/vnd.oci.image.layer.v1.tar+zstd", data)])
    store = MemoryStore()
    artifact = source(registry, layer_operation="copy").produce_artifact(store)
    with store.open(artifact) as stream:
        assert stream.read() == data
    assert (artifact.digest, artifact.content_digest) == (Digest.of(data), Digest.of(tar(FILES)))


def test_what_is_built_is_the_layer_that_a_push_would_upload(registry, tmp_path):
    """`build` writes a file, whose name and place say nothing about its bytes; ignore rules hold as in a push."""
    tree = MemorySource(FILES | {".sourceignore": b"*.md\n", "README.md": b"left out\n"})
    artifact = build(tree, tmp_path / "artifact.tgz")
    pushed = push(tree, f"oci://{registry.host}/app:v1", access=ACCESS)
    data = (tmp_path / "artifact.tgz").read_bytes()
    assert Digest.of(data) == artifact.digest == pushed.artifact.digest
    assert data == registry.repository("app").blobs[str(artifact.digest)]
    names = subprocess.run(["tar", "-tzf", tmp_path / "artifact.tgz"], capture_output=True, text=True, check=True)
    assert names.stdout.split() == sorted([".sourceignore", *FILES])
    assert [path.name for path in tmp_path.iterdir()] == ["artifact.tgz"]


def test_the_manifest_depends_on_the_content_and_on_nothing_else(tmp_path):
    """No clock, no order, no name of a tag or of the machine is in it."""
    digests = set()
    for files, tag in ((FILES, "v1"), (dict(reversed(FILES.items())), "other")):
        with Registry() as server:
            notes = {"org.opencontainers.image.revision": "main@sha1:" + "0" * 40, "a": "b"}
            digests.add(
                push(MemorySource(files), f"oci://{server.host}/a/{tag}:{tag}", annotations=notes, access=ACCESS).digest
            )
    digests.add(
        push(MemorySource(FILES), f"oci-layout:{tmp_path / 'l'}:x", annotations=dict(reversed(notes.items()))).digest
    )
    assert len(digests) == 1


def test_tags_are_listed_newest_first(registry):
    """By the time in the annotation; tags that do not say when come last, by version, and then by name."""
    for tag, created in {
        "old": "2026-01-01T00:00:00Z",
        "1.0.0": "2026-03-01T00:00:00+02:00",
        "new": "2026-03-01T00:00:00Z",
    }.items():
        notes = {"org.opencontainers.image.created": created}
        push(MemorySource({"a": tag}), f"oci://{registry.host}/app:{tag}", annotations=notes, access=ACCESS)
    for tag in ("main", "1.9.0", "1.10.0", "alpha"):
        push(MemorySource({"a": tag}), f"oci://{registry.host}/app:{tag}", access=ACCESS)
    listed = [info.tag for info in list_tags(f"oci://{registry.host}/app", access=ACCESS)]
    assert listed == ["new", "1.0.0", "old", "1.10.0", "1.9.0", "main", "alpha"]


def test_a_bucket_a_repository_and_a_registry_can_be_compared(registry, tmp_path):
    """And listed, and one file of each be read: whatever the kinds."""
    (tmp_path / "bucket" / "app").mkdir(parents=True)
    for path, data in FILES.items():
        (tmp_path / "bucket" / path).write_bytes(data)
    repository = GitRepositoryBuilder(tmp_path / "app.git")
    repository.commit(FILES | {"values.yaml": b"replicas: 5\n"})
    push(MemorySource(FILES | {"more": b""}), f"oci://{registry.host}/app:v1", access=ACCESS)
    sources = [
        BucketSource(LocalBucket(tmp_path / "bucket")),
        DirectorySource(tmp_path / "bucket"),
        GitSource(repository.path),
        source(registry),
    ]
    expected = [{}, {}, {"values.yaml": ChangeKind.CHANGED}, {"more": ChangeKind.ADDED}]
    for new, changes in zip(sources, expected, strict=True):
        assert {change.path: change.kind for change in diff(sources[0], new)} == changes
        assert {file.path for file in ls(new)} >= set(FILES)
        assert b"".join(cat(new, "app/deployment.yaml")) == FILES["app/deployment.yaml"]


def test_a_list_goes_on_where_the_registry_asks_for_patience(registry):
    """One busy answer in ten tags is no reason to begin anew, or to leave one out."""
    for number in range(10):
        push(MemorySource({"a": "1"}), f"oci://{registry.host}/app:1.0.{number}", access=ACCESS)
    registry.requests.clear()
    registry.inject("GET .*/manifests/1.0.[37]", times=2, status=429, headers={"Retry-After": "0"})
    listed = list_tags(f"oci://{registry.host}/app", access=ACCESS)
    assert [info.tag for info in listed] == [f"1.0.{number}" for number in range(9, -1, -1)]
    assert all(info.digest for info in listed)
    assert registry.count("/manifests/") == 12


def test_copying_is_promoting_by_the_name_that_other_tools_use(registry):
    pushed = push(MemorySource(FILES), f"oci://{registry.host}/app:v1", access=ACCESS)
    copied = copy(f"oci://{registry.host}/app:v1", f"oci://{registry.host}/mirror", access=ACCESS)
    assert copied.digest == pushed.digest
    assert registry.repository("mirror").tags == {"v1": str(pushed.digest)}

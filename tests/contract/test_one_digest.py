"""One tree, put into every kind of source, has one content digest."""

import pytest

from fluxsrc.auth import Anonymous, BearerToken
from fluxsrc.bucket import AWSKeys, AzureBucket, BucketSource, GCSBucket, LocalBucket, S3Bucket
from fluxsrc.directory import DirectorySource
from fluxsrc.git import GitSource
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, OCISource, push
from fluxsrc.stores import MemoryStore
from fluxsrc.testing import ObjectServer, Registry
from fluxsrc.testing.git import GitRepositoryBuilder

TREE = {
    ".sourceignore": b"*.md\n",
    "README.md": b"left out\n",
    "a.b": b"dot\n",
    "a/b": b"slash\n",
    "a0": b"zero\n",
    "deploy/prod/app.yaml": b"replicas: 3\n",
    "empty": b"",
    "large.bin": bytes(range(256)) * 3000,
    "\u00fcml\u00e4ut/\U0001f680.txt": b"rocket\n",
}


@pytest.fixture
def servers():
    with ObjectServer() as objects, Registry() as registry:
        objects.buckets["apps"] = {}
        for path, data in TREE.items():
            objects.put("apps", path, data)
        yield objects, registry


def test_one_tree_has_one_digest_wherever_it_lies(tmp_path, servers):
    objects, registry = servers
    directory = tmp_path / "tree"
    for path, data in TREE.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(data)
    repository = GitRepositoryBuilder(tmp_path / "app.git")
    repository.commit(TREE)
    push(MemorySource(TREE), f"oci://{registry.host}/team/app:v1", access=Access(insecure=True))
    push(MemorySource(TREE), f"oci-layout:{tmp_path / 'layout'}:v1")
    sources = {
        "memory": MemorySource(TREE),
        "directory": DirectorySource(directory),
        "git": GitSource(repository.path),
        "registry": OCISource(f"oci://{registry.host}/team/app:v1", insecure=True),
        "layout": OCISource(f"oci-layout:{tmp_path / 'layout'}:v1"),
        "local bucket": BucketSource(LocalBucket(directory)),
        "s3": BucketSource(
            S3Bucket("apps", endpoint=objects.url, region="us-east-1", credentials=AWSKeys("ada", "lovelace"))
        ),
        "gcs": BucketSource(GCSBucket("apps", endpoint=objects.url, credentials=BearerToken("t"))),
        "azure": BucketSource(AzureBucket("apps", account="ada", endpoint=objects.url, credentials=Anonymous())),
    }
    store = MemoryStore()
    digests = {name: source.produce_artifact(store).content_digest for name, source in sources.items()}
    assert set(digests.values()) == {digests["memory"]}, digests

"""Whatever a registry does wrong: the right error, and nothing is kept, in a store and in a directory."""

import gzip
import io
import json
import tarfile

import pytest

from fluxsrc.errors import (
    DigestMismatchError,
    LimitExceededError,
    RemoteProtocolError,
    SourceChangedError,
    TransportError,
    UnsafeEntryError,
)
from fluxsrc.limits import Limits
from fluxsrc.oci import OCISource
from fluxsrc.stores import LocalStore
from fluxsrc.testing.registry import Registry

LAYER = "application/vnd.cncf.flux.content.v1.tar+gzip"
HTML = {"status": 200, "headers": {"Content-Type": "text/html"}, "body": b"<html>please log in</html>"}
CIRCLE = {"status": 307, "headers": {"Location": "/v2/app/blobs/round"}}
ELSEWHERE = {"status": 307, "headers": {"Location": "ftp://127.0.0.1/blob"}}


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), 6)


GOOD = {"a": b"1" * 5000, "b/c": bytes(range(256)) * 40}


pytestmark = pytest.mark.usefixtures("impatient")


def replace_blob(registry: Registry, change) -> None:
    repository = registry.repository("app")
    layer = json.loads(repository.manifests[repository.tags["v1"]][1])["layers"][0]["digest"]
    repository.blobs[layer] = change(repository.blobs[layer])


FAILURES = {
    "wrong digest": (DigestMismatchError, lambda r: r.inject("GET .*/blobs/", times=None, corrupt=True)),
    "too long": (DigestMismatchError, lambda r: replace_blob(r, lambda data: data + b"more")),
    "too short": (DigestMismatchError, lambda r: replace_blob(r, lambda data: data[:-1])),
    "truncated": (TransportError, lambda r: r.inject("GET .*/blobs/", times=None, cut_after=5)),
    "gone": (SourceChangedError, lambda r: r.inject("GET .*/manifests/sha256", times=None, status=404)),
    "a manifest in HTML": (DigestMismatchError, lambda r: r.inject("GET .*/manifests/", times=None, **HTML)),
    "a blob in HTML": (DigestMismatchError, lambda r: r.inject("GET .*/blobs/", times=None, **HTML)),
    "redirects in a circle": (RemoteProtocolError, lambda r: r.inject("/blobs/", times=None, **CIRCLE)),
    "a redirect to another protocol": (RemoteProtocolError, lambda r: r.inject("/blobs/", times=None, **ELSEWHERE)),
    "nothing but errors": (TransportError, lambda r: r.inject("GET .*/blobs/", times=None, status=502)),
}
CONTENTS = {
    "a bomb": (LimitExceededError, archive(GOOD | {"zeros": bytes(40_000_000)})),
    "a way out": (UnsafeEntryError, archive(GOOD | {"../x": b"!"})),
}


def source(registry: Registry) -> OCISource:
    return OCISource(f"oci://{registry.host}/app:v1", insecure=True, limits=Limits(max_content_bytes=20_000_000))


def attempt(registry: Registry, error: type[Exception], tmp_path) -> None:
    """Fail both ways, and look around."""
    with LocalStore(tmp_path / "store") as store:
        with pytest.raises(error):
            source(registry).produce_artifact(store)
        assert list(store.sources()) == []
    assert [path for path in (tmp_path / "store" / "blobs").rglob("*") if path.is_file()] == []
    assert [path for path in (tmp_path / "store" / "ingest").rglob("*") if path.suffix != ".lock"] == []
    (tmp_path / "place").mkdir()
    with pytest.raises(error):
        source(registry).pull(tmp_path / "place" / "files")
    assert list((tmp_path / "place").rglob("*")) == []


@pytest.mark.parametrize("name", FAILURES)
def test_a_registry_that_answers_nonsense_leaves_nothing_behind(name, tmp_path):
    error, fail = FAILURES[name]
    with Registry() as registry:
        registry.put("app", "v1", layers=[(LAYER, archive(GOOD))])
        fail(registry)
        attempt(registry, error, tmp_path)


@pytest.mark.parametrize("name", CONTENTS)
def test_hostile_content_leaves_nothing_behind(name, tmp_path):
    error, data = CONTENTS[name]
    with Registry() as registry:
        registry.put("app", "v1", layers=[(LAYER, data)])
        attempt(registry, error, tmp_path)


def test_the_same_registry_without_failures_leaves_everything(tmp_path):
    """What the tests above look for would be found."""
    with Registry() as registry, LocalStore(tmp_path / "store") as store:
        registry.put("app", "v1", layers=[(LAYER, archive(GOOD))])
        assert source(registry).produce_artifact(store).files == len(GOOD)
        source(registry).pull(tmp_path / "place" / "files")
    assert [path for path in (tmp_path / "store" / "blobs").rglob("*") if path.is_file()]
    assert (tmp_path / "place" / "files" / "b" / "c").read_bytes() == GOOD["b/c"]

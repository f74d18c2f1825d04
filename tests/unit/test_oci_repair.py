"""Registries that lost something, or say what cannot be: what is there is shown, what is lost is brought again."""

import json

import pytest

from fluxsrc.digest import Digest
from fluxsrc.errors import ContentError, RemoteProtocolError, RevisionNotFoundError, TransportError
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, OCISource, transfer
from fluxsrc.oci.listing import candidates, list_tags
from fluxsrc.oci.publish import promote
from fluxsrc.oci.pushing import push
from fluxsrc.stores import MemoryStore
from fluxsrc.testing.registry import Registry

ACCESS = Access(insecure=True)
LAYER = "application/vnd.cncf.flux.content.v1.tar+gzip"
FILES = {"app.yaml": "replicas: 3\n"}
LOST = {"status": 404, "body": b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN", "message": "swept"}]}'}

pytestmark = pytest.mark.usefixtures("impatient")


def published(registry, name="app", tag="v1", files=FILES):
    pushed = push(MemorySource(files), f"oci://{registry.host}/{name}:{tag}", access=ACCESS)
    return str(pushed.digest), str(pushed.artifact.digest)


def files(registry, name):
    with OCISource(f"oci://{registry.host}/{name}", insecure=True).fetch() as snapshot:
        return {entry.path: entry.read().decode() for entry in snapshot.entries()}


# --- what a retention policy ate -------------------------------------------------------------------------------------


def test_a_promotion_brings_again_what_the_destination_lost(registry):
    """The manifest is there and its tag, too; of the layer only the origin has the bytes."""
    _, layer = published(registry)
    promote(f"oci://{registry.host}/app:v1", f"oci://{registry.host}/copy:v1", access=ACCESS)
    del registry.repository("copy").blobs[layer]
    promote(f"oci://{registry.host}/app:v1", f"oci://{registry.host}/copy:v1", access=ACCESS)
    assert files(registry, "copy:v1") == FILES


def test_a_promotion_brings_again_what_was_lost_below_an_index(registry):
    manifest, layer = published(registry)
    registry.put_index("app", "all", {"linux/amd64": manifest})
    promote(f"oci://{registry.host}/app:all", f"oci://{registry.host}/copy:all", access=ACCESS)
    del registry.repository("copy").blobs[layer]
    promote(f"oci://{registry.host}/app:all", f"oci://{registry.host}/copy:all", access=ACCESS)
    assert files(registry, "copy:all") == FILES


def test_what_is_there_already_does_not_travel_again(registry):
    published(registry)
    promote(f"oci://{registry.host}/app:v1", f"oci://{registry.host}/copy:v1", access=ACCESS)
    registry.requests.clear()
    again = promote(f"oci://{registry.host}/app:v1", f"oci://{registry.host}/copy:v1", access=ACCESS)
    assert again.uploaded == 0
    assert registry.count("^(PUT|POST|PATCH)|GET .*/blobs/") == 0


def test_what_only_the_destination_has_of_an_index_is_enough(registry):
    manifest, _ = published(registry)
    registry.put_index("app", "all", {"linux/amd64": manifest})
    promote(f"oci://{registry.host}/app:v1", f"oci://{registry.host}/copy:v1", access=ACCESS)
    registry.repository("app").manifests.pop(manifest)
    promote(f"oci://{registry.host}/app:all", f"oci://{registry.host}/copy:all", access=ACCESS)
    assert files(registry, "copy:all") == FILES
    with pytest.raises(RevisionNotFoundError, match=f"app@{manifest} is not there"):
        promote(f"oci://{registry.host}/app:all", f"oci://{registry.host}/third:all", access=ACCESS)


def test_a_listed_signature_that_is_gone_holds_up_no_promotion(registry):
    """Nobody takes it off the list that is kept under a tag, where there is no API for it."""
    registry.has_referrers = False
    manifest, _ = published(registry)
    kept, gone = (
        registry.put("app", layers=[(LAYER, b"%d" % n)], subject=manifest, artifact_type="x/y") for n in range(2)
    )
    kind = "application/vnd.oci.image.manifest.v1+json"
    listed = [
        {"mediaType": kind, "digest": each, "size": len(registry.repository("app").manifests[each][1])}
        for each in (kept, gone)
    ]
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": listed}
    registry.put_document("app", manifest.replace(":", "-"), json.dumps(index).encode(), index["mediaType"])
    del registry.repository("app").manifests[gone]
    done = promote(f"oci://{registry.host}/app:v1", f"oci://{registry.host}/copy:v1", referrers=True, access=ACCESS)
    assert [str(each) for each in done.referrers] == [kept]


def test_a_signature_below_a_tag_that_lost_its_bytes_is_not_left_behind_in_silence(registry):
    manifest, _ = published(registry)
    registry.put("app", manifest.replace(":", "-") + ".sig", layers=[(LAYER, b"signature")])
    del registry.repository("app").blobs[str(Digest.of(b"signature"))]
    with pytest.raises(RevisionNotFoundError, match="read the blob"):
        promote(f"oci://{registry.host}/app:v1", f"oci://{registry.host}/copy:v1", referrers=True, access=ACCESS)
    assert registry.repository("copy").tags == {}


# --- looking around --------------------------------------------------------------------------------------------------


def test_a_damaged_manifest_hides_no_other(registry):
    """It is shown as a tag of which nothing is known, and nobody is sent back to it."""
    good, _ = published(registry)
    bad, _ = published(registry, tag="v2", files={"b": "2"})
    registry.inject("GET .*/manifests/(v2|" + bad + ")", times=None, corrupt=True)
    shown = {
        info.tag: info.digest and str(info.digest) for info in list_tags(f"oci://{registry.host}/app", access=ACCESS)
    }
    assert shown == {"v1": good, "v2": None}
    (found,) = candidates(f"oci://{registry.host}/app", access=ACCESS)
    assert (found.tags, found.complete) == (("v1",), True)


def test_a_damaged_manifest_that_a_store_remembers_is_a_lost_one(registry):
    store, source = MemoryStore(), OCISource(f"oci://{registry.host}/app:v1", insecure=True)
    damaged, _ = published(registry)
    source.produce_artifact(store)
    published(registry, files={"b": "2"})
    key = source.produce_artifact(store).key
    registry.inject(f"GET .*/manifests/{damaged}", times=None, corrupt=True)
    (found,) = candidates(f"oci://{registry.host}/app:v1", store=store, key=key, access=ACCESS)
    assert (str(found.digest), found.complete, found.stored) == (damaged, False, True)


def test_a_repository_that_is_not_there_has_no_candidates_and_says_so(registry):
    """A typing error must not look like a registry that forgot everything."""
    with pytest.raises(RevisionNotFoundError, match="typo"):
        candidates(f"oci://{registry.host}/typo:v1", access=ACCESS)


def test_a_store_still_knows_what_was_in_a_repository_that_is_gone(registry):
    store, source = MemoryStore(), OCISource(f"oci://{registry.host}/app:v1", insecure=True)
    digest, _ = published(registry)
    key = source.produce_artifact(store).key
    del registry.repositories["app"]
    (found,) = candidates(f"oci://{registry.host}/app:v1", store=store, key=key, access=ACCESS)
    assert (str(found.digest), found.complete, found.stored) == (digest, False, True)


def test_the_page_of_a_proxy_is_no_revision(registry):
    """Neither HEAD nor GET has a digest to compare it with."""
    page = {"status": 200, "headers": {"Content-Type": "text/html"}, "body": b"\n<html>please log in</html>"}
    registry.inject("/manifests/", times=None, **page)
    with pytest.raises(RemoteProtocolError, match="HTML where a manifest was expected"):
        OCISource(f"oci://{registry.host}/app:v1", insecure=True).resolve_revision()


def test_what_is_wrong_in_a_layer_says_in_whose(registry):
    """A diff has two sources, and one of them is it."""
    registry.put("app", "v1", layers=[(LAYER, b"\x1f\x8bno archive")])
    layer = Digest.of(b"\x1f\x8bno archive")
    with pytest.raises(ContentError) as caught:
        files(registry, "app:v1")
    assert caught.value.message.startswith(f"oci://{registry.host}/app: the layer {layer}: ")


@pytest.mark.parametrize("platform", [None, "linux/amd64"])
def test_from_an_index_of_nothing_nobody_is_told_to_choose(registry, platform):
    registry.put_index("app", "v1", {})
    with pytest.raises(RevisionNotFoundError, match=r"is an index of nothing$"):
        OCISource(f"oci://{registry.host}/app:v1", insecure=True, platform=platform).produce_artifact(MemoryStore())


# --- image layouts ---------------------------------------------------------------------------------------------------


def test_what_has_no_name_in_a_layout_is_named_by_its_digest(registry, tmp_path):
    """`crane pull --format=oci` names nothing."""
    digests = [published(registry, files={"a": str(number)})[0] for number in range(2)]
    for number, digest in enumerate(digests):
        promote(f"oci://{registry.host}/app@{digest}", f"oci-layout:{tmp_path}:n{number}", access=ACCESS)
    path = tmp_path / "index.json"
    index = json.loads(path.read_text())
    for line in index["manifests"]:
        del line["annotations"]
    path.write_text(json.dumps(index))
    with pytest.raises(RevisionNotFoundError, match=f"only @{digests[0]}, @{digests[1]}") as caught:
        OCISource(f"oci-layout:{tmp_path}").resolve_revision()
    assert f"oci-layout:{tmp_path}@{digests[0]}" in caught.value.hint
    assert str(OCISource(f"oci-layout:{tmp_path}@{digests[0]}").resolve_revision()) == digests[0]


@pytest.mark.parametrize("what", ["nothing", "an empty directory", "an archive"])
def test_what_is_no_layout_is_called_so(tmp_path, what):
    place = tmp_path / "place"
    if what == "an empty directory":
        place.mkdir()
    elif what == "an archive":
        place.write_bytes(b"tar")
    with pytest.raises(RevisionNotFoundError, match="no image layout") as caught:
        OCISource(f"oci-layout:{place}:v1").resolve_revision()
    assert "unpacked" in caught.value.hint


# --- uploads and logins ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 410, 416])
@pytest.mark.parametrize("where", ["PATCH .*/uploads/", "PUT .*/uploads/"])
def test_an_upload_that_the_registry_forgot_is_begun_anew(registry, monkeypatch, where, status):
    monkeypatch.setattr(transfer, "_UPLOAD_CHUNK", 400_000)
    data = bytes(range(256)) * 4000
    fault = registry.inject(where, times=1, **LOST | {"status": status})
    push(MemorySource({"a": data}, compression="none"), f"oci://{registry.host}/app:v1", access=ACCESS)
    assert fault.times == 0
    with OCISource(f"oci://{registry.host}/app:v1", insecure=True).fetch() as snapshot:
        assert [entry.read() for entry in snapshot.entries()] == [data]


def test_a_registry_that_forgets_every_upload_is_given_up(registry):
    registry.inject("PUT .*/uploads/", times=None, **LOST)
    with pytest.raises(TransportError, match="BLOB_UPLOAD_UNKNOWN: swept"):
        published(registry)
    assert registry.count("PUT .*/uploads/") == 5


def test_a_token_service_that_is_down_is_asked_as_often_as_any_other_server():
    """And not that often for each time that the registry is."""
    with Registry(users={"robot": "word"}, token=True) as registry:
        registry.inject("/token", times=None, status=500)
        with pytest.raises(TransportError, match="log in"):
            OCISource(f"oci://{registry.host}/app:v1", insecure=True).resolve_revision()
        assert registry.count("/token") == 5


def test_a_token_service_that_talks_without_end_is_no_fault_of_the_content():
    """Nor is there a limit to raise."""
    with Registry(users={"robot": "word"}, token=True) as registry:
        registry.inject("/token", times=None, status=200, body=b'{"token": "' + b"a" * 300_000 + b'"}')
        with pytest.raises(RemoteProtocolError, match="too long for a token") as caught:
            OCISource(f"oci://{registry.host}/app:v1", insecure=True).resolve_revision()
    assert caught.value.hint is None

"""A store as a registry: what the OCI distribution specification says about reading, endpoint by endpoint."""

import hashlib
import json
import os

import attrs
import pytest

from fluxsrc.artifact import CONFIG_MEDIA_TYPE, LAYER_MEDIA_TYPE, SourceKey
from fluxsrc.digest import Digest
from fluxsrc.limits import DEFAULT_LIMITS
from fluxsrc.memory import MemorySource
from fluxsrc.oci.layout import LayoutRepository
from fluxsrc.oci.manifest import Descriptor, Index, Manifest
from fluxsrc.oci.repository import Document
from fluxsrc.operation import Operation
from fluxsrc.revision import Revision
from fluxsrc.server import app
from fluxsrc.stores import MemoryStore
from helpers.asgi import call

BASE = "/v2/memory/default/app"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def make(store, text="one", pointer=None):
    """An artifact of a source that points at it by a name."""
    artifact = MemorySource({"app.yaml": f"name: {text}\n"}).produce_artifact(store, name="app")
    if pointer is None:
        return artifact
    return store.put(attrs.evolve(artifact, revision=Revision(artifact.revision.digest, pointer)))


@pytest.fixture(params=["local", "memory"])
def store(request, disk):
    """Both kinds: one proves blobs itself, the other leaves it to the server."""
    return disk if request.param == "local" else MemoryStore()


def get(store, target, headers=None, method="GET"):
    return call(app(store), method, target, headers)


def error(answer):
    [found] = json.loads(answer.body)["errors"]
    return answer.status, found["code"]


def tags(store, query=""):
    return json.loads(get(store, f"{BASE}/tags/list{query}").body)["tags"]


@pytest.mark.parametrize("target", ["/v2/", "/v2"])
def test_it_says_that_it_is_a_registry(store, target):
    answer = get(store, target)
    assert (answer.status, answer.body) == (200, b"{}")
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


def test_a_source_is_pulled_by_tag_then_digest(store):
    """As every client does: manifest, config, layers; each one is what its digest says."""
    artifact = make(store)
    answer = get(store, f"{BASE}/manifests/latest")
    assert answer.status == 200
    assert answer.headers["content-type"] == MANIFEST
    assert (
        answer.headers["docker-content-digest"]
        == str(artifact.manifest)
        == f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
    )
    assert get(store, f"{BASE}/manifests/{artifact.manifest}").body == answer.body
    manifest = json.loads(answer.body)
    assert (manifest["mediaType"], manifest["config"]["mediaType"]) == (MANIFEST, CONFIG_MEDIA_TYPE)
    assert manifest["layers"][0]["mediaType"] == f"{LAYER_MEDIA_TYPE}+gzip"
    for part in (manifest["config"], *manifest["layers"]):
        blob = get(store, f"{BASE}/blobs/{part['digest']}")
        assert (blob.status, len(blob.body)) == (200, part["size"])
        assert (
            blob.headers["docker-content-digest"] == part["digest"] == f"sha256:{hashlib.sha256(blob.body).hexdigest()}"
        )


def test_the_manifest_is_the_one_in_the_store(disk):
    artifact = make(disk)
    assert get(disk, f"{BASE}/manifests/latest").body == disk.blob_path(artifact.manifest).read_bytes()
    config = json.loads(disk.blob_path(artifact.manifest).read_bytes())["config"]["digest"]
    assert get(disk, f"{BASE}/blobs/{config}").body == disk.blob_path(Digest.parse(config)).read_bytes()


def test_head_tells_digest_type_and_size(store):
    artifact = make(store)
    for target in (
        f"{BASE}/manifests/latest",
        f"{BASE}/manifests/{artifact.manifest}",
        f"{BASE}/blobs/{artifact.digest}",
    ):
        head, full = get(store, target, method="HEAD"), get(store, target)
        assert (head.status, head.headers, head.body) == (200, full.headers, b"")


def test_blobs_can_be_resumed(store):
    artifact = make(store)
    answer = get(store, f"{BASE}/blobs/{artifact.digest}", {"Range": "bytes=10-"})
    assert (answer.status, len(answer.body)) == (206, artifact.size - 10)


def test_what_a_digest_names_never_changes_and_what_a_tag_names_may(store):
    artifact = make(store)
    assert "immutable" in get(store, f"{BASE}/manifests/{artifact.manifest}").headers["cache-control"]
    assert "immutable" in get(store, f"{BASE}/blobs/{artifact.digest}").headers["cache-control"]
    assert get(store, f"{BASE}/manifests/latest").headers["cache-control"] == "no-cache"


# --- tags ------------------------------------------------------------------------------------------------------------


def test_tags_are_latest_revisions_and_what_revisions_were_found_under(store):
    first, second = make(store, "one", "v1.0.0"), make(store, "two", "v1.1.0")
    assert {"latest", "v1.0.0", "v1.1.0", first.revision.digest.hex, second.revision.digest.hex} == set(tags(store))
    for tag, artifact in {"latest": second, "v1.0.0": first, first.revision.digest.hex: first}.items():
        assert get(store, f"{BASE}/manifests/{tag}").headers["docker-content-digest"] == str(artifact.manifest)


def test_a_tag_of_the_source_that_moved_names_where_it_is_now(store):
    make(store, "one", "main")
    second = make(store, "two", "main")
    assert get(store, f"{BASE}/manifests/main").headers["docker-content-digest"] == str(second.manifest)


def test_latest_is_always_the_current_artifact(store):
    """Even if an earlier revision was found under a tag of that very name."""
    make(store, "one", "latest")
    second = make(store, "two", "v2")
    assert get(store, f"{BASE}/manifests/latest").headers["docker-content-digest"] == str(second.manifest)


@pytest.mark.parametrize("digits", [40, 64, 128])
def test_a_branch_that_is_called_like_a_commit_is_not_taken_for_one(store, digits):
    """Whoever may push branches must not choose what others get who ask for a revision by its digest."""
    make(store, "one", "a" * digits)
    assert "a" * digits not in tags(store)
    assert error(get(store, f"{BASE}/manifests/{'a' * digits}")) == (404, "MANIFEST_UNKNOWN")


def test_branches_that_cannot_be_tags_are_left_out(store):
    artifact = make(store, "one", "feature/x")
    assert "feature/x" not in tags(store)
    assert get(store, f"{BASE}/manifests/{artifact.revision.digest.hex}").status == 200


def test_tags_come_in_pages(store):
    for number in range(4):
        make(store, str(number), f"v{number}")
    application = app(store)
    everything, target, pages = [], f"{BASE}/tags/list?n=3", 0
    while target:
        answer = call(application, "GET", target)
        page = json.loads(answer.body)
        assert page["name"] == "memory/default/app"
        assert len(page["tags"]) <= 3
        everything += page["tags"]
        link = answer.headers.get("link")
        target = link and link.removesuffix('>; rel="next"').removeprefix("<")
        pages += 1
    assert everything == sorted(tags(store))
    assert pages == 3


@pytest.mark.parametrize(
    ("query", "expected"), [("?n=0", []), ("?last=v0", ["v1"]), ("?last=v1", []), ("?n=1&last=latest", ["v0"])]
)
def test_a_page_begins_behind_the_last_tag(store, query, expected):
    make(store, "0", "v0")
    make(store, "1", "v1")
    assert tags(store, query) == expected


def test_the_next_page_has_an_address_whatever_the_prefix_is(store):
    """Header fields know no letters beyond Latin-1, and `>` would end the address early."""
    make(store, "one", "v1")
    application = app(store, prefix="\u30c6\u30fc>m")
    target = "/v2/%E3%83%86%E3%83%BC%3Em/memory/default/app/tags/list?n=1"
    link = call(application, "GET", target).headers["link"]
    following = link.partition("<")[2].partition(">")[0]
    assert following.startswith(target)
    assert len(json.loads(call(application, "GET", following).body)["tags"]) == 1


@pytest.mark.parametrize("n", ["-1", "x", "", "9" * 5000])
def test_a_page_of_no_size_is_refused(store, n):
    make(store)
    assert error(get(store, f"{BASE}/tags/list?n={n}")) == (400, "PAGINATION_NUMBER_INVALID")


# --- what is not there -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (f"{BASE}/manifests/nothing", (404, "MANIFEST_UNKNOWN")),
        (f"{BASE}/manifests/sha256:{'0' * 64}", (404, "MANIFEST_UNKNOWN")),
        (f"{BASE}/manifests/sha256:short", (400, "DIGEST_INVALID")),
        (f"{BASE}/blobs/sha256:{'0' * 64}", (404, "BLOB_UNKNOWN")),
        (f"{BASE}/blobs/nothing", (400, "DIGEST_INVALID")),
        (f"{BASE}/referrers/nothing", (400, "DIGEST_INVALID")),
        (f"{BASE}/tags/other", (404, "UNSUPPORTED")),
        ("/v2/_catalog", (404, "UNSUPPORTED")),
        ("/v2/memory/default/other/manifests/latest", (404, "NAME_UNKNOWN")),
        ("/v2/memory/default/other/tags/list", (404, "NAME_UNKNOWN")),
        ("/v2/memory/app/tags/list", (404, "NAME_UNKNOWN")),
        ("/v2/../default/app/tags/list", (404, "NAME_UNKNOWN")),
        ("/v2/memory/default/app/manifests/../../../../etc/passwd", (404, "UNSUPPORTED")),
        ("/v2/memory/default/app/blobs/../../../index.json", (404, "UNSUPPORTED")),
    ],
)
def test_what_is_not_there_is_said_in_the_words_of_the_specification(store, target, expected):
    make(store)
    assert error(get(store, target)) == expected


def test_repositories_are_not_listed_and_do_not_show_each_others_blobs(disk):
    artifact = make(disk)
    MemorySource({"other": ""}).produce_artifact(disk, name="other")
    for what in (f"blobs/{artifact.digest}", f"manifests/{artifact.manifest}"):
        assert get(disk, f"/v2/memory/default/other/{what}").status == 404


@pytest.mark.parametrize("name", ["manifests", "blobs", "tags", "referrers"])
def test_a_source_may_have_the_name_of_an_endpoint(store, name):
    MemorySource({"a": ""}).produce_artifact(store, name=name)
    assert get(store, f"/v2/memory/default/{name}/manifests/latest").status == 200
    assert get(store, f"/v2/memory/default/{name}/tags/list").status == 200


def test_a_damaged_layer_is_an_error_and_its_manifest_is_not(disk):
    artifact = make(disk)
    path = disk.blob_path(artifact.digest)
    path.chmod(0o644)
    path.write_bytes(bytes(artifact.size))
    assert error(get(disk, f"{BASE}/blobs/{artifact.digest}")) == (500, "UNKNOWN")
    assert get(disk, f"{BASE}/manifests/latest").status == 200


# --- what other tools attach -----------------------------------------------------------------------------------------


def layout(store):
    store.flush()
    return LayoutRepository(str(store.path), DEFAULT_LIMITS, Operation(None))


def attach(store, subject, *, kind="application/vnd.example.sbom", data=b"{}", tag=None, media_type=MANIFEST):
    """As oras and cosign do to an image layout."""
    import contextlib
    import io

    blob = Descriptor.of(data, "application/json")
    config = Descriptor.of(b"{}", "application/vnd.oci.empty.v1+json")
    manifest = Manifest(
        config=config,
        layers=(blob,),
        subject=subject,
        artifact_type=kind,
        annotations={"org.example.by": "somebody else"},
    )
    repository = layout(store)
    for descriptor, content in ((blob, data), (config, b"{}")):
        repository.push(descriptor, lambda content=content: contextlib.nullcontext(io.BytesIO(content)))
    encoded = manifest.encode()
    descriptor = Descriptor.of(encoded, media_type)
    repository.push_document(Document(descriptor, encoded), tag=tag)
    return descriptor, blob


def subject_of(artifact):
    return Descriptor(media_type=MANIFEST, digest=artifact.manifest, size=100)


def referrers(store, digest, query=""):
    answer = get(store, f"{BASE}/referrers/{digest}{query}")
    assert (answer.status, answer.headers["content-type"]) == (200, INDEX)
    return json.loads(answer.body)["manifests"], answer.headers


def test_without_referrers_the_list_is_empty(store):
    """Never 404, which would mean that this registry does not know about referrers."""
    artifact = make(store)
    assert referrers(store, artifact.manifest)[0] == []
    assert referrers(store, f"sha256:{'0' * 64}")[0] == []


def test_what_is_attached_to_an_artifact_is_found_and_pulled(disk):
    artifact = make(disk)
    attached, blob = attach(disk, subject_of(artifact))
    application = app(disk)
    [found], _ = referrers(disk, artifact.manifest)
    assert found["digest"] == str(attached.digest)
    assert found["artifactType"] == "application/vnd.example.sbom"
    assert found["annotations"] == {"org.example.by": "somebody else"}
    answer = call(application, "GET", f"{BASE}/manifests/{attached.digest}")
    assert (answer.status, answer.headers["content-type"]) == (200, MANIFEST)
    assert Digest.of(answer.body) == attached.digest
    assert call(application, "GET", f"{BASE}/blobs/{blob.digest}").body == b"{}"


def test_referrers_are_chosen_by_type(disk):
    artifact = make(disk)
    attach(disk, subject_of(artifact))
    signature, _ = attach(disk, subject_of(artifact), kind="application/vnd.example.signature", data=b"[]")
    found, headers = referrers(disk, artifact.manifest, "?artifactType=application/vnd.example.signature")
    assert [item["digest"] for item in found] == [str(signature.digest)]
    assert headers["oci-filters-applied"] == "artifactType"
    assert len(referrers(disk, artifact.manifest)[0]) == 2


def test_referrers_of_referrers_belong_to_the_repository_too(disk):
    """An SBOM, and its signature."""
    artifact = make(disk)
    sbom, _ = attach(disk, subject_of(artifact))
    signature, blob = attach(disk, sbom, kind="application/vnd.example.signature", data=b"signed")
    assert [item["digest"] for item in referrers(disk, sbom.digest)[0]] == [str(signature.digest)]
    assert get(disk, f"{BASE}/manifests/{signature.digest}").status == 200
    assert get(disk, f"{BASE}/blobs/{blob.digest}").body == b"signed"


def test_cosigns_tags_are_served_where_they_belong(disk):
    artifact = make(disk)
    other = MemorySource({"other": ""}).produce_artifact(disk, name="other")
    tag = f"sha256-{artifact.manifest.hex}.sig"
    signature, _ = attach(disk, None, tag=tag)
    attach(disk, None, tag="unrelated", data=b"unrelated")
    assert get(disk, f"{BASE}/manifests/{tag}").headers["docker-content-digest"] == str(signature.digest)
    assert tag in tags(disk)
    assert "unrelated" not in tags(disk)
    assert get(disk, f"/v2/memory/default/other/manifests/{tag}").status == 404
    assert other.manifest != artifact.manifest


def test_an_index_that_is_attached_brings_its_manifests(disk):
    artifact = make(disk)
    child, blob = attach(disk, None, data=b"child")
    index = Index(manifests=(child,), subject=subject_of(artifact), artifact_type="application/vnd.example.index")
    encoded = index.encode()
    layout(disk).push_document(Document(Descriptor.of(encoded, INDEX), encoded))
    answer = get(disk, f"{BASE}/manifests/{Digest.of(encoded)}")
    assert (answer.body, answer.headers["content-type"]) == (encoded, INDEX)
    assert get(disk, f"{BASE}/manifests/{child.digest}").status == 200
    assert get(disk, f"{BASE}/blobs/{blob.digest}").body == b"child"


def test_what_belongs_to_another_source_stays_there(disk):
    artifact = make(disk)
    MemorySource({"other": ""}).produce_artifact(disk, name="other")
    attached, blob = attach(disk, subject_of(artifact))
    for what in (f"manifests/{attached.digest}", f"blobs/{blob.digest}"):
        assert get(disk, f"/v2/memory/default/other/{what}").status == 404


def test_what_is_attached_later_is_seen(disk):
    artifact = make(disk)
    application = app(disk)
    target = f"{BASE}/referrers/{artifact.manifest}"
    assert json.loads(call(application, "GET", target).body)["manifests"] == []
    attach(disk, subject_of(artifact))
    assert len(json.loads(call(application, "GET", target).body)["manifests"]) == 1


def test_what_cannot_be_read_of_what_others_attached_keeps_nothing_else_away(disk, caplog):
    artifact = make(disk)
    broken, _ = attach(disk, subject_of(artifact))
    whole, _ = attach(disk, subject_of(artifact), data=b"whole")
    path = disk.blob_path(broken.digest)
    path.chmod(0o644)
    path.write_bytes(b"broken")
    assert [item["digest"] for item in referrers(disk, artifact.manifest)[0]] == [str(whole.digest)]
    assert "is not served" in caplog.text


def test_a_blob_that_others_attached_is_proven_as_ours_are(disk):
    artifact = make(disk)
    _, blob = attach(disk, subject_of(artifact), data=b"signature")
    path = disk.blob_path(blob.digest)
    path.chmod(0o644)
    path.write_bytes(b"SIGNATURE")
    assert error(get(disk, f"{BASE}/blobs/{blob.digest}")) == (500, "UNKNOWN")


def test_a_damaged_index_leaves_the_sources_where_they_are(disk):
    """`index.json` only lists; the histories are the truth."""
    make(disk)
    disk.flush()
    (disk.path / "index.json").write_bytes(b"{")
    assert get(disk, f"{BASE}/manifests/latest").status == 200
    (disk.path / "index.json").unlink()
    assert get(disk, f"{BASE}/manifests/latest").status == 200


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_an_index_that_is_no_file_is_not_read(disk, tmp_path, kind):
    """A pipe would have every request wait for ever."""
    make(disk)
    index = disk.path / "index.json"
    elsewhere = index.rename(tmp_path / "elsewhere")
    if kind == "link":
        index.symlink_to(elsewhere)
    else:
        os.mkfifo(index)
    assert get(disk, f"{BASE}/manifests/latest").status == 200
    elsewhere.replace(index)  # or the store complains when the process ends


def test_a_manifest_that_is_not_what_the_history_says_is_not_served(disk, caplog):
    """As after a change of what manifests are made of; a registry's client would call it corrupt."""
    artifact = make(disk)
    record = disk.path / "sources" / "memory" / "default" / "app.json"
    other = "sha256:" + "0" * 64
    record.write_bytes(record.read_bytes().replace(str(artifact.manifest).encode(), other.encode()))
    assert error(get(disk, f"{BASE}/manifests/latest")) == (500, "UNKNOWN")
    assert f"not {other}" in caplog.text
    assert get(disk, "/memory/default/app/latest").status == 200


def test_what_an_earlier_artifact_has_is_found_too(store):
    """Not only what the current one has, which is looked at first."""
    first = make(store, "one")
    make(store, "two")
    config = json.loads(get(store, f"{BASE}/manifests/{first.manifest}").body)["config"]["digest"]
    for what in (f"manifests/{first.revision.digest.hex}", f"blobs/{first.digest}", f"blobs/{config}"):
        assert get(store, f"{BASE}/{what}").status == 200


def test_a_repository_is_named_as_its_source(store):
    key = SourceKey("memory", "default", "app")
    make(store)
    assert get(store, f"/v2/{key}/tags/list").status == 200

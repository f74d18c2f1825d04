"""Indexes of indexes: what is chosen of them, what is copied with them, and how much of them is read at all."""

import json

import pytest

from fluxsrc.errors import ConfigurationError, LimitExceededError, RemoteProtocolError, RevisionNotFoundError
from fluxsrc.limits import Limits
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, OCISource, candidates
from fluxsrc.oci.manifest import INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE
from fluxsrc.oci.publish import promote
from fluxsrc.oci.pushing import push
from fluxsrc.stores import MemoryStore
from fluxsrc.testing.registry import Registry

ACCESS = Access(insecure=True)


class Shelf:
    """Puts manifests and indexes into one repository of a registry, and reads it as a source."""

    def __init__(self, registry):
        self.registry = registry
        self.name = f"oci://{registry.host}/app"

    def manifest(self, text):
        """The digest of an artifact whose one file says `text`."""
        return str(push(MemorySource({"says": text}), f"{self.name}:{text}", access=ACCESS).digest)

    def entry(self, digest, platform=None, **more):
        media_type, data = self.registry.repository("app").manifests[digest]
        entry = {"mediaType": media_type, "digest": digest, "size": len(data), **more}
        if platform is not None:
            entry["platform"] = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
        return entry

    def index(self, *entries, tag=None, **more):
        """The digest of an index of these."""
        value = {"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": list(entries), **more}
        return self.registry.put_document("app", tag, json.dumps(value).encode(), INDEX_MEDIA_TYPE)

    def nested(self, depth):
        """An index under the tag `deep`, with one manifest as many indexes below it."""
        entry = self.entry(self.manifest("bottom"))
        for _ in range(depth):
            entry = self.entry(self.index(entry))
        return self.index(entry, tag="deep")

    def says(self, tag, **options):
        with OCISource(f"{self.name}:{tag}", insecure=True, **options).fetch() as snapshot:
            return next(iter(snapshot.entries())).read().decode()

    def reads(self):
        """How many manifests and indexes were asked for since this was asked last."""
        count = self.registry.count(r"^GET .*/manifests/")
        self.registry.requests.clear()
        return count


@pytest.fixture
def shelf():
    with Registry() as registry:
        yield Shelf(registry)


def test_the_only_manifest_is_found_however_deep_it_is(shelf):
    digest = shelf.nested(3)
    assert shelf.says("deep") == "bottom"
    artifact = OCISource(f"{shelf.name}:deep", insecure=True).produce_artifact(MemoryStore())
    assert str(artifact.revision) == f"deep@{digest}"


def test_a_platform_is_found_in_an_index_that_names_none_and_in_one_that_is_for_it(shelf):
    arm, intel, windows = (shelf.manifest(text) for text in ("arm", "intel", "windows"))
    plain = shelf.index(shelf.entry(arm, "linux/arm64"), shelf.entry(intel, "linux/amd64"))
    whole = shelf.index(shelf.entry(windows))
    shelf.index(shelf.entry(plain), shelf.entry(whole, "windows/amd64"), tag="v1")
    assert shelf.says("v1", platform="linux/arm64") == "arm"
    assert shelf.says("v1", platform="linux/amd64") == "intel"
    assert shelf.says("v1", platform="windows/amd64") == "windows"


def test_an_index_for_another_platform_is_not_looked_into(shelf):
    other = shelf.index(shelf.entry(shelf.manifest("wrong"), "linux/amd64"))
    right = shelf.index(shelf.entry(shelf.manifest("right")))
    shelf.index(shelf.entry(other, "windows/amd64"), shelf.entry(right, "linux/amd64"), tag="v1")
    shelf.reads()
    assert shelf.says("v1", platform="linux/amd64") == "right"
    assert shelf.reads() == 3  # the index, the index in it, the manifest


def test_what_an_index_lists_itself_goes_first_and_spares_the_rest(shelf):
    inner = shelf.index(shelf.entry(shelf.manifest("inner"), "linux/amd64"))
    shelf.index(shelf.entry(inner), shelf.entry(shelf.manifest("outer"), "linux/amd64"), tag="v1")
    shelf.reads()
    assert shelf.says("v1", platform="linux/amd64") == "outer"
    assert shelf.reads() == 2


def test_the_choices_of_all_levels_are_named(shelf):
    one, other = shelf.manifest("one"), shelf.manifest("other")
    inner = shelf.index(shelf.entry(other, "linux/arm64"), shelf.entry(one, "unknown/unknown"))
    windows = shelf.index(shelf.entry(one))
    shelf.index(shelf.entry(one, "linux/amd64"), shelf.entry(inner), shelf.entry(windows, "windows/amd64"), tag="v1")
    with pytest.raises(ConfigurationError, match="an index of linux/amd64, linux/arm64, windows/amd64"):
        shelf.says("v1")
    with pytest.raises(RevisionNotFoundError, match="only linux/amd64, windows/amd64, linux/arm64"):
        shelf.says("v1", platform="linux/riscv64")


def test_attestations_of_unknown_platform_are_chosen_on_no_level(shelf):
    """As BuildKit lists them, here also as an index of them."""
    proof = shelf.manifest("proof")
    inner = shelf.index(shelf.entry(shelf.manifest("image"), "linux/amd64"), shelf.entry(proof, "unknown/unknown"))
    proofs = shelf.index(shelf.entry(proof))
    shelf.index(shelf.entry(inner), shelf.entry(proofs, "unknown/unknown"), tag="v1")
    assert shelf.says("v1") == shelf.says("v1", platform="linux/amd64") == "image"


def test_annotations_of_all_levels_count_the_outer_ones_first(shelf):
    bottom = shelf.entry(shelf.manifest("bottom"))
    inner = shelf.index(bottom, annotations={"who": "inner", "inner": "1"})
    shelf.index(shelf.entry(inner), tag="v1", annotations={"who": "outer", "outer": "1"})
    artifact = OCISource(f"{shelf.name}:v1", insecure=True).produce_artifact(MemoryStore())
    assert artifact.annotations.items() >= {"who": "outer", "inner": "1", "outer": "1"}.items()


def test_one_index_deeper_than_allowed_is_refused_and_the_limit_named(shelf):
    shelf.nested(5)
    with pytest.raises(LimitExceededError, match="max_index_depth"):
        shelf.says("deep")
    assert shelf.says("deep", limits=Limits(max_index_depth=5)) == "bottom"
    with pytest.raises(LimitExceededError, match="max_index_depth"):
        promote(f"{shelf.name}:deep", f"oci://{shelf.registry.host}/copy", access=ACCESS)


@pytest.mark.parametrize("nested", [False, True])
def test_more_manifests_than_allowed_are_refused_wherever_they_are_listed(shelf, nested):
    manifests = [shelf.entry(shelf.manifest(text)) for text in ("a", "b", "c")]
    entries = [shelf.entry(shelf.index(each)) for each in manifests] if nested else manifests
    shelf.index(*entries, tag="v1")
    limits = Limits(max_manifests=2)
    with pytest.raises(LimitExceededError, match="max_manifests"):
        shelf.says("v1", limits=limits)
    with pytest.raises(LimitExceededError, match="max_manifests"):
        promote(f"{shelf.name}:v1", f"oci://{shelf.registry.host}/copy", access=Access(insecure=True, limits=limits))


def test_an_index_listed_many_times_on_every_level_is_read_once(shelf):
    """Otherwise five small documents would be ten thousand requests."""
    entry = shelf.entry(shelf.manifest("bottom"))
    for _ in range(4):
        entry = shelf.entry(shelf.index(*({**entry, "annotations": {"n": str(n)}} for n in range(10))))
    shelf.index(entry, tag="v1")
    shelf.reads()
    assert shelf.says("v1") == "bottom"
    assert shelf.reads() == 6
    copied = promote(f"{shelf.name}:v1", f"oci://{shelf.registry.host}/copy:v1", referrers=True, access=ACCESS)
    asked = [
        request.line for request in shelf.registry.requests if request.line.startswith("GET /v2/app/manifests/sha256:")
    ]
    assert len(asked) <= 2 * 6  # once for the copy, once for the referrers
    assert copied.digest == OCISource(f"{shelf.name}:v1", insecure=True).resolve_revision().digest


@pytest.mark.parametrize("there", ["oci://{host}/copy", "oci-layout:{path}"])
def test_all_that_an_index_of_indexes_leads_to_is_promoted_with_what_refers_to_it(shelf, tmp_path, there):
    """Also what is listed beside an index and in it."""
    one, other = shelf.manifest("one"), shelf.manifest("other")
    inner = shelf.index(shelf.entry(other, "linux/arm64"), shelf.entry(one, "linux/amd64"))
    top = shelf.index(shelf.entry(one, "linux/amd64"), shelf.entry(inner), tag="v1")
    sboms = {str(push(MemorySource({"sbom": "1"}), f"{shelf.name}:{digest.replace(':', '-')}.sbom", access=ACCESS).digest)
             for digest in (inner, other)}  # fmt: skip
    there = there.format(host=shelf.registry.host, path=tmp_path / "layout")
    copied = promote(f"{shelf.name}:v1", f"{there}:v1", referrers=True, access=ACCESS)
    assert str(copied.digest) == top
    assert {str(digest) for digest in copied.referrers} == sboms
    shelf.registry.repository("app").manifests.clear()
    for platform, text in (("linux/amd64", "one"), ("linux/arm64", "other")):
        with OCISource(f"{there}:v1", insecure=True, platform=platform).fetch() as snapshot:
            assert [entry.read() for entry in snapshot.entries()] == [text.encode()]


def test_a_rollback_to_an_index_of_indexes_says_what_is_gone_from_its_depths(shelf):
    lost, kept = shelf.manifest("lost"), shelf.manifest("kept")
    inner = shelf.index(shelf.entry(lost, "linux/arm64"), shelf.entry(kept, "linux/amd64"))
    shelf.index(shelf.entry(inner), tag="v1")
    shelf.manifest("now")
    del shelf.registry.repository("app").manifests[lost]
    shelf.registry.repository("app").tags.pop("lost")
    (found,) = (each for each in candidates(f"{shelf.name}:now", access=ACCESS) if "v1" in each.tags)
    assert [str(digest) for digest in found.missing] == [lost]


@pytest.mark.parametrize(("says", "is_"), [(MANIFEST_MEDIA_TYPE, "index"), (INDEX_MEDIA_TYPE, "manifest")])
def test_an_entry_that_lies_about_what_it_is_is_refused(shelf, says, is_):
    bottom = shelf.manifest("bottom")
    entry = shelf.entry(shelf.index(shelf.entry(bottom)) if is_ == "index" else bottom)
    shelf.index(entry | {"mediaType": says}, tag="v1")
    with pytest.raises(RemoteProtocolError):
        shelf.says("v1")

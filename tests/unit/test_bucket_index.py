"""The etag index: Flux's revision, order, and a small place for many objects."""

import hashlib
import tracemalloc

import pytest

from fluxsrc.bucket import index
from fluxsrc.bucket.index import IndexBuilder, index_digest
from fluxsrc.bucket.protocol import BucketObject
from fluxsrc.errors import SourceChangedError


def built(*pages, **options):
    builder = IndexBuilder(**options)
    for page in pages:
        builder.add([BucketObject(key, len(etag), etag) for key, etag in page])
    return builder.build()


IGNORED, INCLUDED = "f08907038338288420ae7dc2d30c0497", "5a4bc7048b3301f677fe15b8678be2f8"
GOLDEN = {
    "b4c2a60ce44b67f5b659a95ce4e4cc9e2a86baf13afb72bd397c5384cbc0e479": {
        "test.txt": "098f6bcd4621d373cade4e832627b4f6"
    },
    "9fc2ddfc4a6f44e6c3efee40af36578b9e76d4d930eaf384b8435a0aa0bf7a0f": {"included/file.txt": INCLUDED},
    "117f586dc64cfc559329e21d286edcbb94cb6b1581517eaddc0ab5292b470cd5": {
        "included/file.txt": INCLUDED,
        "ignored/file.txt": IGNORED,
    },
}
"""The revisions in the tests of Flux's bucket controller."""


@pytest.mark.parametrize("golden", GOLDEN)
def test_a_revision_is_flux_s(golden):
    """The golden values of Flux's own tests."""
    etags = list(GOLDEN[golden].items())
    assert index_digest(etags).hex == golden
    assert built(sorted(etags)).digest.hex == golden


def test_a_revision_has_this_form():
    """A line for each object, sorted."""
    assert index_digest([("b", "2"), ("a", "1")]).hex == hashlib.sha256(b"a 1\nb 2\n").hexdigest()


def test_an_empty_bucket_has_the_digest_of_nothing():
    assert built().digest.hex == hashlib.sha256(b"").hexdigest()


def test_keys_are_sorted_by_their_utf8_bytes():
    """Not by UTF-16 units, where an emoji comes before U+FF5E."""
    etags = [("\uff5e", "1"), ("\U0001f680", "2")]
    assert index_digest(reversed(etags)).hex == hashlib.sha256("\uff5e 1\n\U0001f680 2\n".encode()).hexdigest()


def test_what_a_service_does_not_sort_is_sorted():
    """In the index and in its digest; a hierarchical namespace lists `a/b` before `a-b`."""
    index = built([("a/b", "1"), ("a/c", "2"), ("a-b", "3")], [("z", "4"), ("b", "5")])
    assert [item.key for item in index] == ["a-b", "a/b", "a/c", "b", "z"]
    assert index.digest == index_digest([("a/b", "1"), ("a/c", "2"), ("a-b", "3"), ("z", "4"), ("b", "5")])


def test_an_object_that_two_pages_show_is_there_once():
    index = built([("a", "1"), ("b", "2")], [("b", "2"), ("c", "3")])
    assert [item.key for item in index] == ["a", "b", "c"]


def test_an_object_that_two_pages_show_differently_changed_meanwhile():
    with pytest.raises(SourceChangedError, match="b"):
        built([("a", "1"), ("b", "2")], [("b", "other"), ("c", "3")])


def test_unhashed_keys_are_listed_and_no_part_of_the_revision():
    index = built([(".sourceignore", "1"), ("a", "2")], unhashed=frozenset({".sourceignore"}))
    assert [item.key for item in index] == [".sourceignore", "a"]
    assert index.digest == index_digest([("a", "2")])


def test_all_that_is_known_of_an_object_comes_back():
    item = BucketObject("k \n\0 \udc80 \U0001f680", 7, "e", "md5:00", "3")
    builder = IndexBuilder()
    builder.add([item])
    assert list(builder.build()) == [item]
    assert builder.build().size == 7


def test_filtering_makes_the_index_of_what_is_kept():
    index = built([("a", "1"), ("b", "2"), ("c", "3")]).filter(lambda item: item.key != "b")
    assert [item.key for item in index] == ["a", "c"]
    assert index.digest == index_digest([("a", "1"), ("c", "3")])


def test_an_index_can_be_read_from_a_key_on(monkeypatch):
    """Kept as it came, or compressed; the key itself need not be there."""
    monkeypatch.setattr(index, "_LOOSE", 4)
    builder = IndexBuilder()
    for start in range(0, 20, 4):
        builder.add([BucketObject(f"{n:02}", n, "e") for n in range(start, start + 4)])
    built = builder.build()
    for n in range(21):
        assert [item.size for item in built.since(f"{n:02}")] == list(range(n, 20))
        assert [item.size for item in built.since(f"{n:02}x")] == list(range(n + 1, 20))


def test_an_object_costs_less_than_a_hundred_bytes():
    """So a million stay below a hundred MiB, etags that nothing compresses and pages that are kept as they are included."""
    builder = IndexBuilder()
    tracemalloc.start()
    for page in range(100):
        names = [f"datasets/2026/part-{page:05}/shard-{n:05}.parquet" for n in range(1000)]
        builder.add([BucketObject(name, 1, hashlib.sha256(name.encode()).hexdigest()[:32]) for name in names])
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept / 100_000 < 100

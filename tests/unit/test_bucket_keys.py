"""Hostile keys: each has a policy, and nothing is overwritten silently."""

import pytest

from fluxsrc.bucket import AmbiguousKeys, UnsafeKeys
from fluxsrc.bucket.keys import screen
from fluxsrc.bucket.protocol import BucketObject
from fluxsrc.errors import ContentError, LimitExceededError, UnsafeEntryError
from fluxsrc.limits import DEFAULT_LIMITS, Limits

UNSAFE = ["../x", "a/../x", "..", ".", "./x", "/x", "a//b", "a/", "a\\b", "nul\0", "new\nline", "\udc80", "x" * 5000]


def screened(*keys, strip="", limits=DEFAULT_LIMITS, size=1, **options):
    items = [BucketObject(key, size, "e") for key in sorted(keys)]
    found = screen(lambda: items, strip=strip, limits=limits, **options)
    return [item.key for item in items if item.key not in found.dropped and not item.key.endswith("/")], found


@pytest.mark.parametrize("key", UNSAFE)
def test_an_unsafe_key_is_an_error(key):
    with pytest.raises(ContentError) as caught:
        screened("ok", key)
    assert caught.value.hint


@pytest.mark.parametrize("key", UNSAFE)
def test_an_unsafe_key_is_skipped_and_reported_on_request(key):
    kept, found = screened("ok", key, unsafe=UnsafeKeys.SKIP)
    assert kept == ["ok"]
    assert [(skipped.path, skipped.reason) for skipped in found.skipped] == [(key, "unsafe-path")]
    assert found.files == 1


def test_a_directory_marker_is_skipped_without_a_word():
    _, found = screened("a/", "a/b/", size=0)
    assert (found.skipped, found.files) == ((), 0)


@pytest.mark.parametrize("keys", [("a", "a/b"), ("a", "a-b", "a.c", "a/b"), ("d/a", "d/a b", "d/a/b/c")])
def test_a_file_cannot_be_a_directory_as_well(keys):
    """However many names come between them."""
    with pytest.raises(UnsafeEntryError, match="is an object, so"):
        screened(*keys)
    kept, found = screened(*keys, unsafe=UnsafeKeys.SKIP)
    assert kept == list(keys[:-1])
    assert found.skipped[0].path == keys[-1]


def test_names_that_only_begin_alike_do_not_collide():
    keys = ("a", "a-b/c", "a.c", "ab/c", "b")
    assert screened(*keys)[0] == list(keys)


@pytest.mark.parametrize(
    ("one", "other"),
    [("README", "readme"), ("\u00e9.txt", "e\u0301.txt"), ("stra\u00dfe", "strasse"), ("\u212b", "\u00e5")],
    ids=["case", "normal form", "full case folding", "both"],
)
def test_names_that_some_systems_cannot_tell_apart_are_an_error_or_skipped_or_kept(one, other):
    first, second = sorted((one, other))
    with pytest.raises(UnsafeEntryError, match="the same file as"):
        screened(one, "x", other)
    kept, found = screened(one, other, ambiguous=AmbiguousKeys.SKIP)
    assert kept == [first]
    assert [(skipped.path, skipped.reason) for skipped in found.skipped] == [(second, "ambiguous-path")]
    assert screened(one, other, ambiguous=AmbiguousKeys.KEEP)[0] == [first, second]


def test_a_stripped_prefix_is_no_part_of_the_path():
    kept, found = screened("../in/a", "../in/b//c", strip="../in/", unsafe=UnsafeKeys.SKIP)
    assert kept == ["../in/a"]
    assert [skipped.path for skipped in found.skipped] == ["b//c"]


def test_a_path_over_a_limit_names_the_limit():
    with pytest.raises(LimitExceededError) as caught:
        screened("a/b/c", limits=Limits(max_path_depth=2))
    assert caught.value.limit == "max_path_depth"

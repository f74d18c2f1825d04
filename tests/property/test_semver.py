"""Laws of versions, ranges and tag selection."""

import itertools
import pickle

from hypothesis import assume, given
from hypothesis import strategies as st
from semver import Version

from fluxsrc.errors import ConfigurationError
from fluxsrc.semver import Range, TagPattern, parse_version, precedence, select_tag

releases = st.sampled_from([*itertools.product(range(5), repeat=3)])
# Few, and drawn at once: what makes the laws hard to keep is how they are put together.
identifiers = ["0", "1", "2", "9", "10", "12", "a", "b", "ab", "-", "--", "-1", "a-b", "b0", "a1-", "1a"]
prereleases = st.sampled_from(
    [f"-{'.'.join(some)}" for length in (1, 2, 3) for some in itertools.product(identifiers, repeat=length)]
)
builds = st.sampled_from(["", "", "+b", "+b.01"])


def dotted(release):
    return ".".join(map(str, release))


def make_versions(prereleases):
    return st.builds("{}{}{}{}".format, st.sampled_from(["", "v"]), releases.map(dotted), prereleases, builds)


def make_bounds(prereleases, part):
    parts = st.sampled_from([".".join(some) for length in (1, 2, 3) for some in itertools.product(part, repeat=length)])
    return st.builds("{}{}{}".format, st.sampled_from(["", "v"]), parts, prereleases)


def make_ranges(bounds):
    comparators = st.builds("{}{}{}".format, operators, spaces, bounds)
    hyphens = st.builds("{} - {}".format, bounds, bounds)
    # Masterminds swallows the space before a hyphen range and takes `||` for a digit of its lower bound: so a comma
    # comes before one within a group, and a space between `||` and one.
    rest = st.one_of(st.builds("{}{}".format, joints, comparators), st.builds(", {}".format, hyphens))
    groups = st.builds("{}{}".format, st.one_of(comparators, hyphens), st.lists(rest, max_size=2).map("".join))
    return groups, st.builds(str.join, st.sampled_from([" || ", "||\n"]), st.lists(groups, min_size=1, max_size=3))


operators = st.sampled_from(["", "=", "!=", ">", "<", ">=", "=>", "<=", "=<", "~", "~>", "^"])
spaces = st.sampled_from(["", " ", "  ", "\t"])
joints = st.sampled_from([" ", ",", " , ", "\n"])
none = st.just("")
versions, released = make_versions(st.one_of(none, prereleases)), make_versions(none)
written, written_or_wild = "01234", "01234xX*"
bounds, plain_bounds = make_bounds(st.one_of(none, prereleases), written_or_wild), make_bounds(none, written_or_wild)
written_bounds = make_bounds(none, written)
comparators = st.builds("{}{}{}".format, operators, spaces, bounds)
(groups, ranges), (_, plain_ranges) = make_ranges(bounds), make_ranges(plain_bounds)


@given(versions, versions)
def test_precedence_agrees_with_python_semver_on_ordinary_versions(left, right):
    one, other = (Version.parse(text.removeprefix("v")) for text in (left, right))
    ours = precedence(parse_version(left)), precedence(parse_version(right))
    assert (ours[0] > ours[1]) - (ours[0] < ours[1]) == one.compare(other)


@given(versions)
def test_a_version_is_read_back_from_its_text(text):
    version = parse_version(text)
    assert parse_version(str(version)) == version
    assert text.removeprefix("v") == str(version)


@given(st.one_of(st.text(), st.text("01v.xX*-+ ,|<>=!~^a\t", max_size=30)), st.text("01v.-+a_", max_size=12))
def test_any_text_is_a_range_or_a_configuration_error(text, version):
    try:
        wanted = Range.parse(text)
    except ConfigurationError:
        return
    assert wanted.matches(version) <= (parse_version(version) is not None)


@given(ranges)
def test_ranges_round_trip_through_text_and_pickle(text):
    wanted = Range.parse(text)
    assert str(wanted) == text
    assert Range.parse(str(wanted)) == pickle.loads(pickle.dumps(wanted)) == wanted


@given(ranges, st.lists(versions, max_size=12))
def test_best_is_the_highest_of_what_matches(text, candidates):
    wanted = Range.parse(text)
    matching = [version for version in candidates if wanted.matches(version)]
    best = wanted.best(candidates)
    expected = max(matching, key=lambda version: precedence(parse_version(version)), default=None)
    assert best == expected


@given(groups, groups, versions)
def test_alternatives_are_a_union(left, right, version):
    either = Range.parse(f"{left} || {right}").matches(version)
    assert either == (Range.parse(left).matches(version) or Range.parse(right).matches(version))


@given(comparators, comparators, released)
def test_a_group_accepts_the_releases_that_each_part_accepts(left, right, version):
    both = Range.parse(f"{left}, {right}").matches(version)
    assert both == (Range.parse(left).matches(version) and Range.parse(right).matches(version))


@given(plain_ranges, make_versions(prereleases))
def test_prereleases_match_only_where_the_range_names_one(text, version):
    assert not Range.parse(text).matches(version)


@given(bounds, bounds, versions)
def test_a_hyphen_range_is_two_inclusive_bounds(low, high, version):
    assert Range.parse(f"{low} - {high}").matches(version) == Range.parse(f">={low} <={high}").matches(version)


@given(releases, versions)
def test_caret_allows_what_leaves_the_first_nonzero_part(release, version):
    major, minor, patch = release
    if major:
        above = dotted((major + 1, 0, 0))
    elif minor:
        above = dotted((0, minor + 1, 0))
    else:
        above = dotted((0, 0, patch + 1))
    spelled = Range.parse(f">={dotted(release)} <{above}")
    assert Range.parse(f"^{dotted(release)}").matches(version) == spelled.matches(version)


@given(releases, versions)
def test_tilde_allows_patches(release, version):
    assume(any(release))  # `~0.0.0` is everything
    major, minor, _ = release
    spelled = Range.parse(f">={dotted(release)} <{dotted((major, minor + 1, 0))}")
    assert Range.parse(f"~{dotted(release)}").matches(version) == spelled.matches(version)


@given(written_bounds, released)
def test_not_equal_is_the_complement_of_equal_for_written_bounds(bound, version):
    # `=0.0` and such compare like `~`, which agrees here; only `*` (not written) and prereleases part the two.
    assert Range.parse(f"!={bound}").matches(version) != Range.parse(f"={bound}").matches(version)


@given(ranges, st.lists(versions, max_size=8), st.randoms(use_true_random=False))
def test_a_selected_tag_does_not_depend_on_the_order_of_listing(text, candidates, random):
    wanted, pattern = Range.parse(text), TagPattern.parse("^app/(.+)$")
    tags = [f"app/{version}" for version in candidates] + [f"other/{version}" for version in candidates]
    first = select_tag(tags, wanted, pattern)
    random.shuffle(tags)
    assert select_tag(tags, wanted, pattern) == first
    assert (first is None) == (wanted.best(candidates) is None)

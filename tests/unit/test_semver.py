"""Ranges, versions and tags against Masterminds/semver v3.5.0 and Flux's version rule."""

import gzip
import json
import pickle
from itertools import pairwise
from pathlib import Path

import pytest

from fluxsrc.errors import ConfigurationError
from fluxsrc.semver import (
    MAX_RANGE_GROUPS,
    MAX_RANGE_LENGTH,
    MAX_TAG_LENGTH,
    MAX_VERSION_LENGTH,
    Range,
    SelectedTag,
    TagPattern,
    parse_version,
    precedence,
    select_tag,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "semver.jsonl.gz"
BEYOND_64_BITS = str(2**64)


def rows():
    with gzip.open(VECTORS, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def verdicts(constraint, versions):
    """Say about a row what the vectors say, with our code."""
    parsed = [parse_version(version) is not None for version in versions]
    try:
        wanted = Range.parse(constraint)
    except ConfigurationError:
        return {"valid": False, "parsed": parsed, "match": [False] * len(versions), "best": ""}
    match = [wanted.matches(version) for version in versions]
    return {"valid": True, "parsed": parsed, "match": match, "best": wanted.best(versions) or ""}


def test_every_row_made_by_masterminds_and_flux_is_agreed_with():
    disagreements = []
    for row in (all_rows := rows()):
        ours = verdicts(row["constraint"], row["versions"])
        if ours != {key: row[key] for key in ours}:
            disagreements.append((row, ours))
    assert len(all_rows) == 2000
    assert disagreements == []


class TestVersions:
    @pytest.mark.parametrize(
        "text",
        [
            *("1.2.3", "v1.2.3", "01.002.0003", "1.2.3-rc.1", "1.2.3+b.1", "1.2.3-0a.-.x-y+01", "v2025.02.03-rc.1"),
            *("1-a.b.c", "1+a.b.c", "1.2-a.b"),  # Flux counts the dots of the whole text
            f"{2**64 - 1}.0.0",
            "0" * 250 + "1.0.0",
            "1.2.3-" + "a" * (MAX_VERSION_LENGTH - 6),
        ],
    )
    def test_what_flux_accepts_is_a_version(self, text):
        assert parse_version(text) is not None

    @pytest.mark.parametrize(
        "text",
        [
            *(
                "",
                "v",
                "1",
                "1.2",
                "v1.2",
                "1.2-a",
                "1.2.3.4",
                "1..3",
                "V1.2.3",
                "vv1.2.3",
                "=1.2.3",
                "latest",
                "1.x.3",
            ),
            *(" 1.2.3", "1.2.3 ", "1.2.3\n", "1.2.3-", "1.2.3+", "1.2.3-a..b", "1.2.3-01", "1.2.3-a.01", "1.2.3_b"),
            *("1.2.3-é", "\u0661.2.3", "\uff11.2.3", "1.2.3\x00"),
            f"{BEYOND_64_BITS}.0.0",
            f"0.0.{BEYOND_64_BITS}",
            "1.2.3-" + "a" * (MAX_VERSION_LENGTH - 5),
        ],
    )
    def test_what_flux_refuses_is_none(self, text):
        assert parse_version(text) is None

    def test_the_value_is_python_semvers_with_padding_and_v_gone(self):
        version = parse_version("v01.2.3-rc.1+b")
        assert version is not None
        assert version.to_tuple() == (1, 2, 3, "rc.1", "b")

    def test_precedence_ranks_versions_as_masterminds_does(self):
        ranked = [
            *("0.0.0-0", "0.0.0", "1.0.0--", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2"),
            *("1.0.0-beta.11", "1.0.0-rc", "1.0.0-rc.18446744073709551615"),
            # Beyond 64 bits a number is text, so it sorts among the letters and by its digits.
            *("1.0.0-rc.18446744073709551616", "1.0.0-rc.9000000000000000000000", "1.0.0-rc.a", "1.0.0", "1.0.1-0"),
            *("1.0.10", "1.2.0", "10.0.0", f"{2**64 - 1}.0.0"),
        ]
        keys = [precedence(parse_version(text)) for text in ranked]
        assert all(low < high for low, high in pairwise(keys))

    def test_build_metadata_and_spelling_do_not_count(self):
        keys = {precedence(parse_version(text)) for text in ("1.2.3", "v1.2.3", "01.2.3+a", "1.2.3+b.1")}
        assert len(keys) == 1


class TestRanges:
    @pytest.mark.parametrize(
        ("constraint", "inside", "outside"),
        [
            ("1.2.3", "1.2.3 v1.2.3 1.2.3+b", "1.2.4 1.2.3-rc"),
            ("=1.2", "1.2.0 1.2.9", "1.3.0 1.1.9"),
            ("1", "1.0.0 1.9.9", "2.0.0 0.9.9"),
            ("*", "0.0.0 9.9.9", "1.0.0-rc"),
            ("x-0", "0.0.0-1 1.0.0-rc", "0.0.0-"),
            ("1.x.7", "1.0.0 1.9.9", "2.0.0"),
            ("x.2.7", "0.0.0 9.0.0", "9.0.0-rc"),
            ("!=1.2.3", "1.2.4 0.1.0", "1.2.3 1.2.3+b 1.2.4-rc"),
            ("!=1.2.x", "1.3.0 2.2.0", "1.2.0 1.2.9"),
            ("!=1.2.x-rc", "1.2.0 1.2.0-beta 1.3.0-rc", "1.2.0-rc 1.2.5-rc"),
            ("!=1", "2.0.0 0.1.0", "1.0.0 1.9.9"),
            ("!=*", "0.0.1 1.0.0", "0.0.0"),
            (">1.2.3", "1.2.4 2.0.0", "1.2.3 1.2.3+b"),
            (">1.2", "1.3.0 2.0.0", "1.2.9"),
            (">1", "2.0.0", "1.9.9"),
            (">*", "0.0.1 1.0.0", "0.0.0"),
            (">=1.2.3-rc", "1.2.3-rc 1.2.3 1.3.0-alpha", "1.2.3-beta"),
            ("<1.2", "1.1.9", "1.2.0 1.2.0-rc"),
            ("<=1.2", "1.2.9 1.1.0", "1.3.0"),
            ("<=1", "1.9.9", "2.0.0"),
            ("<=*", "0.0.9", "0.1.0 1.0.0"),
            ("=<1.2.3", "1.2.3", "1.2.4"),
            ("=>1.2.3", "1.2.3", "1.2.2"),
            ("~1.2.3", "1.2.3 1.2.9", "1.2.2 1.3.0"),
            ("~>1.2", "1.2.0", "1.3.0"),
            ("~1", "1.9.9", "2.0.0"),
            ("~0.0.0", "0.0.0 9.9.9", "9.9.9-rc"),
            ("~0.0", "0.0.9", "0.1.0"),
            ("^1.2.3", "1.2.3 1.9.9", "1.2.2 2.0.0"),
            ("^0.2.3", "0.2.3 0.2.9", "0.3.0"),
            ("^0.0.3", "0.0.3", "0.0.4"),
            ("^0.0", "0.0.9", "0.1.0"),
            ("^0", "0.9.9", "1.0.0"),
            ("^*", "0.0.0", "0.0.1 1.0.0"),
            ("1.2 - 2.3", "1.2.0 2.3.9", "1.1.9 2.4.0"),
            ("1.2 - 2.3.0-rc", "2.2.0-alpha 2.3.0-rc", "2.3.0"),
            ("1||2 - 3", "1.0.0 7.0.0", "0.9.9"),  # `>=1 || 2, <=3`: the hyphen takes `1||2` for its lower bound
            (">=1 <2,!=1.5.x", "1.4.0 1.6.0", "1.5.1 2.0.0"),
            (">=1.0.0-0 || 3.0.0", "3.0.0 1.0.0-rc", "0.9.0"),
            ("3.0.0 || <2.0.0 >1.0.0-0", "1.5.0-rc 3.0.0", "3.0.0-rc"),
            (f">{2**64 - 2}", f"{2**64 - 1}.0.0", f"{2**64 - 2}.9.9"),
        ],
    )
    def test_operators_and_wildcards_mean_what_masterminds_means(self, constraint, inside, outside):
        wanted = Range.parse(constraint)
        assert [version for version in inside.split() if not wanted.matches(version)] == []
        assert [version for version in outside.split() if wanted.matches(version)] == []

    @pytest.mark.parametrize(
        "text",
        [
            *(
                "",
                " ",
                "||",
                "1||",
                "||1",
                "1,",
                ",1",
                "1,,2",
                "1.2.3.4",
                "==1",
                "><1",
                "!1",
                "^^1",
                "= =1",
                ">",
                "latest",
            ),
            *(
                "1.xx",
                "xx",
                "1x",
                "1|2",
                "V1",
                "1.2.3-",
                "1.2.3-01",
                "1.2.3+",
                "1 - 2 - 3",
                "0 1 - 2",
                ">=1 - 2",
                "1-2 -3",
                ">1<2",
            ),
            *("1\v", "1\u00a02", "é", "\uff11", "1;2", "1 & 2", '"1"', BEYOND_64_BITS, f"1.{BEYOND_64_BITS}.x"),
            "1.2.3-" + "a" * (MAX_VERSION_LENGTH - 5),
            "||".join(["1"] * (MAX_RANGE_GROUPS + 1)),
            "1".ljust(MAX_RANGE_LENGTH + 1),
        ],
    )
    def test_what_masterminds_refuses_is_a_configuration_error(self, text):
        with pytest.raises(ConfigurationError):
            Range.parse(text)

    def test_the_limits_themselves_are_allowed(self):
        assert Range.parse("1".ljust(MAX_RANGE_LENGTH)).matches("1.0.0")
        assert Range.parse("||".join(["1"] * MAX_RANGE_GROUPS)).matches("1.0.0")

    def test_the_error_names_the_range_the_broken_alternative_and_the_syntax(self):
        with pytest.raises(ConfigurationError, match=r"'1\.x \|\| latest', at 'latest' \(write for example") as caught:
            Range.parse("1.x || latest")
        assert caught.value.reason == "InvalidConfiguration"

    @pytest.mark.parametrize(
        "text",
        [
            "   1" * 120 + "   !",
            "1 " + "1.1.1-a.a.a+a.a.a , " * 20 + "!",
            "1" + " " * 508 + "-",
            "1.1.1-" + "a." * 240 + "!",
            "|" * 511 + "!",
        ],
    )
    def test_hostile_ranges_are_refused_without_backtracking(self, text):
        """A naive port of the expressions takes exponential time on these; the suite's timeout would tell."""
        with pytest.raises(ConfigurationError):
            Range.parse(text)

    def test_ranges_round_trip_through_text_and_pickle(self):
        wanted = Range.parse(" >=1.2, <2||^3.0.0-rc ")
        copy = pickle.loads(pickle.dumps(wanted))
        assert Range.parse(str(wanted)) == wanted == copy
        assert hash(copy) == hash(wanted)
        assert copy.matches("3.0.0-rc.1")
        assert repr(wanted) == "Range(text=' >=1.2, <2||^3.0.0-rc ')"

    def test_a_parsed_version_need_not_be_parsed_again(self):
        version = parse_version("v1.2.3+b")
        assert version is not None
        assert Range.parse("1.2.3").includes(version)


class TestBest:
    def test_best_is_the_highest_as_written(self):
        versions = ["1.9.0", "v1.10.0", "2.0.0", "latest", "1.11.0-rc"]
        assert Range.parse("^1").best(iter(versions)) == "v1.10.0"

    def test_no_match_is_none(self):
        assert Range.parse("^1").best(["2.0.0", "latest"]) is None
        assert Range.parse("*").best([]) is None

    def test_ties_go_to_the_first_given(self):
        assert Range.parse("*").best(["0.9.0", "1.0.0+b", "1.0.0+a", "v1.0.0"]) == "1.0.0+b"

    def test_the_tie_breaker_decides_and_is_asked_only_about_the_tied(self):
        committed = {"1.0.0+a": 10, "1.0.0+b": 30, "1.0.0+c": 20}
        versions = ["0.9.0", *committed, "latest", "0.1.0+x"]
        assert Range.parse("*").best(versions, tie_break=committed.__getitem__) == "1.0.0+b"

    def test_the_tie_breaker_is_not_asked_about_a_single_winner(self):
        assert Range.parse("*").best(["0.9.0+a", "0.9.0+b", "1.0.0"], tie_break={}.__getitem__) == "1.0.0"


class TestTagPattern:
    @pytest.mark.parametrize(
        ("pattern", "tag", "version"),
        [
            (r"^api/(v.+)$", "api/v1.2.3", "v1.2.3"),
            (r"^(api|web)/(?P<version>.+)$", "web/1.2.3", "1.2.3"),
            (r"-alpine$", "1.2.3-alpine", "1.2.3-alpine"),
            (r"api", "the-api-v1", "the-api-v1"),
            (r"^api/(v.+)$", "web/v1.2.3", None),
            (r"^api(?:/(.+))?$", "api", None),
            (r"^v(\d+)$", "v\u0661", None),
        ],
    )
    def test_the_version_is_the_named_group_the_first_group_or_the_tag(self, pattern, tag, version):
        assert TagPattern.parse(pattern).extract(tag) == version

    def test_tags_above_the_limit_never_match(self):
        pattern = TagPattern.parse("a+")
        assert pattern.extract("a" * MAX_TAG_LENGTH) is not None
        assert pattern.extract("a" * (MAX_TAG_LENGTH + 1)) is None

    def test_a_broken_expression_is_an_error_that_shows_the_position(self):
        with pytest.raises(ConfigurationError, match=r"unterminated subpattern at position 5, before '\(v\.\+'"):
            TagPattern.parse("^api/(v.+")

    @pytest.mark.parametrize("text", ["a{99999999999999999999}", "(" * 2000 + ")" * 2000])
    def test_an_expression_that_breaks_the_compiler_is_a_configuration_error(self, text):
        with pytest.raises(ConfigurationError, match="tag pattern"):
            TagPattern.parse(text)

    def test_patterns_round_trip_through_text_and_pickle(self):
        pattern = TagPattern.parse("^api/(.+)$")
        copy = pickle.loads(pickle.dumps(pattern))
        assert TagPattern.parse(str(pattern)) == pattern == copy
        assert copy.extract("api/1.2.3") == "1.2.3"


class TestSelectTag:
    def test_a_component_of_a_monorepo_is_selected_by_its_own_versions(self):
        tags = ["api/v1.2.3", "api/v1.10.0", "api/v2.0.0-rc.1", "web/v9.0.0", "v8.0.0", "latest"]
        selected = select_tag(tags, Range.parse(">=1"), TagPattern.parse("^api/(.+)$"))
        assert selected == SelectedTag("api/v1.10.0", "v1.10.0")

    def test_without_a_pattern_the_tag_is_the_version(self):
        assert select_tag(["v1.0.0", "api/v2.0.0"], Range.parse("*")) == ("v1.0.0", "v1.0.0")

    def test_no_match_is_none(self):
        assert select_tag(["v1.0.0"], Range.parse("^2")) is None

    def test_underscores_are_plus_only_for_helm_and_the_tag_stays_as_listed(self):
        tags = ["1.2.3_build.5", "1.0.0"]
        assert select_tag(tags, Range.parse("*")) == ("1.0.0", "1.0.0")
        assert select_tag(tags, Range.parse("*"), helm=True) == ("1.2.3_build.5", "1.2.3+build.5")

    def test_ties_do_not_depend_on_the_order_of_listing(self):
        tags = ["1.0.0+a", "v1.0.0", "1.0.0"]
        assert select_tag(tags, Range.parse("*")) == select_tag(tags[::-1], Range.parse("*")) == ("v1.0.0", "v1.0.0")

    def test_the_tie_breaker_is_given_the_tag(self):
        committed = {"api/1.0.0+a": 2, "api/1.0.0+b": 1}
        selected = select_tag(
            committed, Range.parse("*"), TagPattern.parse("api/(.+)"), tie_break=committed.__getitem__
        )
        assert selected == ("api/1.0.0+a", "1.0.0+a")

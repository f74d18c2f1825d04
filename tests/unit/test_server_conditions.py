"""Preconditions and ranges: what RFC 9110 says, for every field a client may send."""

import datetime as dt
from http import HTTPStatus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fluxsrc.server._conditions import Span, byte_span, http_date, precondition, wants_range

ETAG = '"sha256:abc"'
MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
EARLIER, LATER = (http_date(MOMENT + dt.timedelta(hours=hours)) for hours in (-1, 1))
SAME = http_date(MOMENT)


def test_dates_are_written_as_http_wants_them():
    moment = MOMENT.astimezone(dt.timezone(dt.timedelta(hours=5)))
    assert http_date(moment) == "Fri, 02 Jan 2026 03:04:05 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"if-none-match": ETAG}, 304),
        ({"if-none-match": f"W/{ETAG}"}, 304),
        ({"if-none-match": f'"other" ,, W/"more", {ETAG}'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"other"'}, None),
        ({"if-none-match": "sha256:abc"}, None),
        ({"if-none-match": ""}, None),
        ({"if-modified-since": SAME}, 304),
        ({"if-modified-since": "Friday, 02-Jan-26 03:04:05 GMT"}, 304),
        ({"if-modified-since": "Fri Jan  2 03:04:05 2026"}, 304),
        ({"if-modified-since": LATER}, None),
        ({"if-modified-since": EARLIER}, None),
        ({"if-modified-since": "yesterday"}, None),
        ({"if-none-match": '"other"', "if-modified-since": SAME}, None),
        ({"if-match": ETAG}, None),
        ({"if-match": "*"}, None),
        ({"if-match": f"W/{ETAG}"}, 412),
        ({"if-match": '"other"'}, 412),
        ({"if-match": '"other"', "if-none-match": ETAG}, 412),
        ({"if-unmodified-since": EARLIER}, 412),
        ({"if-unmodified-since": SAME}, None),
        ({"if-unmodified-since": LATER}, None),
        ({"if-unmodified-since": "nonsense"}, None),
        ({"if-match": ETAG, "if-unmodified-since": EARLIER}, None),
    ],
)
def test_preconditions_are_evaluated_as_the_rfc_orders_them(headers, expected):
    """Section 13.2.2; but a date must be the one we gave, because a rollback makes what is served older."""
    assert precondition(headers, etag=ETAG, modified=MOMENT) == (None if expected is None else HTTPStatus(expected))


def test_without_a_date_no_condition_on_dates_holds_anything_back():
    for name in ("if-modified-since", "if-unmodified-since"):
        assert precondition({name: EARLIER}, etag=ETAG, modified=None) is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"range": "bytes=0-"}, True),
        ({"range": "bytes=0-", "if-range": ETAG}, True),
        ({"range": "bytes=0-", "if-range": f"W/{ETAG}"}, False),
        ({"range": "bytes=0-", "if-range": '"other"'}, False),
        ({"range": "bytes=0-", "if-range": SAME}, False),
        ({"if-range": ETAG}, False),
    ],
)
def test_a_range_counts_if_its_validator_is_ours(headers, expected):
    """A resumed download never joins the halves of two artifacts."""
    assert wants_range(headers, etag=ETAG) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-9", Span(0, 10)),
        ("bytes=90-", Span(90, 10)),
        ("bytes=90-1000", Span(90, 10)),
        ("bytes=99-99", Span(99, 1)),
        ("bytes=-1", Span(99, 1)),
        ("bytes=-1000", Span(0, 100)),
        ("BYTES= 0-0 ", Span(0, 1)),
        (f"bytes=0-{'9' * 5000}", Span(0, 100)),
        (f"bytes=-{'9' * 5000}", Span(0, 100)),
        ("bytes=100-", Span(0, 0)),
        ("bytes=100-200", Span(0, 0)),
        (f"bytes={'9' * 5000}-", Span(0, 0)),
        ("bytes=0-0,2-3", None),
        ("bytes=-", None),
        ("bytes=5-4", None),
        ("bytes=a-b", None),
        ("bytes=\u0663-\u0664", None),
        ("bytes 0-9", None),
        ("lines=0-9", None),
        ("bytes=0-9;q=1", None),
        ("", None),
    ],
)
def test_a_single_range_is_honoured_and_all_else_is_ignored(value, expected):
    """Several ranges, other units and nonsense get everything (section 14.2); what is not there gets a 416."""
    assert byte_span(value, 100) == expected


def test_the_last_no_bytes_are_unsatisfiable():
    assert byte_span("bytes=-0", 100).length == 0


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=0-0", "bytes=-5"])
def test_of_nothing_no_range_can_be_had(value):
    assert byte_span(value, 0).length == 0


_FIELD = st.one_of(
    st.text(),
    st.from_regex(r"(W/)?\"[!-~]{0,9}\"(, ?(W/)?\"[a-z]*\")*", fullmatch=True),
    st.from_regex(r"bytes ?= ?\d{0,30}-\d{0,30}(,\d*-\d*)*", fullmatch=True),
    st.from_regex(r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{1,9} \d\d:\d\d:\d\d [A-Z+\-\d]{1,9}", fullmatch=True),
)


@given(
    st.dictionaries(
        st.sampled_from(["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "range", "if-range"]),
        _FIELD,
    ),
    st.integers(0, 1000),
)
@example({"if-modified-since": "Mon, 01 Jan 99999999 00:00:00 +9999"}, 1)
@example({"if-modified-since": "0001-01-01 00:00:00 +2359"}, 1)
def test_no_field_makes_it_fail_or_reach_outside(headers, size):
    """Whatever a client sends, there is a decision, and a range lies within what there is."""
    assert precondition(headers, etag=ETAG, modified=MOMENT) in (None, 304, 412)
    if wants_range(headers, etag=ETAG):
        span = byte_span(headers["range"], size)
        assert span is None or (span.first >= 0 and span.length >= 0 and span.first + span.length <= size)


@given(st.binary(min_size=1, max_size=50), st.data())
def test_a_range_is_the_slice_that_python_gives(content, data):
    first = data.draw(st.integers(0, len(content) - 1))
    last = data.draw(st.integers(first, 2 * len(content)))
    span = byte_span(f"bytes={first}-{last}", len(content))
    assert content[span.first : span.first + span.length] == content[first : last + 1]
    span = byte_span(f"bytes=-{last + 1}", len(content))
    assert content[span.first : span.first + span.length] == content[-(last + 1) :]

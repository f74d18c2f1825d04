"""The batch API's answers: what is believed, and what is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxsrc.auth import Secret
from fluxsrc.errors import (
    AuthenticationError,
    PathNotFoundError,
    PermissionDeniedError,
    RemoteProtocolError,
    SourceError,
    TransportError,
)
from fluxsrc.git.lfs import LFSPointer
from fluxsrc.git.lfs_batch import Download, batch_request, parse_batch

POINTER = LFSPointer("ab" * 32, 5)
BASE = "https://git.example.com/app.git/info/lfs/objects/batch"


def parse(item, **rest):
    data = json.dumps({"objects": [{"oid": POINTER.oid, **item}], **rest}).encode()
    return parse_batch(data, [POINTER], base=BASE, url=BASE, now=1000.0)[POINTER.oid]


def action(**fields):
    return {"actions": {"download": {"href": "https://cdn.example.com/x?sig=1"} | fields}}


def test_the_question_names_objects_and_the_only_transfer_we_know():
    assert json.loads(batch_request([POINTER])) == {
        "operation": "download",
        "transfers": ["basic"],
        "hash_algo": "sha256",
        "objects": [{"oid": "ab" * 32, "size": 5}],
    }


def test_an_answer_says_where_with_what_and_for_how_long():
    found = parse({"authenticated": True} | action(header={"Authorization": "RemoteAuth x"}, expires_in=60))
    assert found == Download(
        "https://cdn.example.com/x?sig=1", {"Authorization": Secret("RemoteAuth x")}, authenticated=True, expires=1060.0
    )
    assert "sig=1" not in repr(found)
    assert "RemoteAuth" not in repr(found)


@pytest.mark.parametrize(
    ("fields", "expires"),
    [
        ({}, None),
        ({"expires_at": "2026-01-02T03:04:05Z"}, 1767323045.0),
        ({"expires_at": "0001-01-01T00:00:00Z"}, None),
        ({"expires_at": "2026-01-02T03:04:05"}, None),
        ({"expires_at": "soon"}, None),
        ({"expires_in": 0}, None),
        ({"expires_in": 10**400}, 1000.0 + 1e10),
        ({"expires_in": 60, "expires_at": "2026-01-02T03:04:05Z"}, 1060.0),
    ],
)
def test_an_end_is_believed_where_it_makes_sense(fields, expires):
    assert parse(action(**fields)).expires == expires


def test_a_relative_address_is_relative_to_the_question():
    assert parse(action(href="/objects/x")).href == "https://git.example.com/objects/x"


@pytest.mark.parametrize(
    ("item", "error"),
    [
        ({"error": {"code": 404, "message": "gone"}}, PathNotFoundError),
        ({"error": {"code": 410}}, PathNotFoundError),
        ({"error": {"code": 401}}, AuthenticationError),
        ({"error": {"code": 403}}, PermissionDeniedError),
        ({"error": {"code": 500}}, TransportError),
        ({"error": {"code": 422, "message": "bad\x1b[2J"}}, RemoteProtocolError),
        ({"error": "no"}, RemoteProtocolError),
        ({}, PathNotFoundError),
        ({"actions": {}}, PathNotFoundError),
        ({"actions": []}, PathNotFoundError),
        ({"actions": {"download": {"href": 7}}}, PathNotFoundError),
        (action(href="http://cdn.example.com/x"), RemoteProtocolError),
        (action(href="file:///etc/passwd"), RemoteProtocolError),
        (action(href="https://user:pw@cdn.example.com/x"), RemoteProtocolError),
        (action(href="https://cdn.example.com:port/x"), RemoteProtocolError),
        (action(href="https://[cdn.example.com/x"), RemoteProtocolError),
        (action(header=["x"]), RemoteProtocolError),
        (action(header={"X": 7}), RemoteProtocolError),
        (action(header={"X": "a\r\nHost: b"}), RemoteProtocolError),
        (action(header={"X y": "a"}), RemoteProtocolError),
        (action(header={"Host": "internal"}), RemoteProtocolError),
        (action(header={"transfer-encoding": "chunked"}), RemoteProtocolError),
    ],
)
def test_an_object_that_cannot_be_had_is_an_error_and_says_nothing_about_the_others(item, error):
    found = parse(item)
    assert type(found) is error
    assert str(found).isprintable()


def test_an_object_that_the_answer_leaves_out_is_an_error():
    found = parse_batch(b'{"objects": [{"oid": "other"}, 7]}', [POINTER], base=BASE, url=BASE, now=0)
    assert type(found[POINTER.oid]) is RemoteProtocolError


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hunter2",
        b"[]",
        b"{}",
        b'{"objects": {}}',
        b'{"objects": [], "transfer": "tus"}',
        b'{"objects": [], "hash_algo": "md5"}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_an_answer_that_is_none_is_refused_and_not_quoted(data):
    with pytest.raises(RemoteProtocolError) as caught:
        parse_batch(data, [POINTER], base=BASE, url=BASE, now=0)
    assert "hunter2" not in repr((caught.value, caught.value.__context__))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["oid", "actions", "download", "href", "header", "error", "code", "expires_in", "expires_at"]
            )
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_item_means_a_download_or_an_error(value):
    item = {**value, "oid": POINTER.oid} if isinstance(value, dict) else {"oid": POINTER.oid, "actions": value}
    data = json.dumps({"objects": [item]}).encode()
    found = parse_batch(data, [POINTER], base=BASE, url=BASE, now=0)[POINTER.oid]
    assert isinstance(found, Download | SourceError)

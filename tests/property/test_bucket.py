"""Whatever is in a bucket: listings, indexes, signatures, answers and readers agree with a simple model of them."""

import contextlib
import datetime as dt
import io
import tracemalloc

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxsrc._io.http.pipeline import Reader, Request, parse_head
from fluxsrc.bucket import AWSKeys, BucketSource, xml
from fluxsrc.bucket import fetch as fetch_module
from fluxsrc.bucket import keys as keys_module
from fluxsrc.bucket.index import IndexBuilder, index_digest
from fluxsrc.bucket.keys import screen
from fluxsrc.bucket.protocol import BucketObject, Content
from fluxsrc.bucket.sigv4 import Signer, canonical_path, canonical_query, timestamp
from fluxsrc.bucket.xml import parse, parse_table
from fluxsrc.errors import ContentError, SourceChangedError, UnsafeEntryError
from fluxsrc.ignore import IgnoreRules
from fluxsrc.limits import DEFAULT_LIMITS
from fluxsrc.memory import MemorySource
from fluxsrc.stores import MemoryStore
from fluxsrc.tarball import groups

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
NAME = st.sampled_from(["-x", "a", "a.b", "b", "c!", "z", ".hidden"])
KEYS = st.lists(NAME, min_size=1, max_size=4).map("/".join)
RULE = st.builds("{}{}{}".format, st.sampled_from(["", "!"]), KEYS, st.sampled_from(["", "/"]))
RULES = st.lists(RULE, max_size=3).map(lambda lines: "".join(f"{line}\n" for line in lines))


class PagedBucket:
    """A bucket in a dict, with pages of any size."""

    jumps = True
    url = "s3://paged"

    def __init__(self, objects, page):
        self.objects = {key: objects[key] for key in sorted(objects)}
        self.page = page

    @contextlib.contextmanager
    def connect(self, _operation):
        yield self

    def pages(self, prefix="", *, after=""):
        found = [key for key in self.objects if key.startswith(prefix) and key > after]
        for start in range(0, len(found), self.page):
            keys = found[start : start + self.page]
            yield [BucketObject(key, len(self.objects[key]), f"e{hash(self.objects[key])}") for key in keys]

    def read(self, item, /, start=0, length=None):
        data = self.objects.get(item.key)
        if data is None or f"e{hash(data)}" != item.etag:
            raise SourceChangedError(item.key)
        return Content(data[start:] if length is None else data[start : start + length])


class LeveledBucket(PagedBucket):
    """One that cannot begin in the middle, but lists with a delimiter."""

    jumps = False

    def pages(self, prefix="", *, after=""):
        assert not after
        return super().pages(prefix)

    def names(self, prefix, /):
        parts = [key[len(prefix) :].partition("/") for key in self.objects if key.startswith(prefix)]
        names = sorted({f"{prefix}{name}{slash}" for name, slash, _ in parts}, reverse=True)
        return (names[start : start + self.page] for start in range(0, len(names), self.page))


def consistent(objects):
    """Without files that are directories, too."""
    return {k: v for k, v in objects.items() if not any(k.startswith(f"{other}/") for other in objects)}


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(KEYS, st.binary(max_size=8), max_size=25),
    st.dictionaries(st.one_of(st.just(""), KEYS), RULES, max_size=4),
    RULES,
    st.integers(1, 7),
    st.sampled_from([PagedBucket, LeveledBucket]),
)
def test_a_listing_in_pages_keeps_what_the_rules_keep_of_the_whole(objects, files, extra, page, kind):
    """Jumps, pages and rules that come late change nothing about the verdicts."""
    named = {f"{directory}/.sourceignore".removeprefix("/"): text.encode() for directory, text in files.items()}
    objects = consistent(objects | named)
    source = BucketSource(kind(objects, page), ignore=extra)
    with source.fetch() as snapshot:
        found = {entry.path: entry.read() for entry in snapshot.entries()}
    texts = {k.removesuffix(".sourceignore").rstrip("/"): v.decode() for k, v in objects.items() if k in named}
    rules = IgnoreRules(files=texts, extra=extra, defaults=())
    assert found == {key: data for key, data in objects.items() if not rules.excluded(key)}
    assert list(found) == sorted(found)
    fresh = MemorySource(objects, ignore=extra).produce_artifact(MemoryStore())
    assert source.produce_artifact(MemoryStore()).content_digest == fresh.content_digest


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=40, unique_by=lambda pair: pair[0]), st.integers(1, 9), st.randoms())
def test_an_index_does_not_depend_on_pages_nor_on_their_order(pairs, size, dice):
    dice.shuffle(pairs)
    builder = IndexBuilder()
    for start in range(0, len(pairs), size):
        builder.add([BucketObject(key, 1, etag) for key, etag in pairs[start : start + size]])
    index = builder.build()
    assert index.digest == index_digest(pairs)
    assert [(item.key, item.etag) for item in index] == sorted(pairs)


@settings(deadline=None)
@given(st.lists(st.text(max_size=6) | st.text("aAb-/", max_size=5), unique=True, max_size=20), st.integers(1, 5))
def test_screening_lets_through_only_what_can_be_packed(keys, page):
    """Any text at all, however much of it is looked at together; what is let through is a tree, the rest an error."""
    items = [BucketObject(key, 1, "e") for key in sorted(keys) if key]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys_module, "_PAGE", page)
        found = screen(lambda: items, unsafe="skip", ambiguous="skip", limits=DEFAULT_LIMITS)
        if found.dropped:
            with pytest.raises(ContentError):
                screen(lambda: items, limits=DEFAULT_LIMITS)
    patched = screen(lambda: items, unsafe="skip", ambiguous="skip", limits=DEFAULT_LIMITS)
    assert found == patched
    kept = [item.key for item in items if item.key not in found.dropped]
    MemorySource(dict.fromkeys(kept, b""))  # raises if they are no tree
    assert len(kept) == found.files
    assert len({key.casefold() for key in kept}) == len(kept)


CONTENT = st.integers(0, 3).map(lambda n: bytes([n]) * n * 300)
STATE = st.dictionaries(st.integers(0, 60).map("d{:02}".format), CONTENT, max_size=60)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(STATE, STATE, st.integers(1, 30), st.booleans())
def test_a_later_artifact_is_what_a_first_one_would_be_and_only_what_changed_is_read(before, change, page, remove):
    """Whatever is new, removed or different, and wherever groups end."""
    after = {key: before[key] for key in before.keys() - change.keys()} if remove else before | change
    store, read = MemoryStore(), []

    class Bucket(PagedBucket):
        def read(self, item, /, start=0, length=None):
            read.append(item.key)
            return super().read(item, start, length)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "_MIN", 1500)
        patch.setattr(groups, "_MEAN", 1500)
        BucketSource(Bucket(before, page)).produce_artifact(store)
        read.clear()
        later = BucketSource(Bucket(after, page)).produce_artifact(store)
    assert later.content_digest == MemorySource(after).produce_artifact(MemoryStore()).content_digest
    assert sorted(read) == sorted(key for key, data in after.items() if data and before.get(key) != data)


@settings(deadline=None, max_examples=60)
@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(lambda k: k[0] != "/"),
    st.dictionaries(TEXT, TEXT, max_size=3),
    st.one_of(st.none(), st.text("abc=/+", min_size=1)),
)
def test_our_signature_is_botocore_s(key, query, token):
    """For any key and any query."""
    now = dt.datetime.now(dt.UTC)
    path, text = f"/bucket/{canonical_path(key)}", canonical_query(query.items())
    request = AWSRequest("GET", f"http://127.0.0.1:9000{path}" + (f"?{text}" if text else ""))
    request.headers["X-Amz-Content-SHA256"] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    theirs = S3SigV4Auth(Credentials("ada", "secret", token), "s3", "eu-west-1")
    theirs.add_auth(request)
    stamp = request.context["timestamp"]
    assert abs((dt.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC) - now).total_seconds()) < 60
    ours = Signer(AWSKeys("ada", "secret", token), "eu-west-1").sign("GET", "127.0.0.1:9000", path, text, {}, stamp)
    assert ours["authorization"].reveal() == request.headers["Authorization"]
    assert timestamp(dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)) == "20260102T030405Z"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_document_or_a_value_error(data):
    with contextlib.suppress(ValueError):
        assert parse_table(data, "Contents", ("Key",), root="ListBucketResult").columns is not None


def test_a_document_of_endless_leaves_costs_no_more_than_it_weighs(monkeypatch):
    """What reads at a glance remembers each leaf that it passes over: some hundred bytes for seven of text."""
    monkeypatch.setattr(xml, "_MAX_ELEMENTS", 20_000)
    endless = b"<R><Contents>" + b"<b></b>" * 100_000 + b"<Key>a</Key></Contents></R>"
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="too many"):
            parse_table(endless, "Contents", ("Key",), root="R")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * len(endless)


LEAF = st.builds(
    "<{0}{2}>{1}</{0}>".format,
    st.sampled_from(["Key", "ETag", "Size"]),
    st.lists(st.sampled_from(["a", '"', "&#34;", "&quot;", "&amp;", "&lt;", ">", "é", "\n", "%2F"])).map("".join),
    st.sampled_from(["", "", "", ' Encoded="true"']),
)
RECORD = st.lists(
    LEAF | st.sampled_from(["<Owner><ID>x</ID></Owner>", "<Empty/>", " ", "<!-- <Contents></Contents> -->"]), max_size=4
)
RECORDS = st.lists(RECORD.map(lambda leaves: f"<Contents>{''.join(leaves)}</Contents>"), max_size=4)


PLAIN = "<Contents><Key>a</Key><Date>1</Date><ETag>&quot;e&#34;</ETag><Size>1</Size></Contents>"
HEADS = ["", "<Name>n&amp;m</Name>", f"<![CDATA[{PLAIN}]]>", f"<!--{PLAIN}-->", f"<?say {PLAIN}?>", "<"]


@given(RECORDS, st.integers(0, 2), st.sampled_from(HEADS))
def test_records_that_are_read_at_a_glance_are_what_the_parser_reads(records, plain, head):
    """Plain ones and others, mixed; and a document that the parser refuses is refused."""
    records = "".join([*records, PLAIN * plain])
    data = f'<?xml version="1.0"?><R xmlns="r">{head}{records}<Last>1</Last></R>'.encode()
    leaves = ("Key", "ETag", "Size")
    try:
        expected = parse(data, "Contents", root="R")
    except ValueError:
        with pytest.raises(ValueError, match="not XML"):
            parse_table(data, "Contents", leaves, root="R")
    else:
        found = parse_table(data, "Contents", leaves, root="R")
        assert found.head == expected.head
        assert list(zip(*found.columns, strict=True)) == [
            tuple(record.get(leaf, "") for leaf in leaves) for record in expected.records
        ]


def response(body, *, status=200, extra=b""):
    return b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), extra, body)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=40), st.sampled_from([200, 200, 200, 412])), min_size=1, max_size=8),
    st.lists(st.integers(1, 30), min_size=1, max_size=5),
)
def test_answers_are_read_however_they_are_cut(bodies, cuts):
    """Those that were hoped for are there, the others are not, and the connection can be used again."""
    wire = b"".join(response(body, status=status) for body, status in bodies)
    answers = [None] * len(bodies)
    reader = Reader([Request("/", "", len(body)) for body, _ in bodies], answers)
    stream, place = io.BytesIO(wire), 0
    while not reader.finished:
        reader.feed(stream.read(cuts[place % len(cuts)]))
        place += 1
    rest = stream.read()
    assert [a.body if a is not None else None for a in answers] == [b if s == 200 else None for b, s in bodies]
    assert reader.complete
    assert reader.reusable
    assert rest == b""


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes_beyond_the_last_answer_end_the_connection(extra):
    answers = [None]
    reader = Reader([Request("/", "", 2)], answers)
    reader.feed(response(b"ok") + extra)
    assert answers[0].body == b"ok"
    assert reader.reusable is (extra == b"")


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 1",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 100 Continue\r\nContent-Length: 1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nContent-Length : 1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n folded",
        b"HTTP/1.1 200 OK\nContent-Length: 1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2",
        b"HTTP/1.1 2OO OK\r\nContent-Length: 1",
        b"",
    ],
)
def test_a_head_that_could_be_read_in_two_ways_is_not_read(head):
    assert parse_head(head) is None


@given(st.binary(max_size=200))
def test_any_head_is_read_or_left_to_the_slow_path(head):
    found = parse_head(head)
    assert found is None or found[2] >= 0


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_entries_can_be_opened_in_any_order_any_number_of_times(data):
    """Small, middling, and larger than a part; announced or not."""
    sizes = data.draw(st.lists(st.sampled_from([0, 1, 5, 63, 64, 65, 300]), min_size=1, max_size=30))
    objects = {f"{n:03}": bytes(n % 256 for n in range(size)) for n, size in enumerate(sizes)}
    order = data.draw(st.lists(st.integers(0, len(sizes) - 1), max_size=40))
    announced = data.draw(st.sets(st.integers(0, len(sizes) - 1)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch_module, "PART", 64)
        patch.setattr(fetch_module, "WINDOW", 256)
        with BucketSource(PagedBucket(objects, 7)).fetch() as snapshot:
            entries = list(snapshot.entries())
            for place in announced:
                entries[place].expect()
            for place in order:
                with entries[place].open() as stream:
                    assert stream.read() == objects[entries[place].path]
            assert [entry.read() for entry in entries] == list(objects.values())


def test_an_unsafe_key_is_named_in_the_error():
    with pytest.raises(UnsafeEntryError, match="a//b"):
        screen(lambda: [BucketObject("a//b", 1, "e")], limits=DEFAULT_LIMITS)

"""The bucket source: rules, limits, prefixes, what is requested, and what goes wrong on the way."""

import hashlib
import logging
import pickle
import sys
import threading
import traceback
import zlib
from base64 import b64encode
from functools import cache
from types import SimpleNamespace

import attrs
import pytest

from fluxsrc._io.http import Headers
from fluxsrc.auth import Anonymous, BearerToken, Proxy, TLSConfig
from fluxsrc.bucket import (
    AWSKeys,
    AWSProfile,
    AzureAccountKey,
    AzureBucket,
    AzureSAS,
    BucketSource,
    GCSBucket,
    GoogleServiceAccount,
    LocalBucket,
    S3Bucket,
    checksum,
    fetch,
)
from fluxsrc.bucket import client as client_module
from fluxsrc.bucket import s3 as s3_module
from fluxsrc.bucket.fetch import PART
from fluxsrc.bucket.index import index_digest
from fluxsrc.bucket.protocol import BucketObject
from fluxsrc.errors import (
    AuthenticationError,
    CertificateError,
    ConfigurationError,
    DigestMismatchError,
    LimitExceededError,
    OperationCancelledError,
    PermissionDeniedError,
    RemoteProtocolError,
    RevisionNotFoundError,
    SourceChangedError,
    TransportError,
    TransportTimeoutError,
    UnsafeEntryError,
)
from fluxsrc.limits import Limits
from fluxsrc.operation import Operation
from fluxsrc.stores import MemoryStore
from fluxsrc.testing.bucket_contract import RecordingBucket
from fluxsrc.testing.object_server import ObjectServer
from helpers.tls import TLS, server_context

NAME = "models"


@pytest.fixture
def server():
    with ObjectServer(page=10) as server:
        server.buckets[NAME] = {}
        yield server


def s3(server, **options):
    return S3Bucket(NAME, **{"endpoint": server.url, "region": "us-east-1", "credentials": Anonymous(), **options})


def put(server, *keys, **contents):
    for key in keys:
        server.put(NAME, key, key.encode())


def paths(source):
    with source.fetch() as snapshot:
        return [entry.path for entry in snapshot.entries()]


# --- the revision ----------------------------------------------------------------------------------------------------


def test_revisions_are_those_of_flux_s_own_tests(server):
    """Of one object; with a `.sourceignore`; with a rule of the source's own that takes its word back."""
    server.put(NAME, "test.txt", b"test")
    golden = "b4c2a60ce44b67f5b659a95ce4e4cc9e2a86baf13afb72bd397c5384cbc0e479"
    assert BucketSource(s3(server)).resolve_revision().digest.hex == golden
    server.delete(NAME, "test.txt")
    server.put(NAME, ".sourceignore", b"ignored/file.txt")
    server.put(NAME, "ignored/file.txt", b"ignored/file.txt")
    server.put(NAME, "included/file.txt", b"included/file.txt")
    golden = "9fc2ddfc4a6f44e6c3efee40af36578b9e76d4d930eaf384b8435a0aa0bf7a0f"
    assert BucketSource(s3(server), dialect="flux").resolve_revision().digest.hex == golden
    golden = "117f586dc64cfc559329e21d286edcbb94cb6b1581517eaddc0ab5292b470cd5"
    source = BucketSource(s3(server), dialect="flux", ignore="!ignored/file.txt")
    assert source.resolve_revision().digest.hex == golden


def test_a_mirror_on_disk_has_the_revision_of_the_bucket(server, tmp_path):
    put(server, "a", "b/c")
    for key in ("a", "b/c"):
        (tmp_path / key).parent.mkdir(exist_ok=True)
        (tmp_path / key).write_bytes(key.encode())
    assert BucketSource(LocalBucket(tmp_path)).resolve_revision() == BucketSource(s3(server)).resolve_revision()


def test_resolving_reads_no_object(server):
    put(server, "a", "b")
    BucketSource(s3(server)).resolve_revision()
    assert all("list-type=2" in line for line in server.asked(""))


def test_one_artifact_takes_one_listing(server):
    """What resolving listed is what is fetched."""
    put(server, "a", "b")
    BucketSource(s3(server)).produce_artifact(MemoryStore())
    assert len(server.asked(r"list-type=2$")) == 1


# --- ignore rules ----------------------------------------------------------------------------------------------------


def test_rules_come_from_the_root_the_prefix_and_every_directory(server):
    put(server, "apps/a.log", "apps/b.tmp", "apps/deep/c.bak", "apps/deep/keep", "apps/x", "other")
    server.put(NAME, ".sourceignore", b"*.log\n")
    server.put(NAME, "apps/.sourceignore", b"*.tmp\n")
    server.put(NAME, "apps/deep/.sourceignore", b"*.bak\n")
    kept = ["apps/.sourceignore", "apps/deep/.sourceignore", "apps/deep/keep", "apps/x"]
    assert paths(BucketSource(s3(server), "apps/")) == kept
    assert paths(BucketSource(s3(server), "apps/", strip_prefix=True)) == [key.removeprefix("apps/") for key in kept]
    assert paths(BucketSource(s3(server), path="apps")) == [key.removeprefix("apps/") for key in kept]


def test_a_rule_above_a_stripped_prefix_can_only_take_away(server):
    put(server, "apps/a.log", "apps/b")
    server.put(NAME, ".sourceignore", b"*.log\n")
    assert paths(BucketSource(s3(server), "apps/", strip_prefix=True, ignore="!*.log\n")) == ["b"]


def test_an_ignore_file_behind_an_excluded_directory_can_take_it_in_again(server):
    """ "a/-x/" is listed before "a/.sourceignore": nothing below "a" is jumped over until that was read."""
    put(server, *(f"a/-x/{n:03}" for n in range(50)), "a/z")
    server.put(NAME, ".sourceignore", b"-x/\n")
    server.put(NAME, "a/.sourceignore", b"!-x/\n")
    assert len(paths(BucketSource(s3(server)))) == 1 + 1 + 50 + 1


def test_flux_s_dialect_is_that_of_flux_s_buckets(server):
    """No default exclusions, no nested files, and the root's file is in the artifact but not in the revision."""
    put(server, ".git/config", "a.jpg", "b.log", "sub/c.tmp")
    server.put(NAME, ".sourceignore", b"*.log\n")
    server.put(NAME, "sub/.sourceignore", b"*.tmp\n")
    source = BucketSource(s3(server), dialect="flux")
    kept = [".git/config", ".sourceignore", "a.jpg", "sub/.sourceignore", "sub/c.tmp"]
    assert paths(source) == kept
    stored = server.buckets[NAME]
    assert source.resolve_revision().digest == index_digest((k, stored[k].etag) for k in kept if k != ".sourceignore")
    before = source.resolve_revision()
    server.put(NAME, ".sourceignore", b"*.log\n# a comment\n")
    assert source.resolve_revision() == before
    assert source.produce_artifact(MemoryStore()).files == len(kept)


def test_a_service_that_prefers_keys_is_asked_for_pages_by_them_until_a_listing_is_long(server, monkeypatch):
    """Each page once, whichever way; and one that is slow this way is asked by tokens, once that took long enough."""
    put(server, *(keys := [f"{n:04}" for n in range(205)]))
    monkeypatch.setattr(s3_module._S3, "prefers_keys", lambda *_: True)
    monkeypatch.setattr(client_module, "_QUICK", 60)
    assert paths(BucketSource(s3(server))) == keys
    assert len(server.asked(r"/\?encoding-type=url&list-type=2&start-after=\d+$")) == 15
    assert len(server.asked("continuation-token")) == 5
    server.requests.clear()
    monkeypatch.setattr(client_module, "_QUICK", 0)
    monkeypatch.setattr(client_module, "_PATIENCE", 0)
    assert paths(BucketSource(s3(server))) == keys
    assert len(server.asked("continuation-token")) == 20
    assert not server.asked("start-after")
    server.requests.clear()
    monkeypatch.setattr(client_module, "_PATIENCE", 60)  # a first page that is slow says nothing about the second
    assert paths(BucketSource(s3(server))) == keys
    assert len(server.asked("continuation-token")) == 5


def test_minio_is_known_by_its_name():
    prefers_keys = s3_module._S3(S3Bucket(NAME), Operation()).prefers_keys
    assert prefers_keys(Headers((("server", "MinIO"),)))
    assert not prefers_keys(Headers((("server", "AmazonS3"),)))
    assert not prefers_keys(Headers(()))


def test_an_excluded_directory_is_not_listed_to_its_end(server):
    put(server, *(f"cache/{n:04}" for n in range(500)), "a", "z")
    bucket = RecordingBucket(s3(server))
    assert paths(BucketSource(bucket, ignore="cache/\n")) == ["a", "z"]
    assert sum(bucket.pages) < 30
    assert any("start-after=cache%2F" in line for line in server.asked("list-type"))


def azure(server):
    return AzureBucket(NAME, account="account", endpoint=server.url, credentials=Anonymous())


def test_a_service_that_cannot_begin_in_the_middle_is_asked_for_what_lies_beside_an_excluded_directory(server):
    """With a delimiter, level by level; and hundreds of names beside it are listed together, not one by one."""
    put(
        server,
        *(f"a/cache/x/{n:04}" for n in range(500)),
        *(f"a/m{n:03}/f" for n in range(200)),
        "a/cache/y",
        "b",
        "z/z",
    )
    bucket = RecordingBucket(azure(server))
    kept = paths(BucketSource(bucket, ignore="x/\n"))
    assert kept == sorted(["a/cache/y", *(f"a/m{n:03}/f" for n in range(200)), "b", "z/z"])
    assert sum(bucket.pages) < 300
    levels = server.asked("delimiter=%2F")
    assert [sum(f"prefix={prefix}&" in line for line in levels) > 0 for prefix in ("a%2Fcache%2F", "a%2F")] == [
        True,
        True,
    ]
    assert len(server.requests) < 120


def test_listing_beside_a_directory_is_bounded_too(server):
    """A service whose levels have no end is no way around the limit."""
    put(server, *(f"cache/{n:04}" for n in range(60)), *(f"z{n:05}" for n in range(300)))
    with pytest.raises(LimitExceededError, match="names listed so far") as caught:
        BucketSource(azure(server), ignore="cache/\n", limits=Limits(max_list_objects=100)).resolve_revision()
    assert caught.value.limit == "max_list_objects"


def test_a_directory_within_one_page_is_no_reason_to_look_around(server):
    """Requests with a delimiter are made only where a whole page was for nothing."""
    put(server, "a", "cache/1", "cache/2", "z")
    assert paths(BucketSource(azure(server), ignore="cache/\n")) == ["a", "z"]
    assert server.asked("delimiter") == []


def test_directory_markers_are_no_files(server):
    server.put(NAME, "a/", b"")
    server.put(NAME, "a/b", b"1")
    assert paths(BucketSource(s3(server))) == ["a/b"]


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "value"),
    [("max_list_objects", 40), ("max_entries", 40), ("max_content_bytes", 100), ("max_file_bytes", 1)],
)
def test_a_bucket_over_a_limit_fails_before_anything_is_downloaded(server, limit, value):
    """Early, with what was seen, and how to narrow it."""
    put(server, *(f"{n:04}" for n in range(200)))
    with pytest.raises(LimitExceededError) as caught:
        BucketSource(s3(server), limits=Limits(**{limit: value})).resolve_revision()
    assert caught.value.limit == limit
    assert not server.asked("GET /models/0")
    if limit != "max_file_bytes":
        assert "objects listed so far" in str(caught.value)
        assert "ignore=" in str(caught.value)
        assert len(server.asked(r"list-type=2")) < 12


def test_what_is_excluded_counts_against_the_listing_only(server):
    put(server, *(f"log/{n:04}" for n in range(60)), "a")
    source = BucketSource(s3(server), ignore="0*\n", limits=Limits(max_entries=1))
    assert paths(source) == ["a"]


def test_hostile_keys_are_an_error_before_anything_is_downloaded(server):
    put(server, "a", "../b")
    with pytest.raises(UnsafeEntryError):
        paths(BucketSource(s3(server)))
    assert not server.asked("GET /models/a")
    artifact = BucketSource(s3(server), unsafe_keys="skip").produce_artifact(MemoryStore())
    assert [(skipped.path, skipped.reason) for skipped in artifact.skipped] == [("../b", "unsafe-path")]


# --- prefixes and addresses ------------------------------------------------------------------------------------------


def test_a_prefix_is_text_and_not_a_directory(server):
    put(server, "app-1/x", "app-2/y", "apps/z", "b")
    assert paths(BucketSource(s3(server), "app")) == ["app-1/x", "app-2/y", "apps/z"]
    with pytest.raises(ConfigurationError, match="no directory"):
        BucketSource(s3(server), "app", strip_prefix=True)


def test_path_and_prefix_must_have_something_in_common(server):
    put(server, "apps/prod/x", "apps/test/y")
    assert paths(BucketSource(s3(server), "apps/prod/", path="apps")) == ["prod/x"]
    assert paths(BucketSource(s3(server), "apps/", path="apps/test")) == ["y"]
    with pytest.raises(ConfigurationError, match="begins with the prefix"):
        BucketSource(s3(server), "apps/prod/", path="other")


@pytest.mark.parametrize(
    "text",
    [
        "s3://models/prod/?endpoint=http://minio.example:9000&region=eu-west-1",
        "s3://models/a%20b/%C3%BC",
        "gs://models/prod/?endpoint=http://127.0.0.1:4443#path=prod/x",
        "az://models/prod?account=ada&endpoint=http://127.0.0.1:10000/ada",
    ],
)
def test_a_url_round_trips(text):
    source = BucketSource.from_url(text)
    assert source.url == text
    assert BucketSource.from_url(source.url) == source


@pytest.mark.parametrize(
    "text",
    [
        "s3://",
        "s3://user:hunter2@models/x",
        "s3:models",
        "s3://models?secret=hunter2",
        "s3://models?endpoint=http://user:hunter2@host",
        "s3://models?endpoint=http://host/?sig=hunter2",
        "s3://models?anonymous=perhaps",
        "s3://a",
        "gs://UPPER",
        "az://models",
        "az://models?account=not-one",
        "ftp://models",
    ],
)
def test_a_malformed_url_is_refused_without_showing_what_it_holds(text):
    with pytest.raises(ConfigurationError) as caught:
        BucketSource.from_url(text)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_options_of_the_bucket_and_of_the_source_are_told_apart(tmp_path):
    source = BucketSource.from_url("s3://models?anonymous=true&strip_prefix=true", ignore="*", check_md5=False)
    assert source.bucket.credentials == Anonymous()
    assert (source.bucket.check_md5, source.ignore, source.strip_prefix) == (False, "*", True)
    assert BucketSource.from_url("s3://models?profile=dev").bucket.credentials == AWSProfile("dev")
    assert BucketSource.from_url(f"bucket+file://{tmp_path}?prefix=a/").bucket == LocalBucket(tmp_path)


# --- secrets ---------------------------------------------------------------------------------------------------------

SECRET = "hunter2/secret+"
SECRETIVE = [
    S3Bucket("models", credentials=AWSKeys("ada", SECRET, SECRET), endpoint="http://127.0.0.1:1"),
    GCSBucket("models", credentials=BearerToken(SECRET), endpoint="http://127.0.0.1:1"),
    GCSBucket("models", credentials=GoogleServiceAccount(f'{{"private_key": "{SECRET}"}}')),
    AzureBucket("models", account="ada", credentials=AzureSAS(f"sv=1&sig={SECRET}"), endpoint="http://127.0.0.1:1"),
    AzureBucket("models", account="ada", credentials=AzureAccountKey(SECRET), endpoint="http://127.0.0.1:1"),
    S3Bucket(
        "m-m", endpoint="http://127.0.0.1:1", proxy=Proxy(url="http://127.0.0.1:1", username="u", password=SECRET)
    ),
]


@pytest.mark.parametrize("bucket", SECRETIVE, ids=lambda bucket: type(bucket.credentials).__name__)
def test_no_text_shows_a_secret(bucket, caplog):
    """Not those of the values, of the error, of what it is chained to, or of a log."""
    caplog.set_level(logging.DEBUG)
    source = BucketSource(attrs.evolve(bucket), timeout=0.5)
    with pytest.raises((TransportError, ConfigurationError, AuthenticationError)) as caught:
        source.resolve_revision()
    texts = [repr(source), source.url, repr(bucket), caplog.text, *traceback.format_exception(caught.value)]
    for text in texts:
        assert SECRET not in text
        assert "hunter2%2Fsecret" not in text


@pytest.mark.parametrize("bucket", SECRETIVE, ids=lambda bucket: type(bucket.credentials).__name__)
def test_a_bucket_is_a_value_that_pickles(bucket):
    copy = pickle.loads(pickle.dumps(bucket))
    assert copy == bucket
    assert hash(copy) == hash(bucket)


def test_a_redirect_is_not_followed(server):
    """So nobody else sees a signature."""
    put(server, "a")
    with ObjectServer() as other:
        server.inject("list-type", status=307, headers={"Location": f"{other.url}/models?list-type=2"}, times=None)
        bucket = s3(server, credentials=AWSKeys("ada", SECRET))
        with pytest.raises(RemoteProtocolError, match="307"):
            BucketSource(bucket).resolve_revision()
        assert other.requests == []


class RegionalServer(ObjectServer):
    """Sends away what is signed for another region than its own, two requests at once."""

    def __init__(self):
        super().__init__()
        self.together = threading.Barrier(2, timeout=30)
        self.turns = threading.Lock()

    def answer(self, request):
        at_home = "/eu-west-1/" in request.headers["authorization"]
        if not at_home:
            self.together.wait()
        with self.turns:
            if not at_home:
                self.inject("", status=301, headers={"x-amz-bucket-region": "eu-west-1"})
            return super().answer(request)


def test_a_bucket_in_another_region_is_found_there():
    """The region is taken from the answer, checked, and kept; the host is not. By however many requests at once."""
    with RegionalServer() as server:
        put(server, "a")
        source = BucketSource(s3(server, region=None, credentials=AWSKeys("ada", SECRET)))
        assert paths(source) == ["a"]
        scopes = [request.headers["authorization"].split("/")[2] for request in server.requests]
        assert sorted(scopes) == ["eu-west-1"] * 2 + ["us-east-1"] * 2


@pytest.mark.parametrize("region", ["evil.example/", "x" * 100, ""])
def test_a_region_that_is_none_is_not_believed(server, region):
    server.inject("list-type", status=301, headers={"x-amz-bucket-region": region}, times=None)
    with pytest.raises(RemoteProtocolError):
        BucketSource(s3(server, region=None)).resolve_revision()


def tls_server():
    return ObjectServer(context=server_context())


def test_many_small_objects_and_a_large_one_travel_through_tls():
    """With a CA of its own; without it, the error says what to do."""
    files = {f"{n:04}": f"{n}".encode() * 500 for n in range(600)} | {"large": bytes(range(256)) * 100_000}
    with tls_server() as server:
        for key, data in files.items():
            server.put(NAME, key, data)
        source = BucketSource(s3(server, tls=TLSConfig(ca=(TLS / "ca.pem").read_text())))
        with source.fetch() as snapshot:
            assert {entry.path: entry.read() for entry in snapshot.entries()} == files
        with pytest.raises(CertificateError, match="TLSConfig"):
            BucketSource(s3(server)).resolve_revision()


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 500}, {"cut_after": 3}], ids=str)
@pytest.mark.parametrize("match", ["list-type", "GET /models/"])
def test_what_passes_is_tried_again(server, match, fault):
    put(server, *(f"{n:03}" for n in range(30)))
    server.inject(match, **fault)
    with BucketSource(s3(server)).fetch() as snapshot:
        assert [entry.read().decode() for entry in snapshot.entries()] == [f"{n:03}" for n in range(30)]


def test_damaged_content_is_not_handed_out(server):
    """An etag that is an MD5 is held against what came; so are Google's and Azure's checksums."""
    put(server, "a")
    buckets = [
        s3(server),
        GCSBucket(NAME, endpoint=server.url, credentials=Anonymous()),
        AzureBucket(NAME, account="ada", endpoint=server.url, credentials=Anonymous()),
    ]
    server.inject("/a$|/a[?]", corrupt=True, times=None)
    for bucket in buckets:
        with BucketSource(bucket).fetch() as snapshot, pytest.raises(DigestMismatchError):
            next(snapshot.entries()).read()
    with BucketSource(s3(server, check_md5=False)).fetch() as snapshot:
        assert next(snapshot.entries()).read() == b"\x60"


CHECKSUMS = {
    "sha256": b64encode(hashlib.sha256(CONTENT := bytes(range(256)) * 8).digest()).decode(),
    "sha1": b64encode(hashlib.sha1(CONTENT).digest()).decode(),
    "crc32": b64encode(zlib.crc32(CONTENT).to_bytes(4, "big")).decode(),
    "crc32c": "XzKLMQ==",
    "crc64nvme": "iZ519nKzzD8=",
}


@pytest.mark.parametrize("part", [PART, 300], ids=["one piece", "parts"])
@pytest.mark.parametrize("name", CHECKSUMS)
def test_every_checksum_of_s3_is_held_against_what_came(server, monkeypatch, name, part):
    """Of objects that were uploaded in parts, whose etag is no MD5; read in parts, they cost one HEAD more."""
    monkeypatch.setattr(fetch, "PART", part)
    server.put(NAME, "a", CONTENT, checksums={name: CHECKSUMS[name]})
    with BucketSource(s3(server)).fetch() as snapshot:
        with next(snapshot.entries()).open() as stream:
            assert stream.read() == CONTENT
        assert len(server.asked("^HEAD")) == (part < len(CONTENT))
        server.inject("GET /models/a", corrupt=True)
        with pytest.raises(DigestMismatchError, match=name), next(snapshot.entries()).open() as stream:
            stream.read()


@pytest.mark.parametrize("part", [PART, 300], ids=["one piece", "parts"])
def test_a_composite_object_of_google_s_is_held_against_its_crc32c(server, monkeypatch, part):
    """It has no MD5."""
    monkeypatch.setattr(fetch, "PART", part)
    server.put(NAME, "a", CONTENT, checksums={"crc32c": CHECKSUMS["crc32c"]})
    bucket = GCSBucket(NAME, endpoint=server.url, credentials=Anonymous())
    with BucketSource(bucket).fetch() as snapshot:
        assert next(snapshot.entries()).read() == CONTENT
        server.inject("/a[?]", corrupt=True)
        with pytest.raises(DigestMismatchError, match="crc32c"):
            next(snapshot.entries()).read()


def test_a_checksum_of_checksums_is_none_of_the_content(server):
    """What S3 says of some objects that came in parts; then the size is all there is to hold on to."""
    server.put(NAME, "a", CONTENT, checksums={"sha256": CHECKSUMS["sha256"] + "-2"})
    with BucketSource(s3(server)).fetch() as snapshot:
        assert next(snapshot.entries()).read() == CONTENT


def test_what_cannot_be_checked_is_said(server, monkeypatch, caplog):
    """Without the library that knows the checksum, once, with the extra that brings it."""
    monkeypatch.setattr(checksum, "_extend", cache(checksum._extend.__wrapped__))
    monkeypatch.setitem(sys.modules, "awscrt.checksums", None)
    server.put(NAME, "a", CONTENT, checksums={"crc64nvme": CHECKSUMS["crc64nvme"]})
    server.put(NAME, "b", CONTENT, checksums={"crc64nvme": CHECKSUMS["crc64nvme"]})
    with BucketSource(s3(server)).fetch() as snapshot:
        assert [entry.read() for entry in snapshot.entries()] == [CONTENT, CONTENT]
    (record,) = [record for record in caplog.records if record.name == "fluxsrc.bucket"]
    assert "crc64nvme" in record.getMessage()
    assert "fluxsrc[s3]" in record.getMessage()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, b"<Error><Code>NoSuchBucket</Code></Error>", RevisionNotFoundError),
        (403, b"<Error><Code>AccessDenied</Code></Error>", PermissionDeniedError),
        (403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>", AuthenticationError),
        (403, b"<Error><Code>InvalidTokenId</Code></Error>", AuthenticationError),
        (200, b"not XML", RemoteProtocolError),
        (200, b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>", RemoteProtocolError),
        (200, b"<!DOCTYPE a [<!ENTITY b 'c'>]><ListBucketResult/>", RemoteProtocolError),
        (200, b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", RemoteProtocolError),
    ],
)
def test_what_a_listing_answers_has_a_meaning(server, status, body, error):
    server.inject("list-type", status=status, body=body, times=None)
    with pytest.raises(error):
        BucketSource(s3(server)).resolve_revision()


@pytest.mark.parametrize("document", ["[", '{"items":'])
def test_json_that_is_nested_without_end_is_no_listing(server, document):
    server.inject("/o\\?", status=200, body=document.encode() * 100_000, times=None)
    with pytest.raises(RemoteProtocolError, match="nested too deep"):
        BucketSource(GCSBucket(NAME, endpoint=server.url, credentials=Anonymous())).resolve_revision()


def test_an_error_that_is_nested_without_end_is_an_error(server):
    server.inject("/o\\?", status=403, body=b"[" * 60_000, times=None)
    with pytest.raises(PermissionDeniedError):
        BucketSource(GCSBucket(NAME, endpoint=server.url, credentials=Anonymous())).resolve_revision()


@pytest.mark.parametrize("name", ["a\\ud800", "a\\udcff/.sourceignore"])
def test_half_of_a_surrogate_pair_is_no_name_of_an_object(server, name):
    body = b'{"items":[{"name":"%s","size":"1","generation":"1"}]}' % name.encode()
    server.inject("/o\\?", status=200, body=body, times=None)
    with pytest.raises(RemoteProtocolError, match="answers no listing"):
        BucketSource(GCSBucket(NAME, endpoint=server.url, credentials=Anonymous())).resolve_revision()


def test_a_key_that_is_no_utf_8_is_asked_for_as_it_was_listed(server):
    """An ignore file in such a directory is read before anybody judges its name."""
    record = b'<Contents><Key>a%FF/.sourceignore</Key><ETag>"e"</ETag><Size>1</Size></Contents>'
    body = b"<ListBucketResult><EncodingType>url</EncodingType>%s</ListBucketResult>" % record
    server.inject("list-type", status=200, body=body, times=None)
    with pytest.raises(SourceChangedError):
        BucketSource(s3(server)).resolve_revision()
    assert server.asked("/a%FF/.sourceignore$")


def test_keys_are_taken_as_they_are_from_a_service_that_does_not_say_that_it_encodes_them(server):
    put(server, "a+b%41")
    etag = server.buckets[NAME]["a+b%41"].etag
    record = f'<Contents><Key>a+b%41</Key><ETag>"{etag}"</ETag><Size>{len("a+b%41")}</Size></Contents>'
    server.inject("list-type", status=200, body=f"<ListBucketResult>{record}</ListBucketResult>".encode(), times=None)
    with BucketSource(s3(server)).fetch() as snapshot:
        assert [(entry.path, entry.read()) for entry in snapshot.entries()] == [("a+b%41", b"a+b%41")]


@pytest.mark.parametrize("size", ["²", "9" * 5000])
def test_a_part_of_an_object_whose_size_is_no_number_is_no_part(size):
    response = SimpleNamespace(length=2, headers=Headers((("content-range", f"bytes 0-1/{size}"),)))
    client = client_module.HTTPBucketClient(SimpleNamespace(url="s3://models", jumps=True), None, Operation())
    with pytest.raises(SourceChangedError):
        client._receive(response, BucketObject("a", 5, "e"), 0, 2)


def test_the_deadline_holds_against_a_server_that_says_nothing():
    stuck = threading.Event()
    with ObjectServer(on_request=lambda _: stuck.wait(60)) as server:
        with pytest.raises(TransportTimeoutError):
            BucketSource(s3(server), timeout=0.3).resolve_revision()
        stuck.set()


def test_cancelling_ends_a_download(server):
    """From another thread, while requests are on their way."""
    put(server, "a", "b")
    cancel, stuck = threading.Event(), threading.Event()

    def wait(request):
        if request.path.endswith("/a"):
            cancel.set()
            stuck.wait(60)

    server.on_request = wait
    operation = Operation(cancel=cancel)
    with pytest.raises(OperationCancelledError), BucketSource(s3(server)).fetch(operation=operation) as snapshot:
        next(snapshot.entries()).read()
    stuck.set()


def test_a_snapshot_that_is_left_leaves_no_thread_and_waits_for_no_request(server):
    put(server, *(f"{n:03}" for n in range(100)))
    before = threading.active_count()
    with BucketSource(s3(server)).fetch() as snapshot:
        for entry in [*snapshot.entries()][:20]:
            entry.read()
    assert [t for t in threading.enumerate() if t.name.startswith("fluxsrc-bucket")] == []
    assert threading.active_count() <= before + 40  # the server's own threads end when their connections do


def test_a_bucket_that_keeps_changing_gives_up_after_some_attempts(server):
    put(server, "a")
    generation = iter(range(1000))

    def change(request):
        if request.path.endswith("/a"):
            server.put(NAME, "a", b"%d" % next(generation))

    server.on_request = change
    with pytest.raises(SourceChangedError):
        BucketSource(s3(server)).produce_artifact(MemoryStore())
    assert len(server.asked(r"list-type=2$")) == 3


# --- reading ahead ---------------------------------------------------------------------------------------------------


def test_a_reader_that_picks_a_few_objects_costs_a_few_requests(server):
    put(server, *(f"{n:03}" for n in range(300)))
    bucket = RecordingBucket(s3(server))
    with BucketSource(bucket).fetch() as snapshot:
        for entry in list(snapshot.entries())[::50]:
            entry.read()
    assert len(bucket.reads) <= 12


def test_reading_everything_requests_each_object_once(server):
    put(server, *(f"{n:03}" for n in range(300)))
    bucket = RecordingBucket(s3(server))
    with BucketSource(bucket).fetch() as snapshot:
        for entry in snapshot.entries():
            entry.read()
    assert sorted(bucket.reads) == [f"{n:03}" for n in range(300)]


def test_empty_objects_are_not_requested(server):
    server.put(NAME, "empty", b"")
    with BucketSource(s3(server)).fetch() as snapshot:
        entry = next(snapshot.entries())
        assert entry.read() == b""
        with entry.open() as stream:
            assert stream.read() == b""
    assert not server.asked("empty$")


def test_all_that_changed_is_requested_at_once(server, monkeypatch):
    """Before the reader comes to it, wherever it is; as much as half a window holds, and the rest as that is read."""
    put(server, *[f"{n:03}" for n in range(100)])
    bucket = RecordingBucket(s3(server))
    with BucketSource(bucket).fetch() as snapshot:
        before, survey = snapshot.revision, snapshot.survey()
    for n in range(0, 100, 10):
        server.put(NAME, f"{n:03}", b"new")
    monkeypatch.setattr(fetch, "WINDOW", 2 * 3 * 8)
    with BucketSource(bucket).fetch() as snapshot:
        assert snapshot.changed_since(before, survey) == [f"{n:03}" for n in range(0, 100, 10)]
        assert sorted(bucket.reads) == [f"{n:03}" for n in range(0, 80, 10)]
        contents = {entry.path: entry.read() for entry in snapshot.entries_from("050")}
    assert contents["050"] == contents["090"] == b"new"
    assert list(contents) == [f"{n:03}" for n in range(50, 100)]
    assert len(bucket.reads) == len(set(bucket.reads))


def test_a_survey_that_is_not_of_that_revision_is_not_believed(server):
    """Buckets that hold the same bytes share an index in a store, and it has the names that one of them gave."""
    put(server, *[f"{n:03}" for n in range(10)])
    with BucketSource(s3(server)).fetch() as snapshot:
        before, survey = snapshot.revision, snapshot.survey()
    put(server, "a")
    with BucketSource(s3(server)).fetch() as snapshot:
        assert snapshot.changed_since(before, survey) == ["a"]
        assert snapshot.changed_since(snapshot.revision, survey) is None
        assert snapshot.changed_since(before, "") is None


def test_where_most_of_a_bucket_changed_it_is_listed(server):
    """And where keys are left out of it: a path that was one of two may be the only one later."""
    put(server, *[f"{n:03}" for n in range(8)])
    with BucketSource(s3(server)).fetch() as snapshot:
        before, survey = snapshot.revision, snapshot.survey()
    server.put(NAME, "a/", b"no marker")
    with BucketSource(s3(server), unsafe_keys="skip").fetch() as snapshot:
        assert snapshot.changed_since(before, survey) is None
    put(server, *[f"new/{n:03}" for n in range(8)])
    server.buckets[NAME].pop("a/")
    with BucketSource(s3(server)).fetch() as snapshot:
        assert snapshot.changed_since(before, survey) is None


def test_progress_is_told_in_objects_and_bytes(server):
    put(server, *(f"{n:02}" for n in range(25)))
    told = []
    with BucketSource(s3(server)).fetch(operation=Operation(progress=told.append)) as snapshot:
        for entry in snapshot.entries():
            entry.read()
    listed = [progress.done for progress in told if progress.phase == "list"]
    received = [(progress.done, progress.total) for progress in told if progress.phase == "receive"]
    assert listed == [10, 20, 25]
    assert received[-1] == (50, 50)

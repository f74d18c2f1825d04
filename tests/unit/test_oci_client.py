"""The OCI client and a registry that fails on purpose: the right error, nothing kept, and no request too many."""

import gzip
import io
import json
import pickle
import re
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from fluxsrc.auth import BasicAuth, BearerToken, StaticKeychain, TLSConfig
from fluxsrc.entry import Mode
from fluxsrc.errors import (
    AuthenticationError,
    ConfigurationError,
    ContentError,
    DigestMismatchError,
    FluxSrcError,
    LimitExceededError,
    OperationCancelledError,
    PermissionDeniedError,
    RateLimitedError,
    RemoteProtocolError,
    RevisionNotFoundError,
    SourceChangedError,
    TransportError,
    UnsafeEntryError,
)
from fluxsrc.limits import Limits
from fluxsrc.memory import MemoryFile, MemorySource
from fluxsrc.oci import OCISource, TokenCache, ranges, transfer
from fluxsrc.oci.access import Access
from fluxsrc.oci.listing import candidates, history, list_tags, moves
from fluxsrc.oci.publish import delete, promote
from fluxsrc.oci.pushing import push
from fluxsrc.operation import Operation
from fluxsrc.stores import MemoryStore
from fluxsrc.testing.registry import Registry
from helpers.tls import TLS, server_context

LAYER = "application/vnd.cncf.flux.content.v1.tar+gzip"


pytestmark = pytest.mark.usefixtures("impatient")


def layer(files: dict[str, bytes], *, links: dict[str, str] | None = None, hard: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            if path.endswith("/"):
                info.type, info.size = tarfile.DIRTYPE, 0
            tar.addfile(info, io.BytesIO(data))
        for path, target in (links or {}).items():
            info = tarfile.TarInfo(path)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
        for path, target in (hard or {}).items():
            info = tarfile.TarInfo(path)
            info.type, info.linkname = tarfile.LNKTYPE, target
            tar.addfile(info)
    return gzip.compress(buffer.getvalue(), mtime=0)


def source(registry: Registry, suffix: str = ":v1", **options) -> OCISource:
    return OCISource(f"oci://{registry.host}/app{suffix}", **{"insecure": True, **options})


def files(src: OCISource, **operation) -> dict[str, bytes]:
    with src.fetch(operation=Operation(**operation)) as snapshot:
        return {entry.path: entry.read() for entry in snapshot.entries()}


# --- how many requests -----------------------------------------------------------------------------------------------


def test_an_unchanged_poll_is_one_request(registry):
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    store, src = MemoryStore(), source(registry)
    src.produce_artifact(store)
    registry.requests.clear()
    src.produce_artifact(store)
    assert [(r.method, r.path) for r in registry.requests] == [("HEAD", "/v2/app/manifests/v1")]


def test_a_cold_pull_is_three_requests(registry):
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    source(registry).produce_artifact(MemoryStore())
    assert [r.method for r in registry.requests] == ["HEAD", "GET", "GET"]


def test_a_known_digest_costs_nothing(registry):
    digest = registry.put("app", None, layers=[(LAYER, layer({"a": b"1"}))])
    store, src = MemoryStore(), source(registry, f"@{digest}")
    assert str(src.resolve_revision()) == digest
    assert registry.requests == []
    src.produce_artifact(store)
    registry.requests.clear()
    src.produce_artifact(store)
    assert registry.requests == []


def test_a_layer_that_is_stored_already_is_not_downloaded_for_a_new_manifest(registry):
    content = layer({"a": b"1"})
    registry.put("app", "v1", layers=[(LAYER, content)])
    store, src = MemoryStore(), source(registry)
    first = src.produce_artifact(store)
    registry.put("app", "v1", layers=[(LAYER, content)], annotations={"x": "y"})
    second = src.produce_artifact(store)
    assert registry.count("GET .*/blobs/") == 1
    assert second.digest == first.digest
    assert (second.annotations["x"], second.revision) != (None, first.revision)


def test_the_tag_is_not_looked_at_again_after_resolving(registry):
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    src = source(registry)
    revision = src.resolve_revision()
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"2"}))])
    with src.fetch(revision) as snapshot:
        assert [entry.read() for entry in snapshot.entries()] == [b"1"]
    assert registry.count("/manifests/v1") == 1


def test_a_pull_through_cache_is_asked_by_get(registry):
    registry.has_head = False
    digest = registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    assert source(registry).resolve_revision().digest.hex in digest


# --- precedence ------------------------------------------------------------------------------------------------------


def test_digest_goes_before_semver_before_tag(registry):
    one = registry.put("app", "1.0.0", layers=[(LAYER, layer({"a": b"1"}))])
    two = registry.put("app", "2.0.0", layers=[(LAYER, layer({"a": b"2"}))])
    three = registry.put("app", "latest", layers=[(LAYER, layer({"a": b"3"}))])
    revisions = [
        source(registry, "", digest=one, semver="*", tag="latest").resolve_revision(),
        source(registry, "", semver="*", tag="latest").resolve_revision(),
        source(registry, "", tag="1.0.0").resolve_revision(),
        source(registry, ":1.0.0", tag="2.0.0").resolve_revision(),
        source(registry, "").resolve_revision(),
    ]
    assert [str(r) for r in revisions] == [one, f"2.0.0@{two}", f"1.0.0@{one}", f"2.0.0@{two}", f"latest@{three}"]


def test_semver_filters_and_pages(registry):
    registry.page = 3
    for tag in ("app-1.0.0", "app-1.2.0", "app-2.0.0", "web-1.9.0", "1.5.0", "latest", "sha256-abc.sig"):
        registry.put("app", tag, layers=[(LAYER, layer({"a": b"1"}))])
    src = source(registry, "", semver="1.x", semver_filter=r"^app-(.*)$")
    assert src.resolve_revision().pointer == "app-1.2.0"
    assert registry.count("/tags/list") == 3
    with pytest.raises(RevisionNotFoundError, match=r"range '3\.x'"):
        source(registry, "", semver="3.x").resolve_revision()


@pytest.mark.parametrize(
    "options",
    [
        {"semver": "x y"},
        {"semver_filter": "("},
        {"semver_filter": "x"},
        {"tag": "-"},
        {"digest": "sha256:x"},
        {"platform": "linux"},
        {"layer_operation": "untar"},
    ],
)
def test_a_wrong_option_is_refused_before_any_request(options):
    with pytest.raises(ValueError, match=r".+"):
        OCISource("oci://host/app", **options)


# --- broken and hostile registries -----------------------------------------------------------------------------------


def test_a_broken_download_resumes_where_it_was(registry, monkeypatch):
    data = layer({"a": bytes(range(256)) * 400})
    registry.put("app", "v1", layers=[(LAYER, data)])
    registry.inject("GET .*/blobs/", times=3, cut_after=100)
    assert files(source(registry)) == {"a": bytes(range(256)) * 400}
    ranges = [r.headers.get("Range") for r in registry.requests if "/blobs/" in r.path]
    assert ranges == [None, "bytes=100-", "bytes=200-", "bytes=300-"]


@pytest.mark.parametrize("pipeline", [1, 1 << 40])
def test_a_broken_download_goes_on_without_ranges_too(registry, monkeypatch, pipeline):
    monkeypatch.setattr(transfer, "_PIPELINE", pipeline)
    registry.has_ranges = False
    content = {"a": bytes(range(256)) * 4000}
    registry.put("app", "v1", layers=[("application/x.tar", gzip.decompress(layer(content)))])
    registry.inject("GET .*/blobs/", times=2, cut_after=600_000)
    assert files(source(registry)) == content


@pytest.fixture
def slow_wires(monkeypatch):
    """Every connection counts as slow, after little; segments are small."""
    for name, value in {"_FAST": float("inf"), "_PROBE": 1000, "_WORTH": 1000, "_SEGMENT": 50_000}.items():
        monkeypatch.setattr(ranges, name, value)
    monkeypatch.setattr(transfer, "_CHUNK", 10_000)


@pytest.mark.parametrize("pipeline", [1, 1 << 40])
def test_where_one_connection_is_slow_there_are_more(registry, monkeypatch, slow_wires, pipeline):
    monkeypatch.setattr(transfer, "_PIPELINE", pipeline)
    content = {"a": bytes(range(256)) * 4000}
    registry.put("app", "v1", layers=[("application/x.tar", gzip.decompress(layer(content)))])
    assert files(source(registry)) == content
    asked = [r.headers.get("Range") for r in registry.requests if "/blobs/" in r.path]
    assert asked[0] is None
    assert len(asked) > 15
    assert None not in asked[1:]


def test_segments_resume_and_are_verified(registry, slow_wires):
    content = {"a": bytes(range(256)) * 4000}
    registry.put("app", "v1", layers=[("application/x.tar", gzip.decompress(layer(content)))])
    registry.inject("GET .*/blobs/", times=1, cut_after=500_000)
    registry.inject("GET .*/blobs/", times=3, cut_after=20_000)
    assert files(source(registry)) == content
    registry.inject("GET .*/blobs/", times=5, corrupt=True)
    with pytest.raises(DigestMismatchError):
        files(source(registry))


def test_a_registry_that_loses_a_segment_for_good_is_given_up(registry, slow_wires):
    registry.put("app", "v1", layers=[("application/x.tar", gzip.decompress(layer({"a": bytes(1_000_000)})))])
    registry.inject("GET .*/blobs/", times=1, cut_after=900_000)
    registry.inject("GET .*/blobs/", times=None, cut_after=0)
    with pytest.raises(TransportError):
        files(source(registry))


def test_without_ranges_there_is_one_connection(registry, slow_wires):
    registry.has_ranges = False
    content = {"a": bytes(range(256)) * 4000}
    registry.put("app", "v1", layers=[("application/x.tar", gzip.decompress(layer(content)))])
    assert files(source(registry)) == content
    assert registry.count("GET .*/blobs/") == 1


def test_a_download_that_never_gets_further_is_given_up(registry):
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    registry.inject("GET .*/blobs/", times=None, cut_after=0)
    with pytest.raises(TransportError, match="cut"):
        files(source(registry))
    assert registry.count("GET .*/blobs/") == 5


@pytest.mark.parametrize("pipeline", [1, 1 << 40])
@pytest.mark.parametrize("operation", ["extract", "copy"])
def test_a_corrupt_blob_is_a_mismatch_and_nothing_is_kept(registry, monkeypatch, operation, pipeline):
    monkeypatch.setattr(transfer, "_PIPELINE", pipeline)
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    registry.inject("GET .*/blobs/", corrupt=True)
    store = MemoryStore()
    with pytest.raises(DigestMismatchError, match="turns out to be"):
        source(registry, layer_operation=operation).produce_artifact(store)
    assert list(store.sources()) == []


def test_a_blob_longer_than_described_stops_at_once(registry):
    data = layer({"a": b"1"})
    digest = registry.put("app", "v1", layers=[(LAYER, data)])
    blob = json.loads(registry.repository("app").manifests[digest][1])["layers"][0]["digest"]
    registry.repository("app").blobs[blob] = data * 100_000
    with pytest.raises(DigestMismatchError, match="more than"):
        files(source(registry))


def test_a_blob_shorter_than_described_is_a_mismatch(registry):
    data = layer({"a": b"1"})
    digest = registry.put("app", "v1", layers=[(LAYER, data)])
    blob = json.loads(registry.repository("app").manifests[digest][1])["layers"][0]["digest"]
    registry.repository("app").blobs[blob] = data[:-1]
    with pytest.raises(DigestMismatchError):
        files(source(registry))


def test_a_manifest_that_is_not_of_its_digest_is_refused(registry):
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    registry.inject("GET .*/manifests/sha256", corrupt=True)
    with pytest.raises(DigestMismatchError):
        files(source(registry))


def test_a_manifest_that_contradicts_its_header_is_refused(registry):
    registry.has_head = False
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    registry.inject("GET .*/manifests/v1", corrupt=True)
    with pytest.raises(DigestMismatchError):
        source(registry).resolve_revision()


@pytest.mark.parametrize("what", ["manifests/sha256", "tags/list"])
def test_html_where_json_was_expected_is_named(registry, what):
    registry.put("app", "1.0.0", layers=[(LAYER, layer({"a": b"1"}))])
    page = b"<html>please log in</html>"
    registry.inject(what, times=None, status=200, headers={"Content-Type": "text/html"}, body=page)
    with pytest.raises((RemoteProtocolError, DigestMismatchError)) as caught:
        files(source(registry, "", semver="*"))
    assert "HTML" in str(caught.value) or isinstance(caught.value, DigestMismatchError)


def test_a_manifest_over_the_limit_is_refused(registry):
    registry.put("app", "v1", layers=[(LAYER, b"x")], annotations={"x": "y" * 5_000_000})
    with pytest.raises(LimitExceededError, match="max_manifest_bytes"):
        files(source(registry))


@pytest.mark.parametrize("link", ["</v2/app/tags/list?n=1000>; rel=next", '</v2/app/tags/list?last=a>; rel="next"'])
def test_pages_without_end_come_to_one(registry, link):
    body = json.dumps({"tags": ["a", "b"]}).encode()
    registry.inject("tags/list", times=None, status=200, headers={"Link": link}, body=body)
    with pytest.raises(RemoteProtocolError, match="no end"):
        source(registry, "", semver="*").resolve_revision()


@pytest.mark.parametrize("where", ["http://127.0.0.1:1/v2/app/tags/list", "http://[::1"])
def test_the_next_page_is_not_looked_for_on_another_host(registry, where):
    body = json.dumps({"tags": ["a"]}).encode()
    link = f'<{where}>; rel="next"'
    registry.inject("tags/list", times=None, status=200, headers={"Link": link}, body=body)
    with pytest.raises(RemoteProtocolError, match="another host"):
        source(registry, "", semver="*").resolve_revision()


def test_an_upload_does_not_go_on_at_what_is_no_address(registry):
    registry.inject("POST", times=None, status=202, headers={"Location": "http://[::1"})
    with pytest.raises(RemoteProtocolError, match="where to go on"):
        push(MemorySource({"a": "1"}), f"oci://{registry.host}/app:v1", access=Access(insecure=True))


def test_more_tags_than_allowed_are_refused(registry):
    for number in range(5):
        registry.put("app", f"{number}.0.0", layers=[(LAYER, b"")])
    with pytest.raises(LimitExceededError, match="max_refs"):
        source(registry, "", semver="*", limits=Limits(max_refs=4)).resolve_revision()


def test_redirects_in_a_circle_end(registry):
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    registry.inject("/blobs/", times=None, status=307, headers={"Location": "/v2/app/blobs/x"})
    with pytest.raises(RemoteProtocolError, match="redirects"):
        files(source(registry))


@pytest.mark.parametrize("limit", ["max_content_bytes", "max_ratio", "max_file_bytes"])
def test_a_gzip_bomb_hits_a_limit(registry, limit):
    registry.put("app", "v1", layers=[(LAYER, layer({"zeros": bytes(40_000_000)}))])
    limits = Limits(**{limit: 100 if limit == "max_ratio" else 30_000_000})
    with pytest.raises(LimitExceededError, match=limit):
        files(source(registry, limits=limits))


def test_a_bomb_from_a_registry_that_falls_silent_ends_at_its_limit(registry):
    """Nobody waits for the rest of a download that is refused already."""
    bomb = layer({"zeros": bytes(20_000_000)})
    data = bomb + bytes(300_000)  # what follows never comes
    registry.put("app", "v1", layers=[(LAYER, data)])
    registry.inject("GET .*/blobs/", times=None, stall_after=len(bomb))
    with pytest.raises(LimitExceededError):
        files(source(registry, limits=Limits(max_file_bytes=1_000_000)), timeout=60.0)
    assert not any(thread.name == "fluxsrc-fetch" for thread in _after_a_moment())


def _after_a_moment() -> list[threading.Thread]:
    for thread in threading.enumerate():
        if thread.name == "fluxsrc-fetch":
            thread.join(5)
    return threading.enumerate()


def test_a_layer_larger_than_allowed_is_not_downloaded(registry):
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    with pytest.raises(LimitExceededError, match="max_archive_bytes"):
        files(source(registry, limits=Limits(max_archive_bytes=10)))
    assert registry.count("/blobs/") == 0


def test_a_vanished_revision_was_changed_and_a_vanished_pin_is_not_found(registry):
    digest = registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    src = source(registry)
    revision = src.resolve_revision()
    registry.repository("app").manifests.clear()
    with pytest.raises(SourceChangedError), src.fetch(revision):
        pass
    with pytest.raises(RevisionNotFoundError), source(registry, f"@{digest}").fetch():
        pass


# --- patience --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"status": 500}, {"status": 408}, {"status": 429, "headers": {"Retry-After": "0"}}]
)
@pytest.mark.parametrize("where", ["HEAD .*/manifests/", "GET .*/manifests/", "/blobs/"])
def test_what_may_pass_is_tried_again(registry, fault, where):
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    registry.inject(where, times=2, **fault)
    assert files(source(registry)) == {"a": b"1"}


def test_patience_is_not_longer_than_the_deadline(registry):
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    registry.inject("HEAD", times=None, status=429, headers={"Retry-After": "30"})
    with pytest.raises(RateLimitedError) as caught:
        source(registry, timeout=5.0).resolve_revision()
    assert caught.value.retry_after == 30
    assert registry.count("HEAD") == 1


def test_a_push_is_tried_again_from_the_start_of_its_blob(registry):
    registry.inject("POST .*/uploads/", status=503)
    registry.inject("PUT .*/uploads/", status=502)
    registry.inject("PUT .*/manifests/", status=500)
    pushed = push(MemorySource({"a": "1"}), f"oci://{registry.host}/app:v1", access=Access(insecure=True))
    assert files(source(registry)) == {"a": b"1"}
    assert str(pushed.digest) == registry.repository("app").tags["v1"]


def test_a_broken_chunk_goes_on_from_what_arrived(registry, monkeypatch):
    monkeypatch.setattr(transfer, "_UPLOAD_CHUNK", 400_000)
    data = bytes(range(256)) * 4000
    fault = registry.inject("PATCH .*/uploads/", times=1, cut_after=150_000)
    push(MemorySource({"a": data}, compression="none"), f"oci://{registry.host}/app:v1", access=Access(insecure=True))
    assert fault.times == 0
    assert files(source(registry)) == {"a": data}
    ranges = [r.headers["Content-Range"] for r in registry.requests if r.method == "PATCH"]
    assert ranges[:2] == ["0-399999", "150000-549999"]


def test_a_cancelled_pull_stops(registry):
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    cancel = threading.Event()

    def progress(report):
        if report.phase == "receive":
            cancel.set()

    with pytest.raises(OperationCancelledError):
        files(source(registry), cancel=cancel, progress=progress)


# --- logging in ------------------------------------------------------------------------------------------------------


def keychain(registry: Registry, password: str = "hunter2", user: str = "robot") -> StaticKeychain:
    return StaticKeychain.for_url(registry.url, BasicAuth(user, password))


def test_a_token_is_fetched_once_and_kept():
    with Registry(users={"robot": "hunter2"}, token=True) as registry:
        registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
        store, src = MemoryStore(), source(registry, keychain=keychain(registry))
        src.produce_artifact(store)
        assert registry.count("/token") == 1
        registry.requests.clear()
        src.produce_artifact(store)
        assert len(registry.requests) == 1
        assert source(registry, keychain=keychain(registry), tokens=src.tokens).resolve_revision()
        assert registry.count("/token") == 0


def test_an_expired_token_is_replaced():
    with Registry(users={"robot": "hunter2"}, token=True) as registry:
        registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
        src = source(registry, keychain=keychain(registry))
        src.resolve_revision()
        registry.tokens.clear()
        assert src.resolve_revision().pointer == "v1"
        assert registry.count("/token") == 2


def test_many_threads_log_in_once():
    with Registry(users={"robot": "hunter2"}, token=True) as registry:
        for number in range(20):
            registry.put("app", f"v{number}", layers=[(LAYER, b"")])
        access = Access(keychain=keychain(registry), insecure=True)
        assert len(list_tags(f"oci://{registry.host}/app", access=access)) == 20
        assert registry.count("/token") == 1


def test_an_identity_token_is_exchanged_and_never_sent_in_a_url():
    with Registry(users={"<token>": "refresh-me"}, token=True) as registry:
        registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
        chain = keychain(registry, "refresh-me", "<token>")
        assert source(registry, keychain=chain).resolve_revision().pointer == "v1"
        assert [r.method for r in registry.requests if r.path.startswith("/token")] == ["POST"]
        assert not any("refresh-me" in r.path for r in registry.requests)


def test_a_registry_token_is_sent_as_it_is():
    with Registry(users={"robot": "x"}, token=True) as registry:
        registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
        registry.tokens["given"] = (float("inf"), {"repository:app:pull"})
        good, bad = (StaticKeychain.for_url(registry.url, BearerToken(text)) for text in ("given", "other"))
        assert source(registry, keychain=good).resolve_revision().pointer == "v1"
        with pytest.raises(AuthenticationError):
            source(registry, keychain=bad).resolve_revision()
        assert registry.count("/token") == 0


@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("chain", ["none", "wrong"])
def test_no_or_wrong_credentials_are_an_authentication_error_that_tells_no_secret(token, chain):
    with Registry(users={"robot": "hunter2"}, token=token) as registry:
        registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
        src = source(registry, keychain=keychain(registry, "wr0ng-secret") if chain == "wrong" else None)
        with pytest.raises(AuthenticationError) as caught:
            src.resolve_revision()
        error: BaseException | None = caught.value
        while error is not None:
            assert "wr0ng-secret" not in str(error) + repr(error) + repr(vars(error))
            error = error.__cause__ or error.__context__
        assert "wr0ng-secret" not in repr(src) + src.url


def test_a_forbidden_repository_is_a_permission_error(registry):
    registry.inject("HEAD", times=None, status=403)
    with pytest.raises(PermissionDeniedError):
        source(registry).resolve_revision()


def test_a_registrys_own_words_reach_no_terminal_as_commands(registry):
    body = json.dumps({"errors": [{"code": "DENIED", "message": "\x1b[2Jno\n"}]}).encode()
    registry.inject("HEAD", times=None, status=404)
    registry.inject("GET", times=None, status=403, body=body)
    with pytest.raises(PermissionDeniedError, match="DENIED") as caught:
        source(registry).resolve_revision()
    assert str(caught.value).isprintable()


def test_credentials_do_not_follow_a_blob_to_another_host():
    with Registry(users={"robot": "hunter2"}) as registry, Registry() as elsewhere:
        data = layer({"a": b"1"})
        digest = registry.put("app", "v1", layers=[(LAYER, data)])
        blob = json.loads(registry.repository("app").manifests[digest][1])["layers"][0]["digest"]
        elsewhere.put("app", "v1", layers=[(LAYER, data)])
        registry.inject("/blobs/", times=None, status=307, headers={"Location": f"{elsewhere.url}/v2/app/blobs/{blob}"})
        assert files(source(registry, keychain=keychain(registry))) == {"a": b"1"}
        assert all("Authorization" not in request.headers for request in elsewhere.requests)
        assert elsewhere.count("/blobs/") == 1


@pytest.mark.parametrize("what", ["/blobs/", "HEAD"])
def test_where_a_redirect_leads_nobody_can_ask_for_the_registry_s_credentials(what):
    """A host that stores blobs names a token service of its own; docker's clients ask it with the registry's password."""
    with Registry(users={"robot": "hunter2"}) as registry, Registry() as elsewhere:
        registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
        registry.inject(what, times=None, status=307, headers={"Location": f"{elsewhere.url}/v2/app/blobs/x"})
        challenge = f'Bearer realm="{elsewhere.url}/token",service="x"'
        elsewhere.inject("/blobs/", times=None, status=401, headers={"WWW-Authenticate": challenge})
        with pytest.raises(AuthenticationError):
            files(source(registry, keychain=keychain(registry)))
        assert elsewhere.count("/blobs/") == 1
        assert elsewhere.count("/token") == 0


def test_a_range_that_nobody_can_count_is_not_the_one_that_was_asked_for():
    for header in ("bytes %s-5/6", "bytes 0-%s/6"):
        response = SimpleNamespace(headers={"content-range": header % ("1" * 5000)}, url="https://x.example")
        with pytest.raises(RemoteProtocolError):
            ranges.check_range(response, 0, "read it")
    assert transfer._offset("0-" + "1" * 5000, 7) == 7


def test_a_token_that_is_good_for_longer_than_one_can_count_is_none():
    with Registry(users={"robot": "hunter2"}, token=True) as registry:
        registry.inject("/token", times=None, status=200, body=b'{"token":"t","expires_in":1%s}' % (b"0" * 400))
        registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
        with pytest.raises(RemoteProtocolError, match="no token"):
            source(registry, keychain=keychain(registry)).resolve_revision()


@pytest.mark.parametrize("realm", ["http://127.0.0.1:1/token", "nonsense", "ftp://x/", ""])
def test_a_safe_registry_cannot_ask_for_credentials_in_the_clear(realm):
    with Registry(context=server_context()) as registry:
        challenge = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
        registry.inject("HEAD", times=None, status=401, headers=challenge)
        tls = TLSConfig(ca=(TLS / "ca.pem").read_text())
        with pytest.raises(RemoteProtocolError):
            source(registry, insecure=False, tls=tls, keychain=keychain(registry)).resolve_revision()


def test_plain_http_is_never_tried_unless_said(registry):
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    with pytest.raises(FluxSrcError):
        source(registry, insecure=False).resolve_revision()
    assert registry.requests == []


def test_a_token_cache_travels_empty():
    cache = TokenCache()
    cache.put("key", BasicAuth("u", "hunter2").password, 60)
    assert b"hunter2" not in pickle.dumps(cache)
    assert pickle.loads(pickle.dumps(cache)).get("key") is None


# --- kinds of content ------------------------------------------------------------------------------------------------


def test_the_first_layer_of_a_media_type_is_selected(registry):
    provenance = ("application/vnd.cncf.helm.chart.provenance.v1.prov", b"signed")
    chart = ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", layer({"app/Chart.yaml": b"name: app"}))
    registry.put("app", "v1", layers=[provenance, chart])
    assert files(source(registry, layer=chart[0])) == {"app/Chart.yaml": b"name: app"}
    with pytest.raises(ContentError, match=re.escape(chart[0])):
        files(source(registry, layer="application/x"))
    with pytest.raises(ContentError, match="not an archive"):
        files(source(registry))


def test_helm_versions_with_a_plus_are_read_from_tags_with_an_underscore(registry):
    media_type = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
    registry.put("app", "1.2.3_build.7", layers=[(media_type, layer({"a": b"1"}))])
    assert source(registry, "", semver="1.x", layer=media_type).resolve_revision().pointer == "1.2.3_build.7"


def test_a_static_file_is_a_file(registry):
    registry.put("app", "v1", layers=[("application/vnd.cncf.flux.content.v1.yaml", b"kind: Namespace")])
    assert files(source(registry)) == {"artifact.yaml": b"kind: Namespace"}


def test_oras_files_have_their_titles_and_directories_are_unpacked(registry):
    title = "org.opencontainers.image.title"
    directory = {title: "deploy", "io.deis.oras.content.unpack": "true"}
    registry.put(
        "app", "v1",
        layers=[("text/plain", b"hello", {title: "docs/readme.txt"}), ("application/x", layer({"deploy/a": b"1"}), directory)],
    )  # fmt: skip
    assert files(source(registry, layer_operation="files")) == {"deploy/a": b"1", "docs/readme.txt": b"hello"}
    assert files(source(registry)) == {"docs/readme.txt": b"hello"}


@pytest.mark.parametrize("title", ["../evil", "/evil", "a//b", "", "a\\b"])
def test_a_title_cannot_escape(registry, title):
    registry.put("app", "v1", layers=[("text/plain", b"x", {"org.opencontainers.image.title": title})])
    with pytest.raises(ContentError):
        files(source(registry, layer_operation="files"))


def test_an_image_is_the_sum_of_its_layers(registry):
    media_type = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    lower = layer({"etc/a": b"a1", "etc/b": b"b1", "opt/x/1": b"1", "opt/x/2": b"2", "file": b"f", "dir/in": b"i"})
    middle = layer({"etc/.wh.b": b"", "opt/x/.wh..wh..opq": b"", "opt/x/3": b"3", "file/": b"", "file/now": b"n"})
    links = {"etc/link": "a", "etc/mtab": "/proc/mounts"}
    upper = layer({"etc/a": b"a2", "dir": b"flat", "h": b"same"}, links=links, hard={"h2": "h"})
    registry.put("app", "v1", layers=[(media_type, lower), (media_type, middle), (media_type, upper)])
    assert files(source(registry, layer_operation="image")) == {
        "dir": b"flat", "etc/a": b"a2", "etc/link": b"a", "etc/mtab": b"/proc/mounts", "file/now": b"n", "h": b"same", "h2": b"same", "opt/x/3": b"3",
    }  # fmt: skip


def test_an_images_links_out_of_it_are_reported_or_refused(registry):
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}, links={"l": "/etc/passwd", "m": "../../x"}))])
    src = source(registry, layer_operation="image")
    assert [(s.path, s.detail) for s in src.produce_artifact(MemoryStore()).skipped] == [
        ("l", "/etc/passwd"), ("m", "../../x"),
    ]  # fmt: skip
    for policy in ("keep", "dereference", "error"):
        with pytest.raises(UnsafeEntryError):
            source(registry, layer_operation="image", symlinks=policy).produce_artifact(MemoryStore())
    with pytest.raises(UnsafeEntryError):
        files(source(registry))


def test_more_layers_than_allowed_are_refused(registry):
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))] * 3)
    with pytest.raises(LimitExceededError, match="max_layers"):
        files(source(registry, limits=Limits(max_layers=2)))


def test_a_whiteout_does_not_remove_what_its_own_layer_brings(registry):
    both = layer({"d/new": b"2", "d/.wh..wh..opq": b"", "d/.wh.new": b""})
    registry.put("app", "v1", layers=[(LAYER, layer({"d/old": b"1", "d/new": b"1"})), (LAYER, both)])
    assert files(source(registry, layer_operation="image")) == {"d/new": b"2"}


def test_an_index_without_a_platform_fails_naming_the_choices(registry):
    children = {
        platform: registry.put("app", None, layers=[(LAYER, layer({"p": platform.encode()}))])
        for platform in ("linux/amd64", "linux/arm64/v8")
    }
    digest = registry.put_index("app", "v1", children)
    with pytest.raises(ConfigurationError, match="linux/amd64, linux/arm64/v8"):
        files(source(registry))
    with pytest.raises(RevisionNotFoundError, match="windows/amd64"):
        files(source(registry, platform="windows/amd64"))
    src = source(registry, platform="linux/arm64")
    assert files(src) == {"p": b"linux/arm64/v8"}
    assert str(src.resolve_revision()) == f"v1@{digest}"


def test_annotations_are_provenance(registry):
    notes = {
        "org.opencontainers.image.source": "https://example.com/repo",
        "org.opencontainers.image.revision": "main@sha1:abc",
        "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
        "team": "a",
    }
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))], annotations=notes)
    artifact = source(registry).produce_artifact(MemoryStore())
    assert dict(artifact.annotations) == notes
    assert artifact.created is not None
    assert artifact.created.isoformat() == "2026-01-02T03:04:05+00:00"


def test_links_are_reported_when_they_are_skipped(registry):
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}, links={"l": "a"}))])
    artifact = source(registry).produce_artifact(MemoryStore())
    assert [(s.path, s.reason, s.detail) for s in artifact.skipped] == [("l", "symlink", "a")]
    kept = source(registry, symlinks="keep").produce_artifact(MemoryStore())
    expected = MemorySource({"a": "1", "l": MemoryFile(b"a", Mode.SYMLINK)}, symlinks="keep")
    assert kept.content_digest == expected.produce_artifact(MemoryStore()).content_digest


# --- publishing ------------------------------------------------------------------------------------------------------


def test_a_tag_is_written_last(registry):
    registry.inject("PUT .*/manifests/", times=None, status=400)
    with pytest.raises(RemoteProtocolError):
        push(MemorySource({"a": "1"}), f"oci://{registry.host}/app:v1", access=Access(insecure=True))
    assert registry.repository("app").tags == {}


def test_promotion_between_registries_brings_cosigns_tags(registry):
    digest = registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    registry.put("app", digest.replace(":", "-") + ".sig", layers=[("application/x", b"signature")])
    with Registry() as production:
        access = Access(insecure=True)
        promoted = promote(
            f"oci://{registry.host}/app:v1", f"oci://{production.host}/live/app", referrers=True, access=access
        )
        assert str(promoted.reference) == f"oci://{production.host}/live/app:v1@{digest}"
        assert len(promoted.referrers) == 1
        assert sorted(production.repository("live/app").tags) == [digest.replace(":", "-") + ".sig", "v1"]


def test_an_image_layout_is_a_registry_in_a_directory(registry, tmp_path):
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    stick = f"oci-layout:{tmp_path}/usb"
    access = Access(insecure=True)
    promote(f"oci://{registry.host}/app:v1", f"{stick}:v1", access=access)
    assert files(OCISource(f"{stick}:v1")) == {"a": b"1"}
    with Registry() as inside:
        promote(f"{stick}:v1", f"oci://{inside.host}/app", access=access)
        assert inside.repository("app").tags == registry.repository("app").tags
    assert [info.tag for info in list_tags(stick)] == ["v1"]
    assert len(json.loads((tmp_path / "usb" / "index.json").read_text())["manifests"]) == 1
    push(MemorySource({"b": "2"}), f"{stick}:v2")
    assert files(OCISource(f"{stick}:v2")) == {"b": b"2"}
    delete(f"{stick}:v1", confirmed=True)
    with pytest.raises(RevisionNotFoundError, match="only v2"):
        OCISource(f"{stick}:v1").resolve_revision()


def test_a_damaged_blob_in_a_layout_is_a_mismatch(tmp_path):
    push(MemorySource({"b": "2"}), f"oci-layout:{tmp_path}:v1")
    for path in (tmp_path / "blobs" / "sha256").iterdir():
        if path.stat().st_size > 100 and path.read_bytes()[:2] == b"\x1f\x8b":
            path.chmod(0o644)
            path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DigestMismatchError):
        files(OCISource(f"oci-layout:{tmp_path}:v1"))


def test_deleting_wants_to_be_confirmed(registry):
    registry.put("app", "v1", layers=[(LAYER, b"")])
    with pytest.raises(ConfigurationError, match="confirm"):
        delete(f"oci://{registry.host}/app:v1", confirmed=False, access=Access(insecure=True))
    assert registry.requests == []


def test_what_a_retention_policy_ate_is_seen_before_it_is_needed(registry):
    access, store, src = Access(insecure=True), MemoryStore(), source(registry)
    digests = []
    for number in range(3):
        digests.append(registry.put("app", "v1", layers=[(LAYER, layer({"a": b"%d" % number}))]))
        key = src.produce_artifact(store).key
    blob = json.loads(registry.repository("app").manifests[digests[0]][1])["layers"][0]["digest"]
    del registry.repository("app").blobs[blob]
    found = candidates(f"oci://{registry.host}/app:v1", store=store, key=key, access=access)
    assert [str(one.digest) for one in found] == [digests[1], digests[0]]
    assert [(one.complete, one.stored) for one in found] == [(True, True), (False, True)]
    assert [str(d) for d in found[1].missing] == [blob]
    back = promote(f"oci://{registry.host}/app@{found[0].digest}", f"oci://{registry.host}/app:v1", access=access)
    assert (str(back.digest), str(back.previous)) == (digests[1], digests[2])


def test_a_moved_tag_is_an_event(registry):
    store, src = MemoryStore(), source(registry)
    digests = []
    for number in range(2):
        digests.append(registry.put("app", "v1", layers=[(LAYER, layer({"a": b"%d" % number}))]))
        key = src.produce_artifact(store).key
    (moved,) = moves(history(store, key))
    assert (moved.key, moved.pointer) == (key, "v1")
    assert [str(moved.old.digest), str(moved.new.digest)] == digests
    assert moved.url == src.url
    assert moved.observed == store.lookup(key).observed


def test_what_a_store_saw_outlives_what_it_keeps(registry):
    """A tag that moved away and back, with a store that keeps the newest artifact: three observations, two moves, all from where."""
    store, src, access = MemoryStore(), source(registry), Access(insecure=True)
    digests = []
    for content in (b"0", b"1", b"0"):
        digests.append(registry.put("app", "v1", layers=[(LAYER, layer({"a": content}))]))
        key = src.produce_artifact(store).key
        store.retain(records=1)
    store.gc()
    seen = history(store, key)
    assert [str(each.revision.digest) for each in seen] == digests[::-1]
    assert [each.url for each in seen] == [src.url] * 3
    assert [each.artifact for each in seen] == [store.lookup(key), None, store.lookup(key)]
    assert [(str(m.old.digest), str(m.new.digest)) for m in moves(seen)] == [
        (digests[1], digests[2]),
        (digests[0], digests[1]),
    ]
    (found,) = candidates(f"oci://{registry.host}/app:v1", store=store, key=key, access=access)
    assert (str(found.digest), found.complete, found.stored) == (digests[1], True, False)
    assert found.observed == seen[1].observed


def test_a_store_without_a_memory_knows_what_it_holds(registry):
    """Its artifacts are all there is to tell."""
    inner, src = MemoryStore(), source(registry)
    for number in range(2):
        registry.put("app", "v1", layers=[(LAYER, layer({"a": b"%d" % number}))])
        key = src.produce_artifact(inner).key
    store = SimpleNamespace(history=inner.history)
    assert [each.artifact for each in history(store, key)] == list(inner.history(key))
    assert len(list(moves(history(store, key)))) == 1


def test_listing_is_concurrent_and_one_request_for_a_tag(registry):
    for number in range(30):
        registry.put(
            "app",
            f"1.{number}.0",
            layers=[(LAYER, b"")],
            annotations={"org.opencontainers.image.revision": f"r{number}"},
        )
    found = list_tags(f"oci://{registry.host}/app", access=Access(insecure=True))
    assert [info.tag for info in found] == [f"1.{number}.0" for number in reversed(range(30))]
    assert [info.revision for info in found] == [f"r{number}" for number in reversed(range(30))]
    assert len(registry.requests) == 31


def test_one_strange_tag_does_not_hide_the_others(registry):
    registry.put("app", "1.0.0", layers=[(LAYER, b"")])
    registry.put_document("app", "old", b'{"schemaVersion": 1}', "application/vnd.docker.distribution.manifest.v1+json")
    found = list_tags(f"oci://{registry.host}/app", access=Access(insecure=True))
    assert [(info.tag, info.size) for info in found] == [("1.0.0", 0), ("old", None)]


def test_a_source_is_shared_between_threads(registry):
    registry.put("app", "v1", layers=[(LAYER, layer({"a": b"1"}))])
    src = source(registry)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: files(src), range(16))) == [{"a": b"1"}] * 16

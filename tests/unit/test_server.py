"""Artifacts over HTTP: URLs, conditions, ranges, tokens, health and metrics."""

import asyncio
import base64
import datetime as dt
import hashlib
import logging
import os
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from fluxsrc.artifact import SourceKey
from fluxsrc.auth import Secret
from fluxsrc.errors import ConfigurationError, DigestMismatchError, StoreError
from fluxsrc.recipe import Compression
from fluxsrc.server import app
from fluxsrc.server._http import PIECE
from fluxsrc.status import artifact_path
from fluxsrc.stores import LocalStore, MemoryStore
from helpers.asgi import call
from helpers.served import LATEST, damage, make, stored


@pytest.fixture(params=["local", "memory"])
def store(request, disk):
    """Both kinds: one proves blobs itself, the other leaves it to the server."""
    return disk if request.param == "local" else MemoryStore()


def old(store):
    """A store that saw all this some time ago."""
    clock = dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC)
    return LocalStore(store.path, durable=False, clock=lambda: clock)


# --- what is where ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("big", [False, True])
def test_an_artifact_is_where_flux_would_have_it(store, big):
    """At `status.artifact.path`, with its length, type, digest and a strong validator."""
    artifact = make(store, big=big)
    answer = call(app(store), "GET", f"/{artifact_path(artifact)}")
    assert answer.status == 200
    assert answer.body == stored(store, artifact)
    assert answer.headers["content-length"] == str(artifact.size)
    assert answer.headers["content-type"] == "application/gzip"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"] == f'"{artifact.digest}"'
    value = base64.b64encode(hashlib.sha256(answer.body).digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{value}:"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert max(answer.pieces) <= PIECE


@pytest.mark.parametrize("file", ["latest", "latest.tar.gz"])
def test_latest_is_the_current_artifact(store, file):
    application = app(store)
    for text in ("one", "two"):
        artifact = make(store, text)
        answer = call(application, "GET", f"/memory/default/app/{file}")
        assert (answer.status, answer.headers["etag"]) == (200, f'"{artifact.digest}"')
        assert answer.headers["cache-control"] == "no-cache"


def test_earlier_artifacts_stay_where_they_were(store):
    first, second = make(store, "one"), make(store, "two")
    application = app(store)
    for artifact in (first, second):
        assert call(application, "GET", f"/{artifact_path(artifact)}").body == stored(store, artifact)


def test_of_two_artifacts_of_one_revision_the_newer_is_served(store):
    """Another recipe, same revision, same path: as in Flux, the path is the revision's."""
    first = make(store)
    second = make(store, compression=Compression.NONE)
    assert artifact_path(first) == artifact_path(second)
    assert first.digest != second.digest
    make(store, "two")
    assert call(app(store), "GET", f"/{artifact_path(first)}").headers["etag"] == f'"{second.digest}"'


@pytest.mark.parametrize(
    ("compression", "media_type"),
    [(Compression.NONE, "application/x-tar"), (Compression.GZIP, "application/gzip")],
)
def test_the_media_type_says_how_it_is_compressed(store, compression, media_type):
    make(store, compression=compression)
    assert call(app(store), "GET", LATEST).headers["content-type"] == media_type


def test_digests_with_colons_may_be_escaped(store):
    """The file of an OCIRepository is named `sha256:<hex>.tar.gz`, and some clients escape the colon."""
    import attrs

    artifact = attrs.evolve(make(store), key=SourceKey("ocirepository", "default", "app"))
    artifact = store.put(artifact)
    path = artifact_path(artifact)
    assert "sha256:" in path
    for target in (path, path.replace(":", "%3A"), path.replace(":", "%3a")):
        assert call(app(store), "GET", f"/{target}").status == 200


def test_a_prefix_stands_before_every_source(store):
    artifact = make(store)
    for prefix in ("team/a", "/team/a/"):
        application = app(store, prefix=prefix)
        assert call(application, "GET", f"/team/a/{artifact_path(artifact)}").status == 200
        assert call(application, "GET", "/v2/team/a/memory/default/app/tags/list").status == 200
        for target in (
            f"/{artifact_path(artifact)}",
            "/v2/memory/default/app/tags/list",
            f"/team/{artifact_path(artifact)}",
        ):
            assert call(application, "GET", target).status == 404
        assert call(application, "GET", "/healthz").status == 200


@pytest.mark.parametrize("prefix", ["..", "a/../b", "v2", "v2/x", "a\n"])
def test_a_prefix_that_is_no_path_is_refused(prefix):
    with pytest.raises(ConfigurationError, match="prefix"):
        app(MemoryStore(), prefix=prefix)


def test_it_can_be_mounted_below_a_path_of_another_application(store):
    """ASGI's `root_path` is part of the path, or the server in front has cut it off already."""
    make(store)
    assert call(app(store), "GET", f"/mount{LATEST}", root_path="/mount").status == 200
    assert call(app(store), "GET", LATEST, root_path="/mount").status == 200
    assert call(app(store), "GET", f"/mounted{LATEST}", root_path="/mount").status == 404


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "",
        "/memory",
        "/memory/",
        "/memory/default/",
        "/memory/default/app",
        "/memory/default/app/",
        "/memory/default/app/nothing.tar.gz",
        "/memory/default/app/latest/",
        "/memory/default/other/latest",
        "//memory/default/app/latest",
        "/memory/default/app/../app/latest",
        "/memory/default/app/%2e%2e/app/latest",
        "/memory%2Fdefault/app/latest",
        "/memory%2fdefault%2fapp%2flatest",
        "/memory/default/app%5clatest",
        "/memory/default/app/latest%00",
        "/memory/default/app/latest%00.tar.gz",
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/memory/../../oci-layout",
        "/blobs/sha256/abc/x",
        "/sources/memory/default/app.json",
        "/index.json",
        "/memory/default/APP/latest",
        "/m\u00e9mory/default/app/latest",
    ],
)
def test_nothing_else_is_anywhere(disk, target):
    """No directory is listed, no file of the store has a URL of its own, and no path leads out of it."""
    make(disk)
    answer = call(app(disk), "GET", target)
    assert (answer.status, answer.body) == (404, b"not found\n")


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_what_is_no_file_of_the_store_is_not_served_in_its_place(disk, tmp_path, kind, caplog):
    """Not even a link to the very same bytes: it could lead anywhere the next time. Nor does a pipe make anybody wait."""
    artifact = make(disk)
    path = disk.blob_path(artifact.digest)
    elsewhere = path.rename(tmp_path / "elsewhere")
    match kind:
        case "link":
            path.symlink_to(elsewhere)
        case "pipe":
            os.mkfifo(path)
        case _:
            path.mkdir()
    answer = call(app(disk), "GET", LATEST)
    assert answer.status in (404, 503)
    assert b"elsewhere" not in answer.body
    assert str(tmp_path).encode() not in answer.body


def test_a_history_that_is_a_link_out_of_the_store_is_not_followed(disk, tmp_path):
    """As whoever can write names into a store, and read nothing, might put there."""
    make(disk)
    record = disk.path / "sources" / "memory" / "default" / "app.json"
    (tmp_path / "secret").write_text("a secret")
    record.unlink()
    record.symlink_to(tmp_path / "secret")
    answer = call(app(disk), "GET", LATEST)
    assert answer.status in (404, 503)
    assert b"secret" not in answer.body


def test_a_very_long_path_is_refused_before_anything_is_looked_up(store):
    answer = call(app(store), "GET", "/memory/default/" + "a" * 100_000)
    assert answer.status == 414


_HOSTILE = st.lists(
    st.sampled_from(
        ["memory", "default", "app", "..", ".", "latest", "v2", "blobs", "%2e", "%00", "sha256", "a" * 300, "*"]
    )
    | st.text(max_size=5),
    max_size=8,
).map("/".join)


@given(_HOSTILE, st.sampled_from(["GET", "HEAD", "POST", "PUT", "BREW", "get", ""]))
def test_no_path_and_no_method_makes_it_fail(path, method):
    store = MemoryStore()
    answer = call(app(store), method, "/" + quote(path, safe="/%"))
    assert answer.status in (200, 404, 405, 414)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "BREW"])
@pytest.mark.parametrize("target", [LATEST, "/", "/healthz", "/v2/", "/v2/memory/default/app/blobs/uploads/"])
def test_only_reading_is_allowed(store, method, target):
    make(store)
    answer = call(app(store), method, target)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("target", [LATEST, "/v2/", "/healthz", "/nothing", "/v2/memory/default/app/tags/list"])
@pytest.mark.parametrize("big", [False, True])
def test_head_says_what_get_would_and_has_no_body(store, target, big):
    make(store, big=big)
    application = app(store)
    get, head = call(application, "GET", target), call(application, "HEAD", target)
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")
    assert get.headers["content-length"] == str(len(get.body))


# --- conditions and ranges -------------------------------------------------------------------------------------------


def test_what_the_client_has_is_not_sent_again(store):
    artifact = make(store)
    answer = call(app(store), "GET", LATEST, {"If-None-Match": f'"{artifact.digest}"'})
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["etag"] == f'"{artifact.digest}"'
    assert "content-length" not in answer.headers
    make(store, "two")
    assert call(app(store), "GET", LATEST, {"If-None-Match": f'"{artifact.digest}"'}).status == 200


def test_a_date_is_enough_to_ask_whether_something_changed(disk):
    make(old(disk))
    application = app(disk)
    date = call(application, "GET", LATEST).headers["last-modified"]
    assert date == "Fri, 02 Jan 2026 03:04:05 GMT"
    assert call(application, "GET", LATEST, {"If-Modified-Since": date}).status == 304


def test_after_a_rollback_a_date_does_not_keep_what_was_rolled_back(disk):
    """What is current is then older than what the client has."""
    make(old(disk), "one")
    clock = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
    make(LocalStore(disk.path, durable=False, clock=lambda: clock), "two")
    application = app(disk)
    date = call(application, "GET", LATEST).headers["last-modified"]
    back = make(disk, "one")
    answer = call(application, "GET", LATEST, {"If-Modified-Since": date})
    assert (answer.status, answer.headers["etag"]) == (200, f'"{back.digest}"')


def test_in_its_first_second_nothing_has_a_date(disk):
    """Another artifact could get the same one."""
    make(disk)
    assert "last-modified" not in call(app(disk), "GET", LATEST).headers


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("first", [0, 17])
def test_a_part_is_sent_as_asked_for(store, big, first):
    artifact = make(store, big=big)
    last = artifact.size - 2
    answer = call(app(store), "GET", LATEST, {"Range": f"bytes={first}-{last}"})
    assert (answer.status, answer.body) == (206, stored(store, artifact)[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{artifact.size}"
    assert answer.headers["content-length"] == str(last + 1 - first)


def test_a_part_that_is_not_there_is_416_with_the_size(store):
    artifact = make(store)
    answer = call(app(store), "GET", LATEST, {"Range": f"bytes={artifact.size}-"})
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{artifact.size}")
    assert artifact.digest.hex.encode() not in answer.body


def test_several_parts_at_once_are_everything(store):
    artifact = make(store)
    answer = call(app(store), "GET", LATEST, {"Range": "bytes=0-1,3-4"})
    assert (answer.status, len(answer.body)) == (200, artifact.size)


def test_head_has_no_ranges(store):
    """Section 14.2: Range is defined for GET only."""
    artifact = make(store)
    answer = call(app(store), "HEAD", LATEST, {"Range": "bytes=0-1"})
    assert (answer.status, answer.headers["content-length"]) == (200, str(artifact.size))


def test_a_download_that_is_resumed_after_a_change_begins_anew(store):
    first = make(store, "one")
    application = app(store)
    half = {"Range": "bytes=10-", "If-Range": f'"{first.digest}"'}
    assert call(application, "GET", LATEST, half).status == 206
    second = make(store, "two")
    answer = call(application, "GET", LATEST, half)
    assert (answer.status, answer.body) == (200, stored(store, second))


# --- tokens ----------------------------------------------------------------------------------------------------------

TOKEN = "s3cr3t-t\u00f6ken"


def basic(password, user="anybody"):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("token", [TOKEN, Secret(TOKEN), lambda: TOKEN])
@pytest.mark.parametrize("target", [LATEST, "/v2/", "/v2/memory/default/app/manifests/latest", "/metrics"])
def test_whoever_knows_the_token_may_read(store, token, target):
    make(store)
    application = app(store, token=token)
    for value in (f"Bearer {TOKEN}".encode().decode("latin-1"), basic(TOKEN), basic(TOKEN, "")):
        assert call(application, "GET", target, {"Authorization": value}).status == 200


@pytest.mark.parametrize(
    "value",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", basic("wrong"), basic(""), "Basic !!!", TOKEN,
     f"Digest {TOKEN}", "Bearer \xff\xfe", "Basic //79"],
)  # fmt: skip
@pytest.mark.parametrize("target", [LATEST, "/", "/v2/", "/v2/memory/default/app/tags/list", "/metrics"])
def test_nobody_else_learns_anything(store, value, target):
    make(store)
    headers = {} if value is None else {"Authorization": value.encode().decode("latin-1")}
    answer = call(app(store, token=TOKEN), "GET", target, headers)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Basic realm="fluxsrc"')
    assert TOKEN.encode() not in answer.body


def test_what_needs_a_token_is_kept_out_of_shared_caches(store):
    make(store)
    answer = call(app(store, token="t"), "GET", LATEST, {"Authorization": "Bearer t"})
    assert answer.headers["cache-control"] == "private, no-cache"


def test_the_token_may_change(store):
    make(store)
    tokens = ["one"]
    application = app(store, token=lambda: tokens[-1])
    assert call(application, "GET", LATEST, {"Authorization": "Bearer one"}).status == 200
    tokens.append("two")
    assert call(application, "GET", LATEST, {"Authorization": "Bearer one"}).status == 401
    tokens.append("")
    assert call(application, "GET", LATEST, {"Authorization": "Bearer "}).status == 503


def test_an_empty_token_is_refused():
    with pytest.raises(ConfigurationError, match="admit everybody"):
        app(MemoryStore(), token="")


def test_the_token_is_in_no_text(store, caplog):
    caplog.set_level(logging.DEBUG)
    application = app(store, token=TOKEN)
    call(application, "GET", "/nothing", {"Authorization": basic(TOKEN)})
    assert TOKEN not in repr(vars(application)) + caplog.text


# --- health, metrics, trouble ----------------------------------------------------------------------------------------


def test_health_needs_no_token_and_says_whether_the_store_can_be_read(disk, monkeypatch, caplog):
    application = app(disk, token=TOKEN)
    assert call(application, "GET", "/healthz").status == 200

    def broken(*_args):
        raise StoreError("input/output error", path="/very/secret")

    monkeypatch.setattr(LocalStore, "lookup", broken)
    answer = call(application, "GET", "/healthz")
    assert (answer.status, answer.body) == (503, b"the store cannot be read\n")
    assert "input/output error" in caplog.text


def test_metrics_count_requests_beside_those_of_the_process(store):
    import prometheus_client

    registry = prometheus_client.CollectorRegistry()
    prometheus_client.Gauge("of_the_program", "Its own.", registry=registry).set(7)
    artifact = make(store, big=True)
    application = app(store, metrics=registry)
    for method, target in (("GET", LATEST), ("HEAD", LATEST), ("GET", "/nothing"), ("GET", "/v2/")):
        call(application, method, target)
    page = call(application, "GET", "/metrics")
    lines = page.body.decode().splitlines()
    assert page.headers["content-type"].startswith("text/plain")
    assert "of_the_program 7.0" in lines
    assert 'fluxsrc_http_requests_total{route="artifact",status="200"} 2.0' in lines
    assert 'fluxsrc_http_requests_total{route="artifact",status="404"} 1.0' in lines
    assert 'fluxsrc_http_requests_total{route="registry",status="200"} 1.0' in lines
    sent = next(line for line in lines if line.startswith('fluxsrc_http_sent_bytes_total{route="artifact"}'))
    assert float(sent.split()[1]) == artifact.size + len(b"not found\n")


def test_what_is_cut_short_is_counted_as_far_as_it_was_sent(disk):
    artifact = make(disk, big=True)
    application = app(disk, metrics=CollectorRegistry())
    sent = []

    def flip(message):
        sent.append(message)
        if len(sent) == 2:
            damage(disk, artifact)

    with pytest.raises(DigestMismatchError):
        call(application, "GET", LATEST, on_send=flip)
    call(application, "HEAD", LATEST)
    page = call(application, "GET", "/metrics").body.decode()
    counted = next(line for line in page.splitlines() if line.startswith("fluxsrc_http_sent_bytes_total{"))
    assert float(counted.rpartition(" ")[2]) == PIECE


def test_without_prometheus_there_is_no_page_and_all_else_works(store, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    make(store)
    application = app(store)
    assert call(application, "GET", "/metrics").status == 404
    assert call(application, "GET", LATEST).status == 200


def test_two_applications_of_one_process_do_not_get_into_each_others_way(store):
    one, other = app(store), app(store)
    assert call(one, "GET", "/metrics").status == call(other, "GET", "/metrics").status == 200


def test_no_error_shows_where_the_store_is(disk, monkeypatch):
    artifact = make(disk, big=True)
    path = disk.blob_path(artifact.digest)
    path.unlink()
    path.mkdir()
    application = app(disk)
    for target in (LATEST, f"/v2/memory/default/app/blobs/{artifact.digest}"):
        assert str(disk.path).encode() not in call(application, "GET", target).body


def test_an_unreadable_history_is_503(disk, caplog):
    make(disk)
    record = disk.path / "sources" / "memory" / "default" / "app.json"
    record.write_bytes(b"{")
    assert call(app(disk), "GET", LATEST).status == 503
    assert "is damaged" in caplog.text


def test_the_lifespan_protocol_is_answered():
    async def live():
        sent = []
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive():
            return next(messages)

        async def send(message):
            sent.append(message["type"])

        await app(MemoryStore())({"type": "lifespan"}, receive, send)
        return sent

    assert asyncio.run(live()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_websocket_is_refused():
    async def connect():
        sent = []

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            sent.append(message["type"])

        await app(MemoryStore())({"type": "websocket"}, receive, send)
        return sent

    assert asyncio.run(connect()) == ["websocket.close"]

"""Artifacts over HTTP: URLs, conditions, ranges, tokens, and what happens to damaged blobs and hostile requests."""

import asyncio
import base64
import contextlib
import datetime as dt
import hashlib
import importlib.util
import itertools
import logging
import os
import random
import threading
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from fluxsrc.artifact import SourceKey
from fluxsrc.auth import Secret
from fluxsrc.errors import ConfigurationError, DigestMismatchError, StoreError
from fluxsrc.memory import MemorySource
from fluxsrc.recipe import Compression
from fluxsrc.server import app
from fluxsrc.server._http import PIECE
from fluxsrc.status import artifact_path
from fluxsrc.stores import LocalStore, MemoryStore

_spec = importlib.util.spec_from_file_location("asgi", Path(__file__).parents[1] / "asgi.py")
asgi = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(asgi)
call = asgi.call

LATEST = "/memory/default/app/latest.tar.gz"
BIG = random.Random(1).randbytes(3 * PIECE)
"""Nothing gzip could make smaller: the archive is sent in pieces."""


def make(store, text="one", *, big=False, **options):
    files = {"app.yaml": f"name: {text}\n", **({"big": BIG} if big else {})}
    return MemorySource(files, **options).produce_artifact(store, name="app")


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    """Both kinds: one proves blobs itself, the other leaves it to the server."""
    return LocalStore(tmp_path / "store", durable=False) if request.param == "local" else MemoryStore()


@pytest.fixture
def disk(tmp_path):
    return LocalStore(tmp_path / "store", durable=False)


def old(store):
    """A store that saw all this some time ago."""
    clock = dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC)
    return LocalStore(store.path, durable=False, clock=lambda: clock)


def stored(store, artifact):
    with store.open(artifact) as stream:
        return stream.read()


def damage(store, artifact, *, keep_time=False):
    """Change a bit of a blob, as a disk does."""
    path = store.blob_path(artifact.digest)
    before = path.stat()
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    with path.open("r+b") as stream:
        stream.write(data)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


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


# --- nothing damaged -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("keep_time", [False, True])
def test_a_damaged_blob_is_an_error_and_never_bytes(disk, caplog, before, keep_time):
    """Whether it was served before or not, and even if its modification time was set back."""
    artifact = make(disk, big=True)
    application = app(disk)
    if before:
        assert call(application, "GET", LATEST).status == 200
    damage(disk, artifact, keep_time=keep_time)
    for method, headers in (("GET", {}), ("HEAD", {}), ("GET", {"Range": "bytes=0-0"})):
        answer = call(application, method, LATEST, headers)
        assert answer.status == 500
        assert answer.body in (b"", b"damaged in the store, not served\n")
        assert "etag" not in answer.headers
    [*_, record] = caplog.records
    assert record.levelno == logging.ERROR
    assert str(artifact.digest) in record.getMessage()
    assert "damaged" in record.getMessage()


def test_a_blob_of_the_wrong_size_is_damaged_too(disk):
    artifact = make(disk)
    path = disk.blob_path(artifact.digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"x")
    # The history leaves out what does not have its size; whoever opens it nevertheless gets no further.
    assert call(app(disk), "GET", LATEST).status == 404


def test_a_damaged_blob_that_heals_is_served_again(disk):
    artifact = make(disk, big=True)
    application = app(disk)
    damage(disk, artifact)
    assert call(application, "GET", LATEST).status == 500
    disk.blob_path(artifact.digest).unlink()
    make(disk, big=True)
    assert call(application, "GET", LATEST).body == stored(disk, artifact)


def test_a_blob_is_hashed_once_for_many_requests(disk, monkeypatch):
    from fluxsrc.server import _blobs

    artifact = make(disk, big=True)
    hashed = []
    real = _blobs._hash
    monkeypatch.setattr(_blobs, "_hash", lambda *args: hashed.append(args) or real(*args))
    application = app(disk)

    async def many():
        return await asyncio.gather(*(asgi.acall(application, "GET", LATEST) for _ in range(20)))

    answers = asyncio.run(many())
    assert {hashlib.sha256(answer.body).hexdigest() for answer in answers} == {artifact.digest.hex}
    assert call(application, "GET", LATEST).status == 200
    assert len(hashed) == 1


def test_whoever_gives_up_waiting_for_a_proof_does_not_take_it_from_others(disk, monkeypatch):
    from fluxsrc.server import _blobs

    make(disk)
    go = threading.Event()
    real = _blobs._hash
    monkeypatch.setattr(_blobs, "_hash", lambda *args: (go.wait(10), real(*args))[1])
    application = app(disk)

    async def two():
        impatient = asyncio.create_task(asgi.acall(application, "GET", LATEST))
        patient = asyncio.create_task(asgi.acall(application, "GET", LATEST))
        await asyncio.sleep(0.05)
        impatient.cancel()
        await asyncio.sleep(0.05)
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        return await patient

    assert asyncio.run(two()).status == 200


def test_a_blob_that_is_cut_short_while_it_is_sent_ends_the_answer(disk):
    """Content-Length is promised by then: the client must see that something is missing, and nothing is made up."""
    artifact = make(disk, big=True)
    application = app(disk)
    path = disk.blob_path(artifact.digest)
    path.chmod(0o644)

    def cut(message):
        if message["type"] == "http.response.start":
            os.truncate(path, PIECE + 10)

    with pytest.raises(DigestMismatchError, match=f"{PIECE + 10} bytes"):
        call(application, "GET", LATEST, on_send=cut)


@pytest.mark.parametrize("nowait", [True, False])
@pytest.mark.parametrize("keep_time", [False, True])
def test_a_byte_that_is_flipped_while_the_blob_is_sent_is_not_sent(disk, keep_time, nowait, monkeypatch):
    """Neither in this answer, which ends early, nor in any other; pieces that were read before are right."""
    if not nowait:  # as where all reading may wait
        monkeypatch.setattr("fluxsrc.server._blobs._NOWAIT", None)
    artifact = make(disk, big=True)
    whole = stored(disk, artifact)
    application = app(disk)
    assert call(application, "GET", LATEST).status == 200
    sent = []

    def flip(message):
        sent.append(message.get("body", b""))
        if len(sent) == 2:
            damage(disk, artifact, keep_time=keep_time)

    with pytest.raises(DigestMismatchError):
        call(application, "GET", LATEST, on_send=flip)
    assert b"".join(sent) == whole[:PIECE]
    assert call(application, "GET", LATEST).status == 500


def test_a_byte_that_is_flipped_right_after_the_proof_is_noticed(disk, monkeypatch):
    """Though a file system's clock stands still between two of its ticks."""
    from fluxsrc.server import _blobs

    artifact = make(disk, big=True)
    real = _blobs._hash

    def then_damaged(descriptor, algorithm):
        found = real(descriptor, algorithm)
        damage(disk, artifact, keep_time=True)
        return found

    monkeypatch.setattr(_blobs, "_hash", then_damaged)
    with pytest.raises(DigestMismatchError):
        call(app(disk), "GET", LATEST)


def test_what_changes_all_the_time_while_it_is_sent_is_given_up(disk):
    """Its bytes may be right each time; nobody can say so for the ones that are read next."""
    artifact = make(disk, big=True)
    path = disk.blob_path(artifact.digest)
    touches = iter(range(1, 1000))
    real = os.pread

    def pread(*args):
        data = real(*args)
        os.utime(path, ns=(next(touches), next(touches)))
        return data

    application = app(disk)
    assert call(application, "GET", LATEST).status == 200
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", pread)
        patch.setattr("fluxsrc.server._blobs._NOWAIT", None)
        with pytest.raises(StoreError, match="all the time"):
            call(application, "GET", LATEST)


def test_a_touch_and_a_lease_while_it_is_sent_change_nothing(disk):
    """The file's times change, its bytes do not."""
    artifact = make(disk, big=True)
    whole = stored(disk, artifact)
    leases = contextlib.ExitStack()

    def touch(message):
        os.utime(disk.blob_path(artifact.digest))
        if message["type"] == "http.response.start":
            leases.enter_context(disk.lease(artifact))

    with leases:
        assert call(app(disk), "GET", LATEST, on_send=touch).body == whole


def test_what_is_not_in_memory_is_read_in_a_thread(disk, monkeypatch):
    """A disk that takes its time keeps nobody else waiting."""
    artifact = make(disk, big=True)
    expected = stored(disk, artifact)
    readers = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda *args: (readers.append(threading.current_thread()), real(*args))[1])

    def cold(*args):
        raise BlockingIOError

    monkeypatch.setattr(os, "preadv", cold)
    assert call(app(disk), "GET", LATEST).body == expected
    assert threading.main_thread() not in readers


def test_a_client_that_takes_all_at_once_does_not_keep_others_waiting(disk):
    """Between two pieces others have their turn, also where sending never waits."""
    make(disk, big=True)
    application = app(disk)
    call(application, "GET", LATEST)
    order = []

    async def both():
        async def other():
            while order.count("piece") < 4:
                order.append("turn")
                await asyncio.sleep(0)

        def sent(message):
            order.extend(["piece"] * bool(message.get("body")))

        task = asyncio.create_task(other())
        await asyncio.gather(asgi.acall(application, "GET", LATEST, on_send=sent), task)

    asyncio.run(both())
    pieces = [number for number, what in enumerate(order) if what == "piece"]
    assert all("turn" in order[here:there] for here, there in itertools.pairwise(pieces))


# --- collectors and clients that go away -----------------------------------------------------------------------------


def test_what_is_being_sent_outlives_its_collection(disk):
    """The descriptor keeps the bytes: the name may go while they travel."""
    artifact = make(disk, big=True)
    whole = stored(disk, artifact)

    def collect(message):
        if message["type"] == "http.response.start":
            disk.forget(artifact.key)
            assert disk.gc(grace=0).blobs >= 1
            assert not disk.blob_path(artifact.digest).exists()

    assert call(app(disk), "GET", LATEST, on_send=collect).body == whole
    assert call(app(disk), "GET", LATEST).status == 404


def test_what_is_swept_between_finding_and_opening_gives_way_to_what_is_current_then(disk, monkeypatch):
    """`latest` is asked for, and there is always a latest: the request is not lost."""
    from fluxsrc.server import _artifacts

    first = make(disk, "one")
    real = _artifacts.artifact_at
    moves = []

    def move(path, store):
        found = real(path, store)
        if not moves:
            moves.append(make(disk, "two"))
            disk.retain(records=1)
            disk.gc(grace=0)
        return found

    monkeypatch.setattr("fluxsrc.server._app.artifact_at", move)
    answer = call(app(disk), "GET", LATEST)
    assert (answer.status, answer.headers["etag"]) == (200, f'"{moves[0].digest}"')
    assert moves[0].digest != first.digest


def test_a_client_that_goes_away_is_not_read_for_any_longer(disk):
    make(disk, big=True)
    bodies = []

    def leave(message):
        if message["type"] == "http.response.body":
            bodies.append(message)
            return False
        return None

    call(app(disk), "GET", LATEST, on_send=leave)
    assert len(bodies) < 3


def test_requests_leave_no_descriptor_and_no_thread_behind(disk):
    artifact = make(disk, big=True)
    application = app(disk)
    etag = f'"{artifact.digest}"'
    requests = [("GET", {}), ("HEAD", {}), ("GET", {"Range": "bytes=5-9"}), ("GET", {"If-None-Match": etag})]
    for method, headers in requests:
        call(application, method, LATEST, headers)
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for method, headers in requests * 5:
        call(application, method, LATEST, headers)
    call(application, "GET", LATEST, on_send=lambda message: message["type"] != "http.response.body")
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_a_request_that_is_cancelled_leaves_no_descriptor_behind(disk, monkeypatch):
    """Neither while it is looked up, nor while it is proven."""
    from fluxsrc.server import _blobs

    make(disk, big=True)
    application = app(disk)
    opened, go = threading.Event(), threading.Event()
    real_open, real_hash = _blobs._FileBlobs.open, _blobs._hash

    def slow(real):
        def wait(*args):
            opened.set()
            found = real(*args)
            go.wait(10)
            return found

        return wait

    async def cancelled():
        task = asyncio.create_task(asgi.acall(application, "GET", LATEST))
        await asyncio.to_thread(opened.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        for _ in range(100):  # what was begun comes to its end
            await asyncio.sleep(0.01)
            if not application._blobs._proofs and descriptors() == before:
                break

    def descriptors():
        return [name for name in map(os.path.realpath, Path("/proc/self/fd").iterdir()) if str(disk.path) in name]

    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(_blobs._FileBlobs, "open", slow(real_open))
        asyncio.run(cancelled())
    assert descriptors() == before
    application._blobs._verdicts.clear()
    opened.clear()
    go.clear()
    with monkeypatch.context() as patch:
        patch.setattr(_blobs, "_hash", slow(real_hash))
        asyncio.run(cancelled())
    assert descriptors() == before


def test_what_is_swept_while_it_is_proven_is_served_nevertheless(disk, monkeypatch):
    """Whoever found it has it open."""
    from fluxsrc.server import _blobs

    artifact = make(disk, big=True)
    whole = stored(disk, artifact)
    real = _blobs._hash

    def sweep(*args):
        disk.forget(artifact.key)
        disk.gc(grace=0)
        assert not disk.blob_path(artifact.digest).exists()
        return real(*args)

    monkeypatch.setattr(_blobs, "_hash", sweep)
    assert call(app(disk), "GET", LATEST).body == whole


# --- files that the server sends -------------------------------------------------------------------------------------

PATHSEND = {"http.response.pathsend": {}}


def test_a_server_that_sends_files_is_given_the_path(disk):
    """Of whole, large, proven blobs, leased before the server learns of it."""
    artifact = make(disk, big=True)
    application = app(disk)
    answer = call(application, "GET", LATEST, extensions=PATHSEND)
    assert answer.file == str(disk.blob_path(artifact.digest))
    assert answer.headers["content-length"] == str(artifact.size)
    disk.forget(artifact.key)
    assert disk.gc(grace=0).kept >= 1
    assert Path(answer.file).exists(), "it may open the file after we are done"


def test_one_lease_protects_all_requests_of_half_an_hour(disk):
    make(disk, big=True)
    application = app(disk)
    for _ in range(5):
        assert call(application, "GET", LATEST, extensions=PATHSEND).file is not None
    assert len(list((disk.path / "leases").iterdir())) == 1


def test_leases_are_renewed_and_end(disk, monkeypatch):
    from fluxsrc.server import _leases

    now = [0.0]
    monkeypatch.setattr(_leases.time, "monotonic", lambda: now[0])
    application = app(disk)
    for text in ("one", "two", "three"):
        make(disk, text, big=True)
        assert call(application, "GET", LATEST, extensions=PATHSEND).file is not None
        now[0] += 2000
    assert len(list((disk.path / "leases").iterdir())) == 2


def test_a_part_a_small_blob_and_a_head_are_not_left_to_the_server(disk):
    make(disk, big=True)
    application = app(disk)
    assert call(application, "GET", LATEST, {"Range": "bytes=1-"}, extensions=PATHSEND).file is None
    assert call(application, "HEAD", LATEST, extensions=PATHSEND).file is None
    make(disk)
    assert call(application, "GET", LATEST, extensions=PATHSEND).file is None


def test_a_damaged_file_is_not_left_to_the_server_either(disk):
    damage(disk, make(disk, big=True))
    answer = call(app(disk), "GET", LATEST, extensions=PATHSEND)
    assert (answer.status, answer.file) == (500, None)


def test_a_store_that_cannot_be_written_is_sent_from_its_descriptors(disk, monkeypatch):
    artifact = make(disk, big=True)

    def refuse(*_args, **_options):
        raise StoreError("read-only file system")

    monkeypatch.setattr(LocalStore, "lease", refuse)
    answer = call(app(disk), "GET", LATEST, extensions=PATHSEND)
    assert (answer.file, answer.body) == (None, stored(disk, artifact))


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

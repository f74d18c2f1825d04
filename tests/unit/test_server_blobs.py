"""Nothing damaged is served, nothing that is served is swept, and nothing is left behind."""

import asyncio
import contextlib
import hashlib
import itertools
import logging
import os
import threading
import types
from pathlib import Path

import pytest

from fluxsrc.errors import DigestMismatchError, StoreError
from fluxsrc.server import app
from fluxsrc.server._http import PIECE
from fluxsrc.stores import LocalStore
from helpers.asgi import acall, call
from helpers.served import KEY, LATEST, damage, make, stored

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
    from fluxsrc.server import _files

    artifact = make(disk, big=True)
    hashed = []
    real = _files._hash
    monkeypatch.setattr(_files, "_hash", lambda *args: hashed.append(args) or real(*args))
    application = app(disk)

    async def many():
        return await asyncio.gather(*(acall(application, "GET", LATEST) for _ in range(20)))

    answers = asyncio.run(many())
    assert {hashlib.sha256(answer.body).hexdigest() for answer in answers} == {artifact.digest.hex}
    assert call(application, "GET", LATEST).status == 200
    assert len(hashed) == 1


def test_whoever_gives_up_waiting_for_a_proof_does_not_take_it_from_others(disk, monkeypatch):
    from fluxsrc.server import _files

    make(disk)
    go = threading.Event()
    real = _files._hash
    monkeypatch.setattr(_files, "_hash", lambda *args: (go.wait(60), real(*args))[1])
    application = app(disk)

    async def two():
        impatient = asyncio.create_task(acall(application, "GET", LATEST))
        patient = asyncio.create_task(acall(application, "GET", LATEST))
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
        monkeypatch.setattr("fluxsrc.server._files._NOWAIT", None)
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
    from fluxsrc.server import _files

    artifact = make(disk, big=True)
    real = _files._hash

    def then_damaged(descriptor, algorithm):
        found = real(descriptor, algorithm)
        damage(disk, artifact, keep_time=True)
        return found

    monkeypatch.setattr(_files, "_hash", then_damaged)
    with pytest.raises(DigestMismatchError):
        call(app(disk), "GET", LATEST)


@pytest.mark.parametrize(("age_ns", "waits"), [(1_000_000, [0.019]), (30_000_000, []), (-5_000_000_000, [])])
def test_a_file_is_hashed_when_its_next_change_cannot_have_the_time_it_has(disk, monkeypatch, age_ns, waits):
    """A tick of the file system's clock after its last change; of a clock that is ahead of ours nothing is known."""
    from fluxsrc.server import _files

    artifact = make(disk)
    changed = disk.blob_path(artifact.digest).stat().st_ctime_ns
    done = []
    real = _files._hash
    clock = types.SimpleNamespace(
        time_ns=lambda: changed + age_ns, sleep=lambda seconds: done.append(round(seconds, 6))
    )
    monkeypatch.setattr(_files, "time", clock)
    monkeypatch.setattr(_files, "_hash", lambda *args: (done.append("hash"), real(*args))[1])
    assert call(app(disk), "GET", LATEST).status == 200
    assert done == [*waits, "hash"]


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
        patch.setattr("fluxsrc.server._files._NOWAIT", None)
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
        await asyncio.gather(acall(application, "GET", LATEST, on_send=sent), task)

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
    descriptors, threads = len(os.listdir("/proc/self/fd")), set(threading.enumerate())
    for method, headers in requests * 5:
        call(application, method, LATEST, headers)
    call(application, "GET", LATEST, on_send=lambda message: message["type"] != "http.response.body")
    # No more than before: what other tests left may end meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    assert set(threading.enumerate()) <= threads


def test_a_request_that_is_cancelled_leaves_no_descriptor_behind(disk, monkeypatch):
    """Neither while it is looked up, nor while it is proven."""
    from fluxsrc.server import _files

    make(disk, big=True)
    application = app(disk)
    opened, go = threading.Event(), threading.Event()
    real_open, real_hash = _files.FileBlobs.open, _files._hash

    def slow(real):
        def wait(*args):
            opened.set()
            found = real(*args)
            go.wait(60)
            return found

        return wait

    async def cancelled():
        task = asyncio.create_task(acall(application, "GET", LATEST))
        await asyncio.to_thread(opened.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        for _ in range(6000):  # what was begun comes to its end
            await asyncio.sleep(0.01)
            if not application._responder.blobs._proofs and descriptors() == before:
                break

    def descriptors():
        return [name for name in map(os.path.realpath, Path("/proc/self/fd").iterdir()) if str(disk.path) in name]

    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(_files.FileBlobs, "open", slow(real_open))
        asyncio.run(cancelled())
    assert descriptors() == before
    application._responder.blobs._verdicts.clear()
    opened.clear()
    go.clear()
    with monkeypatch.context() as patch:
        patch.setattr(_files, "_hash", slow(real_hash))
        asyncio.run(cancelled())
    assert descriptors() == before


def test_a_file_that_is_still_read_for_somebody_who_left_is_closed_after_that(disk, monkeypatch):
    """Closed at once, its number could be another file's when the thread comes back to it."""
    make(disk, big=True)
    application = app(disk)
    call(application, "GET", LATEST)
    begun, go, seen = threading.Event(), threading.Event(), []
    real = os.pread

    def slow(descriptor, *args):
        begun.set()
        go.wait(60)
        seen.append(os.fstat(descriptor).st_ino)
        return real(descriptor, *args)

    monkeypatch.setattr("fluxsrc.server._files._NOWAIT", None)
    monkeypatch.setattr(os, "pread", slow)
    inode = disk.blob_path(disk.lookup(KEY).digest).stat().st_ino

    async def leave():
        task = asyncio.create_task(acall(application, "GET", LATEST))
        await asyncio.to_thread(begun.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()

    before = os.listdir("/proc/self/fd")
    asyncio.run(leave())
    assert seen == [inode]
    assert len(os.listdir("/proc/self/fd")) <= len(before)


def test_what_is_swept_while_it_is_proven_is_served_nevertheless(disk, monkeypatch):
    """Whoever found it has it open."""
    from fluxsrc.server import _files

    artifact = make(disk, big=True)
    whole = stored(disk, artifact)
    real = _files._hash

    def sweep(*args):
        disk.forget(artifact.key)
        disk.gc(grace=0)
        assert not disk.blob_path(artifact.digest).exists()
        return real(*args)

    monkeypatch.setattr(_files, "_hash", sweep)
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

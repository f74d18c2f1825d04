"""LFS files: asked for in batches, received verified, kept, and read verified once more."""

import hashlib
import threading

import pytest

from fluxsrc.auth import BasicAuth, Origin, SSHKey, StaticKeychain, TLSConfig
from fluxsrc.errors import (
    AuthenticationError,
    ConfigurationError,
    DigestMismatchError,
    LimitExceededError,
    OperationCancelledError,
    PathNotFoundError,
    PermissionDeniedError,
    RemoteProtocolError,
    SourceChangedError,
    TransportError,
)
from fluxsrc.git.address import GitAddress
from fluxsrc.git.lfs import LFSPointer
from fluxsrc.git.lfs_endpoint import lfs_url
from fluxsrc.git.lfs_store import LFSStore
from fluxsrc.git.transport import Access
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.operation import Operation, Progress
from fluxsrc.testing.lfs_server import LFSServer
from fluxsrc.testing.ssh_server import SSHServer
from helpers.tls import TLS, server_context


@pytest.fixture
def open_store(lfs, tmp_path):
    stores = []

    def open_store(*, at=None, keychain=None, limits=DEFAULT_LIMITS, operation=None, tls=None, **options):
        address = GitAddress.parse(at or f"{lfs.url}/app.git")
        access = Access(address=address, keychain=keychain, tls=tls or TLSConfig(), proxy=None, limits=limits)
        store = LFSStore(access, tmp_path / "lfs", operation or Operation(20), **options)
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        store.close()


def kept(tmp_path):
    return sorted(path.name for path in (tmp_path / "lfs").rglob("*") if path.is_file())


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_a_file_comes_once_and_is_read_from_disk_from_then_on(lfs, open_store, size):
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    pointer = lfs.add(data)
    store = open_store()
    assert store.read(pointer) == data
    assert store.read(pointer) == data
    assert open_store().read(pointer) == data
    assert len(lfs.requests) == 2


def test_files_lie_where_git_lfs_would_look_for_them(lfs, open_store, tmp_path):
    pointer = lfs.add(b"hello")
    open_store().read(pointer)
    assert (tmp_path / "lfs" / pointer.oid[:2] / pointer.oid[2:4] / pointer.oid).read_bytes() == b"hello"


def test_a_local_repository_s_own_files_are_read_where_they_are(lfs, open_store, tmp_path):
    pointer = lfs.add(b"hello")
    place = tmp_path / "theirs" / pointer.oid[:2] / pointer.oid[2:4]
    place.mkdir(parents=True)
    (place / pointer.oid).write_bytes(b"hello")
    store = open_store(elsewhere=[tmp_path / "theirs"])
    assert store.read(pointer) == b"hello"
    assert lfs.requests == []
    (place / pointer.oid).write_bytes(b"jello")
    with pytest.raises(DigestMismatchError):
        store.read(pointer)
    assert (place / pointer.oid).exists()


def test_a_kept_file_that_was_damaged_is_an_error_that_heals(lfs, open_store, tmp_path):
    pointer = lfs.add(b"hello world")
    store = open_store()
    store.read(pointer)
    path = next((tmp_path / "lfs").rglob(pointer.oid))
    path.write_bytes(b"hello w0rld")
    with store.open(pointer) as stream:
        assert stream.read(5) == b"hello"
        with pytest.raises(SourceChangedError):
            stream.read(100)
    assert store.read(pointer) == b"hello world"


def test_a_kept_file_of_another_size_is_fetched_anew(lfs, open_store, tmp_path):
    pointer = lfs.add(b"hello world")
    store = open_store()
    store.read(pointer)
    next((tmp_path / "lfs").rglob(pointer.oid)).write_bytes(b"hello")
    assert store.read(pointer) == b"hello world"


def test_progress_counts_bytes(lfs, open_store):
    reports: list[Progress] = []
    pointer = lfs.add(b"x" * 600_000)
    open_store(operation=Operation(20, progress=reports.append)).read(pointer)
    assert reports[-1].done == 600_000
    assert {report.phase for report in reports} == {"receive LFS"}


# --- batches ---------------------------------------------------------------------------------------------------------


def test_announced_files_share_a_question_and_only_what_is_opened_is_received(lfs, open_store):
    pointers = [lfs.add(b"%d" % number) for number in range(250)]
    store = open_store()
    for pointer in pointers:
        store.announce(pointer)
    for pointer in pointers[:150]:
        store.read(pointer)
    assert [len(batch) for batch in lfs.batches] == [100, 100]
    assert sum(request.method == "GET" for request in lfs.requests) == 150


def test_prefetching_takes_several_at_a_time_each_once(lfs, open_store, tmp_path):
    pointers = [lfs.add(b"%d" % number) for number in range(120)]
    store = open_store(concurrency=8)
    store.prefetch([*pointers, *pointers])
    assert kept(tmp_path) == sorted(pointer.oid for pointer in pointers)
    assert [len(batch) for batch in lfs.batches] == [100, 20]
    assert len(lfs.requests) == 122
    store.prefetch(pointers)
    assert len(lfs.requests) == 122


def test_a_missing_file_is_an_error_for_whoever_opens_it_and_for_nobody_else(lfs, open_store):
    there, missing = lfs.add(b"there"), LFSPointer(hashlib.sha256(b"missing").hexdigest(), 7)
    store = open_store()
    store.announce(missing)
    assert store.read(there) == b"there"
    with pytest.raises(PathNotFoundError, match=missing.oid) as caught:
        store.open(missing)
    assert "git lfs push" in str(caught.value)


def test_prefetching_a_missing_file_fails(lfs, open_store):
    missing = LFSPointer("00" * 32, 7)
    with pytest.raises(PathNotFoundError):
        open_store().prefetch([lfs.add(b"there"), missing])


def test_many_threads_that_want_one_file_receive_it_once(lfs, open_store):
    pointer = lfs.add(b"hello" * 1000)
    store = open_store()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(store.read(pointer))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [b"hello" * 1000] * 8
    assert len(lfs.requests) == 2


# --- what the server sends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:-1], "10 bytes for an LFS file of 11"),
        (lambda data: data + b"!", "more bytes"),
        (lambda data: data.swapcase(), "something else"),
    ],
)
def test_bytes_that_are_not_the_file_are_never_seen(lfs, open_store, tmp_path, spoil, message):
    pointer = lfs.add(b"hello world")
    lfs.spoil = spoil
    with pytest.raises(DigestMismatchError, match=message):
        open_store().open(pointer)
    assert kept(tmp_path) == []


def test_a_download_that_is_cut_short_is_tried_again(lfs, open_store):
    pointer = lfs.add(b"hello world")
    tries = []

    def fail_once(data):
        tries.append(data)
        if len(tries) == 1:
            raise ConnectionResetError
        return data

    lfs.spoil = fail_once
    assert open_store().read(pointer) == b"hello world"


def test_an_object_that_vanished_between_question_and_download_is_missing(lfs, open_store):
    pointer = lfs.add(b"hello")
    store = open_store()
    store.announce(pointer)
    store.read(lfs.add(b"other"))
    del lfs.objects[pointer.oid]
    with pytest.raises(PathNotFoundError):
        store.open(pointer)


def test_a_token_that_the_server_withdrew_is_asked_for_anew(lfs, open_store):
    lfs.token = "one"
    first, second = lfs.add(b"first"), lfs.add(b"second")
    store = open_store()
    store.announce(second)
    assert store.read(first) == b"first"
    lfs.token = "two"
    assert store.read(second) == b"second"
    assert len(lfs.batches) == 2


def test_a_token_that_is_refused_at_once_is_an_error(lfs, open_store):
    lfs.token = "right"
    pointer = lfs.add(b"first")

    def wrong(answer):
        answer["objects"][0]["actions"]["download"]["header"]["X-Token"] = "wrong"
        return answer

    lfs.batch = wrong
    with pytest.raises(PermissionDeniedError):
        open_store().open(pointer)


def test_an_answer_past_its_end_is_not_used(lfs, open_store):
    def short_lived(answer):
        for item in answer["objects"]:
            item["actions"]["download"]["expires_in"] = 1
        return answer

    lfs.batch = short_lived
    first, second = lfs.add(b"first"), lfs.add(b"second")
    store = open_store()
    store.announce(second)
    store.read(first)
    store.read(second)
    assert len(lfs.batches) == 2


def test_nonsense_is_a_protocol_error(lfs, open_store):
    lfs.batch = lambda answer: b"hunter2"
    with pytest.raises(RemoteProtocolError):
        open_store().open(lfs.add(b"x"))


def test_a_repository_without_lfs_says_so(lfs, open_store):
    with pytest.raises(Exception, match="Not found"):
        open_store(url=f"{lfs.url}/elsewhere").open(lfs.add(b"x"))


# --- credentials -----------------------------------------------------------------------------------------------------


def keychain_for(lfs):
    return StaticKeychain.for_url(lfs.url, BasicAuth("me", "hunter2"))


def test_credentials_are_asked_for_the_origin_and_sent_to_it(lfs, open_store):
    lfs.username, lfs.password = "me", "hunter2"
    pointer = lfs.add(b"hello")
    assert open_store(keychain=keychain_for(lfs)).read(pointer) == b"hello"
    assert all("authorization" in request.headers for request in lfs.requests)


def test_wrong_credentials_are_an_authentication_error(lfs, open_store):
    lfs.username, lfs.password = "me", "other"
    with pytest.raises(AuthenticationError, match="Credentials needed") as caught:
        open_store(keychain=keychain_for(lfs)).open(lfs.add(b"hello"))
    assert "hunter2" not in str(caught.value)


def test_what_the_server_gives_is_all_that_a_download_gets(lfs, open_store):
    lfs.username, lfs.password, lfs.token = "me", "hunter2", "t"
    open_store(keychain=keychain_for(lfs)).read(lfs.add(b"hello"))
    download = lfs.requests[-1]
    assert download.headers["x-token"] == "t"
    assert "authorization" not in download.headers


def test_another_origin_gets_nothing_of_ours_and_nothing_travels_on_through_a_redirect(lfs, open_store):
    lfs.username, lfs.password = "me", "hunter2"
    with LFSServer() as cdn:
        pointer = lfs.add(b"hello")
        cdn.add(b"hello")

        def elsewhere(answer):
            action = answer["objects"][0]["actions"]["download"]
            action["href"] = f"{cdn.url}/objects/{pointer.oid}?sig=s3cret"
            action["header"] = {"X-Signed": "for the cdn"}
            return answer

        lfs.batch = elsewhere
        anything = StaticKeychain(tuple((Origin.of(url), BasicAuth("me", "hunter2")) for url in (lfs.url, cdn.url)))
        assert open_store(keychain=anything).read(pointer) == b"hello"
        (request,) = cdn.requests
        assert request.headers["x-signed"] == "for the cdn"
        assert "authorization" not in request.headers


# --- where the server is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://git.example.com/team/app", "https://git.example.com/team/app.git/info/lfs"),
        ("https://git.example.com/team/app.git/", "https://git.example.com/team/app.git/info/lfs"),
        ("http://git.example.com:3000/app.git", "http://git.example.com:3000/app.git/info/lfs"),
        ("git@git.example.com:team/app.git", "https://git.example.com/team/app.git/info/lfs"),
        ("ssh://git@git.example.com:2222/team/app", "https://git.example.com/team/app.git/info/lfs"),
    ],
)
def test_the_server_is_where_git_lfs_expects_it(address, expected):
    assert lfs_url(GitAddress.parse(address)) == expected


def test_lfsconfig_may_choose_another_path_of_the_same_origin():
    address = GitAddress.parse("https://git.example.com/app.git")
    config = b"[lfs]\n\turl = https://git.example.com/lfs/app/\n"
    assert lfs_url(address, config) == "https://git.example.com/lfs/app"


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/app",
        "http://git.example.com/app",
        "https://git.example.com:444/app",
        "https://me:pw@git.example.com/app",
        "ssh://git.example.com/app",
        "nonsense",
    ],
)
def test_lfsconfig_may_not_send_us_anywhere_else_unless_the_caller_says_so(url):
    address = GitAddress.parse("https://git.example.com/app.git")
    with pytest.raises(ConfigurationError, match="another origin") as caught:
        lfs_url(address, f"[lfs]\nurl = {url}".encode())
    assert "pw@" not in str(caught.value)
    assert lfs_url(address, f"[lfs]\nurl = {url}".encode(), "https://evil.example/app/") == "https://evil.example/app"


@pytest.mark.parametrize("address", ["/srv/app.git", "git://git.example.com/app.git"])
def test_what_has_no_server_says_so(address):
    with pytest.raises(ConfigurationError, match="no LFS server"):
        lfs_url(GitAddress.parse(address))


# --- by way of SSH ---------------------------------------------------------------------------------------------------


@pytest.fixture
def https_server():
    with LFSServer(context=server_context(), username="me", password="hunter2") as lfs:
        yield lfs


def ssh_answering(tmp_path, text, status=0):
    async def command(process):
        process.stdout.write(text.encode())
        process.stderr.write(b"complaint\n" if status else b"")
        process.exit(status)

    return SSHServer(tmp_path, command=command)


def ssh_keychain(ssh) -> StaticKeychain:
    key: SSHKey = ssh.key
    return StaticKeychain.for_url(ssh.url("app.git"), key)


def test_an_ssh_key_is_enough_where_the_server_gives_out_tokens(https_server, open_store, tmp_path):
    pointer = https_server.add(b"hello")
    answer = (
        f'{{"href": "{https_server.url}/app.git/info/lfs", "header": {{"Authorization": "Basic bWU6aHVudGVyMg=="}}}}'
    )
    with ssh_answering(tmp_path, answer) as ssh:
        store = open_store(
            at=ssh.url("team/it's.git"),
            keychain=ssh_keychain(ssh),
            tls=TLSConfig(ca=(TLS / "ca.pem").read_text()),
        )
        assert store.read(pointer) == b"hello"
        assert ssh.commands == ["git-lfs-authenticate 'team/it'\\''s.git' download"]


@pytest.mark.parametrize(
    "answer",
    ["", "nonsense", '{"href": "http://127.0.0.1:1/x"}', '{"href": "https://[::1"}', '{"header": {"Host": "x"}}'],
)
def test_a_token_that_makes_no_sense_is_a_protocol_error(lfs, open_store, tmp_path, answer):
    with ssh_answering(tmp_path, answer) as ssh, pytest.raises(RemoteProtocolError):
        open_store(at=ssh.url("app.git"), keychain=ssh_keychain(ssh)).open(lfs.add(b"x"))


@pytest.mark.usefixtures("impatient")
def test_a_server_without_tokens_leaves_us_with_https_and_the_keychain(lfs, open_store, tmp_path):
    with ssh_answering(tmp_path, "", status=127) as ssh, pytest.raises(TransportError, match="443"):
        store = open_store(at=ssh.url("app.git"), keychain=ssh_keychain(ssh))
        store.open(lfs.add(b"x"))


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_a_file_larger_than_the_limit_is_not_asked_for(lfs, open_store):
    pointer = lfs.add(b"hello world")
    with pytest.raises(LimitExceededError, match="max_file_bytes"):
        open_store(limits=Limits(max_file_bytes=10)).open(pointer)
    with pytest.raises(LimitExceededError, match="max_content_bytes"):
        open_store(limits=Limits(max_content_bytes=10)).prefetch([pointer])
    assert lfs.requests == []


def test_a_cancelled_operation_receives_nothing(lfs, open_store, tmp_path):
    pointer = lfs.add(b"hello")
    with pytest.raises(OperationCancelledError):
        open_store(operation=Operation(20, lambda: True)).open(pointer)
    assert kept(tmp_path) == []

"""The SSH transport against a server in this process."""

import asyncio
import socket
import subprocess
import threading

import asyncssh
import attrs
import pytest

from fluxsrc.auth import Anonymous, BasicAuth, Proxy, SSHKey
from fluxsrc.errors import (
    AuthenticationError,
    CertificateError,
    ConfigurationError,
    OperationCancelledError,
    PermissionDeniedError,
    RemoteProtocolError,
    RevisionNotFoundError,
    TransportError,
    TransportTimeoutError,
)
from fluxsrc.git.address import GitAddress
from fluxsrc.git.ssh_pipe import HIGH_WATER
from fluxsrc.git.transport_ssh import open_ssh, open_upload_pack, quote_path
from fluxsrc.operation import Operation
from fluxsrc.testing.ssh_server import SSHServer
from helpers.waiting import expire


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("repositories")
    subprocess.run(["git", "init", "-q", "--bare", str(root / "it's a !repo.git")], check=True)
    with SSHServer(root) as server:
        yield server


@pytest.fixture
def answering(tmp_path):
    """Start a server that answers every command with a coroutine function."""
    servers = []

    def start(command):
        server = SSHServer(tmp_path, command=command)
        server.__enter__()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def upload_pack(server, repository="it's a !repo.git", *, key=None, timeout=20.0, **options):
    address = GitAddress.parse(server.url(repository))
    return open_upload_pack(address, key or server.key, operation=Operation(timeout), **options)


def run(server, *, operation=None, **options):
    address = GitAddress.parse(server.url("x"))
    return open_ssh(address, server.key, "command", {}, operation=operation or Operation(20), **options)


def read_all(stream, size=1 << 20):
    data = bytearray()
    while chunk := stream.read(size):
        assert len(chunk) <= size
        data += chunk
    return bytes(data)


# --- a conversation --------------------------------------------------------------------------------------------------


def test_protocol_2_is_asked_for_and_a_flush_ends_the_conversation_well(server):
    with upload_pack(server) as stream:
        assert stream.read(14) == b"000eversion 2\n"
        stream.send(b"0000")
        assert b"ls-refs" in read_all(stream, size=7)


def test_servers_that_take_no_variables_speak_version_0(tmp_path):
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "a.git")], check=True)
    with SSHServer(tmp_path, protocol=0) as server, upload_pack(server, "a.git") as stream:
        stream.send(b"0000")
        assert b"version 2" not in read_all(stream)


@pytest.mark.parametrize(
    ("path", "quoted"),
    [
        ("/a.git", "'/a.git'"),
        ("a b;rm -rf $(x)`y`\\", "'a b;rm -rf $(x)`y`\\'"),
        ("it's", "'it'\\''s'"),
        ("wow!", "'wow'\\!''"),
        ("/~me/a.git", "'~me/a.git'"),
    ],
)
def test_a_path_is_one_word_of_the_servers_shell(path, quoted):
    assert quote_path(path) == quoted


@pytest.mark.parametrize("path", ["-oProxyCommand=x", "", "a\nb", "a\0b", "/\x1b[2J"])
def test_a_path_that_is_an_option_or_not_printable_is_refused(path):
    with pytest.raises(ConfigurationError):
        quote_path(path)


def test_the_quoted_word_means_the_same_to_a_real_shell():
    path = "/a b'c!d$e`f\\g\"h*?[i];j&k|l#m.git"
    shown = subprocess.run(["/bin/sh", "-c", f"printf %s {quote_path(path)}"], capture_output=True, check=True)
    assert shown.stdout.decode() == path


def test_all_bytes_arrive_in_order_though_the_server_is_faster_than_the_reader(answering):
    pattern = bytes(range(256)) * 4096
    rounds = 3 * HIGH_WATER // len(pattern)

    async def flood(process):
        for _ in range(rounds):
            process.stdout.write(pattern)
            await process.stdout.drain()
        process.exit(0)

    with run(answering(flood)) as stream:
        assert stream.read(1) == b"\0"
        most = max(stream._pipe.size for _ in range(3) if not threading.Event().wait(0.1))
        assert most < 2 * HIGH_WATER + 1024 * 1024, "the window bounds what is buffered"
        assert b"\0" + read_all(stream) == pattern * rounds


def test_what_is_written_arrives_whole_though_the_server_reads_slowly(answering):
    sent = bytes(range(256)) * 40000
    received = bytearray()

    async def read_slowly(process):
        while len(received) < len(sent):
            received.extend(await process.stdin.read(1 << 20))
            await asyncio.sleep(0)
        process.stdout.write(b"done")
        process.exit(0)

    with run(answering(read_slowly)) as stream:
        for at in range(0, len(sent), 1 << 20):
            stream.send(sent[at : at + (1 << 20)])
        assert stream.read(10) == b"done"
    assert bytes(received) == sent


def test_a_stream_works_inside_a_running_event_loop(server):
    async def in_a_notebook():
        with upload_pack(server) as stream:
            return stream.read(14)

    assert asyncio.run(in_a_notebook()) == b"000eversion 2\n"


def test_closing_twice_is_fine(server):
    stream = upload_pack(server)
    connection = stream._connection
    stream.close()
    stream.close()
    connection.close()
    connection.close()
    assert not connection._thread.is_alive()


# --- failures on the other side --------------------------------------------------------------------------------------


def test_a_repository_that_is_not_there_is_not_found(server):
    with upload_pack(server, "missing.git") as stream, pytest.raises(RevisionNotFoundError, match="does not appear"):
        stream.read(10)


@pytest.mark.parametrize(
    ("said", "status", "error"),
    [
        (b"ERROR: Repository not found.\n", 1, RevisionNotFoundError),
        (b"remote: Access denied\n", 1, PermissionDeniedError),
        (b"sh: git-upload-pack: command not found\n", 127, RemoteProtocolError),
    ],
)
def test_what_the_server_says_decides_the_error(answering, said, status, error):
    async def refuse(process):
        process.stderr.write(said)
        process.exit(status)

    with run(answering(refuse)) as stream, pytest.raises(error):
        stream.read(1)


def test_a_server_cannot_write_to_the_terminal_and_its_speech_is_cut_short(answering):
    async def shout(process):
        process.stderr.write(b"\x1b[2Jevil\r\n" + b"x" * 100_000)
        process.exit(1)

    with run(answering(shout)) as stream, pytest.raises(Exception, match="ended with status 1") as caught:
        stream.read(1)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_a_command_that_fails_after_its_first_bytes_is_no_clean_end(answering):
    async def die(process):
        process.stdout.write(b"half a pack")
        process.exit(1)

    with run(answering(die)) as stream:
        assert stream.read(100) == b"half a pack"
        with pytest.raises(Exception, match="status 1"):
            stream.read(1)


def test_a_command_that_was_killed_is_worth_another_try(answering):
    async def die(process):
        process.exit_with_signal("KILL")

    with run(answering(die)) as stream, pytest.raises(TransportError, match="killed by KILL"):
        stream.read(1)


def test_a_connection_that_breaks_in_the_middle_is_a_transport_error(answering):
    async def cut(process):
        process.stdout.write(b"x")
        await process.stdout.drain()
        process.channel.get_connection().abort()

    with run(answering(cut)) as stream:
        with pytest.raises(TransportError):
            read_all(stream)
        with pytest.raises(TransportError):
            stream.send(b"more")


def test_writing_to_a_command_that_has_ended_is_a_transport_error(answering):
    async def leave(process):
        process.exit(0)

    with run(answering(leave)) as stream:
        assert stream.read(1) == b""
        with pytest.raises(TransportError, match="ended the conversation"):
            stream.send(b"hello?")


# --- deadlines and cancelling ----------------------------------------------------------------------------------------


async def silent(process):
    await asyncio.sleep(3600)


def test_a_silent_command_ends_at_the_deadline_and_the_error_names_the_phase(answering):
    operation = Operation(60)
    with run(answering(silent), operation=operation) as stream:
        stream.phase = "receive"
        expire(operation)
        with pytest.raises(TransportTimeoutError, match="receive") as caught:
            stream.read(1)
    assert caught.value.phase == "receive"


def test_cancelling_interrupts_a_read(answering):
    cancel = threading.Event()
    with run(answering(silent), operation=Operation(60, cancel)) as stream:
        threading.Timer(0.1, cancel.set).start()
        with pytest.raises(OperationCancelledError):
            stream.read(1)


@pytest.fixture
def black_hole():
    """A listener that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def known(server, port):
    return attrs.evolve(server.key, known_hosts=f"[127.0.0.1]:{port} {server.known_hosts.split(' ', 1)[1]}")


def test_a_server_that_never_says_hello_ends_at_the_deadline(server, black_hole):
    address = GitAddress.parse(f"ssh://127.0.0.1:{black_hole}/x")
    with pytest.raises(TransportTimeoutError, match="log in"):
        open_upload_pack(address, known(server, black_hole), operation=Operation(2))


def test_without_a_deadline_a_server_that_never_says_hello_ends_after_the_idle_time(server, black_hole):
    address = GitAddress.parse(f"ssh://127.0.0.1:{black_hole}/x")
    with pytest.raises(TransportError, match="broke"):
        open_ssh(address, known(server, black_hole), "x", {}, operation=Operation(None), idle=0.3)


def test_a_peer_that_stops_answering_is_noticed_without_a_deadline(answering):
    held = threading.Event()

    async def hang(process):
        held.wait(60)  # blocks the server's loop: no keepalive is answered

    server = answering(hang)
    try:
        with pytest.raises(TransportError), run(server, operation=Operation(None), idle=1.0) as stream:
            stream.read(1)
    finally:
        held.set()


def test_nothing_listening_is_a_transport_error(server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TransportError, match=r"[Rr]efused"):
        open_upload_pack(GitAddress.parse(f"ssh://127.0.0.1:{port}/x"), known(server, port), operation=Operation(10))


def test_a_server_that_speaks_something_else_is_a_protocol_error(server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer():
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n" * 2000 + b"\r\n")
                peer.recv(100)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises((RemoteProtocolError, TransportError)):
            open_upload_pack(
                GitAddress.parse(f"ssh://127.0.0.1:{port}/x"), known(server, port), operation=Operation(10)
            )
        thread.join()


# --- keys ------------------------------------------------------------------------------------------------------------


def with_known_hosts(server, text):
    return attrs.evolve(server.key, known_hosts=text)


def other_key():
    return asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()


def test_a_host_that_known_hosts_does_not_name_is_not_even_connected_to(server, monkeypatch):
    monkeypatch.setattr("fluxsrc.git.transport_ssh.connect", None)
    for text in ("", f"elsewhere {other_key()}"):
        with pytest.raises(CertificateError, match=r"does not name \[127\.0\.0\.1\]"):
            upload_pack(server, key=with_known_hosts(server, text))


def test_another_key_than_the_known_one_is_refused_with_both_fingerprints(server):
    before = len(server.commands)
    with pytest.raises(CertificateError, match=r"its key is SHA256:.*known_hosts has SHA256:") as caught:
        upload_pack(server, key=with_known_hosts(server, f"[127.0.0.1]:{server.port} {other_key()}"))
    assert not caught.value.retryable
    assert len(server.commands) == before


def test_a_revoked_key_is_refused(server):
    with pytest.raises(CertificateError, match="revokes"):
        upload_pack(
            server,
            key=with_known_hosts(server, server.known_hosts + f"@revoked * {server.known_hosts.split(' ', 1)[1]}"),
        )


def test_a_key_that_is_revoked_while_another_is_trusted_is_refused(server):
    text = f"[127.0.0.1]:{server.port} {other_key()}\n@revoked * {server.known_hosts.split(' ', 1)[1]}"
    with pytest.raises(CertificateError):
        upload_pack(server, key=with_known_hosts(server, text))


def test_a_host_without_a_key_of_the_known_kind_is_refused_with_the_kinds(server):
    rsa = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
    with pytest.raises(CertificateError, match="ecdsa-sha2-nistp256"):
        upload_pack(server, key=with_known_hosts(server, f"[127.0.0.1]:{server.port} {rsa}"))


def test_known_hosts_of_unsupported_kinds_only_says_so(server):
    blob = "AAAAB3NzaC1mb28="  # ssh-foo
    with pytest.raises(ConfigurationError, match="ssh-foo"):
        upload_pack(server, key=with_known_hosts(server, f"[127.0.0.1]:{server.port} ssh-foo {blob}"))


def test_a_key_that_the_server_does_not_know_is_an_authentication_error_with_the_user(server):
    stranger = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    with pytest.raises(AuthenticationError, match="for the user git"):
        upload_pack(server, key=attrs.evolve(server.key, identity=stranger))


QUICK = {"rounds": 16, "ignore_few_rounds": True}
"""Rounds of the function that slows guessing down; a key may have any number of them."""


@pytest.mark.parametrize("form", ["openssh", "pkcs8-pem"])
def test_an_encrypted_key_opens_with_its_passphrase_and_with_no_other(server, form):
    key = asyncssh.import_private_key(server.key.identity.reveal())
    text = key.export_private_key(form, passphrase="open sesame", **QUICK).decode()
    encrypted = attrs.evolve(server.key, identity=text)
    with upload_pack(server, key=attrs.evolve(encrypted, passphrase="open sesame")) as stream:
        assert stream.read(4) == b"000e"
    with pytest.raises(AuthenticationError, match="no passphrase is given"):
        upload_pack(server, key=encrypted)
    with pytest.raises(AuthenticationError, match="does not open"):
        upload_pack(server, key=attrs.evolve(encrypted, passphrase="open barley"))


@pytest.mark.parametrize(
    "identity", ["", "not a key", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"]
)
def test_a_text_that_is_no_key_is_a_configuration_error_that_does_not_quote_it(server, identity):
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        upload_pack(server, key=attrs.evolve(server.key, identity=identity))
    assert "AAAA" not in str(caught.value)


def test_the_users_own_keys_agent_and_configuration_are_not_asked(server, tmp_path, monkeypatch):
    ssh = tmp_path / ".ssh"
    ssh.mkdir()
    (ssh / "config").write_text("Host *\n  Port 1\n  HostName 192.0.2.1\n  User nobody\n")
    (ssh / "known_hosts").write_text(server.known_hosts)
    (ssh / "id_ed25519").write_text(server.key.identity.reveal())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    with upload_pack(server) as stream:
        assert stream.read(4) == b"000e"
    with pytest.raises(CertificateError):
        upload_pack(server, key=with_known_hosts(server, ""))
    stranger = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    with pytest.raises(AuthenticationError):
        upload_pack(server, key=attrs.evolve(server.key, identity=stranger))


@pytest.mark.parametrize(
    ("credentials", "error"),
    [(None, AuthenticationError), (BasicAuth("me", "pw"), ConfigurationError), (Anonymous(), ConfigurationError)],
)
def test_ssh_takes_keys_only(server, credentials, error):
    with pytest.raises(error):
        open_upload_pack(GitAddress.parse(server.url("x")), credentials, operation=Operation(5))


def test_an_https_proxy_is_refused_by_name(server):
    with pytest.raises(ConfigurationError, match="https prox"):
        upload_pack(server, proxy=Proxy(url="https://127.0.0.1:1"))


def test_the_user_of_the_url_goes_before_the_keys(server):
    seen = []

    async def who(process):
        seen.append(process.get_extra_info("username"))
        process.exit(0)

    with SSHServer(server._root, command=who) as asking:
        for address in (f"ssh://alice@127.0.0.1:{asking.port}/x", f"ssh://127.0.0.1:{asking.port}/x"):
            key: SSHKey = attrs.evolve(asking.key, username="deploy")
            with open_upload_pack(GitAddress.parse(address), key, operation=Operation(10)) as stream:
                assert stream.read(1) == b""
    assert seen == ["alice", "deploy"]

"""SSH connections that rest: who gets one, who must not, and how each ends."""

import gc
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import types

import asyncssh
import attrs
import pytest

from fluxsrc.auth import SSHKey, StaticKeychain
from fluxsrc.errors import AuthenticationError, CertificateError, TransportTimeoutError
from fluxsrc.git import GitSource, ssh_pool, transport_ssh
from fluxsrc.git.ssh_pool import IDLE_CONNECTIONS
from fluxsrc.operation import Operation
from fluxsrc.testing.git import GitRepositoryBuilder
from fluxsrc.testing.ssh_server import SSHServer
from helpers.waiting import PATIENCE, wait_until


@pytest.fixture(autouse=True)
def _none_rests_before_or_after():
    IDLE_CONNECTIONS.close()
    yield
    IDLE_CONNECTIONS.close()


@pytest.fixture
def server(tmp_path):
    for name in ("app.git", "other.git"):
        GitRepositoryBuilder(tmp_path / name).commit({"a": b"a"})
    with SSHServer(tmp_path) as server:
        yield server


def source_of(server, name="app.git", *, key=None, url=None):
    url = url or server.url(name)
    return GitSource(url, branch="main", cache=None, keychain=StaticKeychain.for_url(url, key or server.key))


def ssh_threads():
    return [thread for thread in threading.enumerate() if thread.name == "fluxsrc-ssh"]


def test_polling_logs_in_once(server):
    """Whatever repository of the host is polled, and by which source."""
    for name in ("app.git", "app.git", "other.git"):
        source_of(server, name).resolve_revision()
    with source_of(server).fetch() as snapshot:
        assert [entry.path for entry in snapshot.entries()] == ["a"]
    assert len(server.commands) == 4
    assert server.connections == 1
    assert len(IDLE_CONNECTIONS) == 1


def test_two_conversations_at_a_time_have_two_connections(server):
    """A connection is lent to one at a time; afterwards both rest."""
    one, other = Operation(20), Operation(20)
    source_of(server).resolve_revision(operation=one)
    source_of(server).resolve_revision(operation=other)
    assert server.connections == 2
    del one, other
    gc.collect()
    assert len(IDLE_CONNECTIONS) == 2


@pytest.mark.parametrize(
    ("change", "error"),
    [("identity", AuthenticationError), ("known_hosts", CertificateError), ("username", None)],
)
def test_nobody_gets_a_connection_that_was_made_with_other_things(server, tmp_path, change, error):
    """A wrong key stays wrong, and an unknown host unknown, while somebody else's connection rests."""
    source_of(server).resolve_revision()
    with SSHServer(tmp_path) as stranger:
        other = {"identity": stranger.key.identity, "known_hosts": stranger.known_hosts, "username": "somebody"}[change]
    url = server.url("app.git").replace("git@", "")
    source = source_of(server, key=attrs.evolve(server.key, **{change: other}), url=url)
    if error is None:
        source.resolve_revision()
    else:
        with pytest.raises(error):
            source.resolve_revision()
    assert server.connections == (1 if error is CertificateError else 2)


def test_a_passphrase_is_part_of_the_key(server):
    """Whoever does not know it cannot borrow the connection of somebody who does."""
    clear = asyncssh.import_private_key(server.key.identity.reveal())
    encrypted = clear.export_private_key(passphrase="open sesame", rounds=16, ignore_few_rounds=True).decode()
    good = SSHKey(identity=encrypted, passphrase="open sesame", known_hosts=server.known_hosts)
    source_of(server, key=good).resolve_revision()
    with pytest.raises(AuthenticationError):
        source_of(server, key=attrs.evolve(good, passphrase="wrong")).resolve_revision()


def test_a_connection_that_the_server_closed_is_replaced_unnoticed(server):
    """As after a restart."""
    source_of(server).resolve_revision()
    server.drop_connections()
    wait_until(lambda: not len(IDLE_CONNECTIONS))
    source_of(server).resolve_revision()
    assert server.connections == 2


def test_a_connection_that_breaks_just_when_it_is_lent_is_replaced_unnoticed(server, monkeypatch):
    """The server's goodbye is still on its way."""
    source_of(server).resolve_revision()
    take = IDLE_CONNECTIONS.take

    def take_broken(key):
        connection = take(key)
        if connection is not None:
            connection._connection.abort = lambda: None
            connection.loop.call_soon_threadsafe(connection._connection._transport.abort)
        return connection

    monkeypatch.setattr(IDLE_CONNECTIONS, "take", take_broken)
    source_of(server).resolve_revision()
    assert server.connections == 2


class Forwarder:
    """A listener that passes bytes on to a port, until it `forgets` its connections: then they are silent."""

    def __init__(self, port):
        self.target = port
        self.forgets = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            self.sockets += [client, server]
            forgotten = threading.Event()
            self.forget = forgotten.set
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self.pump, args=(source, sink, forgotten), daemon=True).start()

    @staticmethod
    def pump(source, sink, forgotten):
        try:
            while data := source.recv(65536):
                if not forgotten.is_set():
                    sink.sendall(data)
        except OSError:
            pass

    def close(self):
        for item in (self.listener, *self.sockets):
            item.close()


@pytest.fixture
def forwarder(server):
    forwarder = Forwarder(server.port)
    yield forwarder
    forwarder.close()


def through(forwarder, server):
    known_hosts = server.known_hosts.replace(str(server.port), str(forwarder.port))
    url = server.url("app.git").replace(str(server.port), str(forwarder.port))
    return source_of(server, key=attrs.evolve(server.key, known_hosts=known_hosts), url=url)


def test_a_connection_that_a_firewall_forgot_is_replaced_before_long(server, forwarder, monkeypatch):
    """Nothing says that it is gone: it is just silent."""
    monkeypatch.setattr(transport_ssh, "_PATIENCE", 0.2)
    source = through(forwarder, server)
    source.resolve_revision()
    forwarder.forget()
    source.resolve_revision()
    assert server.connections == 2


def test_the_deadline_holds_while_a_silent_connection_is_tried(server, forwarder):
    """The patience with it is longer than the deadline here."""
    source = through(forwarder, server)
    source.resolve_revision()
    forwarder.forget()
    with pytest.raises(TransportTimeoutError):
        source.resolve_revision(operation=Operation(0.3))


def test_a_connection_rests_for_a_while_only(server, monkeypatch):
    """Then it is closed, and its thread ends, without anybody looking."""
    monkeypatch.setattr(ssh_pool, "MAX_REST", 0.05)
    source_of(server).resolve_revision()
    wait_until(lambda: not len(IDLE_CONNECTIONS) and not ssh_threads())


def test_an_old_connection_is_not_lent_again(server, monkeypatch):
    """A key that the server has revoked meanwhile must stop working one day."""
    source_of(server).resolve_revision()
    monkeypatch.setattr(ssh_pool, "MAX_AGE", 0.0)
    source_of(server).resolve_revision()
    assert server.connections == 2
    assert not len(IDLE_CONNECTIONS)
    wait_until(lambda: not ssh_threads())


def test_few_connections_rest(server, monkeypatch):
    """The one that has rested for longest makes room."""
    monkeypatch.setattr(ssh_pool, "MAX_IDLE", 2)
    operations = [Operation(20) for _ in range(4)]
    for operation in operations:
        source_of(server).resolve_revision(operation=operation)
    operations.clear()
    del operation
    gc.collect()
    assert len(IDLE_CONNECTIONS) == 2
    wait_until(lambda: len(ssh_threads()) == 2)


def test_a_conversation_that_ends_in_the_middle_takes_its_connection_along(tmp_path):
    """What is unread would have to be read by somebody."""

    async def talk(process):
        process.stdout.write(b"x" * 100_000)
        await process.stdin.read(1)

    with SSHServer(tmp_path, command=talk) as server:
        address = source_of(server, "x").address
        with transport_ssh.open_ssh(address, server.key, "talk", {}, operation=Operation(20)) as stream:
            stream.read(1)
        assert not len(IDLE_CONNECTIONS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_logs_in_itself_and_leaves_the_parents_connection_alone(server):
    """Two processes that write to one encrypted stream would ruin it."""
    source = source_of(server)
    source.resolve_revision()
    child = os.fork()
    if not child:
        status = 1
        try:
            status = 0 if not len(IDLE_CONNECTIONS) and source.resolve_revision() else 1
            gc.collect()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert server.connections == 2
    source.resolve_revision()
    assert server.connections == 2


def test_a_source_pickles_while_its_connection_rests(server):
    """Connections belong to the process, not to the source."""
    source = source_of(server)
    source.resolve_revision()
    assert pickle.loads(pickle.dumps(source)) == source


LEAVING = """
import sys
from fluxsrc.auth import SSHKey, StaticKeychain
from fluxsrc.git import GitSource
from fluxsrc.git.ssh_pool import IDLE_CONNECTIONS
url, identity, known_hosts = sys.argv[1:]
key = SSHKey(identity=identity, known_hosts=known_hosts)
source = GitSource(url, branch="main", cache=None, keychain=StaticKeychain.for_url(url, key))
print(source.resolve_revision().pointer, len(IDLE_CONNECTIONS))
"""


def test_a_program_ends_quietly_while_a_connection_rests(server):
    """No warning of a socket, a loop or a task that was left, and nothing that it waits for."""
    url = server.url("app.git")
    command = [sys.executable, "-W", "error", "-c", LEAVING]  # -X dev would tell how slow the machine is
    command += [url, server.key.identity.reveal(), server.known_hosts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "main 1\n", "")


def test_a_conversation_may_end_while_another_one_looks_for_a_connection():
    """In the same thread, as it happens when garbage is collected: nobody waits for himself for ever."""
    pool, found = ssh_pool.SSHPool(), []
    mine, other = (
        types.SimpleNamespace(alive=True, born=time.monotonic(), rest=lambda _seconds, _over: None) for _ in "ab"
    )
    left = [other]

    class Collecting(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, key):
            if left:
                pool.give("elsewhere", left.pop())
            return str.__eq__(self, key)

    pool.give("mine", mine)
    taking = threading.Thread(target=lambda: found.append(pool.take(Collecting("mine"))), daemon=True)
    taking.start()
    taking.join(PATIENCE)
    assert found == [mine]
    assert pool.take("elsewhere") is other
    assert len(pool) == 0

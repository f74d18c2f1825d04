"""OpenSSH: its keys, its known_hosts files, its certificates, and its ways to go away."""

import getpass
import os
import signal
import subprocess
import time
from pathlib import Path

import attrs
import pytest

from fluxsrc.auth import SSHKey
from fluxsrc.errors import (
    AuthenticationError,
    CertificateError,
    RevisionNotFoundError,
    TransportError,
    TransportTimeoutError,
)
from fluxsrc.git.address import GitAddress
from fluxsrc.git.known_hosts import KnownHosts
from fluxsrc.git.transport_ssh import open_ssh, open_upload_pack
from fluxsrc.operation import Operation
from helpers import git_servers as servers
from helpers import programs

pytestmark = pytest.mark.servers


HOST_KINDS = {"ed25519": "ssh-ed25519", "ecdsa": "ecdsa-sha2-nistp256", "rsa": "ssh-rsa"}


def keygen(*arguments):
    done = subprocess.run(
        [programs.tool("ssh-keygen"), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@attrs.define
class Server:
    """One sshd, with a host key of each kind, and a user key that it takes."""

    root: Path
    port: int

    @property
    def name(self):
        return f"[127.0.0.1]:{self.port}"

    @property
    def identity(self):
        return (self.root / "user").read_text()

    def host_key(self, kind):
        return " ".join((self.root / f"host_{kind}.pub").read_text().split()[:2])

    def line(self, kind="ed25519"):
        return f"{self.name} {self.host_key(kind)}\n"

    def allow(self, public):
        (self.root / "authorized_keys").write_text((self.root / "user.pub").read_text() + public)

    def address(self, path="/x"):
        return GitAddress.parse(f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{path}")

    def run(self, command="echo hello", *, known_hosts=None, timeout=20.0, operation=None, idle=60.0, **key):
        key = SSHKey(**{"identity": self.identity, "known_hosts": known_hosts or self.line()} | key)
        operation = operation or Operation(timeout)
        with open_ssh(self.address(), key, command, {}, operation=operation, idle=idle) as stream:
            data = b""
            while chunk := stream.read(1 << 16):
                data += chunk
        return data


def start(root, port, extra=""):
    host_keys = "".join(f"HostKey {root}/host_{kind}\n" for kind in HOST_KINDS)
    (root / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\n{host_keys}AuthorizedKeysFile {root}/authorized_keys\nPidFile none\n"
        f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nLogLevel ERROR\n{extra}"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    return servers._process([programs.tool("sshd"), "-D", "-e", "-f", str(root / "sshd_config")], port)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    root = tmp_path_factory.mktemp("sshd")
    for kind in HOST_KINDS:
        keygen("-q", "-t", kind, "-N", "", "-f", root / f"host_{kind}")
    keygen("-q", "-t", "ed25519", "-N", "", "-f", root / "user")
    (root / "authorized_keys").write_text((root / "user.pub").read_text())
    return root


@pytest.fixture(scope="module")
def server(keys):
    port = programs.free_port()
    with start(
        keys,
        port,
        "AcceptEnv GIT_PROTOCOL\nSetEnv GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=*\n",
    ):
        yield Server(keys, port)


# --- private keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passphrase", ["", "open sesame"])
@pytest.mark.parametrize(
    "options",
    [
        ["-t", "ed25519"],
        ["-t", "rsa", "-b", "3072"],
        ["-t", "ecdsa", "-b", "384"],
        ["-t", "rsa", "-b", "2048", "-m", "PEM"],
        ["-t", "rsa", "-b", "2048", "-m", "PKCS8"],
        ["-t", "ecdsa", "-m", "PEM"],
    ],
    ids=" ".join,
)
def test_every_kind_of_key_that_ssh_keygen_writes_logs_in(server, tmp_path, options, passphrase):
    """Plain or encrypted, in OpenSSH's own format or in the older ones."""
    keygen("-q", *options, "-N", passphrase, "-f", tmp_path / "key")
    server.allow((tmp_path / "key.pub").read_text())
    identity = (tmp_path / "key").read_text()
    assert server.run(identity=identity, passphrase=passphrase or None) == b"hello\n"
    if passphrase:
        with pytest.raises(AuthenticationError, match="does not open"):
            server.run(identity=identity, passphrase="wrong")
        with pytest.raises(AuthenticationError, match="no passphrase"):
            server.run(identity=identity)


def test_a_key_that_is_not_authorized_is_an_authentication_error(server, tmp_path):
    keygen("-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key")
    with pytest.raises(AuthenticationError, match=getpass.getuser()):
        server.run(identity=(tmp_path / "key").read_text())


# --- known hosts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", HOST_KINDS)
def test_the_host_proves_itself_with_the_key_that_is_known(server, kind):
    """Though it has others, which it would rather use."""
    assert server.run(known_hosts=server.line(kind)) == b"hello\n"


def test_what_ssh_keyscan_prints_is_read(server):
    scanned = subprocess.run(
        [programs.tool("ssh-keyscan"), "-p", str(server.port), "127.0.0.1"], capture_output=True, text=True, check=True
    ).stdout
    assert server.run(known_hosts=scanned) == b"hello\n"


def test_a_file_that_ssh_keygen_hashed_is_read(server, tmp_path):
    (tmp_path / "known_hosts").write_text(server.line() + f"elsewhere {server.host_key('rsa')}\n")
    keygen("-H", "-f", tmp_path / "known_hosts")
    hashed = (tmp_path / "known_hosts").read_text()
    assert "127.0.0.1" not in hashed
    assert server.run(known_hosts=hashed) == b"hello\n"


def test_wildcards_and_negations_hold(server):
    key = server.host_key("ed25519")
    assert server.run(known_hosts=f"[127.0.0.*]:{server.port} {key}") == b"hello\n"
    with pytest.raises(CertificateError):
        server.run(known_hosts=f"*,!{server.name} {key}")


def test_a_revoked_key_is_refused_and_another_one_taken(server):
    revoked = f"@revoked * {server.host_key('ed25519')}\n"
    with pytest.raises(CertificateError):
        server.run(known_hosts=server.line() + revoked)
    assert server.run(known_hosts=server.line() + server.line("rsa") + revoked) == b"hello\n"


def test_a_changed_key_is_refused_with_both_fingerprints(server, tmp_path):
    keygen("-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other")
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    with pytest.raises(CertificateError) as caught:
        server.run(known_hosts=f"{server.name} {other}")
    fingerprints = [
        keygen("-l", "-f", path).split()[1] for path in (tmp_path / "other.pub", server.root / "host_ed25519.pub")
    ]
    assert all(fingerprint in str(caught.value) for fingerprint in fingerprints)


@pytest.mark.parametrize(
    ("principals", "options", "accepted"),
    [("127.0.0.1", [], True), ("elsewhere", [], False), ("127.0.0.1", ["-V", "-2d:-1d"], False)],
    ids=["good", "another host's", "expired"],
)
def test_a_host_certificate_is_held_against_its_authority(keys, tmp_path, principals, options, accepted):
    """By principal and time; a user certificate's authority would not do either."""
    keygen("-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "ca")
    public = tmp_path / "host_ed25519.pub"
    public.write_text((keys / "host_ed25519.pub").read_text())
    keygen("-q", "-s", tmp_path / "ca", "-I", "host", "-h", "-n", principals, *options, public)
    port = programs.free_port()
    with start(keys, port, f"HostCertificate {tmp_path}/host_ed25519-cert.pub\n"):
        server = Server(keys, port)
        authority = f"@cert-authority [127.0.0.1]:* {(tmp_path / 'ca.pub').read_text()}"
        if accepted:
            assert server.run(known_hosts=authority) == b"hello\n"
        else:
            with pytest.raises(CertificateError):
                server.run(known_hosts=authority)
        revoked = f"@revoked * {(tmp_path / 'ca.pub').read_text()}"
        with pytest.raises(CertificateError):
            server.run(known_hosts=authority + revoked)


NAMES = [
    ("host", 22),
    ("host", 2222),
    ("a.example.com", 22),
    ("bad.example.com", 22),
    ("HOST", 22),
    ("::1", 22),
    ("::1", 2222),
]
HOSTS = [
    "host",
    "Host",
    "host,other",
    "[host]:2222",
    "[host]:22",
    "*",
    "h?st",
    "*.example.com,!bad.example.com",
    "!host,*",
    "!host",
    "[*]:2222",
    "*.EXAMPLE.com",
    "::1",
    "[::1]:2222",
    "",
]


@pytest.mark.parametrize("hosts", [item for item in HOSTS if item])
@pytest.mark.parametrize("hashed", [False, True], ids=["plain", "hashed"])
def test_hosts_match_as_ssh_keygen_says(server, tmp_path, hosts, hashed):
    """`ssh-keygen -F` is the judge."""
    path = tmp_path / "known_hosts"
    path.write_text(f"{hosts} {server.host_key('ed25519')}\n")
    if hashed:
        keygen("-H", "-f", path)
    known = KnownHosts.parse(path.read_text())
    ours, theirs = {}, {}
    for host, port in NAMES:
        name = host.lower() if port == 22 else f"[{host.lower()}]:{port}"
        found = subprocess.run(["ssh-keygen", "-F", name, "-f", str(path)], capture_output=True, check=False)
        theirs[host, port] = found.returncode == 0
        ours[host, port] = bool(known.lookup(host, port))
    assert ours == theirs


# --- conversations ---------------------------------------------------------------------------------------------------


def test_git_protocol_2_needs_a_server_that_takes_the_variable(server, keys, tmp_path):
    """One that does not speaks version 0, and that is no error."""
    servers.git("init", "-q", "--bare", tmp_path / "it's a !repo.git")
    path = f"{tmp_path}/it's a !repo.git"
    key = SSHKey(identity=server.identity, known_hosts=server.line())
    address = attrs.evolve(server.address(), path=path)
    with open_upload_pack(address, key, operation=Operation(20)) as stream:
        assert stream.read(14) == b"000eversion 2\n"
    port = programs.free_port()
    with start(keys, port):
        strict = Server(keys, port)
        key = attrs.evolve(key, known_hosts=strict.line())
        address = attrs.evolve(strict.address(), path=path)
        with open_upload_pack(address, key, operation=Operation(20)) as stream:
            stream.send(b"0000")
            assert not stream.read(100).startswith(b"000eversion 2")


def test_a_repository_that_is_not_there_is_not_found(server):
    key = SSHKey(identity=server.identity, known_hosts=server.line())
    with (
        open_upload_pack(server.address("/nowhere.git"), key, operation=Operation(20)) as stream,
        pytest.raises(RevisionNotFoundError, match="does not appear to be a git repository"),
    ):
        stream.read(1)


def test_many_megabytes_arrive_through_several_exchanges_of_keys(keys):
    """Sessions change keys after so many bytes; nothing may be lost then."""
    port = programs.free_port()
    with start(keys, port, "RekeyLimit 1M\n"):
        data = Server(keys, port).run("head -c 20000000 /dev/zero")
    assert data == bytes(20_000_000)


def test_a_silent_command_ends_at_the_deadline(server):
    with pytest.raises(TransportTimeoutError):
        server.run("sleep 60", timeout=1.5)


def test_a_server_that_is_frozen_is_noticed_without_a_deadline(server):
    """Its kernel still acknowledges what we send; only the keepalive questions tell."""
    frozen = []

    def freeze(pid):
        os.kill(pid, signal.SIGSTOP)
        frozen.append(pid)

    key = SSHKey(identity=server.identity, known_hosts=server.line())
    command = "echo $PPID; exec sleep 60"
    try:
        with open_ssh(server.address(), key, command, {}, operation=Operation(None), idle=1.0) as stream:
            freeze(int(stream.read(100)))
            with pytest.raises(TransportError, match="broke"):
                stream.read(1)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)


def test_a_server_that_dies_is_a_transport_error(server):
    key = SSHKey(identity=server.identity, known_hosts=server.line())
    with open_ssh(server.address(), key, "echo $PPID; exec sleep 60", {}, operation=Operation(20)) as stream:
        os.kill(int(stream.read(100)), signal.SIGKILL)
        with pytest.raises(TransportError):
            stream.read(1)


def test_closing_ends_the_command_on_the_server(server, tmp_path):
    """Nobody is left counting objects for a client that is gone."""
    key = SSHKey(identity=server.identity, known_hosts=server.line())
    command = f"echo $$; trap 'touch {tmp_path}/ended' EXIT; cat"
    with open_ssh(server.address(), key, command, {}, operation=Operation(20)) as stream:
        stream.read(100)
    for _ in range(200):
        if (tmp_path / "ended").exists():
            break
        time.sleep(0.02)
    assert (tmp_path / "ended").exists()

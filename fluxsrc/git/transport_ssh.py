"""`SSHStream`: a command on an SSH server as a duplex stream of bytes, each wait of it under the one deadline.

The steps of `open_ssh`:

1. Take a connection that rests, if there is one that was made with the same key and known_hosts for the same account.
2. Else look the host up in known_hosts: a host nobody vouches for is not even connected to.
3. Read the private key, in memory: no agent, no file, no configuration of the machine's is asked.
4. Connect, through the proxy where there is one; agree on keys, check the host's, log in.
5. Run the command. When it is done, the connection rests.
"""

import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from fluxsrc._io.http.bound import IDLE_TIMEOUT, Bound
from fluxsrc._io.http.network import connect
from fluxsrc._io.http.proxy import connect_through, wants_tls
from fluxsrc.auth import Credentials, Proxy, SSHKey
from fluxsrc.errors import ConfigurationError, PermissionDeniedError, TransportError
from fluxsrc.git.address import GitAddress
from fluxsrc.git.known_hosts import KnownHosts
from fluxsrc.git.ssh_connection import Login, SSHConnection
from fluxsrc.git.ssh_errors import command_failed, connection_failed, host_key_refused
from fluxsrc.git.ssh_keys import importable, private_key, require_asyncssh, ssh_key
from fluxsrc.git.ssh_pipe import SSHPipe
from fluxsrc.git.ssh_pool import IDLE_CONNECTIONS, pool_key
from fluxsrc.operation import Operation

__all__ = ["SSHStream", "open_ssh", "open_upload_pack", "quote_path"]

_PORT: Final = 22
_PATIENCE: Final = 5.0
"""Seconds for a connection that rested to open a session; one that a firewall forgot is silent, and replaced then."""


def open_upload_pack(
    address: GitAddress,
    credentials: Credentials | None,
    *,
    operation: Operation,
    version: int = 2,
    proxy: Proxy | None = None,
) -> "SSHStream":
    """Start `git-upload-pack` on the server of an address; see `open_ssh`.

    Args:
        address: The repository.
        credentials: An `SSHKey`.
        operation: The deadline and cancel switch, of the whole stream.
        version: The protocol to ask for, in GIT_PROTOCOL. Servers that do not take it speak version 0.
        proxy: An http or socks5 proxy to go through.
    """
    command = f"git-upload-pack {quote_path(address.path)}"
    environment = {"GIT_PROTOCOL": f"version={version}"} if version else {}
    return open_ssh(address, ssh_key(address, credentials), command, environment, operation=operation, proxy=proxy)


def quote_path(path: str) -> str:
    """The repository's path as one word of the server's shell, always in quotes: some servers parse it themselves.

    >>> quote_path("/team/app.git")
    "'/team/app.git'"

    Raises:
        ConfigurationError: The path would be an option, or holds control characters.
    """
    if path.startswith("/~"):
        path = path[1:]  # a home directory, as in git's own ssh:// URLs
    if path.startswith("-") or not path or not path.isprintable():
        raise ConfigurationError("a repository's path is printable and does not begin with '-'")
    escaped = path.replace("'", "'\\''").replace("!", "'\\!'")
    return f"'{escaped}'"


class SSHStream:
    """What a command on the server writes, and what it reads. For one thread at a time; close it, or leave its context.

    Attributes:
        phase: What the stream is used for now, for the messages of timeouts.
    """

    def __init__(self, connection: SSHConnection, key: str, pipe: SSHPipe, bound: Bound) -> None:
        self.phase = "negotiate"
        self._connection: SSHConnection | None = connection
        self._key = key
        self._pipe = pipe
        self._url = bound.url
        self._operation: Operation | None = bound.operation
        self._idle = bound.idle

    def readinto(self, buffer: memoryview, /) -> int:
        """Read at least one byte into the buffer; 0 when the command has ended well.

        Raises:
            SourceError: The command failed; the message has what it said.
            TransportError: The connection broke, or the deadline passed.
        """
        pipe = self._pipe
        with pipe.changed:
            while not pipe.size and not pipe.closed:
                pipe.changed.wait(self._bound().slice(self._idle))
            self._bound().check()
            if pipe.size:
                return pipe.take(buffer)
        self._raise_failure()
        return 0

    def read(self, size: int) -> bytes:
        """Between one and `size` bytes; none when the command has ended well. Raises as `readinto` does."""
        buffer = bytearray(size)
        count = self.readinto(memoryview(buffer))
        return bytes(memoryview(buffer)[:count])

    def send(self, data: bytes, /) -> None:
        """Send all of the bytes.

        Raises:
            TransportError: The connection broke, or the deadline passed.
        """
        self._bound().check()
        pipe, connection = self._pipe, self._connection
        assert connection is not None  # it is open
        with pipe.changed:
            pipe.unsent = True
            connection.post(pipe.send, data)
            while pipe.unsent and not pipe.closed:
                pipe.changed.wait(self._bound().slice(self._idle))
        if pipe.unsent:
            self._raise_failure()
            raise TransportError(f"{self._url}: the server has ended the conversation", url=self._url)

    def obey(self, operation: Operation | None, /) -> None:
        """Go on under another operation; with None, rest until the next one."""
        self._operation = operation

    def close(self) -> None:
        """End the command, and let the connection rest, if it is in order; never raises, waits two seconds at most."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._pipe.failure is None and not self._pipe.size:
            connection.post(self._pipe.close)
            IDLE_CONNECTIONS.give(self._key, connection)
        else:  # in the middle of something
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _bound(self) -> Bound:
        assert self._operation is not None
        return Bound(self._operation, self.phase, self._url, self._idle)

    def _raise_failure(self) -> None:
        pipe = self._pipe
        if pipe.failure is not None:
            raise connection_failed(pipe.failure, self._url) from pipe.failure
        if pipe.status or pipe.signal:
            raise command_failed(pipe.status, pipe.signal, bytes(pipe.stderr), self._url)


def open_ssh(
    address: GitAddress,
    key: SSHKey,
    command: str,
    environment: Mapping[str, str],
    *,
    operation: Operation,
    proxy: Proxy | None = None,
    idle: float = IDLE_TIMEOUT,
) -> SSHStream:
    """Log in at an address and run a command there, by the steps of this module's docstring.

    Args:
        address: Host, port and user name; its path is not looked at.
        key: The private key and the known hosts.
        command: For the server's shell: quote what is in it.
        environment: Variables to ask for; most servers take few.
        operation: The deadline and cancel switch, of the whole stream.
        proxy: An http or socks5 proxy to go through.
        idle: Seconds that logging in may take, and of silence after which the connection counts as dead.

    Raises:
        CertificateError: The host's key is not one that known_hosts names for it.
        AuthenticationError: The server does not take our key, or its passphrase is wrong.
        ConfigurationError: The key or known_hosts cannot be read.
        TransportError: The server cannot be reached, or the connection broke.
    """
    require_asyncssh()
    port = address.port or _PORT
    username = address.username or key.username
    place = pool_key(address.host, port, username, key, proxy, idle)
    rested = IDLE_CONNECTIONS.take(place)  # 1
    bound = Bound(operation, "log in", address.url, idle)
    if rested is not None:
        try:
            return _start(rested, place, command, environment, bound, patience=_PATIENCE)
        except (TransportError, PermissionDeniedError) as exc:
            if isinstance(exc, TimeoutError):
                raise
            # The server may have closed it meanwhile, or open no further session on it: once more.
    known = KnownHosts.parse(key.known_hosts).lookup(address.host, port)  # 2
    if not known:
        raise host_key_refused(address.host, port, known, [], "", address.url)
    login = Login(
        host=address.host,
        port=port,
        username=username,
        key=private_key(key, address.url),  # 3
        known=known,
        keys=importable(known, address.url),
        idle=idle,
    )
    sock = _connect(address.host, port, proxy, Bound(operation, "connect", address.url, idle))
    connection = SSHConnection.open(sock, login, bound)  # 4
    return _start(connection, place, command, environment, bound)


def _start(
    connection: SSHConnection,
    place: str,
    command: str,
    environment: Mapping[str, str],
    bound: Bound,
    *,
    patience: float | None = None,
) -> SSHStream:
    """Step 5."""
    try:
        pipe = connection.execute(command, environment, bound, patience)
    except BaseException:
        connection.close()
        raise
    return SSHStream(connection, place, pipe, bound)


def _connect(host: str, port: int, proxy: Proxy | None, bound: Bound) -> socket.socket:
    if proxy is None:
        return connect(host, port, bound).sock
    if wants_tls(proxy):
        raise ConfigurationError("SSH does not go through https proxies", hint="use an http or socks5 proxy")
    return connect_through(proxy, host, port, None, bound, tunnel=True).sock

"""`SSHStream`: a command on an SSH server as a duplex stream of bytes, each wait of it under the one deadline.

asyncssh speaks the protocol; decision 0012 says why. Its event loop runs in a thread of the stream's own, so that a
caller inside another event loop (a notebook, a web server) is none of its business. The steps of `open_ssh`:

1. Look the host up in known_hosts: a host nobody vouches for is not even connected to.
2. Read the private key, in memory: no agent, no file, no configuration of the machine's is asked.
3. Connect, through the proxy where there is one.
4. Agree on keys, check the host's, log in.
5. Run the command.
"""

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import attrs

from fluxsrc._io.http.bound import IDLE_TIMEOUT, Bound
from fluxsrc._io.http.network import connect
from fluxsrc._io.http.proxy import connect_through
from fluxsrc.auth import Credentials, Proxy, SSHKey
from fluxsrc.errors import ConfigurationError, SourceError, TransportError
from fluxsrc.git.address import GitAddress
from fluxsrc.git.known_hosts import HostKeys, KnownHosts, PublicKey
from fluxsrc.git.ssh_errors import command_failed, connection_failed, host_key_refused
from fluxsrc.git.ssh_keys import importable, private_key, require_asyncssh, ssh_key
from fluxsrc.git.ssh_pipe import HIGH_WATER, SSHPipe
from fluxsrc.operation import Operation

if TYPE_CHECKING:
    import asyncssh

    from fluxsrc.git.ssh_keys import TrustedKeys

__all__ = ["SSHStream", "open_ssh", "open_upload_pack", "quote_path"]

_T = TypeVar("_T")
_PORT: Final = 22
_GOODBYE: Final = 1.0
"""Seconds that closing may take before the connection is cut."""
_FAST_CIPHERS: Final = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
"""Moved to the front: two and a half times as fast here as asyncssh's own first choice, and no less safe."""

_MORE_HOST_KEYS: Final = (
    "+ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256"
)
"""Asked for after the kinds that known_hosts has: a host with another key is to be told apart from one with none."""


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

    def __init__(self, address: GitAddress, operation: Operation, idle: float) -> None:
        self.phase = "connect"
        self._url = address.url
        self._operation: Operation | None = operation
        self._idle = idle
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="fluxsrc-ssh", daemon=True)
        self._pipe = SSHPipe(self._loop)
        self._connection: asyncssh.SSHClientConnection | None = None
        self._thread.start()

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
        pipe = self._pipe
        with pipe.changed:
            pipe.unsent = True
            self._loop.call_soon_threadsafe(pipe.send, data)
            while pipe.unsent and not pipe.closed:
                pipe.changed.wait(self._bound().slice(self._idle))
        if pipe.unsent:
            self._raise_failure()
            raise TransportError(f"{self._url}: the server has ended the conversation", url=self._url)

    def obey(self, operation: Operation | None, /) -> None:
        """Go on under another operation; with None, rest until the next one."""
        self._operation = operation

    def close(self) -> None:
        """End the command and the connection; never raises, waits a second at most."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.create_task, self._say_goodbye())
        self._thread.join(_GOODBYE * 3)

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

    # --- in the caller's thread, while opening ---------------------------------------------------------------------

    def _login(self, sock: socket.socket, login: "_Login") -> None:
        import asyncssh  # noqa: PLC0415 - an extra

        self.phase = "log in"
        offered: list[PublicKey] = []

        class Client(asyncssh.SSHClient):
            def validate_host_public_key(self, _host: str, _address: str, _port: int, key: asyncssh.SSHKey) -> bool:
                offered.append(PublicKey(key.algorithm.decode(), key.public_data))
                return False  # only called for keys that are not known

        async def log_in() -> asyncssh.SSHClientConnection:
            return await asyncssh.connect(sock=sock, client_factory=Client, **login.options())

        try:
            self._connection = self._wait(log_in())
        except SourceError:
            raise  # the deadline's own: it is an OSError too
        except asyncssh.HostKeyNotVerifiable as exc:
            raise host_key_refused(login.host, login.port, login.known, offered, str(exc), self._url) from None
        except (asyncssh.Error, OSError, EOFError, ValueError) as exc:
            raise connection_failed(exc, self._url, username=login.username, known=login.known) from exc

    def _execute(self, command: str, environment: Mapping[str, str]) -> None:
        import asyncssh  # noqa: PLC0415 - an extra

        assert self._connection is not None
        try:
            self._wait(
                self._connection.create_session(
                    lambda: self._pipe,  # type: ignore[arg-type,return-value]  # has the methods, not the base class
                    command,
                    env=[f"{name}={value}" for name, value in environment.items()],
                    send_env=(),
                    encoding=None,
                    window=HIGH_WATER,
                )
            )
        except SourceError:
            raise
        except (asyncssh.Error, OSError) as exc:
            raise connection_failed(exc, self._url) from exc
        self.phase = "negotiate"

    def _wait(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine in the loop's thread, and wait for it as long as the deadline allows."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            while not future.done():
                concurrent.futures.wait([future], timeout=self._bound().slice(self._idle))
        except BaseException:
            future.cancel()
            raise
        return future.result()

    # --- in the loop's thread --------------------------------------------------------------------------------------

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _say_goodbye(self) -> None:
        connection = self._connection
        try:
            if connection is not None:
                connection.close()
                await asyncio.wait_for(connection.wait_closed(), _GOODBYE)
        except (TimeoutError, OSError):
            assert connection is not None
            connection.abort()
        finally:
            me = asyncio.current_task()
            rest = [task for task in asyncio.all_tasks() if task is not me]
            for task in rest:
                task.cancel()
            await asyncio.wait(rest, timeout=_GOODBYE) if rest else None
            self._loop.stop()


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
    known = KnownHosts.parse(key.known_hosts).lookup(address.host, port)  # 1
    if not known:
        raise host_key_refused(address.host, port, known, [], "", address.url)
    login = _Login(
        host=address.host,
        port=port,
        username=address.username or key.username,
        key=private_key(key, address.url),  # 2
        known=known,
        keys=importable(known, address.url),
        idle=idle,
    )
    sock = _connect(address.host, port, proxy, Bound(operation, "connect", address.url, idle))  # 3
    try:
        stream = SSHStream(address, operation, idle)
    except BaseException:
        sock.close()
        raise
    try:
        stream._login(sock, login)  # noqa: SLF001 - 4; the same room
        stream._execute(command, environment)  # noqa: SLF001 - 5
    except BaseException:
        stream.close()
        sock.close()
        raise
    return stream


@attrs.frozen(kw_only=True)
class _Login:
    host: str
    port: int
    username: str
    key: Any = attrs.field(repr=False)
    known: HostKeys
    keys: "TrustedKeys" = attrs.field(repr=False)
    idle: float

    def options(self) -> dict[str, Any]:
        """Each source of keys, trust and settings is named, so that none of the machine's is used in its place."""
        return {
            "host": self.host,
            "port": self.port,
            "username": self.username,
            "config": None,
            "known_hosts": self.keys,
            "x509_trusted_certs": None,
            "server_host_key_algs": _MORE_HOST_KEYS,
            "client_keys": [self.key],
            "agent_path": None,
            "preferred_auth": "publickey",
            "gss_kex": False,
            "gss_auth": False,
            "encryption_algs": _FAST_CIPHERS,
            "compression_algs": ["none"],  # packs are compressed
            "login_timeout": self.idle,
            # Asked four times in `idle` seconds whether it is there, a server may well be busy, but not silent.
            "keepalive_interval": self.idle / 4,
            "keepalive_count_max": 3,
        }


def _connect(host: str, port: int, proxy: Proxy | None, bound: Bound) -> socket.socket:
    if proxy is None:
        return connect(host, port, bound).sock
    if urlsplit(proxy.url).scheme == "https":
        raise ConfigurationError("SSH does not go through https proxies", hint="use an http or socks5 proxy")
    return connect_through(proxy, host, port, None, bound, tunnel=True).sock

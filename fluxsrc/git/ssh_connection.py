"""`SSHConnection`: one login at a server, on which commands run one after another.

asyncssh speaks the protocol; decision 0009 says why. Its event loop runs in a thread of the connection's own, so that a
caller inside another event loop (a notebook, a web server) is none of its business.
"""

import concurrent.futures
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import attrs

from fluxsrc._io.http.bound import Bound
from fluxsrc.errors import SourceError, TransportError
from fluxsrc.git.known_hosts import HostKeys, PublicKey
from fluxsrc.git.ssh_errors import connection_failed, host_key_refused
from fluxsrc.git.ssh_pipe import HIGH_WATER, SSHPipe

if TYPE_CHECKING:
    from asyncio import TimerHandle

    import asyncssh

    from fluxsrc.git.ssh_keys import TrustedKeys

__all__ = ["Login", "SSHConnection"]

_T = TypeVar("_T")
_GOODBYE: Final = 1.0
"""Seconds that closing may take before the connection is cut."""
_FAST_CIPHERS: Final = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
"""Moved to the front: two and a half times as fast here as asyncssh's own first choice, and no less safe."""
_MORE_HOST_KEYS: Final = (
    "+ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256"
)
"""Asked for after the kinds that known_hosts has: a host with another key is to be told apart from one with none."""


@attrs.frozen(kw_only=True)
class Login:
    """What a connection is made with.

    Attributes:
        host: The host's name.
        port: Its port.
        username: Its account.
        key: Our private key, as asyncssh's.
        known: The keys that the host may prove itself with.
        keys: The same, as asyncssh's.
        idle: Seconds that logging in may take, and of silence after which the connection counts as dead.
    """

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


class SSHConnection:
    """A connection that is logged in. Made by `open`; for one thread at a time; close it.

    Attributes:
        born: When it was made, on the monotonic clock.
        loop: Its event loop.
    """

    def __init__(self, sock: socket.socket) -> None:
        import asyncio  # noqa: PLC0415 - slow to import, and only SSH needs it

        self.born = time.monotonic()
        self._open = True
        self._sock = sock
        self._process = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="fluxsrc-ssh", daemon=True)
        self._connection: asyncssh.SSHClientConnection | None = None
        self._leaving: object = None
        self._timer: TimerHandle | None = None
        self._when_over: Callable[[], None] | None = None
        self._thread.start()

    @classmethod
    def open(cls, sock: socket.socket, login: Login, bound: Bound) -> Self:
        """Log in over a connected socket, which is closed with the connection, or if this fails.

        Raises:
            CertificateError: The host's key is not one that known_hosts names for it.
            AuthenticationError: The server does not take our key.
            TransportError: The connection broke, or the deadline passed.
        """
        try:
            connection = cls(sock)
        except BaseException:
            sock.close()
            raise
        try:
            connection._log_in(login, bound)
        except BaseException:
            connection.close()
            sock.close()
            raise
        return connection

    @property
    def alive(self) -> bool:
        """Whether commands can be run on it, as far as anybody knows: not in a child of the process that made it."""
        return self._open and self._process == os.getpid()

    def execute(self, command: str, environment: Mapping[str, str], bound: Bound, patience: float | None) -> SSHPipe:
        """Start a command on the server; the pipe gets what it writes.

        Args:
            command: For the server's shell.
            environment: Variables to ask for.
            bound: The deadline, and what to say of it.
            patience: Seconds to wait at most, None for as long as the deadline allows.

        Raises:
            SourceError: The server opens no session.
            TransportError: The connection broke, or the deadline passed.
        """
        import asyncssh  # noqa: PLC0415 - an extra

        assert self._connection is not None
        pipe = SSHPipe(self.loop)
        try:
            self._wait(
                self._connection.create_session(
                    lambda: pipe,  # type: ignore[arg-type,return-value]  # has the methods, not the base class
                    command,
                    env=[f"{name}={value}" for name, value in environment.items()],
                    send_env=(),
                    encoding=None,
                    window=HIGH_WATER,
                ),
                bound,
                patience,
            )
        except SourceError:
            raise  # the deadline's own: it is an OSError too
        except (asyncssh.Error, OSError) as exc:
            raise connection_failed(exc, bound.url) from exc
        return pipe

    def post(self, callback: Callable[..., object], *arguments: object) -> None:
        """Have something called in the loop's thread, soon; not at all, if the loop has ended."""
        if self._process == os.getpid():  # in a forked child there is no such thread, and the loop is the parent's
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(callback, *arguments)

    def rest(self, seconds: float, when_over: Callable[[], None]) -> None:
        """Have something called, in the loop's thread, after some time, or once the connection is lost."""
        self.post(self._rest, seconds, when_over)

    def close(self, *, wait: bool = True) -> None:
        """End it; never raises, and if it waits at all, then a second or two at most."""
        self._open = False
        self.post(self._begin_goodbye)
        if wait and self._thread is not threading.current_thread():
            self._thread.join(_GOODBYE * 3)

    def abandon(self) -> None:
        """In a forked child: let go of the socket, which is the parent's, without a word to the server."""
        self._open = False
        descriptor = self._sock.detach()
        if descriptor >= 0:
            os.close(descriptor)

    def _log_in(self, login: Login, bound: Bound) -> None:
        import asyncssh  # noqa: PLC0415 - an extra

        offered: list[PublicKey] = []
        connection = self

        class Client(asyncssh.SSHClient):
            def validate_host_public_key(self, _host: str, _address: str, _port: int, key: asyncssh.SSHKey) -> bool:
                offered.append(PublicKey(key.algorithm.decode(), key.public_data))
                return False  # only called for keys that are not known

            def connection_lost(self, _exc: Exception | None) -> None:
                connection._lost()

        async def connect() -> asyncssh.SSHClientConnection:
            return await asyncssh.connect(sock=self._sock, client_factory=Client, **login.options())

        try:
            self._connection = self._wait(connect(), bound)
        except SourceError:
            raise  # the deadline's own: it is an OSError too
        except asyncssh.HostKeyNotVerifiable as exc:
            raise host_key_refused(login.host, login.port, login.known, offered, str(exc), bound.url) from None
        except (asyncssh.Error, OSError, EOFError, ValueError) as exc:
            raise connection_failed(exc, bound.url, username=login.username, known=login.known) from exc

    def _wait(self, coroutine: Coroutine[Any, Any, _T], bound: Bound, patience: float | None = None) -> _T:
        """Run a coroutine in the loop's thread, and wait for it as long as the deadline and the patience allow."""
        from asyncio import run_coroutine_threadsafe  # noqa: PLC0415 - loaded by now

        future = run_coroutine_threadsafe(coroutine, self.loop)
        give_up = float("inf") if patience is None else time.monotonic() + patience
        try:
            while not future.done() and time.monotonic() < give_up:
                concurrent.futures.wait([future], timeout=bound.slice(patience or bound.idle))
        except BaseException:
            future.cancel()
            raise
        if not future.done():
            future.cancel()
            raise TransportError(f"{bound.url}: the SSH connection is silent", url=bound.url)
        return future.result()

    # --- in the loop's thread --------------------------------------------------------------------------------------

    def _run_loop(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def _rest(self, seconds: float, when_over: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._when_over = when_over
        self._timer = self.loop.call_later(seconds, when_over)
        if not self.alive:
            when_over()

    def _lost(self) -> None:
        self._open = False
        if self._when_over is not None:
            self._when_over()

    def _begin_goodbye(self) -> None:
        if self._leaving is None:
            self._leaving = self.loop.create_task(self._say_goodbye())

    async def _say_goodbye(self) -> None:
        import asyncio  # noqa: PLC0415 - loaded by now

        self._when_over = None
        if self._timer is not None:
            self._timer.cancel()
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
            self.loop.stop()

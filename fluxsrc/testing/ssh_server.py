"""`SSHServer`: an SSH server in this process that serves the Git repositories of a directory."""

import asyncio
import os
import shlex
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from fluxsrc.auth import Secret, SSHKey

if TYPE_CHECKING:
    import asyncssh

__all__ = ["SSHServer"]

_CHUNK: Final = 256 * 1024
Command = Callable[["asyncssh.SSHServerProcess[bytes]"], Awaitable[None]]
"""Answers one command of a client; runs in the server's event loop."""


class SSHServer:
    """Serves on a free port of loopback while its context is open; has a host key and a client key of its own.

    Needs the extra `ssh`, and the `git` program unless `command` is given.

    Args:
        root: Absolute paths in `git-upload-pack '…'` are taken below this directory.
        command: Answers commands in git's place.
        protocol: The highest version of Git's protocol that clients get; 0 as of servers that take no variables.

    Attributes:
        port: Where it listens.
        commands: Every command line that was asked for.
        connections: How many there were.
    """

    def __init__(self, root: Path, *, command: Command | None = None, protocol: int = 2) -> None:
        import asyncssh  # noqa: PLC0415 - an extra

        self.port = 0
        self.commands: list[str] = []
        self.connections = 0
        self._open: set[asyncssh.SSHServerConnection] = set()
        self._root = root
        self._command = self._upload_pack if command is None else command
        self._protocol = protocol
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")
        self._client_key = asyncssh.generate_private_key("ssh-ed25519")
        self._identity = Secret(
            self._client_key.export_private_key().decode()
        )  # exported anew it would be another text
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fluxsrc-testing-ssh", daemon=True)

    @property
    def known_hosts(self) -> str:
        """The line that names this server and its key."""
        return f"[127.0.0.1]:{self.port} {self._host_key.export_public_key().decode().strip()}\n"

    @property
    def key(self) -> SSHKey:
        """Credentials that it takes."""
        return SSHKey(identity=self._identity, known_hosts=self.known_hosts)

    def url(self, repository: str) -> str:
        """The URL of a repository below the root."""
        return f"ssh://git@127.0.0.1:{self.port}/{repository.lstrip('/')}"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        import asyncssh  # noqa: PLC0415 - an extra

        authorized = asyncssh.import_authorized_keys(self._client_key.export_public_key().decode())
        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            config=None,
            server_factory=self._track,
            server_host_keys=[self._host_key],
            authorized_client_keys=authorized,
            process_factory=self._serve,
            encoding=None,
        )
        self.port = self._acceptor.get_port()

    def _track(self) -> "asyncssh.SSHServer":
        import asyncssh  # noqa: PLC0415 - an extra

        server = self

        class Tracked(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                self.connection = conn
                server.connections += 1
                server._open.add(conn)

            def connection_lost(self, _exc: Exception | None) -> None:
                server._open.discard(self.connection)

        return Tracked()

    async def _stop(self) -> None:
        self._acceptor.close()
        self._drop_connections()  # clients may keep theirs for a while
        await self._acceptor.wait_closed()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def drop_connections(self) -> None:
        """Cut all connections, as a server that is restarted does."""
        self._loop.call_soon_threadsafe(self._drop_connections)

    def _drop_connections(self) -> None:
        for connection in list(self._open):
            connection.abort()

    async def _serve(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        self.commands.append(process.command or "")
        await self._command(process)

    async def _upload_pack(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        words = shlex.split(process.command or "")
        if len(words) != 2 or words[0] != "git-upload-pack":  # noqa: PLR2004 - the command and its one argument
            process.stderr.write(b"only git-upload-pack is served here\n")
            process.exit(128)
            return
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent"}
        if self._protocol:
            environment["GIT_PROTOCOL"] = process.env.get("GIT_PROTOCOL", "")
        git = await asyncio.create_subprocess_exec(
            *("git", "upload-pack", str(self._root / words[1].lstrip("/"))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        assert git.stdin is not None
        assert git.stdout is not None
        assert git.stderr is not None
        reading = asyncio.create_task(_feed(process.stdin, git.stdin))
        try:
            await asyncio.gather(_pump(git.stdout, process.stdout), _pump(git.stderr, process.stderr))
            process.exit(await git.wait())
        finally:
            reading.cancel()
            if git.returncode is None:
                git.kill()
                await git.wait()


async def _feed(source: "_Reader", sink: asyncio.StreamWriter) -> None:
    await _pump(source, sink)
    sink.close()


async def _pump(source: "_Reader", sink: "_Writer") -> None:
    with suppress(OSError):  # one side hung up: the other sees it too
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()


class _Reader(Protocol):
    async def read(self, n: int = -1) -> bytes: ...


class _Writer(Protocol):
    def write(self, data: bytes) -> None: ...
    async def drain(self) -> None: ...

"""`SSHPipe`: between an event loop, which must never wait, and a caller in another thread, who may."""

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

    import asyncssh

__all__ = ["HIGH_WATER", "SSHPipe"]

HIGH_WATER: Final = 8 * 1024 * 1024
"""Bytes received but not read yet above which the server has to wait."""
_LOW_WATER: Final = 2 * 1024 * 1024
_STDERR_BYTES: Final = 4096


class SSHPipe:
    """asyncssh's session of one command, and the buffer of what it wrote.

    All methods but `take` run in the loop's thread. `changed` guards the attributes, and is notified of each change.

    Attributes:
        size: Bytes received and not taken yet.
        unsent: Whether the last bytes written are still waiting for the server to make room.
        closed: Whether the channel is gone, in whatever way.
        failure: Why, where it was not the command's end.
        status: The command's exit status.
        signal: The signal that killed it.
        stderr: The end of what it said there.
    """

    def __init__(self, loop: "asyncio.AbstractEventLoop") -> None:
        self.changed = threading.Condition()
        self.size = 0
        self.unsent = False
        self.closed = False
        self.failure: Exception | None = None
        self.status: int | None = None
        self.signal: str | None = None
        self.stderr = bytearray()
        self._loop = loop
        self._chunks: deque[memoryview] = deque()
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._reading = True
        self._full = False
        self._announced = False

    def take(self, buffer: memoryview) -> int:
        """Move what is there into the buffer, as far as it goes; return how much. The caller holds `changed`."""
        taken = 0
        while taken < len(buffer) and self._chunks:
            chunk = self._chunks.popleft()
            part = chunk[: len(buffer) - taken]
            buffer[taken : taken + len(part)] = part
            taken += len(part)
            if len(part) < len(chunk):
                self._chunks.appendleft(chunk[len(part) :])
        self.size -= taken
        if not self._reading and self.size < _LOW_WATER and not self.closed:
            self._reading = True
            self._loop.call_soon_threadsafe(self._resume_reading)
        return taken

    def _resume_reading(self) -> None:
        assert self._channel is not None
        self._channel.resume_reading()

    def send(self, data: bytes) -> None:
        """Hand bytes to the channel."""
        assert self._channel is not None
        if self.closed:
            return
        try:
            self._channel.write(data)
        except OSError as exc:  # the channel is closing
            self.connection_lost(exc)
            return
        with self.changed:
            self.unsent = self._full
            self.changed.notify_all()

    def close(self) -> None:
        """End the command, if it has not ended."""
        if self._channel is not None and not self.closed:
            self._channel.close()

    # --- what asyncssh calls ---------------------------------------------------------------------------------------

    def connection_made(self, channel: "asyncssh.SSHClientChannel[bytes]") -> None:
        """The channel is open."""
        self._channel = channel

    def session_started(self) -> None:
        """The command runs."""

    def xon_xoff_requested(self, _client_can_do: bool) -> None:
        """A matter of terminals."""

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Bytes of its output, or of its error output."""
        assert self._channel is not None
        with self.changed:
            if datatype is not None:
                self.stderr = (self.stderr + data)[-_STDERR_BYTES:]
                return
            self._chunks.append(memoryview(data))
            self.size += len(data)
            if self._reading and self.size >= HIGH_WATER:
                self._reading = False
                self._channel.pause_reading()
        if not self._announced:
            # Once per round of the loop, not per packet: two threads that wake each other up for every 32 KiB halve the
            # throughput.
            self._announced = True
            self._loop.call_soon(self._announce)

    def _announce(self) -> None:
        self._announced = False
        with self.changed:
            self.changed.notify_all()

    def eof_received(self) -> bool:
        """Its output has ended; returns whether to keep our side open."""
        return True  # its status, and what it says on the way out, are still to come

    def exit_status_received(self, status: int) -> None:
        """It ended by itself."""
        self.status = status

    def exit_signal_received(self, signal: str, _core_dumped: bool, _message: str, _language: str) -> None:
        """It was killed."""
        self.signal = signal

    def pause_writing(self) -> None:
        """The channel's buffer is full."""
        self._full = True

    def resume_writing(self) -> None:
        """It has room again."""
        with self.changed:
            self._full = self.unsent = False
            self.changed.notify_all()

    def connection_lost(self, failure: Exception | None) -> None:
        """The channel is gone."""
        with self.changed:
            self.closed = True
            self.failure = self.failure or failure
            self.changed.notify_all()

"""`Response`: a status, header fields, and a body that is still on the wire."""

from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from fluxsrc._io.http.message import Body, Headers
from fluxsrc._io.http.network import Channel
from fluxsrc._io.http.pool import Pool
from fluxsrc._io.http.target import Target
from fluxsrc.errors import LimitExceededError, TransportError

__all__ = ["Response"]

_CHUNK: Final = 256 * 1024
_DRAIN: Final = 64 * 1024
"""Bytes of an unwanted body that are cheaper to read than a new connection is to open."""
_EXCERPT: Final = 4096


class Response:
    """A response whose body is still on the wire: read it, or leave its context; then the connection is free.

    Attributes:
        status: The status code.
        headers: The header fields.
        url: Where it came from after redirects, redacted.
        location: The same as an address; it may hold a signature, so show it to nobody.
    """

    def __init__(
        self,
        status: int,
        headers: Headers,
        target: Target,
        body: Body,
        channel: Channel,
        pool: Pool,
        secrets: tuple[str, ...],
    ) -> None:
        self.status = status
        self.headers = headers
        self.url = target.shown
        self.location = target.url
        self._body = body
        self._pool = pool
        self._channel: Channel | None = channel
        self._origin = target.origin
        self._secrets = secrets
        self._release_when_done()

    @property
    def length(self) -> int | None:
        """Bytes of the body, None where the server did not say."""
        return self._body.length

    def readinto(self, buffer: memoryview) -> int:
        """Read at least one byte into the buffer; 0 at the end.

        Raises:
            TransportError: The connection was cut, or the deadline passed.
            RemoteProtocolError: The body is malformed.
        """
        if self._channel is None:
            return 0
        try:
            count = self._body.readinto(buffer)
        except BaseException:
            self._discard()
            raise
        self._release_when_done()
        return count

    def iter_bytes(self, size: int = _CHUNK) -> Iterator[bytes]:
        """The body in pieces of at most `size`; raises as `readinto` does."""
        buffer = memoryview(bytearray(size))
        while count := self.readinto(buffer):
            yield bytes(buffer[:count])

    def read(self, limit: int, *, name: str = "max_manifest_bytes") -> bytes:
        """The whole body, in memory.

        Args:
            limit: Bytes it may have.
            name: The limit's name in `Limits`, for the message.

        Raises:
            LimitExceededError: It is longer.
        """
        data = bytearray()
        if (self.length or 0) <= limit:
            for chunk in self.iter_bytes():
                data += chunk
                if len(data) > limit:
                    break
        if max(len(data), self.length or 0) > limit:
            self._discard()
            raise LimitExceededError(
                f"{self.url}: an answer of more than {limit:,} bytes", limit=name, allowed=limit, actual=self.length
            )
        return bytes(data)

    def excerpt(self, size: int = _EXCERPT) -> str:
        """The beginning of an error's body as printable text, without the secrets that were sent; may be empty."""
        data = bytearray()
        for chunk in self.iter_bytes(size):
            data += chunk
            if len(data) >= size:
                break
        text = bytes(data[:size]).decode(errors="replace")
        for secret in self._secrets:
            text = text.replace(secret, "**********")
        return "".join(char if char.isprintable() else " " for char in text).strip()

    def close(self) -> None:
        """Give the connection back: read out what little is left of the body, or else close it."""
        if self._channel is None:
            return
        left = self._body.left
        try:
            if left is None or left > _DRAIN:
                return
            for _ in self.iter_bytes():
                pass
        except TransportError:
            pass  # nobody wanted the rest
        finally:
            self._discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:
            self._discard()

    def _release_when_done(self) -> None:
        if self._body.done and self._channel is not None:
            channel, self._channel = self._channel, None
            self._pool.give_back(self._origin, channel, reusable=self._body.reusable)

    def _discard(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

"""Requests, answers, and what lies between them and an ASGI server."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any, Final, Protocol

import attrs

__all__ = [
    "PIECE",
    "ASGIApplication",
    "Content",
    "Receive",
    "Request",
    "Response",
    "Scope",
    "Send",
    "send_response",
]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApplication = Callable[[Scope, Receive, Send], Awaitable[None]]

PIECE: Final = 128 * 1024
"""Bytes that one response holds in memory at a time. A client that takes nothing ties up about as many again in the server."""
_HIDDEN_SEPARATOR: Final = re.compile(rb"%(?:2f|5c|00)", re.IGNORECASE)


class Content(Protocol):
    """Bytes of a blob, open until they are closed."""

    @property
    def proof(self) -> Future[None] | None:
        """What is to be waited for before a byte is sent: it says that the blob is what its digest says, or raises.

        None if that is known already.
        """
        ...

    @property
    def path(self) -> str | None:
        """A file that holds exactly these bytes, for servers that send files by themselves."""
        ...

    def read(self, offset: int, size: int, /) -> bytes:
        """Exactly so many bytes from there. Blocks; one call at a time."""
        ...

    def read_at_once(self, offset: int, size: int, /) -> bytes | None:
        """The same if it is in memory already, else None. Never waits for a disk."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@attrs.frozen(kw_only=True)
class Request:
    """What is asked for.

    Attributes:
        method: In capitals.
        path: Decoded, relative to where the application is mounted.
        query: As it was sent.
        headers: By lower-case name; of repeated ones, the values with commas between.
        takes_files: Whether the server sends a file by itself if it is given a path.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    takes_files: bool = False

    @classmethod
    def of(cls, scope: Scope) -> "Request":
        """From an ASGI scope."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        path, root = scope["path"], scope.get("root_path", "")
        if root and (path == root or path.startswith(f"{root}/")):
            path = path[len(root) :]
        if _HIDDEN_SEPARATOR.search(scope.get("raw_path") or b""):
            path = ""  # what is not a separator to the proxy before us must not be one here
        return cls(
            method=scope["method"],
            path=path,
            query=scope.get("query_string", b"").decode("latin-1"),
            headers=headers,
            takes_files="http.response.pathsend" in (scope.get("extensions") or {}),
        )


@attrs.frozen
class Response:
    """An answer.

    Attributes:
        status: Its status.
        headers: Without `Content-Length`.
        body: Bytes, or content that whoever sends the answer proves, and closes.
        first: Where in the content to begin.
        length: How many bytes the body has; of a HEAD request, would have.
        file: A file that is exactly the body, for the server to send.
        bodiless: To be sent without its body.
    """

    status: HTTPStatus
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes | Content = b""
    first: int = 0
    length: int = attrs.field()
    file: str | None = None
    bodiless: bool = False

    @length.default
    def _length(self) -> int:
        return len(self.body) if isinstance(self.body, bytes) else 0

    async def proven(self) -> None:
        """Wait until what the body is made of is known to be whole.

        Raises:
            DigestMismatchError: It is damaged.
            StoreError: It cannot be read.
        """
        proof = None if isinstance(self.body, bytes) else self.body.proof
        if proof is not None:
            await asyncio.shield(asyncio.wrap_future(proof))  # shielded, because others may wait for it, too

    def close(self) -> None:
        """Close the content, if it is open."""
        if not isinstance(self.body, bytes):
            self.body.close()

    @classmethod
    def text(cls, status: HTTPStatus, text: str = "", headers: Mapping[str, str] | None = None) -> "Response":
        """A line for people."""
        body = f"{text or status.phrase.lower()}\n".encode()
        return cls(status, {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}, body)


async def send_response(response: Response, receive: Receive, send: Send) -> None:
    """Send an answer in pieces, or let the server send the file.

    Stops in the middle if the client goes away, and if the content turns out to be shorter than it was: an answer that
    is cut short is noticed, one that is filled up is not.
    """
    headers = {"X-Content-Type-Options": "nosniff", **response.headers}
    if response.status is not HTTPStatus.NOT_MODIFIED:
        headers["Content-Length"] = str(response.length)
    fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": int(response.status), "headers": fields})
    body = b"" if response.bodiless or response.status is HTTPStatus.NOT_MODIFIED else response.body
    if isinstance(body, bytes):
        await send({"type": "http.response.body", "body": body})
    elif response.file is not None:
        await send({"type": "http.response.pathsend", "path": response.file})
    else:
        await _send_content(body, response.first, response.length, receive, send)


async def _send_content(content: Content, first: int, length: int, receive: Receive, send: Send) -> None:
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        end = first + length
        while first < end and not gone.done():
            size = min(PIECE, end - first)
            data = content.read_at_once(first, size)
            if data is None:
                data = await asyncio.to_thread(content.read, first, size)
            else:
                await asyncio.sleep(0)  # a client that takes all at once is not the only one
            first += len(data)
            await send({"type": "http.response.body", "body": data, "more_body": first < end})
    finally:
        gone.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await gone


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

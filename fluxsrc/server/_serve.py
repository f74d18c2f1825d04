"""From something that could be served to the answer for one request: conditions, ranges, headers."""

import base64
import datetime as dt
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import attrs

from fluxsrc.digest import Digest
from fluxsrc.server._blobs import Blob, Blobs
from fluxsrc.server._conditions import Span, byte_span, http_date, precondition, wants_range
from fluxsrc.server._http import PIECE, Content, Request, Response
from fluxsrc.server._leases import Leases

__all__ = ["Representation", "Responder"]

_REPR_DIGESTS: Final = {"sha256": "sha-256", "sha512": "sha-512"}


@attrs.frozen(kw_only=True)
class Representation:
    """What a URL stands for now.

    Attributes:
        digest: Of its bytes.
        media_type: What they are.
        body: The bytes, or the blob that has them.
        modified: When the URL began to stand for it, if that is known.
        immutable: Whether the URL stands for it for ever, because it names the digest.
        headers: Further ones.
    """

    digest: Digest
    media_type: str
    body: bytes | Blob
    modified: dt.datetime | None = None
    immutable: bool = False
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.size


@attrs.frozen
class Responder:
    """Answers with what was found.

    Attributes:
        blobs: Where large bodies are.
        leases: What protects files that the server sends by itself.
        private: Whether only those who have a token may see it, and no shared cache.
    """

    blobs: Blobs
    leases: Leases
    private: bool

    def respond(self, request: Request, found: Representation, now: dt.datetime) -> Response:
        """The answer to a GET or HEAD.

        Raises:
            ArtifactNotFoundError: The blob went away since it was found.
            DigestMismatchError: It is damaged. Nothing of it is sent.
        """
        etag = f'"{found.digest}"'
        modified = _modified(found.modified, now)
        lifetime = "max-age=31536000, immutable" if found.immutable else "no-cache"
        headers = {"ETag": etag, "Cache-Control": f"private, {lifetime}" if self.private else lifetime, **found.headers}
        if modified is not None:
            headers["Last-Modified"] = http_date(modified)
        status = precondition(request.headers, etag=etag, modified=modified)
        if status is not None:
            return Response(status, headers) if status is HTTPStatus.NOT_MODIFIED else Response.text(status)
        headers |= {"Content-Type": found.media_type, "Accept-Ranges": "bytes", **_repr_digest(found.digest)}
        asked = request.method == "GET" and wants_range(request.headers, etag=etag)
        span = byte_span(request.headers["range"], found.size) if asked else None
        if span is None:
            return self._send(request, found, HTTPStatus.OK, headers, Span(0, found.size))
        if not span.length:
            there = {"Content-Range": f"bytes */{found.size}", "Accept-Ranges": "bytes"}
            return Response.text(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=there)
        headers["Content-Range"] = f"bytes {span.first}-{span.first + span.length - 1}/{found.size}"
        return self._send(request, found, HTTPStatus.PARTIAL_CONTENT, headers, span)

    def _send(
        self, request: Request, found: Representation, status: HTTPStatus, headers: Mapping[str, str], span: Span
    ) -> Response:
        if isinstance(found.body, bytes):
            return Response(status, headers, found.body[span.first : span.first + span.length])
        large = request.method == "GET" and span.length > PIECE
        leased = large and span.length == found.size and request.takes_files and self.leases.hold(found.body)
        content = self.blobs.open(found.body)  # also for HEAD, which must not promise what GET could not keep
        if large or content.proof is not None:
            return Response(status, headers, content, span.first, span.length, content.path if leased else None)
        data = _read(content, span.first, 0 if request.method == "HEAD" else span.length)
        return Response(status, headers, data, length=span.length)


def _read(content: Content, first: int, length: int) -> bytes:
    """What is small enough is read at once: one thread's work for the whole request."""
    try:
        return content.read(first, length) if length else b""
    finally:
        content.close()


def _modified(moment: dt.datetime | None, now: dt.datetime) -> dt.datetime | None:
    """The date to tell, or None while something else could still take the same one."""
    if moment is None or now - moment < dt.timedelta(seconds=1):
        return None
    return moment.astimezone(dt.UTC).replace(microsecond=0)


def _repr_digest(digest: Digest) -> dict[str, str]:
    name = _REPR_DIGESTS.get(digest.algorithm)
    return {} if name is None else {"Repr-Digest": f"{name}=:{base64.b64encode(bytes.fromhex(digest.hex)).decode()}:"}

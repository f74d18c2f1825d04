"""Blobs on the wire: downloads that resume, uploads that resume."""

import io
import re
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO, Final, cast
from urllib.parse import quote, urlsplit

from fluxsrc._io.http import Attempts, Response, retrying
from fluxsrc._lazy import later
from fluxsrc.errors import SourceError, TransportError
from fluxsrc.oci.manifest import Descriptor
from fluxsrc.oci.ranges import Pace, check_range, receive_ranges
from fluxsrc.oci.repository import BlobSource, Sink, Verifier
from fluxsrc.oci.session import Session

if TYPE_CHECKING:
    import queue
else:
    queue = later("queue")

__all__ = ["download", "upload"]

_CHUNK: Final = 512 * 1024
_PROGRESS: Final = 1024 * 1024
"""Bytes after which a broken download has earned its attempts anew."""
_PIPELINE: Final = 4 * 1024 * 1024
"""Bytes of a blob from which hashing in a second thread pays."""
_QUEUED: Final = 4
_UPLOAD_CHUNK: Final = 64 * 1024 * 1024
_COMMIT: Final = 600.0
"""Seconds a registry may be silent while it moves a large blob to its place, in an object store for example."""
_UPLOADED: Final = re.compile(r"(?:bytes=)?0-(\d{1,18})")
_ACTIONS: Final = "pull,push"
_LOST: Final = frozenset({404, 410, 416})
"""An upload that the registry has forgotten, or of which it has more or less than we think: ask it, or begin anew."""


def download(session: Session, blob: Descriptor, sink: Sink) -> None:
    """Write a blob to the sink, hashed and counted; go on where a broken connection left off.

    Raises:
        RevisionNotFoundError: The registry does not hold it.
        DigestMismatchError: The bytes are not of its digest or size.
    """
    verifier = Verifier(blob, sink, where=session.name)
    attempts, pace = Attempts(session.operation, "receive"), Pace(blob.size)
    while True:
        mark = verifier.size
        try:
            if pace.is_slow:
                receive_ranges(session, blob, verifier)
            elif blob.size - verifier.size >= _PIPELINE:
                _receive_pipelined(session, blob, verifier, pace)
            else:
                _receive(session, blob, verifier, pace)
            if not pace.is_slow or verifier.size >= blob.size:
                break
        except TransportError as exc:
            attempts.failed(exc, progress=verifier.size - mark >= _PROGRESS)
    verifier.finish()


def _receive(session: Session, blob: Descriptor, verifier: Verifier, pace: Pace) -> None:
    buffer = memoryview(bytearray(min(_CHUNK, max(blob.size, 1))))
    for filled in _pieces(session, blob, verifier.size, lambda: buffer, pace):
        verifier.write(filled)


def _receive_pipelined(session: Session, blob: Descriptor, verifier: Verifier, pace: Pace) -> None:
    """Receive in this thread, hash and write in another: both release the interpreter while they work."""
    free: queue.Queue[memoryview] = queue.Queue()
    full: queue.Queue[memoryview | None] = queue.Queue()
    failure: list[BaseException] = []
    for _ in range(_QUEUED):
        free.put(memoryview(bytearray(_CHUNK)))

    def work() -> None:
        while (piece := full.get()) is not None:
            if not failure:
                try:
                    verifier.write(piece)
                except BaseException as exc:  # noqa: BLE001 - raised again below, in the caller's thread
                    failure.append(exc)
            free.put(memoryview(cast("bytearray", piece.obj)))

    worker = threading.Thread(target=work, name="fluxsrc-hash", daemon=True)
    worker.start()
    try:
        for filled in _pieces(session, blob, verifier.size, free.get, pace):
            full.put(filled)
            if failure:
                break
    finally:
        # The worker empties the queue before it ends, so that a resumed download knows exactly how far it is.
        full.put(None)
        worker.join()
    if failure:
        raise failure[0]


def _pieces(
    session: Session, blob: Descriptor, offset: int, space: Callable[[], memoryview], pace: Pace
) -> Iterator[memoryview]:
    """The blob's bytes from an offset on, each piece in a buffer that `space()` gives; until it turns out slow."""
    url = session.url(f"blobs/{blob.digest}")
    what = f"read the blob {blob.digest} of {session.name}"
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    with session.request("GET", url, phase="receive", headers=headers) as response:
        skip = 0
        if response.status == 206 and offset:  # noqa: PLR2004 - partial content
            check_range(response, offset, what)
        elif response.status == 200:  # noqa: PLR2004 - all of it
            skip = offset  # a server without ranges: what is known already is read again, and dropped
        else:
            raise session.error(response, what)
        done = offset - skip
        pace.begin(response)
        buffer = space()
        while count := pace.read(response, buffer):
            drop = min(skip, count)
            skip -= drop
            done += count
            session.operation.report("receive", min(done, blob.size), blob.size, detail=session.name)
            if count > drop:
                yield buffer[drop:count]
                if done < blob.size and not skip and pace.turns_out_slow(done):
                    return
                buffer = space()


def upload(session: Session, blob: Descriptor, source: BlobSource, *, mount_from: str | None = None) -> bool:
    """Put a blob into the repository; see `Repository.push`. The caller has looked whether it is there.

    1. Begin, offering to mount. If the registry can, that was all.
    2. A small blob goes in one PUT. A large one goes in chunks; after a broken connection the registry says how much
       it has, and the upload goes on from there.
    3. The closing PUT names the digest, and the registry checks it.

    Uploading is idempotent: blobs are named by their content, and an upload that was not closed leaves nothing.
    """

    def attempt() -> bool:
        location = _begin(session, blob, mount_from)  # 1
        if location is None:
            return False
        with source() as stream:
            if blob.size > _UPLOAD_CHUNK:
                location = _chunks(session, blob, stream, location)  # 2
                _close(session, blob, location, None)  # 3
            else:
                _close(session, blob, location, stream)  # 2 and 3
        return True

    return retrying(attempt, operation=session.operation, phase="upload")


def _begin(session: Session, blob: Descriptor, mount_from: str | None) -> str | None:
    """Where to upload to; None if the blob was mounted."""
    others = () if mount_from is None else (mount_from,)
    query = "" if mount_from is None else f"?mount={quote(str(blob.digest), safe='')}&from={quote(mount_from, safe='')}"
    what = f"begin an upload to {session.name}"
    scope = session.scope(_ACTIONS, *others)
    url = session.url(f"blobs/uploads/{query}")
    with session.request("POST", url, phase="upload", scope=scope, content=b"") as response:
        if response.status == 201 and mount_from is not None:  # noqa: PLR2004 - created: mounted
            return None
        if response.status == 202:  # noqa: PLR2004 - accepted
            return session.location(response, what)
        error = session.error(response, what)
    if mount_from is not None and not isinstance(error, TransportError):
        return _begin(session, blob, None)  # not allowed to look into the other repository: send the bytes
    raise error


def _close(session: Session, blob: Descriptor, location: str, stream: BinaryIO | None) -> None:
    url = f"{location}{'&' if urlsplit(location).query else '?'}digest={quote(str(blob.digest), safe='')}"
    what = f"upload {blob.digest} to {session.name}"
    headers = {"Content-Type": "application/octet-stream"}
    if stream is not None:
        headers["Content-Length"] = str(blob.size)
    body = b"" if stream is None else lambda: _read(session, stream, 0, blob.size, blob.size)
    with session.request(
        "PUT", url, phase="upload", scope=session.scope(_ACTIONS), headers=headers, content=body, idle=_COMMIT
    ) as response:
        if response.status not in (201, 204):
            raise _upload_error(session, response, what)


def _chunks(session: Session, blob: Descriptor, stream: BinaryIO, location: str) -> str:
    """Send all bytes in chunks; return where to close."""
    attempts = Attempts(session.operation, "upload")
    offset = mark = 0
    while offset < blob.size:
        try:
            location, offset = _chunk(session, blob, stream, location, offset)
        except TransportError as exc:
            attempts.failed(exc, progress=offset > mark)
            mark = offset
            location, offset = _ask(session, location, exc)
    return location


def _chunk(session: Session, blob: Descriptor, stream: BinaryIO, location: str, offset: int) -> tuple[str, int]:
    end = min(offset + _UPLOAD_CHUNK, blob.size)
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Range": f"{offset}-{end - 1}",
        "Content-Length": str(end - offset),
    }
    what = f"upload {blob.digest} to {session.name}"
    with session.request(
        "PATCH",
        location,
        phase="upload",
        scope=session.scope(_ACTIONS),
        headers=headers,
        content=lambda: _read(session, stream, offset, end, blob.size),
    ) as response:
        if response.status != 202:  # noqa: PLR2004 - accepted
            raise _upload_error(session, response, what)
        location, received = session.location(response, what), _offset(response.headers.get("range"), end)
    if received == end:
        return location, end
    # Part of the chunk, or a registry that counts from the chunk's beginning, as zot 1 does: it knows when asked again.
    return _ask(session, location, TransportError(f"cannot {what}: it took {received:,} bytes of {end:,}"))


def _upload_error(session: Session, response: Response, what: str) -> SourceError:
    """The error for an upload that was not taken; worth another try if only its session is lost, as old ones are swept."""
    error = session.error(response, what)
    return TransportError(error.message, url=error.url) if response.status in _LOST else error


def _ask(session: Session, location: str, failed: TransportError) -> tuple[str, int]:
    """Where an upload stands."""
    with session.request("GET", location, phase="upload", scope=session.scope(_ACTIONS)) as response:
        if response.status not in (200, 204):
            # It is gone: begin anew, which is the outer retry's business.
            raise failed
        where = response.headers.get("location")
        return session.location(response, "go on") if where else location, _offset(response.headers.get("range"), 0)


def _offset(value: str | None, default: int) -> int:
    """The first byte a registry does not have, from its `Range: 0-LAST`. An empty upload is `0-0`, as is one of a byte."""
    found = _UPLOADED.fullmatch(value or "")
    if found is None:
        return default
    return int(found[1]) + 1 if int(found[1]) else 0


def _read(session: Session, stream: BinaryIO, offset: int, end: int, total: int) -> Iterator[bytes]:
    stream.seek(offset, io.SEEK_SET)
    while offset < end:
        data = stream.read(min(_CHUNK, end - offset))
        if not data:
            return  # shorter than declared: the transport says so
        offset += len(data)
        yield data
        session.operation.report("upload", offset, total, detail=session.name)

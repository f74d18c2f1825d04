"""`LFSStore`: the files that LFS pointers stand for, fetched when they are asked for, kept on disk, verified both ways."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

from fluxsrc._io.http import HTTPClient, Response, retrying, status_error
from fluxsrc._io.waiting import alone
from fluxsrc.auth import Secret, redact_url
from fluxsrc.errors import AuthenticationError, PermissionDeniedError, SourceError
from fluxsrc.git.lfs import LFSPointer
from fluxsrc.git.lfs_ahead import ReadAhead
from fluxsrc.git.lfs_batch import BATCH_SIZE, MEDIA_TYPE, Download, batch_request, missing, parse_batch, parse_object
from fluxsrc.git.lfs_endpoint import Endpoint, find_endpoint
from fluxsrc.git.lfs_files import LFSFiles
from fluxsrc.git.ssh_errors import printable
from fluxsrc.git.transport import Access
from fluxsrc.operation import Operation

__all__ = ["LFSStore"]

_CHUNK: Final = 256 * 1024
_PHASE: Final = "receive LFS"
_GONE: Final = (404, 410)
_MARGIN: Final = 10.0
"""Seconds before its end at which an answer of the server's is not used any more."""
DEFAULT_CONCURRENCY: Final = 4


class LFSStore(AbstractContextManager["LFSStore"]):
    """The LFS files of one repository, for one operation. Thread-safe; leaving its context closes connections.

    How a file is come by:

    1. It may be there: in the directory, or in one of a local repository's.
    2. The server is asked where it is, together with up to 99 others that were announced.
    3. It is received into a file that nobody looks for; count and hash are held against the pointer on the way.
    4. The file is renamed to what its pointer says.
    5. While it is read it is hashed once more: disks forget, too.

    Args:
        access: How the repository is reached.
        directory: Where files are kept, as git-lfs does: `ab/cd/abcd…`. Safe to share, and to delete at any time.
        operation: The deadline, cancel switch and progress callback.
        config: The content of the repository's `.lfsconfig`.
        url: An LFS server of the caller's choice, whatever `.lfsconfig` says.
        elsewhere: Directories of the same layout to look in first; they are only read.
        concurrency: Downloads at a time in `prefetch`, and of files that are expected.
    """

    def __init__(
        self,
        access: Access,
        directory: Path,
        operation: Operation,
        *,
        config: bytes | None = None,
        url: str | None = None,
        elsewhere: Sequence[Path] = (),
        concurrency: int = DEFAULT_CONCURRENCY,
    ) -> None:
        self._access = access
        self._files = LFSFiles(directory, elsewhere)
        self._operation = operation
        self._config = config
        self._url = url
        self._concurrency = concurrency
        self._ahead = ReadAhead(partial(self._obtain, patient=False), concurrency)
        self._http = HTTPClient(tls=access.tls, proxy=access.proxy, limits=access.limits)
        self._endpoint: Endpoint | None = None
        self._asking = threading.Lock()
        self._announced: dict[str, LFSPointer] = {}
        self._downloads: dict[str, Download] = {}
        self._guard = threading.Lock()
        self._in_flight: dict[str, threading.Lock] = {}
        self._received = 0

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close connections, and end downloads that nobody asked for. What is on disk stays, open streams stay readable."""
        self._http.close()
        self._ahead.close()

    def announce(self, pointer: LFSPointer) -> None:
        """Say that this file may be asked for: it then shares a question to the server with others."""
        with self._guard:
            self._announced[pointer.oid] = pointer

    def open(self, pointer: LFSPointer) -> BinaryIO:
        """The file's content, checked as it is read; fetched first, if it is not here.

        Raises:
            PathNotFoundError: The server does not have it.
            DigestMismatchError: What it sends is something else.
            LimitExceededError: It is larger than `max_file_bytes`.
            SourceError: The server, or the way to it, failed.
        """
        self._ahead.asked(pointer)
        self._obtain(pointer)
        return self._files.open(pointer)

    def read(self, pointer: LFSPointer) -> bytes:
        """The file's whole content, checked; for small ones."""
        with self.open(pointer) as stream:
            return stream.read()

    def expect(self, pointer: LFSPointer) -> None:
        """Say that this file will be asked for, after those of which that was said before: it is fetched ahead. Never blocks."""
        if self._files.held(pointer) is None:
            self.announce(pointer)
            self._ahead.expect(pointer)

    def prefetch(self, pointers: Iterable[LFSPointer]) -> None:
        """Fetch all of these that are not here, several at a time; after a failure the rest is not begun.

        Raises:
            SourceError: As `open` does, of the first that failed.
        """
        wanted = {pointer.oid: pointer for pointer in pointers if self._files.held(pointer) is None}
        self._access.limits.check(
            "max_content_bytes", sum(pointer.size for pointer in wanted.values()), what="the LFS files"
        )
        for pointer in wanted.values():
            self.announce(pointer)
        if not wanted:
            return
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="fluxsrc-lfs") as pool:
            futures = [pool.submit(self._obtain, pointer) for pointer in wanted.values()]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        for future in done:
            future.result()

    # --- one file ----------------------------------------------------------------------------------------------------

    def _obtain(self, pointer: LFSPointer, *, patient: bool = True) -> None:
        self._access.limits.check("max_file_bytes", pointer.size, what=f"the LFS file {pointer.oid}")
        with self._alone(pointer):
            if self._files.held(pointer) is not None:
                return
            if patient:
                retrying(lambda: self._fetch(pointer), operation=self._operation, phase=_PHASE)
            else:
                self._fetch(pointer)

    @contextmanager
    def _alone(self, pointer: LFSPointer) -> Iterator[None]:
        """One thread per object; the others find it there. Other processes may fetch it too: the last rename wins."""
        with self._guard:
            lock = self._in_flight.setdefault(pointer.oid, threading.Lock())
        with alone(lock, self._operation, _PHASE, url=self._access.address.url):
            yield

    def _fetch(self, pointer: LFSPointer) -> None:
        download, fresh = self._locate(pointer)
        try:
            self._receive(pointer, download)
            return
        except (AuthenticationError, PermissionDeniedError):
            if fresh:
                raise
        # An answer from a while ago: the server may have thought better of it. It is asked once more.
        with self._asking:
            self._downloads.pop(pointer.oid, None)
        self._receive(pointer, self._locate(pointer)[0])

    # --- step 2 ----------------------------------------------------------------------------------------------------

    def _locate(self, pointer: LFSPointer) -> tuple[Download, bool]:
        """Where an object is, and whether the server was asked for it just now."""
        with self._asking:
            known = self._downloads.get(pointer.oid)
            if known is not None and not _is_past(known.expires):
                return known, False
            with self._guard:
                others = [other for other in self._announced.values() if other.oid not in self._downloads]
            others = [other for other in others if other.oid != pointer.oid and self._files.held(other) is None]
            answers = self._ask([pointer, *others[: BATCH_SIZE - 1]])
            self._downloads.update((oid, answer) for oid, answer in answers.items() if isinstance(answer, Download))
            with self._guard:
                for oid in answers:  # the missing ones, too: they are errors only for whoever opens them
                    self._announced.pop(oid, None)
        answer = answers[pointer.oid]
        if isinstance(answer, SourceError):
            raise answer
        return answer, True

    def _ask(self, pointers: Sequence[LFSPointer]) -> dict[str, Download | SourceError]:
        endpoint = self._endpoint
        if endpoint is None or _is_past(endpoint.expires):
            endpoint = find_endpoint(self._access, self._operation, config=self._config, url=self._url)
            self._endpoint = endpoint
        url = redact_url(endpoint.url)
        ours = endpoint.authorize(self._access, endpoint.url, self._operation)
        headers = {"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE, **ours}
        with self._http.request(
            "POST",
            endpoint.batch_url,
            operation=self._operation,
            phase="ask LFS",
            headers=headers,
            content=batch_request(pointers),
        ) as response:
            if not 200 <= response.status < 300:  # noqa: PLR2004 - success
                raise status_error(response, f"ask {url} for LFS files", detail=_message(response))
            data = response.read(self._access.limits.max_manifest_bytes)
            return parse_batch(data, pointers, base=response.location, url=url, now=time.time())

    # --- steps 3 and 4 ---------------------------------------------------------------------------------------------

    def _receive(self, pointer: LFSPointer, download: Download) -> None:
        headers: dict[str, str | Secret] = dict(download.headers)
        if not download.authenticated and "authorization" not in {name.lower() for name in headers}:
            assert self._endpoint is not None
            # its own origin only
            headers = {**self._endpoint.authorize(self._access, download.href, self._operation), **headers}
        with self._http.request(
            "GET", download.href, operation=self._operation, phase=_PHASE, headers=headers
        ) as response:
            if response.status in _GONE:
                raise missing(pointer, response.url)
            if not 200 <= response.status < 300:  # noqa: PLR2004 - success
                raise status_error(response, f"receive the LFS file {pointer.oid}", detail="")  # it may quote the query
            self._files.keep(pointer, self._counted(response, pointer), url=response.url)

    def _counted(self, response: Response, pointer: LFSPointer) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(_CHUNK))
        while count := response.readinto(buffer):
            with self._guard:
                self._received += count
                received = self._received
            self._operation.report(_PHASE, received, detail=pointer.oid)
            yield buffer[:count]


def _is_past(expires: float | None) -> bool:
    return expires is not None and time.time() > expires - _MARGIN


def _message(response: Response) -> str:
    """What the server says about an error, in the batch API's own form."""
    try:
        return printable(str(parse_object(response.excerpt().encode(), response.url).get("message", "")))
    except SourceError:
        return ""

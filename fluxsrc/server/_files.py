"""Blobs of a directory as a server needs them: proven once, then opened at once, and never sent unproven.

A store proves a blob each time it is opened, which is right for whoever opens it once. A server opens the same blob a
thousand times, so it remembers what it has hashed, by everything the file system tells of the file: device, inode, size
and both times. Whatever replaces, heals or damages a blob changes one of these, and it is hashed anew: when it is opened,
and also while it is sent, where each piece is held back until it is known that nothing has changed since the proof.
"""

import functools
import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import attrs

from fluxsrc._io.atomic import open_regular, store_errors
from fluxsrc._io.hashing import CHUNK
from fluxsrc.digest import Digest
from fluxsrc.errors import DigestMismatchError, StoreError
from fluxsrc.server._blobs import Blob, whole
from fluxsrc.server._http import Content

__all__ = ["FileBlobs"]

_REMEMBERED: Final = 16384
"""Blobs whose proof is remembered, about 300 bytes each."""
_HASHING: Final = 2
"""Blobs that are hashed at the same time; more would only get into each other's way, and into that of requests."""
_TICK_NS: Final = 20_000_000
"""Changes closer together than this may be given the same time: Linux's clock for files may tick 100 times a second only."""
_NOWAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)
"""Linux: read what is in memory, and do not wait for a disk."""
_TRIES: Final = 4
"""How often to prove anew what changes while it is sent."""


@attrs.frozen
class _Identity:
    """What the file system tells of a file. Times of change cannot be set back, those of modification can."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, descriptor: int) -> "_Identity":
        found = os.fstat(descriptor)
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def settle(self) -> None:
        """Wait until whatever changes the file from now on gives it another time than it has, which takes a tick."""
        young = time.time_ns() - self.changed
        if 0 <= young < _TICK_NS:
            time.sleep((_TICK_NS - young) / 1e9)


@attrs.frozen
class _Verdict:
    """What a file was found to be."""

    identity: _Identity
    actual: str

    def check(self, blob: Blob, path: Path) -> None:
        """Hold it against what the file should be.

        Raises:
            DigestMismatchError: It is something else.
        """
        if self.actual != str(blob.digest) or self.identity.size != blob.size:
            raise DigestMismatchError(
                f"{path} is damaged: {self.identity.size} bytes with digest {self.actual} "
                f"instead of {blob.size} bytes with {blob.digest}",
                expected=str(blob.digest),
                actual=self.actual,
                path=str(path),
                hint="remove that file, and produce the artifact again",
            )


class FileBlobs:
    """The blobs of a directory."""

    def __init__(self, path_of: Callable[[Digest], Path]) -> None:
        self._path_of = path_of
        self._lock = threading.Lock()
        self._verdicts: OrderedDict[Digest, _Verdict] = OrderedDict()
        self._proofs: dict[tuple[Digest, int, _Identity], Future[None]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def open(self, blob: Blob, /) -> Content:
        path = self._path_of(blob.digest)
        descriptor = open_regular(path, what=str(blob.digest))
        try:
            return _File(descriptor, path, functools.partial(self._proof, blob, path, descriptor))
        except BaseException:
            os.close(descriptor)
            raise

    def _proof(self, blob: Blob, path: Path, descriptor: int, identity: _Identity) -> Future[None] | None:
        """What says whether this file is the blob; None if that is known.

        Raises:
            DigestMismatchError: It is known not to be.
        """
        with self._lock:
            verdict = self._verdicts.get(blob.digest)
            if verdict is not None and verdict.identity == identity:
                self._verdicts.move_to_end(blob.digest)
                verdict.check(blob, path)
                return None
            proof = self._proofs.get((blob.digest, blob.size, identity))
            if proof is None:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(_HASHING, thread_name_prefix="fluxsrc-server-hash")
                # A descriptor of its own: whoever asked may be gone before it ends, and so may be the file's name.
                proof = self._pool.submit(self._prove, blob, path, identity, os.dup(descriptor))
                self._proofs[blob.digest, blob.size, identity] = proof
            return proof

    def _prove(self, blob: Blob, path: Path, identity: _Identity, descriptor: int) -> None:
        try:
            identity.settle()
            with store_errors("read", path):
                verdict = _Verdict(identity, _hash(descriptor, blob.digest.algorithm))
            with self._lock:
                self._verdicts[blob.digest] = verdict
                self._verdicts.move_to_end(blob.digest)
                while len(self._verdicts) > _REMEMBERED:
                    self._verdicts.popitem(last=False)
        finally:
            os.close(descriptor)
            with self._lock:
                del self._proofs[blob.digest, blob.size, identity]
        verdict.check(blob, path)


def _hash(descriptor: int, algorithm: str) -> str:
    hasher = hashlib.new(algorithm)
    offset = 0
    while data := os.pread(descriptor, CHUNK, offset):
        hasher.update(data)
        offset += len(data)
    return f"{algorithm}:{hasher.hexdigest()}"


class _File:
    """An open file. Its bytes stay as long as it is open, whatever a collector does to its name.

    Who is not waiting any more closes it while a thread reads: it stays open until that is done, or its number could be
    another file's by then.

    Args:
        descriptor: It.
        path: Its name.
        prove: Has it proven as it is now.
    """

    def __init__(self, descriptor: int, path: Path, prove: Callable[[_Identity], Future[None] | None]) -> None:
        self._descriptor = descriptor
        self._prove = prove
        self._proven = _Identity.of(descriptor)
        self._lock = threading.Lock()
        self._reading = False
        self._closed = False
        self.path: str | None = str(path)
        self.proof = prove(self._proven)

    def read(self, offset: int, size: int, /) -> bytes:
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.path} is not wanted any more", path=self.path)
            self._reading = True
        try:
            return self._read_proven(offset, size)
        finally:
            with self._lock:
                self._reading = False
                self._let_go()

    def _read_proven(self, offset: int, size: int) -> bytes:
        for _ in range(_TRIES):
            with store_errors("read", self.path):
                data = self._read(offset, size)
                identity = _Identity.of(self._descriptor)
            if identity == self._proven:
                return whole(data, size, self.path)
            # A collector, a lease, or damage: who it was, only all of its bytes can tell. Then these are read anew.
            proof = self._prove(identity)
            if proof is not None:
                proof.result()
            self._proven = identity
        raise StoreError(f"{self.path} changes all the time", path=self.path)

    def read_at_once(self, offset: int, size: int, /) -> bytes | None:
        # A thread for each piece would cost more than the piece; most of what is served was read a moment ago.
        if _NOWAIT is None:
            return None
        buffer = bytearray(size)
        try:
            found = os.preadv(self._descriptor, [buffer], offset, _NOWAIT)
            unchanged = _Identity.of(self._descriptor) == self._proven
        except OSError:
            return None  # `read` will say what it is
        return bytes(buffer) if found == size and unchanged else None

    def _read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        while 0 < len(data) < size and (more := os.pread(self._descriptor, size - len(data), offset + len(data))):
            data += more
        return data

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._let_go()

    def _let_go(self) -> None:
        if self._closed and not self._reading:
            os.close(self._descriptor)

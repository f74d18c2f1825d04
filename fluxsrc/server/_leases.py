"""Leases for files that somebody else sends: a server that is given a path opens it when it pleases.

A descriptor keeps the bytes of an answer that we send ourselves, whatever a collector does meanwhile. A path keeps nothing:
so the blob behind it is leased, for long, and for all requests of that time together. A lease makes the blob's file young,
so it is hashed anew; that is the other reason for the long time.
"""

import contextlib
import logging
import threading
import time
from collections import OrderedDict
from typing import Final

import attrs

from fluxsrc.digest import Digest
from fluxsrc.errors import ArtifactNotFoundError, StoreError
from fluxsrc.server._blobs import Blob
from fluxsrc.store import Store
from fluxsrc.stores import LocalStore

__all__ = ["Leases"]

_log: Final = logging.getLogger("fluxsrc.server")

_SECONDS: Final = 3600.0


@attrs.frozen
class _Held:
    """A lease, how to end it, and when it was taken."""

    stack: contextlib.ExitStack
    since: float


class Leases:
    """The leases of one server. They end when they are an hour old, or with it."""

    def __init__(self, store: Store) -> None:
        self._store = store if isinstance(store, LocalStore) else None
        self._lock = threading.Lock()
        self._held: OrderedDict[Digest, _Held] = OrderedDict()

    def hold(self, blob: Blob) -> bool:
        """Whether no collector takes this blob for the next half hour.

        Raises:
            ArtifactNotFoundError: It is gone already.
        """
        artifact = blob.artifact
        if self._store is None or artifact is None:
            return False
        now = time.monotonic()
        with self._lock:
            held = self._held.get(artifact.digest)
            if held is not None and now - held.since < _SECONDS / 2:
                return True
            stack = contextlib.ExitStack()
            try:
                stack.enter_context(self._store.lease(artifact, ttl=_SECONDS))
            except ArtifactNotFoundError:
                raise
            except StoreError as exc:  # a store that cannot be written is served from descriptors
                _log.debug("no lease: %s", exc)
                return False
            self._held[artifact.digest] = _Held(stack, now)  # before the old one ends
            self._held.move_to_end(artifact.digest)
            ended = [held] if held is not None else []
            while now - next(iter(self._held.values())).since > _SECONDS:
                ended.append(self._held.popitem(last=False)[1])
        for each in ended:
            with contextlib.suppress(StoreError):
                each.stack.close()
        return True

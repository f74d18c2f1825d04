"""`Retention`: how long old artifacts stay."""

from typing import Protocol, runtime_checkable

import attrs

from fluxsrc.errors import ConfigurationError
from fluxsrc.events import GarbageCollected
from fluxsrc.store import Store

__all__ = ["Retention"]


class _Report(Protocol):
    @property
    def blobs(self) -> int: ...
    @property
    def bytes(self) -> int: ...


@runtime_checkable
class _Collectable(Protocol):
    def retain(self, *, records: int = 2, ttl: float = 0.0) -> int: ...
    def gc(self, *, grace: float = 3600.0) -> _Report: ...


@attrs.frozen(kw_only=True)
class Retention:
    """What stays of each source's history, and how often the rest is swept.

    Attributes:
        records: Artifacts that stay whatever their age: a floor.
        ttl: Seconds an artifact stays after another took its place.
        grace: Seconds since a blob was last wanted during which it is spared.
        every: Seconds between two sweeps.
    """

    records: int = attrs.field(default=2, validator=attrs.validators.ge(1))
    ttl: float = 60.0
    grace: float = 3600.0
    every: float = attrs.field(default=600.0, validator=attrs.validators.gt(0))

    def apply(self, store: Store) -> GarbageCollected:
        """Let old artifacts retire, and sweep what nothing refers to.

        Raises:
            ConfigurationError: The store cannot.
        """
        if not isinstance(store, _Collectable):
            raise ConfigurationError("this store keeps everything: it has no retain and gc")
        retired = store.retain(records=self.records, ttl=self.ttl)
        report = store.gc(grace=self.grace)
        return GarbageCollected(retired=retired, blobs=report.blobs, bytes=report.bytes)

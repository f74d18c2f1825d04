"""`ManagedSource`: a source and how it is kept up to date: what a controller's object, or a line of a file, says of it."""

from typing import Final

import attrs

from fluxsrc.artifact import SourceKey
from fluxsrc.errors import ConfigurationError
from fluxsrc.source import Source

__all__ = ["ManagedSource"]

_DEFAULT_INTERVAL: Final = 300.0


def _positive(_: object, attribute: "attrs.Attribute[float]", value: float) -> None:
    if not value > 0:
        raise ConfigurationError(f"{attribute.name} must be positive seconds, not {value!r}")


@attrs.frozen(kw_only=True)
class ManagedSource:
    """A source under a name, and when to look at it.

    >>> from fluxsrc.memory import MemorySource
    >>> str(ManagedSource(name="podinfo", source=MemorySource({})).key)
    'memory/default/podinfo'

    Attributes:
        name: Its name; lower-case letters, digits, `-`, `_` and `.`.
        namespace: The name's namespace.
        source: The source itself.
        interval: Seconds between two looks, give or take a jitter.
        suspend: Leave it alone; what it made stays.
        generation: Grows with each change of what was asked for: Kubernetes' `metadata.generation`.
        requested_at: A text that asks for a look now whenever it changes: the annotation `reconcile.fluxcd.io/requestedAt`.
        depends_on: Sources that must have an artifact first: in a manifest, those that it includes.
        warnings: What the author of the description should know, for people.
    """

    name: str
    source: Source
    namespace: str = "default"
    interval: float = attrs.field(default=_DEFAULT_INTERVAL, validator=_positive)
    suspend: bool = False
    generation: int = 1
    requested_at: str | None = None
    depends_on: tuple[SourceKey, ...] = ()
    warnings: tuple[str, ...] = ()
    key: SourceKey = attrs.field(init=False, eq=False, repr=False)

    @key.default
    def _key(self) -> SourceKey:
        return SourceKey(self.source.kind, self.namespace, self.name)

"""`spec.include`: repositories with files of others mounted in them."""

from collections.abc import Mapping, Sequence

import attrs

from fluxsrc.artifact import SourceKey
from fluxsrc.errors import ConfigurationError
from fluxsrc.git import GitSource
from fluxsrc.managed import ManagedSource
from fluxsrc.manifests._context import Inclusion
from fluxsrc.source import Source
from fluxsrc.wrappers import Include, Included

__all__ = ["composed"]


def composed(
    found: Mapping[SourceKey, ManagedSource], includes: Mapping[SourceKey, Sequence[Inclusion]]
) -> dict[SourceKey, ManagedSource]:
    """The same sources, those that include others put together with them, and waiting for them as in Flux.

    Raises:
        ConfigurationError: An included one is not among them, or they include each other in a circle.
    """
    done: dict[SourceKey, Source] = {}
    return {
        key: attrs.evolve(
            managed,
            source=_compose(key, found, includes, done, ()),
            depends_on=tuple(dict.fromkeys(_included(key, item) for item in includes[key])),
        )
        for key, managed in found.items()
    }


def _included(key: SourceKey, item: Inclusion) -> SourceKey:
    return SourceKey("gitrepository", key.namespace, item.name)


def _compose(
    key: SourceKey,
    found: Mapping[SourceKey, ManagedSource],
    includes: Mapping[SourceKey, Sequence[Inclusion]],
    done: dict[SourceKey, Source],
    above: tuple[SourceKey, ...],
) -> Source:
    if key in done:
        return done[key]
    if key in above:
        raise ConfigurationError(f"{key} includes itself, by way of {above[-1]}")
    source = found[key].source
    items = []
    for item in includes[key]:
        other = _included(key, item)
        if other not in found:
            raise ConfigurationError(f"{item.place}: {other} is not among the manifests")
        included = _compose(other, found, includes, done, (*above, key))
        items.append(Included(_sub_tree(included, item), item.to_path))
    if items:
        source = Include(source=source, includes=items, timeout=getattr(source, "timeout", None))
    done[key] = source
    return source


def _sub_tree(source: Source, item: Inclusion) -> Source:
    if source.recipe.ignore is not None:
        raise ConfigurationError(
            f"{item.place}: its own spec.ignore would have no effect where it is included",
            hint="ignore the paths in the repository that includes it",
        )
    if not item.from_path:
        return source
    if not isinstance(source, GitSource):
        raise ConfigurationError(f"{item.place}: fromPath of a repository that includes others is not supported")
    return attrs.evolve(source, path=item.from_path)

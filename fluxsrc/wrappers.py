"""Sources made of sources: wrappers of the same type, that go wherever a source goes.

`Wrapper` is what to build one on; `Include` is one.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING

import attrs

from fluxsrc.digest import Digest
from fluxsrc.entry import given_path
from fluxsrc.errors import ConfigurationError, SourceChangedError
from fluxsrc.mounted import Collisions, MountedSnapshot
from fluxsrc.operation import DEFAULT_TIMEOUT, Operation
from fluxsrc.produce import PackSnapshot, Producer
from fluxsrc.recipe import Recipe
from fluxsrc.revision import Revision
from fluxsrc.source import Snapshot, Source

__all__ = ["Include", "Included", "Wrapper"]


class Wrapper(Producer):
    """A source around another one. Everything is as the wrapped source has it, until a subclass says otherwise.

    The subclass is a frozen `attrs` class, so that it is a value as every source is. One that tries again:

    ```python
    import attrs
    from fluxsrc import FluxSrcError, MemorySource, MemoryStore, Source
    from fluxsrc.wrappers import Wrapper

    @attrs.frozen
    class Retrying(Wrapper):
        source: Source
        attempts: int = 3

        def resolve_revision(self, *, operation=None):
            operation = self._operation(operation)
            for left in reversed(range(self.attempts)):
                try:
                    return super().resolve_revision(operation=operation)
                except FluxSrcError as error:
                    if not (left and error.retryable):
                        raise

    source = Retrying(MemorySource({"app.yaml": "kind: App"}))
    assert source.produce_artifact(MemoryStore()).files == 1
    ```

    Attributes:
        source: What it is around; a field of the subclass.
    """

    __slots__ = ()

    source: Source

    @property
    def kind(self) -> str:
        """The wrapped source's."""
        return self.source.kind

    @property
    def url(self) -> str:
        """The wrapped source's."""
        return self.source.url

    @property
    def recipe(self) -> Recipe:
        """The wrapped source's."""
        return self.source.recipe

    @property
    def timeout(self) -> float | None:
        """Seconds for one call, unless it brings its own `Operation`: the wrapped source's."""
        timeout: float | None = getattr(self.source, "timeout", DEFAULT_TIMEOUT)
        return timeout

    def resolve_revision(self, *, operation: Operation | None = None) -> Revision:
        """What the wrapped source points at now."""
        return self.source.resolve_revision(operation=operation)

    def fetch(
        self, revision: Revision | None = None, /, *, operation: Operation | None = None
    ) -> AbstractContextManager[Snapshot]:
        """The files of the wrapped source at this revision; see `Source`."""
        return self.source.fetch(revision, operation=operation)

    @property
    def _pack_snapshot(self) -> PackSnapshot | None:
        # A backend that keeps bytes as they are goes on doing so: a wrapper's files are those of what it is around.
        pack: PackSnapshot | None = getattr(self.source, "_pack_snapshot", None)
        return pack


def _directory(value: str) -> str:
    stripped = value.strip("/")
    return stripped and given_path(stripped)


@attrs.frozen
class Included:
    """A source, and where its files go. Which sub-tree of it: its own `path` says.

    Attributes:
        source: Whose files.
        to: The directory they go to; "" is the root.
    """

    source: Source
    to: str = attrs.field(default="", converter=_directory)


def _included(value: Iterable[Included]) -> tuple[Included, ...]:
    found = tuple(value)
    if not found:
        raise ConfigurationError("Include without anything to include", hint="use the source itself")
    return found


@attrs.frozen(kw_only=True)
class Include(Wrapper):
    """A source with files of other sources mounted in its directories, which may exist: they are merged.

    >>> from fluxsrc.memory import MemorySource
    >>> both = Include(
    ...     source=MemorySource({"app.yaml": "kind: App", "lib/a": "1"}),
    ...     includes=[Included(MemorySource({"b": "2"}), "lib")],
    ... )
    >>> with both.fetch() as snapshot:
    ...     [entry.path for entry in snapshot.entries()]
    ['app.yaml', 'lib/a', 'lib/b']

    Its revision has the pointer of the source, and a sha256 over the revisions of all. Its recipe is the source's: its
    ignore rules and policies apply to everything; `.sourceignore` files govern where they end up.

    Attributes:
        source: What everything is mounted into.
        includes: What is mounted, later ones over earlier ones.
        collisions: "error", or "base" or "mount" to keep what was there or what is mounted.
        timeout: Seconds for one call, unless it brings its own `Operation`.
    """

    source: Source
    includes: tuple[Included, ...] = attrs.field(converter=_included)
    collisions: Collisions = attrs.field(default=Collisions.ERROR, converter=Collisions)
    timeout: float | None = DEFAULT_TIMEOUT

    @property
    def recipe(self) -> Recipe:
        """The source's, and what is mounted where."""
        recipe = self.source.recipe
        options = {("collisions", self.collisions.value)}
        for place, item in enumerate(self.includes):
            options.add((f"include.{place}", f"{item.to}\n{item.source.url}\n{item.source.recipe.digest}"))
        return attrs.evolve(recipe, options=tuple(sorted({*recipe.options, *options})))

    def resolve_revision(self, *, operation: Operation | None = None) -> Revision:
        """What all of them point at now."""
        operation = self._operation(operation)
        revisions = [source.resolve_revision(operation=operation) for source in self._sources]
        operation.memo["include", id(self)] = (self, revisions)  # by identity: not every source's parts are hashable
        return _combined(revisions)

    @contextmanager
    def fetch(self, revision: Revision | None = None, /, *, operation: Operation | None = None) -> Iterator[Snapshot]:
        """The files of all of them at this revision; see `Source`.

        Raises:
            SourceChangedError: One of them has moved on since.
            UnsafeEntryError: A path is there twice, and `collisions` is ERROR; while iterating.
        """
        operation = self._operation(operation)
        _, revisions = operation.memo.pop(("include", id(self)), (None, None))
        if revisions is None or (revision is not None and _combined(revisions) != revision):
            revisions = [source.resolve_revision(operation=operation) for source in self._sources]
        combined = _combined(revisions)
        if revision is not None and revision != combined:
            raise SourceChangedError(
                f"{self.url} or what it includes is not at {revision.short} any more", url=self.url
            )
        with ExitStack() as stack:
            base, *others = [
                stack.enter_context(source.fetch(one, operation=operation))
                for source, one in zip(self._sources, revisions, strict=True)
            ]
            mounts = [(item.to, snapshot) for item, snapshot in zip(self.includes, others, strict=True)]
            yield MountedSnapshot(revision=combined, base=base, mounts=mounts, collisions=self.collisions)

    @property
    def _pack_snapshot(self) -> PackSnapshot | None:
        return None  # the bytes that the source would keep are not all that is in it

    @property
    def _sources(self) -> list[Source]:
        return [self.source, *(item.source for item in self.includes)]


def _combined(revisions: list[Revision]) -> Revision:
    text = "\n".join(str(revision.digest) for revision in revisions)
    return Revision(Digest("sha256", hashlib.sha256(text.encode()).hexdigest()), revisions[0].pointer)


if TYPE_CHECKING:

    def _(source: Include) -> Source:
        return source

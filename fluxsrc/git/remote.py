"""`RemoteRepository`: resolve a reference with one exchange, have one commit's objects with one more, keep what came."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import attrs

from fluxsrc.errors import (
    ContentError,
    DigestMismatchError,
    RemoteProtocolError,
    RevisionNotFoundError,
    SourceChangedError,
    TransportError,
)
from fluxsrc.git.cache import GitCache, fingerprint
from fluxsrc.git.cached_repository import CacheDeletedError, CachedRepository
from fluxsrc.git.fetcher import Fetcher
from fluxsrc.git.local import read_tags
from fluxsrc.git.objects import MissingObjectError, ObjectDatabase
from fluxsrc.git.packfile import Kind, ObjectFormat
from fluxsrc.git.protocol import Advertisement
from fluxsrc.git.refs import Selector
from fluxsrc.git.transport import Access, converse
from fluxsrc.git.upload_pack import UploadPack
from fluxsrc.operation import Operation
from fluxsrc.revision import Revision

__all__ = ["RemoteRepository"]

Contents = dict[bytes, tuple[Kind, bytes]]
_DELETIONS: Final = 3
"""Deletions of the cache during one fetch that go unnoticed."""


class _Wanted(NamedTuple):
    """What is to be there: a commit, what it was chosen by, and the paths of it that matter; all of them, if none."""

    revision: Revision
    selector: Selector
    paths: Sequence[str]


@attrs.frozen(eq=False, repr=False)
class RemoteRepository:
    """A repository behind a server.

    Attributes:
        access: How it is reached.
        cache: What keeps its objects; None keeps nothing.
        url: The source's, redacted, for messages.
    """

    access: Access
    cache: GitCache | None
    url: str

    def resolve(self, selector: Selector, operation: Operation) -> Revision:
        """What a selector means now. A commit costs nothing, all else one listing."""
        if selector.pinned is not None:
            return selector.pinned
        known = self._recall(operation)
        if known is not None:
            try:
                return self._resolve(converse(self.access, operation, known), selector, operation)
            except (RemoteProtocolError, RevisionNotFoundError, TransportError) as exc:
                if isinstance(exc, TimeoutError):
                    raise
                self._remember(None, operation)  # the server may have changed: ask it from the start
        session = converse(self.access, operation)
        revision = self._resolve(session, selector, operation)
        self._remember(session.memorable, operation)
        return revision

    def _resolve(self, session: UploadPack, selector: Selector, operation: Operation) -> Revision:
        try:
            refs = session.list_refs(selector.prefixes)
            revision = selector.revision(selector.choose(refs, url=self.url), url=self.url)
        except BaseException:
            session.close()
            raise
        self._park(session, operation)
        return revision

    def _recall(self, operation: Operation) -> Advertisement | None:
        """What the cache knows of the server, which spares the first of two exchanges over HTTP."""
        if self.cache is None or not self.access.address.scheme.startswith("http"):
            return None
        capabilities = self.cache.recall(self.access.address.url, self._who(operation))
        return None if capabilities is None else Advertisement(2, capabilities)

    def _remember(self, capabilities: Mapping[str, str] | None, operation: Operation) -> None:
        if self.cache is not None and self.access.address.scheme.startswith("http"):
            self.cache.remember(self.access.address.url, self._who(operation), capabilities)

    def _who(self, operation: Operation) -> str:
        assert self.cache is not None
        return fingerprint(self.access.credentials(operation), self.cache.salt())

    @contextmanager
    def open(
        self, revision: Revision, selector: Selector, paths: Sequence[str], operation: Operation
    ) -> Iterator[ObjectDatabase]:
        """The objects of a commit, or of some of its paths, fetched if they are not there."""
        with self._repository(revision, operation) as repository:
            objects, fetched = self._obtain(repository, _Wanted(revision, selector, paths), operation)
            with objects:
                try:
                    yield objects
                except (ContentError, MissingObjectError) as exc:
                    self._blame(repository, exc, operation)
                    raise
        if self.cache is not None and fetched:
            self.cache.evict(keep=repository.directory)

    def _obtain(
        self, repository: CachedRepository, wanted: _Wanted, operation: Operation
    ) -> tuple[ObjectDatabase, bool]:
        """The objects, and whether they had to be fetched. Again, if somebody deletes the cache meanwhile."""
        for _ in range(_DELETIONS):
            with suppress(CacheDeletedError):
                objects = self._open_held(repository, wanted, operation)
                if objects is not None:
                    return objects, False
                return self._open_fetched(repository, wanted, operation), True
        return self._open_fetched(repository, wanted, operation), True

    def _open_fetched(self, repository: CachedRepository, wanted: _Wanted, operation: Operation) -> ObjectDatabase:
        with repository.locked(operation, shared=False):
            contents: Contents = {}
            # Whoever held the lock before may have fetched just this.
            if not repository.holds(wanted.revision.digest.hex, wanted.paths):
                repository.tidy()
                contents = self._fetch_or_heal(repository, wanted, operation)
            objects = self._open_all(repository, wanted)
            objects.expect(contents)
            return objects

    def _open_all(self, repository: CachedRepository, wanted: _Wanted) -> ObjectDatabase:
        objects = repository.open_objects(self.access.limits)
        if bytes.fromhex(wanted.revision.digest.hex) in objects:
            return objects
        objects.close()
        raise repository.deleted()

    def _open_held(self, repository: CachedRepository, wanted: _Wanted, operation: Operation) -> ObjectDatabase | None:
        with repository.locked(operation, shared=True):
            if not repository.holds(wanted.revision.digest.hex, wanted.paths):
                return None
            with suppress(ContentError, CacheDeletedError):
                return self._open_all(repository, wanted)
        with repository.locked(operation, shared=False):  # a pack is cut short, empty or gone, as after a power cut
            repository.clear()
        return None

    def _fetch_or_heal(self, repository: CachedRepository, wanted: _Wanted, operation: Operation) -> Contents:
        """Fetch; anew, if what comes does not go with what is there: the server's fault, or damage nobody read so far."""
        if repository.is_empty:
            return self._fetch(repository, wanted, operation)
        try:
            return self._fetch(repository, wanted, operation)
        except (ContentError, MissingObjectError) as exc:
            # A limit, or a name that is unsafe, would be the same the second time.
            if type(exc) not in (ContentError, DigestMismatchError, MissingObjectError):
                raise
        repository.clear()
        return self._fetch(repository, wanted, operation)

    def _fetch(self, repository: CachedRepository, wanted: _Wanted, operation: Operation) -> Contents:
        """Fetch; return the contents of small objects that came, to spare reading them back."""
        fetcher = Fetcher(self.access, repository, operation, self.url)

        def fetch(session: UploadPack) -> Contents:
            with session:
                if not wanted.paths:
                    return fetcher.fetch_commit(session, wanted.revision, wanted.selector).contents
                fetcher.fetch_paths(session, wanted.revision, wanted.selector, wanted.paths)
                return {}

        session = self._unpark(operation)
        if session is not None:
            try:
                return fetch(session)
            except TransportError as exc:
                if isinstance(exc, TimeoutError):
                    raise
                # The server may have closed the kept connection meanwhile, which says nothing about it: once more.
        return fetch(converse(self.access, operation))

    @contextmanager
    def _repository(self, revision: Revision, operation: Operation) -> Iterator[CachedRepository]:
        object_format = ObjectFormat(revision.digest.algorithm)
        if self.cache is None:
            with CachedRepository.temporary(object_format) as repository:
                yield repository
        else:
            yield self.cache.repository(self.access.address.url, self._who(operation), object_format)

    def read_tags(self, revision: Revision, selector: Selector, operation: Operation) -> tuple[bytes, ...]:
        """The tag objects that lead to a revision's commit, the followed one first; nothing for a lightweight tag.

        The reference is looked up once more, since a revision does not name the tag object; it has to lead to the same
        commit still. Fetched, if they are not there.

        Raises:
            SourceChangedError: The tag leads elsewhere by now.
            SourceError: The server cannot be reached, refuses, or talks nonsense.
        """
        name = selector.ref_of(revision) or ""
        with ExitStack() as stack:
            session = stack.enter_context(converse(self.access, operation))
            ref = session.list_refs((name,)).get(name)
            if ref is None or ref.final != revision.digest.hex:
                raise SourceChangedError(f"{selector} of {self.url} is not at {revision.short} any more", url=self.url)
            if ref.peeled is None:
                return ()
            repository = stack.enter_context(self._repository(revision, operation))
            stack.enter_context(repository.locked(operation, shared=False))
            with repository.open_objects(self.access.limits) as objects:
                if bytes.fromhex(ref.oid) not in objects:
                    Fetcher(self.access, repository, operation, self.url).fetch_tag(session, ref.oid)
            with repository.open_objects(self.access.limits) as objects:
                return read_tags(objects, ref.oid)

    def lfs_directory(self, revision: Revision, operation: Operation) -> Path | None:
        """Where LFS files are kept: with the objects, since who may read the ones may read the others."""
        if self.cache is None:
            return None
        with self._repository(revision, operation) as repository:
            return repository.directory / "lfs" / "objects"

    def _blame(self, repository: CachedRepository, exc: Exception, operation: Operation) -> None:
        """Was it the cache? Then forget what is wrong there, so that the next attempt fetches it anew."""
        # Not a subclass of it: an LFS server that sends the wrong bytes says nothing about the cache.
        damaged = type(exc) is DigestMismatchError or (type(exc) is ContentError and repository.is_damaged())
        if not damaged and not isinstance(exc, MissingObjectError):
            return
        with repository.locked(operation, shared=False):
            repository.clear()
        raise SourceChangedError(
            f"the cached copy of {self.url} was damaged, and is gone now: try again", url=self.url
        ) from exc

    # --- one conversation for resolving and fetching ---------------------------------------------------------------

    def _park(self, session: UploadPack, operation: Operation) -> None:
        """Leave the conversation to a fetch of the same operation; without one it ends with the operation."""
        earlier = self._unpark(operation)
        if earlier is not None:
            earlier.close()
        session.obey(None)  # what lives as long as the operation must not keep it alive
        operation.memo[self._memo_key] = session
        weakref.finalize(operation, session.close)

    def _unpark(self, operation: Operation) -> UploadPack | None:
        session: UploadPack | None = operation.memo.pop(self._memo_key, None)
        if session is not None:
            session.obey(operation)
        return session

    @property
    def _memo_key(self) -> tuple[object, ...]:
        # By identity: a keychain of the caller's own need not be hashable.
        return ("git", self.access.address, id(self.access.keychain), id(self.access.proxy), self.access.tls)

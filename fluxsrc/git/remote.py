"""`RemoteRepository`: resolve a reference with one exchange, have one commit's objects with one more, keep what came.

How a commit is fetched (`_fetch`):

1. Ask for it by its name, at depth 1, saying what is there already. Servers that are up to date give it out.
2. If the server does not: ask for the reference it came from (for a bare commit: all branches) at depth 1, and deepen until
   the commit is among what came, or nothing more comes, or `MAX_DEPTH` is reached. Never the whole history at once.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs

from fluxsrc.errors import (
    ContentError,
    DigestMismatchError,
    RevisionNotFoundError,
    SourceChangedError,
    TransportError,
)
from fluxsrc.git.cache import CachedRepository, GitCache, fingerprint
from fluxsrc.git.objects import MissingObjectError, ObjectDatabase
from fluxsrc.git.pack import Received, receive_pack
from fluxsrc.git.packfile import ObjectFormat
from fluxsrc.git.protocol import FetchRequest, UnavailableError
from fluxsrc.git.refs import BRANCHES, Selector
from fluxsrc.git.transport import Access, converse
from fluxsrc.git.upload_pack import UploadPack
from fluxsrc.operation import Operation
from fluxsrc.revision import Revision

__all__ = ["MAX_DEPTH", "RemoteRepository"]

MAX_DEPTH: Final = 4096
"""Commits of history beyond which a commit that cannot be asked for by name is given up."""
_FIRST_DEPTH: Final = 16
_DEEPER: Final = 16


@attrs.frozen
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
        session = converse(self.access, operation)
        try:
            refs = session.list_refs(selector.prefixes)
        except BaseException:
            session.close()
            raise
        self._park(session, operation)
        return selector.revision(selector.choose(refs, url=self.url), url=self.url)

    @contextmanager
    def open(self, revision: Revision, selector: Selector, operation: Operation) -> Iterator[ObjectDatabase]:
        """The objects of a commit, fetched if they are not there."""
        with self._repository(revision) as repository:
            commit = revision.digest.hex
            objects = self._open_held(repository, commit, operation)
            if objects is None:
                with repository.locked(operation, shared=False):
                    # Whoever held the lock before may have fetched just this.
                    if not repository.holds(commit):
                        repository.start_anew()
                        contents = self._fetch(repository, revision, selector, operation).contents
                    else:
                        contents = {}
                    objects = repository.open_objects(self.access.limits)
                    objects.expect(contents)
            with objects:
                try:
                    yield objects
                except (ContentError, MissingObjectError) as exc:
                    self._blame(repository, exc, operation)
                    raise
        if self.cache is not None:
            self.cache.evict(keep=repository.directory)

    def _open_held(self, repository: CachedRepository, commit: str, operation: Operation) -> ObjectDatabase | None:
        with repository.locked(operation, shared=True):
            return repository.open_objects(self.access.limits) if repository.holds(commit) else None

    @contextmanager
    def _repository(self, revision: Revision) -> Iterator[CachedRepository]:
        object_format = ObjectFormat(revision.digest.algorithm)
        if self.cache is None:
            with CachedRepository.temporary(object_format) as repository:
                yield repository
        else:
            who = fingerprint(self.access.credentials(), self.cache.salt())
            yield self.cache.repository(self.access.address.url, who, object_format)

    def _blame(self, repository: CachedRepository, exc: Exception, operation: Operation) -> None:
        """Was it the cache? Then forget what is wrong there, so that the next attempt fetches it anew."""
        damaged = isinstance(exc, DigestMismatchError) or (type(exc) is ContentError and repository.is_damaged())
        if not damaged and not isinstance(exc, MissingObjectError):
            return
        with repository.locked(operation, shared=False):
            repository.clear()
        raise SourceChangedError(
            f"the cached copy of {self.url} was damaged, and is gone now: try again", url=self.url
        ) from exc

    # --- fetching --------------------------------------------------------------------------------------------------

    def _fetch(
        self, repository: CachedRepository, revision: Revision, selector: Selector, operation: Operation
    ) -> Received:
        commit = revision.digest.hex
        session = self._unpark(operation)
        fresh = session is None
        if session is None:
            session = converse(self.access, operation)
        try:
            with session:
                return self._fetch_by_name(session, repository, commit, operation)
        except UnavailableError as exc:
            refused = exc
        except TransportError as exc:
            if fresh or isinstance(exc, TimeoutError):
                raise
            # The kept connection was closed meanwhile, which says nothing about the server: once more, on a new one.
            with converse(self.access, operation) as session:
                return self._fetch_by_name(session, repository, commit, operation)
        return self._fetch_by_ref(repository, revision, selector, operation, refused)

    def _fetch_by_name(
        self, session: UploadPack, repository: CachedRepository, commit: str, operation: Operation
    ) -> Received:
        """Step 1."""
        if not session.server.gives_out(commit):
            raise UnavailableError(f"{self.url} gives out only what it lists", url=self.url)
        request = FetchRequest(wants=[commit], haves=repository.held, shallow=sorted(repository.shallow), depth=1)
        received = self._receive(session, repository, request, operation)
        with repository.open_objects(self.access.limits) as objects:
            if bytes.fromhex(commit) not in objects:
                raise UnavailableError(f"{self.url} answered without the commit {commit}", url=self.url)
        repository.record(commit, whole=True)
        return received

    def _fetch_by_ref(
        self,
        repository: CachedRepository,
        revision: Revision,
        selector: Selector,
        operation: Operation,
        refused: UnavailableError,
    ) -> Received:
        """Step 2."""
        commit = revision.digest.hex
        name = selector.ref_of(revision)
        depth = _FIRST_DEPTH
        before: frozenset[str] | None = None
        while depth <= MAX_DEPTH:
            with converse(self.access, operation) as session:
                refs = session.list_refs((name,) if name else (BRANCHES,))
                tips = sorted({ref.oid for key, ref in refs.items() if name is None or key == name})
                if not tips:
                    break
                request = FetchRequest(
                    wants=tips, haves=repository.held, shallow=sorted(repository.shallow), depth=depth
                )
                received = self._receive(session, repository, request, operation)
            with repository.open_objects(self.access.limits) as objects:
                if bytes.fromhex(commit) in objects:
                    repository.record(commit, whole=True)
                    return received
            if repository.shallow == before:  # nothing is missing any more: this is all there is
                break
            before = repository.shallow
            depth *= _DEEPER
        if revision.pointer is not None:
            raise SourceChangedError(
                f"{selector} of {self.url} is not at {revision.short} any more, and the server gives out nothing else",
                url=self.url,
            ) from refused
        raise RevisionNotFoundError(
            f"commit {commit} is not in {self.url}, or not within {MAX_DEPTH} commits of a branch",
            url=self.url,
            hint="the server does not give out commits by their name: choose a branch or a tag",
        ) from refused

    def _receive(
        self, session: UploadPack, repository: CachedRepository, request: FetchRequest, operation: Operation
    ) -> Received:
        fetched = session.fetch(request)
        with repository.open_objects(self.access.limits) as bases:
            received = receive_pack(
                fetched.pack,
                repository.packs,
                bases=bases,
                limits=self.access.limits,
                operation=operation,
                url=self.url,
            )
        repository.update_shallow(shallow=fetched.shallow, unshallow=fetched.unshallow)
        return received

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
    def _memo_key(self) -> tuple[str, Access]:
        return ("git", self.access)

"""`Fetcher`: brings one commit, or some paths of it, into a cached repository.

A whole commit (`fetch_commit`):

1. Ask for it by its name, at depth 1, saying what is there already. Servers that are up to date give it out.
2. If the server does not: ask for the reference it came from (for a bare commit: all branches), and deepen until the
   commit is among what came, or nothing more comes, or `MAX_DEPTH` is reached. Never the whole history at once.

Some paths (`fetch_paths`), where the server can filter:

3. Ask for the commit with only the trees on the way to the paths; where the server cannot count trees, with all trees.
4. Ask for what the paths need and is not there: whole sub-trees at once, or if an earlier commit's are there, their trees
   first and then the blobs that are new. Again, until nothing is missing.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import attrs

from fluxsrc.errors import (
    PermissionDeniedError,
    RemoteProtocolError,
    RevisionNotFoundError,
    SourceChangedError,
    SourceError,
)
from fluxsrc.git.cached_repository import CachedRepository
from fluxsrc.git.objects import MissingObjectError
from fluxsrc.git.pack import Received, receive_pack
from fluxsrc.git.partial import find_missing, trees_filter
from fluxsrc.git.protocol import FetchRequest, UnavailableError
from fluxsrc.git.refs import BRANCHES, Selector
from fluxsrc.git.transport import Access, converse
from fluxsrc.git.upload_pack import UploadPack
from fluxsrc.operation import Operation
from fluxsrc.revision import Revision

__all__ = ["MAX_DEPTH", "Fetcher"]

MAX_DEPTH: Final = 4096
"""Commits of history beyond which a commit that cannot be asked for by name is given up."""
_FIRST_DEPTH: Final = 16
_DEEPER: Final = 16
_MAX_ROUNDS: Final = 16
"""Requests for missing objects; each goes at least one directory deeper."""
_BATCH: Final = 16_384
"""Objects asked for in one request: below a megabyte."""
_COMBINED: Final = "combined-filters"


@attrs.frozen(eq=False, repr=False)
class Fetcher:
    """Fetches into a repository whose lock is held.

    Attributes:
        access: How the remote is reached.
        repository: Where objects go.
        operation: The deadline of all of it.
        url: The source's, redacted, for messages.
    """

    access: Access
    repository: CachedRepository
    operation: Operation
    url: str

    def fetch_commit(self, session: UploadPack, revision: Revision, selector: Selector) -> Received:
        """Bring a whole commit; steps 1 and 2.

        Raises:
            SourceChangedError: The reference does not lead to the commit any more.
            RevisionNotFoundError: The commit is not there.
            SourceError: The server cannot be reached, refuses, or talks nonsense.
            ContentError: The pack is damaged, or above a limit.
        """
        self._check_format(session, revision)
        commit = revision.digest.hex
        try:
            received = self._fetch_by_name(session, commit)
        except UnavailableError as exc:
            received = self._fetch_by_ref(revision, selector, exc)
        self.repository.record(commit)
        return received

    def fetch_paths(self, session: UploadPack, revision: Revision, selector: Selector, paths: Sequence[str]) -> None:
        """Bring what some paths of a commit need; steps 3 and 4. All of it, where the server cannot filter.

        Raises:
            PathNotFoundError: The commit does not have one of the paths.
            SourceError: As of `fetch_commit`.
            ContentError: As of `fetch_commit`.
        """
        self._check_format(session, revision)
        commit = revision.digest.hex
        server = session.server
        if not (server.offers("filter") and server.gives_out_any):
            self.fetch_commit(session, revision, selector)
            return
        known = bool(self.repository.held) or self.repository.has_partial
        with ExitStack() as stack:
            if not self._is_here(commit):
                session = self._fetch_trees(session, commit, paths, stack)
            self._fetch_missing(session, commit, paths, known=known)
        self.repository.record_partial(commit, paths)

    def _check_format(self, session: UploadPack, revision: Revision) -> None:
        """A commit of another format cannot be there, and servers answer nonsense if they are asked for it."""
        if session.server.object_format != revision.digest.algorithm:
            raise RevisionNotFoundError(
                f"commit {revision.digest} is not in {self.url}, whose objects have {session.server.object_format} names",
                url=self.url,
            )

    def _fetch_missing(self, session: UploadPack, commit: str, paths: Sequence[str], *, known: bool) -> None:
        """Step 4; `known` is whether objects of other commits are here."""
        for _ in range(_MAX_ROUNDS):
            with self.repository.open_objects(self.access.limits) as objects:
                missing = find_missing(objects, bytes.fromhex(commit), paths, self.access.limits)
            if not missing:
                return
            # Trees without their blobs, where some of those may be here already, or only the way is looked for.
            alone = "blob:none" if missing.trees and (known or missing.on_the_way) else None
            wants = [oid.hex() for oid in (missing.trees if alone else (*missing.trees, *missing.blobs))]
            for start in range(0, len(wants), _BATCH):
                self._receive(session, FetchRequest(wants=wants[start : start + _BATCH], filter=alone))
        raise RemoteProtocolError(f"{self.url} does not send the objects that it is asked for", url=self.url)

    def fetch_tag(self, session: UploadPack, oid: str) -> None:
        """Bring a tag object and the tags it leads to, and as little else as the server can be asked for.

        Raises:
            SourceError: As of `fetch_commit`.
            ContentError: As of `fetch_commit`.
        """
        alone = "tree:0" if session.server.offers("filter") else None
        self._receive(session, self._request([oid], depth=1, filter=alone))
        if not self._is_here(oid):
            raise UnavailableError(f"{self.url} answered without the tag {oid}", url=self.url)

    def _fetch_trees(self, session: UploadPack, commit: str, paths: Sequence[str], stack: ExitStack) -> UploadPack:
        """Step 3; returns the conversation to go on with: a server that refuses may have ended the first."""
        wishes = [self._request([commit], depth=1, filter=each) for each in (trees_filter(paths), "blob:none")]
        if self.repository.is_refused(_COMBINED):
            self._receive(session, wishes[1])
        else:
            try:
                self._receive(session, wishes[0])
            except (RemoteProtocolError, PermissionDeniedError):
                session = stack.enter_context(converse(self.access, self.operation))
                self._receive(session, wishes[1])
                self.repository.record_refusal(_COMBINED)
        if not self._is_here(commit):
            raise self._left_out(commit)
        return session

    def _fetch_by_name(self, session: UploadPack, commit: str) -> Received:
        """Step 1."""
        if not session.server.gives_out(commit):
            raise UnavailableError(f"{self.url} gives out only what it lists", url=self.url)
        received = self._receive(session, self._request([commit], depth=1))
        if not self._is_here(commit):
            raise self._left_out(commit)
        return received

    def _fetch_by_ref(self, revision: Revision, selector: Selector, refused: SourceError) -> Received:
        """Step 2."""
        commit = revision.digest.hex
        name = selector.ref_of(revision)
        depth = _FIRST_DEPTH
        before: frozenset[str] | None = None
        while depth <= MAX_DEPTH:
            with converse(self.access, self.operation) as session:
                refs = session.list_refs((name,) if name else (BRANCHES,))
                tips = sorted({ref.oid for key, ref in refs.items() if name is None or key == name})
                if not tips:
                    break
                received = self._receive(session, self._request(tips, depth=depth))
            if self._is_here(commit):
                return received
            if commit in tips:
                raise self._left_out(commit)
            shallow = self.repository.shallow
            if shallow == before:  # nothing is missing any more: this is all there is
                break
            before = shallow
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

    def _request(self, wants: Sequence[str], *, depth: int, filter: str | None = None) -> FetchRequest:  # noqa: A002
        repository = self.repository
        return FetchRequest(
            wants=wants, haves=repository.held, shallow=sorted(repository.shallow), depth=depth, filter=filter
        )

    def _receive(self, session: UploadPack, request: FetchRequest) -> Received:
        fetched = session.fetch(request)
        with self.repository.open_objects(self.access.limits) as bases:
            received = receive_pack(
                fetched.pack,
                self.repository.packs,
                bases=bases,
                limits=self.access.limits,
                operation=self.operation,
                url=self.url,
            )
        self.repository.update_shallow(shallow=fetched.shallow, unshallow=fetched.unshallow)
        return received

    def _left_out(self, commit: str) -> SourceError:
        """The error for a commit that did not come, though it was asked for."""
        said = f"{self.url} answered without the commit {commit}"
        if not self.repository.held:
            return UnavailableError(said, url=self.url)
        # It is below a commit that is said to be there, and so it would be, were all of the copy as it was.
        return MissingObjectError(f"{said}, which the cached copy should have")

    def _is_here(self, commit: str) -> bool:
        with self.repository.open_objects(self.access.limits) as objects:
            return bytes.fromhex(commit) in objects

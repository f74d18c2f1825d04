"""`SealedSnapshot`: nothing of a snapshot is seen before its content is known to be what a policy accepts.

What a tree is, only reading all of it can tell. So the artifact is made first, in a temporary file; its content digest is held
against the policy; and only what that file holds is handed out. What changes at the source meanwhile is not looked at again.

Whoever makes an artifact anyway (`fluxsrc.produce`) packs `content` into the store's ingest instead, and tells `unseal` what came
out before the store records it: one pass, and no file besides.
"""

import datetime as dt
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from fluxsrc._lazy import later
from fluxsrc.digest import Digest
from fluxsrc.entry import Entry, Skipped
from fluxsrc.errors import ConfigurationError
from fluxsrc.limits import Limits
from fluxsrc.operation import Operation
from fluxsrc.revision import Revision
from fluxsrc.snapshot import ShownSnapshot, read_ignore_files
from fluxsrc.source import Snapshot
from fluxsrc.store import Ingest
from fluxsrc.verify import ContentEvidence, Facts, Policy

if TYPE_CHECKING:
    from fluxsrc.tarball import tree as trees
else:  # few policies are about the content
    trees = later("fluxsrc.tarball.tree")

__all__ = ["SealedSnapshot"]

_PIECE: Final = 1 << 20


class SealedSnapshot(ShownSnapshot):
    """A snapshot that reads and verifies itself when anything but its revision is asked for; see `Snapshot`.

    It holds what the source's artifact would: ignored files are not in it, and links are what the recipe makes of them.

    Attributes:
        content: What is sealed, not verified: for whoever shows it nobody before `unseal`.
    """

    def __init__(
        self,
        content: Snapshot,
        policy: Policy[Any],
        *,
        url: str,
        pack: Callable[[Snapshot, Ingest], Digest],
        limits: Limits,
        operation: Operation,
    ) -> None:
        """A snapshot, a policy that needs its content, and what makes an artifact of it and returns the content digest."""
        self.content = content
        self._policy = policy
        self._url = url
        self._pack = pack
        self._limits = limits
        self._operation = operation
        self._lock = threading.RLock()
        self._facts: Facts | None = None
        self._tree: trees.FileTree | None = None
        self._entries: list[Entry] | None = None
        self._closed = False

    def unseal(self, content_digest: Digest) -> None:
        """Hold the digest of all that `content` gave against the policy.

        Raises:
            VerificationError: It does not hold.
        """
        evidence = ContentEvidence(
            subject=f"{self._url} at {self.revision.short}",
            now=dt.datetime.now(dt.UTC),
            url=self._url,
            revision=self.revision,
            content_digest=content_digest,
        )
        facts = (*self.content.verification, *self._policy.check(evidence))
        with self._lock:
            self._facts = facts

    @property
    def revision(self) -> Revision:
        """What was asked for."""
        return self.content.revision

    @property
    def created(self) -> dt.datetime | None:
        """The content's own time."""
        return self._unsealed().created

    @property
    def tree_id(self) -> str | None:
        """The content's."""
        return self._unsealed().tree_id

    @property
    def annotations(self) -> Mapping[str, str]:
        """The content's."""
        return self._unsealed().annotations

    @property
    def skipped(self) -> Sequence[Skipped]:
        """The content's."""
        return self._unsealed().skipped

    @property
    def verification(self) -> Facts:
        """What was found out about the revision, then about the content."""
        self._unsealed()
        assert self._facts is not None
        return self._facts

    def ignore_files(self) -> Mapping[str, str]:
        """The text of each `.sourceignore` that is part of the verified content, by directory."""
        return read_ignore_files(self._read(), limits=self._limits)

    def entries(self) -> Iterator[Entry]:
        """A new iteration over the verified files."""
        return iter(self._read())

    def close(self) -> None:
        """Give the space back."""
        with self._lock:
            self._closed = True
            if self._tree is not None:
                self._tree.close()

    def _unsealed(self) -> Snapshot:
        with self._lock:
            if self._facts is None:
                self._read()
            return self.content

    def _read(self) -> list[Entry]:
        with self._lock:
            if self._closed:
                raise ConfigurationError("the snapshot is closed")
            if self._entries is None:
                spool = trees.Spool()
                try:
                    # From here on only these bytes count, and they are the ones whose digest is held against the policy.
                    self.unseal(self._pack(self.content, _SpooledIngest(spool)))
                    self._tree = trees.FileTree(self._limits, self._operation)
                    self._tree.add_archive(spool.open())
                finally:
                    spool.close()
                self._entries = self._tree.entries()
            return self._entries


class _SpooledIngest:
    """An ingest that no store is waiting for."""

    def __init__(self, spool: "trees.Spool") -> None:
        self.write = spool.write
        self._spool = spool

    @property
    def size(self) -> int:
        return self._spool.size

    @property
    def digest(self) -> Digest:
        hasher = hashlib.sha256()
        for offset in range(0, self.size, _PIECE):
            hasher.update(self._spool.read_at(offset, _PIECE))
        return Digest("sha256", hasher.hexdigest())


if TYPE_CHECKING:

    def _(snapshot: SealedSnapshot) -> Snapshot:
        return snapshot

"""`BucketSource`: the objects of a bucket, under a prefix, as files."""

import contextlib
import copy
import functools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import attrs

from fluxsrc.address import Address
from fluxsrc.bucket.address import bucket_of
from fluxsrc.bucket.fetch import WORKERS, Handle, ReadAhead
from fluxsrc.bucket.keys import AmbiguousKeys, Screening, UnsafeKeys, screen
from fluxsrc.bucket.listing import Listing, list_bucket
from fluxsrc.bucket.protocol import Bucket, BucketClient, BucketObject
from fluxsrc.bucket.scope import Scope
from fluxsrc.entry import Entry, Mode, Skipped
from fluxsrc.errors import ConfigurationError, PathNotFoundError, SourceChangedError
from fluxsrc.operation import Operation
from fluxsrc.produce import SourceOptions
from fluxsrc.recipe import Recipe
from fluxsrc.revision import Revision
from fluxsrc.snapshot import ShownSnapshot
from fluxsrc.source import Comparable, Snapshot, Source

if TYPE_CHECKING:
    from fluxsrc.bucket.local import LocalBucket

__all__ = ["BucketSource"]

_SURVEYED: Final = 100_000
"""Objects at most that are compared by name: some 300 bytes of memory for each, and most buckets have no more."""
_SURVEYED_TEXT: Final = 12 << 20
"""Characters of their keys and etags at most."""
_FEW: Final = 4
"""Of which part of the objects more must have changed for all of them to be listed one by one."""


@attrs.frozen(repr=False)
class BucketSource(SourceOptions):
    """A source over a bucket: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage, a directory.

    Its revision is Flux's: sha256 over a line `"<key> <etag>"` for each object that the ignore rules keep. Resolving it
    lists, and downloads nothing but ignore files. Each object is read with the precondition that it is still the one that
    was listed; what was not changed since the last artifact comes out of that one.

    Rules come from `.sourceignore` objects at the bucket's root, under the prefix, and, as in every other source, in any
    directory; and from `ignore`. In the flux dialect those in directories are plain files, the one at the root is no part
    of the revision, and there are no default exclusions: so it is in Flux.

    Attributes:
        bucket: Which, and how to get in.
        prefix: Only keys that begin with this text; end it with "/" to mean a directory.
        strip_prefix: Whether the prefix, then a directory, is no part of the paths.
        unsafe_keys: What becomes of keys that cannot be a path: "error" or "skip" (reported).
        ambiguous_keys: What becomes of names that differ by case or Unicode normal form only: "error", "skip" (the later
            ones, reported) or "keep".
    """

    bucket: Bucket
    prefix: str = ""
    strip_prefix: bool = attrs.field(default=False, kw_only=True)
    unsafe_keys: UnsafeKeys = attrs.field(default=UnsafeKeys.ERROR, converter=UnsafeKeys, kw_only=True)
    ambiguous_keys: AmbiguousKeys = attrs.field(default=AmbiguousKeys.ERROR, converter=AmbiguousKeys, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.strip_prefix and self.prefix and not self.prefix.endswith("/"):
            raise ConfigurationError(
                f"the prefix {self.prefix!r} is no directory, so it cannot be stripped", hint="end it with '/'"
            )
        _ = self._scope  # raises if prefix and path have nothing in common

    @classmethod
    def from_url(cls, text: str, /, **options: Any) -> "BucketSource":
        """A source of one line of text.

        >>> BucketSource.from_url("s3://models/prod/?endpoint=http://minio.example:9000&region=eu-west-1").prefix
        'prod/'

        Args:
            text: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX?account=NAME` or
                `bucket+file:///DIRECTORY`, with options; see `fluxsrc.bucket.address`. No credentials.
            options: Arguments of this class or of the bucket's that no URL holds: `ignore`, `credentials`, `tls`, …

        Raises:
            ConfigurationError: It is none of these, or an option is not known.
        """
        address = Address.parse(text)
        return cls.from_address(address, {"path": address.path, **options})

    @classmethod
    def from_address(cls, address: Address, options: Mapping[str, Any]) -> "BucketSource":
        """As `from_url`, of a URL that was taken apart; `options` include the path."""
        own = {field.name for field in attrs.fields(cls)}
        bucket, said = bucket_of(address, {name: value for name, value in options.items() if name not in own})
        given = {name: value for name, value in options.items() if name in own}
        for name in said:
            if name in given:
                raise ConfigurationError(
                    f"{name} is given twice, in the URL and beside it", hint="leave out one of them"
                )
        return cls(bucket, **said, **given)

    @property
    def kind(self) -> str:
        """Always "bucket"."""
        return "bucket"

    @property
    def url(self) -> str:
        """`SCHEME://BUCKET/PREFIX?OPTIONS`, with the sub-path as fragment."""
        head, _, query = self.bucket.url.partition("?")
        options = [query] * bool(query) + ["strip_prefix=true"] * self.strip_prefix
        if self.prefix and head.startswith("bucket+file:"):
            options.insert(0, f"prefix={quote(self.prefix)}")  # a further part of the path would be another bucket
        elif self.prefix:
            head = f"{head.rstrip('/')}/{quote(self.prefix)}"
        mark = "?" if options else ""
        return head + mark + "&".join(options) + (f"#path={quote(self.path)}" if self.path else "")

    @property
    def recipe(self) -> Recipe:
        """Everything besides the revision that decides what an artifact holds."""
        return attrs.evolve(super().recipe, default_ignores=False)

    def _recipe_options(self) -> tuple[tuple[str, str], ...]:
        return (
            ("ambiguous_keys", self.ambiguous_keys.value),
            ("prefix", self.prefix),
            ("strip_prefix", str(self.strip_prefix)),
            ("unsafe_keys", self.unsafe_keys.value),
        )

    def resolve_revision(self, *, operation: Operation | None = None) -> Revision:
        """The revision of this moment. Lists, and reads nothing but ignore files.

        Raises:
            RevisionNotFoundError: There is no such bucket.
            LimitExceededError: There is more in it than the limits allow; nothing was downloaded.
        """
        with _Session.open(self, self._operation(operation)) as session:
            return Revision(session.listing().index.digest)

    @contextlib.contextmanager
    def fetch(self, revision: Revision | None = None, /, *, operation: Operation | None = None) -> Iterator[Snapshot]:
        """The objects as they were listed; see `Source`."""
        operation = self._operation(operation)
        with _Session.open(self, operation) as session:
            # If resolving was part of this operation, its listing is at hand; each object is held against it when read.
            listing = operation.memo.pop(self, None) or session.listing()
            current = Revision(listing.index.digest)
            if revision is not None and revision != current:
                raise SourceChangedError(f"{self.url} is at {current.short}, not at {revision.short}", url=self.url)
            if self.path and not listing.listed:
                raise PathNotFoundError(f"{self.url}: nothing is below {self.path}", url=self.url)
            screening = screen(
                lambda: listing.index,
                strip=self._scope.strip,
                unsafe=self.unsafe_keys,
                ambiguous=self.ambiguous_keys,
                limits=self.limits,
            )
            with self._guarded(_BucketSnapshot(session, current, listing, screening), operation) as guarded:
                yield guarded

    @property
    def _scope(self) -> Scope:
        strip = (self.prefix if self.strip_prefix else "") + (f"{self.path}/" if self.path else "")
        prefix = strip if strip.startswith(self.prefix) else self.prefix
        if not prefix.startswith(strip):
            raise ConfigurationError(
                f"nothing below the path {self.path!r} begins with the prefix {self.prefix!r}",
                hint="the path is part of the keys, unless strip_prefix=True",
            )
        return Scope(
            prefix=prefix, strip=strip, dialect=self.dialect, ignore=self.ignore, limits=self.limits, url=self.url
        )


@attrs.frozen(eq=False, repr=False)
class _Session:
    """A bucket in use: its client, and the threads that call it. They end when the context does."""

    source: BucketSource
    client: BucketClient
    executor: Executor
    operation: Operation

    @classmethod
    @contextlib.contextmanager
    def open(cls, source: BucketSource, operation: Operation) -> Iterator["_Session"]:
        operation.check("connect", url=source.url)
        left = threading.Event()
        # Requests that nobody waits for any more end with the context, not with the operation. A copy has the same
        # deadline, and the same memo.
        own = copy.copy(operation)
        own.cancel = lambda: left.is_set() or operation.cancelled
        executor = ThreadPoolExecutor(WORKERS, thread_name_prefix="fluxsrc-bucket")
        try:
            with source.bucket.connect(own) as client:
                try:
                    yield cls(source, client, executor, operation)
                finally:
                    left.set()
                    executor.shutdown(cancel_futures=True)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)

    def listing(self) -> Listing:
        """The listing of this moment; noted for a later step of the same operation."""
        listing = list_bucket(self.client, self.source._scope, self.executor, self.operation)  # noqa: SLF001 - one room
        self.operation.memo[self.source] = listing
        return listing


@attrs.frozen(eq=False)
class _BucketSnapshot(ShownSnapshot):
    """See `Snapshot` and `Comparable`."""

    _session: _Session = attrs.field(repr=False)
    revision: Revision
    _listing: Listing = attrs.field(repr=False)
    _screening: Screening = attrs.field(repr=False)

    created = None
    tree_id = None
    annotations: Mapping[str, str] = attrs.field(factory=dict, init=False)
    verification: tuple[tuple[str, str], ...] = ()
    _changed: dict[str, Handle] = attrs.field(factory=dict, init=False, repr=False)

    @property
    def filtered_by(self) -> Recipe:
        return self._session.source.recipe

    @property
    def skipped(self) -> Sequence[Skipped]:
        return self._screening.skipped

    def ignore_files(self) -> Mapping[str, str]:
        return self._listing.ignore_files

    def entries(self) -> Iterator[Entry]:
        return self.entries_from("")

    def entries_from(self, path: str, /) -> Iterator[Entry]:
        changed = self._changed
        if not changed:
            return map(_entry, self._ahead(self._objects(path)))
        # What changed is on its way already: the others' guesses must not ask for it a second time.
        others = iter(self._ahead(item for item in self._objects(path) if item.key not in changed))
        return (_entry(changed.get(item.key) or next(others)) for item in self._objects(path))

    def survey(self) -> str:
        return f"{self.revision}\n{self._lines}"

    def changed_since(self, revision: Revision, survey: str, /) -> Sequence[str] | None:
        # What two stores share, the index of a blob, may have been written by another bucket with the same content.
        head, _, lines = survey.partition("\n")
        if head != str(revision) or not (lines and self._lines):
            return None
        changed = set(lines.split("\n")) ^ set(self._lines.split("\n"))
        paths = {line.partition("\0")[0] for line in changed}
        if len(paths) > self._listing.index.count // _FEW:
            return None
        # All of them will be read: their requests need not wait until it is their turn.
        keys = {self._strip + path for path in paths}
        objects = [item for item in self._listing.index if item.key in keys]
        self._changed.update((handle.item.key, handle) for handle in self._ahead(objects).expect_all())
        return sorted(paths)

    @functools.cached_property
    def _lines(self) -> str:
        """What there is, in lines; nothing where that would be much, or where not all that is listed is here as well."""
        index, start = self._listing.index, len(self._strip)
        if index.count > _SURVEYED or self._screening.dropped:
            return ""
        lines = "\n".join([f"{item.key[start:]}\0{item.size} {item.etag}" for item in index])
        return lines if len(lines) <= _SURVEYED_TEXT else ""

    @property
    def _strip(self) -> str:
        return self._session.source._scope.strip  # noqa: SLF001 - one room

    def _objects(self, path: str) -> Iterator[BucketObject]:
        dropped = self._screening.dropped
        return (item for item in self._listing.index.since(self._strip + path) if item.key not in dropped)

    def _ahead(self, objects: Iterable[BucketObject]) -> ReadAhead:
        session, total, strip = self._session, self._listing.index.size, len(self._strip)
        received = 0

        def count(size: int) -> None:
            nonlocal received
            received += size
            session.operation.report("receive", received, total)

        return ReadAhead(
            ((item.key[strip:], item) for item in objects),
            session.client,
            session.executor,
            session.operation,
            url=session.source.url,
            on_bytes=count,
        )


def _entry(handle: Handle) -> Entry:
    item = handle.item
    name = f"etag:{item.etag}:{item.size}"
    return Entry(handle.path, Mode.FILE, item.size, handle.open, name, handle.read, handle.expect)


if TYPE_CHECKING:
    _: Source = BucketSource(LocalBucket(""))

    def _snapshot(snapshot: _BucketSnapshot) -> tuple[Snapshot, Comparable]:
        return snapshot, snapshot

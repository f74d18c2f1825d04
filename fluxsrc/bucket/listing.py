"""From a bucket to its listing: ignore rules, limits and the revision, applied while the pages come in.

1. Read the ignore files whose place is known: at the bucket's root, under the prefix, at the artifact's root. Meanwhile the
   first page comes.
2. List. While one page is judged, the next one is on its way. A directory that is excluded as a whole is jumped over:
   by beginning behind it; or, where the service cannot do that, by listing what else there is, prefix by prefix.
3. In the gitignore dialect, read the ignore files that were found on the way, and judge again what they govern.
"""

from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Executor, Future
from contextlib import closing
from itertools import groupby
from typing import Final, NamedTuple

import attrs

from fluxsrc._io.waiting import result_of
from fluxsrc.bucket.index import EtagIndex, IndexBuilder
from fluxsrc.bucket.keys import is_marker
from fluxsrc.bucket.protocol import BucketClient, BucketObject, LevelLister
from fluxsrc.bucket.scope import Rules, Scope
from fluxsrc.errors import LimitExceededError, SourceChangedError
from fluxsrc.ignore import IGNORE_FILE
from fluxsrc.operation import Operation
from fluxsrc.recipe import Dialect

__all__ = ["Listing", "list_bucket"]

_LAST: Final = "\U0010ffff"
"""No character is greater: `directory/` and this is behind everything in the directory that anyone would name so."""


@attrs.frozen(eq=False, repr=False)
class Listing:
    """What a bucket held when it was listed.

    Attributes:
        index: The objects that the rules keep.
        ignore_files: The text of the ignore files in the artifact's tree, by directory.
        listed: Objects seen, kept or not.
    """

    index: EtagIndex
    ignore_files: dict[str, str]
    listed: int


def list_bucket(client: BucketClient, scope: Scope, executor: Executor, operation: Operation) -> Listing:
    """List what the rules keep. Memory: some 40 bytes for each object.

    Args:
        client: The bucket.
        scope: What of it.
        executor: Runs the requests, so that the next page comes while this one is judged.
        operation: The deadline, the cancel switch, and progress.

    Raises:
        LimitExceededError: There is more than the limits allow; the message says how much was seen, and how to narrow it.
    """
    run = _Run(client, scope, executor, operation)
    with closing(run.reading(_Range(scope.prefix))) as first:
        run.read_known_ignore_files()  # 1
        run.list(first)  # 2
    index = run.builder.build()
    if run.is_preliminary:
        run.read_found_ignore_files()  # 3
        rules = scope.rules(run.files)
        index = index.filter(lambda item: run.keeps(item, rules), unhashed=scope.unhashed)
    run.check_totals(index.count, index.size, f"{run.listed:,} objects listed")
    return Listing(index, scope.inside(run.files), run.listed)


class _Range(NamedTuple):
    """Keys that are still to be listed: those that begin with a prefix, behind some key."""

    prefix: str
    after: str = ""


class _Reading:
    """A range that is being listed.

    Attributes:
        range: Which.
        next_page: On its way, or here; None behind the last one.
    """

    next_page: "Future[Sequence[BucketObject] | None]"

    def __init__(
        self, range_: _Range, pages: Generator[Sequence[BucketObject], None, None], executor: Executor
    ) -> None:
        self.range = range_
        self._pages = pages
        self._executor = executor
        self.request()

    def request(self) -> None:
        """Ask for the next page."""
        self.next_page = self._executor.submit(next, self._pages, None)

    def close(self) -> None:
        """End it, wherever it is."""
        # A generator that runs in another thread cannot be closed: let its request end, as the operation does.
        if not self.next_page.cancel():
            self.next_page.exception()
        self._pages.close()


class _Run:
    """The state of one listing.

    Attributes:
        builder: What is kept, or may be.
        is_preliminary: Whether ignore files that were not known change what is.
        files: The text of the ignore files that were read, by the directory of their key.
        found: Ignore files that are not read yet, by directory.
        listed: Objects seen.
    """

    def __init__(self, client: BucketClient, scope: Scope, executor: Executor, operation: Operation) -> None:
        self.builder = IndexBuilder(unhashed=scope.unhashed)
        self.files: dict[str, str] = {}
        self.found: dict[str, BucketObject] = {}
        self.listed = 0
        self.is_preliminary = False
        self._etags: dict[str, str] = {}
        self._client = client
        self._scope = scope
        self._executor = executor
        self._operation = operation

    def read_known_ignore_files(self) -> None:
        directories = ["", self._scope.prefix.rpartition("/")[0], self._scope.strip.rstrip("/")]
        keys = [f"{directory}/{IGNORE_FILE}".removeprefix("/") for directory in dict.fromkeys(directories)]
        futures = [self._executor.submit(self._find, key) for key in keys]
        found = [result_of(future, self._operation, "list", url=self._scope.url) for future in futures]
        self._read([item for item in found if item is not None])

    def read_found_ignore_files(self) -> None:
        def depth(directory: str) -> int:
            return directory.count("/")

        # From the top down: what a file says decides whether git would ever look at those below it.
        for _, level in groupby(sorted(self.found, key=depth), depth):
            rules = self._scope.rules(self.files)
            self._read([self.found[d] for d in level if not any(map(rules.prunes, self._ancestors(f"{d}/")))])

    def reading(self, range_: _Range) -> _Reading:
        pages = self._client.pages(range_.prefix, after=range_.after)
        return _Reading(range_, pages, self._executor)

    def list(self, first: _Reading) -> None:
        rules = self._scope.rules(self.files)
        ranges = list(reversed(self._list_range(first, rules)))
        while ranges:
            with closing(self.reading(ranges.pop())) as reading:
                ranges += reversed(self._list_range(reading, rules))

    def check_totals(self, count: int, size: int, seen: str) -> None:
        """Hold what is kept against the limits."""
        seen = f"{seen}, {count:,} of {size:,} bytes to fetch"
        self._check("max_list_objects", self.listed, seen)
        self._check("max_entries", count, seen)
        self._check("max_content_bytes", size, seen)

    def _find(self, key: str) -> BucketObject | None:
        with closing(self._client.pages(key)) as pages:
            # The key itself is the first of all that begin with it, if their service sorts; on the first page anyway.
            return next((item for item in next(pages, ()) if item.key == key), None)

    def _read(self, items: Sequence[BucketObject]) -> None:
        limits = self._scope.limits
        limits.check("max_ignore_bytes", sum(item.size for item in items), what="the ignore files")
        futures = [self._executor.submit(self._client.read, item) if item.size else None for item in items]
        for item, future in zip(items, futures, strict=True):
            data = result_of(future, self._operation, "list", url=self._scope.url).data if future is not None else b""
            self.files[item.key.rpartition("/")[0]] = data.decode(errors="surrogateescape")
            self._etags[item.key] = item.etag

    def _list_range(self, reading: _Reading, rules: Rules) -> Sequence[_Range]:
        """List to the end, or to a directory that can be jumped over; what is left of it then, in order."""
        while (page := result_of(reading.next_page, self._operation, "list", url=self._scope.url)) is not None:
            self._collect_ignore_files(page)
            excluded = self._excluded_end(page, rules)
            if excluded is None:
                reading.request()
            self._judge(page, rules)
            if excluded is not None:
                return self._behind(excluded, reading.range)
        return ()

    def _collect_ignore_files(self, page: Sequence[BucketObject]) -> None:
        for item in [item for item in page if item.key.endswith(IGNORE_FILE)]:
            directory, _, name = item.key.rpartition("/")
            if item.key in self._etags:
                if self._etags[item.key] != item.etag:
                    raise SourceChangedError(f"{item.key} changed while the bucket was listed", url=self._scope.url)
            elif name == IGNORE_FILE and self._scope.dialect is Dialect.GITIGNORE:
                self.found[directory] = item

    def keeps(self, item: BucketObject, rules: Rules) -> bool:
        """Whether an object is kept; if it is, it may not be too large."""
        if not rules.keep(item):
            return False
        if item.size > self._scope.limits.max_file_bytes:
            self._scope.limits.check("max_file_bytes", item.size, what=f"the object {item.key!a}", path=item.key)
        return True

    def _judge(self, page: Sequence[BucketObject], rules: Rules) -> None:
        self.is_preliminary = self.is_preliminary or bool(self.found)
        self.builder.add(self._kept(page, rules))
        self.listed += len(page)
        self._operation.report("list", self.listed, unit="objects")
        seen = f"{self.listed:,} objects listed so far"
        if self.is_preliminary:  # what is still to be read could take something away: only the listing is bounded yet
            self._check("max_list_objects", self.listed, seen)
        else:
            self.check_totals(self.builder.count, self.builder.size, seen)

    def _kept(self, page: Sequence[BucketObject], rules: Rules) -> Sequence[BucketObject]:
        """What of a page is kept, or may be."""
        if rules.is_empty and max([item.size for item in page], default=0) <= self._scope.limits.max_file_bytes:
            return [item for item in page if item.size or not is_marker(item)]  # at once: most buckets have no rules
        last = page[-1].key if page else ""
        keep = rules.keep if self.is_preliminary else lambda item: self.keeps(item, rules)
        return [item for item in page if keep(item) or self._may_be_kept(item, last)]

    def _may_be_kept(self, item: BucketObject, last: str) -> bool:
        """Whether an object that the known rules exclude could be taken in again by a file that is not read yet."""
        if is_marker(item) or not any(self._is_open(directory, last) for directory in self._ancestors(item.key)):
            return False
        self.is_preliminary = True
        return True

    def _is_open(self, directory: str, last: str) -> bool:
        """Whether a directory has an ignore file that is not read yet, or, after this last key, may still show one.

        "a/-x/" is listed before "a/.sourceignore".
        """
        if self._scope.dialect is not Dialect.GITIGNORE or directory in self.files:
            return False
        return directory in self.found or last < f"{directory}/{IGNORE_FILE}"

    def _check(self, limit: str, actual: int, seen: str) -> None:
        allowed: int = getattr(self._scope.limits, limit)
        if actual > allowed:
            words = limit.removeprefix("max_").replace("_", " ")
            raise LimitExceededError(
                f"{self._scope.url}: {seen}; {words} are limited to {allowed:,}. Narrow it with prefix=, ignore= or a "
                f"{IGNORE_FILE} at the bucket's root",
                limit=limit,
                allowed=allowed,
                actual=actual,
            )

    def _excluded_end(self, page: Sequence[BucketObject], rules: Rules) -> str | None:
        """The directory in which the page ends, with its slash, if nothing of it can be kept and jumping over it pays."""
        can = self._client.jumps or isinstance(self._client, LevelLister)
        last = page[-1].key if page and can else ""
        for directory in self._ancestors(last):
            if rules.prunes(directory):
                # To look around costs some requests: not before a whole page was for nothing.
                pays = self._client.jumps or page[0].key.startswith(f"{directory}/")
                return f"{directory}/" if pays else None
            if self._is_open(directory, last):  # below it nothing is certain yet
                return None
        return None

    def _behind(self, excluded: str, range_: "_Range") -> Sequence["_Range"]:
        """What of a range lies behind a directory in it."""
        if self._client.jumps or not isinstance(self._client, LevelLister):
            return [_Range(range_.prefix, f"{excluded}{_LAST}")]
        levels = [range_.prefix, *(f"{d}/" for d in self._ancestors(excluded[:-1]) if len(d) >= len(range_.prefix))]
        # In the order of a listing: what is left of the innermost directory comes first.
        return [_Range(prefix) for level in reversed(levels) for prefix in self._prefixes_behind(excluded, level)]

    def _prefixes_behind(self, excluded: str, level: str) -> Sequence[str]:
        """Prefixes that have all the names of a level behind a directory in common, and no other name does.

        As few as there are characters in which the names leave the way to that directory: many names, few requests.
        """
        assert isinstance(self._client, LevelLister)
        found: set[str] = set()
        seen = self.listed
        with closing(self._client.names(level)) as pages:
            for page in pages:
                seen += len(page)
                self._check("max_list_objects", seen, f"{seen:,} names listed so far")
                self._operation.check("list", url=self._scope.url)
                behind = (name for name in page if name > excluded and not name.startswith(excluded))
                found.update(name[: _in_common(name, excluded) + 1] for name in behind)
        return sorted(found)

    def _ancestors(self, key: str) -> Iterable[str]:
        """The directories of a key below the stripped part, outermost first."""
        start = len(self._scope.strip)
        return (key[:place] for place in range(start + 1, len(key)) if key[place] == "/")


def _in_common(one: str, other: str) -> int:
    """Characters at their beginning in which two texts agree."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )

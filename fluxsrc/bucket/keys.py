r"""From keys to paths. A key is any text; a path is safe to write anywhere. This is where one becomes the other.

| key | what becomes of it |
|---|---|
| `a/` of no bytes | a directory marker: skipped, nothing is lost |
| `a/` with bytes, `../x`, `/x`, `a//b`, `./x`, `a\b`, control characters, too long, too deep | *unsafe*: an error, or skipped |
| `a/b` where `a` is an object too | *unsafe*: a file cannot be a directory as well |
| `A` and `a`, or one name in two Unicode normal forms | *ambiguous*: one file on macOS and Windows; an error, skipped, or kept |

What is skipped is reported. Of two that collide the first in byte order stays. Nothing is ever overwritten silently.
"""

import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Final, NamedTuple

from fluxsrc.bucket.protocol import BucketObject
from fluxsrc.entry import Skipped, check_path
from fluxsrc.errors import ContentError, UnsafeEntryError
from fluxsrc.limits import Limits
from fluxsrc.recipe import Choice

__all__ = ["AmbiguousKeys", "Screening", "UnsafeKeys", "is_marker", "screen"]

_PAGE: Final = 1000
_REASON_UNSAFE: Final = "unsafe-path"
_REASON_AMBIGUOUS: Final = "ambiguous-path"


class UnsafeKeys(Choice):
    """What becomes of keys that cannot be a path."""

    ERROR = "error"
    SKIP = "skip"


class AmbiguousKeys(Choice):
    """What becomes of keys that are different here, and the same file on systems that fold case or normal forms."""

    ERROR = "error"
    SKIP = "skip"
    KEEP = "keep"


class Screening(NamedTuple):
    """What was found when all keys were looked at.

    Attributes:
        dropped: The keys that become no entry.
        skipped: Why, for people and for the artifact's record; directory markers are not worth a word.
        files: How many keys do become one.
    """

    dropped: frozenset[str]
    skipped: tuple[Skipped, ...]
    files: int


def is_marker(item: BucketObject) -> bool:
    """Whether this is what consoles create for an empty "directory"."""
    return item.size == 0 and item.key.endswith("/")


def screen(
    objects: Callable[[], Iterable[BucketObject]],
    *,
    strip: str = "",
    unsafe: UnsafeKeys = UnsafeKeys.ERROR,
    ambiguous: AmbiguousKeys = AmbiguousKeys.ERROR,
    limits: Limits,
) -> Screening:
    """Look at every key before anything is downloaded.

    Args:
        objects: Gives them, sorted by key; called a second time if two names are ambiguous.
        strip: What stands at the front of each key and is not part of its path.
        unsafe: What to do with keys that cannot be a path.
        ambiguous: What to do with keys that some systems cannot tell apart.
        limits: `max_path_bytes` and `max_path_depth` of the paths.

    Raises:
        UnsafeEntryError: A key is unsafe or ambiguous, and that is an error.
        LimitExceededError: A path is too long or too deep, and that is an error.
    """
    skipped: dict[str, Skipped] = {}
    folds = array("q")
    count = 0
    tree = _Tree(limits)
    for page in _pages(objects(), strip):
        count += len(page)
        faults = tree.faults(page)
        if faults and unsafe is UnsafeKeys.ERROR:
            raise next(iter(faults.values()))
        skipped |= {path: Skipped(path, _REASON_UNSAFE, fault.message) for path, fault in faults.items()}
        folds.extend(map(hash, _folds([path for path in page if path not in faults] if faults else page)))
    if ambiguous is not AmbiguousKeys.KEEP and (twice := _repeated(folds)):
        for path, first in _colliding(objects(), strip, twice, skipped):
            detail = f"the same file as {first!r} on systems that fold case or normal forms"
            if ambiguous is AmbiguousKeys.ERROR:
                raise UnsafeEntryError(
                    f"{path} is {detail}",
                    path=path,
                    hint="rename or ignore one, or choose ambiguous_keys='skip' or 'keep'",
                )
            skipped[path] = Skipped(path, _REASON_AMBIGUOUS, detail)
    return Screening(frozenset(strip + path for path in skipped), tuple(skipped.values()), count - len(skipped))


def _pages(objects: Iterable[BucketObject], strip: str) -> Iterator[list[str]]:
    """The paths of all but markers, some at a time: so many that what is the same for all is done in C."""
    start, objects = len(strip), iter(objects)
    while page := list(islice(objects, _PAGE)):
        yield [item.key[start:] for item in page if item.size or not is_marker(item)]


class _Tree:
    """Looks for paths that cannot be, or cannot be together. They come in order."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # Files whose name the last path continues: "a" stays here while "a-b" and "a.c" pass, until "a/b" or "b" comes.
        self._open_names: list[str] = []

    def faults(self, page: Sequence[str]) -> dict[str, ContentError]:
        """What is wrong about the next paths, by path."""
        if not page or self._are_sound(page):
            return {}
        return {path: fault for path in page if (fault := self._fault(path)) is not None}

    def _are_sound(self, page: Sequence[str]) -> bool:
        """Whether nothing is wrong about any of them, as a look at all of them at once can tell."""
        text = f"/{'/'.join(page)}/"
        if not (text.isascii() and text.isprintable()) or any(part in text for part in ("\\", "//", "/./", "/../")):
            return False
        if max(map(len, page)) > self._limits.max_path_bytes:
            return False
        directories, files = {path.rpartition("/")[0] for path in page}, set(page)
        for directory in list(directories):
            if directory.count("/") + 2 > self._limits.max_path_depth:
                return False
            while (directory := directory.rpartition("/")[0]) and directory not in directories:
                directories.add(directory)
        if not (directories.isdisjoint(files) and directories.isdisjoint(self._open_names)):
            return False
        last = page[-1]
        self._open_names = [name for name in self._open_names if last.startswith(name)]
        self._open_names += [name for end in range(1, len(last) + 1) if (name := last[:end]) in files]
        return True

    def _fault(self, path: str) -> ContentError | None:
        names = self._open_names
        while names and not path.startswith(names[-1]):
            names.pop()
        try:
            check_path(path, limits=self._limits)
        except ContentError as exc:
            exc.hint = exc.hint or "rename or ignore the object, or choose unsafe_keys='skip'"
            return exc
        above = next((name for name in names if path[len(name)] == "/"), None)
        if above is None:
            names.append(path)
            return None
        return UnsafeEntryError(
            f"{above} is an object, so {path} cannot be a file below it",
            path=path,
            hint="rename or ignore one of them, or choose unsafe_keys='skip'",
        )


def _folds(paths: Sequence[str]) -> Iterable[str]:
    """What each path is on a system that folds case and normal forms. None has a line break: they are sound."""
    joined = "\n".join(paths)
    if joined.isascii():
        return joined.lower().split("\n") if paths else ()
    return map(_fold, paths)


def _fold(path: str) -> str:
    if path.isascii():
        return path.lower()
    # Folding can leave a normal form, so it takes both, twice.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _repeated(folds: "array[int]") -> frozenset[int]:
    """The hashes that occur more than once; sorting eight bytes each is what keeps a million names small."""
    ordered = sorted(folds)
    return frozenset(one for one, other in pairwise(ordered) if one == other)


def _colliding(
    objects: Iterable[BucketObject], strip: str, twice: frozenset[int], skipped: dict[str, Skipped]
) -> Iterator[tuple[str, str]]:
    """Each path that folds to the same name as an earlier one, with that one. Hashes that are equal by chance drop out."""
    first: dict[str, str] = {}
    for item in objects:
        path = item.key[len(strip) :]
        if is_marker(item) or path in skipped:
            continue
        fold = _fold(path)
        if hash(fold) in twice:
            earlier = first.setdefault(fold, path)
            if earlier is not path:
                yield path, earlier

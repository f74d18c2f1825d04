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
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Final

import attrs

from fluxsrc.bucket.protocol import BucketObject
from fluxsrc.entry import Skipped, check_path
from fluxsrc.errors import ContentError, UnsafeEntryError
from fluxsrc.limits import Limits
from fluxsrc.recipe import Choice

__all__ = ["AmbiguousKeys", "Screening", "UnsafeKeys", "is_marker", "screen"]

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


@attrs.frozen
class Screening:
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
    for path, fault in _checked(objects(), strip, limits):
        count += 1
        if fault is None:
            folds.append(hash(_fold(path)))
        elif unsafe is UnsafeKeys.ERROR:
            raise fault
        else:
            skipped[path] = Skipped(path, _REASON_UNSAFE, fault.message)
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


def _checked(objects: Iterable[BucketObject], strip: str, limits: Limits) -> Iterator[tuple[str, ContentError | None]]:
    """Each path, with what is wrong about it."""
    # Files whose name the current key continues: "a" stays here while "a-b" and "a.c" pass, until "a/b" or "b" comes.
    open_names: list[str] = []
    for item in objects:
        if is_marker(item):
            continue
        path = item.key[len(strip) :]
        while open_names and not path.startswith(open_names[-1]):
            open_names.pop()
        try:
            check_path(path, limits=limits)
        except ContentError as exc:
            exc.hint = exc.hint or "rename or ignore the object, or choose unsafe_keys='skip'"
            yield path, exc
            continue
        above = next((name for name in open_names if path[len(name)] == "/"), None)
        if above is None:
            open_names.append(path)
            yield path, None
        else:
            yield (
                path,
                UnsafeEntryError(
                    f"{above} is an object, so {path} cannot be a file below it",
                    path=path,
                    hint="rename or ignore one of them, or choose unsafe_keys='skip'",
                ),
            )


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

"""`Recipe`: everything, besides the revision, that decides what an artifact holds."""

import enum
import json
from functools import lru_cache
from typing import Final, NoReturn

import attrs

from fluxsrc._written import as_written
from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError

__all__ = ["FORMAT_VERSION", "Choice", "Compression", "Dialect", "Recipe", "SymlinkPolicy"]

FORMAT_VERSION: Final = 1
"""The version of the canonical tar; a change of its bytes is a change of this number."""


class Choice(enum.StrEnum):
    """One word out of a few, such as an option of a source takes; any other word is the caller's mistake."""

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        raise ConfigurationError(f"{str(value)[:40]!r} is no {cls.__name__}", hint=f"choose one of {', '.join(cls)}")


class Dialect(Choice):
    """Whose ignore rules: git's own verdicts, or Flux's."""

    GITIGNORE = "gitignore"
    FLUX = "flux"


class Compression(Choice):
    """How the stored archive is compressed."""

    GZIP = "gzip"
    ZSTD = "zstd"
    NONE = "none"

    @property
    def suffix(self) -> str:
        """The ending of the layer's media type: "+gzip", "+zstd" or nothing."""
        return "" if self is Compression.NONE else f"+{self.value}"


class SymlinkPolicy(Choice):
    """What becomes of symbolic links.

    ERROR refuses the source; SKIP leaves the link out and reports it; KEEP packs it as a link if it stays inside the tree
    (others are errors); DEREFERENCE packs the file it points at if that is inside the tree (others are errors).
    """

    ERROR = "error"
    SKIP = "skip"
    KEEP = "keep"
    DEREFERENCE = "dereference"


@attrs.frozen(kw_only=True, repr=False)
class Recipe:
    """What a source does to a revision. Equal recipes of one revision make equal artifacts.

    Attributes:
        ignore: Rules in gitignore syntax, of highest priority, or None.
        dialect: Whose verdicts decide.
        path: The sub-tree that becomes the artifact's root; "" is the whole tree.
        symlinks: What becomes of symbolic links.
        compression: How the stored archive is compressed.
        default_ignores: Whether the dialect's default exclusions apply, if it has some; in a bucket they never do.
        options: What only one backend knows (sparse paths, layer selector, …), as sorted pairs of text.
    """

    ignore: str | None = None
    dialect: Dialect = attrs.field(default=Dialect.GITIGNORE, converter=Dialect)
    path: str = ""
    symlinks: SymlinkPolicy = attrs.field(default=SymlinkPolicy.SKIP, converter=SymlinkPolicy)
    compression: Compression = attrs.field(default=Compression.GZIP, converter=Compression)
    default_ignores: bool = True
    options: tuple[tuple[str, str], ...] = ()

    __repr__ = as_written

    def __attrs_post_init__(self) -> None:
        if list(self.options) != sorted(set(self.options)):
            raise ConfigurationError("Recipe.options must be sorted and without repeats")

    @property
    def digest(self) -> Digest:
        """The recipe's name in the store: sha256 of its canonical JSON, format version included."""
        return _digest(self)


@lru_cache(maxsize=256)  # asked for at each look at a source; a process has few recipes
def _digest(recipe: Recipe) -> Digest:
    fields = attrs.asdict(recipe) | {"format": FORMAT_VERSION}
    return Digest.of(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode())

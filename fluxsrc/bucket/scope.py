"""What of a bucket is looked at, and the rules that decide what of it is kept."""

import attrs

from fluxsrc.bucket.keys import is_marker
from fluxsrc.bucket.protocol import BucketObject
from fluxsrc.ignore import IGNORE_FILE, IgnoreRules
from fluxsrc.limits import Limits
from fluxsrc.recipe import Dialect

__all__ = ["Rules", "Scope"]


@attrs.frozen(eq=False, repr=False)
class Rules:
    """Rules in the artifact's tree, and those of ignore files above it, which can only take away."""

    _strip: int
    _inside: IgnoreRules
    _outside: IgnoreRules | None

    @property
    def is_empty(self) -> bool:
        """Whether there is no rule at all, so that everything but markers is kept."""
        return self._inside.is_empty and (self._outside is None or self._outside.is_empty)

    def keep(self, item: BucketObject) -> bool:
        """Whether an object becomes a file of the artifact."""
        key = item.key
        if is_marker(item) or self._inside.excluded(key[self._strip :]):
            return False
        return self._outside is None or not self._outside.excluded(key)

    def prunes(self, directory: str) -> bool:
        """Whether nothing below a directory of keys (below the stripped part, without its slash) can be kept."""
        if self._inside.excluded_dir(directory[self._strip :]):
            return True
        return self._outside is not None and self._outside.excluded_dir(directory)


@attrs.frozen(kw_only=True)
class Scope:
    """What of a bucket is looked at.

    Attributes:
        prefix: Of the keys that are listed.
        strip: What of the keys is no part of the paths: "" or a directory with its slash.
        dialect: Whose verdicts decide.
        ignore: Rules of highest priority, anchored at the artifact's root, or None.
        limits: How much is too much.
        url: For messages.
    """

    prefix: str
    strip: str
    dialect: Dialect
    ignore: str | None
    limits: Limits
    url: str

    @property
    def unhashed(self) -> frozenset[str]:
        """Keys that are no part of the revision: Flux leaves its ignore file out."""
        return frozenset({IGNORE_FILE}) if self.dialect is Dialect.FLUX else frozenset()

    def inside(self, files: dict[str, str]) -> dict[str, str]:
        """The ignore files of the artifact's tree, by their directory in it."""
        strip = self.strip
        return {f"{d}/"[len(strip) : -1]: t for d, t in files.items() if not strip or f"{d}/".startswith(strip)}

    def rules(self, files: dict[str, str]) -> Rules:
        """The rules of some ignore files, given by the directory of their key."""
        outside = {d: t for d, t in files.items() if self.strip and not f"{d}/".startswith(self.strip)}
        return Rules(
            len(self.strip),
            IgnoreRules(self.dialect, self.inside(files), self.ignore, defaults=(), limits=self.limits),
            IgnoreRules(self.dialect, outside, defaults=(), limits=self.limits) if outside else None,
        )

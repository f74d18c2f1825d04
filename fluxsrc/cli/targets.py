"""What `push`, `diff` and `cat` are about: a source, or an artifact that a store holds already."""

import re
from pathlib import Path
from typing import Final

from fluxsrc.cli.options import local_store
from fluxsrc.cli.remotes import SourceMaker
from fluxsrc.digest import Digest
from fluxsrc.errors import ArtifactNotFoundError, ConfigurationError
from fluxsrc.inspect import Stored
from fluxsrc.source import Source

__all__ = ["is_stored", "stored", "target"]

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def is_stored(text: str) -> bool:
    """Whether this means an artifact of the store, and no URL: it is a digest."""
    return _DIGEST.fullmatch(text) is not None


def target(text: str, store: Path | None, make_source: SourceMaker, *, beside: tuple[str, ...] = ()) -> Source | Stored:
    """What this names.

    Args:
        text: A URL or path; or, with a store, the digest of an artifact there.
        store: The store's directory.
        make_source: Makes the source.
        beside: The other URLs of the command.
    """
    if is_stored(text):
        make_source.refuse_policy(text)
        return stored(text, store)
    return make_source(text, beside=tuple(other for other in beside if not is_stored(other)))


def stored(text: str, store: Path | None) -> Stored:
    """The artifact with this digest: of its content, its bytes, its manifest, or of the revision it was made from.

    Raises:
        ConfigurationError: Which store?
        ArtifactNotFoundError: It does not hold it.
    """
    if store is None:
        raise ConfigurationError(f"{text} is in which store?", hint="give --store DIR, or set FLUXSRC_STORE")
    place, digest = local_store(store), Digest.parse(text)
    try:
        return Stored(place.find(digest), place)
    except ArtifactNotFoundError:
        for key in place.sources():
            for artifact in place.history(key):
                if artifact.revision.digest == digest:
                    return Stored(artifact, place)
        raise

"""`Artifact`: a revision's tree, packed, digested and stored. `SourceKey`: the source's name in a store."""

import datetime as dt
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs

from fluxsrc._html.cards import card, code, fold, note, properties, table, vouched
from fluxsrc._html.markup import Child, join
from fluxsrc._units import moment, plural, size
from fluxsrc._written import as_written
from fluxsrc.digest import Digest
from fluxsrc.entry import Skipped
from fluxsrc.errors import ConfigurationError
from fluxsrc.revision import Revision

__all__ = [
    "ANNOTATION_CREATED",
    "ANNOTATION_REVISION",
    "ANNOTATION_SOURCE",
    "ANNOTATION_SOURCE_KEY",
    "CONFIG_MEDIA_TYPE",
    "LAYER_MEDIA_TYPE",
    "Artifact",
    "SourceKey",
]

ANNOTATION_CREATED: Final = "org.opencontainers.image.created"
ANNOTATION_REVISION: Final = "org.opencontainers.image.revision"
ANNOTATION_SOURCE: Final = "org.opencontainers.image.source"
ANNOTATION_SOURCE_KEY: Final = "dev.fluxsrc.source"
"""In a store's `index.json`: whose line it is. Lines without it belong to somebody else."""
CONFIG_MEDIA_TYPE: Final = "application/vnd.cncf.flux.config.v1+json"
LAYER_MEDIA_TYPE: Final = "application/vnd.cncf.flux.content.v1.tar"
"""Of the uncompressed layer; compressed ones append `+gzip` or `+zstd`."""

_MAX_SHOWN: Final = 200
"""Skipped paths that a notebook shows; there may be a million."""
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?")


def _dns_name(_: object, attribute: "attrs.Attribute[str]", value: str) -> None:
    if not _NAME.fullmatch(value) or ".." in value:
        raise ConfigurationError(
            f"{attribute.name} {value[:80]!r} is not a name",
            hint="lower-case letters, digits, '-', '_' and '.', 253 at most, a letter or digit at both ends",
        )


@attrs.frozen(order=True, cache_hash=True)
class SourceKey:
    """A source's name in a store, `<kind>/<namespace>/<name>`, as Flux names its objects.

    >>> str(SourceKey.parse("gitrepository/default/podinfo"))
    'gitrepository/default/podinfo'
    """

    kind: str = attrs.field(validator=_dns_name)
    namespace: str = attrs.field(validator=_dns_name)
    name: str = attrs.field(validator=_dns_name)

    @classmethod
    def parse(cls, text: str) -> "SourceKey":
        """Read `kind/namespace/name`.

        Raises:
            ConfigurationError: There are not three parts, or one is not a name.
        """
        parts = text.split("/")
        if len(parts) != 3:  # noqa: PLR2004 - the three parts of the docstring
            raise ConfigurationError(f"not a source key: {text[:80]!r}", hint="write KIND/NAMESPACE/NAME")
        return cls(*parts)

    def __repr__(self) -> str:
        return f"SourceKey.parse({str(self)!r})"

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


def _frozen_mapping(value: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(sorted(value.items())))


@attrs.frozen(kw_only=True, repr=False)
class Artifact:
    """One revision of one source as a store holds it.

    Attributes:
        key: Whose artifact this is.
        url: Where it came from, redacted.
        revision: What it was made from.
        content_digest: sha256 of the canonical tar: the identity. Equal trees, equal digest, everywhere.
        digest: sha256 of the stored bytes: what a consumer downloads and checks.
        size: Stored bytes.
        content_size: Bytes of the tar.
        files: Entries in the tar.
        media_type: Of the stored bytes.
        manifest: Digest of the OCI manifest that describes it, or None before it is stored.
        recipe: Digest of the `Recipe` it was made with.
        tree_id: A name of the whole tree that the source knows without reading it (a Git tree's oid), or None.
        created: The revision's own time (a commit's), or None; never the clock's.
        observed: When this store first saw this revision, by its clock.
        annotations: Provenance and other facts the source gave; part of the manifest.
        skipped: What of the source is not in the artifact, and why.
        verification: Who vouched for it, as text pairs; empty where no policy asked.
    """

    key: SourceKey
    url: str
    revision: Revision
    content_digest: Digest
    digest: Digest
    size: int
    content_size: int
    files: int
    media_type: str
    recipe: Digest
    manifest: Digest | None = None
    tree_id: str | None = None
    created: dt.datetime | None = None
    observed: dt.datetime | None = None
    annotations: Mapping[str, str] = attrs.field(factory=dict, converter=_frozen_mapping, hash=False)
    skipped: tuple[Skipped, ...] = ()
    verification: tuple[tuple[str, str], ...] = ()

    __repr__ = as_written

    @property
    def origin(self) -> str:
        """What it was made from before it was published, as its publisher says (text, not verified); "" if nobody does."""
        said = self.annotations.get(ANNOTATION_REVISION, "")
        return "" if said == str(self.revision) else said

    def _repr_html_(self) -> str:
        """What notebooks show; everything in it that came from the source is escaped."""
        unpacked = f"{plural(self.files, 'file')}, {size(self.content_size)}; stored {size(self.size)}"
        facts: list[tuple[str, Child]] = [
            ("revision", code(str(self.revision))),
            ("from", self.url),
            ("content", code(str(self.content_digest))),
            ("stored as", code(str(self.digest))),
            ("manifest", None if self.manifest is None else code(str(self.manifest))),
            ("holds", unpacked),
            ("created", None if self.created is None else moment(self.created)),
            ("observed", None if self.observed is None else moment(self.observed)),
            *((name, value) for name, value in self.verification),
        ]
        skipped = [(each.path, each.reason, each.detail) for each in self.skipped[:_MAX_SHOWN]]
        more = len(self.skipped) - len(skipped)
        return card(
            join(str(self.key), vouched(self.verification)),
            properties(facts),
            fold(plural(len(self.annotations), "annotation"), properties(self.annotations.items()))
            if self.annotations
            else None,
            fold(
                f"{plural(len(self.skipped), 'path')} of the source not in it",
                table(("path", "why", "detail"), skipped),
                note(f"{more:,} more not shown") if more else None,
            )
            if self.skipped
            else None,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy does not pickle; a plain dict does.
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        return _rebuild, (fields | {"annotations": dict(self.annotations)},)


def _rebuild(fields: dict[str, Any]) -> Artifact:
    return Artifact(**fields)

"""`Limits`: how much is too much. Everything a remote or an archive declares is held against one of these."""

from typing import Final

import attrs

from fluxsrc._written import as_written
from fluxsrc.errors import ConfigurationError, LimitExceededError

__all__ = ["DEFAULT_LIMITS", "Limits"]

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB
_GIB: Final = 1024 * _MIB


def _positive(_: object, attribute: "attrs.Attribute[int]", value: int) -> None:
    if value <= 0:
        raise ConfigurationError(f"Limits.{attribute.name} must be positive, not {value}")


@attrs.frozen(kw_only=True, repr=False)
class Limits:
    """Finite by default; raise a limit by name where the content is meant to be larger.

    Attributes:
        max_entries: Files in one snapshot or archive.
        max_file_bytes: Bytes of one file.
        max_content_bytes: Bytes of a whole snapshot or unpacked archive.
        max_archive_bytes: Bytes of one compressed archive, layer, pack or blob.
        max_ratio: Unpacked bytes per compressed byte, counted beyond the first 16 MiB.
        max_path_bytes: UTF-8 bytes of one path.
        max_path_depth: Components of one path.
        max_manifest_bytes: Bytes of one manifest or other document held in memory.
        max_refs: References a Git server may advertise, tags a registry may list.
        max_list_objects: Objects a bucket listing may hold.
        max_redirects: HTTP redirects followed in one request.
        max_layers: Layers of one OCI manifest.
        max_index_depth: Levels of OCI indexes within an index.
        max_manifests: Manifests that an OCI index may lead to, and indexes within it.
        max_referrers: Referrers (signatures, attestations) that a registry may list for one manifest.
        max_signatures: Signatures of one manifest that are looked at.
        max_signature_bytes: Bytes of one signature, bundle or signed statement.
        max_ignore_bytes: Characters of all ignore files of one tree together.
        max_ignore_line_bytes: Characters of one line of an ignore file.
        max_ignore_rules: Rules in all ignore files of one tree together.
    """

    max_entries: int = attrs.field(default=1_000_000, validator=_positive)
    max_file_bytes: int = attrs.field(default=4 * _GIB, validator=_positive)
    max_content_bytes: int = attrs.field(default=16 * _GIB, validator=_positive)
    max_archive_bytes: int = attrs.field(default=8 * _GIB, validator=_positive)
    max_ratio: int = attrs.field(default=200, validator=_positive)
    max_path_bytes: int = attrs.field(default=4 * _KIB, validator=_positive)
    max_path_depth: int = attrs.field(default=256, validator=_positive)
    max_manifest_bytes: int = attrs.field(default=4 * _MIB, validator=_positive)
    max_refs: int = attrs.field(default=500_000, validator=_positive)
    max_list_objects: int = attrs.field(default=1_000_000, validator=_positive)
    max_redirects: int = attrs.field(default=5, validator=_positive)
    max_layers: int = attrs.field(default=1000, validator=_positive)
    max_index_depth: int = attrs.field(default=4, validator=_positive)
    max_manifests: int = attrs.field(default=2000, validator=_positive)
    max_referrers: int = attrs.field(default=2000, validator=_positive)
    max_signatures: int = attrs.field(default=64, validator=_positive)
    max_signature_bytes: int = attrs.field(default=_MIB, validator=_positive)
    max_ignore_bytes: int = attrs.field(default=_MIB, validator=_positive)
    max_ignore_line_bytes: int = attrs.field(default=256 * _KIB, validator=_positive)
    max_ignore_rules: int = attrs.field(default=10_000, validator=_positive)

    __repr__ = as_written

    def check(self, limit: str, actual: int, *, what: str, path: str | None = None) -> None:
        """Hold a number against the limit of this name.

        Args:
            limit: The attribute's name, such as "max_entries".
            actual: What was counted or declared.
            what: What has that number, for the message: "the archive", "the layer sha256:…".
            path: The entry at fault, where there is one.

        Raises:
            LimitExceededError: `actual` is above the limit.
        """
        allowed: int = getattr(self, limit)
        if actual > allowed:
            words = limit.removeprefix("max_").replace("_", " ")
            raise LimitExceededError(
                f"{what}: {actual:,} {words}, more than the {allowed:,} allowed",
                limit=limit,
                allowed=allowed,
                actual=actual,
                path=path,
            )


DEFAULT_LIMITS: Final = Limits()

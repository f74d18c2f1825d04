"""`source_from_url`: from one line of text to a source of the right kind.

The backends are named here and imported when a URL asks for one: whoever reads a directory does not load Git, and
whoever follows a tag in a registry loads no cloud.
"""

import os
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import attrs

from fluxsrc.address import Address, flag
from fluxsrc.auth import redact_url
from fluxsrc.errors import ConfigurationError
from fluxsrc.source import Source

__all__ = ["address_of", "source_from_url", "source_options"]

_OF_GIT: Final = (
    *("branch", "tag", "semver", "tag_pattern", "commit", "ref"),
    *("submodules", "sparse", "lfs", "lfs_url"),
)
_SCP: Final = re.compile(r"[^@/:?#\s]+@(\[[0-9A-Fa-f:.]+\]|[^/:@?#\s\[\]]+):(?!//).")
"""`USER@HOST:PATH`, as scp and git know it. Without a user it would be a scheme, or the name of a drive."""


def source_from_url(text: str, /, **options: Any) -> Source:
    """The source that a URL or a path names.

    | URL | source |
    |---|---|
    | `git+file://PATH`, `git+https://…`, `git+http://…`, `git+ssh://…`, `git://…`, `USER@HOST:PATH` | `GitSource`; `?branch=`, `tag=`, `semver=` (with `tag_pattern=`), `commit=` or `ref=`; `submodules=true`, `sparse=PATH,…`, `lfs=`, `lfs_url=` |
    | `oci://HOST/REPOSITORY[:TAG][@DIGEST]`, `oci-layout:PATH[:NAME][@DIGEST]` | `OCISource`; `?semver=` (with `filter=`), `layer=`, `operation=`, `platform=` |
    | `s3://BUCKET/PREFIX` | `BucketSource`; `?endpoint=`, `region=`, `addressing=`, `profile=`, `anonymous=`, `strip_prefix=` |
    | `gs://BUCKET/PREFIX` | `BucketSource`; `?endpoint=`, `anonymous=`, `strip_prefix=` |
    | `az://CONTAINER/PREFIX` | `BucketSource`; `?account=`, `endpoint=`, `anonymous=`, `strip_prefix=` |
    | `bucket+file:///DIRECTORY` | `BucketSource`; `?prefix=`, `etags=`, `strip_prefix=` |
    | `file://PATH`, a plain path | `DirectorySource` |

    `#path=SUB/TREE` makes a sub-tree the whole, for all of them. Plain HTTP to a registry is no option of a URL: it takes
    `insecure=True`. The `url` of a source says what its URL said: from there the same source can be made again.

    >>> source_from_url("git+https://example.com/team/repo.git?tag=v1.2.0#path=deploy/prod").kind
    'gitrepository'
    >>> source_from_url("oci://ghcr.io/team/manifests?semver=1.x").url
    'oci://ghcr.io/team/manifests?semver=1.x'

    Args:
        text: The URL; credentials do not belong in it.
        options: Arguments of the source's class that no URL holds: `ignore`, `keychain`, `limits`, …

    Raises:
        ConfigurationError: The text is malformed, the scheme unknown, or an option not one of this kind, or given twice.
    """
    address = address_of(text)
    kind = _kind(address)
    if address.path and "path" in options:
        raise _twice("path")
    unknown = sorted(set(options) - kind.options)
    if unknown:
        raise ConfigurationError(
            f"{address.scheme} sources have no option {unknown[0]!r}", hint=f"known: {', '.join(sorted(kind.options))}"
        )
    return kind.make(kind.source, address, {"path": address.path} | options)


def source_options(text: str, /) -> frozenset[str]:
    """The names of the options that `source_from_url` takes with this URL.

    >>> "keychain" in source_options("oci://ghcr.io/team/manifests"), "keychain" in source_options("deploy")
    (True, False)

    Raises:
        ConfigurationError: The text is malformed, or the scheme unknown.
    """
    return _kind(address_of(text)).options


def _git(cls: Callable[..., Source], address: Address, options: dict[str, Any]) -> Source:
    given: dict[str, Any] = address.take(*_OF_GIT)
    if "submodules" in given:
        given["submodules"] = flag(given["submodules"], "submodules")
    if "sparse" in given:
        given["sparse"] = [unquote(path) for path in given["sparse"].split(",")]
    # What scp's form has behind the scheme that was put in front of it is no URL, but git knows it.
    scp = address.scheme == "git+ssh" and _SCP.match(address.location)
    return cls(address.location if scp else f"{address.scheme}:{address.location}", **_both(options, given))


def _oci(cls: Callable[..., Source], address: Address, options: dict[str, Any]) -> Source:
    given = address.take("semver", "filter", "layer", "operation", "platform")
    renamed = {"filter": "semver_filter", "operation": "layer_operation"}
    given = {renamed.get(name, name): value for name, value in given.items()}
    return cls(f"{address.scheme}:{address.location}", **_both(options, given))


def _both(options: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options from beside the URL, and from within it."""
    for name in given:
        if name in options:
            raise _twice(name)
    return {**options, **given}


def _twice(name: str) -> ConfigurationError:
    return ConfigurationError(f"{name} is given twice, in the URL and beside it", hint="leave out one of them")


def _bucket(cls: Any, address: Address, options: dict[str, Any]) -> Source:
    source: Source = cls.from_address(address, options)
    return source


def _directory(cls: Callable[..., Source], address: Address, options: dict[str, Any]) -> Source:
    address.take()
    return cls(address.location, **options)


class _Kind(NamedTuple):
    """How to make a source.

    Attributes:
        module: Below this package.
        classes: There: the source's class, and that of what it is of; their arguments are the options.
        make: Gives the class an address.
    """

    module: str
    classes: tuple[str, ...]
    make: Callable[[Any, Address, dict[str, Any]], Source]

    @property
    def source(self) -> Any:
        """The source's class."""
        return self._load()[0]

    @property
    def options(self) -> frozenset[str]:
        """What may be said beside a URL."""
        fields = (field for cls in self._load() for field in attrs.fields(cls) if field.init and field.kw_only)
        return frozenset(field.name for field in fields if not field.name.startswith("_"))

    def _load(self) -> list[Any]:
        module = import_module(f"{__package__}.{self.module}")
        return [getattr(module, name) for name in self.classes]


_GIT: Final = _Kind("git", ("GitSource",), _git)
_OCI: Final = _Kind("oci", ("OCISource",), _oci)
_KINDS: Final[Mapping[str, _Kind]] = {
    "git": _GIT,
    "git+file": _GIT,
    "git+http": _GIT,
    "git+https": _GIT,
    "git+ssh": _GIT,
    "oci": _OCI,
    "oci-layout": _OCI,
    "s3": _Kind("bucket", ("BucketSource", "S3Bucket"), _bucket),
    "gs": _Kind("bucket", ("BucketSource", "GCSBucket"), _bucket),
    "az": _Kind("bucket", ("BucketSource", "AzureBucket"), _bucket),
    "bucket+file": _Kind("bucket", ("BucketSource", "LocalBucket"), _bucket),
    "file": _Kind("directory", ("DirectorySource",), _directory),
}


def address_of(text: str, /) -> Address:
    """A URL or path taken apart, scp's form of Git's addresses included.

    >>> address_of("git@example.com:team/app.git").scheme
    'git+ssh'

    Raises:
        ConfigurationError: It is malformed.
    """
    return Address.parse(f"git+ssh:{text}" if _SCP.match(text) and not os.path.exists(text) else text)


def _kind(address: Address) -> _Kind:
    kind = _KINDS.get(address.scheme)
    if kind is None:
        hint = f"known: {', '.join(_KINDS)}"
        if f"git+{address.scheme}" in _KINDS:
            url = f"git+{address.scheme}:{address.location}"
            # The user of SSH belongs to the address; whatever else stands before the host may be a password.
            shown = (
                url if address.scheme == "ssh" and ":" not in address.location.rpartition("@")[0] else redact_url(url)
            )
            hint = f"for a Git repository write {shown}"
        raise ConfigurationError(f"no source has the scheme {address.scheme!r}", hint=hint)
    return kind

"""`source_from_url`: from one line of text to a source of the right kind."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from fluxsrc.address import Address
from fluxsrc.directory import DirectorySource
from fluxsrc.errors import ConfigurationError
from fluxsrc.git import GitSource
from fluxsrc.oci import OCISource
from fluxsrc.source import Source

__all__ = ["source_from_url"]


def source_from_url(text: str, /, **options: Any) -> Source:
    """The source that a URL or a path names.

    | URL | source |
    |---|---|
    | `git+file://PATH`, `git+https://…`, `git+http://…`, `git+ssh://…`, `git://…` | `GitSource`; `?branch=`, `tag=`, `semver=`, `commit=` or `ref=` |
    | `oci://HOST/REPOSITORY[:TAG][@DIGEST]`, `oci-layout:PATH[:NAME]` | `OCISource`; `?semver=` with `filter=`, `layer=`, `operation=`, `platform=` |
    | `file://PATH`, a plain path | `DirectorySource` |

    `#path=SUB/TREE` makes a sub-tree the whole, for all of them.

    >>> source_from_url("git+https://example.com/team/repo.git?tag=v1.2.0#path=deploy/prod").kind
    'gitrepository'

    Args:
        text: The URL; credentials do not belong in it.
        options: Arguments of the source's class that no URL holds: `ignore`, `keychain`, `limits`, …

    Raises:
        ConfigurationError: The text is malformed, the scheme unknown, or an option not one of this kind.
    """
    address = Address.parse(text)
    make = _MAKERS.get(address.scheme)
    if make is None:
        raise ConfigurationError(f"no source has the scheme {address.scheme!r}", hint=f"known: {', '.join(_MAKERS)}")
    return make(address, {"path": address.path, **options})


def _git(address: Address, options: dict[str, Any]) -> Source:
    options |= address.take("branch", "tag", "semver", "commit", "ref")
    return GitSource(f"{address.scheme}:{address.location}", **options)


def _oci(address: Address, options: dict[str, Any]) -> Source:
    chosen = address.take("semver", "filter", "layer", "operation", "platform")
    renamed = {"filter": "semver_filter", "operation": "layer_operation"}
    options |= {renamed.get(name, name): value for name, value in chosen.items()}
    return OCISource(f"{address.scheme}:{address.location}", **options)


def _directory(address: Address, options: dict[str, Any]) -> Source:
    address.take()
    return DirectorySource(address.location, **options)


_MAKERS: Final[Mapping[str, Callable[[Address, dict[str, Any]], Source]]] = {
    "file": _directory,
    "git": _git,
    "git+file": _git,
    "git+http": _git,
    "git+https": _git,
    "git+ssh": _git,
    "oci": _oci,
    "oci-layout": _oci,
}

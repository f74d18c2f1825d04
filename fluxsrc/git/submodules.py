"""Submodules: which repository a link of a tree means, and whether we may go there. Text in, values out.

`.gitmodules` comes with the content, so whoever can commit can write it. Hence: only schemes that are at least as good as
the parent's, no files by name, credentials only by origin, and no link without an entry is passed over.
"""

import posixpath
from collections.abc import Mapping
from typing import Final

import attrs

from fluxsrc.errors import ConfigurationError, ContentError
from fluxsrc.git.address import GitAddress
from fluxsrc.git.config import parse_config

__all__ = ["MAX_DEPTH", "parse_modules", "submodule_address"]

MAX_DEPTH: Final = 10
"""Submodules within submodules."""
_ALLOWED: Final[Mapping[str, frozenset[str]]] = {
    "file": frozenset({"https", "ssh"}),
    "https": frozenset({"https", "ssh"}),
    "ssh": frozenset({"https", "ssh"}),
    "http": frozenset({"http", "https", "ssh"}),
    "git": frozenset({"git", "https", "ssh"}),
}
"""The schemes that an absolute URL may have, by the parent's: never files (CVE-2022-39253). Relative ones stay as they are."""


def parse_modules(data: bytes) -> dict[str, str]:
    r"""The URL of each submodule by its path, as `.gitmodules` gives it.

    >>> parse_modules(b'[submodule "lib"]\n\tpath = vendor/lib\n\turl = ../lib.git\n')
    {'vendor/lib': '../lib.git'}
    """
    found = {}
    for (section, _), values in parse_config(data).items():
        if section == "submodule" and "path" in values and "url" in values:
            found[values["path"].strip("/")] = values["url"]
    return found


def submodule_address(parent: GitAddress, path: str, url: str | None) -> GitAddress:
    """Where the submodule at a path is.

    >>> parent = GitAddress.parse("https://example.com/team/app.git")
    >>> submodule_address(parent, "lib", "../lib.git").url
    'git+https://example.com/team/lib.git'

    Args:
        parent: The address of the repository it is in.
        path: Where in the tree.
        url: What `.gitmodules` says, None if nothing.

    Raises:
        ContentError: It says nothing, or what is no address, or one that is not allowed.
    """
    if not url:
        raise ContentError(f"{path} is a submodule, but .gitmodules has no URL for it", path=path)
    try:
        if url.startswith(("./", "../")):
            return attrs.evolve(parent, path=_relative(parent.path, url))
        if "://" in url or ("@" in url and ":" in url):
            address = GitAddress.parse(url)
        else:
            raise ContentError(f"the submodule {path} has the URL {url[:200]!a}, which is a path", path=path)
    except ConfigurationError as exc:
        raise ContentError(f"the URL of the submodule {path} is no address: {exc}", path=path) from exc
    if address.scheme not in _ALLOWED[parent.scheme]:
        raise ContentError(
            f"the submodule {path} is at {address.url}, and a repository at {parent.scheme} may not send us there",
            path=path,
        )
    return address


def _relative(parent: str, url: str) -> str:
    """A relative URL, from the parent's path as from a directory, as git does."""
    rooted = parent.startswith("/")
    joined = posixpath.normpath(posixpath.join(parent.rstrip("/"), url))
    if joined.startswith("..") or joined in ("/", "."):
        raise ConfigurationError(f"{url[:200]!a} leads above the host's root")
    return joined if joined.startswith("/") or not rooted else f"/{joined}"

"""`Reference`: the grammar of `oci://HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]` and of `oci-layout:PATH[:NAME][@DIGEST]`."""

import os
import re
from typing import Final

import attrs

from fluxsrc.auth import redact_url
from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError

__all__ = ["LayoutReference", "Reference", "check_name", "is_tag", "parse_digest", "parse_reference"]

_HOST: Final = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*\.?|\[[0-9a-fA-F:.]+\])"
    r"(?::[0-9]{1,5})?"
)
_REPOSITORY: Final = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LAYOUT_NAME: Final = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@+/]|--)[A-Za-z0-9]+)*")
"""Of `org.opencontainers.image.ref.name`, by OCI's image specification."""
_READABLE_NAME: Final = re.compile(r"[A-Za-z0-9]+(?:[-._:@+/]+[A-Za-z0-9]+)*")
"""What other tools may have written there."""
_LIKE_DIGEST: Final = re.compile(r"sha(?:256|512):.*|.*@sha[^@]*")
_MAX_REPOSITORY: Final = 255
_MAX_PORT: Final = 65535
_DOCKER_HUB: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


def is_tag(text: str) -> bool:
    """Whether this can be a tag."""
    return _TAG.fullmatch(text) is not None


def check_name(reference: "Reference | LayoutReference", name: str) -> str:
    """A name to be given where the reference points: a tag in a registry; in a layout a tag, or what OCI's grammar of reference names has.

    Raises:
        ConfigurationError: It cannot be one there.
    """
    if is_tag(name):
        return name
    if isinstance(reference, Reference):
        raise ConfigurationError(
            f"not a tag: {name[:130]!r}", hint="letters, digits, '_', '.' and '-', not first; 128 at most"
        )
    if not _LAYOUT_NAME.fullmatch(name) or _LIKE_DIGEST.fullmatch(name):
        raise ConfigurationError(
            f"not a name for something in an image layout: {name[:130]!r}",
            hint="a tag, or letters and digits with one of - . _ : @ + / between them; nothing like a digest",
        )
    return name


@attrs.frozen
class Reference:
    """A repository in a registry, and what in it.

    >>> reference = Reference.parse("oci://ghcr.io/team/app:v1.2.0")
    >>> reference.host, reference.repository, reference.tag
    ('ghcr.io', 'team/app', 'v1.2.0')

    Attributes:
        host: The registry's host, with its port if one was written; lower-case.
        repository: The repository's name there.
        tag: The tag, or None.
        digest: The digest, or None. It decides; the tag beside it is for people.
    """

    host: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read the text form; `parse(str(r)) == r`.

        Raises:
            ConfigurationError: It does not fit the grammar; the message says where.
        """
        scheme, separator, rest = text.partition("://")
        if not separator or scheme.lower() != "oci":
            raise _malformed(text, "it does not begin with oci://")
        host, slash, rest = rest.partition("/")
        if "@" in host:
            raise _malformed(text, "user name and password do not belong into it; give a keychain")
        _, colon, port = host.rpartition(":")
        if not _HOST.fullmatch(host) or (colon and port.isdigit() and int(port) > _MAX_PORT):
            raise _malformed(text, "its host is none")
        if not slash or not rest:
            raise _malformed(text, "it names no repository")
        rest, at, digest = rest.partition("@")
        repository, colon, tag = rest.partition(":")
        if not _REPOSITORY.fullmatch(repository) or len(repository) > _MAX_REPOSITORY:
            raise _malformed(text, "the repository's name is not one: lower-case letters, digits, '.', '_', '-', '/'")
        if colon and not is_tag(tag):
            raise _malformed(text, "the tag is not one: letters, digits, '_', '.', '-', 128 at most")
        return cls(host.lower(), repository, tag if colon else None, parse_digest(digest) if at else None)

    @property
    def api_host(self) -> str:
        """Where the registry's API is: Docker Hub's is not where its name says."""
        return "registry-1.docker.io" if self.host in _DOCKER_HUB else self.host

    @property
    def api_repository(self) -> str:
        """The repository as the API knows it: Docker Hub's official images live below `library/`."""
        return (
            f"library/{self.repository}" if self.host in _DOCKER_HUB and "/" not in self.repository else self.repository
        )

    @property
    def name(self) -> str:
        """`oci://HOST/REPOSITORY`, without tag and digest."""
        return f"oci://{self.host}/{self.repository}"

    def __str__(self) -> str:
        return self.name + _suffix(self.tag, self.digest)


@attrs.frozen
class LayoutReference:
    """An OCI image layout on disk, and what in it.

    >>> LayoutReference.parse("oci-layout:/media/usb/images:app:v1").tag
    'app:v1'

    Attributes:
        path: The directory. A colon in it would read as the beginning of the name, `?` and `#` as that of a URL's options.
        tag: The `org.opencontainers.image.ref.name` in its index, or None.
        digest: The digest, or None. It decides.
    """

    path: str = attrs.field(validator=lambda _self, _field, value: _check_directory(value))
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> "LayoutReference":
        """Read the text form; `parse(str(r)) == r`.

        Raises:
            ConfigurationError: It does not fit the grammar.
        """
        scheme, colon, rest = text.partition(":")
        if not colon or scheme.lower() != "oci-layout":
            raise _malformed(text, "it does not begin with oci-layout:")
        head, at, digest = rest.rpartition("@")
        if not at or not digest.startswith("sha"):  # an @ of the path or the name
            head, at, digest = rest, "", ""
        path, colon, tag = head.removeprefix("//").partition(":")
        if not path:
            raise _malformed(text, "it names no directory")
        if colon and not (is_tag(tag) or _READABLE_NAME.fullmatch(tag)):
            raise _malformed(text, "what follows the directory is not a reference name")
        return cls(os.path.normpath(path), tag if colon else None, parse_digest(digest) if at else None)

    @property
    def name(self) -> str:
        """`oci-layout:PATH`, without tag and digest."""
        return f"oci-layout:{self.path}"

    def __str__(self) -> str:
        return self.name + _suffix(self.tag, self.digest)


def parse_digest(text: str) -> Digest:
    """A digest by which things are named in registries.

    Raises:
        ConfigurationError: It is none, or by another algorithm.
    """
    digest = Digest.parse(text)
    if digest.algorithm not in ("sha256", "sha512"):
        raise ConfigurationError(f"{digest.algorithm} is no digest algorithm of OCI", hint="sha256 or sha512")
    return digest


def parse_reference(text: str) -> Reference | LayoutReference:
    """A reference of either kind.

    Raises:
        ConfigurationError: It does not fit its grammar.
    """
    return LayoutReference.parse(text) if text.lower().startswith("oci-layout:") else Reference.parse(text)


def _check_directory(path: str) -> None:
    if any(character in path for character in ":?#\0"):
        raise ConfigurationError(
            f"not the directory of an image layout: {path[:200]!r}", hint="':', '?', '#' and NUL cannot be in its path"
        )


def _suffix(tag: str | None, digest: Digest | None) -> str:
    return (f":{tag}" if tag is not None else "") + (f"@{digest}" if digest is not None else "")


def _malformed(text: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"not an OCI reference, {why}: {redact_url(text[:200])}", hint="oci://HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]"
    )

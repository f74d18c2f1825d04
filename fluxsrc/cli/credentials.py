"""`--auth`: which credentials a command may use. None is used that was not named."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from fluxsrc._units import why
from fluxsrc.auth import BasicAuth, Keychain, Origin, Proxy, StaticKeychain
from fluxsrc.errors import ConfigurationError
from fluxsrc.keychains import (
    AzureDevOps,
    AzureRegistry,
    ChainKeychain,
    DockerConfig,
    ElasticContainerRegistry,
    GitCredentialHelper,
    GoogleRegistry,
    NetrcKeychain,
    keychain_from_env,
)
from fluxsrc.urls import address_of

__all__ = ["METHODS", "keychain_for", "origin_of", "proxy_for"]


def _environment(origins: Sequence[str], prefix: str) -> Keychain:
    if len(origins) > 1:
        # One of the two would be shown the other's password.
        raise ConfigurationError(
            f"the environment has one login, and these are two hosts: {', '.join(origins)}",
            hint="use --auth docker, --auth netrc or --auth git:HELPER, which know hosts apart",
        )
    return keychain_from_env(origins[0], prefix=prefix or "FLUXSRC") if origins else StaticKeychain(())


def _netrc(_: Sequence[str], file: str) -> Keychain:
    return NetrcKeychain(Path(file)) if file else NetrcKeychain.from_env()


def _git(_: Sequence[str], name: str) -> Keychain:
    if not name:
        raise ConfigurationError("which credential helper?", hint="such as --auth git:store or --auth git:libsecret")
    return GitCredentialHelper(name)


def _docker(_: Sequence[str], file: str) -> Keychain:
    if not file:
        return DockerConfig.from_env()
    try:
        os.stat(file)
    except OSError as exc:
        raise ConfigurationError(
            f"cannot read {file}: {why(exc)}", hint="the file of `docker login` was asked for by name"
        ) from exc
    return DockerConfig(path=file)


def _cloud(cls: Callable[[], Keychain]) -> Callable[[Sequence[str], str], Keychain]:
    def make(_: Sequence[str], argument: str) -> Keychain:
        if argument:
            raise ConfigurationError(f"this way to authenticate takes no argument: {argument!r}")
        return cls()

    return make


METHODS: Final[Mapping[str, Callable[[Sequence[str], str], Keychain]]] = {
    "env": _environment,
    "netrc": _netrc,
    "git": _git,
    "docker": _docker,
    "ecr": _cloud(ElasticContainerRegistry),
    "google": _cloud(GoogleRegistry),
    "azure": _cloud(lambda: ChainKeychain.of(AzureRegistry(), AzureDevOps())),
}
"""How to make each keychain of the hosts that are asked and of what stands behind the colon."""


def keychain_for(url: str, methods: Sequence[str], *, beside: Sequence[str] = (), insecure: bool = False) -> Keychain:
    """The keychain that asks these, in this order.

    Args:
        url: The source's, or a reference.
        methods: `NAME` or `NAME:ARGUMENT` each.
        beside: What else the command reaches.
        insecure: Whether registries are asked by plain HTTP.

    Raises:
        ConfigurationError: A method is unknown or not complete, or cannot tell the hosts apart.
    """
    origins = list(dict.fromkeys(filter(None, (origin_of(text, insecure=insecure) for text in (url, *beside)))))
    keychains = []
    for method in methods:
        name, _, argument = method.partition(":")
        if name not in METHODS:
            raise ConfigurationError(f"no way to authenticate is called {name!r}", hint=f"known: {', '.join(METHODS)}")
        keychains.append(METHODS[name](origins, argument))
    return ChainKeychain.of(*keychains)


def proxy_for(url: str, method: str | None) -> Proxy:
    """A proxy, with the user name and password that a method finds for it.

    Raises:
        ConfigurationError: They are in the URL, where everybody sees them, or the method finds none.
    """
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ConfigurationError(
            "a command line is no place for a proxy's password: others can read it",
            hint="--proxy-auth env:PROXY takes PROXY_USERNAME and PROXY_PASSWORD of the environment",
        )
    if method is None:
        return Proxy(url=url)
    found = keychain_for(url, (method,)).credentials(Origin.of(url))
    if not isinstance(found, BasicAuth):
        raise ConfigurationError(f"{method} knows no user name and password for the proxy {url}")
    return Proxy(url=url, username=found.username, password=found.password)


def origin_of(text: str, *, insecure: bool) -> str | None:
    """`SCHEME://HOST[:PORT]` as who asks for credentials writes it, None of what is on this machine."""
    address = address_of(text)
    # git+https://host means https://host; a registry is asked by https, unless plain HTTP was asked for.
    scheme = address.scheme.removeprefix("git+").replace("oci", "http" if insecure else "https")
    if address.location.startswith("//"):
        host = address.location.removeprefix("//").partition("/")[0].rpartition("@")[2]
    elif scp := re.match(r"[^@/]+@(\[[^\]]*\]|[^:/]+):", address.location):
        host = scp[1]
    else:
        return None
    return f"{scheme}://{host.lower()}" if host else None

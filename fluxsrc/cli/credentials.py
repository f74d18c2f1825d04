"""`--auth`: which credentials a command may use. None is used that was not named."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from fluxsrc.address import Address
from fluxsrc.auth import Keychain
from fluxsrc.errors import ConfigurationError
from fluxsrc.keychains import ChainKeychain, GitCredentialHelper, NetrcKeychain, keychain_from_env

__all__ = ["METHODS", "keychain_for"]


def _environment(url: str, prefix: str) -> Keychain:
    address = Address.parse(url)
    # git+https://host means https://host to whoever asks for credentials; a registry is asked by https.
    scheme = address.scheme.removeprefix("git+").replace("oci", "https")
    return keychain_from_env(f"{scheme}:{address.location}", prefix=prefix or "FLUXSRC")


def _netrc(_: str, file: str) -> Keychain:
    return NetrcKeychain(Path(file)) if file else NetrcKeychain.from_env()


def _git(_: str, name: str) -> Keychain:
    if not name:
        raise ConfigurationError("which credential helper?", hint="such as --auth git:store or --auth git:libsecret")
    return GitCredentialHelper(name)


METHODS: Final[Mapping[str, Callable[[str, str], Keychain]]] = {"env": _environment, "netrc": _netrc, "git": _git}
"""How to make each keychain of the URL and of what stands behind the colon."""


def keychain_for(url: str, methods: Sequence[str]) -> Keychain | None:
    """The keychain that asks these, in this order; None of none.

    Args:
        url: The source's.
        methods: `NAME` or `NAME:ARGUMENT` each.

    Raises:
        ConfigurationError: A method is unknown or not complete, or the source is one that takes no credentials.
    """
    if methods and Address.parse(url).scheme == "file":
        raise ConfigurationError("a directory takes no credentials", hint="leave --auth out")
    keychains = []
    for method in methods:
        name, _, argument = method.partition(":")
        if name not in METHODS:
            raise ConfigurationError(f"no way to authenticate is called {name!r}", hint=f"known: {', '.join(METHODS)}")
        keychains.append(METHODS[name](url, argument))
    return ChainKeychain.of(*keychains) if keychains else None

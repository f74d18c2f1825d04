"""`ChainKeychain`: several keychains, asked in order; `keychain_from_env`: credentials from named variables."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from fluxsrc.auth import (
    BasicAuth,
    BearerToken,
    Credentials,
    Keychain,
    Origin,
    RepositoryKeychain,
    SSHKey,
    StaticKeychain,
    redact_url,
)
from fluxsrc.errors import ConfigurationError
from fluxsrc.operation import Operation

__all__ = ["ChainKeychain", "keychain_from_env"]


@attrs.frozen
class ChainKeychain:
    """The first answer of several keychains; an `Anonymous` is an answer and ends the search.

    An error ends it too: a keychain that could not be asked is not one that knew nothing.

    >>> here = StaticKeychain.for_url("https://a.example", BearerToken("t"))
    >>> ChainKeychain.of(StaticKeychain(()), here).credentials(Origin.of("https://a.example"))
    BearerToken(token=Secret('**********'), identity=None)
    """

    keychains: tuple[Keychain, ...]

    @classmethod
    def of(cls, *keychains: Keychain) -> "ChainKeychain":
        """Of these, in this order."""
        return cls(keychains)

    def credentials(self, origin: Origin, /, *, operation: Operation | None = None) -> Credentials | None:
        """The first answer that is not None."""
        return self.repository_credentials(origin, "", operation=operation)

    def repository_credentials(
        self, origin: Origin, repository: str, /, *, operation: Operation | None = None
    ) -> Credentials | None:
        """The first answer that is not None, of those that tell repositories apart for this one."""
        for keychain in self.keychains:
            if isinstance(keychain, RepositoryKeychain):
                found = keychain.repository_credentials(origin, repository, operation=operation)
            else:
                found = keychain.credentials(origin, operation=operation)
            if found is not None:
                return found
        return None


def keychain_from_env(url: str, *, prefix: str = "FLUXSRC", environ: Mapping[str, str] | None = None) -> StaticKeychain:
    """Credentials from the environment for the origin of one URL; read now, once.

    `PREFIX_TOKEN`; or `PREFIX_USERNAME` and `PREFIX_PASSWORD`; or `PREFIX_SSH_IDENTITY` and `PREFIX_SSH_KNOWN_HOSTS`, and
    `PREFIX_SSH_PASSPHRASE` for an encrypted identity. With none of them the keychain knows nothing.

    Args:
        url: Its origin is the only one that gets them.
        prefix: What the names begin with.
        environ: Where to look; the process's environment, if it is not given.

    Raises:
        ConfigurationError: The variables are of more than one kind, or one of a pair is missing.
    """
    environ = os.environ if environ is None else environ

    def get(name: str) -> str | None:
        return environ.get(f"{prefix}_{name}") or None

    found: list[Credentials] = []
    token, username, password = get("TOKEN"), get("USERNAME"), get("PASSWORD")
    identity, known_hosts = get("SSH_IDENTITY"), get("SSH_KNOWN_HOSTS")
    if token:
        found.append(BearerToken(token))
    if username and password:
        found.append(BasicAuth(username, password))
    elif username or password:
        raise ConfigurationError(f"{prefix}_USERNAME and {prefix}_PASSWORD go together: set both or neither")
    if identity and known_hosts:
        found.append(SSHKey(identity=identity, known_hosts=known_hosts, passphrase=get("SSH_PASSPHRASE")))
    elif identity or known_hosts:
        raise ConfigurationError(f"{prefix}_SSH_IDENTITY and {prefix}_SSH_KNOWN_HOSTS go together: set both or neither")
    if len(found) > 1:
        raise ConfigurationError(f"{prefix}_…: credentials of more than one kind for {redact_url(url)}")
    return StaticKeychain.for_url(url, found[0]) if found else StaticKeychain(())


if TYPE_CHECKING:
    _: Keychain = ChainKeychain(())

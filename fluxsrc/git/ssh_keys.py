"""Keys for asyncssh: ours, opened in memory, and those that a host may prove itself with."""

from contextlib import suppress
from typing import TYPE_CHECKING

from fluxsrc.auth import Credentials, SSHKey
from fluxsrc.errors import AuthenticationError, ConfigurationError, MissingExtraError
from fluxsrc.git.address import GitAddress
from fluxsrc.git.known_hosts import HostKeys, PublicKey

if TYPE_CHECKING:
    import asyncssh

    TrustedKeys = tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey]]

__all__ = ["importable", "private_key", "require_asyncssh", "ssh_key"]


def ssh_key(address: GitAddress, credentials: Credentials | None) -> SSHKey:
    """The credentials, if they are what SSH takes.

    Raises:
        AuthenticationError: There are none.
        ConfigurationError: They are for something else.
    """
    if isinstance(credentials, SSHKey):
        return credentials
    hint = "give an SSHKey(identity=..., known_hosts=...) for this host"
    if credentials is None:
        raise AuthenticationError(f"{address.url}: no SSH key is given", url=address.url, hint=hint)
    raise ConfigurationError(f"{address.url}: SSH logs in by key, not by {type(credentials).__name__}", hint=hint)


def require_asyncssh() -> None:
    """Raise `MissingExtraError` unless asyncssh is there."""
    try:
        import asyncssh  # noqa: F401, PLC0415 - an extra, and slow to import
    except ImportError as exc:
        raise MissingExtraError("Git over SSH", extra="ssh") from exc


def private_key(key: SSHKey, url: str) -> "asyncssh.SSHKey":
    """The private key, opened. The library's own errors are not chained: they may quote what they read.

    Raises:
        AuthenticationError: It is encrypted, and the passphrase is missing or wrong.
        ConfigurationError: It is no key.
    """
    import asyncssh  # noqa: PLC0415 - an extra

    passphrase = key.passphrase.reveal() if key.passphrase else None
    with suppress(asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        return asyncssh.import_private_key(key.identity.reveal(), passphrase)
    if not _is_encrypted(key.identity.reveal()):
        raise ConfigurationError(
            f"{url}: the SSH key cannot be read", hint="identity is the text of a private key, PEM or OpenSSH"
        )
    if passphrase is None:
        raise AuthenticationError(
            f"{url}: the SSH key is encrypted and no passphrase is given", url=url, hint="SSHKey(passphrase=...)"
        )
    raise AuthenticationError(f"{url}: the passphrase does not open the SSH key", url=url)


def _is_encrypted(identity: str) -> bool:
    import asyncssh  # noqa: PLC0415 - an extra

    try:
        asyncssh.import_private_key(identity)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as exc:
        return "passphrase" in str(exc).lower()
    return False


def importable(known: HostKeys, url: str) -> "TrustedKeys":
    """The keys as asyncssh's, without the kinds it does not know: a server cannot prove itself with those."""
    import asyncssh  # noqa: PLC0415 - an extra

    def convert(keys: tuple[PublicKey, ...]) -> list[asyncssh.SSHKey]:
        converted = []
        for key in keys:
            try:
                converted.append(asyncssh.import_public_key(key.text))
            except asyncssh.KeyImportError:
                continue
        return converted

    found = (convert(known.trusted), convert(known.authorities), convert(known.revoked))
    if not found[0] and not found[1]:
        kinds = ", ".join(sorted({key.algorithm for key in (*known.trusted, *known.authorities)}))
        raise ConfigurationError(
            f"{url}: known_hosts has only keys of kinds that are not supported: {kinds}",
            hint="add the host's ssh-ed25519 key",
        )
    return found

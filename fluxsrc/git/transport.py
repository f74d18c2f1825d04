"""From an address to a conversation with its server, by whatever the scheme says."""

from typing import TYPE_CHECKING, NamedTuple

from fluxsrc._lazy import later
from fluxsrc.auth import BasicAuth, Credentials, Keychain, Proxy, StaticKeychain, TLSConfig
from fluxsrc.errors import ConfigurationError
from fluxsrc.git.address import GitAddress
from fluxsrc.git.protocol import Advertisement
from fluxsrc.git.upload_pack import Connection, UploadPack
from fluxsrc.limits import Limits
from fluxsrc.operation import Operation

if TYPE_CHECKING:
    from fluxsrc.git import transport_daemon, transport_http, transport_ssh
else:  # whoever speaks HTTP needs no SSH, and the other way round
    transport_daemon, transport_http, transport_ssh = (
        later(f"fluxsrc.git.transport_{name}") for name in ("daemon", "http", "ssh")
    )

__all__ = ["Access", "converse"]


class Access(NamedTuple):
    """How a remote is reached.

    Attributes:
        address: Where it is.
        keychain: Asked for credentials, per operation.
        tls: How HTTPS servers prove who they are, and how we do.
        proxy: For HTTP and SSH.
        limits: How much is too much.
    """

    address: GitAddress
    keychain: Keychain | None
    tls: TLSConfig
    proxy: Proxy | None
    limits: Limits

    def credentials(self, operation: Operation) -> Credentials | None:
        """The credentials for the address itself: the keychain's, or those written into it."""
        keychain = self.effective_keychain
        return None if keychain is None else keychain.credentials(self.address.origin, operation=operation)

    @property
    def effective_keychain(self) -> Keychain | None:
        """The keychain; without one, what the address says about its own origin."""
        address = self.address
        if self.keychain is not None or address.password is None:
            return self.keychain
        credentials = BasicAuth(address.username or "", address.password)
        return StaticKeychain(((address.origin, credentials),))


def converse(access: Access, operation: Operation, server: Advertisement | None = None) -> UploadPack:
    """Begin a conversation; close it.

    Args:
        access: How the remote is reached.
        operation: Its deadline holds for all of the conversation.
        server: What is known of the server already, of one that is asked over HTTP.

    Raises:
        SourceError: The server cannot be reached.
    """
    operation.check("connect", url=access.address.url)
    connection = _connect(access, operation)
    return UploadPack(connection, access.limits, server if connection.stateless else None)


def _connect(access: Access, operation: Operation) -> Connection:
    address = access.address
    match address.scheme:
        case "http" | "https":
            return transport_http.HTTPConnection.open(
                address,
                keychain=access.effective_keychain,
                tls=access.tls,
                proxy=access.proxy,
                limits=access.limits,
                operation=operation,
            )
        case "ssh":
            stream = transport_ssh.open_upload_pack(
                address, access.credentials(operation), operation=operation, proxy=access.proxy
            )
            return transport_daemon.DuplexConnection(address.url, stream)
        case "git":
            if access.proxy is not None:
                raise ConfigurationError(f"{address.url}: git:// does not go through proxies")
            return transport_daemon.open_daemon(address, operation=operation)
        case _:
            raise ConfigurationError(f"{address.url} is not a remote repository")

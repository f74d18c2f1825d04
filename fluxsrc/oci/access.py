"""`Access`: how registries are reached, and `open_repository`, which reaches one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from fluxsrc._io.http import HTTPClient
from fluxsrc._lazy import later
from fluxsrc.auth import Credentials, Keychain, Origin, Proxy, RepositoryKeychain, TLSConfig
from fluxsrc.limits import DEFAULT_LIMITS, Limits
from fluxsrc.oci.reference import LayoutReference, Reference
from fluxsrc.oci.registry import RegistryRepository
from fluxsrc.oci.repository import Repository
from fluxsrc.oci.session import Session
from fluxsrc.oci.tokens import Authorizer, TokenCache
from fluxsrc.operation import Operation

if TYPE_CHECKING:
    from fluxsrc.oci import layout
else:
    layout = later("fluxsrc.oci.layout")

__all__ = ["Access", "open_repository"]


@attrs.frozen(kw_only=True)
class Access:
    """How registries are reached; the same for all the library's OCI functions.

    Attributes:
        keychain: Answers which credentials to use; without one, we are anonymous.
        tls: How registries prove who they are, and how we do.
        proxy: For all connections.
        insecure: Plain HTTP. Never tried unless it is said, not even for localhost.
        limits: How much is too much.
        tokens: Where bearer tokens are kept until they expire; share it to log in less often.
    """

    keychain: Keychain | None = None
    tls: TLSConfig = attrs.field(factory=TLSConfig)
    proxy: Proxy | None = None
    insecure: bool = False
    limits: Limits = DEFAULT_LIMITS
    tokens: TokenCache = attrs.field(factory=TokenCache, eq=False, repr=False)

    def credentials(self, reference: Reference, operation: Operation) -> Credentials | None:
        """What the keychain knows for a registry, by the name it is written with or by that of its API."""
        if self.keychain is None:
            return None
        for host in dict.fromkeys((reference.host, reference.api_host)):
            origin = Origin.of(f"{self.scheme}://{host}")
            if isinstance(self.keychain, RepositoryKeychain):
                found = self.keychain.repository_credentials(origin, reference.repository, operation=operation)
            else:
                found = self.keychain.credentials(origin, operation=operation)
            if found is not None:
                return found
        return None

    @property
    def scheme(self) -> str:
        """https, unless insecurity was asked for."""
        return "http" if self.insecure else "https"


@contextmanager
def open_repository(
    reference: Reference | LayoutReference, access: Access, operation: Operation
) -> Iterator[Repository]:
    """A repository, open until the context closes.

    Raises:
        FluxSrcError: The keychain could not answer.
    """
    if isinstance(reference, LayoutReference):
        yield layout.LayoutRepository(os.path.abspath(reference.path), access.limits, operation)
        return
    base = f"{access.scheme}://{reference.api_host}/v2/"
    with HTTPClient(tls=access.tls, proxy=access.proxy, limits=access.limits) as http:
        credentials = access.credentials(reference, operation)
        authorizer = Authorizer(http, Origin.of(base), credentials, access.tokens, operation)
        yield RegistryRepository(Session(http, authorizer, reference, base, access.limits, operation))

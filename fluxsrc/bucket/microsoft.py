"""How requests to Azure Blob Storage are authorised: an account key, a SAS token, or an access token of Entra ID."""

import base64
import binascii
import datetime as dt
import email.utils
import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, unquote

import attrs

from fluxsrc._io.waiting import within
from fluxsrc.auth import Anonymous, BearerToken, Proxy, Secret
from fluxsrc.errors import AuthenticationError, ConfigurationError, FluxSrcError, MissingExtraError, TransportError
from fluxsrc.operation import Operation

__all__ = [
    "AzureAccountKey",
    "AzureClientCertificate",
    "AzureClientSecret",
    "AzureCredentials",
    "AzureDefaultCredential",
    "AzureManagedIdentity",
    "AzureSAS",
    "TokenFinder",
    "http_date",
    "sas_query",
    "shared_key",
    "token_finder",
]

_SCOPE: Final = "https://storage.azure.com/.default"
_EARLY: Final = 300.0
"""Seconds before its end that a token is replaced."""


def _secret(value: str | Secret) -> Secret:
    return Secret(value) if isinstance(value, str) else value


@attrs.frozen
class AzureAccountKey:
    """A key of the storage account, base64."""

    key: Secret = attrs.field(converter=_secret)


@attrs.frozen
class AzureSAS:
    """A shared access signature: the query string that grants access, with or without its "?"."""

    token: Secret = attrs.field(converter=_secret)


@attrs.frozen
class AzureDefaultCredential:
    """What azure-identity finds: the environment, workload identity, managed identity, the developer's tools."""


@attrs.frozen
class AzureManagedIdentity:
    """The identity of the machine, or a user-assigned one by its client id."""

    client_id: str | None = None


@attrs.frozen(kw_only=True)
class AzureClientSecret:
    """A service principal.

    Attributes:
        tenant_id: Its directory.
        client_id: Its name there.
        client_secret: Its secret.
        authority_host: Another cloud's login service.
    """

    tenant_id: str
    client_id: str
    client_secret: Secret = attrs.field(converter=_secret)
    authority_host: str | None = None


@attrs.frozen(kw_only=True)
class AzureClientCertificate:
    """A service principal with a certificate.

    Attributes:
        tenant_id: Its directory.
        client_id: Its name there.
        certificate: The certificate and its private RSA key, PEM.
        password: Opens an encrypted key.
        send_chain: Send the certificate's chain as well, as authentication by subject name and issuer needs it.
        authority_host: Another cloud's login service.
    """

    tenant_id: str
    client_id: str
    certificate: Secret = attrs.field(converter=_secret)
    password: Secret | None = attrs.field(default=None, converter=attrs.converters.optional(_secret))
    send_chain: bool = False
    authority_host: str | None = None


AzureCredentials = (
    Anonymous
    | AzureAccountKey
    | AzureSAS
    | BearerToken
    | AzureDefaultCredential
    | AzureManagedIdentity
    | AzureClientSecret
    | AzureClientCertificate
)

_Found = AzureDefaultCredential | AzureManagedIdentity | AzureClientSecret | AzureClientCertificate
"""Those that azure-identity has to make a token of."""

TokenFinder = Callable[[Operation], Secret]
"""Gives the access token of now, under an operation."""


def shared_key(
    account: str, key: AzureAccountKey, path: str, query: Sequence[tuple[str, str]], headers: Mapping[str, str]
) -> Secret:
    """The Authorization of a GET: Shared Key for Blob Storage.

    Args:
        account: The storage account.
        key: Its key.
        path: Of the URL, encoded.
        query: Names and values, not encoded.
        headers: All that begin with "x-ms-", and If-Match.

    Raises:
        ConfigurationError: The key is not base64.
    """
    fields = {name.lower(): value for name, value in headers.items()}
    plain = ["", "", "", "", "", "", "", fields.get("if-match", ""), "", "", ""]
    canonical = [f"{name}:{fields[name]}" for name in sorted(fields) if name.startswith("x-ms-")]
    resource = [f"/{account}{path}", *(f"{name.lower()}:{value}" for name, value in sorted(query))]
    text = "\n".join(["GET", *plain, *canonical, *resource])
    try:
        raw = base64.b64decode(key.key.reveal(), validate=True)
    except (binascii.Error, ValueError):
        raw = None  # its text is not chained
    if raw is None:
        raise ConfigurationError("the account key is not base64")
    return Secret(f"SharedKey {account}:{base64.b64encode(hmac.digest(raw, text.encode(), hashlib.sha256)).decode()}")


def sas_query(token: AzureSAS) -> str:
    """A SAS token as the end of a query, encoded once, however it was given."""
    pairs = [pair.partition("=") for pair in token.token.reveal().lstrip("?").split("&") if pair]
    return "&".join(f"{quote(name)}={quote(unquote(value), safe='')}" for name, _, value in pairs)


def http_date(now: dt.datetime) -> str:
    """A time as `x-ms-date` has it."""
    return email.utils.format_datetime(now, usegmt=True)


def token_finder(credentials: _Found, *, url: str, proxy: Proxy | None) -> TokenFinder:
    """How to find the token. Thread-safe; keeps what it found until it is about to expire.

    Raises:
        ConfigurationError: There is no certificate with a key in what was given as one.
        MissingExtraError: azure-identity is needed, and not installed.
    """
    credential = _credential(credentials, proxy)
    lock = threading.Lock()
    kept: list[tuple[Secret, float]] = []

    def is_fresh() -> bool:
        return bool(kept) and kept[0][1] - _EARLY >= time.time()

    def ask() -> Secret:
        with lock:
            if not is_fresh():
                kept[:] = [_get_token(credential, url)]
            return kept[0][0]

    def find(operation: Operation) -> Secret:
        return kept[0][0] if is_fresh() else within(ask, operation, "authenticate", url=url)

    return find


def _credential(credentials: _Found, proxy: Proxy | None) -> Any:
    try:
        import azure.identity as theirs  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError:
        raise MissingExtraError("finding Azure credentials", extra="azure") from None
    options: dict[str, Any] = {"proxies": {"http": proxy.url, "https": proxy.url}} if proxy is not None else {}
    if isinstance(credentials, AzureManagedIdentity):
        return theirs.ManagedIdentityCredential(client_id=credentials.client_id, **options)
    if isinstance(credentials, AzureClientSecret | AzureClientCertificate) and credentials.authority_host is not None:
        options["authority"] = credentials.authority_host
    if isinstance(credentials, AzureClientCertificate):
        return _certified(theirs, credentials, options)
    if isinstance(credentials, AzureClientSecret):
        return theirs.ClientSecretCredential(
            credentials.tenant_id, credentials.client_id, credentials.client_secret.reveal(), **options
        )
    return theirs.DefaultAzureCredential(**options)


def _certified(theirs: Any, credentials: AzureClientCertificate, options: dict[str, Any]) -> Any:
    password = None if credentials.password is None else credentials.password.reveal()
    try:
        return theirs.CertificateCredential(
            credentials.tenant_id,
            credentials.client_id,
            certificate_data=credentials.certificate.reveal().encode(),
            password=password,
            send_certificate_chain=credentials.send_chain,
            **options,
        )
    except (ValueError, TypeError):
        pass  # what it says may quote what it read
    raise ConfigurationError(
        f"the certificate of the client {credentials.client_id} cannot be used",
        hint="PEM, with the certificate and its RSA key; an encrypted key needs its password",
    )


def _get_token(credential: Any, url: str) -> tuple[Secret, float]:
    import azure.core.exceptions as theirs  # noqa: PLC0415 - it is loaded, or there would be no credential

    failure: FluxSrcError
    # What azure-identity says can quote an answer of the login service: it is cut off.
    try:
        token = credential.get_token(_SCOPE)
        return Secret(token.token), float(token.expires_on)
    except theirs.ClientAuthenticationError as exc:
        failure = AuthenticationError(f"no Azure credentials are found for {url}: {type(exc).__name__}", url=url)
    except theirs.AzureError as exc:
        failure = TransportError(f"the token service for {url} cannot be reached: {type(exc).__name__}", url=url)
    raise failure

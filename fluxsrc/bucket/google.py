"""How Google's access tokens are found: given, from a service account, or the application default credentials."""

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from fluxsrc._io.http import HTTPClient
from fluxsrc._io.waiting import alone, within
from fluxsrc.auth import Anonymous, BearerToken, Proxy, Secret, TLSConfig
from fluxsrc.errors import (
    AuthenticationError,
    ConfigurationError,
    FluxSrcError,
    MissingExtraError,
    SourceError,
    TransportError,
)
from fluxsrc.operation import Operation

__all__ = ["GCSCredentials", "GoogleDefaultCredentials", "GoogleServiceAccount", "TokenFinder", "token_finder"]

_SCOPE: Final = "https://www.googleapis.com/auth/devstorage.read_only"
_MAX_ANSWER: Final = 1 << 20


def _secret(value: str | Secret) -> Secret:
    return Secret(value) if isinstance(value, str) else value


@attrs.frozen
class GoogleDefaultCredentials:
    """What google-auth finds: the environment, gcloud's files, workload identity, the metadata server."""


@attrs.frozen
class GoogleServiceAccount:
    """A service account's key file.

    Attributes:
        key_file: Its text, JSON.
    """

    key_file: Secret = attrs.field(converter=_secret)


GCSCredentials = Anonymous | BearerToken | GoogleServiceAccount | GoogleDefaultCredentials

TokenFinder = Callable[[Operation], Secret | None]
"""Gives the token of now, under an operation; None is anonymous."""


def token_finder(credentials: GCSCredentials, *, url: str, tls: TLSConfig, proxy: Proxy | None) -> TokenFinder:
    """How to find the token. Thread-safe; keeps what it found until it is about to expire.

    Args:
        credentials: What the caller gave.
        url: For messages.
        tls: For the requests to the token service.
        proxy: The same.
    """
    if isinstance(credentials, Anonymous):
        return lambda _operation: None
    if isinstance(credentials, BearerToken):
        return lambda _operation: credentials.token
    lock = threading.Lock()
    loaded: list[Any] = []

    def load() -> Any:
        with lock:
            if not loaded:
                loaded.append(_load(credentials, url))
            return loaded[0]

    def find(operation: Operation) -> Secret:
        # To find out where it runs, google-auth asks the network, too.
        found = loaded[0] if loaded else within(load, operation, "authenticate", url=url)
        with alone(lock, operation, "authenticate", url=url):
            if not found.valid:
                _refresh(found, operation, url, tls, proxy)
            return Secret(found.token)

    return find


def _load(credentials: GoogleServiceAccount | GoogleDefaultCredentials, url: str) -> Any:
    """A google-auth credentials object."""
    try:
        import google.auth  # noqa: PLC0415 - an extra, and slow to import
        import google.auth.exceptions  # noqa: PLC0415
        from google.oauth2 import service_account  # noqa: PLC0415
    except ModuleNotFoundError:
        raise MissingExtraError("finding Google credentials", extra="gcs") from None
    failure: FluxSrcError
    # What google-auth says can quote the key file: it is cut off.
    try:
        if isinstance(credentials, GoogleDefaultCredentials):
            return google.auth.default(scopes=[_SCOPE])[0]
        account: Any = service_account.Credentials  # its methods have no types
        return account.from_service_account_info(json.loads(credentials.key_file.reveal()), scopes=[_SCOPE])
    except (ValueError, TypeError, AttributeError, google.auth.exceptions.GoogleAuthError):
        if isinstance(credentials, GoogleServiceAccount):
            failure = ConfigurationError("the service account's key file cannot be used", hint="give its JSON text")
        else:
            hint = "give credentials=, or Anonymous() for a public bucket"
            failure = AuthenticationError(f"no Google credentials are found for {url}", url=url, hint=hint)
    raise failure


def _refresh(found: Any, operation: Operation, url: str, tls: TLSConfig, proxy: Proxy | None) -> None:
    import google.auth.exceptions as theirs  # noqa: PLC0415 - it is loaded, or there would be nothing to refresh

    failure: FluxSrcError
    with HTTPClient(tls=tls, proxy=proxy) as http:
        try:
            found.refresh(_Transport(http, operation))
            return
        except theirs.TransportError:
            failure = TransportError(f"the token service for {url} cannot be reached", url=url)
        except theirs.GoogleAuthError as exc:
            failure = AuthenticationError(f"the token service refuses a token for {url}: {type(exc).__name__}", url=url)
    raise failure


@attrs.frozen(eq=False)
class _Answer:
    """What google-auth wants of a response."""

    status: int
    headers: Mapping[str, str]
    data: bytes


@attrs.frozen(eq=False)
class _Transport:
    """What google-auth wants of an HTTP library: our own, with its deadline, certificates and proxy."""

    _http: HTTPClient
    _operation: Operation

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the operation has one
        **_options: Any,
    ) -> _Answer:
        import google.auth.exceptions as theirs  # noqa: PLC0415 - it is loaded, for it calls us

        content = body.encode() if isinstance(body, str) else body
        try:
            with self._http.request(
                method, url, operation=self._operation, phase="authenticate", headers=headers, content=content
            ) as response:
                return _Answer(response.status, dict(response.headers), response.read(_MAX_ANSWER))
        except SourceError as exc:
            if isinstance(exc, TimeoutError):
                raise
            unreachable: Any = theirs.TransportError  # it has no types
            raise unreachable(str(exc)) from None

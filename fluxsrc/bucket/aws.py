"""How AWS keys are found: given, from a profile, from a role, from the default chain; by boto3, and kept fresh by it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote

import attrs

from fluxsrc._io.waiting import within
from fluxsrc.auth import Anonymous, Proxy
from fluxsrc.bucket.ldap import LDAPIdentity, ldap_key_finder
from fluxsrc.bucket.sigv4 import AWSKeys
from fluxsrc.errors import AuthenticationError, ConfigurationError, FluxSrcError, MissingExtraError, TransportError
from fluxsrc.operation import Operation

__all__ = ["AWSCredentials", "AWSDefaultChain", "AWSProfile", "AWSRole", "AWSWebIdentity", "key_finder"]

_STS_TIMEOUT: Final = 10
"""Seconds to connect to, and to wait for, the token service; boto3 tries a few times."""


@attrs.frozen
class AWSDefaultChain:
    """What boto3 finds: environment, shared files, web identity, containers, instances.

    Attributes:
        sts_endpoint: Another token service than the region's, where the chain comes to assume a role.
    """

    sts_endpoint: str | None = None


@attrs.frozen
class AWSProfile:
    """A profile of the shared configuration files, whatever it says: keys, a role, single sign-on, a process."""

    name: str


@attrs.frozen(kw_only=True)
class AWSRole:
    """A role to assume.

    Attributes:
        role_arn: Which.
        source: Who assumes it.
        external_id: What the role's owner asks for, if anything.
        session_name: Our name in the owner's logs.
        sts_endpoint: Another token service than the region's.
    """

    role_arn: str
    source: "AWSKeys | AWSProfile | AWSDefaultChain" = attrs.field(factory=AWSDefaultChain)
    external_id: str | None = None
    session_name: str = "fluxsrc"
    sts_endpoint: str | None = None


@attrs.frozen(kw_only=True)
class AWSWebIdentity:
    """A role to assume with a token from a file, as pods with a service account have it.

    Attributes:
        role_arn: Which.
        token_file: Where the token is; read anew each time, for it is replaced.
        session_name: Our name in the owner's logs.
        sts_endpoint: Another token service than the region's.
    """

    role_arn: str
    token_file: str
    session_name: str = "fluxsrc"
    sts_endpoint: str | None = None


AWSCredentials = Anonymous | AWSKeys | AWSProfile | AWSRole | AWSWebIdentity | AWSDefaultChain | LDAPIdentity

KeyFinder = Callable[[Operation], AWSKeys | None]
"""Gives the keys of now, under an operation; None is anonymous."""


def key_finder(credentials: AWSCredentials, *, region: str | None, proxy: Proxy | None, url: str) -> KeyFinder:
    """How to find the keys. Thread-safe; keeps what it found, and finds anew what is about to expire.

    Args:
        credentials: What the caller gave.
        region: Of the token service.
        proxy: On the way to the token service.
        url: For messages.
    """
    if isinstance(credentials, Anonymous):
        return lambda _operation: None
    if isinstance(credentials, AWSKeys):
        return lambda _operation: credentials
    if isinstance(credentials, LDAPIdentity):
        return ldap_key_finder(credentials, proxy=proxy, url=url)
    lock = threading.Lock()
    found: list[Any] = []

    def ask() -> AWSKeys:
        with lock, _translated(url):
            if not found:
                found.append(_botocore_credentials(credentials, region, proxy))
            frozen = found[0].get_frozen_credentials()
        return AWSKeys(frozen.access_key, frozen.secret_key, frozen.token)

    def find(operation: Operation) -> AWSKeys:
        # Keys that are lent know when they have to be asked for again; others never have to.
        if found and not getattr(found[0], "refresh_needed", bool)():
            return ask()
        return within(ask, operation, "authenticate", url=url)

    return find


def _botocore_credentials(
    credentials: "AWSKeys | AWSProfile | AWSRole | AWSWebIdentity | AWSDefaultChain",
    region: str | None,
    proxy: Proxy | None,
) -> Any:
    """A botocore credentials object, which refreshes itself."""
    import boto3  # noqa: PLC0415 - an extra, and slow to import
    from botocore.config import Config  # noqa: PLC0415
    from botocore.credentials import (  # noqa: PLC0415
        AssumeRoleCredentialFetcher,
        AssumeRoleWithWebIdentityCredentialFetcher,
        Credentials,
        DeferredRefreshableCredentials,
        FileWebIdentityTokenLoader,
    )
    from botocore.exceptions import NoCredentialsError  # noqa: PLC0415

    if isinstance(credentials, AWSKeys):
        token = credentials.session_token
        return Credentials(
            credentials.access_key, credentials.secret_key.reveal(), token.reveal() if token is not None else None
        )
    if isinstance(credentials, AWSProfile | AWSDefaultChain):
        session = boto3.session.Session(
            profile_name=credentials.name if isinstance(credentials, AWSProfile) else None,
            region_name=region,
            botocore_session=_session(credentials.sts_endpoint) if isinstance(credentials, AWSDefaultChain) else None,
        )
        found = session.get_credentials()
        if found is None:
            raise NoCredentialsError
        return found
    session = boto3.session.Session(region_name=region or "us-east-1")
    config = Config(proxies=_proxies(proxy), connect_timeout=_STS_TIMEOUT, read_timeout=_STS_TIMEOUT)

    def client(service: str, **options: Any) -> Any:
        options["config"] = config if "config" not in options else options["config"].merge(config)
        return session.client(service, endpoint_url=credentials.sts_endpoint, **options)

    extra = {"RoleSessionName": credentials.session_name}
    if isinstance(credentials, AWSRole):
        if credentials.external_id is not None:
            extra["ExternalId"] = credentials.external_id
        source = _botocore_credentials(credentials.source, region, proxy)
        fetch = AssumeRoleCredentialFetcher(client, source, credentials.role_arn, extra_args=extra).fetch_credentials
        return DeferredRefreshableCredentials(fetch, "assume-role")
    loader = FileWebIdentityTokenLoader(credentials.token_file)
    fetch = AssumeRoleWithWebIdentityCredentialFetcher(
        client, loader, credentials.role_arn, extra_args=extra
    ).fetch_credentials
    return DeferredRefreshableCredentials(fetch, "assume-role-with-web-identity")


def _session(sts_endpoint: str | None) -> Any:
    """A session whose chain asks this token service; None for one that needs nothing of its own."""
    if sts_endpoint is None:
        return None
    from botocore.session import Session  # noqa: PLC0415 - an extra, and slow to import

    class Elsewhere(Session):  # type: ignore[misc]  # botocore has no types
        def create_client(self, service_name: str, *args: Any, **options: Any) -> Any:
            if service_name == "sts":
                options["endpoint_url"] = sts_endpoint
            return super().create_client(service_name, *args, **options)

    return Elsewhere()


def _proxies(proxy: Proxy | None) -> dict[str, str] | None:
    if proxy is None:
        return None
    user = ""
    if proxy.username is not None:
        password = proxy.password.reveal() if proxy.password is not None else ""
        user = f"{quote(proxy.username, safe='')}:{quote(password, safe='')}@"
    scheme, _, rest = proxy.url.partition("://")
    return {"http": f"{scheme}://{user}{rest}", "https": f"{scheme}://{user}{rest}"}


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """What botocore raises, as our errors. Theirs are cut off: they can quote a token, or a proxy's password."""
    failure: FluxSrcError
    try:
        yield
        return
    except ModuleNotFoundError as exc:
        if exc.name not in ("boto3", "botocore"):
            raise
        failure = MissingExtraError("finding AWS credentials", extra="s3")
    except FluxSrcError:
        raise
    except Exception as exc:
        import botocore.exceptions as theirs  # noqa: PLC0415 - it was imported, or this would not be its error

        if not isinstance(exc, theirs.BotoCoreError | theirs.ClientError | OSError):
            raise
        failure = _failure(exc, theirs, url)
    raise failure


def _failure(exc: Exception, theirs: Any, url: str) -> FluxSrcError:
    if isinstance(exc, theirs.ClientError):
        code = exc.response.get("Error", {}).get("Code", "unknown")
        return AuthenticationError(f"the token service refuses to lend keys for {url}: {code}", url=url)
    if isinstance(exc, theirs.ParamValidationError):
        return ConfigurationError(f"the role for {url}, or one of its options, cannot be one")
    if isinstance(exc, theirs.ProfileNotFound | theirs.ConfigParseError | theirs.ConfigNotFound):
        return ConfigurationError(f"the AWS profile for {url} cannot be read: {type(exc).__name__}")
    if isinstance(exc, theirs.NoCredentialsError):
        return AuthenticationError(
            f"no AWS credentials are found for {url}",
            url=url,
            hint="give credentials=, or Anonymous() for a public bucket",
        )
    if isinstance(exc, theirs.HTTPClientError | theirs.ConnectionError):
        return TransportError(f"the token service for {url} cannot be reached: {type(exc).__name__}", url=url)
    return AuthenticationError(f"no AWS credentials for {url}: {type(exc).__name__}", url=url)

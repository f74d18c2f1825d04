"""Logging in to the clouds' registries with the identity of the machine: ECR, Google's, Azure's.

Each is a keychain that answers for its own hosts and for no other. The hosts are matched as a whole: a host that only
contains the name of a cloud's would be given the cloud's credentials.
"""

import base64
import datetime as dt
import importlib
import json
import re
import threading
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import attrs

from fluxsrc._io.http import HTTPClient, raise_for_status
from fluxsrc.auth import BasicAuth, Credentials, Keychain, Origin, Proxy, Secret, TLSConfig
from fluxsrc.errors import AuthenticationError, FluxSrcError, MissingExtraError, RemoteProtocolError
from fluxsrc.operation import Operation

__all__ = ["AzureRegistry", "ElasticContainerRegistry", "GoogleRegistry"]

_ECR: Final = re.compile(
    r"[0-9]{12}\.dkr[.-]ecr(-fips)?\.(?P<region>[a-z0-9-]+)\."
    r"(amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu|on\.aws|on\.amazonwebservices\.com\.cn|sc2s\.sgov\.gov|c2s\.ic\.gov)"
)
_ECR_PUBLIC: Final = "public.ecr.aws"
_GOOGLE: Final = re.compile(r"([a-z0-9-]+-docker\.pkg\.dev|([a-z]+\.)?gcr\.io)")
_AZURE: Final = re.compile(r"[a-z0-9]{5,50}\.azurecr\.(?P<cloud>io|us|cn)")
_AZURE_SCOPES: Final = {
    "io": "https://management.azure.com/.default",
    "us": "https://management.usgovcloudapi.net/.default",
    "cn": "https://management.chinacloudapi.cn/.default",
}
_AZURE_USER: Final = "00000000-0000-0000-0000-000000000000"
_GOOGLE_USER: Final = "oauth2accesstoken"
_GOOGLE_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_MARGIN: Final = 300.0
"""Seconds before its end from which a login is replaced."""
_AZURE_SECONDS: Final = 3 * 3600.0
_DEFAULT_TIMEOUT: Final = 30.0
_MAX_ANSWER: Final = 256 * 1024


@attrs.frozen
class _Login:
    credentials: BasicAuth
    expires: float


class _Logins:
    """Logins until they expire, one at a time for each host; pickles empty."""

    def __init__(self) -> None:
        self.by_host: dict[str, _Login] = {}
        self.lock = threading.Lock()

    def __reduce__(self) -> tuple[type["_Logins"], tuple[()]]:
        return _Logins, ()


@attrs.frozen(kw_only=True)
class _CloudRegistry:
    """What the three have in common.

    Attributes:
        timeout: Seconds to log in.
        tls: How the cloud proves who it is, where we ask it ourselves.
        proxy: For those questions.
    """

    timeout: float = _DEFAULT_TIMEOUT
    tls: TLSConfig = attrs.field(factory=TLSConfig)
    proxy: Proxy | None = None
    _logins: _Logins = attrs.field(factory=_Logins, init=False, eq=False, repr=False)

    def credentials(self, origin: Origin, /) -> Credentials | None:
        """A login for one of this cloud's registries, None for every other host.

        Raises:
            MissingExtraError: The cloud's library is not installed.
            AuthenticationError: The machine has no identity there, or it is refused.
        """
        # Over https only, and only at the port that is the cloud's.
        if origin.scheme != "https" or origin.port != 443 or not self._knows(origin.host):  # noqa: PLR2004
            return None
        logins = self._logins
        with logins.lock:
            login = logins.by_host.get(origin.host)
            if login is None or login.expires - _MARGIN < time.time():
                login = logins.by_host[origin.host] = self._translated(origin.host)
            return login.credentials

    def _translated(self, host: str) -> _Login:
        try:
            return self._log_in(host)
        except FluxSrcError:
            raise
        except Exception as exc:  # noqa: BLE001 - three libraries, each with its own tree of errors
            failure = type(exc).__name__  # not its text, nor itself: either may hold a token
        raise AuthenticationError(
            f"cannot log in to {host}: {failure}", hint="has this machine an identity in that cloud, allowed to pull?"
        )

    def _knows(self, host: str) -> bool:
        raise NotImplementedError

    def _log_in(self, host: str) -> _Login:
        raise NotImplementedError


@attrs.frozen(kw_only=True)
class ElasticContainerRegistry(_CloudRegistry):
    """Amazon's ECR, private and public, with whatever identity boto3 finds."""

    def _knows(self, host: str) -> bool:
        return host == _ECR_PUBLIC or _ECR.fullmatch(host) is not None

    def _log_in(self, host: str) -> _Login:
        boto3 = _module("boto3", "Amazon's ECR", "s3")
        config = _module("botocore.config", "Amazon's ECR", "s3").Config(
            connect_timeout=self.timeout, read_timeout=self.timeout, retries={"total_max_attempts": 3}
        )
        found = _ECR.fullmatch(host)
        if found is None:
            data = boto3.client("ecr-public", region_name="us-east-1", config=config).get_authorization_token()
            data = data["authorizationData"]
        else:
            data = boto3.client("ecr", region_name=found["region"], config=config).get_authorization_token()
            data = data["authorizationData"][0]
        user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        return _Login(BasicAuth(user, password), data["expiresAt"].timestamp())


@attrs.frozen(kw_only=True)
class GoogleRegistry(_CloudRegistry):
    """Google's Artifact Registry and what is left of gcr.io, with Application Default Credentials."""

    def _knows(self, host: str) -> bool:
        return _GOOGLE.fullmatch(host) is not None

    def _log_in(self, host: str) -> _Login:
        del host
        auth = _module("google.auth", "Google's registries", "gcs")
        transport = _module("google.auth.transport.requests", "Google's registries", "gcs")
        credentials, _ = auth.default(scopes=[_GOOGLE_SCOPE])
        credentials.refresh(transport.Request())
        expiry = credentials.expiry
        expires = time.time() + 600 if expiry is None else expiry.replace(tzinfo=dt.UTC).timestamp()
        return _Login(BasicAuth(_GOOGLE_USER, credentials.token), expires)


@attrs.frozen(kw_only=True)
class AzureRegistry(_CloudRegistry):
    """Azure's ACR, with whatever identity azure-identity finds: its token is exchanged for the registry's own."""

    def _knows(self, host: str) -> bool:
        return _AZURE.fullmatch(host) is not None

    def _log_in(self, host: str) -> _Login:
        found = _AZURE.fullmatch(host)
        assert found is not None
        identity = _module("azure.identity", "Azure's registries", "azure")
        with identity.DefaultAzureCredential() as credential:
            token = credential.get_token(_AZURE_SCOPES[found["cloud"]]).token
        return self._exchange(host, Secret(token))

    def _exchange(self, host: str, token: Secret) -> _Login:
        form = urlencode({"grant_type": "access_token", "service": host, "access_token": token.reveal()}).encode()
        url = f"https://{host}/oauth2/exchange"
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        with (
            HTTPClient(tls=self.tls, proxy=self.proxy) as http,
            http.request(
                "POST",
                url,
                operation=Operation(self.timeout),
                phase="log in",
                headers=headers,
                content=form,
                follow=False,
            ) as response,
        ):
            raise_for_status(response, f"log in to {host}")
            data = response.read(_MAX_ANSWER)
        try:
            refresh = json.loads(data)["refresh_token"]
        except (KeyError, TypeError, ValueError, RecursionError):
            refresh = None
        if not isinstance(refresh, str) or not refresh:
            raise RemoteProtocolError(f"cannot log in to {host}: the answer has no token", url=url)
        return _Login(BasicAuth(_AZURE_USER, refresh), time.time() + _AZURE_SECONDS)


def _module(name: str, what: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(what, extra=extra) from None


if TYPE_CHECKING:
    _: tuple[Keychain, ...] = (ElasticContainerRegistry(), GoogleRegistry(), AzureRegistry())

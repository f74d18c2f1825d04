"""Logging in to the clouds' registries with the identity of the machine: ECR, Google's, Azure's.

Each is a keychain that answers for its own hosts and for no other. The hosts are matched as a whole: a host that only
contains the name of a cloud's would be given the cloud's credentials.
"""

import base64
import datetime as dt
import json
import re
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import attrs

from fluxsrc._io.http import HTTPClient, raise_for_status
from fluxsrc.auth import BasicAuth, Keychain, Secret
from fluxsrc.errors import RemoteProtocolError
from fluxsrc.keychains._cloud import CloudLogin, Login, library
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
_AZURE_SECONDS: Final = 3 * 3600.0
_MAX_ANSWER: Final = 256 * 1024


@attrs.frozen(kw_only=True)
class ElasticContainerRegistry(CloudLogin):
    """Amazon's ECR, private and public, with whatever identity boto3 finds."""

    def _knows(self, host: str) -> bool:
        return host == _ECR_PUBLIC or _ECR.fullmatch(host) is not None

    def _log_in(self, host: str, operation: Operation) -> Login:
        del operation  # of which boto3 knows nothing
        boto3 = library("boto3", "Amazon's ECR", "s3")
        config = library("botocore.config", "Amazon's ECR", "s3").Config(
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
        return Login(BasicAuth(user, password), data["expiresAt"].timestamp())


@attrs.frozen(kw_only=True)
class GoogleRegistry(CloudLogin):
    """Google's Artifact Registry and what is left of gcr.io, with Application Default Credentials."""

    def _knows(self, host: str) -> bool:
        return _GOOGLE.fullmatch(host) is not None

    def _log_in(self, host: str, operation: Operation) -> Login:
        del host, operation
        auth = library("google.auth", "Google's registries", "gcs")
        transport = library("google.auth.transport.requests", "Google's registries", "gcs")
        credentials, _ = auth.default(scopes=[_GOOGLE_SCOPE])
        credentials.refresh(transport.Request())
        expiry = credentials.expiry
        expires = time.time() + 600 if expiry is None else expiry.replace(tzinfo=dt.UTC).timestamp()
        return Login(BasicAuth(_GOOGLE_USER, credentials.token), expires)


@attrs.frozen(kw_only=True)
class AzureRegistry(CloudLogin):
    """Azure's ACR, with whatever identity azure-identity finds: its token is exchanged for the registry's own."""

    def _knows(self, host: str) -> bool:
        return _AZURE.fullmatch(host) is not None

    def _log_in(self, host: str, operation: Operation) -> Login:
        found = _AZURE.fullmatch(host)
        assert found is not None
        identity = library("azure.identity", "Azure's registries", "azure")
        with identity.DefaultAzureCredential() as credential:
            token = credential.get_token(_AZURE_SCOPES[found["cloud"]]).token
        return self._exchange(host, Secret(token), operation)

    def _exchange(self, host: str, token: Secret, operation: Operation) -> Login:
        form = urlencode({"grant_type": "access_token", "service": host, "access_token": token.reveal()}).encode()
        url = f"https://{host}/oauth2/exchange"
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        with (
            HTTPClient(tls=self.tls, proxy=self.proxy) as http,
            http.request(
                "POST",
                url,
                operation=operation,
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
        return Login(BasicAuth(_AZURE_USER, refresh), time.time() + _AZURE_SECONDS)


if TYPE_CHECKING:
    _: tuple[Keychain, ...] = (ElasticContainerRegistry(), GoogleRegistry(), AzureRegistry())

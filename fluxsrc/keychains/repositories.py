"""Logging in to the clouds' Git repositories with the identity of the machine: Azure DevOps, AWS CodeCommit."""

import base64
import datetime as dt
import hashlib
import hmac
import json
import re
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import attrs

from fluxsrc.auth import BasicAuth, BearerToken, Keychain, Origin, redact_url
from fluxsrc.errors import AuthenticationError, ConfigurationError
from fluxsrc.keychains._cloud import CloudLogin, Login, library
from fluxsrc.operation import Operation

__all__ = ["AzureDevOps", "CodeCommit"]

_DEVOPS: Final = re.compile(r"dev\.azure\.com|[a-z0-9][a-z0-9-]{0,48}\.visualstudio\.com")
_DEVOPS_SCOPE: Final = "499b84ac-1321-427f-aa17-267ca6975798/.default"
"""Azure DevOps, as Entra ID calls it."""
_CODE_COMMIT: Final = re.compile(r"git-codecommit(-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?")
_REPOSITORY: Final = re.compile(r"/v1/repos/[A-Za-z0-9._-]{1,100}")
_SIGNED_SECONDS: Final = 900.0


@attrs.frozen(kw_only=True)
class AzureDevOps(CloudLogin):
    """Azure DevOps over https, with whatever identity azure-identity finds: the environment, workload or managed identity, …"""

    def _knows(self, host: str) -> bool:
        return _DEVOPS.fullmatch(host) is not None

    def _log_in(self, host: str, operation: Operation) -> Login:
        del host, operation
        identity = library("azure.identity", "Azure DevOps", "azure")
        options = {} if self.proxy is None else {"proxies": {"http": self.proxy.url, "https": self.proxy.url}}
        with identity.DefaultAzureCredential(**options) as credential:
            token = credential.get_token(_DEVOPS_SCOPE)
        return Login(BearerToken(token.token, identity=_principal(token.token)), float(token.expires_on))


def _principal(token: str) -> str | None:
    """Whose token this is, by the claims in it: it comes from who issued it, so nobody can have made them up."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return json.dumps(["azure-devops", claims["tid"], claims["oid"]])
    except (IndexError, KeyError, TypeError, ValueError):
        return None


def _is_repository(_: object, _attribute: object, url: str) -> None:
    try:
        origin = Origin.of(url)
    except ConfigurationError:
        origin = None
    if not (
        origin is not None
        and (origin.scheme, origin.port) == ("https", 443)
        and _CODE_COMMIT.fullmatch(origin.host)
        and _REPOSITORY.fullmatch(urlsplit(url).path)
    ):
        raise ConfigurationError(
            f"{redact_url(url)} is no repository in CodeCommit",
            hint="https://git-codecommit.REGION.amazonaws.com/v1/repos/NAME",
        )


@attrs.frozen
class CodeCommit(CloudLogin):
    """One repository in AWS CodeCommit, with whatever keys boto3 finds: they sign the repository's name for a quarter of an hour.

    Attributes:
        url: The repository: `https://git-codecommit.REGION.amazonaws.com/v1/repos/NAME`.
    """

    url: str = attrs.field(validator=_is_repository)

    def _knows(self, host: str) -> bool:
        return host == urlsplit(self.url).hostname

    def _log_in(self, host: str, operation: Operation) -> Login:
        del operation
        boto3 = library("boto3", "AWS CodeCommit", "s3")
        found = boto3.session.Session().get_credentials()
        if found is None:
            raise AuthenticationError(f"no AWS credentials are found for {self.url}", url=self.url)
        password = signed_password(
            found.get_frozen_credentials(), host, urlsplit(self.url).path, dt.datetime.now(dt.UTC)
        )
        return Login(password, time.time() + _SIGNED_SECONDS)


def signed_password(keys: Any, host: str, path: str, now: dt.datetime) -> BasicAuth:
    """User name and password as `git-remote-codecommit` makes them: signature version 4 of a request with the method GIT.

    Args:
        keys: `access_key`, `secret_key`, `token`.
        host: Of the repository.
        path: Of the repository.
        now: The time.
    """
    region = _CODE_COMMIT.fullmatch(host)
    assert region is not None
    stamp = now.astimezone(dt.UTC).strftime("%Y%m%dT%H%M%S")
    request = f"GIT\n{quote(path, safe='/-._~')}\n\nhost:{host}\n\nhost\n"
    parts = (stamp[:8], region["region"], "codecommit", "aws4_request")
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{'/'.join(parts)}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{keys.secret_key}".encode()
    for part in parts:
        key = hmac.digest(key, part.encode(), "sha256")
    user = f"{keys.access_key}%{keys.token}" if keys.token else keys.access_key
    # Passwords differ, whoever makes them has the key: nobody else can have this.
    who = hmac.digest(keys.secret_key.encode(), b"fluxsrc", "sha256").hex()
    identity = json.dumps(["codecommit", keys.access_key, who])
    return BasicAuth(user, f"{stamp}Z{hmac.digest(key, text.encode(), 'sha256').hex()}", identity=identity)


if TYPE_CHECKING:
    _: tuple[Keychain, ...] = (AzureDevOps(), CodeCommit(""))

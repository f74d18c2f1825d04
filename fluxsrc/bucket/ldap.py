"""Keys that MinIO lends to whoever is in its LDAP directory, by name and password: `AssumeRoleWithLDAPIdentity`."""

import datetime as dt
import threading
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode, urlsplit

import attrs

from fluxsrc._io.http import HTTPClient, raise_for_status
from fluxsrc._io.waiting import alone
from fluxsrc.auth import Origin, Proxy, Secret, TLSConfig, redact_url
from fluxsrc.bucket.sigv4 import AWSKeys
from fluxsrc.bucket.xml import parse
from fluxsrc.errors import AuthenticationError, ConfigurationError, RemoteProtocolError
from fluxsrc.operation import Operation

__all__ = ["LDAPIdentity", "ldap_key_finder"]

_VERSION: Final = "2011-06-15"
_EARLY: Final = 300.0
"""Seconds before their end that keys are replaced."""
_MAX_ANSWER: Final = 256 * 1024
_BAD_REQUEST, _SERVER_ERROR, _TOO_MANY = 400, 500, 429


def _secret(value: str | Secret) -> Secret:
    return Secret(value) if isinstance(value, str) else value


def _is_endpoint(_: object, _attribute: object, url: str) -> None:
    try:
        known = Origin.of(url).scheme in ("http", "https") and urlsplit(url).username is None
    except ConfigurationError:
        known = False
    if not known:
        raise ConfigurationError(f"no token service: {redact_url(url)}", hint="https://HOST[:PORT]")


@attrs.frozen(kw_only=True)
class LDAPIdentity:
    """Somebody in the directory of a MinIO.

    Attributes:
        endpoint: MinIO's token service: usually MinIO's own address.
        username: Who it is.
        password: Proves it.
        tls: How the token service proves who it is.
    """

    endpoint: str = attrs.field(validator=_is_endpoint)
    username: str
    password: Secret = attrs.field(converter=_secret)
    tls: TLSConfig = attrs.field(factory=TLSConfig)


def ldap_key_finder(identity: LDAPIdentity, *, proxy: Proxy | None, url: str) -> Callable[[Operation], AWSKeys]:
    """How to find the keys. Thread-safe; keeps what was lent until it is about to end.

    Args:
        identity: Who asks.
        proxy: On the way to the token service.
        url: For messages.
    """
    lock = threading.Lock()
    kept: list[tuple[AWSKeys, float]] = []

    def find(operation: Operation) -> AWSKeys:
        with alone(lock, operation, "log in", url=url):
            if not kept or kept[0][1] - _EARLY < time.time():
                kept[:] = [_borrow(identity, proxy, url, operation)]
            return kept[0][0]

    return find


def _borrow(identity: LDAPIdentity, proxy: Proxy | None, url: str, operation: Operation) -> tuple[AWSKeys, float]:
    form = {"Action": "AssumeRoleWithLDAPIdentity", "Version": _VERSION}
    form |= {"LDAPUsername": identity.username, "LDAPPassword": identity.password.reveal()}
    with (
        HTTPClient(tls=identity.tls, proxy=proxy) as http,
        http.request(
            "POST",
            identity.endpoint,
            operation=operation,
            phase="log in",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            content=urlencode(form).encode(),
            follow=False,
        ) as response,
    ):
        if _BAD_REQUEST <= response.status < _SERVER_ERROR and response.status != _TOO_MANY:
            raise AuthenticationError(
                f"the token service refuses to lend keys for {url}: {response.status}",
                url=url,
                hint="are user name and password right, and has the user a policy?",
            )
        raise_for_status(response, f"borrow keys for {url}")
        data = response.read(_MAX_ANSWER)
    failure = RemoteProtocolError(f"the answer of the token service for {url} has no keys", url=url)
    try:
        [lent] = parse(data, "Credentials", root="AssumeRoleWithLDAPIdentityResponse").records
        keys = AWSKeys(lent["AccessKeyId"], lent["SecretAccessKey"], lent.get("SessionToken") or None)
        return keys, dt.datetime.fromisoformat(lent["Expiration"]).timestamp()
    except (KeyError, ValueError):
        pass  # what is wrong with it may quote it
    raise failure

"""Logging in to a registry: from a challenge and credentials to an `Authorization` header, tokens kept until they expire."""

import base64
import json
import re
import threading
import time
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

from fluxsrc._io.http import Response, Transport, status_error
from fluxsrc.auth import IDENTITY_TOKEN_USER, BasicAuth, BearerToken, Credentials, Origin, Secret, redact_url
from fluxsrc.errors import (
    AuthenticationError,
    ConfigurationError,
    LimitExceededError,
    RemoteProtocolError,
    RevisionNotFoundError,
)
from fluxsrc.oci.challenge import Challenge, parse_challenges
from fluxsrc.operation import Operation

__all__ = ["Authorizer", "TokenCache"]

_MAX_TOKEN_BYTES: Final = 256 * 1024
_DEFAULT_SECONDS: Final = 60.0
"""A token's life where the server does not say, as the specification has it."""
_MAX_TOKENS: Final = 1024
_TOKEN: Final = re.compile(r"[!-~]+")
_CLIENT: Final = "fluxsrc"


class _Token(NamedTuple):
    value: Secret
    expires: float


class TokenCache:
    """Bearer tokens until shortly before they expire. Thread-safe; pickles empty, as secrets do not travel.

    Each `OCISource` has one of its own; give several sources one object, and they share it.
    """

    def __init__(self) -> None:
        self._tokens: dict[Any, _Token] = {}
        self._lock = threading.Lock()

    def get(self, key: Any, /) -> Secret | None:
        """The token of this key, if it is good for a while."""
        with self._lock:
            token = self._tokens.get(key)
        return token.value if token is not None and token.expires > time.monotonic() else None

    def put(self, key: Any, value: Secret, seconds: float, /) -> None:
        """Keep a token for nine tenths of its life: clocks differ, and requests take time."""
        now = time.monotonic()
        with self._lock:
            if len(self._tokens) >= _MAX_TOKENS:
                self._tokens = {k: token for k, token in self._tokens.items() if token.expires > now}
            if len(self._tokens) >= _MAX_TOKENS:
                self._tokens.clear()
            self._tokens[key] = _Token(value, now + seconds * 0.9)

    def drop(self, key: Any, /) -> None:
        """Forget a token that a registry did not take."""
        with self._lock:
            self._tokens.pop(key, None)

    def __reduce__(self) -> tuple[type["TokenCache"], tuple[()]]:
        return TokenCache, ()


class Authorizer:
    """Answers a registry's challenges for one repository. Thread-safe.

    The way to log in is remembered with the token, so that a later operation sends the token with its first request.
    """

    def __init__(
        self, http: Transport, origin: Origin, credentials: Credentials | None, cache: TokenCache, operation: Operation
    ) -> None:
        self._http = http
        self._origin = origin
        self._credentials = credentials
        self._cache = cache
        self._operation = operation
        self._lock = threading.Lock()
        # Part of the key: whoever has other credentials must not get this one's tokens.
        self._identity = credentials if isinstance(credentials, BasicAuth) else None

    def header(self, scope: str) -> Secret | None:
        """What to send with a request of this scope before being asked, or None."""
        credentials = self._credentials
        if isinstance(credentials, BearerToken):
            return Secret(f"Bearer {credentials.token.reveal()}")
        token = self._cache.get(self._key(scope))
        if token is not None:
            return Secret(f"Bearer {token.reveal()}")
        if isinstance(credentials, BasicAuth) and self._cache.get(self._basic_key()) is not None:
            return _basic(credentials)
        return None

    def answer(self, response: Response, scope: str, sent: Secret | None) -> Secret | None:
        """What to send after a 401 to a request that carried `sent`, or None if nothing is left to try.

        Raises:
            AuthenticationError: The credentials are refused by who issues tokens.
            RemoteProtocolError: The challenge leads nowhere.
        """
        challenges = parse_challenges(response.headers.get_all("www-authenticate"))
        response.close()
        with self._lock:  # many threads may be refused at once: one logs in, the others take what it got
            current = self.header(scope)
            if current is not None and current != sent:
                return current
            self._cache.drop(self._key(scope))
            return self._log_in(challenges, scope)

    def _log_in(self, challenges: list[Challenge], scope: str) -> Secret | None:
        for challenge in challenges:
            if challenge.scheme == "bearer" and not isinstance(self._credentials, BearerToken):
                token, seconds = self._fetch_token(challenge, scope)
                self._cache.put(self._key(scope), token, seconds)
                return Secret(f"Bearer {token.reveal()}")
            if challenge.scheme == "basic" and isinstance(self._credentials, BasicAuth):
                if self._cache.get(self._basic_key()) is not None:
                    self._cache.drop(self._basic_key())
                    return None  # sent already, and refused
                self._cache.put(self._basic_key(), Secret("basic"), 3600)
                return _basic(self._credentials)
        return None

    def _key(self, scope: str) -> Any:
        return (self._origin, self._identity, scope)

    def _basic_key(self) -> Any:
        return (self._origin, self._identity)

    def _fetch_token(self, challenge: Challenge, scope: str) -> tuple[Secret, float]:
        realm = challenge.parameters.get("realm", "")
        self._check_realm(realm)
        scopes = scope.split(" ")
        asked = challenge.parameters.get("scope")
        # What the registry asks for may be more than we know of; its wish is added to ours, in a stable order.
        scopes += [extra for extra in (asked or "").split(" ") if extra and extra not in scopes]
        fields = [("service", service)] if (service := challenge.parameters.get("service")) else []
        credentials = self._credentials
        if isinstance(credentials, BasicAuth) and credentials.username == IDENTITY_TOKEN_USER:
            return self._exchange(realm, [*fields, ("scope", " ".join(scopes))], credentials)
        query = urlencode([*fields, *(("scope", item) for item in scopes)])
        url = f"{realm}{'&' if urlsplit(realm).query else '?'}{query}"
        headers = {"Authorization": _basic(credentials)} if isinstance(credentials, BasicAuth) else {}

        # Not tried again here: whoever sent the request that was refused does, and would do so for each of our tries.
        with self._http.request("GET", url, operation=self._operation, phase="log in", headers=headers) as response:
            return self._read_token(response)

    def _exchange(self, realm: str, fields: list[tuple[str, str]], credentials: BasicAuth) -> tuple[Secret, float]:
        """OAuth 2: a refresh token, which Docker calls an identity token, for an access token."""
        form = urlencode(
            [
                ("grant_type", "refresh_token"),
                ("refresh_token", credentials.password.reveal()),
                ("client_id", _CLIENT),
                *fields,
            ]
        ).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        # A form with a refresh token follows no redirect.
        with self._http.request(
            "POST", realm, operation=self._operation, phase="log in", headers=headers, content=form, follow=False
        ) as response:
            return self._read_token(response)

    def _check_realm(self, realm: str) -> None:
        try:
            origin = Origin.of(realm)
        except ConfigurationError:
            origin = None
        if origin is None or origin.scheme not in ("http", "https") or urlsplit(realm).username is not None:
            raise RemoteProtocolError(f"{self._origin} sends us to log in at no address", url=str(self._origin))
        if self._origin.scheme == "https" and origin.scheme != "https":
            # Credentials for a registry that is reached safely must not leave in the clear because it says so.
            raise RemoteProtocolError(f"{self._origin} wants credentials sent over plain http", url=str(self._origin))

    def _read_token(self, response: Response) -> tuple[Secret, float]:
        what = f"log in to {self._origin.host} at {redact_url(response.url)}"
        if response.status != 200:  # noqa: PLR2004 - nothing else carries a token
            if response.status == 400:  # noqa: PLR2004 - OAuth's way to say that the grant is not good
                response.close()
                raise AuthenticationError(f"cannot {what}: the credentials are refused", url=response.url)
            error = status_error(response, what, detail="")
            if isinstance(error, RevisionNotFoundError):  # what is missing is a token service, not what was asked for
                raise RemoteProtocolError(error.message, url=response.url)
            raise error
        try:
            data = response.read(_MAX_TOKEN_BYTES)
        except LimitExceededError:
            raise RemoteProtocolError(f"cannot {what}: the answer is too long for a token", url=response.url) from None
        try:
            value = json.loads(data)
            token = value.get("token") or value.get("access_token")
            seconds = float(value.get("expires_in") or _DEFAULT_SECONDS)
        except (AttributeError, TypeError, ValueError, OverflowError, RecursionError):
            token = None  # the text may hold a token: nothing of it is chained
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise RemoteProtocolError(f"cannot {what}: the answer has no token", url=response.url)
        return Secret(token), max(0.0, min(seconds, 86400.0))


def _basic(credentials: BasicAuth) -> Secret:
    pair = f"{credentials.username}:{credentials.password.reveal()}"
    return Secret("Basic " + base64.b64encode(pair.encode()).decode())

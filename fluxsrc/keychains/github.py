"""`GitHubApp`: act as an app's installation, by tokens that live for an hour.

1. Sign a JSON Web Token with the app's private key: it proves for two minutes who we are.
2. Find the installation of the owner, unless its id is given.
3. Ask for an installation token; keep it, in memory only, until shortly before it expires.
"""

import base64
import datetime as dt
import json
import os
import re
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from fluxsrc._io.http import HTTPClient, raise_for_status, retrying
from fluxsrc._io.waiting import alone
from fluxsrc.auth import BasicAuth, Credentials, Keychain, Origin, Proxy, Secret, TLSConfig
from fluxsrc.errors import AuthenticationError, ConfigurationError, MissingExtraError, RemoteProtocolError
from fluxsrc.operation import Operation

__all__ = ["GitHubApp"]

_API: Final = "https://api.github.com"
_USERNAME: Final = "x-access-token"
_CLOCK_SKEW: Final = 30
"""Seconds that our clock may be ahead of the server's."""
_JWT_LIFETIME: Final = 120
_MARGIN: Final = 300
"""Seconds before its end at which a token is not handed out any more: the operation that asks still has to use it."""
_PHASE: Final = "get a GitHub token"
_MAX_ANSWER: Final = 256 * 1024
_OWNER: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9])?")
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NOT_FOUND: Final = 404


class _Cache:
    """The token of one keychain object. A pickle of it is empty: tokens stay in this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.token: Secret | None = None
        self.expires = 0.0

    def __reduce__(self) -> tuple[type["_Cache"], tuple[()]]:
        return _Cache, ()

    def __repr__(self) -> str:
        return "<token cache>"


def _check_id(_: object, attribute: "attrs.Attribute[str]", value: str | None) -> None:
    if value is not None and not _ID.fullmatch(value):
        raise ConfigurationError(f"GitHubApp.{attribute.name} is a number or a client id, not {value[:64]!r}")


def _check_owner(_: object, _attribute: object, value: str | None) -> None:
    if value is not None and not _OWNER.fullmatch(value):
        raise ConfigurationError(f"not the name of a GitHub organisation or user: {value[:64]!r}")


def _text(value: str | int | None) -> str | None:
    return None if value is None else str(value)


def _secret(value: str | Secret) -> Secret:
    return value if isinstance(value, Secret) else Secret(value)


@attrs.frozen(kw_only=True)
class GitHubApp:
    """Credentials of a GitHub App's installation, for Git over https on that GitHub and nowhere else.

    Attributes:
        app_id: The app's id, or its client id.
        private_key: The app's RSA key, PEM.
        installation_id: Which installation to act as; or else `owner`.
        owner: The organisation or user whose installation it is.
        repositories: Names of the only repositories that tokens are good for; none: all of the installation.
        base_url: The REST API: `https://HOST/api/v3` for GitHub Enterprise Server.
        tls: For the API's server.
        proxy: On the way to it.
        timeout: Seconds for getting a token, if the operation has as many left.
    """

    app_id: str = attrs.field(converter=_text, validator=_check_id)
    private_key: Secret = attrs.field(converter=_secret)
    installation_id: str | None = attrs.field(default=None, converter=_text, validator=_check_id)
    owner: str | None = attrs.field(default=None, validator=_check_owner)
    repositories: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    base_url: str = _API
    tls: TLSConfig = attrs.field(factory=TLSConfig)
    proxy: Proxy | None = None
    timeout: float = 60.0
    _cache: _Cache = attrs.field(factory=_Cache, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if (self.installation_id is None) == (self.owner is None):
            raise ConfigurationError("a GitHubApp has an installation_id or an owner: give exactly one of them")
        if Origin.of(self.base_url).scheme != "https":
            raise ConfigurationError("the base_url of a GitHubApp is an https URL: tokens travel over it")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "GitHubApp":
        """From `GITHUB_APP_ID`, `GITHUB_APP_PRIVATE_KEY`, one of `GITHUB_APP_INSTALLATION_{ID,OWNER}`, `GITHUB_APP_BASE_URL`.

        Raises:
            ConfigurationError: One of them is missing.
        """
        environ = os.environ if environ is None else environ
        for name in ("GITHUB_APP_ID", "GITHUB_APP_PRIVATE_KEY"):
            if not environ.get(name):
                raise ConfigurationError(f"the variable {name} is not set")
        return cls(
            app_id=environ["GITHUB_APP_ID"],
            private_key=Secret(environ["GITHUB_APP_PRIVATE_KEY"]),
            installation_id=environ.get("GITHUB_APP_INSTALLATION_ID") or None,
            owner=environ.get("GITHUB_APP_INSTALLATION_OWNER") or None,
            base_url=environ.get("GITHUB_APP_BASE_URL") or _API,
        )

    @property
    def origin(self) -> Origin:
        """The one origin that gets tokens: where this API's repositories are."""
        api = Origin.of(self.base_url)
        on_cloud = api.host == "api.github.com" or (api.host.startswith("api.") and api.host.endswith(".ghe.com"))
        return attrs.evolve(api, host=api.host.removeprefix("api.")) if on_cloud else api

    def credentials(self, origin: Origin, /, *, operation: Operation | None = None) -> Credentials | None:
        """A token for `origin`, if that is where this app's repositories are.

        Raises:
            AuthenticationError: GitHub does not know the app, or the owner has not installed it.
            ConfigurationError: The private key cannot be read.
            TransportError: The API cannot be reached, or not in time.
        """
        if origin != self.origin:
            return None
        cache = self._cache
        operation = (operation or Operation()).part(self.timeout)
        with alone(cache.lock, operation, _PHASE, url=self.base_url):  # one request, however many threads ask at once
            if cache.token is None or time.time() > cache.expires - _MARGIN:
                cache.token, cache.expires = self._fetch(operation)
            return BasicAuth(_USERNAME, cache.token, identity=self._identity)

    @property
    def _identity(self) -> str:
        """What a token is good for, whichever it is: a cache of what it may read outlives the token's hour."""
        who = self.installation_id or f"@{self.owner}"
        return json.dumps(["github-app", self.app_id, who, sorted(self.repositories)])

    def _fetch(self, operation: Operation) -> tuple[Secret, float]:
        headers: dict[str, str | Secret] = {
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
            "Authorization": Secret(f"Bearer {app_token(self.app_id, self.private_key, now=time.time())}"),  # 1
        }
        with HTTPClient(tls=self.tls, proxy=self.proxy) as http:
            installation = self.installation_id or self._find_installation(http, headers, operation)  # 2
            body = {"repositories": list(self.repositories)} if self.repositories else {}
            path = f"/app/installations/{installation}/access_tokens"
            answer = self._call(http, "POST", path, headers, operation, json.dumps(body).encode())  # 3
        if answer is None:
            raise AuthenticationError(
                f"GitHub knows no installation {installation} of the app {self.app_id}", url=self.base_url
            )
        try:
            return Secret(answer["token"]), dt.datetime.fromisoformat(answer["expires_at"]).timestamp()
        except (KeyError, TypeError, ValueError):
            raise RemoteProtocolError(
                "GitHub's answer has no token, or no time of its end", url=self.base_url
            ) from None

    def _find_installation(self, http: HTTPClient, headers: Mapping[str, str | Secret], operation: Operation) -> str:
        for kind in ("orgs", "users"):
            answer = self._call(http, "GET", f"/{kind}/{self.owner}/installation", headers, operation)
            if answer is not None:
                if not isinstance(answer.get("id"), int):
                    raise RemoteProtocolError("GitHub's answer has no installation id", url=self.base_url)
                return str(answer["id"])
        raise AuthenticationError(
            f"{self.owner} has not installed the GitHub App {self.app_id}",
            url=self.base_url,
            hint="install it for that organisation or user, or give installation_id=",
        )

    def _call(
        self,
        http: HTTPClient,
        method: str,
        path: str,
        headers: Mapping[str, str | Secret],
        operation: Operation,
        content: bytes | None = None,
    ) -> dict[str, Any] | None:
        """The answer's JSON object; None where there is nothing."""

        def request() -> bytes | None:
            with http.request(
                method,
                self.base_url.rstrip("/") + path,
                operation=operation,
                phase=_PHASE,
                headers=headers,
                content=content,
                follow=False,
            ) as response:
                if response.status == _NOT_FOUND:
                    return None
                raise_for_status(response, f"get a token for the GitHub App {self.app_id}")
                return response.read(_MAX_ANSWER)

        data = retrying(request, operation=operation, phase=_PHASE)
        if data is None:
            return None
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):  # the library's error would quote the answer, which has the token
            raise RemoteProtocolError("GitHub's answer is not a JSON object", url=self.base_url)
        return answer


def app_token(app_id: str, private_key: Secret, *, now: float) -> str:
    """The signed statement, good for two minutes, that its bearer is this app: a JSON Web Token, RS256.

    Raises:
        ConfigurationError: The key is not an RSA private key in PEM.
        MissingExtraError: There is nothing to sign with.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415
    except ImportError as exc:
        raise MissingExtraError("acting as a GitHub App", extra="github") from exc
    try:
        key = load_pem_private_key(private_key.reveal().encode(), password=None)
    except (ValueError, TypeError):
        key = None  # the library's text may quote what it read
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigurationError(
            f"the private key of the GitHub App {app_id} cannot be read", hint="give the PEM text that GitHub made"
        )
    claims = {"iat": int(now) - _CLOCK_SKEW, "exp": int(now) + _JWT_LIFETIME, "iss": app_id}
    statement = f"{_encode_json({'alg': 'RS256', 'typ': 'JWT'})}.{_encode_json(claims)}"
    return f"{statement}.{_encode(key.sign(statement.encode(), padding.PKCS1v15(), SHA256()))}"


def _encode_json(value: Mapping[str, object]) -> str:
    return _encode(json.dumps(value, separators=(",", ":")).encode())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


if TYPE_CHECKING:
    _: Keychain = GitHubApp(app_id="1", private_key=Secret(""), owner="o")

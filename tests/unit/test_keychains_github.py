"""GitHub Apps: installation tokens, for GitHub's origin only, kept in memory until shortly before they expire."""

import base64
import datetime as dt
import json
import pickle
import threading

import attrs
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from fluxsrc.auth import BasicAuth, Origin, Secret, TLSConfig
from fluxsrc.errors import (
    AuthenticationError,
    ConfigurationError,
    OperationCancelledError,
    PermissionDeniedError,
    RateLimitedError,
    RemoteProtocolError,
    TransportTimeoutError,
)
from fluxsrc.git.cache import fingerprint
from fluxsrc.keychains import GitHubApp
from fluxsrc.keychains.github import app_token
from fluxsrc.operation import Operation
from helpers.tls import TLS, server_context
from helpers.waiting import PATIENCE
from helpers.web_server import WebServer

KEY = rsa.generate_private_key(65537, 2048)


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()


def expires(seconds):
    return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


class GitHub(WebServer):
    """As much of the REST API as an app needs; `answers` replaces what it says."""

    def __init__(self):
        super().__init__(self.look_up, context=server_context())
        self.bodies = []
        self.answers = {
            "/api/v3/orgs/acme/installation": (200, {"id": 7}),
            "/api/v3/users/ada/installation": (200, {"id": 8}),
        }
        self.lifetime = 3600
        self.issued = 0

    @property
    def url(self):
        return f"{super().url}/api/v3"

    def look_up(self, request, body):
        self.bodies.append(body)
        status, answer = self.say(request.path)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        more = {302: {"Location": "https://elsewhere.example/"}, 429: {"Retry-After": "30"}}
        return status, data, {"Content-Type": "application/json", **more.get(status, {})}

    def say(self, path):
        if path in self.answers:
            return self.answers[path]
        if path.endswith("/access_tokens") and path.split("/")[-2] in ("7", "8"):
            self.issued += 1
            return 201, {"token": f"ghs_{self.issued}", "expires_at": expires(self.lifetime)}
        return 404, {"message": "Not Found"}


@pytest.fixture
def github():
    with GitHub() as server:
        yield server


def app(github, **options):
    options.setdefault("installation_id", 7)
    options = {name: value for name, value in options.items() if value is not None}
    tls = TLSConfig(ca=(TLS / "ca.pem").read_text())
    return GitHubApp(app_id=42, private_key=pem(KEY), base_url=github.url, tls=tls, **options)


def test_an_installation_token_is_the_password_of_x_access_token(github):
    keychain = app(github)
    assert keychain.credentials(keychain.origin) == BasicAuth("x-access-token", "ghs_1")
    [request] = github.requests
    assert (request.method, request.path) == ("POST", "/api/v3/app/installations/7/access_tokens")
    assert request.headers["accept"] == "application/vnd.github+json"


def test_the_app_proves_itself_with_a_signature_good_for_two_minutes():
    token = app_token("42", Secret(pem(KEY)), now=1_700_000_000.9)
    head, claims, signature = token.split(".")

    def decode(part):
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

    assert json.loads(decode(head)) == {"alg": "RS256", "typ": "JWT"}
    assert json.loads(decode(claims)) == {"iat": 1_699_999_970, "exp": 1_700_000_120, "iss": "42"}
    KEY.public_key().verify(decode(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), SHA256())
    assert "=" not in token


@pytest.mark.parametrize(("owner", "installation"), [("acme", 7), ("ada", 8)])
def test_the_owner_s_installation_is_found_be_it_an_organisation_or_a_user(github, owner, installation):
    keychain = app(github, installation_id=None, owner=owner)
    assert keychain.credentials(keychain.origin) is not None
    assert github.requests[-1].path.endswith(f"/installations/{installation}/access_tokens")


def test_tokens_can_be_narrowed_to_repositories(github):
    keychain = app(github, repositories=["one", "two"])
    keychain.credentials(keychain.origin)
    assert json.loads(github.bodies[0]) == {"repositories": ["one", "two"]}


def test_no_other_origin_gets_a_token_or_causes_a_request(github):
    keychain = app(github)
    for other in ("https://github.com", "https://127.0.0.1:1", f"http://127.0.0.1:{github.port}"):
        assert keychain.credentials(Origin.of(other)) is None
    assert github.requests == []


@pytest.mark.parametrize(
    ("base_url", "origin"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://ghe.example.com/api/v3", "https://ghe.example.com"),
        ("https://api.octocorp.ghe.com", "https://octocorp.ghe.com"),
        ("https://api.example.com/api/v3", "https://api.example.com"),
        ("https://api.ghe.com.evil.example", "https://api.ghe.com.evil.example"),
    ],
)
def test_the_origin_of_the_repositories_follows_from_the_api_s(base_url, origin):
    keychain = GitHubApp(app_id=1, private_key="", owner="acme", base_url=base_url)
    assert keychain.origin == Origin.of(origin)


def test_a_token_is_kept_until_shortly_before_its_end(github):
    keychain = app(github)
    assert {keychain.credentials(keychain.origin) for _ in range(3)} == {BasicAuth("x-access-token", "ghs_1")}
    github.lifetime = 200  # less than the margin: not worth keeping
    other = app(github)
    assert [other.credentials(other.origin).password.reveal() for _ in range(2)] == ["ghs_2", "ghs_3"]


def test_a_cache_recognises_the_next_token(github):
    """Tokens change every hour; what they may read does not, and is not to be fetched anew each time."""
    github.lifetime = 200
    keychain = app(github)
    first, second = (keychain.credentials(keychain.origin) for _ in range(2))
    assert first != second
    assert fingerprint(first, b"salt") == fingerprint(second, b"salt")
    others = [app(github, repositories=["one"]), app(github, installation_id=8)]
    prints = {fingerprint(other.credentials(other.origin), b"salt") for other in others}
    assert len(prints | {fingerprint(first, b"salt")}) == 3


def test_many_threads_ask_once(github):
    keychain = app(github)
    threads = [threading.Thread(target=keychain.credentials, args=(keychain.origin,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert github.issued == 1


def test_a_pickle_has_the_key_and_no_token(github):
    keychain = app(github)
    keychain.credentials(keychain.origin)
    data = pickle.dumps(keychain)
    assert b"ghs_" not in data
    copy = pickle.loads(data)
    assert copy == keychain
    assert copy.credentials(copy.origin) == BasicAuth("x-access-token", "ghs_2")


def test_nothing_secret_is_in_its_repr(github):
    keychain = app(github)
    keychain.credentials(keychain.origin)
    assert "ghs_" not in repr(keychain)
    assert "PRIVATE KEY" not in repr(keychain)


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (401, {"message": "A JSON web token could not be decoded"}, AuthenticationError),
        (403, {"message": "This installation has been suspended"}, PermissionDeniedError),
        (404, {"message": "Not Found"}, AuthenticationError),
        (302, {}, RemoteProtocolError),
        (201, b"ghs_hunter2", RemoteProtocolError),
        (201, [], RemoteProtocolError),
        (201, {"token": "ghs_hunter2"}, RemoteProtocolError),
        (201, {"token": "ghs_hunter2", "expires_at": "soon"}, RemoteProtocolError),
    ],
)
def test_what_github_says_decides_the_error_and_tokens_are_not_quoted(github, status, answer, error):
    github.answers["/api/v3/app/installations/7/access_tokens"] = (status, answer)
    keychain = app(github)
    with pytest.raises(error) as caught:
        keychain.credentials(keychain.origin)
    assert type(caught.value) is error
    assert "hunter2" not in repr((caught.value, caught.value.__cause__, caught.value.__context__))


def test_an_owner_who_has_not_installed_the_app_is_named(github):
    keychain = app(github, installation_id=None, owner="stranger")
    with pytest.raises(AuthenticationError, match="stranger has not installed the GitHub App 42"):
        keychain.credentials(keychain.origin)


def test_a_rate_limit_that_outlasts_the_timeout_is_passed_on(github):
    github.answers["/api/v3/app/installations/7/access_tokens"] = (429, {})
    keychain = app(github, timeout=20)
    with pytest.raises(RateLimitedError):
        keychain.credentials(keychain.origin)


def test_the_deadline_of_who_asks_holds_for_getting_a_token(github):
    """And for waiting until another thread has got one."""
    asked, cancelled, answer = threading.Event(), threading.Event(), threading.Event()

    def hang(_path):
        asked.set()
        answer.wait()
        return 500, {}

    github.say = hang
    keychain = app(github, timeout=600)

    def ask():
        with pytest.raises(OperationCancelledError):
            keychain.credentials(keychain.origin, operation=Operation(None, cancel=cancelled))

    first = threading.Thread(target=ask)
    first.start()
    try:
        assert asked.wait(PATIENCE)
        with pytest.raises(TransportTimeoutError, match=r"after 0\.2 s during get a GitHub token"):
            keychain.credentials(keychain.origin, operation=Operation(0.2))
        with pytest.raises(TransportTimeoutError, match=r"after 0\.2 s during get a GitHub token"):
            app(github, timeout=600).credentials(keychain.origin, operation=Operation(0.2))
    finally:
        cancelled.set()
        first.join()
        answer.set()


@pytest.mark.parametrize(
    "key", ["", "hunter2", pem(ec.generate_private_key(ec.SECP256R1()))], ids=["none", "text", "ec"]
)
def test_a_key_that_is_no_rsa_key_is_a_configuration_error_that_quotes_nothing(key):
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        app_token("42", Secret(key), now=0)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"owner": "acme", "installation_id": 7},
        {"owner": "../x"},
        {"owner": "a/b"},
        {"installation_id": "7/../8"},
        {"owner": "acme", "app_id": "1?x"},
        {"owner": "acme", "base_url": "http://ghe.example.com/api/v3"},
        {"owner": "acme", "base_url": "https://[ghe.example.com/api/v3"},
    ],
)
def test_what_could_change_the_request_is_refused(options):
    with pytest.raises(ConfigurationError):
        GitHubApp(**{"app_id": 42, "private_key": ""} | options)


def test_the_environment_is_looked_at_only_when_asked():
    environ = {"GITHUB_APP_ID": "42", "GITHUB_APP_PRIVATE_KEY": "k", "GITHUB_APP_INSTALLATION_OWNER": "acme"}
    assert GitHubApp.from_env(environ) == GitHubApp(app_id="42", private_key="k", owner="acme")
    url = "https://ghe.example.com/api/v3"
    assert attrs.asdict(GitHubApp.from_env(environ | {"GITHUB_APP_BASE_URL": url}))["base_url"] == url
    with pytest.raises(ConfigurationError, match="GITHUB_APP_PRIVATE_KEY"):
        GitHubApp.from_env({"GITHUB_APP_ID": "42"})

"""Docker's configuration and the clouds' logins: what they answer, and to whom they do not."""

import base64
import datetime as dt
import json
import pickle
import sys
import threading
import types

import pytest

from fluxsrc.auth import BasicAuth, BearerToken, Keychain, Origin, StaticKeychain
from fluxsrc.errors import (
    AuthenticationError,
    ConfigurationError,
    MissingExtraError,
    OperationCancelledError,
    TransportTimeoutError,
)
from fluxsrc.keychains import (
    AzureRegistry,
    ChainKeychain,
    DockerConfig,
    ElasticContainerRegistry,
    GoogleRegistry,
    registries,
)
from fluxsrc.oci import OCISource
from fluxsrc.operation import Operation
from fluxsrc.testing.registry import Registry


def auth(pair: str) -> dict[str, str]:
    return {"auth": base64.b64encode(pair.encode()).decode()}


def ask(config: object, url: str):
    return DockerConfig.from_secret(json.dumps(config)).credentials(Origin.of(url))


def test_an_entry_is_found_by_its_host_and_port():
    config = {"auths": {"ghcr.io": auth("u:p:q"), "https://localhost:5000/v2/": auth("v:w"), "Quay.IO": auth("x:y")}}
    assert ask(config, "https://ghcr.io") == BasicAuth("u", "p:q")
    assert ask(config, "http://localhost:5000") == BasicAuth("v", "w")
    assert ask(config, "https://quay.io") == BasicAuth("x", "y")
    for other in (
        "https://ghcr.io:444",
        "https://xghcr.io",
        "https://ghcr.io.example",
        "http://localhost:5001",
        "ssh://ghcr.io",
    ):
        assert ask(config, other) is None


def test_the_longest_path_that_fits_counts():
    config = {"auths": {"r.io": auth("all:p"), "r.io/team": auth("team:p"), "https://r.io/team/app": auth("app:p")}}
    keychain = ChainKeychain.of(StaticKeychain(()), DockerConfig.from_secret(json.dumps(config)))
    origin = Origin.of("https://r.io")
    found = {
        name: keychain.repository_credentials(origin, name).username
        for name in ("team/app/x", "team/app", "team/b", "teams", "x")
    }
    assert found == {"team/app/x": "app", "team/app": "app", "team/b": "team", "teams": "all", "x": "all"}
    assert keychain.credentials(origin) == BasicAuth("all", "p")


def test_a_star_stands_for_a_part_of_one_label():
    config = {"auths": {"*.r.io": auth("u:p"), "x-*.s.io:5000": auth("v:p")}}
    assert ask(config, "https://a.r.io") == BasicAuth("u", "p")
    assert ask(config, "https://x-1.s.io:5000") == BasicAuth("v", "p")
    for other in ("https://r.io", "https://a.b.r.io", "https://a.r.io.evil", "https://y.s.io:5000", "https://x-1.s.io"):
        assert ask(config, other) is None


def test_a_source_asks_for_its_repository():
    config = {"auths": {}}
    with Registry(users={"robot": "hunter2"}) as registry:
        registry.put("team/app", "v1")
        config["auths"] = {registry.host: auth("nobody:x"), f"{registry.host}/team": auth("robot:hunter2")}
        keychain = DockerConfig.from_secret(json.dumps(config))
        source = OCISource(f"oci://{registry.host}/team/app:v1", keychain=keychain, insecure=True)
        assert source.resolve_revision().pointer == "v1"


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io"])
@pytest.mark.parametrize("host", ["docker.io", "registry-1.docker.io"])
def test_docker_hub_has_many_names(key, host):
    assert ask({"auths": {key: auth("u:p")}}, f"https://{host}") == BasicAuth("u", "p")


def test_every_kind_of_entry_is_understood():
    entries = {
        "a.io": {"username": "u", "password": "p"},
        "b.io": {"identitytoken": "refresh", **auth("u:")},
        "c.io": {"registrytoken": "bearer"},
        "d.io": {},
        "e.io/team": auth("u:p"),
    }
    found = {host: ask({"auths": entries}, f"https://{host}") for host in ("a.io", "b.io", "c.io", "d.io", "e.io")}
    assert found == {
        "a.io": BasicAuth("u", "p"), "b.io": BasicAuth("<token>", "refresh"), "c.io": BearerToken("bearer"),
        "d.io": None, "e.io": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "hunter2", "[]", '{"auths": []}', '{"auths": {"a.io": 1}}', '{"auths": {"a.io": {"auth": "hunter2!"}}}',
             '{"auths": {"a.io": {"auth": "aHVudGVyMg=="}}}'],
)  # fmt: skip
def test_a_broken_configuration_is_named_without_its_content(text):
    with pytest.raises(ConfigurationError) as caught:
        DockerConfig.from_secret(text).credentials(Origin.of("https://a.io"))
    error = caught.value
    while error is not None:
        assert "hunter2" not in str(error)
        error = error.__cause__ or error.__context__


def test_a_file_is_read_anew_each_time_and_need_not_be_there(tmp_path):
    keychain = DockerConfig.from_env({"DOCKER_CONFIG": str(tmp_path)})
    assert keychain.credentials(Origin.of("https://a.io")) is None
    for password in ("one", "two"):
        (tmp_path / "config.json").write_text(json.dumps({"auths": {"a.io": auth(f"u:{password}")}}))
        assert keychain.credentials(Origin.of("https://a.io")) == BasicAuth("u", password)
    assert pickle.loads(pickle.dumps(keychain)) == keychain


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Installs a credential helper that is a shell script."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def install(name: str, script: str) -> None:
        path = tmp_path / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return install


def from_file(tmp_path, config: object, **options) -> DockerConfig:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return DockerConfig(path=str(tmp_path / "config.json"), **options)


ECHO = """read server; printf '{"Username":"%s","Secret":"hunter2"}' "$server" """


def test_helpers_are_asked_for_their_hosts_and_the_store_for_the_rest(tmp_path, helper):
    helper("own", ECHO)
    helper("all", """printf '{"Username":"<token>","Secret":"t"}' """)
    config = {"credHelpers": {"a.io": "own"}, "credsStore": "all", "auths": {"b.io": auth("u:p"), "c.io": {}}}
    keychain = from_file(tmp_path, config)
    assert keychain.credentials(Origin.of("https://a.io")) == BasicAuth("a.io", "hunter2")
    assert keychain.credentials(Origin.of("https://b.io")) == BasicAuth("u", "p")
    assert keychain.credentials(Origin.of("https://c.io")) == BasicAuth("<token>", "t")
    helper("all", ECHO)
    assert keychain.credentials(Origin.of("https://docker.io")) == BasicAuth("https://index.docker.io/v1/", "hunter2")


def test_a_helper_that_knows_nothing_says_so(tmp_path, helper):
    helper("none", "echo credentials not found in native keychain; exit 1")
    assert from_file(tmp_path, {"credsStore": "none"}).credentials(Origin.of("https://a.io")) is None


@pytest.mark.parametrize("script", ["echo hunter2; exit 1", "echo hunter2", "echo '{\"Username\": 1}'", "exit 3"])
def test_a_failing_helper_is_an_error_without_what_it_said(tmp_path, helper, script):
    helper("bad", script)
    with pytest.raises(AuthenticationError) as caught:
        from_file(tmp_path, {"credsStore": "bad"}).credentials(Origin.of("https://a.io"))
    error = caught.value
    while error is not None:
        assert "hunter2" not in str(error)
        error = error.__cause__ or error.__context__


def test_a_helper_that_hangs_is_ended(tmp_path, helper):
    helper("slow", "sleep 60")
    with pytest.raises(TransportTimeoutError, match=r"after 0\.2 s during log in by docker-credential-slow"):
        from_file(tmp_path, {"credsStore": "slow"}, timeout=0.2).credentials(Origin.of("https://a.io"))


def test_the_deadline_of_who_asks_holds_for_a_helper(tmp_path, helper):
    helper("slow", "sleep 600")
    source = OCISource("oci://a.invalid/app:1", keychain=from_file(tmp_path, {"credsStore": "slow"}, timeout=600))
    for timeout in (0.2, 2, 20):  # until it has come so far
        with pytest.raises(TransportTimeoutError, match=f"timed out after {timeout:g} s") as caught:
            source.resolve_revision(operation=Operation(timeout))
        if caught.value.phase != "resolve":
            break
    assert caught.value.phase == "log in by docker-credential-slow"


def test_a_cancelled_call_ends_a_helper_that_a_chain_asks(tmp_path, helper):
    helper("slow", f"echo > {tmp_path}/runs; sleep 600")
    keychain = ChainKeychain.of(StaticKeychain(()), from_file(tmp_path, {"credsStore": "slow"}))
    source = OCISource("oci://a.invalid/app:1", keychain=keychain)
    with pytest.raises(OperationCancelledError):
        source.resolve_revision(operation=Operation(None, cancel=(tmp_path / "runs").exists))


def test_a_helper_that_is_not_there_is_named(tmp_path, helper):
    with pytest.raises(ConfigurationError, match="docker-credential-gone"):
        from_file(tmp_path, {"credsStore": "gone"}).credentials(Origin.of("https://a.io"))


@pytest.mark.parametrize("name", ["../x", "/bin/sh", "a b", "", "-x", "x\n", 1])
def test_only_a_name_can_be_a_helper(tmp_path, name):
    config = {"credHelpers": {"a.io": name}}
    with pytest.raises(ConfigurationError):
        from_file(tmp_path, config).credentials(Origin.of("https://a.io"))


def test_a_secret_runs_no_program(tmp_path, helper):
    helper("evil", f"touch {tmp_path}/ran; {ECHO}")
    assert ask({"credsStore": "evil", "credHelpers": {"a.io": "evil"}}, "https://a.io") is None
    assert not (tmp_path / "ran").exists()


# --- clouds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keychain", "hosts"),
    [
        (ElasticContainerRegistry(), ["123456789012.dkr.ecr.eu-west-1.amazonaws.com", "public.ecr.aws",
                                      "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                                      "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com",
                                      "123456789012.dkr-ecr.us-east-1.on.aws"]),
        (GoogleRegistry(), ["europe-docker.pkg.dev", "gcr.io", "eu.gcr.io", "us-west1-docker.pkg.dev"]),
        (AzureRegistry(), ["example.azurecr.io", "example.azurecr.cn", "example.azurecr.us"]),
    ],
)  # fmt: skip
def test_a_clouds_hosts_are_matched_as_a_whole(keychain, hosts):
    for host in hosts:
        assert keychain._knows(host)
        near = [
            f"x{host}.example",
            f"{host}.example",
            f"example.com/{host}",
            f"evil-{host}x",
            f"a.b.{host}",
            f"{host}\n",
            f"{host}.",
        ]
        assert not any(keychain._knows(other) for other in near)
        assert keychain.credentials(Origin.of(f"http://{host}")) is None
        assert keychain.credentials(Origin.of(f"https://{host}:444")) is None


def module(monkeypatch, name: str, **members: object) -> None:
    found = types.ModuleType(name)
    found.__dict__.update(members)
    monkeypatch.setitem(sys.modules, name, found)


def test_ecr_answers_with_what_amazon_gives_and_asks_once(monkeypatch):
    asked = []

    class Client:
        def get_authorization_token(self):
            asked.append("token")
            token = base64.b64encode(b"AWS:hunter2").decode()
            data = {"authorizationToken": token, "expiresAt": dt.datetime.now(dt.UTC) + dt.timedelta(hours=12)}
            return {"authorizationData": [data]}

    def client(service, region_name, config):
        asked.append(f"{service} {region_name}")
        return Client()

    module(monkeypatch, "boto3", client=client)
    module(monkeypatch, "botocore", config=None)
    module(monkeypatch, "botocore.config", Config=lambda **options: options)
    keychain = ElasticContainerRegistry()
    origin = Origin.of("https://123456789012.dkr.ecr.eu-west-1.amazonaws.com")
    assert [keychain.credentials(origin) for _ in range(2)] == [BasicAuth("AWS", "hunter2")] * 2
    assert asked == ["ecr eu-west-1", "token"]
    assert b"hunter2" not in pickle.dumps(keychain)
    assert "hunter2" not in repr(keychain)


def test_a_login_about_to_end_is_replaced(monkeypatch):
    asked = []

    class Credentials:
        token = "t"
        expiry = dt.datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(seconds=60)

        def refresh(self, request):
            asked.append(request)

    module(monkeypatch, "google", auth=None)
    module(monkeypatch, "google.auth", default=lambda scopes: (Credentials(), "project"))
    module(monkeypatch, "google.auth.transport", requests=None)
    module(monkeypatch, "google.auth.transport.requests", Request=lambda: "request")
    keychain = GoogleRegistry()
    for _ in range(2):
        assert keychain.credentials(Origin.of("https://eu.gcr.io")) == BasicAuth("oauth2accesstoken", "t")
    assert asked == ["request"] * 2


def test_a_cloud_that_refuses_is_an_authentication_error_without_its_text(monkeypatch):
    def default(scopes):
        raise RuntimeError("bad token hunter2")

    module(monkeypatch, "google", auth=None)
    module(monkeypatch, "google.auth", default=default)
    module(monkeypatch, "google.auth.transport", requests=None)
    module(monkeypatch, "google.auth.transport.requests", Request=None)
    with pytest.raises(AuthenticationError, match="RuntimeError") as caught:
        GoogleRegistry().credentials(Origin.of("https://gcr.io"))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("waits", ["for the cloud", "for who asked before"])
def test_a_cloud_that_does_not_answer_is_waited_for_no_longer_than_the_call_may_take(monkeypatch, waits):
    """Its library knows nothing of our deadline: it is left to itself, and what it finds after all is kept."""
    asked, answer = threading.Event(), threading.Event()

    def default(scopes):
        asked.set()
        answer.wait()
        return types.SimpleNamespace(token="t", expiry=None, refresh=lambda request: None), "project"

    module(monkeypatch, "google", auth=None)
    module(monkeypatch, "google.auth", default=default)
    module(monkeypatch, "google.auth.transport", requests=None)
    module(monkeypatch, "google.auth.transport.requests", Request=lambda: "request")
    keychain, origin = GoogleRegistry(timeout=600), Origin.of("https://gcr.io")
    try:
        with pytest.raises(OperationCancelledError):
            keychain.credentials(origin, operation=Operation(None, cancel=asked))
        if waits == "for who asked before":
            with pytest.raises(TransportTimeoutError, match=r"after 0\.2 s during log in"):
                keychain.credentials(origin, operation=Operation(0.2))
    finally:
        answer.set()
    assert keychain.credentials(origin) == BasicAuth("oauth2accesstoken", "t")


@pytest.mark.parametrize(
    ("keychain", "host", "extra", "name"),
    [
        (ElasticContainerRegistry(), "public.ecr.aws", "s3", "boto3"),
        (GoogleRegistry(), "gcr.io", "gcs", "google.auth"),
        (AzureRegistry(), "example.azurecr.io", "azure", "azure.identity"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, keychain: Keychain, host, extra, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError) as caught:
        keychain.credentials(Origin.of(f"https://{host}"))
    assert caught.value.extra == extra


def test_azure_exchanges_the_machines_token_for_the_registrys(monkeypatch):
    class Credential:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def get_token(self, scope):
            assert scope == "https://management.azure.com/.default"
            return types.SimpleNamespace(token="hunter2")

    class Answer:
        status = 200

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, _limit):
            return b'{"refresh_token": "r"}'

    sent = {}

    class Client:
        def __init__(self, **_):
            pass

        __enter__, __exit__ = Answer.__enter__, Answer.__exit__

        def request(self, method, url, *, content, follow, **_):
            sent.update(method=method, url=url, content=content, follow=follow)
            return Answer()

    module(monkeypatch, "azure", identity=None)
    module(monkeypatch, "azure.identity", DefaultAzureCredential=Credential)
    monkeypatch.setattr(registries, "HTTPClient", Client)
    found = AzureRegistry().credentials(Origin.of("https://example.azurecr.io"))
    assert found == BasicAuth("00000000-0000-0000-0000-000000000000", "r")
    assert sent["url"] == "https://example.azurecr.io/oauth2/exchange"
    assert "hunter2" not in sent["url"]
    assert b"access_token=hunter2" in sent["content"]
    assert sent["follow"] is False

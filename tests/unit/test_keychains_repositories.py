"""The clouds' Git repositories: whose hosts they answer for, how they log in, and that nothing of it shows."""

import base64
import datetime as dt
import json
import pickle
import sys
import time
import types

import pytest

from fluxsrc.auth import BasicAuth, BearerToken, Origin, Proxy
from fluxsrc.errors import AuthenticationError, ConfigurationError, MissingExtraError
from fluxsrc.git.cache import fingerprint
from fluxsrc.keychains import AzureDevOps, CodeCommit
from fluxsrc.keychains.repositories import signed_password

DEVOPS = Origin.of("https://dev.azure.com")
REPOSITORY = "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/app"


@pytest.fixture
def azure(monkeypatch):
    """What azure-identity was asked; its tokens last for `lasts` seconds."""

    class Identity:
        asked = []
        options = {}
        lasts = 3600
        token = "hunter2"

        def __init__(self, **options):
            Identity.options = options

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def get_token(self, scope):
            self.asked.append(scope)
            return types.SimpleNamespace(token=Identity.token, expires_on=int(time.time()) + self.lasts)

    for name, members in (("azure", {}), ("azure.identity", {"DefaultAzureCredential": Identity})):
        module = types.ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
    Identity.asked = []
    return Identity


def test_azure_devops_is_given_a_token_of_its_own_once(azure):
    """The scope is that of Azure DevOps, and the token is kept while it is good; no pickle and no repr has it."""
    keychain = AzureDevOps()
    assert [keychain.credentials(DEVOPS) for _ in range(2)] == [BearerToken("hunter2")] * 2
    assert azure.asked == ["499b84ac-1321-427f-aa17-267ca6975798/.default"]
    assert b"hunter2" not in pickle.dumps(keychain)
    assert "hunter2" not in repr(keychain)


def test_a_token_about_to_end_is_replaced(azure):
    azure.lasts = 60
    keychain = AzureDevOps(proxy=Proxy(url="http://proxy.example:3128"))
    for _ in range(2):
        keychain.credentials(DEVOPS)
    assert len(azure.asked) == 2
    assert azure.options == {"proxies": dict.fromkeys(("http", "https"), "http://proxy.example:3128")}


def test_who_it_is_stays_the_same_when_the_token_changes(azure):
    """So that what one token got from a cache, the next one gets, and nobody else's."""

    def token(who, number):
        claims = json.dumps({"tid": "tenant", "oid": who, "number": number}).encode()
        azure.token = f"h.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.s"
        return AzureDevOps().credentials(DEVOPS)

    first, second, other = token("ada", 1), token("ada", 22), token("eve", 1)
    assert first != second
    assert fingerprint(first, b"salt") == fingerprint(second, b"salt") != fingerprint(other, b"salt")
    azure.token = "opaque"
    assert AzureDevOps().credentials(DEVOPS).identity is None


def test_who_it_is_in_codecommit_stays_the_same_for_the_same_keys():
    """A password ends after a quarter of an hour; who has only the key's name does not get its identity."""
    host, path = "git-codecommit.eu-west-1.amazonaws.com", "/v1/repos/app"

    def name(secret, minute):
        keys = types.SimpleNamespace(access_key="AKID", secret_key=secret, token=None)
        found = signed_password(keys, host, path, dt.datetime(2026, 1, 2, 3, minute, tzinfo=dt.UTC))
        assert secret not in repr(found)
        return fingerprint(found, b"salt")

    assert name("hunter2", 1) == name("hunter2", 30) != name("hunter3", 1)


@pytest.mark.parametrize(
    "url",
    [
        "http://dev.azure.com",
        "https://dev.azure.com:444",
        "https://dev.azure.com.example",
        "https://xdev.azure.com",
        "https://visualstudio.com",
        "https://a.b.visualstudio.com",
        "https://github.com",
    ],
)
def test_no_other_host_is_given_the_token(url, azure):
    assert AzureDevOps().credentials(Origin.of(url)) is None
    assert azure.asked == []


def test_the_older_hosts_of_azure_devops_are_known(azure):
    assert AzureDevOps().credentials(Origin.of("https://team.visualstudio.com")) == BearerToken("hunter2")
    assert len(azure.asked) == 1


@pytest.mark.parametrize("token", [None, "lent=="])
def test_codecommit_is_signed_as_botocore_signs_it(token):
    """The oracle is Amazon's own signer, used as git-remote-codecommit uses it."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    host, path = "git-codecommit.eu-west-1.amazonaws.com", "/v1/repos/my.app_1"
    keys = Credentials("AKIDEXAMPLE", "hunter2", token)
    request = AWSRequest(method="GIT", url=f"https://{host}{path}")
    request.context["timestamp"] = "20260102T030405"
    signer = SigV4Auth(keys, "codecommit", "eu-west-1")
    text = signer.string_to_sign(request, f"GIT\n{path}\n\nhost:{host}\n\nhost\n")
    expected = f"20260102T030405Z{signer.signature(text, request)}"
    found = signed_password(keys.get_frozen_credentials(), host, path, dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC))
    assert found == BasicAuth("AKIDEXAMPLE" if token is None else "AKIDEXAMPLE%lent==", expected)


def test_codecommit_answers_for_its_own_host_with_the_keys_of_the_machine(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ada")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    keychain = CodeCommit(REPOSITORY)
    found = keychain.credentials(Origin.of(REPOSITORY))
    assert found.username == "ada"
    assert found.password.reveal()[15] == "Z"
    assert keychain.credentials(Origin.of("https://git-codecommit.us-east-1.amazonaws.com")) is None
    assert keychain.credentials(Origin.of("https://example.com")) is None


def test_codecommit_without_keys_says_so(monkeypatch, tmp_path):
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    with pytest.raises(AuthenticationError, match="no AWS credentials"):
        CodeCommit(REPOSITORY).credentials(Origin.of(REPOSITORY))


@pytest.mark.parametrize(
    "url",
    [
        "http://git-codecommit.eu-west-1.amazonaws.com/v1/repos/app",
        "https://git-codecommit.eu-west-1.amazonaws.com.example/v1/repos/app",
        "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/app/x",
        "https://example.com/v1/repos/app",
        "https://[git-codecommit.eu-west-1.amazonaws.com/v1/repos/app",
        "https://git-codecommit.eu-west-1.amazonaws.com:x/v1/repos/app",
    ],
)
def test_what_is_no_repository_there_is_refused(url):
    with pytest.raises(ConfigurationError, match="no repository in CodeCommit"):
        CodeCommit(url)


@pytest.mark.parametrize(
    ("keychain", "url", "module", "extra"),
    [
        (AzureDevOps(), "https://dev.azure.com", "azure.identity", "azure"),
        (CodeCommit(REPOSITORY), REPOSITORY, "boto3", "s3"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, keychain, url, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as caught:
        keychain.credentials(Origin.of(url))
    assert caught.value.extra == extra

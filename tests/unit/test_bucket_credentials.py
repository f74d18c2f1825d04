"""How the keys and tokens of the services are found; here by moto's token service, files, and the environment."""

import base64
import datetime as dt
import hashlib
import hmac
import logging
import sys
import threading
import time
import traceback
import types
from urllib.parse import parse_qs

import attrs
import pytest

from fluxsrc.auth import Anonymous, Proxy, Secret
from fluxsrc.bucket import (
    AWSDefaultChain,
    AWSKeys,
    AWSProfile,
    AWSRole,
    AWSWebIdentity,
    AzureBucket,
    AzureClientCertificate,
    AzureManagedIdentity,
    BucketSource,
    GCSBucket,
    GoogleServiceAccount,
    LDAPIdentity,
    S3Bucket,
)
from fluxsrc.bucket import aws as aws_auth
from fluxsrc.bucket import google as google_auth
from fluxsrc.bucket import microsoft as azure_auth
from fluxsrc.bucket.aws import key_finder
from fluxsrc.bucket.microsoft import AzureAccountKey, AzureSAS, sas_query, shared_key
from fluxsrc.errors import (
    AuthenticationError,
    ConfigurationError,
    MissingExtraError,
    RemoteProtocolError,
    TransportError,
    TransportTimeoutError,
)
from fluxsrc.operation import Operation
from fluxsrc.testing.object_server import ObjectServer
from helpers.web_server import WebServer

SECRET = "hunter2!"
ROLE = "arn:aws:iam::123456789012:role/reader"


@pytest.fixture(scope="module")
def moto():
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch, tmp_path):
    """Nothing of this machine: no variables, no files, no metadata service."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def find(credentials, **options):
    return key_finder(credentials, **{"region": "us-east-1", "proxy": None, "url": "s3://models", **options})(
        Operation()
    )


def test_given_keys_and_anonymity_need_no_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    keys = AWSKeys("ada", "hunter2")
    assert find(keys) is keys
    assert find(Anonymous()) is None
    with pytest.raises(MissingExtraError, match=r"fluxsrc\[s3\]"):
        find(AWSDefaultChain())


def test_the_default_chain_reads_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ada")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    assert find(AWSDefaultChain()) == AWSKeys("ada", "hunter2")


def test_no_credentials_at_all_are_an_error_that_says_what_to_do():
    with pytest.raises(AuthenticationError, match="Anonymous"):
        find(AWSDefaultChain())


def test_a_profile_is_read_from_the_shared_files(tmp_path):
    (tmp_path / "credentials").write_text("[dev]\naws_access_key_id = ada\naws_secret_access_key = hunter2\n")
    assert find(AWSProfile("dev")) == AWSKeys("ada", "hunter2")
    with pytest.raises(ConfigurationError):
        find(AWSProfile("prod"))


def test_a_role_is_assumed_with_other_keys(moto):
    keys = find(AWSRole(role_arn=ROLE, source=AWSKeys("ada", "hunter2"), external_id="xyz", sts_endpoint=moto))
    assert keys.access_key.startswith("ASIA")
    assert isinstance(keys.session_token, Secret)


def test_a_role_that_cannot_be_one_is_the_caller_s_to_change(moto):
    with pytest.raises(ConfigurationError):
        find(AWSRole(role_arn="x", source=AWSKeys("ada", "hunter2"), sts_endpoint=moto))


def test_a_role_is_assumed_with_a_token_from_a_file(moto, tmp_path):
    token = tmp_path / "token"
    token.write_text("eyJ.a.b")
    keys = find(AWSWebIdentity(role_arn=ROLE, token_file=str(token), sts_endpoint=moto))
    assert keys.access_key.startswith("ASIA")


def test_the_chain_assumes_its_role_at_the_service_that_is_named(moto, tmp_path, monkeypatch):
    """As a pod does whose ServiceAccount has a role."""
    token = tmp_path / "token"
    token.write_text("eyJ.a.b")
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    assert find(AWSDefaultChain(sts_endpoint=moto)).access_key.startswith("ASIA")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(TransportError, match="token service"):
        find(AWSDefaultChain(sts_endpoint="http://127.0.0.1:1"))


class Directory(WebServer):
    """MinIO's token service, which knows one person; what it lends lasts for `lasts` seconds."""

    def __init__(self):
        super().__init__(self.look_up)
        self.asked = []
        self.lasts = 3600
        self.says = None

    def look_up(self, _request, body):
        form = {name: value for name, [value, *_] in parse_qs(body.decode()).items()}
        self.asked.append(form)
        if form["LDAPPassword"] != SECRET:
            return 400, self.says or b"<ErrorResponse/>"
        return 200, self.says or self.lend()

    def lend(self):
        end = dt.datetime.fromtimestamp(time.time() + self.lasts, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"""<?xml version="1.0" encoding="UTF-8"?>
<AssumeRoleWithLDAPIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithLDAPIdentityResult>
<Credentials><AccessKeyId>lent{len(self.asked)}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>
<SessionToken>t</SessionToken><Expiration>{end}</Expiration></Credentials>
</AssumeRoleWithLDAPIdentityResult></AssumeRoleWithLDAPIdentityResponse>""".encode()


@pytest.fixture
def directory():
    with Directory() as found:
        yield found


def ldap(directory, password=SECRET):
    return LDAPIdentity(endpoint=directory.url, username="ada", password=password)


def test_keys_are_lent_to_somebody_in_the_directory_once(directory):
    """By name and password; again only shortly before they end."""
    find_keys = key_finder(ldap(directory), region=None, proxy=None, url="s3://models")
    assert find_keys(Operation()) == find_keys(Operation()) == AWSKeys("lent1", "s", "t")
    assert directory.asked == [
        {
            "Action": "AssumeRoleWithLDAPIdentity",
            "Version": "2011-06-15",
            "LDAPUsername": "ada",
            "LDAPPassword": SECRET,
        }
    ]
    directory.lasts = 60
    find_keys = key_finder(ldap(directory), region=None, proxy=None, url="s3://models")
    assert [find_keys(Operation()).access_key for _ in range(2)] == ["lent2", "lent3"]


def test_a_wrong_password_is_an_authentication_error_that_does_not_show_it(directory):
    wrong = SECRET[::-1]
    with pytest.raises(AuthenticationError, match="refuses to lend keys") as caught:
        find(ldap(directory, wrong))
    assert wrong not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("answer", [b"{}", b"<a/>", b"<AssumeRoleWithLDAPIdentityResponse/>"])
def test_an_answer_without_keys_is_a_protocol_error(directory, answer):
    directory.says = answer
    with pytest.raises(RemoteProtocolError, match="has no keys"):
        find(ldap(directory))


def test_lent_keys_sign_the_requests_for_a_bucket(directory):
    with ObjectServer() as server:
        server.put("models", "a", b"1")
        bucket = S3Bucket("models", endpoint=server.url, region="us-east-1", credentials=ldap(directory))
        assert SECRET not in repr(bucket)
        BucketSource(bucket).resolve_revision()
        assert "Credential=lent1/" in server.requests[-1].headers["authorization"]
        assert server.requests[-1].headers["x-amz-security-token"] == "t"


@pytest.mark.parametrize(
    "endpoint", ["minio.example.com", "ftp://minio", "https://ada:hunter2@minio", "https://[minio"]
)
def test_what_is_no_token_service_is_refused(endpoint):
    with pytest.raises(ConfigurationError, match="no token service") as caught:
        LDAPIdentity(endpoint=endpoint, username="ada", password=SECRET)
    assert "hunter2" not in str(caught.value)


def test_a_client_certificate_reaches_azure_identity(monkeypatch):
    """With its password, its chain and the authority; what cannot be one is said without quoting it."""
    seen = {}

    class Credential:
        def __init__(self, tenant, client, **options):
            if options["certificate_data"] != b"PEM":
                raise ValueError(SECRET)
            seen.update(options, tenant=tenant, client=client)

    for name, members in (("azure", {}), ("azure.identity", {"CertificateCredential": Credential})):
        module = types.ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys.modules["azure"], "identity", sys.modules["azure.identity"], raising=False)
    given = AzureClientCertificate(
        tenant_id="t", client_id="c", certificate="PEM", password="p", send_chain=True, authority_host="https://l"
    )
    azure_auth.token_finder(given, url="az://models", proxy=None)
    assert seen == {
        "tenant": "t",
        "client": "c",
        "certificate_data": b"PEM",
        "password": "p",
        "send_certificate_chain": True,
        "authority": "https://l",
    }
    with pytest.raises(ConfigurationError, match="the certificate of the client c") as caught:
        azure_auth.token_finder(attrs.evolve(given, certificate=SECRET), url="az://models", proxy=None)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_token_service_that_is_not_there_is_a_transport_error_without_secrets(monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    role = AWSRole(role_arn=ROLE, source=AWSKeys("ada", SECRET), sts_endpoint="http://127.0.0.1:1")
    with pytest.raises(TransportError) as caught:
        find(role, proxy=Proxy(url="http://127.0.0.1:1", username="u", password=SECRET))
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("module", "name", "bucket"),
    [
        (aws_auth, "_botocore_credentials", S3Bucket("models")),
        (google_auth, "_load", GCSBucket("models")),
        (azure_auth, "_get_token", AzureBucket("models", account="ada", credentials=AzureManagedIdentity())),
    ],
    ids=["AWS", "Google", "Azure"],
)
def test_the_deadline_holds_while_a_library_looks_for_credentials(monkeypatch, module, name, bucket):
    """None of them knows of it, and where nobody answers they ask for minutes."""
    over = threading.Event()

    def look(*_):
        over.wait(60)
        raise OSError

    monkeypatch.setattr(module, name, look)
    monkeypatch.setattr(azure_auth, "_credential", lambda *_: None)
    with pytest.raises(TransportTimeoutError):
        BucketSource(bucket, timeout=0.2).resolve_revision()
    over.set()


def test_keys_are_found_once_for_a_bucket_and_asked_for_again_when_they_end(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ada")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    with ObjectServer() as server:
        server.put("models", "a", b"1")
        source = BucketSource(S3Bucket("models", endpoint=server.url, region="us-east-1"))
        source.resolve_revision()
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        source.resolve_revision()
        assert "Credential=ada/" in server.requests[-1].headers["authorization"]


@pytest.mark.parametrize(
    ("bucket", "module", "extra"),
    [
        (GCSBucket("models"), "google.auth", "gcs"),
        (GCSBucket("models", credentials=GoogleServiceAccount("{}")), "google.auth", "gcs"),
        (AzureBucket("models", account="ada"), "azure.identity", "azure"),
        (AzureBucket("models", account="ada", credentials=AzureManagedIdentity("id")), "azure.identity", "azure"),
    ],
)
def test_a_missing_library_is_named_by_its_extra(monkeypatch, bucket, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    with pytest.raises(MissingExtraError) as caught:
        BucketSource(bucket, timeout=5).resolve_revision()
    assert caught.value.extra == extra


def test_an_emulator_of_google_s_is_found_in_the_environment_on_request(monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:4443")
    assert GCSBucket.from_env("models").url == "gs://models?endpoint=http://127.0.0.1:4443&anonymous=true"
    assert GCSBucket.from_env("models").credentials == Anonymous()
    assert GCSBucket("models").url == "gs://models"
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    assert GCSBucket.from_env("models") == GCSBucket("models")


def test_azure_s_tokens_are_kept_until_shortly_before_their_end(monkeypatch):
    """Five minutes early, and once for all threads."""

    class Token:
        token = "secret-token"
        expires_on = time.time() + 3600

    class Credential:
        asked = 0

        def get_token(self, scope):
            assert scope == "https://storage.azure.com/.default"
            self.asked += 1
            return Token

    credential = Credential()
    monkeypatch.setattr(azure_auth, "_credential", lambda *_: credential)
    monkeypatch.setattr(
        azure_auth, "_get_token", lambda c, _: (Secret(c.get_token(azure_auth._SCOPE).token), Token.expires_on)
    )
    find_token = azure_auth.token_finder(AzureManagedIdentity(), url="az://models", proxy=None)
    assert find_token(Operation()) == find_token(Operation()) == Secret("secret-token")
    assert credential.asked == 1
    Token.expires_on = time.time() + 100
    find_token = azure_auth.token_finder(AzureManagedIdentity(), url="az://models", proxy=None)
    find_token(Operation())
    find_token(Operation())
    assert credential.asked == 3


def test_a_shared_key_signs_what_azure_documents():
    """Verb, eleven plain headers of which a GET has If-Match, the x-ms- ones sorted, and the resource with its query."""
    key = base64.b64encode(b"key").decode()
    headers = {"x-ms-version": "2021-12-02", "x-ms-date": "Sat, 21 Nov 2026 00:00:00 GMT", "If-Match": '"e"'}
    text = (
        'GET\n\n\n\n\n\n\n\n"e"\n\n\n\n'
        "x-ms-date:Sat, 21 Nov 2026 00:00:00 GMT\nx-ms-version:2021-12-02\n"
        "/ada/models/a%20b\ncomp:list\nprefix:a b"
    )
    expected = base64.b64encode(hmac.digest(b"key", text.encode(), hashlib.sha256)).decode()
    signed = shared_key("ada", AzureAccountKey(key), "/models/a%20b", [("prefix", "a b"), ("comp", "list")], headers)
    assert signed.reveal() == f"SharedKey ada:{expected}"


def test_a_key_that_is_not_base64_is_refused_without_showing_it():
    with pytest.raises(ConfigurationError) as caught:
        shared_key("ada", AzureAccountKey(SECRET), "/", [], {})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("token", ["?sv=1&sig=a%2Bb%3D", "sv=1&sig=a+b=", "sv=1&sig=a%2Bb=&"])
def test_a_sas_token_is_encoded_once_however_it_is_given(token):
    assert sas_query(AzureSAS(token)) == "sv=1&sig=a%2Bb%3D"

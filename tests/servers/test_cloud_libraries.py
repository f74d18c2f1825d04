"""What the clouds' own libraries take: they come with the extras that this lane installs, and the default tests do without."""

import contextlib
import datetime as dt
import json
import time

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fluxsrc.bucket import AzureBucket, AzureClientCertificate, AzureManagedIdentity, BucketSource, GCSBucket
from fluxsrc.bucket.microsoft import token_finder
from fluxsrc.errors import ConfigurationError
from fluxsrc.testing.object_server import ObjectServer
from helpers.web_server import WebServer

pytestmark = pytest.mark.servers

PASSWORD = "hunter2"


def certificate():
    """A certificate and its encrypted key, PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ada")]), dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now)
    encryption = serialization.BestAvailableEncryption(PASSWORD.encode())
    both = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    both += key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return both.decode()


def test_azure_identity_takes_a_certificate_with_its_key():
    """One PEM, which only the right password opens; no request is made for that."""
    given = AzureClientCertificate(tenant_id="t", client_id="c", certificate=certificate(), password=PASSWORD)
    assert callable(token_finder(given, url="az://models", proxy=None))
    for wrong in ({"password": "wrong"}, {"password": None}, {"certificate": "PEM"}):
        with pytest.raises(ConfigurationError, match="the certificate of the client c"):
            token_finder(attrs.evolve(given, **wrong), url="az://models", proxy=None)


@contextlib.contextmanager
def bucket_for(token):
    """A server with one object, which lets in whoever has this token."""
    with ObjectServer(secret=f"Bearer {token}") as server:
        server.put("models", "a", b"1")
        yield server.url


def paths(bucket):
    with BucketSource(bucket).fetch() as snapshot:
        return [entry.path for entry in snapshot.entries()]


def test_google_auth_finds_a_machine_s_own_account(monkeypatch, tmp_path):
    """Application default credentials: no variable and no file of gcloud's, but a metadata server."""
    answers = {"/token": {"access_token": "ya29.own", "expires_in": 3600, "token_type": "Bearer"}}
    account = {"email": "ada@example", "scopes": [], "aliases": ["default"]}

    def answer(request, _data):
        path = request.path.partition("?")[0]
        found = next((text for end, text in answers.items() if path.endswith(end)), account)
        return 200, json.dumps(found).encode(), {"Metadata-Flavor": "Google", "Content-Type": "application/json"}

    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with WebServer(answer) as metadata, bucket_for("ya29.own") as url:
        host = metadata.url.removeprefix("http://")
        monkeypatch.setenv("GCE_METADATA_HOST", host)
        monkeypatch.setenv("GCE_METADATA_IP", host)
        assert paths(GCSBucket("models", endpoint=url)) == ["a"]


def test_azure_identity_finds_a_managed_identity(monkeypatch):
    """As App Service offers it: an endpoint and a header in the environment."""

    def answer(request, _data):
        good = request.headers.get("x-identity-header") == PASSWORD and "client_id=ada" in request.path
        token = {"access_token": "eyJ.own", "expires_on": str(int(time.time()) + 3600), "token_type": "Bearer"}
        return 200 if good else 401, json.dumps(token).encode(), {"Content-Type": "application/json"}

    with WebServer(answer) as endpoint, bucket_for("eyJ.own") as url:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{endpoint.url}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", PASSWORD)
        bucket = AzureBucket("models", account="ada", endpoint=url, credentials=AzureManagedIdentity("ada"))
        assert paths(bucket) == ["a"]

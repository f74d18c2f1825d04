"""A service account of Google's gets its tokens from a token service, over our own transport.

google-auth signs, and is not part of the default test environment; so this is here.
"""

import contextlib
import json
import traceback
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fluxsrc.bucket import BucketSource, GCSBucket, GoogleServiceAccount
from fluxsrc.errors import AuthenticationError, ConfigurationError
from fluxsrc.testing.object_server import ObjectServer
from helpers.web_server import WebServer

pytestmark = pytest.mark.servers


@contextlib.contextmanager
def token_service(status=200):
    """Gives everybody the same token, and counts how often; yields its URL and what was asked."""
    asked = []

    def answer(_request, data):
        asked.append(parse_qs(data.decode()))
        body = {"access_token": "ya29.secret", "expires_in": 3600, "token_type": "Bearer"}
        return status, json.dumps(body if status == 200 else {"error": "invalid_grant", "leak": "hunter2"}).encode()

    with WebServer(answer) as server:
        yield f"{server.url}/token", asked


def key_file(token_uri):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    fields = {"type": "service_account", "client_email": "a@b", "private_key": pem, "private_key_id": "1"}
    return json.dumps(fields | {"token_uri": token_uri})


def test_a_token_is_got_once_and_sent_with_every_request():
    """Signed by the account, for reading only."""
    with token_service() as (uri, asked), ObjectServer(secret="ya29.secret") as server:
        for number in range(30):
            server.put("models", f"{number:02}", b"1")
        bucket = GCSBucket("models", endpoint=server.url, credentials=GoogleServiceAccount(key_file(uri)))
        with BucketSource(bucket).fetch() as snapshot:
            assert [entry.read() for entry in snapshot.entries()] == [b"1"] * 30
        assert len(asked) == 1
        assert asked[0]["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]


def test_a_refused_account_is_an_error_without_the_service_s_answer():
    with token_service(status=400) as (uri, _):
        bucket = GCSBucket("models", credentials=GoogleServiceAccount(key_file(uri)))
        with pytest.raises(AuthenticationError) as caught:
            BucketSource(bucket, timeout=20).resolve_revision()
        assert "leak" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("text", ["not JSON", "{}", "[]", '{"private_key": "hunter2", "client_email": "a@b"}'])
def test_a_key_file_that_is_none_is_refused_without_showing_it(text):
    with pytest.raises(ConfigurationError) as caught:
        BucketSource(GCSBucket("models", credentials=GoogleServiceAccount(text))).resolve_revision()
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))

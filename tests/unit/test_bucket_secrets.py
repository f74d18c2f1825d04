"""Keys, tokens, SAS tokens and signatures of buckets: in no text, no pickle of an error, no store, and at no other server.

The server quotes back whatever it was sent: in bodies, in headers, in places to go to.
"""

import base64
import logging
import pickle
import re
import traceback
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from fluxsrc.auth import BearerToken
from fluxsrc.bucket import AWSKeys, AzureAccountKey, AzureBucket, AzureSAS, BucketSource, GCSBucket, S3Bucket
from fluxsrc.errors import FluxSrcError
from fluxsrc.operation import Operation
from fluxsrc.stores import LocalStore
from fluxsrc.testing.object_server import ObjectServer

NAME = "models"
SECRET = "s3cr3t/p4ss+w0rd="
KEY = base64.b64encode(SECRET.encode()).decode()
SAS = "sv=2026-02-06&se=2030-01-01T00%3A00%3A00Z&sr=c&sp=rl&sig=s3cr3t%2Fp4ss%2Bw0rd%3D"
BUCKETS = {
    "keys": lambda url: S3Bucket(NAME, endpoint=url, region="us-east-1", credentials=AWSKeys("ada", SECRET)),
    "session": lambda url: S3Bucket(NAME, endpoint=url, region="us-east-1", credentials=AWSKeys("ada", "x", SECRET)),
    "bearer": lambda url: GCSBucket(NAME, endpoint=url, credentials=BearerToken(KEY)),
    "sas": lambda url: AzureBucket(NAME, account="ada", endpoint=url, credentials=AzureSAS(SAS)),
    "account key": lambda url: AzureBucket(NAME, account="ada", endpoint=url, credentials=AzureAccountKey(KEY)),
}
LISTING = r"GET /(models/?\?|storage/v1/b/models/o\?)"
READING = r"GET /(models/a|(download/)?storage/v1/b/models/o/a)"


pytestmark = pytest.mark.usefixtures("impatient")


def sent(server: ObjectServer) -> set[str]:
    """Every secret and every signature that travelled, in each form in which it could be quoted."""
    found = {SECRET, KEY, SAS, "s3cr3t%2Fp4ss%2Bw0rd%3D"}
    for request in server.requests:
        fields = {name.lower(): value for name, value in request.headers.items()}
        found |= {fields.get("authorization", SECRET), fields.get("x-amz-security-token", SECRET)}
        found |= set(re.findall(r"Signature=(\w+)", fields.get("authorization", "")))
        found |= set(parse_qs(urlsplit(request.path).query).get("sig", []))
    return found


def texts_of(error: BaseException) -> list[str]:
    """The error, and whatever hangs on it, also where `from None` hides it from people."""
    texts = traceback.format_exception(error)
    todo: list[BaseException | None] = [error]
    while todo:
        exc = todo.pop()
        if exc is not None:
            texts += [str(exc), repr(exc), repr(vars(exc)), repr(exc.args)]
            todo += [exc.__cause__, exc.__context__]
    return texts


def answers(other: str) -> list[dict]:
    """What a server may say that has nothing good in mind."""
    quoting = f"<Error><Code>{SECRET}</Code><Message>{SAS} {KEY}</Message></Error>".encode()
    headers = {"x-ms-error-code": SECRET, "x-amz-request-id": SECRET, "Content-Type": "text/plain"}
    return [
        {"status": 403, "body": quoting, "headers": headers},
        {"status": 400, "body": quoting, "headers": headers},
        {"status": 200, "body": quoting, "headers": headers},
        {"status": 503, "body": quoting, "headers": headers},
        {"status": 307, "headers": {"Location": f"{other}/models?{SAS}"}},
        {"status": 301, "headers": {"Location": f"{other}/models?{SAS}", "x-amz-bucket-region": "eu-west-1"}},
    ]


@pytest.mark.parametrize("kind", BUCKETS)
@pytest.mark.parametrize("match", [LISTING, READING], ids=["listing", "reading"])
def test_no_failure_tells_a_secret_or_takes_it_elsewhere(kind, match, tmp_path, caplog):
    """Whatever the answer: in errors and their pickles, in logs, in progress, in the store, at another server."""
    caplog.set_level(logging.DEBUG)
    with ObjectServer() as server, ObjectServer() as other, LocalStore(tmp_path / "store") as store:
        server.put(NAME, "a", b"content")
        source = BucketSource(BUCKETS[kind](server.url))
        texts, told = [repr(source), str(source), source.url, repr(source.bucket)], []
        assert pickle.loads(pickle.dumps(source)) == source
        for answer in answers(other.url):
            server.inject(match, times=None, **answer)
            operation = Operation(20.0, progress=lambda progress: told.append(repr(progress)))
            with pytest.raises(FluxSrcError) as caught:
                source.produce_artifact(store, operation=operation)
            texts += texts_of(caught.value)
            texts.append(pickle.dumps(caught.value).decode("latin-1"))
            server.faults.clear()
        assert other.requests == []
        artifact = source.produce_artifact(store)
        texts += [repr(artifact), str(artifact), caplog.text, *map(repr, caplog.records), *told]
        texts += [path.read_bytes().decode("latin-1") for path in (tmp_path / "store").rglob("*.json")]
        secrets = sent(server)
    assert len(secrets) > 3
    for text in texts:
        for secret in secrets:
            assert secret not in text
            assert secret not in unquote(text)

"""The contract of object stores against real ones; what our own fakes are held to."""

import contextlib
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from fluxsrc.auth import Anonymous
from fluxsrc.bucket import AWSKeys, AzureAccountKey, AzureBucket, BucketSource, S3Bucket, fetch
from fluxsrc.bucket import azure as azure_module
from fluxsrc.bucket.checksum import Checker
from fluxsrc.errors import AuthenticationError, FluxSrcError, PermissionDeniedError
from fluxsrc.testing.bucket_contract import BucketContract
from helpers import bucket_servers as servers

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.minio(tmp_path_factory.mktemp("minio")) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def fake_gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.fake_gcs(tmp_path_factory.mktemp("gcs")) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.azurite(tmp_path_factory.mktemp("azurite")) as endpoint:
        yield endpoint


class TestMinIO(BucketContract):
    """S3; pages of a thousand objects."""

    @pytest.fixture
    def origin(self, minio: str) -> Iterator[Any]:
        with contextlib.closing(servers.S3Origin(minio)) as origin:
            yield origin


class TestFakeGCSServer(BucketContract):
    """Google Cloud Storage; pages of a thousand objects."""

    @pytest.fixture
    def origin(self, fake_gcs: str) -> Iterator[Any]:
        with contextlib.closing(servers.GCSOrigin(fake_gcs)) as origin:
            yield origin


class TestAzurite(BucketContract):
    """Azure Blob Storage, with the account's key; pages of a hundred objects."""

    many = 203

    @pytest.fixture
    def origin(self, azurite: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        monkeypatch.setattr(azure_module, "_PAGE", "100")
        with contextlib.closing(servers.AzureOrigin(azurite)) as origin:
            yield origin


class TestAzuriteWithSAS(BucketContract):
    """The same, with a SAS token."""

    many = 203

    @pytest.fixture
    def origin(self, azurite: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        monkeypatch.setattr(azure_module, "_PAGE", "100")
        with contextlib.closing(servers.SASOrigin(azurite)) as origin:
            yield origin


@pytest.mark.parametrize("algorithm", ["CRC64NVME", "CRC32C", "CRC32", "SHA256"])
def test_minio_says_the_checksum_of_what_came_in_parts(
    minio: str, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    """Of an object that is read in parts itself: asked for once. What SHA-256 makes of parts is none of the whole."""
    monkeypatch.setattr(fetch, "PART", 4 << 20)
    data = secrets.token_bytes(11 << 20)
    with contextlib.closing(servers.S3Origin(minio)) as origin:
        origin.put_in_parts("large", data, algorithm)
        source = origin.source()
        seen = []
        real = Checker.update
        monkeypatch.setattr(
            Checker, "update", lambda self, content: (seen.append(content.checksum), real(self, content))
        )
        with source.fetch() as snapshot, next(snapshot.entries()).open() as stream:
            assert stream.read() == data
    known = [checksum.partition(":")[0] for checksum in seen if checksum is not None]
    assert known == ([] if algorithm == "SHA256" else [algorithm.lower()])


def test_minio_refuses_wrong_keys(minio: str) -> None:
    """The error says so, and holds no secret."""
    for keys in (AWSKeys(servers.USER, "wrong-secret"), AWSKeys("nobody", "wrong-secret")):
        bucket = S3Bucket("any", endpoint=minio, region="us-east-1", credentials=keys)
        with pytest.raises(AuthenticationError) as caught:
            BucketSource(bucket).resolve_revision()
        assert "wrong-secret" not in repr(caught.value) + str(caught.value)


def test_minio_lets_nobody_in_without_keys(minio: str) -> None:
    """A private bucket is not there for all."""
    bucket = S3Bucket("any", endpoint=minio, region="us-east-1", credentials=Anonymous())
    with pytest.raises(PermissionDeniedError):
        BucketSource(bucket).resolve_revision()


def test_azurite_refuses_a_wrong_key(azurite: str) -> None:
    """With whatever it answers, the error is ours and holds no secret."""
    key = AzureAccountKey("d3Jvbmc=")
    bucket = AzureBucket("any-container", account=servers.ACCOUNT, endpoint=azurite, credentials=key)
    with pytest.raises(FluxSrcError) as caught:
        BucketSource(bucket).resolve_revision()
    assert isinstance(caught.value, AuthenticationError | PermissionDeniedError)
    assert "d3Jvbmc=" not in repr(caught.value) + str(caught.value)

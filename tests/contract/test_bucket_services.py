"""`BucketSource` keeps the contract of every source over each service: here the services are in this process."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from fluxsrc.auth import Anonymous, BearerToken
from fluxsrc.bucket import AWSKeys, AzureBucket, AzureSAS, Bucket, BucketSource, GCSBucket, S3Bucket
from fluxsrc.memory import MemoryFile
from fluxsrc.testing import SourceContract
from fluxsrc.testing.bucket_contract import BucketContract
from fluxsrc.testing.object_server import ObjectServer

SECRET = "hunter2-secret"


def s3(server: ObjectServer, name: str) -> Bucket:
    return S3Bucket(name, endpoint=server.url, region="us-east-1", credentials=AWSKeys("ada", SECRET))


def gcs(server: ObjectServer, name: str) -> Bucket:
    return GCSBucket(name, endpoint=server.url, credentials=BearerToken(SECRET))


def azure(server: ObjectServer, name: str) -> Bucket:
    return AzureBucket(name, account="ada", endpoint=server.url, credentials=AzureSAS(f"?sv=2021&sig={SECRET}"))


class ServerOrigin:
    """A bucket of an in-process server, written to directly."""

    keeps_modes = False

    def __init__(self, server: ObjectServer, make: Any, prefix: str) -> None:
        self.server = server
        self.make = make
        self.prefix = prefix
        self.secrets = (SECRET,)

    def publish(self, files: Mapping[str, MemoryFile], /) -> None:
        self.server.buckets["models"] = {}
        noise = {"aside": b"1", "zz/aside": b"2"} if self.prefix else {}
        for key, data in {**noise, **{self.prefix + path: file.data for path, file in files.items()}}.items():
            self.server.put("models", key, data)

    def put(self, key: str, data: bytes, /) -> None:
        self.server.put("models", key, data)

    def delete(self, key: str, /) -> None:
        self.server.delete("models", key)

    def source(self, **options: Any) -> BucketSource:
        return BucketSource(self.make(self.server, "models"), self.prefix, strip_prefix=True, **options)

    def missing(self) -> BucketSource:
        return BucketSource(self.make(self.server, "no-such-bucket"))


def server_for(make: Any, **options: Any) -> ObjectServer:
    """A server that wants the secret, where a secret is sent: an S3 one never is."""
    return ObjectServer(secret=None if make is s3 else SECRET, **options)


@pytest.mark.parametrize("make", [s3, gcs, azure])
class TestServices(BucketContract):
    """A hundred objects on a page."""

    many = 203

    @pytest.fixture
    def origin(self, make: Any) -> Iterator[ServerOrigin]:
        with server_for(make, page=100) as server:
            yield ServerOrigin(server, make, "")


@pytest.mark.parametrize("make", [s3, azure])
class TestServicesWithAPrefix(SourceContract):
    """A prefix that is stripped, among other objects; three of them on a page."""

    @pytest.fixture
    def origin(self, make: Any) -> Iterator[ServerOrigin]:
        with server_for(make, page=3) as server:
            yield ServerOrigin(server, make, "apps/prod/")


class TestAServerThatClosesEachConnection:
    """The fast path gives up, and the slow one takes over."""

    many = 203
    test_pages = BucketContract.test_a_listing_of_many_pages_is_whole
    test_parts = BucketContract.test_a_large_object_comes_in_parts
    test_changes = BucketContract.test_a_change_among_many_small_objects_is_noticed
    test_only_changes = BucketContract.test_only_what_changed_is_read
    test_threads = BucketContract.test_threads_that_read_one_snapshot_get_what_they_ask_for

    @pytest.fixture
    def origin(self) -> Iterator[ServerOrigin]:
        with server_for(s3, page=100, keeps_alive=False) as server:
            yield ServerOrigin(server, s3, "")


class TestAServerWithoutPreconditions:
    """The etag of what came is looked at, too."""

    test_replaced = BucketContract.test_an_object_that_was_replaced_is_noticed
    test_vanished = BucketContract.test_an_object_that_vanished_is_noticed
    test_changes = BucketContract.test_a_change_among_many_small_objects_is_noticed
    test_one_moment = BucketContract.test_an_artifact_is_of_one_moment

    @pytest.fixture
    def origin(self) -> Iterator[ServerOrigin]:
        with server_for(s3, page=100, checks_preconditions=False) as server:
            yield ServerOrigin(server, s3, "")


class MotoOrigin:
    """A bucket of moto's server, written to with boto3."""

    keeps_modes = False
    secrets = (SECRET,)

    def __init__(self, client: Any, name: str) -> None:
        self.client, self.name = client, name
        self.client.create_bucket(Bucket=name)

    def publish(self, files: Mapping[str, MemoryFile], /) -> None:
        held = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        for key in {item["Key"] for item in held} - files.keys():
            self.client.delete_object(Bucket=self.name, Key=key)
        for key, file in files.items():
            self.client.put_object(Bucket=self.name, Key=key, Body=file.data)

    def put(self, key: str, data: bytes, /) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def delete(self, key: str, /) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def source(self, **options: Any) -> BucketSource:
        return BucketSource(self._bucket(self.name), **options)

    def missing(self) -> BucketSource:
        return BucketSource(self._bucket("no-such-bucket"))

    def _bucket(self, name: str) -> S3Bucket:
        endpoint = self.client.meta.endpoint_url
        return S3Bucket(name, endpoint=endpoint, region="us-east-1", credentials=AWSKeys("ada", SECRET))


@pytest.fixture(scope="module")
def moto() -> Iterator[Any]:
    """One client for all, for boto3 reads its description of S3 anew for each."""
    import logging

    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        keys = {"aws_access_key_id": "ada", "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        yield boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys)


class TestMoto(SourceContract):
    """S3 as others understand it."""

    @pytest.fixture
    def origin(self, moto: Any) -> MotoOrigin:
        return MotoOrigin(moto, f"bucket-{os.urandom(6).hex()}")


def test_a_public_bucket_needs_no_credentials() -> None:
    """Anonymous requests carry no signature."""
    with ObjectServer() as server:
        server.put("public", "a", b"1")
        for bucket in (
            S3Bucket("public", endpoint=server.url, credentials=Anonymous()),
            GCSBucket("public", endpoint=server.url, credentials=Anonymous()),
            AzureBucket("public", account="ada", endpoint=server.url, credentials=Anonymous()),
        ):
            with BucketSource(bucket).fetch() as snapshot:
                assert [(entry.path, entry.read()) for entry in snapshot.entries()] == [("a", b"1")]
        assert not any("Authorization" in request.headers for request in server.requests)

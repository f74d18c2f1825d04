"""Real object stores on loopback, each in a directory of its own; and their buckets, written to without the library.

A server that is missing is a failure: this lane was asked for.
"""

import base64
import contextlib
import datetime as dt
import email.utils
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from fluxsrc.auth import Anonymous
from fluxsrc.bucket import AWSKeys, AzureAccountKey, AzureBucket, AzureSAS, BucketSource, GCSBucket, S3Bucket
from fluxsrc.memory import MemoryFile
from helpers.programs import free_port, process, tool

USER, PASSWORD = "fluxsrc", "fluxsrc-secret-key"
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own, known to everybody."""
_PUT_VERSION = "2021-12-02"


def answers(url: str) -> Callable[[], bool]:
    """Whether there is any answer for a URL."""

    def ready() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(url, timeout=2, trust_env=False)
            return True
        return False

    return ready


@contextlib.contextmanager
def minio(root: Path) -> Iterator[str]:
    """MinIO; yields its endpoint."""
    port, console = free_port(), free_port()
    command = [tool("minio"), "server", "--quiet", "--address", f"127.0.0.1:{port}"]
    command += ["--console-address", f"127.0.0.1:{console}", str(root / "data")]
    endpoint = f"http://127.0.0.1:{port}"
    env = {"MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD, "MINIO_BROWSER": "off"}
    with process(command, root / "log", ready=answers(f"{endpoint}/minio/health/ready"), env=env, cwd=root):
        yield endpoint


@contextlib.contextmanager
def fake_gcs(root: Path) -> Iterator[str]:
    """fake-gcs-server; yields its endpoint."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [tool("fake-gcs-server"), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-backend", "memory", "-public-host", f"127.0.0.1:{port}"]
    with process(command, root / "log", ready=answers(f"{endpoint}/storage/v1/b?project=p"), cwd=root):
        yield endpoint


@contextlib.contextmanager
def azurite(root: Path) -> Iterator[str]:
    """Azurite; yields the endpoint of its account."""
    port = free_port()
    command = [tool("azurite-blob"), "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    command += ["--location", str(root), "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    with process(command, root / "log", ready=answers(f"http://127.0.0.1:{port}/{ACCOUNT}?comp=list"), cwd=root):
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"


class _Origin:
    """What is the same about all of them. Writes only what is different, several objects at a time."""

    keeps_modes = False
    secrets: tuple[str, ...] = ()

    def __init__(self: Any) -> None:
        self.name = f"bucket-{secrets.token_hex(6)}"
        self._held: dict[str, bytes] = {}
        self.create()

    def publish(self: Any, files: Mapping[str, MemoryFile], /) -> None:
        wanted = {key: file.data for key, file in files.items()}
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.delete, self._held.keys() - wanted.keys()))
            list(
                pool.map(lambda key: self.put(key, wanted[key]), [k for k in wanted if self._held.get(k) != wanted[k]])
            )
        self._held = wanted

    def source(self: Any, **options: Any) -> BucketSource:
        return BucketSource(self.bucket(self.name), **options)

    def missing(self: Any) -> BucketSource:
        return BucketSource(self.bucket("no-such-bucket"))


class S3Origin(_Origin):
    """A bucket of an S3 service, written to with boto3."""

    secrets = (PASSWORD,)

    def __init__(self, endpoint: str) -> None:
        import boto3
        from botocore.config import Config

        self.endpoint = endpoint
        config = Config(max_pool_connections=16, request_checksum_calculation="when_required")
        keys = {"aws_access_key_id": USER, "aws_secret_access_key": PASSWORD, "region_name": "us-east-1"}
        self.client = boto3.client("s3", endpoint_url=endpoint, config=config, **keys)
        super().__init__()

    def close(self) -> None:
        self.client.close()

    def create(self) -> None:
        self.client.create_bucket(Bucket=self.name)

    def put(self, key: str, data: bytes, /) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def put_in_parts(self, key: str, data: bytes, algorithm: str, *, size: int = 5 << 20) -> None:
        """With a checksum of all of it, where the algorithm has one for parts put together."""
        kind = "COMPOSITE" if algorithm.startswith("SHA") else "FULL_OBJECT"
        where = {"Bucket": self.name, "Key": key}
        upload = self.client.create_multipart_upload(**where, ChecksumAlgorithm=algorithm, ChecksumType=kind)[
            "UploadId"
        ]
        parts = []
        for number, start in enumerate(range(0, len(data), size), 1):
            done = self.client.upload_part(
                **where,
                UploadId=upload,
                PartNumber=number,
                Body=data[start : start + size],
                ChecksumAlgorithm=algorithm,
            )
            name = f"Checksum{algorithm}"
            parts.append({"PartNumber": number, "ETag": done["ETag"], name: done[name]})
        self.client.complete_multipart_upload(
            **where, UploadId=upload, MultipartUpload={"Parts": parts}, ChecksumType=kind
        )

    def delete(self, key: str, /) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def bucket(self, name: str) -> S3Bucket:
        return S3Bucket(name, endpoint=self.endpoint, region="us-east-1", credentials=AWSKeys(USER, PASSWORD))


class GCSOrigin(_Origin):
    """A bucket of a Google Cloud Storage service, written to by its JSON API."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.http = httpx.Client(base_url=endpoint, trust_env=False, timeout=30)
        super().__init__()

    def close(self) -> None:
        self.http.close()

    def create(self) -> None:
        self.http.post("/storage/v1/b?project=p", json={"name": self.name}).raise_for_status()

    def put(self, key: str, data: bytes, /) -> None:
        query = urlencode({"uploadType": "media", "name": key}, quote_via=quote)
        self.http.post(f"/upload/storage/v1/b/{self.name}/o?{query}", content=data).raise_for_status()

    def delete(self, key: str, /) -> None:
        self.http.delete(f"/storage/v1/b/{self.name}/o/{quote(key, safe='')}").raise_for_status()

    def bucket(self, name: str) -> GCSBucket:
        return GCSBucket(name, endpoint=self.endpoint, credentials=Anonymous())


class AzureOrigin(_Origin):
    """A container of an Azure Blob service, written to by its REST API, with the account's key."""

    secrets = (ACCOUNT_KEY,)

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.http = httpx.Client(trust_env=False, timeout=30)
        super().__init__()

    def close(self) -> None:
        self.http.close()

    def create(self) -> None:
        self._send("PUT", f"/{self.name}", {"restype": "container"})

    def put(self, key: str, data: bytes, /) -> None:
        self._send("PUT", f"/{self.name}/{quote(key, safe='/~')}", {}, data, {"x-ms-blob-type": "BlockBlob"})

    def delete(self, key: str, /) -> None:
        self._send("DELETE", f"/{self.name}/{quote(key, safe='/~')}", {})

    def bucket(self, name: str) -> AzureBucket:
        credentials = AzureAccountKey(ACCOUNT_KEY)
        return AzureBucket(name, account=ACCOUNT, endpoint=self.endpoint, credentials=credentials)

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        data: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        url = httpx.URL(self.endpoint + path)
        fields = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": _PUT_VERSION, **(headers or {})}
        length = str(len(data)) if data else ""
        canonical = "".join(f"{name}:{fields[name]}\n" for name in sorted(fields))
        resource = f"/{ACCOUNT}{url.raw_path.decode()}" + "".join(f"\n{k}:{v}" for k, v in sorted(query.items()))
        text = f"{method}\n\n\n{length}\n\n\n\n\n\n\n\n\n{canonical}{resource}"
        signature = hmac.digest(base64.b64decode(ACCOUNT_KEY), text.encode(), hashlib.sha256)
        fields["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
        target = self.endpoint + path + (f"?{urlencode(query)}" if query else "")
        self.http.request(method, target, content=data, headers=fields).raise_for_status()


class SASOrigin(AzureOrigin):
    """The same, read with a SAS token that may list and read this account's containers."""

    def __init__(self, endpoint: str) -> None:
        end = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        fields = {"sp": "rl", "ss": "b", "srt": "sco", "st": "", "se": end, "sip": "", "spr": "", "sv": "2020-08-04"}
        text = "".join(f"{value}\n" for value in [ACCOUNT, *fields.values()])
        digest = hmac.digest(base64.b64decode(ACCOUNT_KEY), text.encode(), hashlib.sha256)
        self.signature = base64.b64encode(digest).decode()
        self.token = urlencode({**{k: v for k, v in fields.items() if v}, "sig": self.signature})
        self.secrets = (self.signature, quote(self.signature, safe=""), ACCOUNT_KEY)
        super().__init__(endpoint)

    def bucket(self, name: str) -> AzureBucket:
        return AzureBucket(name, account=ACCOUNT, endpoint=self.endpoint, credentials=AzureSAS(self.token))

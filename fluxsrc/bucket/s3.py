"""`S3Bucket`: Amazon S3, and what speaks like it: MinIO, Ceph, R2, …

boto3 finds the keys; requests are signed here and travel over the library's own transport, so that they obey the same
deadline, proxy and certificates as everything else, and cost a fraction.
"""

import base64
import contextlib
import datetime as dt
import enum
import re
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote_plus, urlsplit

import attrs

from fluxsrc._io.http import Headers, HTTPClient, Response, retrying, status_error
from fluxsrc._io.http.pipeline import Answer, Request
from fluxsrc.auth import Proxy, Secret, TLSConfig
from fluxsrc.bucket.aws import AWSCredentials, AWSDefaultChain, KeyFinder, key_finder
from fluxsrc.bucket.batch import Batches
from fluxsrc.bucket.protocol import Batch, Bucket, BucketClient, BucketObject, Content
from fluxsrc.bucket.receive import header_lines, receive
from fluxsrc.bucket.sigv4 import AWSKeys, Signer, canonical_path, canonical_query, timestamp
from fluxsrc.bucket.xml import Document, parse
from fluxsrc.errors import (
    AuthenticationError,
    ConfigurationError,
    PermissionDeniedError,
    RateLimitedError,
    RemoteProtocolError,
    RevisionNotFoundError,
    SourceChangedError,
    SourceError,
)
from fluxsrc.operation import Operation

__all__ = ["Addressing", "S3Bucket"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_REGION: Final = re.compile(r"[a-z0-9-]{1,40}")
_DEFAULT_REGION: Final = "us-east-1"
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_MAX_PAGE: Final = 16 << 20
"""Bytes of a page: a thousand keys of 1,024 bytes, each of them percent-encoded, and what is around them."""
_MAX_ERROR: Final = 64 << 10
_PARTIAL: Final = 206
_WRONG_REGION: Final = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "TemporaryRedirect"})
_BAD_KEYS: Final = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestTimeTooSkewed"}
)
_CHECKSUMS: Final = ("sha256", "sha1", "crc32")
_WANT_CHECKSUM: Final = {"x-amz-checksum-mode": "ENABLED"}


class Addressing(enum.StrEnum):
    """Where the bucket's name stands in a request."""

    AUTO = "auto"
    PATH = "path"
    VIRTUAL = "virtual"


@attrs.define(eq=False)
class _Shared:
    """What all clients of one bucket value share, and no pickle carries: found keys, a found region."""

    lock: threading.Lock = attrs.field(factory=threading.Lock)
    find: KeyFinder | None = None
    region: str | None = None


def _endpoint(value: str | None) -> str | None:
    if value is None:
        return None
    parts = urlsplit(value if "://" in value else f"https://{value}")
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
        raise ConfigurationError("an endpoint is http[s]://HOST[:PORT], without user name, password and query")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


@attrs.frozen
class S3Bucket:
    """A bucket of S3.

    Attributes:
        name: The bucket's name.
        endpoint: `http[s]://HOST[:PORT]` of a service that is not AWS; None is AWS.
        region: Where the bucket is; found out where it is not given.
        credentials: `AWSKeys`, `AWSProfile`, `AWSRole`, `AWSWebIdentity`, `Anonymous`, or boto3's default chain.
        addressing: "path" (`HOST/BUCKET/KEY`), "virtual" (`BUCKET.HOST/KEY`), or "auto": virtual on AWS, path elsewhere.
        check_md5: Whether an etag of 32 hexadecimal digits is held to be the MD5 of the content, as S3 defines it; False
            for services that make them up.
        tls: How the server proves who it is, and how we do.
        proxy: For all connections.
    """

    name: str
    endpoint: str | None = attrs.field(default=None, converter=_endpoint, kw_only=True)
    region: str | None = attrs.field(default=None, kw_only=True)
    credentials: AWSCredentials = attrs.field(factory=AWSDefaultChain, kw_only=True)
    addressing: Addressing = attrs.field(default=Addressing.AUTO, converter=Addressing, kw_only=True)
    check_md5: bool = attrs.field(default=True, kw_only=True)
    tls: TLSConfig = attrs.field(factory=TLSConfig, kw_only=True)
    proxy: Proxy | None = attrs.field(default=None, kw_only=True)
    _shared: _Shared = attrs.field(factory=_Shared, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or ".." in self.name:
            raise ConfigurationError(f"not the name of a bucket: {self.name[:80]!r}")
        if self.region is not None and not _REGION.fullmatch(self.region):
            raise ConfigurationError(f"not a region: {self.region[:80]!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(type(self)) if field.init}
        return _rebuild, (fields,)

    @property
    def url(self) -> str:
        """`s3://NAME?endpoint=…&region=…`."""
        options = {"endpoint": self.endpoint, "region": self.region}
        query = "&".join(f"{name}={quote(value, safe=':/')}" for name, value in options.items() if value is not None)
        return f"s3://{self.name}" + (f"?{query}" if query else "")

    @contextlib.contextmanager
    def connect(self, operation: Operation, /) -> Iterator[BucketClient]:
        """See `Bucket`."""
        http = HTTPClient(tls=self.tls, proxy=self.proxy)
        with http, contextlib.closing(_Client(self, http, operation)) as client:
            yield client

    def base(self, region: str) -> str:
        """The URL in front of the keys, without a slash at its end."""
        endpoint = self.endpoint or f"https://s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
        virtual = self.addressing is Addressing.VIRTUAL or (
            # A certificate for *.s3.amazonaws.com does not cover names with more dots.
            self.addressing is Addressing.AUTO and self.endpoint is None and "." not in self.name
        )
        if not virtual:
            return f"{endpoint}/{self.name}"
        scheme, _, host = endpoint.partition("://")
        return f"{scheme}://{self.name}.{host}"


def _rebuild(fields: dict[str, Any]) -> S3Bucket:
    return S3Bucket(**fields)


class _Client:
    """See `BucketClient`."""

    def __init__(self, bucket: S3Bucket, http: HTTPClient, operation: Operation) -> None:
        self._bucket = bucket
        self._http = http
        self._operation = operation
        self._signer: tuple[AWSKeys, str, Signer] | None = None
        self._batches = Batches(http, operation, bucket.url, self._prepare, self._accept, self.read)

    def pages(self, prefix: str = "", *, after: str = "") -> Generator[Sequence[BucketObject], None, None]:
        """ListObjectsV2, page by page."""
        query = {"encoding-type": "url", "list-type": "2", "prefix": prefix, "start-after": after}
        query = {name: value for name, value in query.items() if value}
        while True:
            page = retrying(partial(self._page, query), operation=self._operation, phase="list")
            yield [_object(record) for record in page.records]
            if page.head.get("IsTruncated") != "true":
                return
            token = page.head.get("NextContinuationToken")
            if not token or token == query.get("continuation-token"):
                url = self._bucket.url
                raise RemoteProtocolError(f"{url}: a listing that goes on, and does not say where", url=url)
            query["continuation-token"] = token

    def read(self, item: BucketObject, /, start: int = 0, length: int | None = None) -> Content:
        """GetObject, if the etag is still the same."""
        return retrying(partial(self._read, item, start, length), operation=self._operation, phase="receive")

    def start(self, items: Sequence[BucketObject], executor: Executor, /) -> Batch | None:
        """GetObject of some small objects, sent together. See `BatchReader`."""
        return self._batches.start(items, self._bucket.base(self._region()), executor)

    def close(self) -> None:
        """Close what the batches opened."""
        self._batches.close()

    def _prepare(self, items: Sequence[BucketObject]) -> Sequence[Request]:
        region = self._region()
        parts = urlsplit(self._bucket.base(region))
        signer = self._signer_for(region)
        now = timestamp(dt.datetime.now(dt.UTC))
        requests = []
        for item in items:
            path = f"{parts.path}/{canonical_path(item.key)}"
            signed = {} if self._is_md5(item) else _WANT_CHECKSUM
            fields: dict[str, str | Secret] = {"If-Match": f'"{item.etag}"', **signed}
            if signer is not None:
                fields |= signer.sign("GET", parts.netloc, path, "", signed, now)
            requests.append(Request(path, header_lines(fields), item.size))
        return requests

    def _accept(self, item: BucketObject, answer: Answer) -> Content | None:
        if answer.headers.get("etag", "").strip('"') != item.etag:
            return None
        return Content(answer.body, self._checksum(item, answer.headers))

    def _page(self, query: dict[str, str]) -> Document:
        with self._get("", query, {}, "list") as response:
            if response.status != 200:  # noqa: PLR2004 - OK
                raise self._error(response, "list", None)
            data = response.read(_MAX_PAGE)
        try:
            return parse(data, "Contents", root="ListBucketResult")
        except ValueError as exc:
            raise RemoteProtocolError(f"{self._bucket.url} answers no listing: {exc}", url=self._bucket.url) from exc

    def _read(self, item: BucketObject, start: int, length: int | None) -> Content:
        length = item.size - start if length is None else length
        partial = length != item.size
        signed = {} if partial or self._is_md5(item) else _WANT_CHECKSUM
        headers = {"If-Match": f'"{item.etag}"'}
        if partial:
            headers["Range"] = f"bytes={start}-{start + length - 1}"
        with self._get(f"/{canonical_path(item.key)}", {}, signed, "receive", headers) as response:
            if response.status != (_PARTIAL if partial else 200):
                raise self._error(response, "read", item)
            etag = response.headers.get("etag")
            # Not every service knows If-Match; all of them say what they send.
            if etag is not None and etag.strip('"') != item.etag:
                raise self._changed(item)
            data = receive(response, item, start, length)
            return Content(data, self._checksum(item, response.headers))

    def _get(
        self,
        path: str,
        query: dict[str, str],
        signed: dict[str, str],
        phase: str,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Send a signed request; once more, if the bucket turns out to be in another region."""
        shared = self._bucket._shared  # noqa: SLF001 - the same room
        encoded = canonical_query(query.items())
        for last in (False, True):
            region = self._region()
            base = self._bucket.base(region)
            parts = urlsplit(base)
            signer = self._signer_for(region)
            fields: dict[str, str | Secret] = {**(headers or {}), **signed}
            if signer is not None:
                now = timestamp(dt.datetime.now(dt.UTC))
                fields |= signer.sign("GET", parts.netloc, parts.path + (path or "/"), encoded, signed, now)
            url = f"{base}{path or '/'}" + (f"?{encoded}" if encoded else "")
            response = self._http.request(
                # A redirect is never followed: where else the bucket may be is for us to find out, and nobody else
                # is to see the signature.
                "GET",
                url,
                operation=self._operation,
                phase=phase,
                headers=fields,
                follow=False,
            )
            found = None if last or self._bucket.region is not None else _other_region(response, region)
            if found is None:
                return response
            response.close()
            shared.region = found
        raise AssertionError("unreachable: the second response is returned")

    def _signer_for(self, region: str) -> Signer | None:
        shared = self._bucket._shared  # noqa: SLF001 - the same room
        with shared.lock:
            if shared.find is None:
                bucket = self._bucket
                shared.find = key_finder(bucket.credentials, region=bucket.region, proxy=bucket.proxy, url=bucket.url)
            find = shared.find
        keys = find()
        if keys is None:
            return None
        known = self._signer
        if known is None or known[0] != keys or known[1] != region:
            known = self._signer = (keys, region, Signer(keys, region))
        return known[2]

    def _region(self) -> str:
        return self._bucket.region or self._bucket._shared.region or _DEFAULT_REGION  # noqa: SLF001 - the same room

    def _is_md5(self, item: BucketObject) -> bool:
        return self._bucket.check_md5 and _MD5.fullmatch(item.etag) is not None

    def _checksum(self, item: BucketObject, headers: Mapping[str, str] | Headers) -> str | None:
        """What the service says about the content of the whole object."""
        # The etag is none of the plain content where KMS or a customer's key encrypts it.
        encryption = headers.get("x-amz-server-side-encryption") or ""
        foreign = encryption.startswith("aws:kms") or headers.get("x-amz-server-side-encryption-customer-algorithm")
        if not foreign and self._is_md5(item):
            return f"md5:{item.etag}"
        for name in _CHECKSUMS:
            value = headers.get(f"x-amz-checksum-{name}")
            if value is not None and "-" not in value:  # "…-3" is a checksum of three parts' checksums
                with contextlib.suppress(ValueError):
                    return f"{name}:{base64.b64decode(value, validate=True).hex()}"
        return None

    def _changed(self, item: BucketObject) -> SourceChangedError:
        url = self._bucket.url
        return SourceChangedError(f"{item.key!a} is gone, or not what it was when {url} was listed", url=url)

    def _error(self, response: Response, what: str, item: BucketObject | None) -> SourceError:
        """What a response that is no success means."""
        url = self._bucket.url
        try:
            head = parse(response.read(_MAX_ERROR), root="Error").head
        except ValueError:
            head = {}
        code = "".join(filter(str.isalnum, head.get("Code", "")))[:60]
        if item is not None and (response.status in (404, 412, 416) or code == "NoSuchKey"):
            return self._changed(item)
        where = f"{what} {item.key!a} in {url}" if item is not None else f"{what} {url}"
        if code == "NoSuchBucket":
            return RevisionNotFoundError(f"no such bucket: {url}", url=url)
        if code in _BAD_KEYS:
            return AuthenticationError(
                f"cannot {where}: {code}", url=url, hint="are the keys right and not expired, and the clock too?"
            )
        if code == "InvalidObjectState":
            return PermissionDeniedError(
                f"cannot {where}: it is in an archive", url=url, hint="restore it, or ignore it"
            )
        if code == "SlowDown":
            return RateLimitedError(f"cannot {where}: {code}", url=url)
        return status_error(response, where, detail=code)


def _object(record: dict[str, str]) -> BucketObject:
    try:
        key, size, etag = record["Key"], int(record["Size"]), record["ETag"].strip('"')
    except (KeyError, ValueError) as exc:
        raise RemoteProtocolError("a listing with an object that has no key, size or etag") from exc
    if size < 0 or not (etag.isascii() and etag.isprintable()):
        raise RemoteProtocolError("a listing with an object whose size or etag cannot be one")
    if "%" in key or "+" in key:
        key = unquote_plus(key, errors="surrogateescape")
    return BucketObject(key, size, etag)


def _other_region(response: Response, region: str) -> str | None:
    """The region that a response sends us to."""
    if response.status not in (301, 307, 400):
        return None
    found = response.headers.get("x-amz-bucket-region")
    if found is None and response.status == 400:  # noqa: PLR2004 - the only one with a body worth reading here
        return None
    return found if found is not None and _REGION.fullmatch(found) and found != region else None


if TYPE_CHECKING:
    _: Bucket = S3Bucket("name")
    _client: BucketClient = _Client(S3Bucket("name"), HTTPClient(), Operation())

"""`S3Bucket`: Amazon S3, and what speaks like it: MinIO, Ceph, R2, …

boto3 finds the keys; requests are signed here and travel over the library's own transport, so that they obey the same
deadline, proxy and certificates as everything else, and cost a fraction.
"""

import base64
import contextlib
import datetime as dt
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus, urlsplit

import attrs

from fluxsrc._io.http import Headers, Response
from fluxsrc.auth import Proxy, Secret, TLSConfig
from fluxsrc.bucket.aws import AWSCredentials, AWSDefaultChain, AWSProfile, KeyFinder, key_finder
from fluxsrc.bucket.checksum import CHECKED
from fluxsrc.bucket.client import connect
from fluxsrc.bucket.dialect import Ask, Dialect, Failure, listed_objects
from fluxsrc.bucket.endpoint import anonymous, bucket_url, endpoint_url
from fluxsrc.bucket.found import Found, Unfound
from fluxsrc.bucket.protocol import Bucket, BucketClient, BucketObject
from fluxsrc.bucket.sigv4 import AWSKeys, Signer, canonical_path, canonical_query, timestamp
from fluxsrc.bucket.xml import parse, parse_table
from fluxsrc.errors import (
    AuthenticationError,
    ConfigurationError,
    FluxSrcError,
    PermissionDeniedError,
    RateLimitedError,
    RevisionNotFoundError,
)
from fluxsrc.operation import Operation
from fluxsrc.recipe import Choice

__all__ = ["Addressing", "S3Bucket"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_REGION: Final = re.compile(r"[a-z0-9-]{1,40}")
_DEFAULT_REGION: Final = "us-east-1"
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_ELSEWHERE: Final = frozenset({301, 307, 400})
_WRONG_REGION: Final = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "TemporaryRedirect"})
_BAD_KEYS: Final = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestTimeTooSkewed"}
    | {"InvalidTokenId"}  # MinIO's word for it
)
_WANT_CHECKSUM: Final = {"x-amz-checksum-mode": "ENABLED"}


class Addressing(Choice):
    """Where the bucket's name stands in a request."""

    AUTO = "auto"
    PATH = "path"
    VIRTUAL = "virtual"


@attrs.frozen
class S3Bucket(Unfound):
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
    endpoint: str | None = attrs.field(default=None, converter=endpoint_url, kw_only=True)
    region: str | None = attrs.field(default=None, kw_only=True)
    credentials: AWSCredentials = attrs.field(factory=AWSDefaultChain, kw_only=True)
    addressing: Addressing = attrs.field(default=Addressing.AUTO, converter=Addressing, kw_only=True)
    check_md5: bool = attrs.field(default=True, kw_only=True)
    tls: TLSConfig = attrs.field(factory=TLSConfig, kw_only=True)
    proxy: Proxy | None = attrs.field(default=None, kw_only=True)
    _found: Found[KeyFinder] = attrs.field(factory=Found, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or ".." in self.name:
            raise ConfigurationError(f"not the name of a bucket: {self.name[:80]!r}")
        if self.region is not None and not _REGION.fullmatch(self.region):
            raise ConfigurationError(f"not a region: {self.region[:80]!r}")

    @property
    def url(self) -> str:
        """`s3://NAME?endpoint=…&region=…`, with how it is addressed, and with a profile or without any credentials."""
        return bucket_url(
            "s3",
            self.name,
            endpoint=self.endpoint,
            region=self.region,
            addressing=None if self.addressing is Addressing.AUTO else self.addressing.value,
            profile=self.credentials.name if isinstance(self.credentials, AWSProfile) else None,
            anonymous=anonymous(self.credentials),
        )

    def connect(self, operation: Operation, /) -> AbstractContextManager[BucketClient]:
        """See `Bucket`."""
        return connect(_S3(self, operation), operation, tls=self.tls, proxy=self.proxy)

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


class _S3:
    """See `Dialect`."""

    jumps = True

    def __init__(self, bucket: S3Bucket, operation: Operation) -> None:
        self.url = bucket.url
        self._bucket = bucket
        self._operation = operation
        self._signer: tuple[AWSKeys, str, Signer] | None = None

    def list(self, prefix: str, after: str, token: str | None) -> Ask:
        """ListObjectsV2."""
        query = {"list-type": "2", "encoding-type": "url", "prefix": prefix, "start-after": after}
        query["continuation-token"] = token or ""
        return self._asks([""], canonical_query([pair for pair in query.items() if pair[1]]), [{}], [{}])[0]

    def page(self, data: bytes) -> tuple[Sequence[BucketObject], str | None]:
        """A ListBucketResult."""
        table = parse_table(data, "Contents", ("Key", "ETag", "Size"), root="ListBucketResult")
        token = None
        if table.head.get("IsTruncated") == "true":
            token = table.head.get("NextContinuationToken")
            if not token:
                raise ValueError("it goes on, and does not say where")
        keys, etags, sizes = table.columns
        # We ask for it, but not every service that speaks S3 knows the option: then "a+b" is no "a b".
        if table.head.get("EncodingType") == "url":
            keys = list(map(_decoded, keys))
        return listed_objects(keys, sizes, [etag.strip('"') for etag in etags]), token

    def prefers_keys(self, headers: Headers) -> bool:
        """MinIO does: at a token's second use it waits 0.3 s for what it keeps of long listings; no other is known to."""
        return headers.get("server") == "MinIO"

    def read(self, items: Sequence[BucketObject], part: str | None = None) -> Sequence[Ask]:
        """GetObject."""
        paths = [canonical_path(item.key) for item in items]
        fields = [{"If-Match": f'"{item.etag}"'} | ({} if part is None else {"Range": part}) for item in items]
        signed = [{} if part is not None or self._is_md5(item) else _WANT_CHECKSUM for item in items]
        return self._asks(paths, "", fields, signed)

    def describe(self, item: BucketObject) -> Ask | None:
        """HeadObject, where the etag is no MD5: the answer to a part says nothing about the whole."""
        if self._is_md5(item):
            return None
        fields = [{"If-Match": f'"{item.etag}"'}]
        return self._asks([canonical_path(item.key)], "", fields, [_WANT_CHECKSUM], method="HEAD")[0]

    def is_same(self, item: BucketObject, headers: Mapping[str, str] | Headers) -> bool:
        """By its etag."""
        return (headers.get("etag") or "").strip('"') == item.etag

    def checksum(self, item: BucketObject, headers: Mapping[str, str] | Headers) -> str | None:
        """The etag, where it is the MD5; else what was asked for with the object."""
        # The etag is none of the plain content where KMS or a customer's key encrypts it.
        encryption = headers.get("x-amz-server-side-encryption") or ""
        foreign = encryption.startswith("aws:kms") or headers.get("x-amz-server-side-encryption-customer-algorithm")
        if not foreign and self._is_md5(item):
            return f"md5:{item.etag}"
        for name in CHECKED:
            value = headers.get(f"x-amz-checksum-{name}")
            if value is not None and "-" not in value:  # "…-3" is a checksum of three parts' checksums
                with contextlib.suppress(ValueError):
                    return f"{name}:{base64.b64decode(value, validate=True).hex()}"
        return None

    def error(self, failure: Failure, where: str) -> FluxSrcError | None:
        """By the code in the document."""
        try:
            head = parse(failure.body, root="Error").head
        except ValueError:
            return None
        code = "".join(filter(str.isalnum, head.get("Code", "")))[:60]
        if code == "NoSuchBucket":
            return RevisionNotFoundError(f"no such bucket: {self.url}", url=self.url)
        if code in _BAD_KEYS:
            hint = "are the keys right and not expired, and the clock too?"
            return AuthenticationError(f"cannot {where}: {code}", url=self.url, hint=hint)
        if code == "InvalidObjectState":
            hint = "restore it, or ignore it"
            return PermissionDeniedError(f"cannot {where}: it is in an archive", url=self.url, hint=hint)
        if code == "SlowDown":
            return RateLimitedError(f"cannot {where}: {code}", url=self.url)
        if code in _WRONG_REGION:
            return ConfigurationError(f"cannot {where}: the bucket is in another region", hint="give region=")
        return None

    def elsewhere(self, response: Response) -> bool:
        """Whether the bucket is in another region; the answer says in which, and it is kept for next time."""
        found = response.headers.get("x-amz-bucket-region")
        if response.status not in _ELSEWHERE or self._bucket.region is not None or found is None:
            return False
        if not _REGION.fullmatch(found):
            return False
        # That it is known already is no reason to give up: a request that was sent beside this one found it out.
        self._bucket._found.region = found  # noqa: SLF001 - the same room
        return True

    def _asks(
        self,
        paths: Sequence[str],
        query: str,
        fields: Sequence[Mapping[str, str]],
        signed: Sequence[Mapping[str, str]],
        method: str = "GET",
    ) -> Sequence[Ask]:
        region = self._region()
        parts = urlsplit(self._bucket.base(region))
        signer = self._signer_for(region)
        now = timestamp(dt.datetime.now(dt.UTC))
        asks = []
        for key, plain, also in zip(paths, fields, signed, strict=True):
            path = f"{parts.path}/{key}"
            headers: dict[str, str | Secret] = {**plain, **also}
            if signer is not None:
                headers |= signer.sign(method, parts.netloc, path, query, also, now)
            asks.append(Ask(f"{parts.scheme}://{parts.netloc}", f"{path}?{query}" if query else path, headers, method))
        return asks

    def _signer_for(self, region: str) -> Signer | None:
        bucket = self._bucket
        find = bucket._found.finder(  # noqa: SLF001 - the same room
            lambda: key_finder(bucket.credentials, region=bucket.region, proxy=bucket.proxy, url=bucket.url)
        )
        keys = find(self._operation)
        if keys is None:
            return None
        known = self._signer
        if known is None or known[0] != keys or known[1] != region:
            known = self._signer = (keys, region, Signer(keys, region))
        return known[2]

    def _region(self) -> str:
        return self._bucket.region or self._bucket._found.region or _DEFAULT_REGION  # noqa: SLF001 - the same room

    def _is_md5(self, item: BucketObject) -> bool:
        return self._bucket.check_md5 and _MD5.fullmatch(item.etag) is not None


def _decoded(key: str) -> str:
    return unquote_plus(key, errors="surrogateescape") if "%" in key or "+" in key else key


if TYPE_CHECKING:
    _: Bucket = S3Bucket("name")
    _dialect: Dialect = _S3(S3Bucket("name"), Operation())

"""`AzureBucket`: a container of Azure Blob Storage, by its REST API.

azure-identity finds the tokens; keys and SAS tokens are used here; requests travel over the library's own transport.
"""

import base64
import datetime as dt
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import attrs

from fluxsrc._io.http import Headers, Response
from fluxsrc.auth import Anonymous, BearerToken, Proxy, Secret, TLSConfig
from fluxsrc.bucket.client import connect
from fluxsrc.bucket.dialect import Ask, Delimiter, Dialect, Failure, listed_object
from fluxsrc.bucket.endpoint import anonymous, bucket_url, endpoint_url
from fluxsrc.bucket.found import Found, Unfound
from fluxsrc.bucket.microsoft import (
    AzureAccountKey,
    AzureCredentials,
    AzureDefaultCredential,
    AzureSAS,
    TokenFinder,
    http_date,
    sas_query,
    shared_key,
    token_finder,
)
from fluxsrc.bucket.protocol import Bucket, BucketClient, BucketObject
from fluxsrc.bucket.xml import parse
from fluxsrc.errors import (
    AuthenticationError,
    ConfigurationError,
    FluxSrcError,
    PermissionDeniedError,
    RateLimitedError,
    RevisionNotFoundError,
    SourceChangedError,
)
from fluxsrc.operation import Operation

__all__ = ["AzureBucket"]

_NAME: Final = re.compile(r"\$root|\$web|[a-z0-9](?:-?[a-z0-9]){2,62}")
_ACCOUNT: Final = re.compile(r"[a-z0-9]{3,24}")
_VERSION: Final = "2021-12-02"
_PAGE: Final = "5000"
_CODE: Final = re.compile(r"[A-Za-z]{1,60}")


@attrs.frozen
class AzureBucket(Unfound):
    """A container of Azure Blob Storage.

    Attributes:
        name: The container's name.
        account: The storage account.
        endpoint: `http[s]://HOST[:PORT][/ACCOUNT]` of an emulator or another cloud; None is the account's in Azure.
        credentials: `AzureAccountKey`, `AzureSAS`, `AzureManagedIdentity`, `AzureClientSecret`, `BearerToken`,
            `Anonymous`, or azure-identity's default credential.
        tls: How the server proves who it is, and how we do.
        proxy: For all connections.
    """

    name: str
    account: str = attrs.field(kw_only=True)
    endpoint: str | None = attrs.field(default=None, converter=endpoint_url, kw_only=True)
    credentials: AzureCredentials = attrs.field(factory=AzureDefaultCredential, kw_only=True)
    tls: TLSConfig = attrs.field(factory=TLSConfig, kw_only=True)
    proxy: Proxy | None = attrs.field(default=None, kw_only=True)
    _found: Found[TokenFinder] = attrs.field(factory=Found, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"not the name of a container: {self.name[:80]!r}")
        if not _ACCOUNT.fullmatch(self.account):
            raise ConfigurationError(f"not the name of a storage account: {self.account[:80]!r}")

    @property
    def url(self) -> str:
        """`az://CONTAINER?account=…&endpoint=…`."""
        return bucket_url(
            "az", self.name, account=self.account, endpoint=self.endpoint, anonymous=anonymous(self.credentials)
        )

    def connect(self, operation: Operation, /) -> AbstractContextManager[BucketClient]:
        """See `Bucket`."""
        return connect(_Azure(self, operation), operation, tls=self.tls, proxy=self.proxy)


class _Azure:
    """See `Dialect`."""

    jumps = False

    def __init__(self, bucket: AzureBucket, operation: Operation) -> None:
        self.url = bucket.url
        self._bucket = bucket
        self._operation = operation
        parts = urlsplit(bucket.endpoint or f"https://{bucket.account}.blob.core.windows.net")
        self._server = f"{parts.scheme}://{parts.netloc}"
        self._above = f"{parts.path}/{quote(bucket.name)}"

    def list(self, prefix: str, after: str, token: str | None) -> Ask:
        """List Blobs."""
        del after  # the service begins at the beginning; what `jumps` says keeps others from asking for more
        return self._list(prefix, token, include="metadata")

    def list_level(self, prefix: str, token: str | None) -> Ask:
        """List Blobs, with a delimiter."""
        return self._list(prefix, token, delimiter="/")

    def level(self, data: bytes) -> tuple[Sequence[str], str | None]:
        """EnumerationResults, with BlobPrefix elements."""
        document = parse(data, "Blob", "BlobPrefix", root="EnumerationResults")
        return [record.get("Name", "") for record in document.records], document.head.get("NextMarker") or None

    def page(self, data: bytes) -> tuple[Sequence[BucketObject], str | None]:
        """EnumerationResults."""
        document = parse(data, "Blob", root="EnumerationResults")
        return [_object(record) for record in document.records], document.head.get("NextMarker") or None

    def prefers_keys(self, _headers: Headers) -> bool:
        """No."""
        return False

    def read(self, items: Sequence[BucketObject], part: str | None = None) -> Sequence[Ask]:
        """Get Blob."""
        ranged = {} if part is None else {"x-ms-range": part}
        return [
            self._ask(f"{self._above}/{quote(item.key, safe='/~')}", {}, {"If-Match": f'"{item.etag}"'} | ranged)
            for item in items
        ]

    def describe(self, _item: BucketObject) -> Ask | None:
        """The listing said it already."""
        return None

    def is_same(self, item: BucketObject, headers: Mapping[str, str] | Headers) -> bool:
        """By its etag."""
        return (headers.get("etag") or "").strip('"') == item.etag

    def checksum(self, _item: BucketObject, _headers: Mapping[str, str] | Headers) -> str | None:
        """The listing said it already."""
        return None

    def error(self, failure: Failure, where: str) -> FluxSrcError | None:
        """By the code in the header."""
        code = failure.headers.get("x-ms-error-code") or ""
        code = code if _CODE.fullmatch(code) else ""
        if code in ("ContainerNotFound", "ContainerBeingDeleted", "ResourceNotFound"):
            return RevisionNotFoundError(f"no such container: {self.url}", url=self.url)
        if code in ("AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation"):
            hint = "are the credentials right and not expired, and the clock too?"
            return AuthenticationError(f"cannot {where}: {code}", url=self.url, hint=hint)
        if code == "BlobArchived":
            hint = "bring it back, or ignore it"
            return PermissionDeniedError(f"cannot {where}: it is in an archive", url=self.url, hint=hint)
        if code in ("BlobNotFound", "ConditionNotMet"):
            return SourceChangedError(f"cannot {where}: it is gone, or not what was listed", url=self.url)
        if code == "ServerBusy":
            return RateLimitedError(f"cannot {where}: {code}", url=self.url)
        return None

    def elsewhere(self, _response: Response) -> bool:
        """Never."""
        return False

    def _list(self, prefix: str, token: str | None, **more: str) -> Ask:
        query = {"restype": "container", "comp": "list", "prefix": prefix, "marker": token or "", **more}
        query["maxresults"] = _PAGE
        return self._ask(self._above, {name: value for name, value in query.items() if value}, {})

    def _ask(self, path: str, query: dict[str, str], headers: dict[str, str]) -> Ask:
        credentials = self._bucket.credentials
        text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        fields: dict[str, str | Secret] = {**headers, "x-ms-version": _VERSION}
        if isinstance(credentials, AzureSAS):
            text = f"{text}&{sas_query(credentials)}" if text else sas_query(credentials)
        elif isinstance(credentials, AzureAccountKey):
            signed = headers | {"x-ms-version": _VERSION, "x-ms-date": http_date(dt.datetime.now(dt.UTC))}
            signature = shared_key(self._bucket.account, credentials, path, list(query.items()), signed)
            fields = {**signed, "Authorization": signature}
        elif isinstance(credentials, BearerToken):
            fields["Authorization"] = Secret(f"Bearer {credentials.token.reveal()}")
        elif not isinstance(credentials, Anonymous):
            find = self._bucket._found.finder(  # noqa: SLF001 - the same room
                lambda: token_finder(credentials, url=self.url, proxy=self._bucket.proxy)
            )
            fields["Authorization"] = Secret(f"Bearer {find(self._operation).reveal()}")
        return Ask(self._server, f"{path}?{text}" if text else path, fields)


def _object(record: dict[str, str]) -> BucketObject:
    md5 = record.get("Content-MD5")  # blobs written in blocks have one only if their writer gave it
    key = record.get("Name", "")
    # In an account with a hierarchical namespace directories are listed as empty blobs.
    if record.get("hdi_isfolder") == "true" or record.get("ResourceType") == "directory":
        key = f"{key.rstrip('/')}/"
    checksum = f"md5:{base64.b64decode(md5, validate=True).hex()}" if md5 else None
    return listed_object(key, record.get("Content-Length"), record.get("Etag", "").strip('"'), checksum)


if TYPE_CHECKING:
    _: Bucket = AzureBucket("name", account="account")
    _dialect: Dialect = _Azure(AzureBucket("name", account="account"), Operation())
    _delimiter: Delimiter = _Azure(AzureBucket("name", account="account"), Operation())

"""`GCSBucket`: Google Cloud Storage, by its JSON API.

google-auth finds the credentials; requests travel over the library's own transport, those for tokens included.
"""

import base64
import contextlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import attrs

from fluxsrc._io.http import Headers, Response
from fluxsrc.auth import Anonymous, Proxy, Secret, TLSConfig
from fluxsrc.bucket.client import connect
from fluxsrc.bucket.dialect import Ask, Dialect, Failure, listed_object
from fluxsrc.bucket.endpoint import anonymous, bucket_url, endpoint_url
from fluxsrc.bucket.found import Found, Unfound
from fluxsrc.bucket.google import GCSCredentials, GoogleDefaultCredentials, TokenFinder, token_finder
from fluxsrc.bucket.protocol import Bucket, BucketClient, BucketObject
from fluxsrc.errors import ConfigurationError, FluxSrcError, PermissionDeniedError, RevisionNotFoundError
from fluxsrc.operation import Operation

__all__ = ["GCSBucket"]

_ENDPOINT: Final = "https://storage.googleapis.com"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_FIELDS: Final = "nextPageToken,items(name,size,etag,generation,md5Hash,crc32c)"
_PAGE: Final = "1000"
_EMULATOR: Final = "STORAGE_EMULATOR_HOST"


@attrs.frozen
class GCSBucket(Unfound):
    """A bucket of Google Cloud Storage.

    Attributes:
        name: The bucket's name.
        endpoint: `http[s]://HOST[:PORT]` of an emulator or a private endpoint; None is Google's.
        credentials: `GoogleServiceAccount`, `BearerToken`, `Anonymous`, or Google's application default credentials.
        user_project: The project that pays for the requests, where the bucket's owner does not.
        tls: How the server proves who it is, and how we do.
        proxy: For all connections.
    """

    name: str
    endpoint: str | None = attrs.field(default=None, converter=endpoint_url, kw_only=True)
    credentials: GCSCredentials = attrs.field(factory=GoogleDefaultCredentials, kw_only=True)
    user_project: str | None = attrs.field(default=None, kw_only=True)
    tls: TLSConfig = attrs.field(factory=TLSConfig, kw_only=True)
    proxy: Proxy | None = attrs.field(default=None, kw_only=True)
    _found: Found[TokenFinder] = attrs.field(factory=Found, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or ".." in self.name:
            raise ConfigurationError(f"not the name of a bucket: {self.name[:80]!r}")

    @classmethod
    def from_env(cls, name: str, **options: Any) -> "GCSBucket":
        """A bucket of the emulator that `STORAGE_EMULATOR_HOST` names, if it does; there nobody logs in."""
        emulator = os.environ.get(_EMULATOR)
        if emulator and "endpoint" not in options:
            endpoint = emulator if "://" in emulator else f"http://{emulator}"
            options = {"endpoint": endpoint, "credentials": Anonymous(), **options}
        return cls(name, **options)

    @property
    def url(self) -> str:
        """`gs://NAME?endpoint=…`."""
        return bucket_url("gs", self.name, endpoint=self.endpoint, anonymous=anonymous(self.credentials))

    def connect(self, operation: Operation, /) -> AbstractContextManager[BucketClient]:
        """See `Bucket`."""
        return connect(_GCS(self, operation), operation, tls=self.tls, proxy=self.proxy)


class _GCS:
    """See `Dialect`."""

    jumps = True

    def __init__(self, bucket: GCSBucket, operation: Operation) -> None:
        self.url = bucket.url
        self._bucket = bucket
        self._operation = operation
        parts = urlsplit(bucket.endpoint or _ENDPOINT)
        self._server = f"{parts.scheme}://{parts.netloc}"
        self._above = parts.path

    def list(self, prefix: str, after: str, token: str | None) -> Ask:
        """objects.list."""
        query = {"prefix": prefix, "startOffset": after, "pageToken": token or ""}
        query |= {
            "maxResults": _PAGE,
            "fields": _FIELDS,
            "projection": "noAcl",
            "userProject": self._bucket.user_project or "",
        }
        text = urlencode([pair for pair in query.items() if pair[1]], quote_via=quote)
        return Ask(self._server, f"{self._above}/storage/v1/b/{self._bucket.name}/o?{text}", self._headers())

    def page(self, data: bytes) -> tuple[Sequence[BucketObject], str | None]:
        """A list of objects."""
        try:
            document = json.loads(data)
        except RecursionError:
            raise ValueError("JSON that is nested too deep") from None
        if not isinstance(document, dict):
            raise ValueError("no object of JSON")  # noqa: TRY004 - what the contract of `Dialect` asks for
        token = document.get("nextPageToken") or None
        if not isinstance(token, str | None) or not isinstance(items := document.get("items", []), list):
            raise ValueError("a list that is none")  # noqa: TRY004 - as above
        return [_object(item) for item in items], token

    def prefers_keys(self, _headers: Headers) -> bool:
        """No."""
        return False

    def read(self, items: Sequence[BucketObject], part: str | None = None) -> Sequence[Ask]:
        """objects.get, the media."""
        above = f"{self._above}/download/storage/v1/b/{self._bucket.name}/o"
        headers = self._headers() | ({} if part is None else {"Range": part})
        project = f"&userProject={quote(self._bucket.user_project)}" if self._bucket.user_project else ""
        return [
            Ask(
                self._server,
                f"{above}/{quote(item.key, safe='')}?alt=media&ifGenerationMatch={item.version}{project}",
                headers,
            )
            for item in items
        ]

    def describe(self, _item: BucketObject) -> Ask | None:
        """The listing said it already."""
        return None

    def is_same(self, item: BucketObject, headers: Mapping[str, str] | Headers) -> bool:
        """By its generation."""
        return headers.get("x-goog-generation") in (item.version, None)

    def checksum(self, _item: BucketObject, _headers: Mapping[str, str] | Headers) -> str | None:
        """The listing said it already."""
        return None

    def error(self, failure: Failure, where: str) -> FluxSrcError | None:
        """By its status and the reason in the document."""
        with contextlib.suppress(ValueError, KeyError, TypeError, IndexError, RecursionError):
            reason = str(json.loads(failure.body)["error"]["errors"][0]["reason"])
            if reason == "userProjectMissing":
                return PermissionDeniedError(
                    f"cannot {where}: whoever asks has to pay", url=self.url, hint="give user_project="
                )
        if failure.status == 404 and where.startswith("list"):  # noqa: PLR2004 - Not Found
            return RevisionNotFoundError(f"no such bucket: {self.url}", url=self.url)
        return None

    def elsewhere(self, _response: Response) -> bool:
        """Never."""
        return False

    def _headers(self) -> dict[str, str | Secret]:
        # Without this, the service inflates what is stored as gzip, and the size is not the listed one.
        headers: dict[str, str | Secret] = {"Accept-Encoding": "gzip"}
        bucket = self._bucket
        find = bucket._found.finder(  # noqa: SLF001 - the same room
            lambda: token_finder(bucket.credentials, url=bucket.url, tls=bucket.tls, proxy=bucket.proxy)
        )
        token = find(self._operation)
        if token is not None:
            headers["Authorization"] = Secret(f"Bearer {token.reveal()}")
        return headers


def _object(item: Any) -> BucketObject:
    if not isinstance(item, dict):
        raise ValueError("an object that is none")  # noqa: TRY004 - what the contract of `Dialect` asks for
    # Objects made of several others have no MD5.
    name, value = ("md5", item["md5Hash"]) if item.get("md5Hash") else ("crc32c", item.get("crc32c"))
    try:
        checksum = f"{name}:{base64.b64decode(value, validate=True).hex()}" if value else None
    except (TypeError, ValueError):
        raise ValueError(f"an object whose {name} is none") from None
    generation = str(item.get("generation", ""))
    if not (generation.isascii() and generation.isdigit()):
        raise ValueError("an object without a generation")
    etag = item.get("etag") or generation
    key = str(item.get("name", ""))
    key.encode()  # half of a surrogate pair is no text: a ValueError
    return listed_object(key, str(item.get("size", "")), str(etag), checksum, generation)


if TYPE_CHECKING:
    _: Bucket = GCSBucket("name")
    _dialect: Dialect = _GCS(GCSBucket("name"), Operation())

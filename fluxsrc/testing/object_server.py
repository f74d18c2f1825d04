"""`ObjectServer`: an object store in this process, on a real socket, for tests; S3, Google Cloud Storage and Azure at once.

```python
from fluxsrc.auth import Anonymous
from fluxsrc.bucket import BucketSource, S3Bucket

with ObjectServer() as server:
    server.put("models", "prod/model.bin", b"...")
    bucket = S3Bucket("models", endpoint=server.url, region="us-east-1", credentials=Anonymous())
    revision = BucketSource(bucket).resolve_revision()
```

It lists in pages, from a key on or in ranges, and reads with preconditions and ranges, as far as the backends use it. It
writes nothing: `put` and `delete` do that from outside, also in the middle of a request, with `on_request`. The same
tests run against real servers, so that this one cannot drift from them.
"""

import base64
import hashlib
import json
import re
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote_plus, unquote, urlsplit
from xml.sax.saxutils import escape

import attrs

from fluxsrc.testing._loopback import Fault, Faults, Handler, Loopback, Request

__all__ = ["Fault", "ObjectServer", "Request"]

_RANGE: Final = re.compile(r"bytes=([0-9]+)-([0-9]+)")


@attrs.frozen
class _Stored:
    data: bytes
    generation: int
    checksums: Mapping[str, str] | None = None
    md5: bytes = attrs.field(init=False)  # once, as every request for a part of a large object asks for the etag

    @md5.default
    def _md5(self) -> bytes:
        return hashlib.md5(self.data, usedforsecurity=False).digest()

    @property
    def etag(self) -> str:
        return self.md5.hex() + ("-2" if self.checksums is not None else "")


@attrs.define
class _Reply:
    status: int
    body: bytes = b""
    headers: dict[str, str] = attrs.field(factory=dict)


class ObjectServer(Loopback):
    """The server; use it as a context.

    Attributes:
        page: Objects on a page, at most.
        secret: A text that each request must carry in its Authorization or its query; None lets everybody in.
        requests: What was asked, in order.
        faults: What is still to go wrong.
        buckets: What it holds, by name of the bucket and key.
        on_request: Called with each request before it is answered.
        checks_preconditions: Whether it does; some services that speak S3 do not.
        keeps_alive: Whether connections stay open.
    """

    def __init__(
        self,
        *,
        page: int = 1000,
        secret: str | None = None,
        on_request: Callable[[Request], None] | None = None,
        checks_preconditions: bool = True,
        keeps_alive: bool = True,
        context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(type("Handler", (_Handler,), {"store": self}), context)
        self.page = page
        self.secret = secret
        self.on_request = on_request
        self.checks_preconditions = checks_preconditions
        self.keeps_alive = keeps_alive
        self.requests: list[Request] = []
        self.buckets: dict[str, dict[str, _Stored]] = {}
        self.faults = Faults()
        self._generation = 0
        self._lock = threading.Lock()

    def put(self, bucket: str, key: str, data: bytes, *, checksums: Mapping[str, str] | None = None) -> None:
        """Store an object; makes the bucket if it is not there.

        Args:
            bucket: The bucket.
            key: The object's.
            data: Its content.
            checksums: By algorithm, in base64. An object that has them came in parts, and nobody knows its MD5.
        """
        with self._lock:
            self._generation += 1
            self.buckets.setdefault(bucket, {})[key] = _Stored(data, self._generation, checksums)

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object."""
        with self._lock:
            del self.buckets[bucket][key]

    def inject(self, match: str, **options: Any) -> None:
        """Make requests fail; see `Fault`."""
        self.faults.inject(match, **options)

    def asked(self, match: str) -> list[str]:
        """The requests that a regular expression finds, each as `METHOD PATH?QUERY`."""
        lines = [request.line for request in self.requests]
        return [line for line in lines if re.search(match, line)]

    def answer(self, request: Request) -> tuple[_Reply, Fault | None]:
        """What to say to a request."""
        if self.on_request is not None:
            self.on_request(request)
        with self._lock:
            self.requests.append(request)
            fault = self.faults.take(request.line)
            if fault is not None and fault.status is not None:
                return _Reply(fault.status, fault.body, dict(fault.headers)), None
            return self._answer(request), fault

    def _answer(self, request: Request) -> _Reply:
        parts = urlsplit(request.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in request.headers.items()}
        if self.secret is not None and self.secret not in headers.get("authorization", "") + unquote(parts.query):
            return _Reply(403, b"<Error><Code>AccessDenied</Code></Error>")
        speak: type[_Dialect] = _S3
        if found := re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)/o(?:/(.*))?", parts.path):
            speak, name, key = _GCS, found[1], found[2] or ""
        else:
            name, _, key = parts.path.lstrip("/").partition("/")
            speak = _Azure if "x-ms-version" in headers else _S3
        bucket = self.buckets.get(unquote(name))
        if bucket is None:
            return speak.error(404, speak.no_bucket)
        if not key:
            return speak.list(bucket, query, self.page)
        return self._read(speak, bucket.get(unquote(key)), headers, query)

    def _read(
        self, speak: "type[_Dialect]", stored: _Stored | None, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> _Reply:
        if stored is None:
            return speak.error(404, speak.no_key)
        if self.checks_preconditions and not speak.holds(stored, headers, query):
            return speak.error(412, speak.changed)
        found = _RANGE.fullmatch(headers.get("x-ms-range") or headers.get("range") or "")
        if found is None:
            told = speak.checksums(stored) if "x-amz-checksum-mode" in headers else {}
            return _Reply(200, stored.data, speak.headers(stored) | told)
        start, end = int(found[1]), int(found[2])
        given = {"Content-Range": f"bytes {start}-{min(end, len(stored.data) - 1)}/{len(stored.data)}"}
        return _Reply(206, stored.data[start : end + 1], speak.headers(stored) | given)


class _Dialect:
    no_bucket = no_key = changed = ""

    @staticmethod
    def list(bucket: Mapping[str, _Stored], query: Mapping[str, str], size: int) -> _Reply:
        raise NotImplementedError

    @staticmethod
    def error(status: int, code: str) -> _Reply:
        raise NotImplementedError

    @staticmethod
    def headers(stored: _Stored) -> dict[str, str]:
        return {"ETag": f'"{stored.etag}"'}

    @staticmethod
    def checksums(stored: _Stored) -> dict[str, str]:
        return {f"x-amz-checksum-{name}": value for name, value in (stored.checksums or {}).items()}

    @staticmethod
    def holds(stored: _Stored, headers: Mapping[str, str], _query: Mapping[str, str]) -> bool:
        return headers.get("if-match", f'"{stored.etag}"') == f'"{stored.etag}"'


def _page(bucket: Mapping[str, _Stored], prefix: str, after: str, size: int) -> tuple[list[str], str | None]:
    keys = sorted((key for key in bucket if key.startswith(prefix) and key > after), key=str.encode)
    return keys[:size], keys[size - 1] if len(keys) > size else None


def _token(key: str | None) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode() if key is not None else ""


def _key(token: str) -> str:
    return base64.urlsafe_b64decode(token).decode()


class _S3(_Dialect):
    no_bucket, no_key, changed = "NoSuchBucket", "NoSuchKey", "PreconditionFailed"

    @staticmethod
    def list(bucket: Mapping[str, _Stored], query: Mapping[str, str], size: int) -> _Reply:
        after = _key(query["continuation-token"]) if "continuation-token" in query else query.get("start-after", "")
        keys, more = _page(bucket, query.get("prefix", ""), after, size)
        rows = [
            f"<Contents><Key>{quote_plus(key, safe='/')}</Key><ETag>&quot;{bucket[key].etag}&quot;</ETag>"
            f"<Size>{len(bucket[key].data)}</Size><Owner><ID>x</ID></Owner></Contents>"
            for key in keys
        ]
        end = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{_token(more)}</NextContinuationToken>"
        text = "".join(rows) + (end if more is not None else "<IsTruncated>false</IsTruncated>")
        space = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
        head = "<EncodingType>url</EncodingType>"  # which is how everybody asks
        return _Reply(200, f"<ListBucketResult {space}>{head}{text}</ListBucketResult>".encode())

    @staticmethod
    def error(status: int, code: str) -> _Reply:
        return _Reply(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())


class _GCS(_Dialect):
    no_bucket, no_key, changed = "notFound", "notFound", "conditionNotMet"

    @staticmethod
    def list(bucket: Mapping[str, _Stored], query: Mapping[str, str], size: int) -> _Reply:
        # startOffset is inclusive: the key itself comes, too.
        offset = query.get("startOffset", "")
        after = _key(query["pageToken"]) if "pageToken" in query else ""
        begun = {key: stored for key, stored in bucket.items() if key >= offset}
        keys, more = _page(begun, query.get("prefix", ""), after, size)
        items = [
            {
                "name": key,
                "size": str(len(begun[key].data)),
                "etag": base64.b64encode(f"g{begun[key].generation}".encode()).decode(),
                "generation": str(begun[key].generation),
            }
            | _GCS.checksums(begun[key])
            for key in keys
        ]
        token = {"nextPageToken": _token(more)} if more is not None else {}
        return _Reply(200, json.dumps({"items": items} | token if items else token).encode())

    @staticmethod
    def error(status: int, code: str) -> _Reply:
        return _Reply(status, json.dumps({"error": {"errors": [{"reason": code}]}}).encode())

    @staticmethod
    def headers(stored: _Stored) -> dict[str, str]:
        return {"x-goog-generation": str(stored.generation)}

    @staticmethod
    def checksums(stored: _Stored) -> dict[str, str]:
        return (
            {"md5Hash": base64.b64encode(stored.md5).decode()} if stored.checksums is None else dict(stored.checksums)
        )

    @staticmethod
    def holds(stored: _Stored, _headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
        return query.get("ifGenerationMatch", str(stored.generation)) == str(stored.generation)


class _Azure(_Dialect):
    no_bucket, no_key, changed = "ContainerNotFound", "BlobNotFound", "ConditionNotMet"

    @staticmethod
    def list(bucket: Mapping[str, _Stored], query: Mapping[str, str], size: int) -> _Reply:
        after = _key(query["marker"]) if query.get("marker") else ""
        keys, more = _page(bucket, query.get("prefix", ""), after, size)
        if query.get("delimiter"):
            return _Azure._level(bucket, query, after, size)
        rows = [
            f"<Blob><Name>{escape(key)}</Name><Properties><Etag>{bucket[key].etag}</Etag>"
            f"<Content-Length>{len(bucket[key].data)}</Content-Length>"
            f"<Content-MD5>{base64.b64encode(bucket[key].md5).decode()}</Content-MD5></Properties><Metadata/></Blob>"
            for key in keys
        ]
        text = f"<Blobs>{''.join(rows)}</Blobs><NextMarker>{_token(more)}</NextMarker>"
        return _Reply(200, f"<EnumerationResults>{text}</EnumerationResults>".encode())

    @staticmethod
    def _level(bucket: Mapping[str, _Stored], query: Mapping[str, str], after: str, size: int) -> _Reply:
        prefix, delimiter = query.get("prefix", ""), query["delimiter"]
        parts = {key: key[len(prefix) :].partition(delimiter) for key in bucket if key.startswith(prefix)}
        level = {f"{prefix}{part[0]}{part[1]}": part[1] for part in parts.values()}
        names = sorted((name for name in level if name > after), key=str.encode)
        more = names[size - 1] if len(names) > size else None
        rows = [
            f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>"
            if level[name]
            else f"<Blob><Name>{escape(name)}</Name></Blob>"
            for name in names[:size]
        ]
        text = f"<Blobs>{''.join(rows)}</Blobs><NextMarker>{_token(more)}</NextMarker>"
        return _Reply(200, f"<EnumerationResults>{text}</EnumerationResults>".encode())

    @staticmethod
    def error(status: int, code: str) -> _Reply:
        return _Reply(status, b"<Error/>", {"x-ms-error-code": code})


class _Handler(Handler):
    store: ObjectServer

    def _get(self) -> None:
        reply, fault = self.store.answer(self.received())
        if not self.store.keeps_alive:
            reply.headers["Connection"] = "close"  # which the base class obeys, too
        self.reply(reply.status, reply.body, reply.headers, fault)

    do_GET = do_HEAD = _get  # noqa: N815 - the base class's names

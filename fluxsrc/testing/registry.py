"""`Registry`: an OCI registry in this process, on a real socket, for tests. It keeps everything in memory.

```python
from fluxsrc.oci import OCISource

with Registry() as registry:
    registry.put("team/app", "v1", layers=[("application/vnd.cncf.flux.content.v1.tar+gzip", b"an archive")])
    revision = OCISource(f"oci://{registry.host}/team/app:v1", insecure=True).resolve_revision()
```

It speaks the distribution API as far as clients use it: manifests, blobs with ranges, monolithic and chunked uploads,
mounts, paged tags, referrers, deletion, and logging in by basic or token. `inject` makes it fail on purpose. The same
client tests run against real registries, so that this one cannot drift from them.
"""

import base64
import hashlib
import json
import re
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import attrs

__all__ = ["Fault", "Registry", "Request"]

_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_INDEX: Final = "application/vnd.oci.image.index.v1+json"
_NAME: Final = r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@attrs.frozen
class Request:
    """One request that was received."""

    method: str
    path: str
    headers: Mapping[str, str]


@attrs.define
class Fault:
    """What to do instead of, or to, an answer.

    Attributes:
        match: A regular expression searched for in `METHOD PATH?QUERY`.
        times: How many requests it hits; None for all.
        status: Answer this.
        headers: With these.
        body: And this.
        cut_after: Send the true answer, but close the connection after this many bytes of its body.
        stall_after: Send the true answer, but fall silent after this many bytes of its body.
        corrupt: Flip a bit in the true answer's body.
    """

    match: str
    times: int | None = 1
    status: int | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    cut_after: int | None = None
    stall_after: int | None = None
    corrupt: bool = False


@attrs.define
class _Repository:
    manifests: dict[str, tuple[str, bytes]] = attrs.field(factory=dict)
    tags: dict[str, str] = attrs.field(factory=dict)
    blobs: dict[str, bytes] = attrs.field(factory=dict)
    uploads: dict[str, bytearray] = attrs.field(factory=dict)


class Registry:
    """The server; use it as a context.

    Attributes:
        users: Who may log in, by name and password; empty for everybody.
        token: Log in by bearer token rather than by basic authentication.
        token_seconds: How long a token is good.
        page: Tags listed at once, at most.
        has_referrers: Whether it knows the referrers API.
        has_head: Whether HEAD of a manifest works; pull-through caches answer 404.
        has_ranges: Whether blobs can be read in part.
        has_totals: Whether the answer to a chunk says how much of the upload is there; zot 1 says how much was in it.
        requests: What was asked, in order.
        repositories: What it holds, by name.
    """

    def __init__(
        self,
        *,
        users: Mapping[str, str] | None = None,
        token: bool = False,
        token_seconds: int = 300,
        page: int = 1000,
        has_referrers: bool = True,
        has_head: bool = True,
        has_ranges: bool = True,
        has_totals: bool = True,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.users = dict(users or {})
        self.token = token
        self.token_seconds = token_seconds
        self.page = page
        self.has_referrers = has_referrers
        self.has_head = has_head
        self.has_ranges = has_ranges
        self.has_totals = has_totals
        self.requests: list[Request] = []
        self.repositories: dict[str, _Repository] = {}
        self.tokens: dict[str, tuple[float, set[str]]] = {}
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "http" if context is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"{self._scheme}://{self.host}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def repository(self, name: str) -> _Repository:
        """A repository, made if it is not there."""
        with self._lock:
            return self.repositories.setdefault(name, _Repository())

    def put(
        self,
        name: str,
        tag: str | None = None,
        *,
        layers: Sequence[tuple[str, bytes] | tuple[str, bytes, Mapping[str, str]]] = (),
        annotations: Mapping[str, str] | None = None,
        config: tuple[str, bytes] = ("application/vnd.oci.empty.v1+json", b"{}"),
        subject: str | None = None,
        artifact_type: str | None = None,
    ) -> str:
        """Make a manifest of layers (media type, bytes, annotations), and return its digest."""
        repository = self.repository(name)

        def blob(media_type: str, data: bytes, notes: Mapping[str, str] | None = None) -> dict[str, Any]:
            repository.blobs[_digest(data)] = data
            value: dict[str, Any] = {"mediaType": media_type, "digest": _digest(data), "size": len(data)}
            return value | ({"annotations": dict(notes)} if notes else {})

        value: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": blob(*config),
            "layers": [blob(*layer) for layer in layers],
        }
        if annotations:
            value["annotations"] = dict(annotations)
        if artifact_type:
            value["artifactType"] = artifact_type
        if subject:
            value["subject"] = {
                "mediaType": _MANIFEST,
                "digest": subject,
                "size": len(repository.manifests[subject][1]),
            }
        return self.put_document(name, tag, json.dumps(value).encode(), _MANIFEST)

    def put_index(self, name: str, tag: str | None, children: Mapping[str, str]) -> str:
        """Make an index of manifests that are there, by platform, and return its digest."""
        repository = self.repository(name)
        manifests = []
        for platform, digest in children.items():
            system, architecture, *variant = platform.split("/")
            described: dict[str, Any] = {"os": system, "architecture": architecture}
            described |= {"variant": variant[0]} if variant else {}
            size = len(repository.manifests[digest][1])
            manifests.append({"mediaType": _MANIFEST, "digest": digest, "size": size, "platform": described})
        value = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests}
        return self.put_document(name, tag, json.dumps(value).encode(), _INDEX)

    def put_document(self, name: str, tag: str | None, data: bytes, media_type: str) -> str:
        """Hold a manifest or index as it is, and return its digest."""
        repository = self.repository(name)
        repository.manifests[_digest(data)] = (media_type, data)
        if tag is not None:
            repository.tags[tag] = _digest(data)
        return _digest(data)

    def inject(self, match: str, **what: Any) -> Fault:
        """Fail on purpose; see `Fault`."""
        fault = Fault(match, **what)
        self._faults.append(fault)
        return fault

    def count(self, pattern: str) -> int:
        """How many requests there were that this is found in `METHOD PATH?QUERY` of."""
        return sum(re.search(pattern, f"{request.method} {request.path}") is not None for request in self.requests)

    def take_fault(self, line: str) -> Fault | None:
        """The fault that hits this request, counted."""
        with self._lock:
            for fault in self._faults:
                if fault.times != 0 and re.search(fault.match, line):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are part of the tests, not of their output."""


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"registry": registry})


class _Handler(BaseHTTPRequestHandler):
    registry: Registry
    protocol_version = "HTTP/1.1"
    timeout = 30
    wbufsize = 64 * 1024
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def _dispatch(self) -> None:
        registry = self.registry
        registry.requests.append(Request(self.command, self.path, dict(self.headers.items())))
        self._fault = registry.take_fault(f"{self.command} {self.path}")
        if self._fault is not None and self._fault.status is not None:
            self._drain()
            self._answer(self._fault.status, self._fault.body, dict(self._fault.headers), whole=True)
            return
        parts = urlsplit(self.path)
        self._query = parse_qs(parts.query, keep_blank_values=True)
        if parts.path == "/token":
            self._token(parts.query)
            return
        name = re.match(rf"/v2/{_NAME}/(?:manifests|blobs|tags|referrers)/", parts.path)
        if not self._authorized(name["name"] if name else None):
            return
        for method, pattern, function in _ROUTES:
            found = re.fullmatch(pattern, parts.path)
            if found and self.command in method:
                function(self, **found.groupdict())
                return
        self._error(404, "UNSUPPORTED")

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _dispatch  # noqa: N815 - the base class's names

    # --- logging in ---

    def _authorized(self, name: str | None) -> bool:
        registry = self.registry
        if not registry.users:
            return True
        kind, _, value = (self.headers.get("Authorization") or "").partition(" ")
        if registry.token:
            actions = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(self.command, "push")
            scope = f"repository:{name}:{actions}" if name else None
            expires, scopes = registry.tokens.get(value, (0.0, set()))
            if kind == "Bearer" and expires > time.monotonic() and (scope is None or scope in scopes):
                return True
            wanted = "pull" if actions == "pull" else f"pull,{actions}"
            challenge = f'Bearer realm="{registry.url}/token",service="test",scope="repository:{name}:{wanted}"'
        else:
            if kind == "Basic" and self._user(value) is not None:
                return True
            challenge = 'Basic realm="test"'
        self._drain()
        self._error(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge})
        return False

    def _user(self, value: str) -> str | None:
        user, _, password = base64.b64decode(value).decode().partition(":")
        return user if self.registry.users.get(user) == password else None

    def _token(self, query: str) -> None:
        registry = self.registry
        body = self._body().decode()
        pairs = parse_qsl(body or query)
        kind, _, value = (self.headers.get("Authorization") or "").partition(" ")
        form = dict(pairs)
        if body:
            good = form.get("grant_type") == "refresh_token" and form.get("refresh_token") in registry.users.values()
        else:
            good = kind == "Basic" and self._user(value) is not None
        if not good:
            self._error(401, "UNAUTHORIZED")
            return
        scopes: set[str] = set()
        for scope in " ".join(value for key, value in pairs if key == "scope").split():
            head, _, actions = scope.rpartition(":")
            scopes.update(f"{head}:{action}" for action in actions.split(","))
        token = secrets.token_hex(16)
        registry.tokens[token] = (time.monotonic() + registry.token_seconds, scopes)
        key = "access_token" if body else "token"
        self._json({key: token, "expires_in": registry.token_seconds})

    # --- the API ---

    def _base(self) -> None:
        self._json({})

    def _get_manifest(self, name: str, reference: str) -> None:
        repository = self.registry.repository(name)
        digest = repository.tags.get(reference, reference)
        found = repository.manifests.get(digest)
        if found is None or (self.command == "HEAD" and not self.registry.has_head):
            self._error(404, "MANIFEST_UNKNOWN")
            return
        self._answer(200, found[1], {"Content-Type": found[0], "Docker-Content-Digest": digest})

    def _put_manifest(self, name: str, reference: str) -> None:
        repository = self.registry.repository(name)
        data = self._body()
        value = json.loads(data)
        for part in [value.get("config"), *(value.get("layers") or [])]:
            if part is not None and part["digest"] not in repository.blobs:
                self._error(400, "MANIFEST_BLOB_UNKNOWN")
                return
        for part in value.get("manifests") or []:
            if part["digest"] not in repository.manifests:
                self._error(400, "MANIFEST_BLOB_UNKNOWN")
                return
        digest = _digest(data)
        if _DIGEST.fullmatch(reference) and reference != digest:
            self._error(400, "DIGEST_INVALID")
            return
        repository.manifests[digest] = (self.headers.get("Content-Type") or _MANIFEST, data)
        if not _DIGEST.fullmatch(reference):
            repository.tags[reference] = digest
        headers = {"Location": f"/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest}
        if "subject" in value and self.registry.has_referrers:
            headers["OCI-Subject"] = value["subject"]["digest"]
        self._answer(201, b"", headers)

    def _delete_manifest(self, name: str, reference: str) -> None:
        repository = self.registry.repository(name)
        if repository.tags.pop(reference, None) is None:
            if repository.manifests.pop(reference, None) is None:
                self._error(404, "MANIFEST_UNKNOWN")
                return
            repository.tags = {tag: digest for tag, digest in repository.tags.items() if digest != reference}
        self._answer(202, b"")

    def _get_blob(self, name: str, digest: str) -> None:
        data = self.registry.repository(name).blobs.get(digest)
        if data is None:
            self._error(404, "BLOB_UNKNOWN")
            return
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        if self.registry.has_ranges:
            headers["Accept-Ranges"] = "bytes"
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if found is None or not self.registry.has_ranges:
            self._answer(200, data, headers)
            return
        first, last = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self._answer(206, data[first : last + 1], headers)

    def _begin_upload(self, name: str) -> None:
        self._drain()
        repository = self.registry.repository(name)
        mount, origin = self._query.get("mount", [""])[0], self._query.get("from", [""])[0]
        if mount and origin in self.registry.repositories:
            data = self.registry.repository(origin).blobs.get(mount)
            if data is not None:
                repository.blobs[mount] = data
                self._answer(201, b"", {"Location": f"/v2/{name}/blobs/{mount}"})
                return
        upload = secrets.token_hex(8)
        repository.uploads[upload] = bytearray()
        self._answer(202, b"", self._upload_headers(name, upload))

    def _upload_headers(self, name: str, upload: str) -> dict[str, str]:
        received = len(self.registry.repository(name).uploads[upload])
        return {"Location": f"/v2/{name}/blobs/uploads/{upload}?state=x", "Range": f"0-{max(received - 1, 0)}"}

    def _continue_upload(self, name: str, upload: str) -> None:
        repository = self.registry.repository(name)
        received = repository.uploads.get(upload)
        if received is None:
            self._drain()
            self._error(404, "BLOB_UPLOAD_UNKNOWN")
            return
        if self.command == "GET":
            self._answer(204, b"", self._upload_headers(name, upload))
            return
        if self.command == "PATCH":
            said = (self.headers.get("Content-Range") or f"{len(received)}-").partition("-")[0]
            if int(said) != len(received):
                self._drain()
                self._error(416, "BLOB_UPLOAD_INVALID")
                return
        limit = self._fault.cut_after if self._fault is not None and self.command == "PATCH" else None
        chunk = self._body(limit)
        received += chunk
        if limit is not None:
            self.close_connection = True
            return
        if self.command == "PATCH":
            headers = self._upload_headers(name, upload)
            if not self.registry.has_totals:
                headers["Range"] = f"0-{len(chunk) - 1}"
            self._answer(202, b"", headers)
            return
        digest = self._query.get("digest", [""])[0]
        if _digest(bytes(received)) != digest:
            self._error(400, "DIGEST_INVALID")
            return
        repository.blobs[digest] = bytes(received)
        del repository.uploads[upload]
        self._answer(201, b"", {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})

    def _tags(self, name: str) -> None:
        repository = self.registry.repositories.get(name)
        if repository is None:
            self._error(404, "NAME_UNKNOWN")
            return
        count = min(int(self._query.get("n", [str(self.registry.page)])[0]), self.registry.page)
        after = self._query.get("last", [""])[0]
        tags = [tag for tag in sorted(repository.tags) if tag > after]
        headers = {}
        if len(tags) > count:
            query = urlencode({"n": count, "last": tags[count - 1]})
            headers["Link"] = f'</v2/{name}/tags/list?{query}>; rel="next"'
        self._json({"name": name, "tags": tags[:count]}, headers)

    def _referrers(self, name: str, digest: str) -> None:
        if not self.registry.has_referrers:
            self._error(404, "UNSUPPORTED")
            return
        found = []
        for key, (media_type, data) in self.registry.repository(name).manifests.items():
            value = json.loads(data)
            if (value.get("subject") or {}).get("digest") == digest:
                item = {"mediaType": media_type, "digest": key, "size": len(data)}
                kind = value.get("artifactType") or (value.get("config") or {}).get("mediaType")
                found.append(item | ({"artifactType": kind} if kind else {}))
        self._json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": found}, {"Content-Type": _INDEX})

    # --- messages ---

    def _body(self, limit: int | None = None) -> bytes:
        if (self.headers.get("Transfer-Encoding") or "").lower() == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        size = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(size if limit is None else min(size, limit))

    def _drain(self) -> None:
        self._body()

    def _json(self, value: Any, headers: Mapping[str, str] | None = None) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _error(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps({"errors": [{"code": code, "message": code.replace("_", " ").lower()}]}).encode()
        self._answer(status, body, {"Content-Type": "application/json", **(headers or {})}, whole=True)

    def _answer(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, whole: bool = False
    ) -> None:
        fault = None if whole else self._fault
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204 and "Content-Length" not in (headers or {}):  # noqa: PLR2004 - no content
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is not None and fault.corrupt and body:
            body = bytes((body[0] ^ 1,)) + body[1:]
        if fault is not None and fault.cut_after is not None and self.command == "GET":
            body = body[: fault.cut_after]
            self.close_connection = True
        if fault is not None and fault.stall_after is not None and self.command == "GET":
            self.wfile.write(body[: fault.stall_after])
            self.wfile.flush()
            self.rfile.read(1)  # until the client gives up
            self.close_connection = True
            return
        self.wfile.write(body)


_ROUTES: Final[tuple[tuple[tuple[str, ...], str, Callable[..., None]], ...]] = (
    (("GET",), r"/v2/", _Handler._base),  # noqa: SLF001 - same room, and below
    (("GET", "HEAD"), rf"/v2/{_NAME}/manifests/(?P<reference>[^/]+)", _Handler._get_manifest),  # noqa: SLF001
    (("PUT",), rf"/v2/{_NAME}/manifests/(?P<reference>[^/]+)", _Handler._put_manifest),  # noqa: SLF001
    (("DELETE",), rf"/v2/{_NAME}/manifests/(?P<reference>[^/]+)", _Handler._delete_manifest),  # noqa: SLF001
    (("POST",), rf"/v2/{_NAME}/blobs/uploads/", _Handler._begin_upload),  # noqa: SLF001
    (("GET", "PATCH", "PUT"), rf"/v2/{_NAME}/blobs/uploads/(?P<upload>[^/]+)", _Handler._continue_upload),  # noqa: SLF001
    (("GET", "HEAD"), rf"/v2/{_NAME}/blobs/(?P<digest>sha256:[0-9a-f]+)", _Handler._get_blob),  # noqa: SLF001
    (("GET",), rf"/v2/{_NAME}/tags/list", _Handler._tags),  # noqa: SLF001
    (("GET",), rf"/v2/{_NAME}/referrers/(?P<digest>[^/]+)", _Handler._referrers),  # noqa: SLF001
)

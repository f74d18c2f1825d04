"""The distribution API, as far as clients use it: one request, one method."""

import json
import re
import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from fluxsrc.testing._loopback import Handler
from fluxsrc.testing.registry.contents import INDEX, MANIFEST, digest_of
from fluxsrc.testing.registry.login import challenge, issue

if TYPE_CHECKING:
    from fluxsrc.testing.registry.server import Registry

__all__ = ["RegistryHandler"]

_NAME: Final = r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
_FOREIGN: Final = re.compile(r"nondistributable|\.foreign\.")  # kept where they come from
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class RegistryHandler(Handler):
    """One connection to a registry."""

    registry: "Registry"

    def _dispatch(self) -> None:
        registry = self.registry
        request = self.received()
        registry.requests.append(request)
        self._fault = registry.take_fault(request.line)
        if self._fault is not None and self._fault.status is not None:
            self.body()
            self.reply(self._fault.status, self._fault.body, self._fault.headers)
            return
        parts = urlsplit(self.path)
        self._query = parse_qs(parts.query, keep_blank_values=True)
        authorization = self.headers.get("Authorization") or ""
        if parts.path == "/token":
            answer = issue(registry, parts.query, self.body().decode(), authorization)
            self._error(401, "UNAUTHORIZED") if answer is None else self._json(answer)
            return
        name = re.match(rf"/v2/{_NAME}/(?:manifests|blobs|tags|referrers)/", parts.path)
        refusal = challenge(registry, self.command, name["name"] if name else None, authorization)
        if refusal is not None:
            self.body()
            self._error(401, "UNAUTHORIZED", {"WWW-Authenticate": refusal})
            return
        for method, pattern, function in _ROUTES:
            found = re.fullmatch(pattern, parts.path)
            if found and self.command in method:
                function(self, **found.groupdict())
                return
        self._error(404, "UNSUPPORTED")

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _dispatch  # noqa: N815 - the base class's names

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
        data = self.body()
        value = json.loads(data)
        layers = [layer for layer in value.get("layers") or [] if not _FOREIGN.search(layer["mediaType"])]
        for part in [value.get("config"), *layers]:
            if part is not None and part["digest"] not in repository.blobs:
                self._error(400, "MANIFEST_BLOB_UNKNOWN")
                return
        for part in value.get("manifests") or []:
            if part["digest"] not in repository.manifests:
                self._error(400, "MANIFEST_BLOB_UNKNOWN")
                return
        digest = digest_of(data)
        if _DIGEST.fullmatch(reference) and reference != digest:
            self._error(400, "DIGEST_INVALID")
            return
        repository.manifests[digest] = (self.headers.get("Content-Type") or MANIFEST, data)
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
        self.body()
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
            self.body()
            self._error(404, "BLOB_UPLOAD_UNKNOWN")
            return
        if self.command == "GET":
            self._answer(204, b"", self._upload_headers(name, upload))
            return
        if self.command == "PATCH":
            said = (self.headers.get("Content-Range") or f"{len(received)}-").partition("-")[0]
            if int(said) != len(received):
                self.body()
                self._error(416, "BLOB_UPLOAD_INVALID")
                return
        limit = self._fault.cut_after if self._fault is not None and self.command == "PATCH" else None
        chunk = self.body(limit)
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
        if digest_of(bytes(received)) != digest:
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
        self._json(
            {"schemaVersion": 2, "mediaType": INDEX, "manifests": self.registry.repository(name).referrers(digest)},
            {"Content-Type": INDEX},
        )

    # --- answers ---

    def _json(self, value: Any, headers: Mapping[str, str] | None = None) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _error(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps({"errors": [{"code": code, "message": code.replace("_", " ").lower()}]}).encode()
        self.reply(status, body, {"Content-Type": "application/json", **(headers or {})})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        # What a fault does to a body is for downloads; an upload that it cuts was cut while it came in.
        fault = self._fault if self.command == "GET" else None
        self.reply(status, body, headers or {}, fault)


_ROUTES: Final[tuple[tuple[tuple[str, ...], str, Callable[..., None]], ...]] = (
    (("GET",), r"/v2/", RegistryHandler._base),  # noqa: SLF001 - same room, and below
    (("GET", "HEAD"), rf"/v2/{_NAME}/manifests/(?P<reference>[^/]+)", RegistryHandler._get_manifest),  # noqa: SLF001
    (("PUT",), rf"/v2/{_NAME}/manifests/(?P<reference>[^/]+)", RegistryHandler._put_manifest),  # noqa: SLF001
    (("DELETE",), rf"/v2/{_NAME}/manifests/(?P<reference>[^/]+)", RegistryHandler._delete_manifest),  # noqa: SLF001
    (("POST",), rf"/v2/{_NAME}/blobs/uploads/", RegistryHandler._begin_upload),  # noqa: SLF001
    (("GET", "PATCH", "PUT"), rf"/v2/{_NAME}/blobs/uploads/(?P<upload>[^/]+)", RegistryHandler._continue_upload),  # noqa: SLF001
    (("GET", "HEAD"), rf"/v2/{_NAME}/blobs/(?P<digest>sha256:[0-9a-f]+)", RegistryHandler._get_blob),  # noqa: SLF001
    (("GET",), rf"/v2/{_NAME}/tags/list", RegistryHandler._tags),  # noqa: SLF001
    (("GET",), rf"/v2/{_NAME}/referrers/(?P<digest>[^/]+)", RegistryHandler._referrers),  # noqa: SLF001
)

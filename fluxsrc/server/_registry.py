"""The read side of the OCI distribution API: each source is a repository, whose tags are its revisions.

Manifests and configs are functions of an artifact, and are made when they are asked for; layers are the store's blobs.
What other tools put into a store that is an image layout (signatures, SBOMs) is in the repository of what it is about.
"""

import contextlib
import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs, quote

import attrs

from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, DigestMismatchError
from fluxsrc.oci.manifest import INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, artifact_documents
from fluxsrc.oci.reference import is_tag
from fluxsrc.server._blobs import Blob
from fluxsrc.server._foreign import Attached, Foreign
from fluxsrc.server._http import Request, Response
from fluxsrc.server._serve import Representation
from fluxsrc.store import Store

__all__ = ["VERSION_HEADER", "Registry", "registry_error"]

VERSION_HEADER: Final = {"Docker-Distribution-API-Version": "registry/2.0"}
_ROUTE: Final = re.compile(r"(?P<name>.+)/(?P<what>manifests|blobs|referrers|tags)/(?P<reference>[^/]+)")
_HEX: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128}")
_OCTETS: Final = "application/octet-stream"
_MAX_PAGE: Final = 1000


def registry_error(status: HTTPStatus, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as the specification has it."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Response(status, {"Content-Type": "application/json", **VERSION_HEADER, **(headers or {})}, body)


def _unknown(code: str, message: str) -> Response:
    return registry_error(HTTPStatus.NOT_FOUND, code, message)


@attrs.frozen
class _Described:
    """What a manifest and a config of ours are."""

    config: bytes
    config_digest: Digest
    manifest: bytes

    @classmethod
    def of(cls, artifact: Artifact) -> "_Described":
        """Made from the artifact, and held against the digest that its history has."""
        config, manifest = artifact_documents(artifact)
        actual = Digest.of(manifest)
        if artifact.manifest != actual:
            raise DigestMismatchError(
                f"the manifest of {artifact.key} at {artifact.revision} is {actual}, not {artifact.manifest}",
                expected=str(artifact.manifest),
                actual=str(actual),
                hint="another version of fluxsrc recorded it; produce the artifact again",
            )
        return cls(config, Digest.of(config), manifest)


class Registry:
    """A store as a registry.

    Args:
        store: What is served.
        prefix: What stands before the source's key in a repository's name, with a slash at its end, or nothing.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._foreign = Foreign.of(store)
        self._described = functools.lru_cache(maxsize=1024)(_Described.of)

    def find(self, request: Request, path: str) -> Representation | Response:
        """What is at a path below `/v2/`."""
        if not path:
            return Response(HTTPStatus.OK, {"Content-Type": "application/json", **VERSION_HEADER}, b"{}")
        match = _ROUTE.fullmatch(path)
        if match is None:
            return _unknown("UNSUPPORTED", "no such endpoint; this registry can only be read")
        name, what, reference = match.groups()
        key, digest = self._key(name), _digest(reference)
        if key is None:
            return _unknown("NAME_UNKNOWN", "no such repository")
        if what == "tags":
            listing = reference == "list"
            return self._list(request, name, key) if listing else _unknown("UNSUPPORTED", "no such endpoint")
        if digest is None and (what != "manifests" or ":" in reference):
            return registry_error(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", "not a digest")
        missing = ("NAME_UNKNOWN", "no such repository")
        for artifacts in self._views(key, current=what != "referrers"):
            attached = self._attached(artifacts)
            if what == "referrers" and digest is not None:
                return _referrers(request, digest, attached)
            if what == "blobs" and digest is not None:
                found = self._blob(digest, artifacts, attached)
                missing = ("BLOB_UNKNOWN", "no such blob")
            else:
                found = self._manifest(reference, digest, artifacts, attached)
                missing = ("MANIFEST_UNKNOWN", "no such manifest")
            if found is not None:
                return found
        return _unknown(*missing)

    def _key(self, name: str) -> SourceKey | None:
        if name.startswith(self._prefix):
            with contextlib.suppress(ConfigurationError):
                return SourceKey.parse(name.removeprefix(self._prefix))
        return None

    def _views(self, key: SourceKey, *, current: bool) -> Iterator[Sequence[Artifact]]:
        """The current artifact, which is nearly always the one that is meant; then all of the history, which costs more."""
        if current and (artifact := self._store.lookup(key)) is not None:
            yield (artifact,)
        if history := self._store.history(key):
            yield history

    def _attached(self, artifacts: Sequence[Artifact]) -> Attached:
        return self._foreign.about(artifact.manifest for artifact in artifacts if artifact.manifest is not None)

    def _manifest(
        self, reference: str, digest: Digest | None, artifacts: Sequence[Artifact], attached: Attached
    ) -> Representation | None:
        named = digest is not None
        if digest is None:
            artifact = _tags(artifacts).get(reference)
            digest = attached.tags.get(reference) if artifact is None else artifact.manifest
        if digest is None:
            return None
        ours = next((artifact for artifact in artifacts if artifact.manifest == digest), None)
        if ours is not None:
            return _document(self._described(ours).manifest, digest, MANIFEST_MEDIA_TYPE, named=named)
        theirs = attached.manifests.get(digest)
        return None if theirs is None else _document(theirs.data, digest, theirs.media_type, named=named)

    def _blob(self, digest: Digest, artifacts: Sequence[Artifact], attached: Attached) -> Representation | None:
        body: bytes | Blob | None = None
        layer = next((artifact for artifact in artifacts if artifact.digest == digest), None)
        if layer is not None:
            body = Blob(digest, layer.size, layer)
        elif (size := attached.blobs.get(digest)) is not None:
            body = Blob(digest, size)
        else:
            described = map(self._described, artifacts)
            body = next((each.config for each in described if each.config_digest == digest), None)
        if body is None:
            return None
        return Representation(digest=digest, media_type=_OCTETS, body=body, immutable=True, headers=_headers(digest))

    # --- lists ---

    def _list(self, request: Request, name: str, key: SourceKey) -> Response:
        artifacts = next(self._views(key, current=False), None)
        if artifacts is None:
            return _unknown("NAME_UNKNOWN", "no such repository")
        attached = self._attached(artifacts)
        query = parse_qs(request.query, keep_blank_values=True)
        count = query.get("n", [str(_MAX_PAGE)])[-1]
        if not re.fullmatch(r"[0-9]{1,9}", count):
            return registry_error(HTTPStatus.BAD_REQUEST, "PAGINATION_NUMBER_INVALID", "n is not a number")
        size = min(int(count), _MAX_PAGE)
        after = query.get("last", [""])[-1]
        tags = sorted(tag for tag in {*_tags(artifacts), *attached.tags} if tag > after)
        page = tags[:size]
        headers = {"Content-Type": "application/json", "Cache-Control": "no-cache", **VERSION_HEADER}
        if page and len(tags) > len(page):
            headers["Link"] = f'</v2/{quote(name)}/tags/list?n={size}&last={quote(page[-1], safe="")}>; rel="next"'
        return Response(HTTPStatus.OK, headers, json.dumps({"name": name, "tags": page}).encode())


def _referrers(request: Request, digest: Digest, attached: Attached) -> Response:
    wanted = parse_qs(request.query).get("artifactType", [None])[-1]
    found = attached.referrers.get(digest, ())
    headers = {"Content-Type": INDEX_MEDIA_TYPE, "Cache-Control": "no-cache", **VERSION_HEADER}
    if wanted is not None:
        found = [item for item in found if item.artifact_type == wanted]
        headers["OCI-Filters-Applied"] = "artifactType"
    manifests = [item.to_json() for item in found]
    document = {"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": manifests}
    return Response(HTTPStatus.OK, headers, json.dumps(document).encode())


def _document(data: bytes, digest: Digest, media_type: str, *, named: bool) -> Representation:
    return Representation(digest=digest, media_type=media_type, body=data, immutable=named, headers=_headers(digest))


def _headers(digest: Digest) -> dict[str, str]:
    return {"Docker-Content-Digest": str(digest), **VERSION_HEADER}


def _tags(artifacts: Sequence[Artifact]) -> dict[str, Artifact]:
    """Names for the artifacts of a history, newest first.

    `latest` is the current one. The hexadecimal digits of a revision's digest name the newest artifact made from it. A
    branch, tag or version, if it can be a tag here, names the newest artifact made from that.
    """
    found: dict[str, Artifact] = {"latest": artifacts[0]}
    for name_of in (_hex, _pointer):
        for artifact in artifacts:
            name = name_of(artifact)
            if name is not None and is_tag(name):
                found.setdefault(name, artifact)
    return found


def _hex(artifact: Artifact) -> str:
    return artifact.revision.digest.hex


def _pointer(artifact: Artifact) -> str | None:
    """Never the digits of a digest: a branch may be called like a commit, and must not be taken for one."""
    pointer = artifact.revision.pointer
    return None if pointer is None or _HEX.fullmatch(pointer) else pointer


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except ConfigurationError:
        return None

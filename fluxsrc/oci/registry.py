"""`RegistryRepository`: a `Repository` behind the OCI distribution API."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urljoin

import attrs

from fluxsrc._io.http import Response, retrying
from fluxsrc.auth import Origin
from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, DigestMismatchError, RemoteProtocolError, RevisionNotFoundError
from fluxsrc.oci.manifest import ACCEPT, INDEX_MEDIA_TYPE, Descriptor, Index, parse_document
from fluxsrc.oci.reference import is_tag
from fluxsrc.oci.repository import BlobSource, Document, Repository, Sink, verified
from fluxsrc.oci.session import Session
from fluxsrc.oci.transfer import download, upload
from fluxsrc.operation import Operation

__all__ = ["RegistryRepository"]

_PAGE: Final = 1000
_LINK: Final = re.compile(r"(?:<([^<>]*)>|([^<>;,\s]+))([^,]*)")  # zot 1 leaves the brackets out
_NEXT: Final = re.compile(r';\s*rel="?next"?\s*(?:;|$)', re.IGNORECASE)
_MAX_LINKS: Final = 8192
_GONE: Final = frozenset({404, 410})
_OK: Final = 200
_NO_REFERRERS: Final = frozenset({400, 404, 405, 406, 501})
"""How registries that never heard of the referrers API answer."""
_MANIFEST_TYPES: Final = ("application/vnd.oci.", "application/vnd.docker.")
_PUSH: Final = "pull,push"
_DELETE: Final = "pull,push,delete"


@attrs.frozen(eq=False, repr=False)
class RegistryRepository:
    """One repository of a registry, open for one operation; see `Repository`."""

    _session: Session

    @property
    def name(self) -> str:
        """`oci://HOST/REPOSITORY`."""
        return self._session.name

    @property
    def operation(self) -> Operation:
        """What it is open for."""
        return self._session.operation

    def resolve(self, reference: str, /) -> Descriptor:
        """One HEAD; a GET where the registry does not answer that, or not fully."""
        described = retrying(lambda: self._head(reference), operation=self._session.operation, phase="resolve")
        # Pull-through caches answer 404 to HEAD for what GET would bring them to fetch; some registries leave out the digest.
        return self.document(reference).descriptor if described is None else described

    def document(self, reference: str, /) -> Document:
        """One GET."""
        what = f"read the manifest {self._shown(reference)}"

        def attempt() -> tuple[bytes, Response]:
            response = self._session.request(
                "GET", self._session.url(f"manifests/{reference}"), phase="resolve", headers={"Accept": ACCEPT}
            )
            if response.status in _GONE:
                raise self._missing(response, reference)
            if response.status != _OK:
                raise self._session.error(response, what)
            with response:
                return response.read(self._session.limits.max_manifest_bytes), response

        data, response = retrying(attempt, operation=self._session.operation, phase="resolve")
        stated = _digest(response.headers.get("docker-content-digest"))
        asked = None if is_tag(reference) else Digest.parse(reference)
        if asked is not None:
            verified(data, asked, where=self.name)
        descriptor = Descriptor.of(data, _media_type(response, data, self.name))
        if asked is None and stated is not None and stated.algorithm == "sha256" and stated != descriptor.digest:
            raise DigestMismatchError(
                f"{self._shown(reference)}: the registry says {stated}, but sends {descriptor.digest}",
                expected=str(stated),
                actual=str(descriptor.digest),
            )
        return Document(descriptor if asked is None else attrs.evolve(descriptor, digest=asked), data)

    def tags(self) -> Iterator[str]:
        """Page by page."""
        first = self._session.url(f"tags/list?n={_PAGE}")
        url: str | None = first
        seen: set[str] = set()
        while url is not None:
            value, response = self._session.get_json(url, f"list the tags of {self.name}", phase="list")
            page = value.get("tags") or []
            if not isinstance(page, list) or not all(isinstance(tag, str) and is_tag(tag) for tag in page):
                raise RemoteProtocolError(f"{self.name}: a list of tags with things that are none", url=response.url)
            fresh = [tag for tag in page if tag not in seen]
            seen.update(fresh)
            self._session.limits.check("max_refs", len(seen), what=self.name)
            self._session.operation.report("list", len(seen), unit="objects", detail=self.name)
            yield from fresh
            following = self._next_page(response)
            if following is not None and not fresh:
                raise RemoteProtocolError(f"{self.name}: the pages of its tag list have no end", url=response.url)
            if following is None and len(page) == _PAGE and fresh:
                # As many as were asked for, and not a word of more: some registries cut there, and do not say so.
                following = f"{first}&last={quote(page[-1], safe='')}"
            url = following

    def fetch(self, blob: Descriptor, sink: Sink, /) -> None:
        """Resumed where a connection breaks."""
        self._session.limits.check("max_archive_bytes", blob.size, what=f"{self.name}: the blob {blob.digest}")
        download(self._session, blob, sink)

    def has(self, blob: Descriptor, /) -> bool:
        """One HEAD."""
        kind = "manifests" if blob.is_manifest else "blobs"
        what = f"look for {blob.digest} in {self.name}"

        def attempt() -> bool:
            url = self._session.url(f"{kind}/{blob.digest}")
            with self._session.request("HEAD", url, phase="look", headers={"Accept": ACCEPT}) as response:
                if response.status in (_OK, *_GONE):
                    return response.status == _OK
                raise self._session.error(response, what)

        return retrying(attempt, operation=self._session.operation, phase="look")

    def push(self, blob: Descriptor, source: BlobSource, /, *, mount_from: str | None = None) -> bool:
        """A HEAD, then a mount or an upload."""
        return not self.has(blob) and upload(self._session, blob, source, mount_from=mount_from)

    def push_document(self, document: Document, /, *, tag: str | None = None) -> None:
        """One PUT; for the first referrer in a registry without that API also an index under a tag."""
        descriptor = document.descriptor
        target = tag if tag is not None else str(descriptor.digest)
        what = f"write the manifest {self._shown(target)}"

        def attempt() -> bool:
            with self._session.request(
                "PUT",
                self._session.url(f"manifests/{target}"),
                phase="upload",
                scope=self._session.scope(_PUSH),
                headers={"Content-Type": descriptor.media_type},
                content=document.data,
            ) as response:
                if response.status not in (_OK, 201):
                    raise self._session.error(response, what)
                stated = _digest(response.headers.get("docker-content-digest"))
                if stated is not None and stated != descriptor.digest:
                    raise DigestMismatchError(
                        f"{self._shown(target)}: written as {stated}",
                        expected=str(descriptor.digest),
                        actual=str(stated),
                    )
                return "oci-subject" in response.headers

        understood = retrying(attempt, operation=self._session.operation, phase="upload")
        parsed = parse_document(document.data, where=self.name, media_type=descriptor.media_type)
        if parsed.subject is not None and not understood:
            self._add_to_fallback(parsed.subject.digest, parsed.listed_as(descriptor))

    def referrers(self, digest: Digest, /) -> list[Descriptor]:
        """By the referrers API, or by the tag that stands in for it."""
        try:
            value, response = self._session.get_json(
                self._session.url(f"referrers/{digest}"),
                f"list the referrers of {digest}",
                phase="list",
                missing=_NO_REFERRERS,
            )
            found = list(_index(json.dumps(value).encode(), self.name).manifests)
            while True:
                self._session.limits.check("max_referrers", len(found), what=self.name)
                url = self._next_page(response)
                if url is None:
                    return found
                value, response = self._session.get_json(url, f"list the referrers of {digest}", phase="list")
                page = _index(json.dumps(value).encode(), self.name).manifests
                if not page:
                    raise RemoteProtocolError(f"{self.name}: the pages of its referrers have no end", url=response.url)
                found += page
        except RevisionNotFoundError:
            found = list(self._fallback(digest).manifests)
            self._session.limits.check("max_referrers", len(found), what=self.name)
            return found

    def delete(self, reference: str, /) -> None:
        """One DELETE."""
        what = f"delete {self._shown(reference)}"
        url = self._session.url(f"manifests/{reference}")

        def attempt() -> None:
            with self._session.request("DELETE", url, phase="delete", scope=self._session.scope(_DELETE)) as response:
                if response.status in _GONE:
                    raise self._missing(response, reference)
                if response.status not in (_OK, 202, 204):
                    raise self._session.error(response, what)

        retrying(attempt, operation=self._session.operation, phase="delete")

    def _head(self, reference: str) -> Descriptor | None:
        """What a HEAD says, or None if it does not say enough."""
        with self._session.request(
            "HEAD", self._session.url(f"manifests/{reference}"), phase="resolve", headers={"Accept": ACCEPT}
        ) as response:
            if response.status in (401, 403, 429) or response.status >= 500:  # noqa: PLR2004 - a GET would fare no better
                raise self._session.error(response, f"resolve {self._shown(reference)}")
            digest = _digest(response.headers.get("docker-content-digest"))
            length = response.headers.get("content-length") or ""
            if response.status != _OK or digest is None or not length.isdecimal():
                return None
            return Descriptor(media_type=_content_type(response), digest=digest, size=int(length))

    def _next_page(self, response: Response) -> str | None:
        links = _LINK.finditer(", ".join(response.headers.get_all("link"))[:_MAX_LINKS])
        target = next((link[1] or link[2] for link in links if _NEXT.search(link[3])), None)
        if target is None:
            return None
        with suppress(ValueError):  # what is no URL: ConfigurationError is one
            url: str = urljoin(response.location, target)
            if Origin.of(url) == Origin.of(self._session.base):
                return url
        raise RemoteProtocolError(f"{self.name}: the next page of a list is on another host", url=response.url)

    def _fallback(self, digest: Digest) -> Index:
        try:
            found = self.document(_referrers_tag(digest))
        except RevisionNotFoundError:
            return Index(manifests=())
        return _index(found.data, self.name)

    def _add_to_fallback(self, subject: Digest, referrer: Descriptor) -> None:
        index = self._fallback(subject)
        if any(item.digest == referrer.digest for item in index.manifests):
            return
        added = attrs.evolve(index, manifests=(*index.manifests, referrer))
        data = added.encode()
        self.push_document(Document(Descriptor.of(data, INDEX_MEDIA_TYPE), data), tag=_referrers_tag(subject))

    def _shown(self, reference: str) -> str:
        return f"{self.name}{':' if is_tag(reference) else '@'}{reference}"

    def _missing(self, response: Response, reference: str) -> RevisionNotFoundError:
        response.close()
        return RevisionNotFoundError(f"{self._shown(reference)} is not there", url=self.name)


def _digest(value: str | None) -> Digest | None:
    with suppress(ConfigurationError):
        digest = Digest.parse(value or "")
        return digest if digest.algorithm in ("sha256", "sha512") else None
    return None


def _media_type(response: Response, data: bytes, where: str) -> str:
    """What a registry calls a document; what the document calls itself, where it says "JSON" or nothing, as caches do."""
    stated = _content_type(response)
    if not stated.startswith(_MANIFEST_TYPES):
        try:
            return parse_document(data, where=where).media_type
        except RemoteProtocolError:
            if not data.lstrip().startswith(b"{"):
                raise  # no document at all: the page of somebody on the way who wants us to log in, for example
            # Of no kind that we know: what was stated may tell somebody something.
    return stated


def _content_type(response: Response) -> str:
    return (response.headers.get("content-type") or "").partition(";")[0].strip().lower()


def _referrers_tag(digest: Digest) -> str:
    """Where a list of referrers is kept if there is no API for it; a tag is too short for a sha512."""
    return f"{digest.algorithm}-{digest.hex[:64]}"


def _index(data: bytes, where: str) -> Index:
    parsed = parse_document(data, where=where)
    if not isinstance(parsed, Index):
        raise RemoteProtocolError(f"{where}: a manifest where an index was expected", url=where)
    return parsed


if TYPE_CHECKING:

    def _(repository: RegistryRepository) -> Repository:
        return repository

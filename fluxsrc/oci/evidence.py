"""Collecting the signatures of a manifest, for a policy: only the kinds it needs, and never more than the limits allow."""

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Final

from fluxsrc.digest import Digest
from fluxsrc.errors import RevisionNotFoundError
from fluxsrc.limits import Limits
from fluxsrc.oci.manifest import Descriptor, Manifest, parse_document
from fluxsrc.oci.reference import is_tag
from fluxsrc.oci.repository import Document, Repository
from fluxsrc.signatures.oci import (
    BUNDLE_MEDIA_TYPE,
    COSIGN_ARTIFACT_TYPE,
    NOTATION_ARTIFACT_TYPE,
    SIMPLE_SIGNING_MEDIA_TYPE,
    OCIEvidence,
    SignatureKind,
    SignatureRecord,
)

__all__ = ["collect"]

_TYPES: Final[dict[str | None, SignatureKind]] = {
    COSIGN_ARTIFACT_TYPE: SignatureKind.COSIGN,
    BUNDLE_MEDIA_TYPE: SignatureKind.BUNDLE,
    NOTATION_ARTIFACT_TYPE: SignatureKind.NOTATION,
}

# Who writes the list by hand, where there is no API for it, may leave the type out; zot says the config's. The manifest has it.
_SAYS_NOTHING: Final = frozenset({None, "", "application/vnd.oci.empty.v1+json"})


def collect(
    repository: Repository, top: Document, kinds: Iterable[SignatureKind], *, subject: str, limits: Limits
) -> OCIEvidence:
    """The evidence about a manifest.

    Args:
        repository: Where it is, and its signatures.
        top: The manifest or index that was resolved.
        kinds: The layouts to look for.
        subject: The redacted URL and the revision, for messages.
        limits: `max_referrers`, `max_signatures`, `max_signature_bytes` and `max_manifest_bytes` bound what is read.

    Raises:
        LimitExceededError: There are more or larger signatures than allowed. The policy is not asked then.
        DigestMismatchError: What was sent is not what its digest says.
        SourceError: The signatures cannot be read.
    """
    digest = top.descriptor.digest
    parsed = parse_document(top.data, where=repository.name, media_type=top.descriptor.media_type or None)
    found = []
    for record in _Collector(repository, limits).records(digest, frozenset(kinds)):
        found.append(record)
        limits.check("max_signatures", len(found), what=subject)
    return OCIEvidence(
        subject=subject,
        now=dt.datetime.now(dt.UTC),
        repository=repository.name.removeprefix("oci://"),
        digest=digest,
        media_type=top.descriptor.media_type or parsed.media_type,
        content=top.data,
        annotations=parsed.annotations,
        records=tuple(found),
    )


class _Buffer:
    """A sink in memory; the repository has bounded what comes by the descriptor's size."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        self.data += data
        return len(data)


class _Collector:
    def __init__(self, repository: Repository, limits: Limits) -> None:
        self._repository = repository
        self._limits = limits
        self._read: dict[Digest, bytes] = {}  # all signatures by different keys are often over one payload

    def records(self, digest: Digest, kinds: frozenset[SignatureKind]) -> Iterator[SignatureRecord]:
        """Those below cosign's tag, then the referrers."""
        if SignatureKind.COSIGN in kinds:
            yield from self._tagged(digest)
        if not kinds:
            return
        looked_at = 0
        for referrer in self._repository.referrers(digest):
            if referrer.artifact_type not in _SAYS_NOTHING and _TYPES.get(referrer.artifact_type) not in kinds:
                continue
            looked_at += 1
            self._limits.check("max_signatures", looked_at, what=f"{self._repository.name}: the referrers of {digest}")
            yield from self._referrer(referrer, digest, kinds)

    def _tagged(self, digest: Digest) -> Iterator[SignatureRecord]:
        tag = f"{digest.algorithm}-{digest.hex}.sig"
        if not is_tag(tag):
            return  # of a sha512, which no tag has room for: cosign cannot have put it there
        try:
            document = self._repository.document(tag)
        except RevisionNotFoundError:
            return
        yield from self._layers(document, SignatureKind.COSIGN)

    def _referrer(
        self, referrer: Descriptor, digest: Digest, kinds: frozenset[SignatureKind]
    ) -> Iterator[SignatureRecord]:
        self._limits.check(
            "max_manifest_bytes", referrer.size, what=f"{self._repository.name}: the manifest {referrer.digest}"
        )
        try:
            document = self._repository.document(str(referrer.digest))
        except RevisionNotFoundError:
            return  # listed by hand under a tag, and deleted since: there is no such signature
        parsed = parse_document(document.data, where=self._repository.name)
        if not isinstance(parsed, Manifest) or parsed.subject is None or parsed.subject.digest != digest:
            return  # about something else, whatever the list says
        kind = _TYPES.get(parsed.artifact_type or parsed.config.media_type)
        if kind in kinds:
            assert kind is not None
            yield from self._layers(document, kind)

    def _layers(self, document: Document, kind: SignatureKind) -> Iterator[SignatureRecord]:
        """A record for each layer that can be a signature of this kind."""
        where = f"{self._repository.name}: the signature manifest {document.descriptor.digest}"
        parsed = parse_document(document.data, where=where, media_type=document.descriptor.media_type or None)
        if not isinstance(parsed, Manifest):
            return
        self._limits.check("max_layers", len(parsed.layers), what=where)
        for layer in parsed.layers:
            if kind is SignatureKind.COSIGN and layer.media_type != SIMPLE_SIGNING_MEDIA_TYPE:
                continue
            if kind is SignatureKind.BUNDLE and layer.media_type != BUNDLE_MEDIA_TYPE:
                continue
            yield SignatureRecord(
                kind=kind,
                manifest=document.descriptor.digest,
                media_type=layer.media_type,
                payload=self._blob(layer, where),
                annotations=layer.annotations,
                manifest_annotations=parsed.annotations,
            )

    def _blob(self, layer: Descriptor, where: str) -> bytes:
        self._limits.check("max_signature_bytes", layer.size, what=where)
        if layer.digest not in self._read:
            buffer = _Buffer()
            self._repository.fetch(layer, buffer)
            self._read[layer.digest] = bytes(buffer.data)
        return self._read[layer.digest]

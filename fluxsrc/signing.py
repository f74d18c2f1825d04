"""Signing what is in a registry, as cosign does and for cosign to verify: by digest, with a key or with a name.

The same manifest, key and annotations give the same signature and the same signature manifest: signing twice changes nothing. Who
signs with a name gets another certificate and another log entry each time.
"""

import base64
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO, Final, Protocol

import attrs

from fluxsrc.auth import Secret
from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, RemoteProtocolError, RevisionNotFoundError
from fluxsrc.oci import Access, LayoutReference, Reference, parse_reference
from fluxsrc.oci.access import open_repository
from fluxsrc.oci.manifest import (
    EMPTY_CONFIG,
    MANIFEST_MEDIA_TYPE,
    Descriptor,
    Manifest,
    canonical_json,
    parse_document,
)
from fluxsrc.oci.repository import Document, Repository
from fluxsrc.operation import Operation
from fluxsrc.signatures.certify import SigningConfig, ambient_token, certified_bundle
from fluxsrc.signatures.cosign import SIGNATURE_ANNOTATION, cosign_layouts, sorted_pairs
from fluxsrc.signatures.oci import BUNDLE_MEDIA_TYPE, SIMPLE_SIGNING_MEDIA_TYPE, SignatureKind
from fluxsrc.signatures.privatekeys import SigningKey
from fluxsrc.signatures.statements import COSIGN_PREDICATE_TYPE, key_bundle, simple_signing, statement
from fluxsrc.signatures.trustedroot import TrustedRoot

__all__ = [
    "CosignKeylessSigner",
    "CosignSigner",
    "Signed",
    "Signer",
    "SigningConfig",
    "SigningKey",
    "ambient_token",
    "push_bundle",
    "sign",
]

_EMPTY: Final = "application/vnd.oci.empty.v1+json"
_IMAGE_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_NEVER: Final = "0001-01-01T00:00:00Z"
_BUNDLE_ANNOTATIONS: Final = {
    "dev.sigstore.bundle.content": "dsse-envelope",
    "dev.sigstore.bundle.predicateType": COSIGN_PREDICATE_TYPE,
}


@attrs.frozen
class Signed:
    """A signature that was made.

    Attributes:
        subject: The digest that is signed.
        layout: Where the signature lies.
        manifest: The digest of the manifest that holds it.
        by: The key's fingerprint, or the identity that signed: `ada@example.com (https://accounts.example.com)`.
        annotations: What is signed besides.
        log_index: The number of the entry in the transparency log; None where there is no log.
    """

    subject: Digest
    layout: SignatureKind
    manifest: Digest
    by: str
    annotations: tuple[tuple[str, str], ...] = ()
    log_index: int | None = None


class Signer(Protocol):
    """What signs a manifest that is in a repository."""

    def __call__(self, repository: Repository, document: Document, /) -> tuple[Signed, ...]:
        """Sign it, and put the signatures beside it."""
        ...


@attrs.frozen
class CosignSigner:
    """Signs with a key, in cosign's layouts.

    Attributes:
        key: The key.
        layouts: "bundle" for cosign 3 and current versions of Flux, "cosign" for cosign 1 and 2 and older ones, or both.
        annotations: What is to be signed besides.
        identity: What the image is called in the signature; `HOST/REPOSITORY` if nothing else is said.
    """

    key: SigningKey
    layouts: tuple[SignatureKind, ...] = attrs.field(
        default=(SignatureKind.BUNDLE,), converter=cosign_layouts, kw_only=True
    )
    annotations: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=sorted_pairs, kw_only=True)
    identity: str | None = attrs.field(default=None, kw_only=True)

    def __call__(self, repository: Repository, document: Document, /) -> tuple[Signed, ...]:
        """One signature for each layout; one that is there already stays as it is."""
        return tuple(self._sign(layout, repository, document) for layout in self.layouts)

    def _sign(self, layout: SignatureKind, repository: Repository, document: Document) -> Signed:
        digest = document.descriptor.digest
        name, annotations = self.identity or signed_name(repository), dict(self.annotations)
        if layout is SignatureKind.BUNDLE:
            payload = statement(digest, name, annotations)
            manifest = push_bundle(repository, document, key_bundle(self.key, payload))
        else:
            if not name:
                raise ConfigurationError(
                    f"{repository.name} has no name that a signature in cosign's first layout could carry",
                    hint="give identity='HOST/REPOSITORY', or sign with the layout 'bundle'",
                )
            payload = simple_signing(digest, name, annotations)
            manifest = _push_tagged(repository, digest, payload, self.key)
        return Signed(digest, layout, manifest, self.key.public.fingerprint, self.annotations)


@attrs.frozen
class CosignKeylessSigner:
    """Signs with a certificate for whoever an identity token names, and has that written to a transparency log. A bundle comes of it.

    What the services answer is verified as if somebody else had signed, before anything is put into the registry.

    Attributes:
        token: An OpenID Connect token for the audience `sigstore`, as `ambient_token` finds it. It is good for some minutes.
        config: Which certificate authority and log are asked.
        trusted_root: Those whose word counts for that, and for whoever verifies.
        annotations: What is to be signed besides.
        identity: What the image is called in the signature; `HOST/REPOSITORY` if nothing else is said.
    """

    token: Secret
    config: SigningConfig = attrs.field(kw_only=True)
    trusted_root: TrustedRoot = attrs.field(kw_only=True)
    annotations: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=sorted_pairs, kw_only=True)
    identity: str | None = attrs.field(default=None, kw_only=True)

    def __call__(self, repository: Repository, document: Document, /) -> tuple[Signed, ...]:
        """One signature, and one more each time."""
        digest = document.descriptor.digest
        payload = statement(digest, self.identity or signed_name(repository), dict(self.annotations))
        bundle, certified = certified_bundle(self.token, payload, self.config, self.trusted_root, repository.operation)
        facts = certified.facts
        return (
            Signed(
                digest,
                SignatureKind.BUNDLE,
                push_bundle(repository, document, bundle),
                f"{facts['signer']} ({facts['issuer']})",
                self.annotations,
                int(facts["log_index"]),
            ),
        )


def sign(
    reference: str | Reference | LayoutReference,
    signer: Signer,
    /,
    *,
    access: Access | None = None,
    operation: Operation | None = None,
) -> tuple[Signed, ...]:
    """Sign a manifest or an index that is in a registry or an image layout.

    1. Read it by its digest.
    2. Sign that digest.
    3. Upload the signature, then the manifest that holds it.

    Args:
        reference: With a digest. A tag could point elsewhere by the time it is signed, and whoever moves it would have the
            signature.
        signer: What signs, such as `CosignSigner`.
        access: How the registry is reached.
        operation: The deadline, cancel switch and progress callback.

    Raises:
        ConfigurationError: The reference has no digest.
        RevisionNotFoundError: It names nothing.
    """
    target = parse_reference(reference) if isinstance(reference, str) else reference
    if target.digest is None:
        raise ConfigurationError(
            f"{target}: what is signed is a digest, not whatever a tag points at by then",
            hint="`fluxsrc resolve` shows it, and `push` returns it",
        )
    with open_repository(target, access or Access(), operation or Operation()) as repository:
        return signer(repository, repository.document(str(target.digest)))


def signed_name(repository: Repository) -> str:
    """What cosign calls a repository in a signature; "" for a directory."""
    reference = parse_reference(repository.name)
    if isinstance(reference, LayoutReference):
        return ""
    host = "index.docker.io" if reference.api_host == "registry-1.docker.io" else reference.host
    return f"{host}/{reference.api_repository}"


def push_bundle(repository: Repository, document: Document, bundle: bytes) -> Digest:
    """Put a Sigstore bundle beside what it is about, as a referrer; the digest of the manifest that holds it."""
    subject = document.descriptor
    parsed = parse_document(document.data, where=repository.name, media_type=subject.media_type or None)
    layer = Descriptor.of(bundle, BUNDLE_MEDIA_TYPE)
    manifest = Manifest(
        config=Descriptor.of(EMPTY_CONFIG, _EMPTY),
        layers=(layer,),
        annotations=_BUNDLE_ANNOTATIONS,
        subject=Descriptor(media_type=parsed.media_type, digest=subject.digest, size=len(document.data)),
        artifact_type=BUNDLE_MEDIA_TYPE,
    )
    return _push(repository, manifest, {layer: bundle, manifest.config: EMPTY_CONFIG})


def _push_tagged(repository: Repository, digest: Digest, payload: bytes, key: SigningKey) -> Digest:
    """Add a layer to the manifest below cosign's tag. Whoever does the same at the same moment may win: a tag has no lock."""
    tag = f"{digest.algorithm}-{digest.hex}.sig"
    note = {SIGNATURE_ANNOTATION: base64.b64encode(key.sign(payload)).decode()}
    layer = Descriptor.of(payload, SIMPLE_SIGNING_MEDIA_TYPE, note)
    layers: tuple[Descriptor, ...] = ()
    annotations: Mapping[str, str] = {}
    try:
        found = repository.document(tag)
    except RevisionNotFoundError:
        pass
    else:
        before = parse_document(found.data, where=repository.name, media_type=found.descriptor.media_type or None)
        if not isinstance(before, Manifest):
            raise RemoteProtocolError(f"{repository.name}:{tag} is an index, and no list of signatures")
        if any(
            (each.digest, each.annotations.get(SIGNATURE_ANNOTATION)) == (layer.digest, *note.values())
            for each in before.layers
        ):
            return found.descriptor.digest
        layers, annotations = before.layers, before.annotations
    layers = (*layers, layer)
    config = _config(layers)
    manifest = Manifest(config=Descriptor.of(config, _IMAGE_CONFIG), layers=layers, annotations=annotations)
    return _push(repository, manifest, {layer: payload, manifest.config: config}, tag=tag)


def _config(layers: tuple[Descriptor, ...]) -> bytes:
    """An image's config, as cosign writes it: the payloads are layers that nobody compressed."""
    value: dict[str, Any] = {
        "architecture": "",
        "config": {},
        "created": _NEVER,
        "history": [{"created": _NEVER}] * len(layers),
        "os": "",
        "rootfs": {"diff_ids": [str(layer.digest) for layer in layers], "type": "layers"},
    }
    return canonical_json(value)


def _opened(data: bytes) -> AbstractContextManager[BinaryIO]:
    return closing(BytesIO(data))


def _push(
    repository: Repository, manifest: Manifest, blobs: Mapping[Descriptor, bytes], *, tag: str | None = None
) -> Digest:
    for descriptor, data in blobs.items():
        repository.push(descriptor, partial(_opened, data))
    encoded = manifest.encode()
    described = Descriptor.of(encoded, MANIFEST_MEDIA_TYPE)
    repository.push_document(Document(described, encoded), tag=tag)
    return described.digest

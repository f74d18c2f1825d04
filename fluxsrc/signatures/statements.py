"""What is signed about a manifest: the simple-signing payload, the in-toto statement, and the bundles around them.

These readers say what the bytes mean, not whose they are: check the signature over exactly these bytes first.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final, Self

import attrs

from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError
from fluxsrc.signatures.oci import BUNDLE_MEDIA_TYPE, OCIEvidence, strict_json
from fluxsrc.signatures.privatekeys import SigningKey
from fluxsrc.signatures.verdict import OCICheck, failed

__all__ = [
    "COSIGN_PREDICATE_TYPE",
    "INTOTO_PAYLOAD_TYPE",
    "SIMPLE_SIGNING_TYPE",
    "Bundle",
    "Claim",
    "decode_base64",
    "key_bundle",
    "pre_authentication",
    "simple_signing",
    "statement",
]

COSIGN_PREDICATE_TYPE: Final = "https://sigstore.dev/cosign/sign/v1"
INTOTO_PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
SIMPLE_SIGNING_TYPE: Final = "cosign container image signature"
# Tuples: what is looked up in them comes from JSON, and may not be hashable.
_STATEMENT_TYPES: Final = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
_BUNDLE_TYPES: Final = (
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    *(f"application/vnd.dev.sigstore.bundle+json;version=0.{minor}" for minor in (1, 2, 3)),
)


@attrs.frozen
class Claim:
    """What a signer says: this digest, under this name, with these annotations.

    Attributes:
        digests: The digests that it is about, by algorithm.
        reference: The repository, with a tag or a digest perhaps; "" where it is not said.
        annotations: The signed annotations.
    """

    digests: Mapping[str, str]
    reference: str
    annotations: Mapping[str, Any] = attrs.field(factory=dict)

    @classmethod
    def from_simple_signing(cls, payload: bytes) -> Self:
        """Read the payload of cosign's first layout.

        Raises:
            VerificationError: 3: it is none. 9: it is one, but of something else than an image.
        """
        value = strict_json(payload, what="the signed payload")
        critical = value.get("critical")
        # Whatever else is critical would change the meaning, as containers-signature(5) has it.
        if not isinstance(critical, dict) or set(critical) != {"identity", "image", "type"}:
            raise failed(OCICheck.FORM, "the signed payload does not have identity, image and type, and no more")
        if critical["type"] != SIMPLE_SIGNING_TYPE:
            raise failed(OCICheck.SUBJECT, f"the payload is of the type {critical['type']!a:.60}")
        digest = _digest(_text(critical["image"], "docker-manifest-digest"))
        optional = value.get("optional")
        if optional is not None and not isinstance(optional, dict):
            raise failed(OCICheck.FORM, "the optional part of the signed payload is no object")
        reference = _text(critical["identity"], "docker-reference")
        return cls({digest.algorithm: digest.hex}, reference, optional or {})

    @classmethod
    def from_statement(cls, payload: bytes, digest: Digest) -> Self:
        """Read an in-toto statement; of its subjects, the one with this digest, or else the first.

        Raises:
            VerificationError: 3: it is none. 9: it says something else than that an image is signed, an attestation perhaps.
        """
        value = strict_json(payload, what="the statement")
        subjects = value.get("subject")
        if value.get("_type") not in _STATEMENT_TYPES or not isinstance(subjects, list) or not subjects:
            raise failed(OCICheck.FORM, "not an in-toto statement with a subject")
        kind = value.get("predicateType")
        if kind != COSIGN_PREDICATE_TYPE:
            raise failed(OCICheck.SUBJECT, f"a statement of the type {kind!a:.100} is not a signature of an image")
        claims = [cls._subject(subject) for subject in subjects]
        return next((claim for claim in claims if claim.digests.get(digest.algorithm) == digest.hex), claims[0])

    @classmethod
    def _subject(cls, value: Any) -> Self:
        digests = value.get("digest") if isinstance(value, dict) else None
        if not isinstance(digests, dict) or not digests or not all(isinstance(item, str) for item in digests.values()):
            raise failed(OCICheck.FORM, "a subject of the statement has no digest")
        name, annotations = value.get("name", ""), value.get("annotations") or {}
        if not isinstance(name, str) or not isinstance(annotations, dict):
            raise failed(OCICheck.FORM, "a subject of the statement is malformed")
        return cls(digests, name, annotations)

    def check(self, evidence: OCIEvidence, *, repository: str | None, annotations: Mapping[str, str]) -> None:
        """Checks 9 and 10.

        Args:
            evidence: What it has to be about.
            repository: What its reference has to name, tag and digest aside; None for any.
            annotations: What it has to say.

        Raises:
            VerificationError: 9: it is about something else. 10: an annotation is missing, or other.
        """
        if self.digests.get(evidence.digest.algorithm) != evidence.digest.hex:
            shown = ", ".join(f"{name}:{value}"[:90] for name, value in self.digests.items()) or "nothing"
            raise failed(OCICheck.SUBJECT, f"what is signed is {shown!a}, not {evidence.digest}")
        if repository is not None and _repository(self.reference) != repository:
            said = f"{self.reference[:200]!a}" if self.reference else "no repository"
            raise failed(OCICheck.SUBJECT, f"it is signed as {said}, not as {repository!a}")
        for name, wanted in annotations.items():
            actual = self.annotations.get(name)
            if actual != wanted:
                said = "not signed" if actual is None else f"signed as {actual!a:.100}"
                raise failed(OCICheck.ANNOTATIONS, f"the annotation {name!a} is {said}, not {wanted!a}")


@attrs.frozen(kw_only=True)
class Bundle:
    """A Sigstore bundle, taken apart but not verified.

    Attributes:
        material: What it brings to verify it with: a hint at a key, or a certificate; log entries, timestamps.
        signature: The signature.
        payload: The DSSE payload; None where the signature is over the manifest itself.
        payload_type: The DSSE payload's type.
        message_digest: Where there is no payload: what the bundle says the sha256 of the manifest is, None if it does not.
    """

    material: Mapping[str, Any] = attrs.field(repr=False)
    signature: bytes = attrs.field(repr=False)
    payload: bytes | None = attrs.field(default=None, repr=False)
    payload_type: str = ""
    message_digest: bytes | None = attrs.field(default=None, repr=False)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a bundle.

        Raises:
            VerificationError: 3: it is none, or has not exactly one signature. 4: its digest is not SHA-256.
        """
        value = strict_json(data, what="the bundle")
        if value.get("mediaType") not in _BUNDLE_TYPES:
            raise failed(OCICheck.FORM, f"a bundle of the type {value.get('mediaType')!a:.100} is not known")
        material = _object(value, "verificationMaterial")
        if ("dsseEnvelope" in value) == ("messageSignature" in value):
            raise failed(OCICheck.FORM, "a bundle has either an envelope or a message's signature")
        if "dsseEnvelope" in value:
            envelope = _object(value, "dsseEnvelope")
            signatures = envelope.get("signatures")
            if not isinstance(signatures, list) or len(signatures) != 1:
                raise failed(OCICheck.FORM, "the envelope does not have exactly one signature")
            return cls(
                material=material,
                signature=decode_base64(_text(signatures[0], "sig"), what="the signature"),
                payload=decode_base64(_text(envelope, "payload"), what="the payload"),
                payload_type=_text(envelope, "payloadType"),
            )
        message = _object(value, "messageSignature")
        stated: bytes | None = None
        if message.get("messageDigest") is not None:
            digest = _object(message, "messageDigest")
            if digest.get("algorithm") != "SHA2_256":
                raise failed(OCICheck.ALGORITHM, f"a digest by {digest.get('algorithm')!a:.40}, not by SHA2_256")
            stated = decode_base64(_text(digest, "digest"), what="the digest")
        signature = decode_base64(_text(message, "signature"), what="the signature")
        return cls(material=material, signature=signature, message_digest=stated)


def simple_signing(digest: Digest, reference: str, annotations: Mapping[str, str]) -> bytes:
    """The payload that is signed in cosign's first layout."""
    critical = {
        "identity": {"docker-reference": reference},
        "image": {"docker-manifest-digest": str(digest)},
        "type": SIMPLE_SIGNING_TYPE,
    }
    return _canonical({"critical": critical, "optional": dict(annotations) or None})


def statement(digest: Digest, name: str, annotations: Mapping[str, str]) -> bytes:
    """The in-toto statement that is signed in bundles; cosign's own has no name."""
    subject: dict[str, Any] = {"digest": {digest.algorithm: digest.hex}}
    if name:
        subject["name"] = name
    if annotations:
        subject["annotations"] = dict(annotations)
    return _canonical(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "predicate": {},
            "predicateType": COSIGN_PREDICATE_TYPE,
            "subject": [subject],
        }
    )


def key_bundle(key: SigningKey, payload: bytes) -> bytes:
    """A Sigstore bundle around a statement that a key signs."""
    signature = key.sign(pre_authentication(INTOTO_PAYLOAD_TYPE, payload))
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": INTOTO_PAYLOAD_TYPE,
        "signatures": [{"sig": base64.b64encode(signature).decode()}],
    }
    return _canonical(
        {
            "dsseEnvelope": envelope,
            "mediaType": BUNDLE_MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": key.public.hint}},
        }
    )


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """The bytes that a DSSE signature is over.

    >>> pre_authentication("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def decode_base64(text: str, *, what: str) -> bytes:
    """Bytes from base64 with its padding, and nothing else in it.

    Raises:
        VerificationError: 3: it is none, or empty.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise failed(OCICheck.FORM, f"{what} is not base64") from None
    if not data or base64.b64encode(data).decode() != text:
        raise failed(OCICheck.FORM, f"{what} is empty, or not the base64 of anything")
    return data


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _object(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    if not isinstance(found, dict):
        raise failed(OCICheck.FORM, f"there is no object {name!a}")
    return found


def _text(value: Any, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, str):
        raise failed(OCICheck.FORM, f"there is no text {name!a}")
    return found


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except ConfigurationError:
        raise failed(OCICheck.FORM, f"the signed digest {text[:100]!a} is none") from None


def _repository(reference: str) -> str:
    """A reference without tag and digest."""
    name = reference.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    return head + slash + tail.partition(":")[0]

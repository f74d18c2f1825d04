"""Signatures by a certificate that was made for just one: verified by Sigstore's own library, and what it lacks.

What it lacks, and is here: cosign's first layout, in which a log's promise stands for its proof; the times in which a trusted root's
keys were in use; patterns for identities; and the numbers of the checks.
"""

import base64
import datetime as dt
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from fluxsrc.errors import MissingExtraError, VerificationError
from fluxsrc.signatures.identity import Identity, identity_of
from fluxsrc.signatures.oci import strict_json
from fluxsrc.signatures.statements import Bundle, decode_base64, pre_authentication
from fluxsrc.signatures.trustedroot import TrustedRoot
from fluxsrc.signatures.verdict import OCICheck, failed

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.models import Bundle as SigstoreBundle
    from sigstore.verify import Verifier

__all__ = ["Certified", "Trust", "verify_annotations", "verify_bundle"]

_SIGNATURE: Final = "dev.cosignproject.cosign/signature"
_CERTIFICATE: Final = "dev.sigstore.cosign/certificate"
_BUNDLE: Final = "dev.sigstore.cosign/bundle"
_BASE64: Final = frozenset(
    {"canonicalizedBody", "hashes", "keyId", "rawBytes", "rootHash", "signedEntryTimestamp", "signedTimestamp"}
)
_CURVES: Final = frozenset({"secp256r1", "secp384r1", "secp521r1"})
_SKEW: Final = dt.timedelta(minutes=5)
_MAX_TOLD: Final = 300
_MAX_PEM: Final = 64 * 1024


@attrs.frozen(kw_only=True)
class Trust:
    """What a certified signature is held against.

    Attributes:
        root: Whose certificates and logs count.
        identities: Who may have signed.
        now: The time of verification; what is signed after it is refused.
    """

    root: TrustedRoot
    identities: Sequence[Identity]
    now: dt.datetime


@attrs.frozen(kw_only=True)
class Certified:
    """A signature that holds, and whose it is.

    Attributes:
        payload_type: The DSSE payload's type; "" where there is none.
        payload: The DSSE payload, as it was verified; the message itself where there is none.
        facts: `issuer`, `signer`, `certificate` (the sha256 of its DER), `algorithm`, `log` (its id), `log_index`, `inclusion`
            ("proof", or "promise": the log signed that it would include it), `signed` (by the log's or a timestamp authority's
            clock).
    """

    payload_type: str
    payload: bytes
    facts: Mapping[str, str]


def verify_bundle(data: bytes, message: bytes, trust: Trust) -> Certified:
    """Verify a Sigstore bundle with a certificate: checks 3 to 8.

    Args:
        data: The bundle's JSON.
        message: What is signed if the bundle has no envelope of its own.
        trust: What it is held against.

    Raises:
        VerificationError: With the number of the check.
        MissingExtraError: There is nothing to verify with.
    """
    parsed = Bundle.parse(data)
    if "publicKey" in parsed.material:
        raise failed(OCICheck.SIGNER, "it was made with a key, not with a certificate")
    entries = parsed.material.get("tlogEntries")
    if not isinstance(entries, list) or len(entries) != 1 or not isinstance(entries[0], dict):
        raise failed(OCICheck.LOG, "it does not have exactly one entry of a transparency log")
    if not isinstance(entries[0].get("inclusionProof"), dict):
        raise failed(OCICheck.LOG, "its log entry has no proof of inclusion")
    _check_writing(parsed.material)
    bundle_class = _bundle_class()
    bundle = _parsed(lambda: bundle_class.from_json(data), "the bundle")
    if parsed.payload is None:
        return _verify(bundle, message, None, parsed.signature, trust)
    return _verify(bundle, parsed.payload, parsed.payload_type, parsed.signature, trust)


def verify_annotations(annotations: Mapping[str, str], payload: bytes, trust: Trust) -> Certified:
    """Verify a signature in cosign's first layout: checks 3 to 8.

    Args:
        annotations: Of the layer: signature, certificate, and the log's promise.
        payload: What is signed.
        trust: What it is held against.

    Raises:
        VerificationError: With the number of the check.
        MissingExtraError: There is nothing to verify with.
    """
    if _SIGNATURE not in annotations:
        raise failed(OCICheck.FORM, f"it has no annotation {_SIGNATURE}")
    signature = decode_base64(annotations[_SIGNATURE], what="the signature")
    if _CERTIFICATE not in annotations:
        raise failed(OCICheck.SIGNER, "it was made with a key, not with a certificate")
    if _BUNDLE not in annotations:
        raise failed(OCICheck.LOG, "it comes without a promise of the transparency log")
    promise = _Promise.parse(annotations[_BUNDLE])
    make = _promised_bundle()
    pem = annotations[_CERTIFICATE]
    bundle = _parsed(lambda: make(_one_certificate(pem), signature, promise), "the certificate")
    certified = _verify(bundle, payload, None, signature, trust)
    return attrs.evolve(certified, facts={**certified.facts, "inclusion": "promise"})


def _check_writing(value: object, name: str = "") -> None:
    """Check 3: names and base64 are written in one way. The library takes names in `snake_case` too, and characters between."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if "_" in key:
                raise failed(OCICheck.FORM, f"the field {key[:100]!a} is not one of a bundle")
            _check_writing(item, key)
    elif isinstance(value, list):
        for item in value:
            _check_writing(item, name)
    elif isinstance(value, str) and name in _BASE64:
        decode_base64(value, what=f"what is called {name}")


@attrs.frozen(kw_only=True)
class _Promise:
    """What cosign keeps of a log entry: Rekor's signed entry timestamp, and what it is over."""

    signature: bytes
    body: bytes
    kind: str
    version: str
    log: bytes
    index: int
    time: int

    @classmethod
    def parse(cls, text: str) -> "_Promise":
        value = strict_json(text.encode(), what="the log's promise")
        match value:
            case {
                "SignedEntryTimestamp": str(signature),
                "Payload": {"body": str(body), "integratedTime": int(time), "logIndex": int(index), "logID": str(log)},
            } if 0 < time < 1 << 40 and 0 <= index < 1 << 63:
                pass
            case _:
                raise failed(OCICheck.FORM, "the log's promise does not have its fields")
        content = decode_base64(body, what="the log entry")
        entry = strict_json(content, what="the log entry")
        try:
            log_id = bytes.fromhex(log)
        except ValueError:
            raise failed(OCICheck.FORM, "the log's id is not hexadecimal") from None
        return cls(
            signature=decode_base64(signature, what="the log's signature"),
            body=content,
            kind=str(entry.get("kind")),
            version=str(entry.get("apiVersion")),
            log=log_id,
            index=index,
            time=time,
        )


def _one_certificate(pem: str) -> "Certificate":
    from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415 - an extra

    if len(pem) > _MAX_PEM:
        raise failed(OCICheck.FORM, "the certificate is unreasonably large")
    certificates = load_pem_x509_certificates(pem.encode())
    if len(certificates) != 1:
        raise failed(OCICheck.FORM, f"there are {len(certificates)} certificates where one should be")
    return certificates[0]


class _Signer:
    """A policy of the library: asked after the certificate was found good, and before the log is looked at."""

    def __init__(self, identities: Sequence[Identity]) -> None:
        self._identities = identities
        self.asked = False
        self.found: tuple[str, str] | None = None

    def verify(self, cert: "Certificate") -> None:
        self.asked = True
        issuer, subject = identity_of(cert)
        if not any(identity.fits(issuer, subject) for identity in self._identities):
            wanted = " or ".join(str(identity) for identity in self._identities)[:_MAX_TOLD]
            raise failed(OCICheck.SIGNER, f"it is by {subject} ({issuer}), not by {wanted}")
        self.found = issuer, subject


def _verify(bundle: "SigstoreBundle", content: bytes, kind: str | None, signature: bytes, trust: Trust) -> Certified:
    """Checks 4 to 8. `kind` is the type of the envelope that has the content, None where there is no envelope."""
    certificate = bundle.signing_certificate
    algorithm = _algorithm(certificate)
    signer = _Signer(trust.identities)
    message = content if kind is None else pre_authentication(kind, content)
    try:
        verifier = _verifier_class()(trust)
        if kind is None:
            verifier.verify_artifact(content, bundle, signer)
        else:
            kind, content = verifier.verify_dsse(bundle, signer)
    except VerificationError:  # ours, from _Signer
        raise
    except Exception as exc:  # whatever a stranger's bytes do to the library, they are not verified
        if signer.found is None:
            check = OCICheck.SIGNER if signer.asked else OCICheck.CERTIFICATE
        else:
            check = OCICheck.LOG if _holds(certificate, signature, message) else OCICheck.CRYPTOGRAPHY
        raise failed(check, _told(exc)) from exc
    entry = bundle.log_entry._inner  # noqa: SLF001 - nothing public says which entry it was
    times: list[dt.datetime] = getattr(verifier, "times", [])
    if signer.found is None or not times:  # a library that works in some other way: trust nothing
        raise failed(OCICheck.CERTIFICATE, "the installed sigstore package does not ask what it should")
    issuer, subject = signer.found
    facts = {
        "issuer": issuer,
        "signer": subject,
        "certificate": "sha256:" + certificate.fingerprint(_sha256()).hex(),
        "algorithm": algorithm,
        "log": entry.log_id.key_id.hex(),
        "log_index": str(entry.log_index),
        "inclusion": "proof",
        "signed": min(times).astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return Certified(payload_type=kind or "", payload=content, facts=facts)


def _algorithm(certificate: "Certificate") -> str:
    """Check 4."""
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - an extra

    key = _parsed(certificate.public_key, "the certificate's key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise failed(OCICheck.ALGORITHM, "the certificate's key is not one for ECDSA over P-256, P-384 or P-521")
    return f"ecdsa-{key.curve.name}-sha256"


def _holds(certificate: "Certificate", signature: bytes, message: bytes) -> bool:
    """Whether the signature itself is good: which of two checks it was that failed."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _sha256() -> Any:
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - an extra

    return SHA256()


def _parsed(make: Callable[[], Any], what: str) -> Any:
    """Check 3, as far as the library's readers are concerned."""
    try:
        return make()
    except VerificationError:
        raise
    except Exception as exc:  # see _verify
        raise failed(OCICheck.FORM, f"{what} cannot be read: {_told(exc)}") from exc


def _told(exc: Exception) -> str:
    text = " ".join(f"{type(exc).__name__}: {exc}".split())
    return ascii(text[:_MAX_TOLD])[1:-1]


@functools.cache
def _bundle_class() -> "type[SigstoreBundle]":
    try:
        from sigstore.models import Bundle as SigstoreBundle  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise MissingExtraError("verifying keyless signatures", extra="verify") from exc
    return SigstoreBundle


# The two functions below override what is not public. A library that changes there leaves an entry without a proof, or a signature
# without a time: both fail closed, and the tests notice.


@functools.cache
def _promised_bundle() -> "Callable[[Certificate, bytes, _Promise], SigstoreBundle]":
    """What makes bundles of what cosign's first layout has."""
    base = _bundle_class()
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - an extra
    from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415
    from sigstore._internal.trust import RekorKeyring  # noqa: PLC0415
    from sigstore.models import TransparencyLogEntry  # noqa: PLC0415
    from sigstore_models.bundle import v1 as bundles  # noqa: PLC0415
    from sigstore_models.common import v1 as common  # noqa: PLC0415
    from sigstore_models.rekor import v1 as rekor  # noqa: PLC0415

    class PromisedEntry(TransparencyLogEntry):
        """An entry that the log promised to include, signed together with the time at which it did."""

        def _validate(self) -> None:
            """There is no proof to look for; a promise is there by construction."""

        def _verify(self, keyring: RekorKeyring) -> None:
            self._verify_set(keyring)

    class PromisedBundle(base):  # type: ignore[valid-type, misc]  # imported late
        """A bundle around such an entry, which no bundle's JSON may have."""

        def _verify(self) -> None:
            material = self._inner.verification_material
            self._signing_certificate = load_der_x509_certificate(material.certificate.raw_bytes)
            self._log_entry = PromisedEntry(material.tlog_entries[0])

    def encoded(data: bytes) -> Any:
        return base64.b64encode(data)  # the models decode it when they are made

    def make(certificate: "Certificate", signature: bytes, promise: _Promise) -> "SigstoreBundle":
        entry = rekor.TransparencyLogEntry.model_construct(
            log_index=promise.index,
            log_id=common.LogId(key_id=encoded(promise.log)),
            kind_version=rekor.KindVersion(kind=promise.kind, version=promise.version),
            integrated_time=promise.time,
            inclusion_promise=rekor.InclusionPromise(signed_entry_timestamp=encoded(promise.signature)),
            inclusion_proof=None,
            canonicalized_body=promise.body,
        )
        material = bundles.VerificationMaterial.model_construct(
            certificate=common.X509Certificate(raw_bytes=encoded(certificate.public_bytes(Encoding.DER))),
            tlog_entries=[entry],
            timestamp_verification_data=None,
        )
        return PromisedBundle(
            bundles.Bundle.model_construct(
                media_type=base.BundleType.BUNDLE_0_3.value,
                verification_material=material,
                message_signature=common.MessageSignature(signature=encoded(signature)),
                dsse_envelope=None,
            )
        )

    return make


@functools.cache
def _verifier_class() -> "Callable[[Trust], Verifier]":
    """The library's verifier, which asks in addition what was in use when."""
    from cryptography.x509 import PrecertificateSignedCertificateTimestamps as Timestamps  # noqa: PLC0415 - an extra
    from sigstore._internal.timestamp import TimestampVerificationResult  # noqa: PLC0415
    from sigstore.errors import VerificationError as NotVerified  # noqa: PLC0415
    from sigstore.verify import Verifier  # noqa: PLC0415

    class TimedVerifier(Verifier):
        """Once it is known when the signature was made, only what was in use then is trusted."""

        def __init__(self, trust: Trust) -> None:
            super().__init__(trusted_root=trust.root.narrowed((), ()))
            self._trust = trust
            self.times: list[dt.datetime] = []

        def _establish_time(self, bundle: "SigstoreBundle") -> list[TimestampVerificationResult]:
            results = super()._establish_time(bundle)
            self.times = [result.time for result in results]
            if any(time > self._trust.now + _SKEW for time in self.times):
                raise NotVerified("it was signed in the future")
            logged = bundle.signing_certificate.extensions.get_extension_for_class(Timestamps).value
            issued = [timestamp.timestamp.replace(tzinfo=dt.UTC) for timestamp in logged]
            self._trusted_root = self._trust.root.narrowed(self.times, issued)
            self._fulcio_certificate_chain = self._trusted_root.get_fulcio_certs()
            return results

    return TimedVerifier

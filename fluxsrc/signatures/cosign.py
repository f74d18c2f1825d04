"""`CosignKeySignature`: what is in a registry must be signed with cosign, by a key that the caller names."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, Self

import attrs

from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError
from fluxsrc.signatures.oci import OCIEvidence, SignatureKind, SignatureRecord, first_that_holds, signature_facts
from fluxsrc.signatures.publickeys import PublicKey, parse_public_keys, read_public_keys
from fluxsrc.signatures.statements import INTOTO_PAYLOAD_TYPE, Bundle, Claim, decode_base64, pre_authentication
from fluxsrc.signatures.verdict import OCICheck, failed
from fluxsrc.verify import Evidence, Facts, Policy, policy_digest

__all__ = ["SIGNATURE_ANNOTATION", "CosignKeySignature", "cosign_layouts", "sorted_pairs"]

SIGNATURE_ANNOTATION: Final = "dev.cosignproject.cosign/signature"
_LAYOUTS: Final = (SignatureKind.BUNDLE, SignatureKind.COSIGN)


def _keys(value: PublicKey | Iterable[PublicKey]) -> tuple[PublicKey, ...]:
    keys = (value,) if isinstance(value, PublicKey) else tuple(dict.fromkeys(value))
    if not keys:
        raise ConfigurationError(
            "a signature policy without keys accepts nobody", hint="CosignKeySignature.from_files('cosign.pub')"
        )
    return keys


def cosign_layouts(value: str | SignatureKind | Iterable[str | SignatureKind]) -> tuple[SignatureKind, ...]:
    """Layouts from their names, for cosign's policies.

    Raises:
        ConfigurationError: There are none, or other ones.
    """
    names = (value,) if isinstance(value, str) else tuple(value)
    known = {kind.value: kind for kind in _LAYOUTS}
    if not names or not set(names) <= set(known):
        raise ConfigurationError(f"not layouts of cosign: {', '.join(names) or 'none'}", hint="bundle, cosign or both")
    return tuple(kind for kind in _LAYOUTS if kind.value in names)


def sorted_pairs(value: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """A mapping as a value that hashes: for cosign's policies, the annotations that are asked for."""
    return tuple(sorted(dict(value).items()))


@attrs.frozen
class CosignKeySignature:
    """A policy: the manifest that was resolved has to be signed by one of these keys.

    What is checked; a `VerificationError` gives the number of what failed:

    1. The manifest is the one whose digest was resolved.
    2. There is a signature, in a layout that is accepted.
    3. Bundle and payload are strict JSON of limited size, with exactly one signature in base64.
    4. Its algorithm is the key's: ECDSA with the curve's hash or SHA-256, RSA PKCS #1 v1.5 with SHA-256, pure Ed25519.
       A signature has no say in that.
    5. Nothing about certificates: the key alone decides.
    6. Nor about log entries and timestamps, which may lie beside such a signature.
    7. It was made with a key, not with a certificate.
    8. It holds over exactly the signed bytes, by one of the keys.
    9. The signed bytes say that they are a signature of an image, and name the very digest that was resolved; and the
       repository, where one is asked for.
    10. The signed annotations are those that are asked for.

    One good signature in an accepted layout is enough. Both layouts say the same about the same digest, so a missing or damaged
    one in the one layout takes nothing from a good one in the other: whoever can push could have taken it away. Where only
    bundles are to count, `layouts="bundle"` says so, and nothing in the first layout is even read.

    Attributes:
        keys: One of them has to have signed.
        layouts: Where signatures may lie: "bundle" (referrers, cosign 3), "cosign" (the `.sig` tag of cosign 1 and 2), or both.
        annotations: What has to be signed besides, as `cosign sign -a env=prod` does.
        repository: What has to be signed as the image's name, `HOST/REPOSITORY`; None for any. cosign's bundles do not say
            one, so with them this asks for signatures of `fluxsrc sign`.
    """

    keys: tuple[PublicKey, ...] = attrs.field(converter=_keys)
    layouts: tuple[SignatureKind, ...] = attrs.field(default=_LAYOUTS, converter=cosign_layouts, kw_only=True)
    annotations: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=sorted_pairs, kw_only=True)
    repository: str | None = attrs.field(default=None, kw_only=True)

    @classmethod
    def from_files(
        cls,
        *paths: str | os.PathLike[str],
        layouts: str | Iterable[str] = ("bundle", "cosign"),
        annotations: Mapping[str, str] | None = None,
        repository: str | None = None,
    ) -> Self:
        """A policy with the keys in some PEM files.

        Raises:
            ConfigurationError: A file cannot be read, or is none of public keys.
            MissingExtraError: There is nothing to read them with.
        """
        keys = [key for path in paths for key in read_public_keys(path)]
        return cls(keys, layouts=layouts, annotations=annotations or {}, repository=repository)

    @classmethod
    def from_pem(cls, *texts: str, annotations: Mapping[str, str] | None = None) -> Self:
        """A policy with the keys in some PEM texts.

        Raises:
            ConfigurationError: A text is none of public keys.
            MissingExtraError: There is nothing to read them with.
        """
        return cls([key for text in texts for key in parse_public_keys(text)], annotations=annotations or {})

    @property
    def digest(self) -> Digest:
        """Of the keys in any order, and of all that is asked for."""
        return policy_digest(
            "cosign-key",
            keys=sorted(key.fingerprint for key in self.keys),
            layouts=[layout.value for layout in self.layouts],
            annotations=self.annotations,
            repository=self.repository,
        )

    @property
    def needs(self) -> frozenset[str]:
        """The layouts."""
        return frozenset(layout.value for layout in self.layouts)

    def check(self, evidence: OCIEvidence, /) -> Facts:
        """Check the signatures, one after the other, until one holds; see `Policy`."""
        return first_that_holds(evidence, self.layouts, lambda record: self._check(record, evidence))

    def _check(self, record: SignatureRecord, evidence: OCIEvidence) -> Facts:
        """Checks 3 to 10 of one signature."""
        judge = self._bundle if record.kind is SignatureKind.BUNDLE else self._tagged
        key, algorithm = judge(record, evidence)
        return signature_facts(self.digest, record, key=key.fingerprint, algorithm=algorithm)

    def _tagged(self, record: SignatureRecord, evidence: OCIEvidence) -> tuple[PublicKey, str]:
        encoded = record.annotations.get(SIGNATURE_ANNOTATION)
        if encoded is None:
            raise failed(OCICheck.FORM, f"it has no annotation {SIGNATURE_ANNOTATION}")
        signer = self._signer(decode_base64(encoded, what="the signature"), record.payload)
        self._claim(Claim.from_simple_signing(record.payload), evidence)
        return signer

    def _bundle(self, record: SignatureRecord, evidence: OCIEvidence) -> tuple[PublicKey, str]:
        bundle = Bundle.parse(record.payload)
        if "publicKey" not in bundle.material:
            raise failed(OCICheck.SIGNER, "it was made with a certificate, not with a key")
        if bundle.payload is None:
            # Over the manifest's own bytes: what is signed is the manifest, and nothing is said about it.
            if bundle.message_digest not in (None, hashlib.sha256(evidence.content).digest()):
                raise failed(OCICheck.SUBJECT, "the message that is signed is not this manifest")
            signer = self._signer(bundle.signature, evidence.content)
            self._claim(Claim({evidence.digest.algorithm: evidence.digest.hex}, ""), evidence)
            return signer
        if bundle.payload_type != INTOTO_PAYLOAD_TYPE:
            raise failed(OCICheck.ALGORITHM, f"a payload of the type {bundle.payload_type[:100]!a} is no statement")
        signer = self._signer(bundle.signature, pre_authentication(bundle.payload_type, bundle.payload))
        self._claim(Claim.from_statement(bundle.payload, evidence.digest), evidence)
        return signer

    def _claim(self, claim: Claim, evidence: OCIEvidence) -> None:
        claim.check(evidence, repository=self.repository, annotations=dict(self.annotations))

    def _signer(self, signature: bytes, message: bytes) -> tuple[PublicKey, str]:
        """Check 8; the key, and the algorithm."""
        for key in self.keys:
            algorithm = key.verify(signature, message)
            if algorithm is not None:
                return key, algorithm
        shown = ", ".join(key.fingerprint for key in self.keys)
        raise failed(OCICheck.CRYPTOGRAPHY, f"it is not a signature over this content by {shown}")


if TYPE_CHECKING:

    def _(policy: CosignKeySignature, evidence: OCIEvidence) -> tuple[Policy[OCIEvidence], Evidence]:
        return policy, evidence

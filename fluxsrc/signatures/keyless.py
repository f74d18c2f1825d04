"""`CosignKeylessSignature`: what is in a registry must be signed with cosign, by somebody whom the caller names."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

import attrs

from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError
from fluxsrc.signatures.certified import Trust, verify_annotations, verify_bundle
from fluxsrc.signatures.cosign import cosign_layouts, sorted_pairs
from fluxsrc.signatures.identity import Identity, identities_from_flux
from fluxsrc.signatures.oci import OCIEvidence, SignatureKind, SignatureRecord, first_that_holds, signature_facts
from fluxsrc.signatures.statements import INTOTO_PAYLOAD_TYPE, Claim
from fluxsrc.signatures.trustedroot import TrustedRoot
from fluxsrc.signatures.verdict import OCICheck, failed
from fluxsrc.verify import Evidence, Facts, Policy, policy_digest

__all__ = ["CosignKeylessSignature"]


def _identities(value: Identity | Iterable[Identity]) -> tuple[Identity, ...]:
    identities = (value,) if isinstance(value, Identity) else tuple(value)
    if not identities:
        raise ConfigurationError(
            "a keyless policy without identities would let everybody's signature through",
            hint="Identity('https://accounts.example.com', 'ada@example.com')",
        )
    if not all(isinstance(identity, Identity) for identity in identities):
        raise ConfigurationError("identities are values of Identity(issuer, subject)")
    return identities


@attrs.frozen
class CosignKeylessSignature:
    """A policy: the manifest that was resolved has to be signed with a certificate that was issued to one of these identities.

    There are no keys to keep: whoever signs proves to a certificate authority (Fulcio) who they are, gets a certificate for a few
    minutes, and has the signature written to a public transparency log (Rekor) while it is valid. What is checked; a
    `VerificationError` gives the number of what failed:

    1. The manifest is the one whose digest was resolved.
    2. There is a signature, in a layout that is accepted.
    3. Bundle, payload, certificate and log entry are well-formed, of limited size, with exactly one signature.
    4. The certificate's key is one for ECDSA over P-256, P-384 or P-521, and the signature is with SHA-256.
    5. It is known when the signature was made: the log says so and signs it, or a trusted timestamp authority does. At that
       time, which is not in the future, the certificate was valid, for code signing, and led to a trusted authority that was in
       use. It was itself logged: it has a signed certificate timestamp of a trusted log that was in use.
    6. A trusted log that was in use has an entry about this signature of this content by this certificate: in a bundle proved by
       hashes up to a checkpoint that the log signed; in cosign's first layout promised by the log (a signed entry timestamp).
    7. The certificate names exactly one subject and one issuer, and these are an identity that is asked for.
    8. The signature holds over exactly the signed bytes, by the certificate's key.
    9. The signed bytes say that they are a signature of an image, and name the very digest that was resolved; and the
       repository, where one is asked for.
    10. The signed annotations are those that are asked for.

    One good signature in an accepted layout is enough, see `CosignKeySignature`. No request is made, to no log and no authority.

    Attributes:
        identities: One of them has to have signed. An empty list is an error.
        trusted_root: The authorities and logs that are trusted.
        layouts: Where signatures may lie: "bundle" (referrers, cosign 3), "cosign" (the `.sig` tag of cosign 1 and 2), or both.
            With "bundle" alone a log's promise is not enough: it has to be a proof.
        annotations: What has to be signed besides, as `cosign sign -a env=prod` does.
        repository: What has to be signed as the image's name, `HOST/REPOSITORY`; None for any. cosign's bundles do not say one.
    """

    identities: tuple[Identity, ...] = attrs.field(converter=_identities)
    trusted_root: TrustedRoot = attrs.field(kw_only=True)
    layouts: tuple[SignatureKind, ...] = attrs.field(
        default=("bundle", "cosign"), converter=cosign_layouts, kw_only=True
    )
    annotations: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=sorted_pairs, kw_only=True)
    repository: str | None = attrs.field(default=None, kw_only=True)

    @classmethod
    def from_match_oidc_identity(
        cls,
        items: Iterable[Mapping[str, Any]],
        *,
        trusted_root: TrustedRoot,
        anchored: bool = True,
        layouts: str | Iterable[str] = ("bundle", "cosign"),
    ) -> Self:
        """The policy of an OCIRepository's `spec.verify.matchOIDCIdentity`.

        Args:
            items: Its entries, with `issuer` and `subject`: regular expressions.
            trusted_root: What `trustedRootSecretRef` refers to, or the public instance's.
            anchored: Expressions have to fit the whole name. False is what Flux does: it finds them anywhere in it.
            layouts: As above.

        Raises:
            ConfigurationError: There are no entries, or one is malformed.
        """
        return cls(identities_from_flux(items, anchored=anchored), trusted_root=trusted_root, layouts=layouts)

    @property
    def digest(self) -> Digest:
        """Of identities in any order, the trusted root's bytes, and all that is asked for."""
        return policy_digest(
            "cosign-keyless",
            identities=sorted((identity.value for identity in self.identities), key=repr),
            trusted_root=str(self.trusted_root.digest),
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
        trust = Trust(root=self.trusted_root, identities=self.identities, now=evidence.now)
        return first_that_holds(evidence, self.layouts, lambda record: self._check(record, evidence, trust))

    def _check(self, record: SignatureRecord, evidence: OCIEvidence, trust: Trust) -> Facts:
        """Checks 3 to 10 of one signature."""
        if record.kind is SignatureKind.COSIGN:
            certified = verify_annotations(record.annotations, record.payload, trust)
            claim = Claim.from_simple_signing(certified.payload)
        else:
            certified = verify_bundle(record.payload, evidence.content, trust)
            if not certified.payload_type:
                # Over the manifest's own bytes: what is signed is the manifest, and nothing is said about it.
                claim = Claim({evidence.digest.algorithm: evidence.digest.hex}, "")
            elif certified.payload_type == INTOTO_PAYLOAD_TYPE:
                claim = Claim.from_statement(certified.payload, evidence.digest)
            else:
                shown = f"{certified.payload_type[:100]!a}"
                raise failed(OCICheck.ALGORITHM, f"a payload of the type {shown} is no statement")
        claim.check(evidence, repository=self.repository, annotations=dict(self.annotations))
        return signature_facts(self.digest, record, **certified.facts)


if TYPE_CHECKING:

    def _(policy: CosignKeylessSignature, evidence: OCIEvidence) -> tuple[Policy[OCIEvidence], Evidence]:
        return policy, evidence

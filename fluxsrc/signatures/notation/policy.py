"""`NotationSignature`: what is in a registry must be signed as notation does, to the letter of a trust policy."""

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, VerificationError
from fluxsrc.signatures.notation.certificates import require_cryptography
from fluxsrc.signatures.notation.chain import Chain
from fluxsrc.signatures.notation.envelope import Envelope
from fluxsrc.signatures.notation.revocation import RevocationList
from fluxsrc.signatures.notation.trustpolicy import Statement, TrustPolicy
from fluxsrc.signatures.notation.truststore import TrustStore, read_file
from fluxsrc.signatures.notation.validations import Validations
from fluxsrc.signatures.oci import (
    OCIEvidence,
    SignatureKind,
    SignatureRecord,
    first_that_holds,
    signature_facts,
    strict_json,
)
from fluxsrc.signatures.verdict import OCICheck, failed
from fluxsrc.verify import Evidence, Facts, Policy, policy_digest

__all__ = ["NotationSignature"]

_LOGGER: Final = logging.getLogger(__name__)
_POLICY_FILES: Final = ("trustpolicy.oci.json", "trustpolicy.json")


def _stores(value: Iterable[TrustStore]) -> tuple[TrustStore, ...]:
    return tuple(sorted(value, key=lambda each: (each.kind, each.name)))


def _lists(value: Iterable[RevocationList]) -> tuple[RevocationList, ...]:
    return tuple(value)


def _pairs(value: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(dict(value).items()))


@attrs.frozen
class NotationSignature:
    """A policy: the manifest that was resolved has to be signed as notation's trust policy says.

    What is checked; a `VerificationError` gives the number of what failed:

    1. The manifest is the one whose digest was resolved.
    2. There is a signature.
    3. Its envelope is well-formed: strict JSON or CBOR, all that has to be there, and nothing critical that is not known.
    4. Its algorithm is the one that goes with the key in its certificate, and that is strong enough; so are the chain's.
    5. The certificates are a chain for signing code, and one of them is in a trust store for the signing scheme
       (*authenticity*). They were valid when it was signed, by an RFC 3161 timestamp or the signing authority's clock, or
       are still (*authenticTimestamp*). The signature did not expire (*expiry*). No certificate is revoked (*revocation*).
    6. Of a transparency log notation knows nothing.
    7. The subject of the certificate is a trusted identity (*authenticity*).
    8. The signature holds over exactly the signed bytes (*integrity*).
    9. These name exactly the manifest that was resolved: digest, size and media type; and a statement is about its repository.
    10. The signed annotations (notation's user metadata) are those that are asked for.

    A trust policy enforces each of the five in italics, or logs it: then a failure is a fact and a warning. A statement that does
    not enforce *authenticity* (`audit`, `skip`) verifies nothing, so it is refused unless `unsafe_levels` says that it is meant.

    Revocation is looked up in `crls`, lists that the caller keeps current; nobody is asked over the network, OCSP neither.
    A certificate that names a place to ask, and of which no list tells, fails *revocation*: `strict` is as strict as it says. The
    same of a timestamp authority fails *authenticTimestamp*, as in notation.

    Attributes:
        trust_policy: notation's trust policy.
        stores: The trust stores that it names.
        crls: Certificate revocation lists.
        annotations: What has to be signed besides, as `notation sign -m env=prod` does.
        repository: The `HOST/REPOSITORY` that statements are chosen by; None is the source's own. For mirrors and layouts.
        unsafe_levels: Whether statements that verify nothing may be used.
    """

    trust_policy: TrustPolicy
    stores: tuple[TrustStore, ...] = attrs.field(converter=_stores)
    crls: tuple[RevocationList, ...] = attrs.field(default=(), converter=_lists, kw_only=True)
    annotations: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_pairs, kw_only=True)
    repository: str | None = attrs.field(default=None, kw_only=True)
    unsafe_levels: bool = attrs.field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        have = {(store.kind, store.name) for store in self.stores}
        for statement in self.trust_policy.statements:
            if not statement.is_verification and not self.unsafe_levels:
                raise ConfigurationError(
                    f"the statement {statement.name!r} of the trust policy verifies nobody: its level is {statement.level}",
                    hint="strict or permissive does; unsafe_levels=True, if that is meant",
                )
            missing = [each for each in statement.stores if each not in have]
            if missing:
                raise ConfigurationError(f"{statement.name}: there is no trust store {':'.join(missing[0])}")

    @classmethod
    def from_files(
        cls,
        trust_policy: str | os.PathLike[str],
        *,
        trust_store: str | os.PathLike[str] | None = None,
        crls: Iterable[str | os.PathLike[str]] = (),
        annotations: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        repository: str | None = None,
        unsafe_levels: bool = False,
    ) -> Self:
        """A policy of files.

        Args:
            trust_policy: The trust policy, as `trustpolicy.json` is one.
            trust_store: The directory with `x509/KIND/NAME/*.pem`; None is `truststore` beside the trust policy.
            crls: Certificate revocation lists.
            annotations: As in the class.
            repository: As in the class.
            unsafe_levels: As in the class.

        Raises:
            ConfigurationError: Something is missing, cannot be read, or is not what notation would take.
            MissingExtraError: There is nothing to read certificates with.
        """
        file = Path(trust_policy)
        try:
            policy = TrustPolicy.parse(read_file(file).decode())
        except UnicodeDecodeError:
            raise ConfigurationError(f"{file} is not UTF-8") from None
        return cls(
            policy,
            TrustStore.from_directory(file.with_name("truststore") if trust_store is None else trust_store, policy),
            crls=[RevocationList.parse(read_file(Path(each))) for each in crls],
            annotations=annotations,
            repository=repository,
            unsafe_levels=unsafe_levels,
        )

    @classmethod
    def from_directory(
        cls,
        path: str | os.PathLike[str],
        *,
        crls: Iterable[str | os.PathLike[str]] = (),
        annotations: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        repository: str | None = None,
        unsafe_levels: bool = False,
    ) -> Self:
        """A policy out of notation's own configuration directory, `~/.config/notation` on Linux.

        Args:
            path: The directory with `trustpolicy.json` (or `trustpolicy.oci.json`) and `truststore/x509/KIND/NAME/*.pem`.
            crls: Certificate revocation lists.
            annotations: As in the class.
            repository: As in the class.
            unsafe_levels: As in the class.

        Raises:
            ConfigurationError: Something is missing, cannot be read, or is not what notation would take.
            MissingExtraError: There is nothing to read certificates with.
        """
        root = Path(path)
        file = next((root / name for name in _POLICY_FILES if (root / name).is_file()), root / _POLICY_FILES[-1])
        return cls.from_files(
            file, crls=crls, annotations=annotations, repository=repository, unsafe_levels=unsafe_levels
        )

    @property
    def digest(self) -> Digest:
        """Of the trust policy, all certificates and lists, and what is asked for."""
        return policy_digest(
            "notation-signature",
            trust_policy=attrs.asdict(self.trust_policy),
            stores=[[each.kind, each.name, *map(_sha256, each.certificates)] for each in self.stores],
            crls=[_sha256(each.der) for each in self.crls],
            annotations=self.annotations,
            repository=self.repository,
            unsafe_levels=self.unsafe_levels,
        )

    @property
    def needs(self) -> frozenset[str]:
        """Notation's signatures."""
        return frozenset({SignatureKind.NOTATION.value})

    def check(self, evidence: OCIEvidence, /) -> Facts:
        """Checks 1 to 10; see `Policy`."""
        require_cryptography()
        repository = evidence.repository if self.repository is None else self.repository
        statement = self.trust_policy.statement_for(repository)
        if statement is None:
            message = failed(OCICheck.SUBJECT, f"no statement of the trust policy is about {repository}").message
            raise VerificationError(f"{evidence.subject}: {message}", check=OCICheck.SUBJECT.value)
        if statement.level == "skip":
            _LOGGER.warning("%s is used without any verification, as the trust policy says", evidence.subject)
            return (("oci.level", "skip"), ("oci.statement", statement.name), ("policy", str(self.digest)))
        return first_that_holds(
            evidence,
            (SignatureKind.NOTATION,),
            lambda record: self._verify(record, evidence, statement),
            wanted="notation signature",
        )

    def _verify(self, record: SignatureRecord, evidence: OCIEvidence, statement: Statement) -> Facts:
        envelope = Envelope.parse(record.media_type, record.payload)  # 3
        chain = Chain.parse(envelope.chain)  # 3, 4, 5
        if envelope.algorithm != chain.algorithm:
            raise failed(
                OCICheck.ALGORITHM, f"{envelope.algorithm} is not the algorithm of its key, which is {chain.algorithm}"
            )
        if not chain.holds(envelope.signature, envelope.signed):
            raise failed(OCICheck.CRYPTOGRAPHY, "the signature is not one over these bytes by its certificate")
        # Only now is anything that it says the signer's word.
        validations = Validations(
            statement=statement, stores=self.stores, crls=self.crls, now=evidence.now, subject=evidence.subject
        )
        judged = validations.judge(envelope, chain)  # 5, 7
        signed = _check_payload(envelope.payload, evidence)  # 9: no level passes over whose signature it is
        for name, wanted in self.annotations:
            if signed.get(name) != wanted:
                said = f"{signed[name]!a:.100}" if name in signed else "missing"
                raise failed(OCICheck.ANNOTATIONS, f"the signed annotation {name!a} is {said}, not {wanted!a}")
        facts = signature_facts(
            self.digest,
            record,
            signer=chain.subject,
            key=f"sha256:{chain.fingerprint}",
            algorithm=envelope.algorithm,
            scheme=envelope.scheme,
            signed=f"{envelope.signing_time:%Y-%m-%dT%H:%M:%SZ}",
            statement=statement.name,
            level=statement.level,
        )
        return (*judged, *facts)


def _check_payload(payload: bytes, evidence: OCIEvidence) -> Mapping[str, Any]:
    """Check 9; returns the signed annotations."""
    document = strict_json(payload, what="the signed payload")
    target = document.get("targetArtifact")
    if set(document) != {"targetArtifact"} or not isinstance(target, dict):
        raise failed(OCICheck.FORM, "the signed payload is not a targetArtifact, and no more")
    annotations = target.get("annotations") or {}
    if not isinstance(annotations, dict):
        raise failed(OCICheck.FORM, "the signed annotations are no object")
    expected = {"digest": str(evidence.digest), "size": evidence.size, "mediaType": evidence.media_type}
    for name, value in expected.items():
        if type(target.get(name)) is not type(value) or target[name] != value:
            raise failed(
                OCICheck.SUBJECT, f"the {name} that is signed is {target.get(name)!a:.100}, not {value!a:.100}"
            )
    return annotations


def _sha256(data: bytes) -> str:
    return str(Digest.of(data))


if TYPE_CHECKING:

    def _(policy: NotationSignature, evidence: OCIEvidence) -> tuple[Policy[OCIEvidence], Evidence]:
        return policy, evidence

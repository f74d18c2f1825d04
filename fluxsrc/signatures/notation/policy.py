"""`NotationSignature`: what is in a registry must be signed as notation does, to the letter of a trust policy."""

import datetime as dt
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, VerificationError
from fluxsrc.signatures.notation.chain import Chain, RevocationList, parse_certificates, require_cryptography
from fluxsrc.signatures.notation.envelope import Envelope, Scheme
from fluxsrc.signatures.notation.timestamp import check_timestamp
from fluxsrc.signatures.notation.trustpolicy import Action, Statement, StoreKind, TrustPolicy, Validation
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

__all__ = ["NotationSignature", "TrustStore"]

_LOGGER: Final = logging.getLogger(__name__)
_SKEW: Final = dt.timedelta(minutes=5)
_POLICY_FILES: Final = ("trustpolicy.oci.json", "trustpolicy.json")
_CERTIFICATES: Final = frozenset({".pem", ".crt", ".cer", ".der"})
_MAX_FILE: Final = 1 << 20


@attrs.frozen
class TrustStore:
    """Certificates that are trusted for one purpose.

    Attributes:
        kind: "ca", "signingAuthority" or "tsa".
        name: What trust policies call it.
        certificates: In DER. A signature is trusted if one of them is in its chain.
    """

    kind: StoreKind = attrs.field(converter=StoreKind)
    name: str
    certificates: tuple[bytes, ...] = attrs.field(repr=False)

    @classmethod
    def from_files(cls, kind: str, name: str, *paths: str | os.PathLike[str]) -> Self:
        """A store with the certificates in some files, PEM or DER.

        Raises:
            ConfigurationError: A file cannot be read, or holds none; or the kind is none.
            MissingExtraError: There is nothing to read them with.
        """
        if kind not in set(StoreKind):
            raise ConfigurationError(f"not a kind of trust store: {kind[:40]!r}", hint=", ".join(StoreKind))
        found = tuple(each for path in paths for each in parse_certificates(_read(Path(path))))
        if not found:
            raise ConfigurationError(f"the trust store {kind}:{name} has no certificates")
        return cls(kind, name, found)


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
    7. The subject of the certificate is a trusted identity (*authenticity*).
    8. The signature holds over exactly the signed bytes (*integrity*).
    9. These name exactly the manifest that was resolved: digest, size and media type; and a statement is about its repository.
    10. The signed annotations (notation's user metadata) are those that are asked for.

    A trust policy enforces each of the five in italics, or logs it: then a failure is a fact and a warning. A statement that does
    not enforce *authenticity* (`audit`, `skip`) verifies nothing, so it is refused unless `unsafe_levels` says that it is meant.

    Revocation is looked up in `crls`, lists that the caller keeps current; nobody is asked over the network, OCSP neither.
    A certificate that names a place to ask, and is on no such list's side, fails *revocation*: `strict` is as strict as it says.
    Certificates of timestamp authorities are not looked up.

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
            crls: Files of certificate revocation lists.
            annotations: As in the class.
            repository: As in the class.
            unsafe_levels: As in the class.

        Raises:
            ConfigurationError: Something is missing, cannot be read, or is not what notation would take.
            MissingExtraError: There is nothing to read certificates with.
        """
        root = Path(path)
        file = next((root / name for name in _POLICY_FILES if (root / name).is_file()), root / _POLICY_FILES[-1])
        try:
            policy = TrustPolicy.parse(_read(file).decode())
        except UnicodeDecodeError:
            raise ConfigurationError(f"{file} is not UTF-8") from None
        stores = []
        for kind, name in sorted({each for statement in policy.statements for each in statement.stores}):
            directory = root / "truststore" / "x509" / kind.value / name
            files = sorted(each for each in _list(directory) if each.suffix.lower() in _CERTIFICATES)
            stores.append(TrustStore.from_files(kind.value, name, *files))
        return cls(
            policy,
            stores,
            crls=[RevocationList.parse(_read(Path(each))) for each in crls],
            annotations=annotations,
            repository=repository,
            unsafe_levels=unsafe_levels,
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
        evidence.check_object()
        return first_that_holds(
            evidence,
            evidence.signatures(SignatureKind.NOTATION),
            lambda record: self._verify(record, evidence, statement),
            wanted="a notation signature",
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
        verdict = _Verdict(statement, evidence.subject)
        with_stores = _Anchors(self.stores, statement)
        verdict.hold(Validation.AUTHENTICITY, lambda: _check_authenticity(envelope, chain, with_stores, statement))
        verdict.hold(Validation.TIMESTAMP, lambda: _check_times(envelope, chain, with_stores, statement, evidence.now))
        verdict.hold(Validation.EXPIRY, lambda: _check_expiry(envelope, evidence.now))
        verdict.hold(Validation.REVOCATION, lambda: chain.check_revocation(self.crls, evidence.now))
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
        return (*verdict.warnings, *facts)


class _Verdict:
    """What failed of what the trust policy only logs."""

    def __init__(self, statement: Statement, subject: str) -> None:
        self.warnings: list[tuple[str, str]] = []
        self._statement = statement
        self._subject = subject

    def hold(self, validation: Validation, check: Any) -> None:
        action = self._statement.action(validation)
        if action is Action.SKIP:
            return
        try:
            check()
        except VerificationError as exc:
            if action is Action.ENFORCE:
                raise
            _LOGGER.warning("%s: %s: %s", self._subject, validation.value, exc.message)
            self.warnings.append((f"oci.warning.{validation.value}", exc.message))


@attrs.frozen
class _Anchors:
    """The certificates of the stores that a statement names."""

    _all: tuple[TrustStore, ...]
    _statement: Statement

    def of(self, kind: StoreKind) -> list[bytes]:
        wanted = [name for each, name in self._statement.stores if each is kind]
        return [der for each in self._all if each.kind is kind and each.name in wanted for der in each.certificates]


def _check_authenticity(envelope: Envelope, chain: Chain, anchors: _Anchors, statement: Statement) -> None:
    """Checks 5 and 7: by whom."""
    kind = StoreKind.CA if envelope.scheme == Scheme.X509 else StoreKind.AUTHORITY
    if not chain.trusted_by(anchors.of(kind)):
        raise failed(
            OCICheck.CERTIFICATE,
            f"no certificate in the chain of {chain.subject[:200]!a} is in a trust store of the kind {kind.value}",
        )
    if statement.identities is not None and not any(each.matches(chain.attributes) for each in statement.identities):
        raise failed(OCICheck.SIGNER, f"{chain.subject[:200]!a} is no trusted identity")


def _check_times(envelope: Envelope, chain: Chain, anchors: _Anchors, statement: Statement, now: dt.datetime) -> None:
    """Check 5: when. The signer's own word for it counts only against it."""
    if envelope.signing_time > now + _SKEW:
        raise failed(OCICheck.CERTIFICATE, f"signed in the future, at {envelope.signing_time:%Y-%m-%d %H:%M} UTC")
    if envelope.scheme == Scheme.AUTHORITY:
        chain.check_time(envelope.signing_time, "when the authority signed")
        return
    authorities = anchors.of(StoreKind.TSA)
    if not authorities or not (statement.timestamp_always or _is_over(chain, now)):
        chain.check_time(now, "now")
        return
    if envelope.timestamp is None:
        raise failed(OCICheck.CERTIFICATE, "there is no timestamp", hint="notation sign --timestamp-url")
    timestamp = check_timestamp(envelope.timestamp, envelope.signature, authorities)
    if timestamp.earliest > now + _SKEW:
        raise failed(OCICheck.CERTIFICATE, "the timestamp is in the future")
    chain.check_time(timestamp.earliest, "when it was timestamped")
    chain.check_time(timestamp.latest, "when it was timestamped")


def _is_over(chain: Chain, now: dt.datetime) -> bool:
    try:
        chain.check_time(now, "now")
    except VerificationError:
        return True
    return False


def _check_expiry(envelope: Envelope, now: dt.datetime) -> None:
    if envelope.expiry is not None and now >= envelope.expiry:
        raise failed(OCICheck.CERTIFICATE, f"the signature expired at {envelope.expiry:%Y-%m-%d %H:%M} UTC")


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


def _list(directory: Path) -> Sequence[Path]:
    try:
        return list(directory.iterdir())
    except OSError as exc:
        raise ConfigurationError(f"cannot read the trust store {directory}: {exc.strerror}") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as exc:
        raise ConfigurationError(f"cannot read {path}: {exc.strerror}") from None
    if len(data) > _MAX_FILE:
        raise ConfigurationError(f"{path} is larger than {_MAX_FILE:,} bytes")
    return data


if TYPE_CHECKING:

    def _(policy: NotationSignature, evidence: OCIEvidence) -> tuple[Policy[OCIEvidence], Evidence]:
        return policy, evidence

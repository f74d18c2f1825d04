"""What every policy about signatures in a registry builds on: the evidence, its records, and the loop over them.

A source collects `OCIEvidence` about the digest that it resolved, of the kinds its policy `needs`, all of it within limits.
A policy is then a function of that value: no request is made and no clock is looked at while it decides.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from fluxsrc.digest import Digest
from fluxsrc.errors import VerificationError
from fluxsrc.signatures.kinds import SignatureKind
from fluxsrc.signatures.verdict import OCICheck, failed
from fluxsrc.verify import Evidence, Facts

__all__ = [
    "BUNDLE_MEDIA_TYPE",
    "COSIGN_ARTIFACT_TYPE",
    "NOTATION_ARTIFACT_TYPE",
    "SIMPLE_SIGNING_MEDIA_TYPE",
    "OCIEvidence",
    "SignatureKind",
    "SignatureRecord",
    "first_that_holds",
    "signature_facts",
    "strict_json",
]

COSIGN_ARTIFACT_TYPE: Final = "application/vnd.dev.cosign.artifact.sig.v1+json"
SIMPLE_SIGNING_MEDIA_TYPE: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
NOTATION_ARTIFACT_TYPE: Final = "application/vnd.cncf.notary.signature"

_MAX_DEPTH: Final = 32
_MAX_TOLD: Final = 5
_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class SignatureRecord:
    """One signature as it was found: nothing about it is verified, but that its bytes are those its manifest names.

    Attributes:
        kind: Its layout.
        manifest: The digest of the manifest it was found in, for messages and facts.
        media_type: Of the payload, as its descriptor says.
        payload: The simple-signing payload, the bundle, or the envelope.
        annotations: Of the layer's descriptor: here cosign's first layout keeps the signature.
        manifest_annotations: Of the manifest: here notation keeps the thumbprints of the certificates.
    """

    kind: SignatureKind
    manifest: Digest
    media_type: str
    payload: bytes = attrs.field(repr=False)
    annotations: Mapping[str, str] = attrs.field(factory=dict, repr=False, hash=False)
    manifest_annotations: Mapping[str, str] = attrs.field(factory=dict, repr=False, hash=False)

    def __str__(self) -> str:
        """For messages: `bundle signature 4f1c0d…`."""
        return f"{self.kind.value} signature {self.manifest.short}"


@attrs.frozen(kw_only=True)
class OCIEvidence:
    """What an OCI source knows about a revision.

    Attributes:
        subject: The source's redacted URL and the revision.
        now: The time of verification.
        repository: `HOST/REPOSITORY` as it was written, or `oci-layout:PATH`.
        digest: The digest that was resolved; of an index, where it is one. Signatures have to be about this.
        media_type: Of the manifest or index, as the registry says; "" where it does not.
        content: The manifest's or index's own bytes. Its size, for notation's descriptor, is theirs.
        annotations: The manifest's.
        records: The signatures there are, of the kinds that were asked for, in the order in which they were found.
    """

    subject: str
    now: dt.datetime
    repository: str
    digest: Digest
    media_type: str
    content: bytes = attrs.field(repr=False)
    annotations: Mapping[str, str] = attrs.field(factory=dict, repr=False, hash=False)
    records: tuple[SignatureRecord, ...] = attrs.field(default=(), repr=False)

    @property
    def size(self) -> int:
        """Bytes of the manifest."""
        return len(self.content)

    def signatures(self, *kinds: SignatureKind) -> tuple[SignatureRecord, ...]:
        """The records of some kinds: all of the first kind, then all of the second."""
        return tuple(record for kind in kinds for record in self.records if record.kind is kind)

    def check_object(self) -> None:
        """Check 1: the content is that of the digest.

        Raises:
            VerificationError: 1: it is not.
        """
        algorithm = self.digest.algorithm
        if algorithm not in ("sha256", "sha512") or hashlib.new(algorithm, self.content).hexdigest() != self.digest.hex:
            raise failed(OCICheck.OBJECT, f"the manifest is not that of {self.digest}")


def first_that_holds(
    evidence: OCIEvidence,
    kinds: Sequence[SignatureKind],
    verify: Callable[[SignatureRecord], _T],
    *,
    wanted: str | None = None,
) -> _T:
    """What `verify` returns for the first signature of these kinds that it does not refuse; checks 1 and 2 are done here.

    One good signature is enough, whatever lies beside it: whoever may push can put a bad one there, and could as well take a good
    one away. So bad ones are told of, but do not count.

    Args:
        evidence: What was collected.
        kinds: Where signatures may lie.
        verify: Checks 3 to 10 of one record; raises `VerificationError` with the number.
        wanted: What was looked for, for the message if there is none; a signature in one of the layouts, if nothing is said.

    Raises:
        VerificationError: 1: it is about something else. 2: there are no signatures. Otherwise the number of the check that the
            best of them failed.
    """
    evidence.check_object()
    failures: list[VerificationError] = []
    for record in evidence.signatures(*kinds):
        try:
            return verify(record)
        except VerificationError as exc:
            failures.append(VerificationError(f"{record}: {exc.message}", check=exc.check, hint=exc.hint))
    if not failures:
        wanted = wanted or f"signature in the layout {' or '.join(kind.value for kind in kinds)}"
        raise VerificationError(
            f"{evidence.subject}: {failed(OCICheck.SIGNATURE, f'there is no {wanted}').message}",
            check=OCICheck.SIGNATURE.value,
        )
    best = max(failures, key=lambda failure: failure.check or 0)
    others = [failure.message for failure in failures if failure is not best][: _MAX_TOLD - 1]
    message = "; ".join((best.message, *others))
    if len(failures) > _MAX_TOLD:
        message += f"; and {len(failures) - _MAX_TOLD} more"
    raise VerificationError(f"{evidence.subject}: {message}", check=best.check, hint=best.hint)


def signature_facts(policy: Digest, record: SignatureRecord, **values: str) -> Facts:
    """What was found out about a signature, as pairs: `oci.layout`, `oci.signature`, the values as `oci.NAME`, `policy`.

    Args:
        policy: The policy's digest.
        record: The signature that holds.
        values: `key` or `signer`, `issuer`, `algorithm`, `log`, `signed`, …; empty ones are left out.
    """
    pairs = {"layout": record.kind.value, "signature": str(record.manifest)} | values
    return (*((f"oci.{name}", value) for name, value in pairs.items() if value), ("policy", str(policy)))


def strict_json(data: bytes, *, what: str) -> dict[str, Any]:
    """A JSON object in which nothing can be read in two ways: UTF-8, no key twice, no NaN, not nested beyond reason.

    Raises:
        VerificationError: 3: it is none.
    """
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_no_constant
        )
    except (ValueError, RecursionError) as exc:
        reason = "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)
        raise failed(OCICheck.FORM, f"{what} is not the JSON it should be: {reason}") from None
    if not isinstance(value, dict) or _depth(value) > _MAX_DEPTH:
        raise failed(OCICheck.FORM, f"{what} is not a JSON object of reasonable depth")
    return value


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    items = list(pairs)
    result = dict(items)
    if len(result) != len(items):
        raise ValueError("a key is there twice")
    return result


def _no_constant(text: str) -> object:
    """Neither NaN nor fractions belong into signed documents: readers disagree about them."""
    raise ValueError(f"{text[:20]} is no number here")


def _depth(value: object) -> int:
    deepest = 0
    waiting: list[tuple[object, int]] = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        deepest = max(deepest, depth)
        children: Iterable[object] = ()
        if isinstance(item, dict):
            children = item.values()
        elif isinstance(item, list):
            children = item
        waiting += [(child, depth + 1) for child in children]
    return deepest


if TYPE_CHECKING:

    def _(evidence: OCIEvidence) -> Evidence:
        return evidence

"""What a trust policy validates of a signature that holds: by whom, when, until when, and whether that was taken back."""

import datetime as dt
import logging
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from fluxsrc.errors import VerificationError
from fluxsrc.signatures.notation.chain import Chain
from fluxsrc.signatures.notation.envelope import Envelope, Scheme
from fluxsrc.signatures.notation.revocation import RevocationList
from fluxsrc.signatures.notation.timestamp import check_timestamp
from fluxsrc.signatures.notation.trustpolicy import Action, Statement, StoreKind, Validation
from fluxsrc.signatures.notation.truststore import TrustStore
from fluxsrc.signatures.verdict import OCICheck, failed
from fluxsrc.verify import Facts

__all__ = ["Validations"]

_LOGGER: Final = logging.getLogger(__name__)
_SKEW: Final = dt.timedelta(minutes=5)


@attrs.frozen(kw_only=True)
class Validations:
    """What there is to judge a signature by.

    Attributes:
        statement: What the trust policy says about the repository.
        stores: All trust stores.
        crls: All revocation lists.
        now: The time of verification.
        subject: What is verified, for the log.
    """

    statement: Statement
    stores: Sequence[TrustStore]
    crls: Sequence[RevocationList]
    now: dt.datetime
    subject: str

    def judge(self, envelope: Envelope, chain: Chain) -> Facts:
        """Validate a signature whose integrity is known; returns what failed of what the trust policy only logs, and the time of a timestamp.

        Raises:
            VerificationError: 5 or 7: something failed that it enforces. 4: a timestamp's algorithms are too weak.
        """
        checks: dict[Validation, Callable[[Envelope, Chain], Facts]] = {
            Validation.AUTHENTICITY: self._check_authenticity,
            Validation.TIMESTAMP: self._check_times,
            Validation.EXPIRY: self._check_expiry,
            Validation.REVOCATION: self._check_revocation,
        }
        found: list[tuple[str, str]] = []
        for validation, check in checks.items():
            action = self.statement.action(validation)
            if action is Action.SKIP:
                continue
            try:
                found += check(envelope, chain)
            except VerificationError as exc:
                if action is Action.ENFORCE:
                    raise
                _LOGGER.warning("%s: %s: %s", self.subject, validation.value, exc.message)
                found.append((f"oci.warning.{validation.value}", exc.message))
        return tuple(found)

    def _check_authenticity(self, envelope: Envelope, chain: Chain) -> Facts:
        """Checks 5 and 7: by whom."""
        kind = StoreKind.CA if envelope.scheme == Scheme.X509 else StoreKind.AUTHORITY
        if not chain.trusted_by(self._anchors(kind)):
            raise failed(
                OCICheck.CERTIFICATE,
                f"no certificate in the chain of {chain.subject[:200]!a} is in a trust store of the kind {kind.value}",
            )
        identities = self.statement.identities
        if identities is not None and not any(each.matches(chain.attributes) for each in identities):
            raise failed(OCICheck.SIGNER, f"{chain.subject[:200]!a} is no trusted identity")
        return ()

    def _check_times(self, envelope: Envelope, chain: Chain) -> Facts:
        """Check 5: when. The signer's own word for it counts only against it."""
        if envelope.signing_time > self.now + _SKEW:
            raise failed(OCICheck.CERTIFICATE, f"signed in the future, at {envelope.signing_time:%Y-%m-%d %H:%M} UTC")
        if envelope.scheme == Scheme.AUTHORITY:
            chain.check_time(envelope.signing_time, "when the authority signed")
            return ()
        # What the policy names decides, not what is in it: a store without certificates trusts nobody's clock.
        stamped = any(kind is StoreKind.TSA for kind, _ in self.statement.stores)
        if not stamped or not (self.statement.timestamp_always or _is_over(chain, self.now)):
            chain.check_time(self.now, "now")
            return ()
        if envelope.timestamp is None:
            raise failed(OCICheck.CERTIFICATE, "there is no timestamp", hint="notation sign --timestamp-url")
        timestamp = check_timestamp(envelope.timestamp, envelope.signature, self._anchors(StoreKind.TSA))
        if timestamp.earliest > self.now + _SKEW:
            raise failed(OCICheck.CERTIFICATE, "the timestamp is in the future")
        chain.check_time(timestamp.earliest, "when it was timestamped")
        chain.check_time(timestamp.latest, "when it was timestamped")
        timestamp.chain.check_revocation(self.crls, self.now)
        return (("oci.timestamped", f"{timestamp.time:%Y-%m-%dT%H:%M:%SZ}"),)

    def _check_expiry(self, envelope: Envelope, _: Chain) -> Facts:
        """Check 5: whether the signer still wants it to be used."""
        if envelope.expiry is not None and self.now >= envelope.expiry:
            raise failed(OCICheck.CERTIFICATE, f"the signature expired at {envelope.expiry:%Y-%m-%d %H:%M} UTC")
        return ()

    def _check_revocation(self, _: Envelope, chain: Chain) -> Facts:
        """Check 5: whether somebody took a certificate back."""
        chain.check_revocation(self.crls, self.now)
        return ()

    def _anchors(self, kind: StoreKind) -> list[bytes]:
        """The certificates of the stores of this kind that the statement names."""
        wanted = [name for each, name in self.statement.stores if each is kind]
        return [der for each in self.stores if each.kind is kind and each.name in wanted for der in each.certificates]


def _is_over(chain: Chain, now: dt.datetime) -> bool:
    try:
        chain.check_time(now, "now")
    except VerificationError:
        return True
    return False

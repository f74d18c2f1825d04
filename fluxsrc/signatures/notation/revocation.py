"""Certificate revocation lists that the caller keeps current: nobody is asked over the network while a policy decides."""

import datetime as dt
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import attrs

from fluxsrc.errors import ConfigurationError
from fluxsrc.signatures.notation.certificates import HASHES, extension_of, may, name_of, require_cryptography
from fluxsrc.signatures.verdict import OCICheck, failed

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["RevocationList", "check_revocation"]


@attrs.frozen
class RevocationList:
    """A certificate revocation list.

    Attributes:
        der: Its bytes, in DER.
    """

    der: bytes = attrs.field(repr=False)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a list, PEM or DER.

        Raises:
            ConfigurationError: It is none.
            MissingExtraError: There is nothing to read it with.
        """
        require_cryptography()
        from cryptography import x509  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

        try:
            read = x509.load_pem_x509_crl if b"-----BEGIN " in data else x509.load_der_x509_crl
            found = read(data)
            # These are parsed on use, and damaged ones shall be noticed here.
            tuple(found.extensions), found.issuer.rdns, found.signature_hash_algorithm, found.next_update_utc
            return cls(found.public_bytes(Encoding.DER))
        except Exception as exc:  # noqa: BLE001 - whatever a parser of other people's bytes raises, they are no list
            raise ConfigurationError(f"not a revocation list: {exc}"[:200]) from None

    def revoked(self, certificate: "x509.Certificate", issuer: "x509.Certificate", now: dt.datetime) -> bool | None:
        """Whether the list says so; None if it cannot tell: it is another issuer's, not current, or not a full one.

        Raises:
            VerificationError: 5: it is the issuer's and current, but damaged.
        """
        from cryptography import x509  # noqa: PLC0415 - an extra

        crl = x509.load_der_x509_crl(self.der)
        key: Any = issuer.public_key()
        if (
            crl.issuer != issuer.subject
            or getattr(crl.signature_hash_algorithm, "name", None) not in HASHES
            or not may(issuer, "crl_sign")
            or not crl.is_signature_valid(key)
            # A list of some reasons, of some certificates, or of changes only: nothing here says what is not in it.
            or any(extension.critical for extension in crl.extensions)
            or crl.next_update_utc is None
            or not crl.last_update_utc <= now <= crl.next_update_utc
        ):
            return None
        try:
            return crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
        except ValueError:
            raise failed(OCICheck.CERTIFICATE, f"the revocation list of {name_of(issuer)} is damaged") from None


def check_revocation(
    certificates: "Sequence[x509.Certificate]", lists: Sequence[RevocationList], now: dt.datetime
) -> None:
    """Whether no certificate of a chain is revoked; those that nobody could revoke are not, nor is the root.

    Raises:
        VerificationError: 5: one is, or could be, and there is no list that tells.
    """
    for certificate, issuer in pairwise(certificates):
        answers = [each.revoked(certificate, issuer, now) for each in lists]
        if True in answers:
            raise failed(OCICheck.CERTIFICATE, f"the certificate of {name_of(certificate)} is revoked")
        if False not in answers and _is_revocable(certificate):
            raise failed(
                OCICheck.CERTIFICATE,
                f"the certificate of {name_of(certificate)} could be revoked, and no current list of its issuer is given",
                hint="give a list (crls=), or let the trust policy log this",
            )


def _is_revocable(certificate: "x509.Certificate") -> bool:
    """Whether it says where one could ask."""
    from cryptography import x509  # noqa: PLC0415 - an extra
    from cryptography.x509.oid import AuthorityInformationAccessOID  # noqa: PLC0415

    if extension_of(certificate, x509.CRLDistributionPoints.oid) is not None:
        return True
    access = extension_of(certificate, x509.AuthorityInformationAccess.oid)
    return access is not None and any(each.access_method == AuthorityInformationAccessOID.OCSP for each in access.value)

"""`Chain`: certificates from a signer's to a root that certified itself, as the Notary Project specifies them."""

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

import attrs

from fluxsrc.errors import VerificationError
from fluxsrc.signatures.notation.certificates import (
    CURVES,
    RSA_SIZES,
    Purpose,
    check_algorithms,
    check_authority,
    check_signer,
    is_issued_by,
    name_of,
    require_cryptography,
)
from fluxsrc.signatures.notation.revocation import RevocationList, check_revocation
from fluxsrc.signatures.verdict import OCICheck, failed

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["Chain"]


@attrs.frozen
class Chain:
    """A chain of certificates, from the signer's to a root that signed itself. Nothing says yet that the root is trusted."""

    _certificates: "tuple[x509.Certificate, ...]" = attrs.field(repr=False)

    @classmethod
    def parse(cls, chain: Sequence[bytes], purpose: Purpose = Purpose.CODE) -> Self:
        """Read and check a chain, but for trust, time and revocation.

        Args:
            chain: The certificates in DER, the signer's first.
            purpose: What the signer's key signs.

        Raises:
            VerificationError: 3: one is no certificate. 4: an algorithm or a key is too weak, or of an unknown kind. 5: they are
                not a chain, or not for this purpose.
            MissingExtraError: There is nothing to read them with.
        """
        require_cryptography()
        from cryptography import x509  # noqa: PLC0415 - an extra

        try:
            found = cls(tuple(x509.load_der_x509_certificate(each) for each in chain))
            found._check(purpose)
        except VerificationError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever a parser of other people's bytes raises, they are no chain
            raise failed(OCICheck.FORM, f"the certificate chain is damaged: {type(exc).__name__}") from None
        return found

    @property
    def algorithm(self) -> str:
        """The one signature algorithm that goes with the signer's key: what the envelope says has to be this."""
        from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415 - an extra

        key = self._certificates[0].public_key()
        if isinstance(key, rsa.RSAPublicKey) and key.key_size in RSA_SIZES:
            return RSA_SIZES[key.key_size]
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return CURVES[key.curve.name][0]

    @property
    def fingerprint(self) -> str:
        """sha256 of the signer's certificate, hexadecimal: notation's thumbprint."""
        return hashlib.sha256(self._der(0)).hexdigest()

    @property
    def subject(self) -> str:
        """The signer's distinguished name."""
        return self._certificates[0].subject.rfc4514_string()

    @property
    def attributes(self) -> list[list[tuple[str, str]]]:
        """The signer's distinguished name, taken apart: for each part its attributes, as OID and value."""
        return [
            [(each.oid.dotted_string, str(each.value)) for each in part] for part in self._certificates[0].subject.rdns
        ]

    def holds(self, signature: bytes, signed: bytes) -> bool:
        """Whether the signature is the signer's over these bytes, by the algorithm of the key."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature  # noqa: PLC0415
        from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512  # noqa: PLC0415

        hashed = {"256": SHA256(), "384": SHA384(), "512": SHA512()}[self.algorithm[2:]]
        key = self._certificates[0].public_key()
        try:
            if isinstance(key, rsa.RSAPublicKey):
                pss = padding.PSS(padding.MGF1(hashed), hashed.digest_size)
                key.verify(signature, signed, pss, hashed)
            else:
                assert isinstance(key, ec.EllipticCurvePublicKey)
                size = CURVES[key.curve.name][1]
                if len(signature) != 2 * size:
                    return False
                numbers = int.from_bytes(signature[:size]), int.from_bytes(signature[size:])
                key.verify(encode_dss_signature(*numbers), signed, ec.ECDSA(hashed))
        except (InvalidSignature, ValueError):
            return False
        return True

    def trusted_by(self, anchors: Iterable[bytes]) -> bool:
        """Whether one of these is in the chain: what comes above it does not matter then."""
        trusted = frozenset(anchors)
        return any(self._der(number) in trusted for number in range(len(self._certificates)))

    def check_time(self, moment: dt.datetime, what: str) -> None:
        """Whether all of them are valid at a moment.

        Raises:
            VerificationError: 5: one is not.
        """
        for certificate in self._certificates:
            first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            if not first <= moment <= last:
                raise failed(
                    OCICheck.CERTIFICATE,
                    f"the certificate of {name_of(certificate)} is valid from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} "
                    f"UTC, and not {what}, {moment:%Y-%m-%d %H:%M}",
                )

    def check_revocation(self, lists: Sequence[RevocationList], now: dt.datetime) -> None:
        """Whether none of them is revoked; those that nobody could revoke are not.

        Raises:
            VerificationError: 5: one is, or could be, and there is no list that tells.
        """
        check_revocation(self._certificates, lists, now)

    def _check(self, purpose: Purpose) -> None:
        certificates = self._certificates
        for number, certificate in enumerate(certificates):
            check_algorithms(certificate)
            if number:
                check_authority(certificate, below=number - 1, purpose=purpose)
            issuer = certificates[min(number + 1, len(certificates) - 1)]
            if not is_issued_by(certificate, issuer):
                raise failed(OCICheck.CERTIFICATE, f"{name_of(certificate)} is not certified by {name_of(issuer)}")
            if issuer is not certificate and certificate.subject == certificate.issuer:
                raise failed(
                    OCICheck.CERTIFICATE, f"{name_of(certificate)} certifies itself in the middle of the chain"
                )
        check_signer(certificates[0], purpose)

    def _der(self, number: int) -> bytes:
        from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - an extra

        return self._certificates[number].public_bytes(Encoding.DER)

"""`TrustStore`: the certificates that a trust policy calls by a name, out of files, directories or a Secret."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import attrs

from fluxsrc.errors import ConfigurationError
from fluxsrc.signatures.notation.certificates import is_issued_by, name_of, parse_certificates
from fluxsrc.signatures.notation.trustpolicy import StoreKind, TrustPolicy

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["TrustStore", "read_file"]

_SUFFIXES: Final = frozenset({".pem", ".crt", ".cer", ".der"})
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
    def parse(cls, kind: str, name: str, *texts: bytes) -> Self:
        """A store with certificates in PEM or DER.

        Raises:
            ConfigurationError: There are none; or one is neither an authority's nor signed by itself, or for a `tsa` no root; or
                the kind is none.
            MissingExtraError: There is nothing to read them with.
        """
        if kind not in set(StoreKind):
            raise ConfigurationError(f"not a kind of trust store: {kind[:40]!r}", hint=", ".join(StoreKind))
        found = [each for text in texts for each in parse_certificates(text)]
        if not found:
            raise ConfigurationError(f"the trust store {kind}:{name} has no certificates")
        for each in found:
            if not _is_anchor(each, StoreKind(kind)):
                wanted = "a root" if kind == StoreKind.TSA else "an authority's, nor signed by itself"
                raise ConfigurationError(
                    f"the trust store {kind}:{name}: the certificate of {name_of(each)} is not {wanted}"
                )
        return cls(kind, name, tuple(map(_der, found)))

    @classmethod
    def from_files(cls, kind: str, name: str, *paths: str | os.PathLike[str]) -> Self:
        """The same, of files.

        Raises:
            ConfigurationError: As `parse`, or a file cannot be read.
            MissingExtraError: There is nothing to read them with.
        """
        return cls.parse(kind, name, *(read_file(Path(path)) for path in paths))

    @classmethod
    def from_directory(cls, root: str | os.PathLike[str], policy: TrustPolicy) -> list[Self]:
        """The stores that a trust policy names, out of notation's `truststore` directory: the files in `x509/KIND/NAME`.

        Raises:
            ConfigurationError: A directory is not there or cannot be read; or as `parse`.
            MissingExtraError: There is nothing to read certificates with.
        """
        stores = []
        for kind, name in policy.stores:
            directory = Path(root) / "x509" / kind.value / name
            try:
                files = sorted(each for each in directory.iterdir() if each.suffix.lower() in _SUFFIXES)
            except OSError as exc:
                raise ConfigurationError(f"cannot read the trust store {directory}: {exc.strerror}") from None
            if not files:
                raise ConfigurationError(
                    f"the trust store {directory} has no certificates", hint=f"{', '.join(sorted(_SUFFIXES))} are read"
                )
            stores.append(cls.from_files(kind.value, name, *files))
        return stores

    @classmethod
    def for_all(cls, policy: TrustPolicy, texts: Iterable[bytes]) -> list[Self]:
        """The stores that a trust policy names, each with all certificates that fit its kind: Flux has no more to tell them by.

        Raises:
            ConfigurationError: None fits a kind, or one is no certificate.
            MissingExtraError: There is nothing to read them with.
        """
        found = [each for text in texts for each in parse_certificates(text)]
        fitting = {kind: [_der(each) for each in found if _is_anchor(each, kind)] for kind in StoreKind}
        return [cls.parse(kind.value, name, *fitting[kind]) for kind, name in policy.stores]


def read_file(path: Path) -> bytes:
    """A file of reasonable size.

    Raises:
        ConfigurationError: It is not, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as exc:
        raise ConfigurationError(f"cannot read {path}: {exc.strerror}") from None
    if len(data) > _MAX_FILE:
        raise ConfigurationError(f"{path} is larger than {_MAX_FILE:,} bytes")
    return data


def _is_anchor(certificate: "x509.Certificate", kind: StoreKind) -> bool:
    """Whether notation would trust it: an authority, or a signer that certified itself; for timestamps, a root."""
    from cryptography import x509  # noqa: PLC0415 - an extra

    try:
        if is_issued_by(certificate, certificate):
            return True
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (ValueError, x509.ExtensionNotFound):
        return False
    return constraints.value.ca and kind is not StoreKind.TSA


def _der(certificate: "x509.Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - an extra

    return certificate.public_bytes(Encoding.DER)

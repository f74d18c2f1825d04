"""`Identity`: who a keyless signature has to be by, and who its certificate says it is by."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from fluxsrc.errors import ConfigurationError
from fluxsrc.signatures.verdict import OCICheck, failed

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

__all__ = ["Identity", "identities_from_flux", "identity_of"]

# https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md
_ISSUER_V1: Final = "1.3.6.1.4.1.57264.1.1"
_ISSUER_V2: Final = "1.3.6.1.4.1.57264.1.8"
_OTHER_NAME: Final = "1.3.6.1.4.1.57264.1.7"
_MAX_NAME: Final = 4096
_NOT_RE2: Final = re.compile(r"\[\[:|\\[QEzCpP]|\{,")


def _wanted(instance: "Identity", attribute: "attrs.Attribute[Any]", value: object) -> None:
    del instance
    text = value.pattern if isinstance(value, re.Pattern) else value
    if not isinstance(text, str) or not text:
        raise ConfigurationError(
            f"an identity's {attribute.name} is a text or a pattern that says something, not {text!r}",
            hint="write re.compile('.*') if really anybody is meant",
        )


@attrs.frozen
class Identity:
    r"""Who may sign. Both have to fit: any issuer can vouch for any name.

    >>> ada = Identity("https://accounts.example.com", "ada@example.com")
    >>> ada.fits("https://accounts.example.com", "ada@example.com")
    True
    >>> release = Identity("https://ci.example.com", re.compile(r"https://git\.example\.com/shop/.*@refs/tags/v\d+"))
    >>> release.fits("https://ci.example.com", "https://git.example.com/shop/release.yaml@refs/tags/v7")
    True
    >>> release.fits("https://ci.example.com", "https://evil.example/?https://git.example.com/shop/x@refs/tags/v7")
    False

    Attributes:
        issuer: The OpenID Connect issuer that vouched for the signer: the text itself, or a compiled pattern.
        subject: The signer's name there: an address, or the URI of a workflow or a service.
        anchored: Patterns have to fit the whole name. False finds them anywhere in it, as Flux does.
    """

    issuer: str | re.Pattern[str] = attrs.field(validator=_wanted)
    subject: str | re.Pattern[str] = attrs.field(validator=_wanted)
    anchored: bool = attrs.field(default=True, kw_only=True)

    def fits(self, issuer: str, subject: str) -> bool:
        """Whether these are the names that are wanted."""
        return self._fits(self.issuer, issuer) and self._fits(self.subject, subject)

    @property
    def value(self) -> list[object]:
        """What decides, for a policy's digest."""
        return [*(self._value(part) for part in (self.issuer, self.subject)), self.anchored]

    def __str__(self) -> str:
        """For messages: `ada@example.com (https://accounts.example.com)`."""
        issuer, subject = (
            f"/{part.pattern}/" if isinstance(part, re.Pattern) else part for part in (self.issuer, self.subject)
        )
        return f"{subject} ({issuer})"

    def _fits(self, wanted: str | re.Pattern[str], actual: str) -> bool:
        if isinstance(wanted, str):
            return wanted == actual
        return (wanted.fullmatch if self.anchored else wanted.search)(actual) is not None

    @staticmethod
    def _value(part: str | re.Pattern[str]) -> object:
        return [part.pattern, part.flags] if isinstance(part, re.Pattern) else part

    @classmethod
    def from_flux(cls, item: Mapping[str, Any], *, anchored: bool = True) -> Self:
        """An entry of Flux's `spec.verify.matchOIDCIdentity`; see `identities_from_flux`.

        Raises:
            ConfigurationError: It is none, or its patterns are not those of Go and Python alike.
        """
        unknown = set(item) - {"issuer", "subject"}
        if unknown:
            raise ConfigurationError(f"matchOIDCIdentity knows issuer and subject, not {', '.join(sorted(unknown))}")
        return cls(_pattern(item, "issuer"), _pattern(item, "subject"), anchored=anchored)


def identities_from_flux(items: Iterable[Mapping[str, Any]], *, anchored: bool = True) -> tuple[Identity, ...]:
    r"""Identities from Flux's `spec.verify.matchOIDCIdentity`: of each entry, issuer and subject are regular expressions.

    Flux finds them anywhere in a name, so that `https://github.com/org` also lets
    `https://evil.example/https://github.com/org` through. Here they have to fit the whole name. A pattern that was meant to
    be the beginning of one fits nothing then; it needs `.*` at its end, or `anchored=False`.

    >>> [item] = identities_from_flux([{"issuer": "^https://ci\\.example\\.com$", "subject": "^https://git\\.example\\.com/.*"}])
    >>> item.fits("https://ci.example.com", "https://git.example.com/shop")
    True

    Raises:
        ConfigurationError: There are none: nobody is meant by that in Flux, too, but it lets everybody through. Or one is malformed.
    """
    identities = tuple(Identity.from_flux(item, anchored=anchored) for item in items)
    if not identities:
        raise ConfigurationError(
            "matchOIDCIdentity is empty, which would let everybody's signature through",
            hint="name issuer and subject",
        )
    return identities


def _pattern(item: Mapping[str, Any], name: str) -> re.Pattern[str]:
    text = item.get(name)
    if not isinstance(text, str) or not text:
        raise ConfigurationError(f"an entry of matchOIDCIdentity has no {name}")
    if _NOT_RE2.search(text):
        raise ConfigurationError(f"the {name} {text!r} uses syntax that Go's and Python's patterns do not share")
    try:
        return re.compile(text, re.ASCII)  # in Go's syntax, classes such as \d are of ASCII only
    except re.error as exc:
        raise ConfigurationError(f"the {name} {text!r} is not a regular expression: {exc}") from exc


def identity_of(certificate: "Certificate") -> tuple[str, str]:
    """Issuer and subject in a certificate of Fulcio's.

    Raises:
        VerificationError: 7: it does not name exactly one of each.
    """
    issuer, subject = _issuer(certificate), _subject(certificate)
    for text in (issuer, subject):
        # A line break would end the name for one reader ($), and not for another.
        if not text or len(text) > _MAX_NAME or not text.isprintable():
            raise failed(OCICheck.SIGNER, f"the certificate has an unreasonable name, {text[:100]!a}")
    return issuer, subject


def _subject(certificate: "Certificate") -> str:
    from cryptography import x509  # noqa: PLC0415 - an extra
    from cryptography.hazmat import asn1  # noqa: PLC0415

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise failed(OCICheck.SIGNER, "the certificate does not say whose it is") from None
    if len(names) != 1:
        raise failed(OCICheck.SIGNER, f"the certificate has {len(names)} names, not one")
    name = names[0]
    if isinstance(name, x509.RFC822Name | x509.UniformResourceIdentifier):
        return name.value
    if isinstance(name, x509.OtherName) and name.type_id.dotted_string == _OTHER_NAME:
        return asn1.decode_der(str, name.value)
    raise failed(OCICheck.SIGNER, "the certificate's name is not of a kind that Fulcio writes")


def _issuer(certificate: "Certificate") -> str:
    """The extension of today has DER in it, the one that it replaces bare text; most certificates have both."""
    from cryptography import x509  # noqa: PLC0415 - an extra
    from cryptography.hazmat import asn1  # noqa: PLC0415

    issuers = set()
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.UnrecognizedExtension):
            if extension.oid.dotted_string == _ISSUER_V1:
                issuers.add(extension.value.value.decode())
            elif extension.oid.dotted_string == _ISSUER_V2:
                issuers.add(asn1.decode_der(str, extension.value.value))
    if len(issuers) != 1:
        raise failed(OCICheck.SIGNER, f"the certificate names {len(issuers) or 'no'} issuers, not one")
    return issuers.pop()

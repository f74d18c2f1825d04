"""notation's trust policy document: for which repositories, how strictly, by whose certificates, and by which names in them.

The file is notation's own (`trustpolicy.json`, `trustpolicy.oci.json`), and the rules about it are, too: a document that
notation would refuse is refused.
"""

import enum
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Self

import attrs

from fluxsrc.errors import ConfigurationError
from fluxsrc.signatures.notation.names import DistinguishedName

__all__ = ["Action", "Statement", "StoreKind", "TrustPolicy", "Validation"]

_MAX_BYTES: Final = 1 << 20
_WILDCARD: Final = "*"
_SUBJECT: Final = "x509.subject"
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9.-]+(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+")
_ALWAYS, _AFTER_EXPIRY = "always", "afterCertExpiry"


class Action(enum.StrEnum):
    """What becomes of a validation that fails."""

    ENFORCE = "enforce"
    LOG = "log"
    SKIP = "skip"


class Validation(enum.StrEnum):
    """What is validated."""

    INTEGRITY = "integrity"
    AUTHENTICITY = "authenticity"
    TIMESTAMP = "authenticTimestamp"
    EXPIRY = "expiry"
    REVOCATION = "revocation"


class StoreKind(enum.StrEnum):
    """Whose certificates are in a trust store."""

    CA = "ca"
    AUTHORITY = "signingAuthority"
    TSA = "tsa"


_ENFORCED: Final[Mapping[str, frozenset[Validation]]] = {
    "strict": frozenset(Validation),
    "permissive": frozenset({Validation.INTEGRITY, Validation.AUTHENTICITY}),
    "audit": frozenset({Validation.INTEGRITY}),
    "skip": frozenset(),
}


@attrs.frozen(kw_only=True)
class Statement:
    """What holds for some repositories.

    Attributes:
        name: Its name.
        scopes: The repositories, `HOST/REPOSITORY`; ("*",) is all that no other statement names.
        level: "strict", "permissive", "audit" or "skip", "custom" with overrides.
        actions: What becomes of each validation that fails.
        timestamp_always: Whether a timestamp is needed even if the certificates are still valid.
        stores: Kind and name of each trust store.
        identities: Names of which the signer has to have one; None is anyone.
    """

    name: str
    scopes: tuple[str, ...]
    level: str
    actions: tuple[tuple[Validation, Action], ...]
    timestamp_always: bool
    stores: tuple[tuple[StoreKind, str], ...]
    identities: tuple[DistinguishedName, ...] | None

    def action(self, validation: Validation) -> Action:
        """What becomes of this one."""
        return dict(self.actions)[validation]

    @property
    def is_verification(self) -> bool:
        """Whether a signature by anybody else could not pass."""
        return self.action(Validation.AUTHENTICITY) is Action.ENFORCE

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Read a statement.

        Raises:
            ConfigurationError: It is none, or one that notation would refuse.
        """
        document = _object(value, "a statement")
        _known(
            document,
            "name",
            "registryScopes",
            "signatureVerification",
            "trustStores",
            "trustedIdentities",
            "globalPolicy",
        )
        name = document.get("name")
        if not isinstance(name, str) or not name:
            raise ConfigurationError("a statement of the trust policy has no name")
        if document.get("globalPolicy"):
            raise ConfigurationError(f"{name}: globalPolicy is for blobs, not for registries")
        level, actions, timestamp_always = _verification(document.get("signatureVerification"), name)
        stores, identities = _texts(document, "trustStores"), _texts(document, "trustedIdentities")
        if level == "skip" and (stores or identities):
            raise ConfigurationError(f"{name}: nobody is trusted where verification is skipped")
        if level != "skip" and not (stores and identities):
            raise ConfigurationError(f"{name}: trustStores and trustedIdentities are both needed")
        return cls(
            name=name,
            scopes=_scopes(_texts(document, "registryScopes"), name),
            level=level,
            actions=actions,
            timestamp_always=timestamp_always,
            stores=tuple(_store(each, name) for each in stores),
            identities=_identities(identities, name),
        )


@attrs.frozen
class TrustPolicy:
    """A trust policy document.

    Attributes:
        statements: Each for repositories of its own.
    """

    statements: tuple[Statement, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `trustpolicy.json`.

        Raises:
            ConfigurationError: It is none, or one that notation would refuse.
        """
        if len(text) > _MAX_BYTES:
            raise ConfigurationError(f"the trust policy is larger than {_MAX_BYTES:,} bytes")
        try:
            document = _object(json.loads(text, object_pairs_hook=_unique), "the trust policy")
        except RecursionError as exc:
            raise ConfigurationError("the trust policy is nested too deeply") from exc
        except ValueError as exc:
            if isinstance(exc, ConfigurationError):
                raise
            raise ConfigurationError(f"the trust policy is no JSON: {exc}") from exc
        _known(document, "version", "trustPolicies")
        if document.get("version") != "1.0":
            raise ConfigurationError(
                f"a trust policy of the version {document.get('version')!r:.20}; this is for '1.0'"
            )
        statements = document.get("trustPolicies")
        if not isinstance(statements, list) or not statements:
            raise ConfigurationError("the trust policy has no statements", hint='"trustPolicies": [...]')
        found = tuple(Statement.parse(each) for each in statements)
        for what, all_of_them in (
            ("name", [each.name for each in found]),
            ("registry scope", [scope for each in found for scope in each.scopes]),
        ):
            twice = {each for each in all_of_them if all_of_them.count(each) > 1}
            if twice:
                raise ConfigurationError(f"the trust policy has the {what} {min(twice)!r} in more than one statement")
        return cls(found)

    @property
    def stores(self) -> tuple[tuple[StoreKind, str], ...]:
        """Kind and name of each trust store that a statement names, sorted."""
        return tuple(sorted({each for statement in self.statements for each in statement.stores}))

    def statement_for(self, repository: str) -> Statement | None:
        """The statement that names this repository, or else the one for all others; None if there is neither."""
        by_scope = {scope: each for each in self.statements for scope in each.scopes}
        return by_scope.get(repository) or by_scope.get(_WILDCARD)


def _verification(value: Any, name: str) -> tuple[str, tuple[tuple[Validation, Action], ...], bool]:
    document = _object(value, f"{name}: signatureVerification")
    _known(document, "level", "override", "verifyTimestamp")
    level = document.get("level")
    if not isinstance(level, str) or level not in _ENFORCED:
        raise ConfigurationError(f"{name}: not a level: {level!r:.40}", hint=", ".join(_ENFORCED))
    lenient = Action.SKIP if level == "skip" else Action.LOG
    actions = {each: Action.ENFORCE if each in _ENFORCED[level] else lenient for each in Validation}
    overrides = _object(document.get("override") or {}, f"{name}: override")
    if overrides and level == "skip":
        raise ConfigurationError(f"{name}: there is nothing to override where verification is skipped")
    for key, text in overrides.items():
        try:
            validation, action = Validation(key), Action(text)
        except ValueError:
            raise ConfigurationError(f"{name}: no such override: {key!r:.40}: {text!r:.40}") from None
        if validation is Validation.INTEGRITY or (action is Action.SKIP and validation is not Validation.REVOCATION):
            raise ConfigurationError(f"{name}: {key} cannot be overridden with {text}")
        actions[validation] = action
    timestamp = document.get("verifyTimestamp", _ALWAYS)
    if timestamp not in (_ALWAYS, _AFTER_EXPIRY):
        raise ConfigurationError(f"{name}: verifyTimestamp is {_ALWAYS} or {_AFTER_EXPIRY}, not {timestamp!r:.40}")
    return "custom" if overrides else level, tuple(sorted(actions.items())), timestamp == _ALWAYS


def _scopes(scopes: tuple[str, ...], name: str) -> tuple[str, ...]:
    if not scopes or (_WILDCARD in scopes and len(scopes) > 1):
        raise ConfigurationError(f"{name}: registryScopes are repositories, or '*' alone")
    for scope in scopes:
        if scope != _WILDCARD and not _REPOSITORY.fullmatch(scope):
            raise ConfigurationError(
                f"{name}: not a repository: {scope[:100]!r}", hint="HOST/REPOSITORY, without a tag"
            )
    return scopes


def _store(text: str, name: str) -> tuple[StoreKind, str]:
    kind, colon, store = text.partition(":")
    if not colon or kind not in set(StoreKind) or not _NAME.fullmatch(store) or not store.strip("."):
        raise ConfigurationError(
            f"{name}: not a trust store: {text[:80]!r}", hint="ca:NAME, signingAuthority:NAME, tsa:NAME"
        )
    return StoreKind(kind), store


def _identities(texts: tuple[str, ...], name: str) -> tuple[DistinguishedName, ...] | None:
    if _WILDCARD in texts:
        if len(texts) > 1:
            raise ConfigurationError(f"{name}: the trusted identity '*' stands alone")
        return None
    found = []
    for text in texts:
        prefix, colon, value = text.partition(":")
        if not colon or prefix != _SUBJECT:
            raise ConfigurationError(
                f"{name}: not a trusted identity: {text[:100]!r}", hint=f"'{_SUBJECT}: C=…, ST=…, O=…'"
            )
        found.append(DistinguishedName.parse(value))
    for number, first in enumerate(found):
        if any(first.covers(other) for place, other in enumerate(found) if place != number):
            raise ConfigurationError(f"{name}: one of the trusted identities is part of another")
    return tuple(found)


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{what} is not an object")
    return value


def _known(document: dict[str, Any], *names: str) -> None:
    """A misspelt restriction must not be passed over."""
    unknown = set(document) - set(names)
    if unknown:
        raise ConfigurationError(f"the trust policy has {min(unknown)!r:.60}, which is not known")


def _texts(document: dict[str, Any], name: str) -> tuple[str, ...]:
    value = document.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ConfigurationError(f"{name} is a list of texts")
    return tuple(value)


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    items = list(pairs)
    if len(dict(items)) != len(items):
        raise ConfigurationError("the trust policy has a key twice")
    return dict(items)

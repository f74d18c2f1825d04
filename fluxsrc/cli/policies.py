"""`--verify-key` and its companions: what has to hold of a source, from files that the user names."""

import re
from pathlib import Path
from typing import Any

from fluxsrc.cli.asked import Asked
from fluxsrc.cli.options import named_values
from fluxsrc.errors import ConfigurationError
from fluxsrc.signatures import CosignKeylessSignature, CosignKeySignature, GitSignature, Identity, TrustedRoot
from fluxsrc.signatures.notation import NotationSignature
from fluxsrc.signed_lock import SignedLock
from fluxsrc.urls import address_of
from fluxsrc.verify import AllOf, Policy

__all__ = ["policy_for"]


def policy_for(url: str, asked: Asked) -> Policy[Any]:
    """The policy for a source of this kind.

    Raises:
        ConfigurationError: A file holds no keys that fit, or an option is not one for this kind.
        VerificationError: 3: a lock has to be signed, and is not.
    """
    if asked.lock is None:
        if asked.lock_source is not None:
            raise ConfigurationError("--verify-lock-source is a name in which lock?", hint="give --verify-lock FILE")
        return _signed(url, asked)
    lock = _signed_lock(asked, asked.lock)
    # Keys and names are the lock's then. What is left has to hold besides, of the source's own signatures.
    rest = asked._replace(lock=None, lock_source=None, key=(), identity=())
    return AllOf([_signed(url, rest), lock]) if rest.flags else lock


def _signed_lock(asked: Asked, file: Path) -> SignedLock:
    """By the content."""
    if not asked.key:
        raise ConfigurationError("who has to have signed the lock?", hint="give --verify-key FILE")
    return SignedLock.from_files(file, keys=asked.key, source=asked.lock_source, identities=asked.identity)


def _signed(url: str, asked: Asked) -> Policy[Any]:
    """By the source's own signatures."""
    scheme = address_of(url).scheme
    if scheme.startswith("oci"):
        _refuse(asked, scheme, "--verify-mode")
        return _cosign(asked) if asked.trust_policy is None else _notation(asked, asked.trust_policy)
    if not scheme.startswith("git"):
        raise ConfigurationError(
            f"{scheme} sources have no signatures that {next(iter(asked.flags))} could check",
            hint="sign their content: --verify-lock FILE",
        )
    of_registries = ("issuer", "trusted-root", "tuf-cache", "layout", "annotation", "repository")
    of_notation = ("trust-policy", "trust-store", "crl")
    _refuse(asked, scheme, *(f"--verify-{name}" for name in (*of_registries, *of_notation)))
    if not asked.key:
        raise _nobody(asked)
    return GitSignature.from_files(*asked.key, mode=asked.mode or "HEAD", identities=asked.identity)


def _notation(asked: Asked, file: Path) -> NotationSignature:
    """By notation's trust policy."""
    for name in ("key", "identity", "issuer", "trusted-root", "tuf-cache", "layout"):
        if f"--verify-{name}" in asked.flags:
            raise ConfigurationError(
                f"--verify-{name} is about other signatures than --verify-trust-policy", hint="leave one out"
            )
    return NotationSignature.from_files(
        file,
        trust_store=asked.trust_store,
        crls=asked.crl,
        annotations=named_values(asked.annotation, "--verify-annotation"),
        repository=asked.repository,
    )


def _cosign(asked: Asked) -> Policy[Any]:
    """By keys, or by the names in certificates."""
    for name in ("--verify-trust-store", "--verify-crl"):
        if name in asked.flags:
            raise ConfigurationError(f"{name} is part of notation's", hint="give --verify-trust-policy FILE as well")
    layouts = asked.layout or ("bundle", "cosign")
    annotations = named_values(asked.annotation, "--verify-annotation")
    if asked.key:
        for name in ("--verify-identity", "--verify-issuer", "--verify-trusted-root", "--verify-tuf-cache"):
            if name in asked.flags:
                raise ConfigurationError(
                    f"{name} is about certificates, and --verify-key about keys", hint="leave one out"
                )
        return CosignKeySignature.from_files(
            *asked.key, layouts=layouts, annotations=annotations, repository=asked.repository
        )
    if not asked.identity or asked.issuer is None:
        raise _nobody(asked)
    issuer = _name(asked.issuer)
    return CosignKeylessSignature(
        [Identity(issuer, _name(identity)) for identity in asked.identity],
        trusted_root=_trusted_root(asked),
        layouts=layouts,
        annotations=annotations,
        repository=asked.repository,
    )


def _trusted_root(asked: Asked) -> TrustedRoot:
    """From a file, over TUF, or as it is installed."""
    if asked.trusted_root is None:
        return TrustedRoot.bundled() if asked.tuf_cache is None else TrustedRoot.refresh(asked.tuf_cache)
    if asked.tuf_cache is not None:
        raise ConfigurationError("--verify-tuf-cache and --verify-trusted-root are two roots", hint="leave one out")
    return TrustedRoot.from_file(asked.trusted_root)


def _name(text: str) -> str | re.Pattern[str]:
    """A name as it is; or, between slashes, a pattern for the whole of it. No name that an issuer vouches for begins with one."""
    if not (text.startswith("/") and text.endswith("/")) or len(text) <= len("//"):
        return text
    try:
        return re.compile(text[1:-1], re.ASCII)
    except re.error as exc:
        raise ConfigurationError(f"{text} is not a regular expression: {exc}") from exc


def _nobody(asked: Asked) -> ConfigurationError:
    return ConfigurationError(
        f"{next(iter(asked.flags))} does not say by whom it has to be signed",
        hint="give --verify-key FILE; for certificates in a registry --verify-identity NAME and --verify-issuer URL, or "
        "--verify-trust-policy FILE",
    )


def _refuse(asked: Asked, scheme: str, *names: str) -> None:
    for name in names:
        if name in asked.flags:
            raise ConfigurationError(f"{scheme} sources take no {name}", hint="leave it out: it changes nothing")

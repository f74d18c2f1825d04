"""`--verify-key` and its companions: what has to hold of a source, from files that the user names."""

import re
from typing import Any

from fluxsrc.cli.asked import Asked
from fluxsrc.cli.options import named_values
from fluxsrc.errors import ConfigurationError
from fluxsrc.signatures import CosignKeylessSignature, CosignKeySignature, GitSignature, Identity, TrustedRoot
from fluxsrc.urls import address_of
from fluxsrc.verify import Policy

__all__ = ["policy_for"]


def policy_for(url: str, asked: Asked) -> Policy[Any]:
    """The policy for a source of this kind.

    Raises:
        ConfigurationError: A file holds no keys that fit, or an option is not one for this kind.
    """
    scheme = address_of(url).scheme
    if scheme.startswith("oci"):
        _refuse(asked, scheme, "--verify-mode")
        return _cosign(asked)
    if not scheme.startswith("git"):
        raise ConfigurationError(
            f"{scheme} sources have no signatures that {next(iter(asked.flags))} could check",
            hint="fluxsrc.SignedLock verifies their content",
        )
    of_registries = ("issuer", "trusted-root", "layout", "annotation", "repository")
    _refuse(asked, scheme, *(f"--verify-{name}" for name in of_registries))
    if not asked.key:
        raise _nobody(asked)
    return GitSignature.from_files(*asked.key, mode=asked.mode or "HEAD", identities=asked.identity)


def _cosign(asked: Asked) -> Policy[Any]:
    """By keys, or by the names in certificates."""
    layouts = asked.layout or ("bundle", "cosign")
    annotations = named_values(asked.annotation, "--verify-annotation")
    if asked.key:
        for name in ("--verify-identity", "--verify-issuer", "--verify-trusted-root"):
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
    root = TrustedRoot.bundled() if asked.trusted_root is None else TrustedRoot.from_file(asked.trusted_root)
    return CosignKeylessSignature(
        [Identity(issuer, _name(identity)) for identity in asked.identity],
        trusted_root=root,
        layouts=layouts,
        annotations=annotations,
        repository=asked.repository,
    )


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
        hint="give --verify-key FILE; for certificates in a registry --verify-identity NAME and --verify-issuer URL",
    )


def _refuse(asked: Asked, scheme: str, *names: str) -> None:
    for name in names:
        if name in asked.flags:
            raise ConfigurationError(f"{scheme} sources take no {name}", hint="leave it out: it changes nothing")

"""`--verify-key` and its companions: what has to hold of a source, from files that the user names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from fluxsrc.cli.options import named_values
from fluxsrc.errors import ConfigurationError
from fluxsrc.signatures import CosignKeySignature, GitSignature
from fluxsrc.urls import address_of
from fluxsrc.verify import Policy

__all__ = ["Asked", "policy_for"]


@attrs.frozen(kw_only=True)
class Asked:
    """What the options say.

    Attributes:
        keys: Files of public keys.
        mode: Git: what has to be signed.
        identities: Git: who may have signed.
        layouts: Registries: where signatures may lie.
        annotations: Registries: what has to be signed besides, `NAME=VALUE`.
    """

    keys: tuple[Path, ...] = ()
    mode: str | None = None
    identities: tuple[str, ...] = ()
    layouts: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()

    @property
    def flags(self) -> Mapping[str, Any]:
        """Those that were given, by what they are called."""
        named = {
            "--verify-key": self.keys,
            "--verify-mode": self.mode,
            "--verify-identity": self.identities,
            "--verify-layout": self.layouts,
            "--verify-annotation": self.annotations,
        }
        return {name: value for name, value in named.items() if value}


def policy_for(url: str, asked: Asked) -> Policy[Any]:
    """The policy for a source of this kind.

    Raises:
        ConfigurationError: A file holds no keys that fit, or an option is not one for this kind.
    """
    scheme = address_of(url).scheme
    if not asked.keys:
        given = next(iter(asked.flags))
        raise ConfigurationError(f"{given} says nothing without keys", hint="give --verify-key FILE")
    if scheme.startswith("oci"):
        _refuse(asked, scheme, "--verify-mode", "--verify-identity")
        return CosignKeySignature.from_files(
            *asked.keys,
            layouts=asked.layouts or ("bundle", "cosign"),
            annotations=named_values(asked.annotations, "--verify-annotation"),
        )
    if scheme.startswith("git"):
        _refuse(asked, scheme, "--verify-layout", "--verify-annotation")
        return GitSignature.from_files(*asked.keys, mode=asked.mode or "HEAD", identities=asked.identities)
    raise ConfigurationError(
        f"{scheme} sources have no signatures that --verify-key could check",
        hint="fluxsrc.SignedLock verifies their content",
    )


def _refuse(asked: Asked, scheme: str, *names: str) -> None:
    for name in names:
        if name in asked.flags:
            raise ConfigurationError(f"{scheme} sources take no {name}", hint="leave it out: it changes nothing")

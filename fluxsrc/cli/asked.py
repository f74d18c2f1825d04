"""`--verify-…`: the options that say what has to hold of a source. What becomes of them is in `fluxsrc.cli.policies`."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from fluxsrc.cli.paths import Place
from fluxsrc.cli.sections import verification_option

__all__ = ["Asked", "verify_options"]

Decorated = Callable[..., Any]


class Asked(NamedTuple):
    """What the options say.

    Attributes:
        key: Files of public keys: of the source, or of a signed lock.
        mode: Git: what has to be signed.
        identity: Git: who may have signed. Registries, with an issuer: whose certificate it has to be, `/…/` for a pattern.
        issuer: Registries: who vouches for these identities, `/…/` for a pattern.
        trusted_root: Registries: the authorities and logs that are trusted; those of sigstore.dev if nothing is said.
        tuf_cache: Registries: a directory into which sigstore.dev's current ones are fetched first.
        layout: Registries: where signatures may lie.
        annotation: Registries: what has to be signed besides, `NAME=VALUE`.
        repository: Registries: what has to be signed as the image's name, `HOST/REPOSITORY`; what a trust policy is asked about.
        trust_policy: Registries: notation's trust policy.
        trust_store: Registries: the directory of its trust stores.
        crl: Registries: files of certificate revocation lists.
        lock: A lock file that is signed, and has the content.
        lock_source: The source's name there.
    """

    key: tuple[Path, ...] = ()
    mode: str | None = None
    identity: tuple[str, ...] = ()
    issuer: str | None = None
    trusted_root: Path | None = None
    tuf_cache: Path | None = None
    layout: tuple[str, ...] = ()
    annotation: tuple[str, ...] = ()
    repository: str | None = None
    trust_policy: Path | None = None
    trust_store: Path | None = None
    crl: tuple[Path, ...] = ()
    lock: Path | None = None
    lock_source: str | None = None

    @property
    def flags(self) -> Mapping[str, Any]:
        """Those that were given, by what they are called."""
        values = self._asdict()
        return {f"--verify-{name.replace('_', '-')}": value for name, value in values.items() if value}


_FILE: Final = Place(dir_okay=False, path_type=Path)
_OPTIONS: Final = (
    verification_option(
        "--verify-lock-source", metavar="NAME", help="The source's name in that lock, if its URL is another one there."
    ),
    verification_option(
        "--verify-lock",
        type=_FILE,
        help="The content has to be what this lock file has, signed (FILE.sig) by one of the --verify-key files.",
    ),
    verification_option(
        "--verify-crl", multiple=True, type=_FILE, help="OCI: which of notation's certificates are revoked. Repeatable."
    ),
    verification_option(
        "--verify-trust-store",
        type=Place(file_okay=False, path_type=Path),
        help="OCI: notation's trust stores, if they are not beside the trust policy.",
    ),
    verification_option(
        "--verify-trust-policy", type=_FILE, help="OCI: accept only what notation's trust policy does."
    ),
    verification_option(
        "--verify-repository", metavar="HOST/REPOSITORY", help="OCI: this has to be signed as the image's name."
    ),
    verification_option(
        "--verify-annotation", multiple=True, metavar="NAME=VALUE", help="OCI: this has to be signed, too. Repeatable."
    ),
    verification_option(
        "--verify-layout",
        multiple=True,
        type=click.Choice(("bundle", "cosign")),
        help="OCI: where signatures may lie; both, if none is named. Repeatable.",
    ),
    verification_option(
        "--verify-tuf-cache",
        type=Place(file_okay=False, path_type=Path),
        help="OCI: fetch sigstore.dev's current authorities and logs into this directory first.",
    ),
    verification_option(
        "--verify-trusted-root", type=_FILE, help="OCI: trust these authorities and logs, not sigstore.dev's."
    ),
    verification_option(
        "--verify-issuer", metavar="URL", help="OCI: who has to vouch for the identities; /REGEX/ for a pattern."
    ),
    verification_option(
        "--verify-identity",
        multiple=True,
        metavar="NAME",
        help="Git: who has to have signed. OCI: whose certificate it has to be; /REGEX/ for a pattern. Repeatable.",
    ),
    verification_option(
        "--verify-mode",
        type=click.Choice(("HEAD", "Tag", "TagAndHEAD")),
        help="Git: what has to be signed; HEAD if nothing is said.",
    ),
    verification_option(
        "--verify-key",
        multiple=True,
        type=_FILE,
        help="Git, OCI: accept only what is signed by a key in this file. Repeatable.",
    ),
)


def verify_options(command: Decorated) -> Decorated:
    """All of them. The command is given `asked`."""

    @functools.wraps(command)
    def with_asked(*args: Any, **kwargs: Any) -> Any:
        asked = Asked(**{name: kwargs.pop(f"verify_{name}") for name in Asked._fields})
        return command(*args, asked=asked, **kwargs)

    for option in _OPTIONS:
        with_asked = option(with_asked)
    return with_asked

"""`sign`: sign what is in a registry or an image layout; and how `push --sign` finds its key."""

import functools
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import attrs
import click

from fluxsrc.auth import Secret
from fluxsrc.cli.options import common_options, named_values, timeout_option
from fluxsrc.cli.remotes import Remotes, remote_options
from fluxsrc.cli.render import echo_json, facts
from fluxsrc.cli.session import Session, pass_session
from fluxsrc.errors import ConfigurationError
from fluxsrc.oci import Access, parse_reference
from fluxsrc.signatures.privatekeys import SigningKey

__all__ = ["SignerOptions", "read_key", "sign", "signatures_document", "signatures_rows", "signer_options"]

PASSWORD_VARIABLES: Final = ("FLUXSRC_KEY_PASSWORD", "COSIGN_PASSWORD")
"""Where the password of an encrypted key may stand. Read here, and nowhere in the library."""
_MAX_KEY: Final = 64 * 1024


@attrs.frozen(kw_only=True)
class SignerOptions:
    """How to sign.

    Attributes:
        layout: Where signatures go.
        signed_annotation: What is signed besides, `NAME=VALUE`.
        identity: What the image is called in the signature.
    """

    layout: tuple[str, ...] = ()
    signed_annotation: tuple[str, ...] = ()
    identity: str | None = None

    def signer(self, key: Path) -> Any:
        """What signs with the key in a file."""
        return import_module("fluxsrc.signing").CosignSigner(
            read_key(key),
            layouts=self.layout or ("bundle",),
            annotations=named_values(self.signed_annotation, "--signed-annotation"),
            identity=self.identity,
        )


def signer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--layout`, `--signed-annotation`, `--identity`. The command is given `how`."""

    @functools.wraps(command)
    def with_signer(*args: Any, **kwargs: Any) -> Any:
        how = SignerOptions(**{field.name: kwargs.pop(field.name) for field in attrs.fields(SignerOptions)})
        return command(*args, how=how, **kwargs)

    for option in (
        click.option(
            "--identity", metavar="HOST/REPOSITORY", help="What to call it in the signature, if not what it is."
        ),
        click.option(
            "--signed-annotation", multiple=True, metavar="NAME=VALUE", help="Sign this fact as well. Repeatable."
        ),
        click.option(
            "--layout",
            multiple=True,
            type=click.Choice(("bundle", "cosign")),
            help="Where the signature goes: bundle (the default: a referrer, as cosign 3 has it) or cosign (the .sig tag of "
            "cosign 1 and 2). Repeatable.",
        ),
    ):
        with_signer = option(with_signer)
    return with_signer


@click.command()
@click.argument("reference")
@click.option("--key", required=True, type=click.Path(dir_okay=False, path_type=Path), help="A private key in PEM.")
@signer_options
@remote_options
@timeout_option
@common_options
@pass_session
def sign(session: Session, reference: str, key: Path, how: SignerOptions, remotes: Remotes, timeout: float) -> None:
    """Sign what REFERENCE names, oci://HOST/REPOSITORY@DIGEST or oci-layout:PATH@DIGEST, for cosign, Flux and fluxsrc.

    A key may be one of cosign's, or PKCS #8. If it is encrypted, the password is taken from $FLUXSRC_KEY_PASSWORD or
    $COSIGN_PASSWORD, or asked for on a terminal. Signing twice changes nothing.
    """
    target = parse_reference(reference)
    access = Access(**remotes.options(reference))
    signer = how.signer(key)
    with session.operation(timeout) as operation:
        made = import_module("fluxsrc.signing").sign(target, signer, access=access, operation=operation)
    if session.json:
        echo_json({"reference": str(target), "signatures": signatures_document(made)})
    else:
        click.echo(facts([("signed", str(target)), *signatures_rows(made)]))


def read_key(path: Path) -> SigningKey:
    """The key in a file; its password comes from the environment, or from whoever sits at the terminal.

    Raises:
        ConfigurationError: It cannot be read or opened.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_KEY + 1).decode("ascii")
    except OSError as exc:
        raise ConfigurationError(f"cannot read the private key {path}: {exc.strerror or exc}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"the private key {path} is not PEM") from None
    password = _password(path) if SigningKey.needs_password(text) else None
    try:
        return SigningKey.parse(Secret(text), password)
    except ConfigurationError as exc:
        raise ConfigurationError(f"{path}: {exc.message}", hint=exc.hint) from None


def _password(path: Path) -> Secret:
    for name in PASSWORD_VARIABLES:
        if name in os.environ:
            return Secret(os.environ[name])
    if not sys.stdin.isatty():
        raise ConfigurationError(f"the private key {path} is encrypted", hint=f"set {PASSWORD_VARIABLES[0]}")
    return Secret(click.prompt(f"Password of {path}", hide_input=True, err=True, default="", show_default=False))


def signatures_rows(made: Any) -> list[tuple[str, str]]:
    """What was signed with what, for people."""
    return [(each.layout.value, f"{each.manifest} by {each.by}") for each in made]


def signatures_document(made: Any) -> list[dict[str, Any]]:
    """The same, for programs."""
    return [
        {
            "layout": each.layout.value,
            "manifest": str(each.manifest),
            "key": each.by,
            "annotations": dict(each.annotations),
        }
        for each in made
    ]

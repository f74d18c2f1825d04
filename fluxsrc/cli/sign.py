"""`sign`: sign what is in a registry or an image layout; and how `push` finds its key, or its name."""

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
from fluxsrc.cli.options import named_values, timeout_option
from fluxsrc.cli.paths import Place
from fluxsrc.cli.remotes import Remotes, remote_options
from fluxsrc.cli.render import echo, echo_json, facts
from fluxsrc.cli.sections import command, signing_option
from fluxsrc.cli.session import Session, common_options, pass_session
from fluxsrc.errors import ConfigurationError
from fluxsrc.oci import Access, parse_reference
from fluxsrc.signatures.privatekeys import SigningKey
from fluxsrc.signatures.trustedroot import TrustedRoot

__all__ = ["SignerOptions", "read_key", "sign", "signatures_document", "signatures_rows", "signer_options"]

PASSWORD_VARIABLES: Final = ("FLUXSRC_KEY_PASSWORD", "COSIGN_PASSWORD")
"""Where the password of an encrypted key may stand. Read here, and nowhere in the library."""
TOKEN_VARIABLE: Final = "SIGSTORE_ID_TOKEN"  # noqa: S105 - its name
"""Where an identity token may stand; the name that cosign knows, too."""
_MAX_KEY: Final = 64 * 1024


@attrs.frozen(kw_only=True)
class SignerOptions:
    """How to sign.

    Attributes:
        layout: Where signatures go.
        signed_annotation: What is signed besides, `NAME=VALUE`.
        identity: What the image is called in the signature.
        keyless: With a certificate for the name in an identity token, and without a key.
        signing_config: Who is asked for certificate and log entry; sigstore.dev if nothing is said.
        trusted_root: Whose answers count; sigstore.dev's if nothing is said.
    """

    layout: tuple[str, ...] = ()
    signed_annotation: tuple[str, ...] = ()
    identity: str | None = None
    keyless: bool = False
    signing_config: Path | None = None
    trusted_root: Path | None = None

    def signer(self, key: Path | None, flag: str) -> Any:
        """What signs: with the key in a file, or with a name.

        Args:
            key: The file.
            flag: What asks for it, for messages.

        Raises:
            ConfigurationError: Nothing says with what, or something would have no effect.
        """
        if (key is None) != self.keyless:
            raise ConfigurationError("sign with which key?", hint=f"give {flag} FILE, or --keyless; not both")
        signing = import_module("fluxsrc.signing")
        annotations = named_values(self.signed_annotation, "--signed-annotation")
        if key is not None:
            if self.signing_config or self.trusted_root:
                raise ConfigurationError("--signing-config and --trusted-root are about --keyless")
            layouts = self.layout or ("bundle",)
            return signing.CosignSigner(read_key(key), layouts=layouts, annotations=annotations, identity=self.identity)
        if set(self.layout) - {"bundle"}:
            raise ConfigurationError(
                "--keyless signs bundles only", hint="cosign 3 and current versions of Flux read them"
            )
        config, root = signing.SigningConfig, TrustedRoot
        return signing.CosignKeylessSigner(
            Secret(os.environ[TOKEN_VARIABLE]) if TOKEN_VARIABLE in os.environ else signing.ambient_token(),
            config=config.from_file(self.signing_config) if self.signing_config else config.bundled(),
            trusted_root=root.from_file(self.trusted_root) if self.trusted_root else root.bundled(),
            annotations=annotations,
            identity=self.identity,
        )


def signer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--keyless`, `--layout`, `--signed-annotation` and the like. The command is given `how`."""

    @functools.wraps(command)
    def with_signer(*args: Any, **kwargs: Any) -> Any:
        how = SignerOptions(**{field.name: kwargs.pop(field.name) for field in attrs.fields(SignerOptions)})
        return command(*args, how=how, **kwargs)

    a_file = Place(dir_okay=False, path_type=Path)
    for option in (
        signing_option("--trusted-root", type=a_file, help="Keyless: a trusted_root.json, in place of sigstore.dev's."),
        signing_option(
            "--signing-config", type=a_file, help="Keyless: a signing_config.json, in place of sigstore.dev's."
        ),
        signing_option(
            "--keyless",
            is_flag=True,
            help=f"Sign with your name, not with a key: by the token in ${TOKEN_VARIABLE}, or the CI job's own.",
        ),
        signing_option(
            "--identity", metavar="HOST/REPOSITORY", help="What to call it in the signature, if not what it is."
        ),
        signing_option(
            "--signed-annotation", multiple=True, metavar="NAME=VALUE", help="Sign this fact as well. Repeatable."
        ),
        signing_option(
            "--layout",
            multiple=True,
            type=click.Choice(("bundle", "cosign")),
            help="Where the signature goes: bundle (the default: a referrer, as cosign 3 has it) or cosign (the .sig tag of "
            "cosign 1 and 2). Repeatable.",
        ),
    ):
        with_signer = option(with_signer)
    return with_signer


@command()
@click.argument("reference")
@click.option("--key", type=Place(dir_okay=False, path_type=Path), help="A private key in PEM.")
@signer_options
@remote_options
@timeout_option
@common_options
@pass_session
def sign(
    session: Session, reference: str, key: Path | None, how: SignerOptions, remotes: Remotes, timeout: float
) -> None:
    """Sign what REFERENCE names in a registry or an image layout, for cosign, Flux and fluxsrc.

    A key may be one of cosign's, or PKCS #8. If it is encrypted, the password is taken from $FLUXSRC_KEY_PASSWORD or
    $COSIGN_PASSWORD, or asked for on a terminal. Signing twice with a key changes nothing.
    """
    target = parse_reference(reference)
    access = Access(**remotes.options(reference))
    signer = how.signer(key, "--key")
    with session.operation(timeout) as operation:
        made = import_module("fluxsrc.signing").sign(target, signer, access=access, operation=operation)
    if session.json:
        echo_json({"reference": str(target), "signatures": signatures_document(made)})
    else:
        echo(facts([("signed", str(target)), *signatures_rows(made)]))


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
    """What was signed by whom, for people."""
    return [
        (
            each.layout.value,
            f"{each.manifest} by {each.by}" + (f", log entry {each.log_index}" * (each.log_index is not None)),
        )
        for each in made
    ]


def signatures_document(made: Any) -> list[dict[str, Any]]:
    """The same, for programs."""
    return [
        {
            "layout": each.layout.value,
            "manifest": str(each.manifest),
            "by": each.by,
            "log_index": each.log_index,
            "annotations": dict(each.annotations),
        }
        for each in made
    ]

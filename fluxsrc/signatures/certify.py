"""Signing with a certificate that is made for just one signature: by Sigstore's own library, and verified before anybody sees it."""

import datetime as dt
import json
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import attrs

from fluxsrc.auth import Secret
from fluxsrc.digest import Digest
from fluxsrc.errors import (
    AuthenticationError,
    ConfigurationError,
    MissingExtraError,
    OperationCancelledError,
    RemoteProtocolError,
    TransportError,
    TransportTimeoutError,
)
from fluxsrc.operation import Operation
from fluxsrc.signatures.certified import Certified, Trust, verify_bundle
from fluxsrc.signatures.identity import Identity
from fluxsrc.signatures.trustedroot import TrustedRoot, embedded

if TYPE_CHECKING:
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken

__all__ = ["SigningConfig", "ambient_token", "certified_bundle"]

_TARGET: Final = "signing_config.v0.2.json"
_CLIENT: Final = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
_MAX_BYTES: Final = 1024 * 1024
_MAX_TOLD: Final = 300
_TICK: Final = 0.05
_ANYBODY: Final = Identity(re.compile(".+"), re.compile(".+"))


@attrs.frozen
class SigningConfig:
    """The content of a `signing_config.json`: which certificate authority, log and timestamp authority are asked when signing.

    Attributes:
        content: The file's bytes.
    """

    content: bytes = attrs.field(repr=lambda content: str(Digest.of(content)))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read a `signing_config.json`.

        Raises:
            ConfigurationError: It cannot be read. What is in it is looked at when something is signed.
        """
        try:
            with Path(path).open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
        except OSError as exc:
            raise ConfigurationError(f"cannot read the signing config {os.fspath(path)}: {exc.strerror}") from exc
        if len(content) > _MAX_BYTES:
            raise ConfigurationError(f"{os.fspath(path)} is larger than any signing config")
        return cls(content)

    @classmethod
    def bundled(cls) -> Self:
        """The public instance's (sigstore.dev), as it came with the installed version of the `sigstore` package.

        Raises:
            MissingExtraError: The package is not installed.
        """
        return cls(embedded(_TARGET))

    def model(self, root: TrustedRoot) -> "ClientTrustConfig":
        """It and a trusted root, as the library wants them.

        Raises:
            ConfigurationError: It is none, or names no service that could be asked now.
            MissingExtraError: There is nothing to read it with.
        """
        try:
            from sigstore.models import ClientTrustConfig  # noqa: PLC0415 - an extra
        except ImportError as exc:
            raise MissingExtraError("keyless signing", extra="verify") from exc
        try:
            parts = {"trustedRoot": json.loads(root.content), "signingConfig": json.loads(self.content)}
            config = ClientTrustConfig.from_json(json.dumps({"mediaType": _CLIENT, **parts}))
            _ = config.signing_config
        except Exception as exc:  # what may be wrong with it is the library's business
            raise ConfigurationError(f"the signing config cannot be used: {exc}"[:_MAX_TOLD]) from exc
        return config


def ambient_token() -> Secret:
    """The identity token that the machine this runs on has: of a job at GitHub, GitLab, Buildkite or CircleCI, of Google's clouds.

    Reads the environment, and asks the service that it names.

    Raises:
        AuthenticationError: There is none, or it could not be had.
        MissingExtraError: There is nothing to look for it with.
    """
    try:
        from sigstore.oidc import IdentityError, detect_credential  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise MissingExtraError("keyless signing", extra="verify") from exc
    try:
        token = detect_credential()
    except IdentityError as exc:
        raise AuthenticationError(f"no identity token: {exc}"[:_MAX_TOLD]) from None
    if token is None:
        raise AuthenticationError(
            "nothing here says who signs",
            hint="a CI job needs the permission to ask for identity tokens (id-token: write)",
        )
    return Secret(token)


def certified_bundle(
    token: Secret, statement: bytes, config: SigningConfig, root: TrustedRoot, operation: Operation
) -> tuple[bytes, Certified]:
    """Sign a statement: get a certificate for the token's identity, sign, and have it logged.

    Args:
        token: An OpenID Connect identity token for the audience `sigstore`.
        statement: The in-toto statement.
        config: Which services are asked.
        root: What has to vouch for their answers, as if somebody else had signed.
        operation: How long. A request that is under way when it ends is left to itself; what comes of it is not used.

    Returns:
        The bundle's JSON, and what is known of the signature.

    Raises:
        AuthenticationError: The token is none, or expired.
        ConfigurationError: The signing config cannot be used.
        TransportError: A service could not be reached, or not in time.
        OperationCancelledError: The caller lost interest.
        RemoteProtocolError: One refused, or answered what nobody could make sense of.
        VerificationError: What came out does not verify with this trusted root.
        MissingExtraError: There is nothing to sign with.
    """
    trust = config.model(root)
    from sigstore.dsse import Statement  # noqa: PLC0415 - an extra
    from sigstore.oidc import ExpiredIdentity  # noqa: PLC0415
    from sigstore.sign import SigningContext  # noqa: PLC0415

    who = _identity(token)

    def work() -> bytes:
        with SigningContext.from_trust_config(trust).signer(who, cache=True) as signer:
            return signer.sign_dsse(Statement(statement)).to_json().encode()

    try:
        bundle = _within(operation, work)
    except (OperationCancelledError, TransportTimeoutError):
        raise
    except ExpiredIdentity:
        raise AuthenticationError("the identity token has expired") from None
    except OSError as exc:  # what requests raises; with the request, and the token in it
        raise TransportError(f"cannot sign: {_told(exc, token)}") from None
    except Exception as exc:  # noqa: BLE001 - each service has errors of its own, none of them public
        raise RemoteProtocolError(f"cannot sign: {_told(exc, token)}") from None
    return bundle, verify_bundle(bundle, b"", Trust(root=root, identities=[_ANYBODY], now=dt.datetime.now(dt.UTC)))


def _within(operation: Operation, work: Callable[[], bytes]) -> bytes:
    """Do what knows no deadline, with one."""
    future: Future[bytes] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as exc:  # noqa: BLE001 - raised again where it is waited for
            future.set_exception(exc)

    operation.check("sign")
    threading.Thread(target=run, name="fluxsrc-sign", daemon=True).start()
    while not future.done():
        wait([future], operation.remaining("sign", at_most=_TICK))
    return future.result()


def _identity(token: Secret) -> "IdentityToken":
    from sigstore.oidc import IdentityError, IdentityToken  # noqa: PLC0415 - an extra

    try:
        return IdentityToken(token.reveal())
    except IdentityError as exc:
        raise AuthenticationError(f"the identity token cannot be used: {_told(exc, token)}") from None


def _told(exc: BaseException, token: Secret) -> str:
    """What went wrong, without the token: a service may repeat what it was sent."""
    causes = []
    cause: BaseException | None = exc
    while cause is not None:
        causes.append(f"{type(cause).__name__}: {cause}")
        cause = cause.__cause__
    return " ".join("; ".join(causes).replace(token.reveal(), "<token>").split())[:_MAX_TOLD]

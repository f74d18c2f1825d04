"""Who may read: whoever knows the token."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable

from fluxsrc.auth import Secret
from fluxsrc.errors import ConfigurationError

__all__ = ["Token", "admits", "token_source"]

Token = str | Secret | Callable[[], str | Secret]
"""The token, or what is asked for it with each request, so that it can change."""


def token_source(token: Token | None) -> Callable[[], Secret] | None:
    """Something to ask for the token, or None if there is none.

    Raises:
        ConfigurationError: The token is empty, now or when it is asked for: that would admit everybody.
    """
    if token is None:
        return None
    if not callable(token):
        fixed = _checked(token)
        return lambda: fixed
    return lambda: _checked(token())


def admits(authorization: str | None, token: Secret) -> bool:
    """Whether an `Authorization` field has the token: as Bearer, or as the password of Basic, which is what registries' clients send."""
    scheme, _, text = (authorization or "").partition(" ")
    given = text.strip().encode("latin-1", errors="replace")  # the bytes that were sent
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[2]
        except binascii.Error:
            given = b""
    elif scheme.lower() != "bearer":
        given = b""
    # Of the hashes, so that not even the token's length shows in how long this takes.
    expected = token.reveal().encode()
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(expected).digest())


def _checked(token: str | Secret) -> Secret:
    secret = token if isinstance(token, Secret) else Secret(token)
    if not secret:
        raise ConfigurationError("an empty token would admit everybody", hint="no token at all says so openly")
    return secret

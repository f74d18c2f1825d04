"""Who may do what at a registry: by basic authentication, or by tokens of its own token service."""

import base64
import secrets
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from fluxsrc.testing.registry.server import Registry

__all__ = ["challenge", "issue"]


def challenge(registry: "Registry", method: str, name: str | None, authorization: str) -> str | None:
    """None if a request is allowed, or what it has to hear instead.

    Args:
        registry: Its users and tokens decide.
        method: Of the request.
        name: The repository that it is about, if it is about one.
        authorization: What it brings.
    """
    if not registry.users:
        return None
    kind, _, value = authorization.partition(" ")
    if not registry.token:
        return None if kind == "Basic" and _knows(registry, value) else 'Basic realm="test"'
    action = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(method, "push")
    scope = f"repository:{name}:{action}" if name else None
    expires, scopes = registry.tokens.get(value, (0.0, set()))
    if kind == "Bearer" and expires > time.monotonic() and (scope is None or scope in scopes):
        return None
    wanted = "pull" if action == "pull" else f"pull,{action}"
    return f'Bearer realm="{registry.url}/token",service="test",scope="repository:{name}:{wanted}"'


def issue(registry: "Registry", query: str, form: str, authorization: str) -> dict[str, Any] | None:
    """What the token service answers to a question in a query (with basic authentication), or in a form; None: no."""
    pairs = parse_qsl(form or query)
    if form:
        fields = dict(pairs)
        good = fields.get("grant_type") == "refresh_token" and fields.get("refresh_token") in registry.users.values()
    else:
        kind, _, value = authorization.partition(" ")
        good = kind == "Basic" and _knows(registry, value)
    if not good:
        return None
    scopes: set[str] = set()
    for scope in " ".join(value for key, value in pairs if key == "scope").split():
        head, _, actions = scope.rpartition(":")
        scopes.update(f"{head}:{action}" for action in actions.split(","))
    token = secrets.token_hex(16)
    registry.tokens[token] = (time.monotonic() + registry.token_seconds, scopes)
    return {"access_token" if form else "token": token, "expires_in": registry.token_seconds}


def _knows(registry: "Registry", value: str) -> bool:
    user, _, password = base64.b64decode(value).decode().partition(":")
    return registry.users.get(user) == password

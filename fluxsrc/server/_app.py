"""The application: routes, who may read, what becomes of errors."""

import asyncio
import contextlib
import datetime as dt
import logging
import time
from collections.abc import Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, Final

import attrs

from fluxsrc.artifact import SourceKey
from fluxsrc.errors import ArtifactNotFoundError, ConfigurationError, DigestMismatchError, FluxSrcError
from fluxsrc.server._artifacts import artifact_at
from fluxsrc.server._blobs import Blobs, StreamBlobs
from fluxsrc.server._files import FileBlobs
from fluxsrc.server._http import ASGIApplication, Receive, Request, Response, Scope, Send, send_response
from fluxsrc.server._leases import Leases
from fluxsrc.server._metrics import meter
from fluxsrc.server._registry import Registry, registry_error
from fluxsrc.server._serve import Representation, Responder
from fluxsrc.server._token import Token, admits, token_source
from fluxsrc.store import Store
from fluxsrc.stores import LocalStore

__all__ = ["app"]

_log: Final = logging.getLogger("fluxsrc.server")

_METHODS: Final = frozenset({"GET", "HEAD"})
_MAX_PATH: Final = 2048
"""Three names of 253 letters, a digest and a prefix are far below."""
_ATTEMPTS: Final = 4
"""How often to begin anew if what was found is swept before it is opened."""
_PROBE: Final = SourceKey("healthz", "healthz", "healthz")
_PLACES: Final = {"/healthz": "health", "/metrics": "metrics", "/v2": "registry"}
_CHALLENGE: Final = 'Basic realm="fluxsrc"'
"""Bearer is accepted as well, but to clients of registries that word promises a service that hands out tokens."""
_CODES: Final = {
    HTTPStatus.UNAUTHORIZED: "UNAUTHORIZED",
    HTTPStatus.NOT_FOUND: "BLOB_UNKNOWN",
    HTTPStatus.METHOD_NOT_ALLOWED: "UNSUPPORTED",
}


def app(store: Store, *, token: Token | None = None, prefix: str = "", metrics: Any = None) -> ASGIApplication:
    """An ASGI application that serves a store. Reads only; safe for any number of requests, workers and writers.

    | URL | what |
    |---|---|
    | `/<kind>/<namespace>/<name>/<revision>.tar.gz` | an artifact, at the path of `fluxsrc.status.artifact_path` |
    | `/<kind>/<namespace>/<name>/latest.tar.gz`, `latest` | the source's current artifact |
    | `/v2/<kind>/<namespace>/<name>/…` | the same as an OCI repository |
    | `/healthz` | 200 while the store can be read; needs no token |
    | `/metrics` | Prometheus metrics, where prometheus-client is installed |

    Args:
        store: What to serve.
        token: Who may read: requests must carry it as `Authorization: Bearer`, or as the password of `Basic`, which is what
            clients of registries can send. A callable is asked with each request, so that the token can change.
        prefix: A path before every source, as `team/a`: in URLs, and in the names of OCI repositories.
        metrics: The prometheus-client registry that `/metrics` shows beside the server's own; the process's, if not given.

    Raises:
        ConfigurationError: The token is empty, or the prefix is not a path.
    """
    return _Application(store, token, prefix, metrics)


class _Application:
    def __init__(self, store: Store, token: Token | None, prefix: str, metrics: Any) -> None:
        words = [word for word in prefix.split("/") if word]
        if any(word in (".", "..") or not word.isprintable() for word in words) or words[:1] == ["v2"]:
            raise ConfigurationError(f"not a prefix: {prefix[:80]!r}", hint="write a path such as team/a")
        self._prefix = "".join(f"{word}/" for word in words)
        self._store = store
        self._token = token_source(token)
        blobs: Blobs = FileBlobs(store.blob_path) if isinstance(store, LocalStore) else StreamBlobs(store)
        self._responder = Responder(blobs, Leases(store), private=self._token is not None)
        self._registry = Registry(store, self._prefix)
        self._meter = meter(metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "lifespan":
                await _lifespan(receive, send)
            case _:
                await receive()
                await send({"type": "websocket.close"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        counted = _Counted(send)
        request = Request.of(scope)
        route, path = self._route(request.path)
        # What may wait for a disk is done in another thread; hashing, which takes longest, in threads of its own.
        answering = asyncio.ensure_future(asyncio.to_thread(self._answer, request, route, path))
        try:
            response = await asyncio.shield(answering)
        except asyncio.CancelledError:
            answering.add_done_callback(_drop)
            raise
        try:
            try:
                await response.proven()
            except FluxSrcError as exc:
                response.close()
                response = _failure(request, route, exc)
            if request.method == "HEAD":
                response = attrs.evolve(response, bodiless=True)
            try:
                await send_response(response, receive, counted)
            except FluxSrcError as exc:
                _log.error("cut the answer to %r short: %s", request.path, exc)
                raise  # a server closes the connection then, which is how the client learns of it
        finally:
            response.close()
            sent = response.length if counted.file else counted.sent
            self._meter.count(route, response.status, sent, time.perf_counter() - began)

    def _answer(self, request: Request, route: str, path: str) -> Response:
        try:
            return self._respond(request, route, path)
        except FluxSrcError as exc:
            return _failure(request, route, exc)

    def _route(self, path: str) -> tuple[str, str]:
        """The kind of a URL, and what of its path belongs to that."""
        if path in _PLACES:
            return _PLACES[path], ""
        if path.startswith("/v2/"):
            return "registry", path.removeprefix("/v2/")
        if path.startswith(f"/{self._prefix}"):
            return "artifact", path.removeprefix(f"/{self._prefix}")
        return "other", ""

    def _respond(self, request: Request, route: str, path: str) -> Response:
        if len(request.path) > _MAX_PATH:
            return _error(route, HTTPStatus.REQUEST_URI_TOO_LONG)
        if request.method not in _METHODS:
            return _error(route, HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET, HEAD"})
        if route == "health":
            self._store.lookup(_PROBE)
            return Response.text(HTTPStatus.OK, headers={"Cache-Control": "no-store"})
        if self._token is not None and not admits(request.headers.get("authorization"), self._token()):
            return _error(route, HTTPStatus.UNAUTHORIZED, headers={"WWW-Authenticate": _CHALLENGE})
        if route == "metrics":
            return self._meter.page() or _error(route, HTTPStatus.NOT_FOUND)
        for _ in range(_ATTEMPTS):
            found = self._find(request, route, path)
            if isinstance(found, Response):
                return found
            with contextlib.suppress(ArtifactNotFoundError):  # swept since it was found: something else is current now
                return self._responder.respond(request, found, dt.datetime.now(dt.UTC))
        return _error(route, HTTPStatus.NOT_FOUND)

    def _find(self, request: Request, route: str, path: str) -> Representation | Response:
        match route:
            case "registry":
                return self._registry.find(request, path)
            case "artifact":
                return artifact_at(path, self._store)
        return _error(route, HTTPStatus.NOT_FOUND)


class _Counted:
    """Counts what is sent.

    Attributes:
        sent: Bytes of the body.
        file: Whether the server was given a file, which it sends as a whole.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.sent = 0
        self.file = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        await self._send(message)
        self.sent += len(message.get("body", b""))
        self.file |= message["type"] == "http.response.pathsend"


def _error(
    route: str, status: HTTPStatus, text: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """An error in the language of whoever asks. Never more than a client may know: paths of the store are for the log."""
    text = text or status.phrase.lower()
    if route == "registry":
        return registry_error(status, _CODES.get(status, "UNKNOWN"), text, headers)
    return Response.text(status, text, headers)


def _drop(answering: asyncio.Future[Response]) -> None:
    """Close what nobody waits for any more."""
    if not answering.cancelled() and answering.exception() is None:
        answering.result().close()


def _failure(request: Request, route: str, error: FluxSrcError) -> Response:
    """What the client is told; the log is told more."""
    match error:
        case DigestMismatchError():
            _log.error("refused to serve %r: %s", request.path, error)
            return _error(route, HTTPStatus.INTERNAL_SERVER_ERROR, "damaged in the store, not served")
        case ArtifactNotFoundError():
            return _error(route, HTTPStatus.NOT_FOUND)
    _log.error("cannot serve %r: %s", request.path, error)
    return _error(route, HTTPStatus.SERVICE_UNAVAILABLE, "the store cannot be read")


async def _lifespan(receive: Receive, send: Send) -> None:
    """Nothing is begun, and nothing ends."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return

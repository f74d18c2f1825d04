"""The batch API of Git LFS: which request asks where objects are, and what an answer means. Bytes in, values out."""

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import attrs

from fluxsrc.auth import Origin, Secret
from fluxsrc.errors import (
    AuthenticationError,
    PathNotFoundError,
    PermissionDeniedError,
    RemoteProtocolError,
    SourceError,
    TransportError,
)
from fluxsrc.git.lfs import LFSPointer
from fluxsrc.git.ssh_errors import printable

__all__ = ["BATCH_SIZE", "MEDIA_TYPE", "Download", "batch_request", "missing", "parse_batch", "parse_headers"]

MEDIA_TYPE: Final = "application/vnd.git-lfs+json"
BATCH_SIZE: Final = 100
"""Objects in one request: what git-lfs asks for at a time, and what servers are used to."""
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE: Final = re.compile(r"[\x20-\x7e\t]{0,16384}")
_FRAMING: Final = frozenset(
    {"connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Headers that a server has no say in: they say how we talk, not to whom we are known."""
_MAX_HEADERS: Final = 32
_FOR_EVER: Final = 1e10
"""Seconds: some numbers of JSON are too large to count with."""


@attrs.frozen
class Download:
    """Where an object is, and what to send along. The server means it for this request alone.

    Attributes:
        href: The URL; its query may be a signature.
        headers: To send to the origin of `href`, and nowhere else.
        authenticated: Whether it needs no credentials besides.
        expires: When it ends, in seconds since 1970; None if nobody said.
    """

    href: str = attrs.field(repr=False)
    headers: Mapping[str, Secret]
    authenticated: bool = False
    expires: float | None = None


def batch_request(pointers: Sequence[LFSPointer]) -> bytes:
    """The body that asks where these objects are."""
    objects = [{"oid": pointer.oid, "size": pointer.size} for pointer in pointers]
    question = {"operation": "download", "transfers": ["basic"], "objects": objects, "hash_algo": "sha256"}
    return json.dumps(question).encode()


def parse_batch(
    data: bytes, asked: Sequence[LFSPointer], *, base: str, url: str, now: float
) -> dict[str, Download | SourceError]:
    """What the answer says of each object: where it is, or why not.

    Args:
        data: The answer's body.
        asked: What was asked for; of anything else nothing is believed.
        base: The URL that was asked, for relative ones.
        url: The same, redacted.
        now: Seconds since 1970.

    Raises:
        RemoteProtocolError: It is no such answer.
    """
    answer = parse_object(data, url)
    objects = answer.get("objects")
    if not isinstance(objects, list) or answer.get("transfer", "basic") != "basic":
        raise RemoteProtocolError(f"{url}: not an answer of the LFS batch API", url=url)
    if answer.get("hash_algo", "sha256") != "sha256":
        raise RemoteProtocolError(f"{url}: the LFS server names objects by something else than sha256", url=url)
    said = {item["oid"]: item for item in objects if isinstance(item, dict) and isinstance(item.get("oid"), str)}
    found: dict[str, Download | SourceError] = {}
    for pointer in asked:
        try:
            found[pointer.oid] = _download(pointer, said.get(pointer.oid), base, url, now)
        except SourceError as exc:
            found[pointer.oid] = exc
    return found


def parse_object(data: bytes, url: str) -> dict[str, Any]:
    """The JSON object in an answer; errors quote nothing of it, since it may hold tokens."""
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise RemoteProtocolError(f"{url}: the LFS server's answer is not a JSON object", url=url)
    return answer


def parse_headers(items: object, url: str) -> dict[str, Secret]:
    """Headers that a server wants sent. Their values are secrets, whatever they are called.

    Raises:
        RemoteProtocolError: They are not headers, or would change how the request is framed.
    """
    if items is None:
        return {}
    if not isinstance(items, dict) or len(items) > _MAX_HEADERS:
        raise RemoteProtocolError(f"{url}: the LFS server's headers are not understood", url=url)
    headers = {}
    for name, value in items.items():
        if not (isinstance(value, str) and _NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise RemoteProtocolError(f"{url}: the LFS server's headers are not understood", url=url)
        if name.lower() in _FRAMING:
            raise RemoteProtocolError(f"{url}: the LFS server must not set the header {name}", url=url)
        headers[name] = Secret(value.strip())
    return headers


def missing(pointer: LFSPointer, url: str) -> PathNotFoundError:
    """The error for an object that the server does not have."""
    return PathNotFoundError(
        f"{url}: the LFS object {pointer.oid} is not there",
        url=url,
        hint="whoever committed the file has to push the object too: git lfs push --all",
    )


def _download(pointer: LFSPointer, item: Mapping[str, Any] | None, base: str, url: str, now: float) -> Download:
    if item is None:
        raise RemoteProtocolError(f"{url}: the LFS server says nothing about object {pointer.oid}", url=url)
    if item.get("error") is not None:
        raise _object_error(pointer, item["error"], url)
    actions = item.get("actions")
    action = actions.get("download") if isinstance(actions, dict) else None
    if not isinstance(action, dict) or not isinstance(action.get("href"), str):
        raise missing(pointer, url)  # no action means: nothing to do, which of a download can only mean this
    try:
        href = urljoin(base, action["href"]).partition("#")[0]
        origin = Origin.of(href)
    except ValueError:  # what is no URL: ConfigurationError is one
        href, origin = "", Origin("", "", None)
    if origin.scheme not in ("http", "https") or "@" in urlsplit(href).netloc:
        raise RemoteProtocolError(f"{url}: the LFS server sends us to what is no http or https URL", url=url)
    if origin.scheme == "http" and urlsplit(base).scheme == "https":
        raise RemoteProtocolError(f"{url}: the LFS server sends us from https to http", url=url)
    expires = _expiry(action, now)
    return Download(href, parse_headers(action.get("header"), url), item.get("authenticated") is True, expires)


def _object_error(pointer: LFSPointer, error: object, url: str) -> SourceError:
    code = error.get("code") if isinstance(error, dict) else None
    said = printable(str(error.get("message", ""))) if isinstance(error, dict) else ""
    message = f"{url}: the LFS object {pointer.oid} is refused: status {code}" + (f": {said}" if said else "")
    if code in (404, 410):
        return missing(pointer, url)
    if code == 401:  # noqa: PLR2004 - the codes are the best names of themselves
        return AuthenticationError(message, url=url)
    if code == 403:  # noqa: PLR2004
        return PermissionDeniedError(message, url=url)
    if isinstance(code, int) and code >= 500:  # noqa: PLR2004
        return TransportError(message, url=url)
    return RemoteProtocolError(message, url=url)


def _expiry(action: Mapping[str, Any], now: float) -> float | None:
    seconds, moment = action.get("expires_in"), action.get("expires_at")
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds > 0:
        return now + min(seconds, _FOR_EVER)
    if isinstance(moment, str):
        try:
            parsed = dt.datetime.fromisoformat(moment)
        except ValueError:
            return None
        # Some servers send the beginning of time for "never".
        return parsed.timestamp() if parsed.tzinfo is not None and parsed.year > 1970 else None  # noqa: PLR2004
    return None

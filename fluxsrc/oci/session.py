"""`Session`: authorized requests to one repository of a registry, failures named as the registry names them."""

import json
from collections.abc import Container, Mapping
from typing import Any, Final
from urllib.parse import urljoin

import attrs

from fluxsrc._io.http import Content, Response, Transport, retrying, status_error
from fluxsrc.auth import Origin, Secret
from fluxsrc.errors import RemoteProtocolError, RevisionNotFoundError, SourceError
from fluxsrc.limits import Limits
from fluxsrc.oci.reference import Reference
from fluxsrc.oci.tokens import Authorizer
from fluxsrc.operation import Operation

__all__ = ["PULL", "Session"]

PULL: Final = "pull"
_MAX_ERRORS: Final = 3


@attrs.frozen(eq=False, repr=False)
class Session:
    """What every request to a repository needs.

    Attributes:
        http: The transport.
        authorizer: Who answers challenges.
        reference: Host and repository.
        base: `https://HOST/v2/`, or `http://…` where insecurity was asked for.
        limits: How much is too much.
        operation: The one deadline.
    """

    http: Transport
    authorizer: Authorizer
    reference: Reference
    base: str
    limits: Limits
    operation: Operation

    @property
    def name(self) -> str:
        """The repository, printable."""
        return self.reference.name

    def url(self, path: str) -> str:
        """The address of something in this repository."""
        return f"{self.base}{self.reference.api_repository}/{path}"

    def scope(self, actions: str, *others: str) -> str:
        """Token scopes: for these actions here, and for pulling from other repositories."""
        here = f"repository:{self.reference.api_repository}:{actions}"
        return " ".join((here, *(f"repository:{other}:{PULL}" for other in others)))

    def request(
        self,
        method: str,
        url: str,
        *,
        phase: str,
        scope: str | None = None,
        headers: Mapping[str, str] | None = None,
        content: Content | None = None,
        idle: float | None = None,
    ) -> Response:
        """One request, a second time if the registry wants us to log in first. Any status but 401 comes back.

        Only URLs of the registry's own origin are sent credentials: uploads may lead elsewhere. And only that origin is
        asked who issues its tokens: where a redirect led to, somebody else could name a place to send them to.
        """
        scope = scope or self.scope(PULL)
        ours = self._is_ours(url)
        authorization = self.authorizer.header(scope) if ours else None
        for attempt in (1, 2):
            sent: dict[str, str | Secret] = dict(headers or {})
            if authorization is not None:
                sent["Authorization"] = authorization
            response = self.http.request(
                method, url, operation=self.operation, phase=phase, headers=sent, content=content, idle=idle
            )
            if response.status != 401 or not ours or attempt == 2:  # noqa: PLR2004 - unauthorized; the second try
                return response
            if not self._is_ours(response.location):
                return response
            challenged = self.authorizer.answer(response, scope, authorization)
            if challenged is None:
                return response
            authorization = challenged
        raise AssertionError("unreachable: the second attempt returns")

    def _is_ours(self, url: str) -> bool:
        return url.startswith(self.base) or Origin.of(url) == Origin.of(self.base)

    def get_json(self, url: str, what: str, *, phase: str, missing: Container[int] = ()) -> tuple[Any, Response]:
        """A GET of a JSON object that fits in memory.

        Raises:
            RevisionNotFoundError: It is not there, or the status is one of `missing`.
        """

        def attempt() -> tuple[bytes, Response]:
            response = self.request("GET", url, phase=phase)
            if response.status in missing:
                response.close()
                raise RevisionNotFoundError(f"cannot {what}: status {response.status}", url=response.url)
            if response.status != 200:  # noqa: PLR2004 - success
                raise self.error(response, what)
            with response:
                return response.read(self.limits.max_manifest_bytes), response

        data, response = retrying(attempt, operation=self.operation, phase=phase)
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None  # not chained: the library's error has all of the answer in it, which may quote what was sent
        if not isinstance(value, dict):
            kind = "HTML" if data.lstrip()[:1] == b"<" else "not a JSON object"
            raise RemoteProtocolError(f"cannot {what}: the answer is {kind}", url=response.url)
        return value, response

    def error(self, response: Response, what: str) -> SourceError:
        """The error for a response that is no success, in the registry's own words."""
        return status_error(response, what, detail=_detail(response.excerpt()))

    def location(self, response: Response, what: str) -> str:
        """Where a registry says to go on with an upload.

        Raises:
            RemoteProtocolError: It does not say, or would leave https.
        """
        location = response.headers.get("location")
        try:
            url = urljoin(response.location, location) if location else ""
            secure = Origin.of(url).scheme == "https"
        except ValueError:  # what is no URL: ConfigurationError is one
            secure = None
        if secure is None or (self.base.startswith("https:") and not secure):
            raise RemoteProtocolError(f"cannot {what}: the registry does not say where to go on", url=response.url)
        return url


def _detail(text: str) -> str:
    """The codes and messages of an OCI error document; "" for anything else."""
    try:
        errors = json.loads(text)["errors"][:_MAX_ERRORS]
        pairs = [(error["code"], error.get("message") or "") for error in errors]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return ""
    found = "; ".join(f"{code}: {message}" if message else str(code) for code, message in pairs)
    return "".join(char if char.isprintable() else " " for char in found)  # no escape sequence reaches a terminal

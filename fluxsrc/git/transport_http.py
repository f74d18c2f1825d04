"""Git over HTTP: `git-upload-pack` as a web service."""

import base64
from contextlib import suppress
from typing import Final, Self

import attrs

from fluxsrc._io.http import HTTPClient, Response, Transport, raise_for_status
from fluxsrc.auth import Anonymous, BasicAuth, BearerToken, Credentials, Keychain, Origin, Proxy, Secret, TLSConfig
from fluxsrc.errors import ConfigurationError, RemoteProtocolError, TransportError
from fluxsrc.git.address import GitAddress
from fluxsrc.git.pktline import ByteStream
from fluxsrc.limits import Limits
from fluxsrc.operation import Operation

__all__ = ["HTTPConnection", "authorization"]

_DISCOVER: Final = "/info/refs?service=git-upload-pack"
_UNAUTHORIZED: Final = 401


@attrs.define(eq=False, repr=False)
class HTTPConnection:
    """A `Connection` over HTTP, with the credentials of whatever origin it ends up at."""

    url: str
    _base: str
    _http: Transport
    _keychain: Keychain | None
    _operation: Operation | None
    _client: HTTPClient | None = None
    _current: Response | None = attrs.field(default=None, init=False)
    stateless: bool = attrs.field(default=True, init=False)
    memorable: bool = attrs.field(default=True, init=False)

    @classmethod
    def open(
        cls,
        address: GitAddress,
        *,
        keychain: Keychain | None,
        tls: TLSConfig,
        proxy: Proxy | None,
        limits: Limits,
        operation: Operation,
    ) -> Self:
        """A connection that connects once it is used; close it."""
        # Some servers tell git from browsers by how the user agent begins.
        client = HTTPClient(tls=tls, proxy=proxy, limits=limits, user_agent="git/fluxsrc")
        base = address.plain_url.rstrip("/")
        return cls(address.url, base, client, keychain, operation, client)

    def discover(self) -> ByteStream:
        """Ask what the server can do; redirects are followed, and what follows goes where they led.

        Raises:
            AuthenticationError: The server wants (other) credentials.
            RemoteProtocolError: It is no Git server, or only a dumb one.
        """
        response = self._get(f"{self._base}{_DISCOVER}")
        if response.status == _UNAUTHORIZED and not self._at_home(response):
            # Redirected to another origin, which got no credentials of the first: ask with its own, if there are any.
            response.close()
            response = self._get(response.location)
        raise_for_status(response, f"read the references of {self.url}")
        if not response.location.endswith(_DISCOVER):
            response.close()
            raise RemoteProtocolError(f"{self.url} redirects to {response.url}, which is no repository", url=self.url)
        if response.headers.get("content-type") != "application/x-git-upload-pack-advertisement":
            response.close()
            raise RemoteProtocolError(
                f"{self.url} is no Git repository, or its server speaks only the old dumb protocol", url=self.url
            )
        base = response.location.removesuffix(_DISCOVER)
        self.memorable = base == self._base  # where a redirect leads is asked anew each time
        self._base = base
        self._current = response
        return _WithoutBanner(response, self.url)

    def request(self, body: bytes) -> ByteStream:
        """Post a request."""
        assert self._operation is not None
        self._finish()
        response = self._http.request(
            "POST",
            f"{self._base}/git-upload-pack",
            operation=self._operation,
            phase="negotiate",
            headers={
                "Content-Type": "application/x-git-upload-pack-request",
                "Accept": "application/x-git-upload-pack-result",
                **self._headers(self._base),
            },
            content=body,
        )
        raise_for_status(response, f"fetch from {self.url}")
        if response.headers.get("content-type") != "application/x-git-upload-pack-result":
            response.close()
            raise RemoteProtocolError(f"{self.url} answered a fetch with something else", url=self.url)
        self._current = response
        return response

    def obey(self, operation: Operation | None, /) -> None:
        """Go on under another operation; with None, let go of the last answer, which would keep the earlier one alive."""
        if operation is None:
            with suppress(TransportError):  # it was read; if its end does not come, the next request tells
                self._finish()
        self._operation = operation

    def close(self) -> None:
        """Close the connections below."""
        if self._current is not None:
            self._current.close()
        if self._client is not None:
            self._client.close()

    def _finish(self) -> None:
        """Be done with the last answer; if nothing of it is left but its end, its connection carries the next request."""
        response, self._current = self._current, None
        if response is not None:
            with response:
                response.readinto(memoryview(bytearray(64)))

    def _get(self, url: str) -> Response:
        assert self._operation is not None
        return self._http.request(
            "GET", url, operation=self._operation, phase="resolve", headers={"Accept": "*/*", **self._headers(url)}
        )

    def _headers(self, url: str) -> dict[str, str | Secret]:
        headers: dict[str, str | Secret] = {"Git-Protocol": "version=2"}
        credentials = None
        if self._keychain is not None:
            credentials = self._keychain.credentials(Origin.of(url), operation=self._operation)
        value = authorization(credentials, url=self.url)
        if value is not None:
            headers["Authorization"] = value
        return headers

    def _at_home(self, response: Response) -> bool:
        return Origin.of(response.location) == Origin.of(self._base)


def authorization(credentials: Credentials | None, *, url: str) -> Secret | None:
    """The `Authorization` header for some credentials; None for none.

    Raises:
        ConfigurationError: They are not for HTTP.
    """
    match credentials:
        case BasicAuth(username, password):
            pair = base64.b64encode(f"{username}:{password.reveal()}".encode()).decode()
            return Secret(f"Basic {pair}")
        case BearerToken(token):
            return Secret(f"Bearer {token.reveal()}")
        case None | Anonymous():
            return None
        case _:
            raise ConfigurationError(f"{url} is reached over HTTP, the credentials for it are an SSH key")


class _WithoutBanner:
    """The advertisement without `# service=…` and its flush, which HTTP puts in front of it, and some servers do not."""

    def __init__(self, response: Response, url: str) -> None:
        self._response = response
        self._url = url
        self._head: bytes | None = None

    def readinto(self, buffer: memoryview, /) -> int:
        if self._head is None:
            self._head = self._skip()
        if self._head:
            count = min(len(buffer), len(self._head))
            buffer[:count] = self._head[:count]
            self._head = self._head[count:]
            return count
        return self._response.readinto(buffer)

    def _skip(self) -> bytes:
        """Read the first line; return what was read too much."""
        data = b""
        chunk = memoryview(bytearray(4096))
        while len(data) < _BANNER and (count := self._response.readinto(chunk)):
            data += bytes(chunk[:count])
        if not data[4:].startswith(b"# service="):
            return data
        if data[4:14] != b"# service=" or not data[: len(_EXPECTED)] == _EXPECTED:
            raise RemoteProtocolError(f"{self._url} is no service that gives out packs", url=self._url)
        return data[len(_EXPECTED) :]


_EXPECTED: Final = b"001e# service=git-upload-pack\n0000"
_BANNER: Final = len(_EXPECTED)

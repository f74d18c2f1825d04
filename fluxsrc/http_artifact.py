"""`HTTPArtifactSource`: an archive behind an HTTP URL, with its digest, as a source.

That is what Flux and everything like it offers of each of its objects: `status.artifact` of a GitRepository, an
OCIRepository, a Bucket or an ExternalArtifact. The archive is verified as a whole before anything in it is looked at.
"""

import base64
import binascii
import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import attrs

from fluxsrc._io.http import HTTPClient, Response, retrying, status_error
from fluxsrc.auth import (
    Anonymous,
    BasicAuth,
    BearerToken,
    Credentials,
    Keychain,
    Origin,
    Proxy,
    Secret,
    TLSConfig,
    redact_url,
)
from fluxsrc.digest import Digest
from fluxsrc.entry import Entry, Skipped
from fluxsrc.errors import (
    ConfigurationError,
    DigestMismatchError,
    PathNotFoundError,
    RemoteProtocolError,
    RevisionNotFoundError,
    SourceChangedError,
)
from fluxsrc.operation import Operation
from fluxsrc.produce import SourceOptions
from fluxsrc.revision import Revision
from fluxsrc.snapshot import ShownSnapshot, read_ignore_files
from fluxsrc.source import Snapshot, Source
from fluxsrc.tarball.tree import FileTree, Spool

__all__ = ["HTTPArtifactSource"]

_HASHES: Final = frozenset({"sha256", "sha384", "sha512"})
"""What is strong enough to vouch for bytes that anybody may have put there."""
_REPR_DIGEST: Final = re.compile(r"\s*sha-(256|512)\s*=\s*:([A-Za-z0-9+/=]+):\s*(?:;.*)?")
_PIECE: Final = 256 * 1024


def _digest(value: "str | Digest | None") -> Digest | None:
    return Digest.parse(value) if isinstance(value, str) else value


def _revision(value: "str | Revision | None") -> Revision | None:
    return Revision.parse(value) if isinstance(value, str) else value


@attrs.frozen(repr=False)
class HTTPArtifactSource(SourceOptions):
    """A source over a tar archive, compressed or not, behind an `http` or `https` URL.

    With a digest it is that one archive for ever, and resolving it costs nothing. Without one it follows the URL: resolving
    is one HEAD, whose answer must carry the archive's digest as `Repr-Digest` (RFC 9530).

    Attributes:
        location: The URL, without user name, password and fragment.
        digest: sha256, sha384 or sha512 of the archive's bytes.
        revision: What the archive was made from, where somebody knows; needs `digest`. It is this source's revision.
        annotations: Provenance for the artifact, sorted pairs: `status.artifact.metadata`.
        keychain: Answers which credentials to use, for the URL's own origin only.
        tls: How the server proves who it is, and how we do.
        proxy: For all connections.
    """

    location: str
    digest: Digest | None = attrs.field(default=None, converter=_digest, kw_only=True)
    revision: Revision | None = attrs.field(default=None, converter=_revision, kw_only=True)
    annotations: tuple[tuple[str, str], ...] = attrs.field(default=(), kw_only=True)
    keychain: Keychain | None = attrs.field(default=None, kw_only=True, repr=False)
    tls: TLSConfig = attrs.field(factory=TLSConfig, kw_only=True)
    proxy: Proxy | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if Origin.of(self.location).scheme not in ("http", "https") or "#" in self.location:
            raise ConfigurationError(f"an http or https URL is needed, not {redact_url(self.location)}")
        if "@" in self.location.partition("://")[2].partition("/")[0]:
            raise ConfigurationError(
                f"credentials do not belong into a URL: {redact_url(self.location)}", hint="give a keychain"
            )
        if self.digest is not None and self.digest.algorithm not in _HASHES:
            raise ConfigurationError(f"{self.digest.algorithm} does not vouch for an archive", hint="sha256 does")
        if self.revision is not None and self.digest is None:
            raise ConfigurationError("the revision of an archive without a digest proves nothing: give both")

    @property
    def kind(self) -> str:
        """Always "externalartifact"."""
        return "externalartifact"

    @property
    def url(self) -> str:
        """The URL without secrets, with the sub-path as fragment."""
        return redact_url(self.location) + (f"#path={quote(self.path)}" if self.path else "")

    def resolve_revision(self, *, operation: Operation | None = None) -> Revision:
        """What was given, or the digest that the server tells of the URL; see `Source`."""
        operation = self._operation(operation)
        operation.check("resolve", url=self.url)
        if self.digest is not None:
            return self.revision or Revision(self.digest)
        with self._client() as http:
            return Revision(retrying(lambda: self._head(http, operation), operation=operation, phase="resolve"))

    @contextlib.contextmanager
    def fetch(self, revision: Revision | None = None, /, *, operation: Operation | None = None) -> Iterator[Snapshot]:
        """The archive's files; it is downloaded and verified when the first of them is asked for. See `Source`."""
        operation = self._operation(operation)
        wanted = self.resolve_revision(operation=operation) if revision is None else revision
        if self.digest is not None and wanted != (self.revision or Revision(self.digest)):
            raise SourceChangedError(f"{self.url} is not {wanted.short}", url=self.url)
        snapshot = _HTTPSnapshot(self, wanted, self.digest or wanted.digest, operation)
        with contextlib.closing(snapshot), self._guarded(snapshot, operation) as guarded:
            yield guarded

    def _client(self) -> HTTPClient:
        return HTTPClient(tls=self.tls, proxy=self.proxy, limits=self.limits)

    def _head(self, http: HTTPClient, operation: Operation) -> Digest:
        with http.request(
            "HEAD", self.location, operation=operation, phase="resolve", headers=self._headers(operation)
        ) as answer:
            if answer.status != 200:  # noqa: PLR2004 - there, and whole
                raise status_error(answer, f"ask for {self.url}")
            digest = _repr_digest(answer)
        if digest is None:
            raise RemoteProtocolError(
                f"{self.url}: the server does not tell the digest of what it has there (Repr-Digest)",
                url=self.url,
                hint="give digest=, as status.artifact.digest has it",
            )
        return digest

    def _headers(self, operation: Operation) -> dict[str, Secret]:
        origin = Origin.of(self.location)
        credentials = None if self.keychain is None else self.keychain.credentials(origin, operation=operation)
        return {} if (value := _authorization(credentials, url=self.url)) is None else {"Authorization": value}

    def _download(self, digest: Digest, operation: Operation) -> Spool:
        """The archive, verified."""

        def receive() -> Spool:
            spool = Spool()
            try:
                self._receive(http, spool, digest, operation)
            except BaseException:
                spool.close()
                raise
            return spool

        with self._client() as http:
            return retrying(receive, operation=operation, phase="receive")

    def _receive(self, http: HTTPClient, spool: Spool, digest: Digest, operation: Operation) -> None:
        hasher = hashlib.new(digest.algorithm)
        with http.request(
            "GET", self.location, operation=operation, phase="receive", headers=self._headers(operation)
        ) as answer:
            if answer.status != 200:  # noqa: PLR2004 - all of it
                error = status_error(answer, f"read {self.url}")
                if isinstance(error, RevisionNotFoundError) and self.digest is None:
                    raise SourceChangedError(f"{self.url} is gone", url=self.url) from error
                raise error
            self.limits.check("max_archive_bytes", answer.length or 0, what=self.url)
            buffer = memoryview(bytearray(_PIECE))
            while count := answer.readinto(buffer):
                self.limits.check("max_archive_bytes", spool.size + count, what=self.url)
                hasher.update(buffer[:count])
                spool.write(buffer[:count])
                operation.report("receive", spool.size, answer.length, detail=self.url)
        actual = f"{digest.algorithm}:{hasher.hexdigest()}"
        if actual != str(digest):
            if self.digest is None:
                raise SourceChangedError(f"{self.url} is {actual} now, not {digest}", url=self.url)
            raise DigestMismatchError(
                f"{self.url} is {actual}, not {digest}", expected=str(digest), actual=actual, path=self.url
            )


def _repr_digest(answer: Response) -> Digest | None:
    """The strongest digest that an answer tells of what it is about, or None."""
    found = {}
    for field in answer.headers.get_all("repr-digest"):
        for item in field.split(","):
            match = _REPR_DIGEST.fullmatch(item)
            if match is not None:
                with contextlib.suppress(binascii.Error, ConfigurationError):
                    value = base64.b64decode(match[2], validate=True).hex()
                    found[match[1]] = Digest.parse(f"sha{match[1]}:{value}")
    return found.get("256") or found.get("512")


def _authorization(credentials: Credentials | None, *, url: str) -> Secret | None:
    match credentials:
        case BasicAuth(username, password):
            pair = f"{username}:{password.reveal()}".encode()
            return Secret(f"Basic {base64.b64encode(pair).decode()}")
        case BearerToken(token):
            return Secret(f"Bearer {token.reveal()}")
        case None | Anonymous():
            return None
    raise ConfigurationError(f"{url} is reached over HTTP, the credentials for it are an SSH key")


class _HTTPSnapshot(ShownSnapshot):
    """The files of one archive; see `Snapshot`."""

    created = None
    tree_id = None
    verification: tuple[tuple[str, str], ...] = ()
    skipped: Sequence[Skipped] = ()

    def __init__(self, source: HTTPArtifactSource, revision: Revision, digest: Digest, operation: Operation) -> None:
        self.revision = revision
        self.annotations: Mapping[str, str] = dict(source.annotations)
        self._source = source
        self._digest = digest
        self._operation = operation
        self._lock = threading.Lock()
        self._tree: FileTree | None = None
        self._entries: list[Entry] | None = None
        self._closed = False

    def ignore_files(self) -> Mapping[str, str]:
        """The text of each `.sourceignore`, by directory."""
        return read_ignore_files(self._listing(), limits=self._source.limits)

    def entries(self) -> Iterator[Entry]:
        """A new iteration over the files."""
        return iter(self._listing())

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._tree is not None:
                self._tree.close()

    def _listing(self) -> list[Entry]:
        source = self._source
        with self._lock:
            if self._closed:
                raise ConfigurationError("the snapshot is closed")
            if self._entries is None:
                spool = source._download(self._digest, self._operation)  # noqa: SLF001 - one room
                try:
                    self._tree = FileTree(source.limits, self._operation)
                    self._tree.add_archive(spool.open())
                finally:
                    spool.close()
                self._entries = self._tree.entries(source.path)
                if source.path and not self._entries:
                    raise PathNotFoundError(f"{source.url}: no such path: {source.path}", url=source.url)
            return self._entries


if TYPE_CHECKING:
    _: Source = HTTPArtifactSource("https://example.com/a.tar.gz")

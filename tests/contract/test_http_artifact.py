"""Archives behind HTTP URLs keep the contract of every source, and are never believed without their digest."""

import base64
import gzip
import hashlib
import io
import tarfile

import pytest

from fluxsrc.auth import BasicAuth, StaticKeychain
from fluxsrc.digest import Digest
from fluxsrc.entry import Mode
from fluxsrc.errors import (
    AuthenticationError,
    ConfigurationError,
    DigestMismatchError,
    LimitExceededError,
    RemoteProtocolError,
    RevisionNotFoundError,
    SourceChangedError,
)
from fluxsrc.http_artifact import HTTPArtifactSource
from fluxsrc.limits import Limits
from fluxsrc.memory import MemoryFile
from fluxsrc.revision import Revision
from fluxsrc.stores import MemoryStore
from fluxsrc.testing import SourceContract
from helpers.web_server import WebServer

PASSWORD = "hunter2-hunter2"


def archive_of(files):
    """A tar as Flux's storage writes it: directories without a slash, modes 0600 and 0700."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, file in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(file.data)
            member.mode = 0o700 if file.mode is Mode.EXECUTABLE else 0o600
            tar.addfile(member, io.BytesIO(file.data))
    return gzip.compress(out.getvalue(), mtime=0)


class ArchiveServer(WebServer):
    """Serves bytes by path, with basic auth and `Repr-Digest`."""

    def __init__(self):
        super().__init__(self.look_up)
        self.blobs = {}
        self.tells_digest = True

    def look_up(self, request, _body):
        expected = "Basic " + base64.b64encode(f"ada:{PASSWORD}".encode()).decode()
        data = self.blobs.get(request.path)
        if request.headers.get("authorization") != expected:
            return 401, b""
        if data is None:
            return 404, b""
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        return 200, data, {"Repr-Digest": f"unixsum=:AA==:, sha-256=:{digest}:"} if self.tells_digest else {}


@pytest.fixture
def server():
    with ArchiveServer() as running:
        yield running


class HTTPOrigin:
    keeps_modes = True
    secrets = (PASSWORD,)

    def __init__(self, server):
        self.server = server

    def publish(self, files):
        self.server.blobs["/latest.tar.gz"] = archive_of(files)

    def source(self, **options):
        return source_at(self.server, "/latest.tar.gz", **options)

    def missing(self):
        return source_at(self.server, "/missing.tar.gz")


def source_at(server, where, **options):
    url = server.url + where
    return HTTPArtifactSource(url, keychain=StaticKeychain.for_url(url, BasicAuth("ada", PASSWORD)), **options)


class TestHTTPArtifact(SourceContract):
    """Following a URL whose server tells the digest."""

    @pytest.fixture
    def origin(self, server):
        return HTTPOrigin(server)


FILES = {"app.yaml": MemoryFile(b"kind: Deployment\n")}


def test_with_a_digest_resolving_asks_nobody(server):
    """The revision is what the status of the running Flux said."""
    revision = Revision.parse("main@sha1:" + "a" * 40)
    source = source_at(server, "/x", digest="sha256:" + "b" * 64, revision=revision)
    assert source.resolve_revision() == revision
    assert server.requests == []


def test_an_archive_of_another_digest_is_refused_whole(server):
    """Not one of its files is ever looked at."""
    server.blobs["/x"] = archive_of(FILES)
    store = MemoryStore()
    with pytest.raises(DigestMismatchError) as caught:
        source_at(server, "/x", digest="sha256:" + "b" * 64).produce_artifact(store)
    assert caught.value.actual == str(Digest.of(server.blobs["/x"]))
    assert list(store.sources()) == []


def test_an_archive_that_changes_between_resolving_and_reading_is_a_changed_source(server):
    """No mixture of two archives under one name."""
    server.blobs["/x"] = archive_of(FILES)
    source = source_at(server, "/x")
    revision = source.resolve_revision()
    server.blobs["/x"] = archive_of(FILES | {"b": MemoryFile(b"")})
    with pytest.raises(SourceChangedError), source.fetch(revision) as snapshot:
        list(snapshot.entries())


def test_a_server_that_tells_no_digest_is_not_believed(server):
    """There would be nothing to hold the bytes against."""
    server.blobs["/x"] = archive_of(FILES)
    server.tells_digest = False
    with pytest.raises(RemoteProtocolError, match="Repr-Digest"):
        source_at(server, "/x").resolve_revision()


def test_credentials_missing_or_an_archive_gone_say_so(server):
    """Each as what it is."""
    with pytest.raises(AuthenticationError):
        HTTPArtifactSource(server.url + "/x").resolve_revision()
    gone = source_at(server, "/x", digest="sha256:" + "b" * 64)
    with pytest.raises(RevisionNotFoundError), gone.fetch() as snapshot:
        list(snapshot.entries())


def test_an_archive_over_the_limit_is_not_downloaded(server):
    """The declared length is enough to refuse it."""
    server.blobs["/x"] = archive_of(FILES)
    source = source_at(server, "/x", limits=Limits(max_archive_bytes=10))
    with pytest.raises(LimitExceededError, match="archive bytes"), source.fetch() as snapshot:
        list(snapshot.entries())


@pytest.mark.parametrize(
    ("location", "options"),
    [
        ("ftp://example.com/x", {}),
        ("https://ada:pw@example.com/x", {}),
        ("https://example.com/x#y", {}),
        ("https://example.com/x", {"digest": "sha1:" + "a" * 40}),
        ("https://example.com/x", {"revision": "sha256:" + "a" * 64}),
    ],
)
def test_what_cannot_be_verified_is_refused_when_it_is_made(location, options):
    """A weak digest, a revision without one, credentials in the URL, another scheme."""
    with pytest.raises(ConfigurationError) as caught:
        HTTPArtifactSource(location, **options)
    assert "pw@" not in str(caught.value)

"""What a bucket is asked, and when: preconditions, pages ahead, a bounded window, names of hosts."""

import tempfile
import threading
import tracemalloc

import pytest

from fluxsrc.auth import Anonymous, BearerToken, Proxy, TLSConfig
from fluxsrc.bucket import AWSKeys, AzureBucket, BucketSource, GCSBucket, S3Bucket, fetch
from fluxsrc.errors import FluxSrcError
from fluxsrc.operation import Operation
from fluxsrc.stores import LocalStore, MemoryStore
from fluxsrc.testing.object_server import ObjectServer
from helpers import small_proxies as proxies
from helpers.tls import TLS, server_context

NAME = "models"
KEYS = AWSKeys("ada", "lovelace")
SERVICES = {
    "s3": lambda url: S3Bucket(NAME, endpoint=url, region="us-east-1", credentials=KEYS),
    "gcs": lambda url: GCSBucket(NAME, endpoint=url, credentials=BearerToken("t")),
    "azure": lambda url: AzureBucket(NAME, account="ada", endpoint=url, credentials=Anonymous()),
}


@pytest.fixture
def server():
    with ObjectServer(page=10) as server:
        server.buckets[NAME] = {}
        yield server


@pytest.mark.parametrize("service", SERVICES)
def test_every_get_of_an_object_carries_its_precondition(server, service):
    """Of small ones that are requested together, of large ones in parts, and of ignore files."""
    for number in range(60):
        server.put(NAME, f"small/{number:02}", b"%d" % number)
    server.put(NAME, "large", bytes(fetch.PART + 1))
    server.put(NAME, ".sourceignore", b"*.log\n")
    assert BucketSource(SERVICES[service](server.url)).produce_artifact(MemoryStore()).files == 62
    reads = [request for request in server.requests if "small" in request.path or "large" in request.path]
    reads += [request for request in server.requests if ".sourceignore" in request.path.partition("?")[0]]
    assert len(reads) >= 60 + 2 + 1
    for request in reads:
        fields = {name.lower(): value for name, value in request.headers.items()}
        if service == "gcs":
            assert "ifGenerationMatch=" in request.path
        else:
            key = request.path.partition("?")[0].removeprefix(f"/{NAME}/")
            assert fields["if-match"] == f'"{server.buckets[NAME][key].etag}"'


def test_the_next_page_is_asked_for_before_this_one_is_judged(server):
    """A listing takes as long as the longer of the two, not as both."""
    for number in range(30):
        server.put(NAME, f"{number:02}", b"")
    arrived = threading.Condition()
    asked, ahead = [], []

    def tell(request):
        with arrived:
            asked.append(request.path)
            arrived.notify_all()

    def judged(progress):
        if progress.phase == "list" and progress.done < 30:
            wanted = progress.done // 10 + 2  # the look for an ignore file, the pages so far, and one more
            with arrived:
                ahead.append(arrived.wait_for(lambda: len(asked) >= wanted, timeout=30))

    server.on_request = tell
    BucketSource(SERVICES["s3"](server.url)).resolve_revision(operation=Operation(progress=judged))
    assert ahead == [True, True]
    assert len(asked) == 4


@pytest.fixture
def window(monkeypatch):
    """A small one, of small parts; bytes."""
    monkeypatch.setattr(fetch, "PART", 64 << 10)
    monkeypatch.setattr(fetch, "WINDOW", 384 << 10)
    return fetch.WINDOW


def test_no_more_than_a_window_is_requested_ahead_of_a_slow_reader(server, window):
    """However much there is: a reader who stops after the first bytes has not made us download the rest."""
    server.put(NAME, "large", bytes(window * 5))
    with BucketSource(SERVICES["s3"](server.url)).fetch() as snapshot, next(snapshot.entries()).open() as stream:
        assert stream.read(10) == bytes(10)
        parts = {request.headers.get("Range") for request in server.requests if request.path.endswith("/large")}
        assert 1 <= len(parts) <= window // fetch.PART + 1


def test_small_objects_are_requested_ahead_within_a_window_too(server, window):
    """A reader that reads in order, and stops."""
    for number in range(200):
        server.put(NAME, f"{number:03}", bytes(window // 12))
    with BucketSource(SERVICES["s3"](server.url)).fetch() as snapshot:
        entries = snapshot.entries()
        read = [next(entries).read() for _ in range(40)]
        asked = len(server.asked(rf"GET /{NAME}/\d"))
    assert len(read) <= asked <= len(read) + 12 + 8  # the window, and the batch that fills it


@pytest.mark.parametrize(
    ("options", "host", "path"),
    [
        ({"addressing": "path"}, "storage.example.com", "/my-bucket/"),
        ({"addressing": "virtual"}, "my-bucket.storage.example.com", "/"),
        ({}, "storage.example.com", "/my-bucket/"),
        ({"endpoint": None, "region": "eu-west-1"}, "my-bucket.s3.eu-west-1.amazonaws.com", "/"),
        ({"endpoint": None, "region": "eu-west-1", "addressing": "path"}, "s3.eu-west-1.amazonaws.com", "/my-bucket/"),
    ],
)
def test_the_bucket_s_name_stands_in_the_path_or_before_the_host(monkeypatch, options, host, path):
    asked = []

    def request(_self, _method, url, **_):
        asked.append(url)
        raise FluxSrcError("no network here")

    monkeypatch.setattr("fluxsrc._io.http.HTTPClient.request", request)
    values = {"endpoint": "https://storage.example.com", "region": "us-east-1", "credentials": KEYS} | options
    with pytest.raises(FluxSrcError, match="no network"):
        BucketSource(S3Bucket("my-bucket", **values)).resolve_revision()
    assert asked[0].partition("?")[0] == f"https://{host}{path}"


def test_a_key_of_1024_bytes_is_a_key(server):
    """What the services allow at most; with directories, as one component would be too long for a file system."""
    key = "/".join(["\u00e9" * 100] * 5) + "/" + "x" * 19
    assert len(key.encode()) == 1024
    for service in SERVICES.values():
        server.put(NAME, key, b"1")
        with BucketSource(service(server.url)).fetch() as snapshot:
            assert [(entry.path, entry.read()) for entry in snapshot.entries()] == [(key, b"1")]


@pytest.mark.parametrize("service", SERVICES)
def test_an_artifact_is_made_without_a_temporary_file(server, service, monkeypatch, tmp_path):
    """Content goes from the wire into the packer: nothing but the store touches a disk."""
    for number in range(30):
        server.put(NAME, f"{number:02}", b"%d" % number)
    server.put(NAME, "large", bytes(fetch.PART + 1))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError):
        tempfile.mkstemp()
    assert BucketSource(SERVICES[service](server.url)).produce_artifact(MemoryStore()).files == 31


def test_memory_is_a_window_and_not_the_object(server, monkeypatch, tmp_path):
    """Of a large object, and of a thousand small ones: what is on its way, and what packing holds."""
    monkeypatch.setattr(fetch, "PART", 1 << 20)
    monkeypatch.setattr(fetch, "WINDOW", 4 << 20)
    size = 40 << 20
    server.put(NAME, "large", bytes(size))
    for number in range(500):
        server.put(NAME, f"small/{number:03}", bytes(8 << 10))
    source = BucketSource(SERVICES["s3"](server.url))
    with LocalStore(tmp_path) as store:
        tracemalloc.start()
        try:
            assert source.produce_artifact(store).content_size > size
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < size // 2


@pytest.fixture
def proxied():
    """A server with TLS, and a proxy."""
    tunnel = proxies.Tunnel(proxies.connect)
    with ObjectServer(context=server_context()) as server:
        yield server, tunnel
    tunnel.close()


def test_a_proxy_carries_everything(proxied):
    """Small objects that are requested together, and large ones; the proxy sees no more than a host."""
    server, tunnel = proxied
    for number in range(30):
        server.put(NAME, f"{number:02}", b"%d" % number)
    server.put(NAME, "large", bytes(fetch.PART + 1))
    bucket = S3Bucket(
        NAME,
        endpoint=server.url,
        region="us-east-1",
        credentials=KEYS,
        tls=TLSConfig(ca=(TLS / "ca.pem").read_text()),
        proxy=Proxy(url=f"http://127.0.0.1:{tunnel.port}", username="me", password="pw"),
    )
    assert BucketSource(bucket).produce_artifact(MemoryStore()).files == 31
    assert set(tunnel.asked) == {f"CONNECT {server.url.removeprefix('https://')} HTTP/1.1"}

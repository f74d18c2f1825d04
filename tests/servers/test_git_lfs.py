"""Git LFS: files that the real client pushed to a real server, fetched by us."""

import base64
import contextlib
import os
import random
import ssl
import subprocess
import tracemalloc
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from fluxsrc.auth import BasicAuth, StaticKeychain, TLSConfig
from fluxsrc.errors import AuthenticationError, CertificateError, PathNotFoundError
from fluxsrc.git import GitCache, GitSource
from fluxsrc.git.address import GitAddress
from fluxsrc.git.lfs import LFSPointer
from fluxsrc.git.lfs_store import LFSStore
from fluxsrc.git.transport import Access
from fluxsrc.limits import DEFAULT_LIMITS
from fluxsrc.operation import Operation
from fluxsrc.testing.git_server import GitHTTPServer
from helpers import git_servers as servers
from helpers import programs

pytestmark = pytest.mark.servers


USER, PASSWORD, ADMIN = "robot", "hunter2", "the-admins-own"
LARGE = 64 * 1024 * 1024


def tool(name):
    """As of the other servers, and of $GOBIN."""
    built = Path(os.environ.get("GOBIN", "/nonexistent")) / name
    return str(built) if built.exists() else programs.tool(name)


@pytest.fixture(scope="module")
def lfs(tmp_path_factory):
    """git-lfs's own test server, over HTTPS, with one user; yields its URL."""
    root = tmp_path_factory.mktemp("lfs")
    port = programs.free_port()
    url = f"https://127.0.0.1:{port}"
    environment = {
        **servers._ENVIRONMENT,
        "LFS_LISTEN": f"tcp://127.0.0.1:{port}",
        "LFS_HOST": f"127.0.0.1:{port}",
        "LFS_SCHEME": "https",
        "LFS_CERT": str(servers.TLS / "server.pem"),
        "LFS_KEY": str(servers.TLS / "server.key"),
        "LFS_METADB": str(root / "lfs.db"),
        "LFS_CONTENTPATH": str(root / "content"),
        "LFS_ADMINUSER": "admin",
        "LFS_ADMINPASS": ADMIN,
        "LFS_PUBLIC": "false",
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(servers, "_ENVIRONMENT", environment)
        stack.enter_context(servers._process([tool("lfs-test-server")], port))
        form = urllib.parse.urlencode({"name": USER, "password": PASSWORD}).encode()
        admin = base64.b64encode(f"admin:{ADMIN}".encode()).decode()
        request = urllib.request.Request(f"{url}/mgmt/add", form, {"Authorization": f"Basic {admin}"})
        with urllib.request.urlopen(request, context=trusting()) as response:
            assert response.status == 200
        yield url


def trusting():
    return ssl.create_default_context(cafile=servers.TLS / "ca.pem")


@pytest.fixture(scope="module")
def files():
    """What is committed: many small files, a large one, an empty one, and one that is no LFS file."""
    noise = random.Random(1)
    files = {f"many/{number:03}.bin": noise.randbytes(number) for number in range(1, 131)}
    return files | {"large.bin": noise.randbytes(LARGE), "empty.bin": b"", "plain.txt": b"plain\n"}


@pytest.fixture(scope="module")
def work(tmp_path_factory, lfs, files):
    """A work tree whose LFS files were pushed by the real client; its bare repository is beside it."""
    root = tmp_path_factory.mktemp("git")
    bare, work = root / "app.git", root / "work"
    servers.git("init", "-q", "--bare", "-b", "main", bare)
    servers.git("clone", "-q", bare, work)
    servers.git("checkout", "-q", "-B", "main", cwd=work)
    home = root / "home"
    home.mkdir()
    environment = {**servers._ENVIRONMENT, "HOME": str(home), "GIT_SSL_CAINFO": str(servers.TLS / "ca.pem")}
    tool("git-lfs")

    def git(*words):
        done = subprocess.run(["git", *words], cwd=work, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}\n{done.stderr}"
        return done.stdout

    git("lfs", "install", "--local", "--skip-repo")
    git("lfs", "track", "*.bin")
    for path, data in files.items():
        (work / path).parent.mkdir(exist_ok=True)
        (work / path).write_bytes(data)
    git("add", "-A")
    git("commit", "-q", "-m", "files")
    git("push", "-q", "origin", "main")
    url = lfs.replace("://", f"://{USER}:{PASSWORD}@")
    git("-c", f"lfs.url={url}/team/app", "-c", "lfs.locksverify=false", "lfs", "push", "--all", "origin", "main")
    return work


@pytest.fixture
def source(work, lfs, tmp_path):
    with GitHTTPServer(work.parent) as server:

        def source(**options):
            keychain = StaticKeychain.for_url(lfs, BasicAuth(USER, PASSWORD))
            tls = TLSConfig(ca=(servers.TLS / "ca.pem").read_text())
            options = {"lfs": "fetch", "lfs_url": f"{lfs}/team/app", "keychain": keychain, "tls": tls} | options
            return GitSource(server.url("app.git"), branch="main", cache=GitCache(path=tmp_path / "cache"), **options)

        yield source


def test_what_was_pushed_is_what_is_fetched(source, files):
    """Every file, many to a question."""
    with source().fetch() as snapshot:
        fetched = {entry.path: entry.read() for entry in snapshot.entries() if entry.path != ".gitattributes"}
    assert fetched == files


def test_a_large_file_is_never_in_memory_as_a_whole(source):
    """Neither when it is received nor when it is read."""
    with source(sparse=["large.bin"]).fetch() as snapshot:
        (entry,) = snapshot.entries()
        tracemalloc.start()
        try:
            with entry.open() as stream:
                size = sum(len(chunk) for chunk in iter(lambda: stream.read(1 << 20), b""))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert size == LARGE
    assert peak < 8 * 1024 * 1024


def test_our_pointers_are_git_lfs_s(work, files):
    """What `git lfs ls-files` lists is what we read out of the blobs."""
    listed = servers.git("lfs", "ls-files", "--long", cwd=work).splitlines()
    theirs = {line.split(" ", 2)[2]: line.split()[0] for line in listed}
    ours = {}
    with GitSource(work, branch="main", lfs="keep").fetch() as snapshot:
        for entry in snapshot.entries():
            pointer = LFSPointer.parse(entry.read()) if entry.size < 1024 else None
            if pointer is not None:
                ours[entry.path] = pointer.oid
                assert pointer.size == len(files[entry.path])
    assert ours == {path: oid for path, oid in theirs.items() if files[path]}, "of an empty file there is no pointer"


def test_many_at_a_time(lfs, work, files, tmp_path):
    """`prefetch` brings them all, from several threads."""
    access = Access(
        address=GitAddress.parse(f"{lfs}/team/app"),
        keychain=StaticKeychain.for_url(lfs, BasicAuth(USER, PASSWORD)),
        tls=TLSConfig(ca=(servers.TLS / "ca.pem").read_text()),
        proxy=None,
        limits=DEFAULT_LIMITS,
    )
    with GitSource(work, branch="main", lfs="keep", path="many").fetch() as snapshot:
        pointers = [LFSPointer.parse(entry.read()) for entry in snapshot.entries()]
    with LFSStore(access, tmp_path, Operation(60), url=f"{lfs}/team/app", concurrency=8) as store:
        store.prefetch(pointers)
        assert sorted(store.read(pointer) for pointer in pointers) == sorted(
            data for path, data in files.items() if path.startswith("many/")
        )


def test_credentials_are_needed_and_have_to_be_right(source, lfs):
    """No, wrong, and another host's credentials are an authentication error, and an unknown CA is its own."""
    for keychain in (
        None,
        StaticKeychain.for_url(lfs, BasicAuth(USER, "wrong")),
        StaticKeychain.for_url("https://elsewhere.example", BasicAuth(USER, PASSWORD)),
    ):
        with source(keychain=keychain, sparse=["many/001.bin"]).fetch() as snapshot:
            (entry,) = snapshot.entries()
            with pytest.raises(AuthenticationError):
                entry.read()
    with source(tls=TLSConfig(), sparse=["many/001.bin"]).fetch() as snapshot:
        (entry,) = snapshot.entries()
        with pytest.raises(CertificateError):
            entry.read()


def test_a_file_that_nobody_pushed_is_missing(lfs, tmp_path):
    """The usual accident: the commit was pushed, the objects were not."""
    access = Access(
        address=GitAddress.parse(f"{lfs}/team/app"),
        keychain=StaticKeychain.for_url(lfs, BasicAuth(USER, PASSWORD)),
        tls=TLSConfig(ca=(servers.TLS / "ca.pem").read_text()),
        proxy=None,
        limits=DEFAULT_LIMITS,
    )
    with (
        LFSStore(access, tmp_path, Operation(60), url=f"{lfs}/team/app") as store,
        pytest.raises(PathNotFoundError, match="git lfs push"),
    ):
        store.open(LFSPointer("12" * 32, 7))

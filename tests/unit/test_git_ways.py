"""The ways to a repository: through proxies, with client certificates, with a password of the machine's only when asked."""

import attrs
import pytest

from fluxsrc.auth import BasicAuth, Proxy, StaticKeychain, TLSConfig
from fluxsrc.errors import AuthenticationError, CertificateError, ConfigurationError, TransportError
from fluxsrc.git import GitSource
from fluxsrc.keychains import GitCredentialHelper, NetrcKeychain
from fluxsrc.testing.git import GitRepositoryBuilder
from fluxsrc.testing.git_server import GitHTTPServer
from fluxsrc.testing.ssh_server import SSHServer
from helpers.git_sources import contents
from helpers.small_proxies import NAME, PROXIES, Tunnel
from helpers.tls import TLS, server_context

CA = (TLS / "ca.pem").read_text()
PAIR = TLSConfig(ca=CA, certificate=(TLS / "client.pem").read_text(), key=(TLS / "client.key").read_text())


@pytest.fixture
def repository(tmp_path):
    repository = GitRepositoryBuilder(tmp_path / "served" / "app.git")
    repository.commit({"a": b"a"})
    return repository


@pytest.fixture
def root(repository, tmp_path):
    return tmp_path / "served"


# --- proxies -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["http", "socks5"])
def tunnel(request):
    tunnel = Tunnel(PROXIES[request.param])
    tunnel.proxy = Proxy(url=f"{request.param}://127.0.0.1:{tunnel.port}")
    if request.param == "http":
        tunnel.proxy = attrs.evolve(tunnel.proxy, username="me", password="pw")
    yield tunnel
    tunnel.close()


def test_https_goes_through_the_proxy_end_to_end(root, tunnel):
    """Resolving and fetching; the proxy sees where to, and nothing else."""
    with GitHTTPServer(root, context=server_context()) as server:
        url = server.url("app.git", host="localhost")
        source = GitSource(url, branch="main", cache=None, tls=TLSConfig(ca=CA), proxy=tunnel.proxy)
        assert contents(source) == {"a": b"a"}
    assert tunnel.asked
    assert all(f"localhost:{server.port}" in asked for asked in tunnel.asked)


def test_scps_form_goes_through_the_proxy_to_port_22(root, tunnel):
    """`git@host:path`, a name that only the proxy can resolve, and a path that is relative to the account."""
    with SSHServer(root) as server:
        tunnel.ports[22] = server.port
        key = attrs.evolve(server.key, known_hosts=f"{NAME} {server.known_hosts.split(' ', 1)[1]}")
        source = GitSource(f"git@{NAME}:app.git", branch="main", cache=None, proxy=tunnel.proxy)
        keychain = StaticKeychain(((source.address.origin, key),))
        assert contents(attrs.evolve(source, keychain=keychain)) == {"a": b"a"}
        assert server.commands == ["git-upload-pack 'app.git'"]
    assert all(f"{NAME}:22" in asked for asked in tunnel.asked)


def test_the_daemon_s_protocol_goes_through_no_proxy():
    """Better refused than sent past it."""
    source = GitSource("git://git.example.com/app.git", cache=None, proxy=Proxy(url="http://127.0.0.1:1"))
    with pytest.raises(ConfigurationError, match="proxies"):
        source.resolve_revision()


# --- certificates ------------------------------------------------------------------------------------------------------


def test_a_client_certificate_opens_a_repository(root):
    """With it all is well; without it the server says no."""
    with GitHTTPServer(root, context=server_context(client_ca=True)) as server:
        source = GitSource(server.url("app.git", host="localhost"), branch="main", cache=None, tls=PAIR)
        assert contents(source) == {"a": b"a"}
        with pytest.raises((CertificateError, TransportError)):
            attrs.evolve(source, tls=TLSConfig(ca=CA)).resolve_revision()


def test_a_client_certificate_is_for_the_origin_it_was_given_for(root, repository):
    """A submodule on the same server gets it; one on another server, which wants one too, does not."""
    library = GitRepositoryBuilder(root / "library.git")
    linked = bytes.fromhex(library.commit({"x": b"x"}))

    def link(url):
        modules = repository.blob(f'[submodule "lib"]\n\tpath = lib\n\turl = {url}\n'.encode())
        rows = [(b".gitmodules", 0o100644, modules), (b"lib", 0o160000, linked)]
        repository.commit_tree(repository.tree(rows))

    def secured():
        return GitHTTPServer(root, context=server_context(client_ca=True))

    with secured() as server, secured() as other:
        source = GitSource(server.url("app.git", host="localhost"), cache=None, tls=PAIR, submodules=True)
        link("../library.git")
        assert contents(source)["lib/x"] == b"x"
        link(other.url("library.git", host="localhost").removeprefix("git+"))
        with pytest.raises((CertificateError, TransportError)):
            contents(source)


# --- what this machine knows -------------------------------------------------------------------------------------------


@pytest.fixture
def knowing_machine(tmp_path, monkeypatch):
    """A home that knows the password in every way git and curl would look for, and proxies that lead nowhere."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ada password hunter2\n")
    (tmp_path / ".netrc").chmod(0o600)
    (tmp_path / ".gitconfig").write_text(
        "[credential]\n\thelper = store\n[http]\n\textraHeader = X-Extra: hunter2\n"
        '[url "http://127.0.0.1:1/"]\n\tinsteadOf = http://127.0.0.1\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("GIT_ASKPASS", "false")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    return tmp_path


def test_what_the_machine_knows_is_asked_only_by_name(root, knowing_machine):
    """No .netrc, no helper, no configuration of git's and no proxy of the environment; each works once it is named."""
    with GitHTTPServer(root, username="ada", password="hunter2") as server:
        url = server.url("app.git")
        (knowing_machine / ".git-credentials").write_text(f"http://ada:hunter2@127.0.0.1%3a{server.port}\n")
        (knowing_machine / ".netrc").write_text(f"machine 127.0.0.1:{server.port} login ada password hunter2\n")
        with pytest.raises(AuthenticationError):
            GitSource(url, branch="main", cache=None).resolve_revision()
        for keychain in (NetrcKeychain(knowing_machine / ".netrc", allow_http=True), GitCredentialHelper("store")):
            assert contents(GitSource(url, branch="main", cache=None, keychain=keychain)) == {"a": b"a"}


def test_a_password_for_plain_http_in_netrc_is_not_sent_unless_that_is_allowed(root, knowing_machine):
    """Anybody on the way could read it."""
    with GitHTTPServer(root, username="ada", password="hunter2") as server:
        (knowing_machine / ".netrc").write_text(f"machine 127.0.0.1:{server.port} login ada password hunter2\n")
        keychain = NetrcKeychain(knowing_machine / ".netrc")
        with pytest.raises(AuthenticationError):
            GitSource(server.url("app.git"), cache=None, keychain=keychain).resolve_revision()


def test_a_keychain_is_asked_for_the_origin_and_nothing_more(root):
    """Neither path nor user: who may read one repository of a host is known by its origin."""
    asked = []

    class Noting:
        def credentials(self, origin, *, operation):
            asked.append(origin)
            return BasicAuth("ada", "hunter2")

    with GitHTTPServer(root, username="ada", password="hunter2") as server:
        source = GitSource(server.url("app.git"), branch="main", cache=None, keychain=Noting())
        assert contents(source) == {"a": b"a"}
        assert set(asked) == {source.address.origin}

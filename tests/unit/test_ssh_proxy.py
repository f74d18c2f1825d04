"""SSH through proxies: the connection is made by the proxy, host keys and login stay between us and the server."""

import attrs
import pytest

from fluxsrc.auth import Proxy
from fluxsrc.errors import AuthenticationError, CertificateError, TransportError
from fluxsrc.git.address import GitAddress
from fluxsrc.git.transport_ssh import open_ssh
from fluxsrc.operation import Operation
from fluxsrc.testing.ssh_server import SSHServer
from helpers.small_proxies import Tunnel, connect, socks5


@pytest.fixture
def server(tmp_path):
    async def hello(process):
        process.stdout.write(b"hello")
        process.exit(0)

    with SSHServer(tmp_path, command=hello) as server:
        yield server


@pytest.fixture
def tunnel(request):
    tunnel = Tunnel(request.param)
    yield tunnel
    tunnel.close()


def run(server, proxy, known_hosts=None):
    """The name is one that only the proxy can resolve."""
    known = known_hosts or server.known_hosts.replace("127.0.0.1", "git.example.com")
    key = attrs.evolve(server.key, known_hosts=known)
    address = GitAddress.parse(f"ssh://git@git.example.com:{server.port}/x")
    with open_ssh(address, key, "x", {}, operation=Operation(10), proxy=proxy) as stream:
        return stream.read(100)


@pytest.mark.parametrize("tunnel", [connect], indirect=True)
def test_an_http_proxy_with_a_password_is_tunnelled_through(server, tunnel):
    proxy = Proxy(url=f"http://127.0.0.1:{tunnel.port}", username="me", password="pw")
    assert run(server, proxy) == b"hello"
    assert tunnel.asked == [f"CONNECT git.example.com:{server.port} HTTP/1.1"]


@pytest.mark.parametrize("tunnel", [connect], indirect=True)
def test_a_proxy_that_wants_other_credentials_is_an_authentication_error(server, tunnel):
    with pytest.raises(AuthenticationError, match="proxy"):
        run(server, Proxy(url=f"http://127.0.0.1:{tunnel.port}", username="me", password="other"))


@pytest.mark.parametrize("tunnel", [socks5], indirect=True)
def test_a_socks_proxy_resolves_the_name(server, tunnel):
    assert run(server, Proxy(url=f"socks5://127.0.0.1:{tunnel.port}")) == b"hello"
    assert tunnel.asked == [f"git.example.com:{server.port}"]


@pytest.mark.parametrize("tunnel", [socks5], indirect=True)
def test_host_keys_are_those_of_the_name_we_meant(server, tunnel):
    with pytest.raises(CertificateError):
        run(server, Proxy(url=f"socks5://127.0.0.1:{tunnel.port}"), known_hosts=server.known_hosts)
    assert tunnel.asked == []


def test_a_proxy_that_is_not_there_is_a_transport_error(server):
    with pytest.raises(TransportError):
        run(server, Proxy(url="http://127.0.0.1:1"))

"""SSH through proxies: the connection is made by the proxy, host keys and login stay between us and the server."""

import base64
import socket
import threading
from contextlib import suppress

import attrs
import pytest

from fluxsrc.auth import Proxy
from fluxsrc.errors import AuthenticationError, CertificateError, TransportError
from fluxsrc.git.address import GitAddress
from fluxsrc.git.transport_ssh import open_ssh
from fluxsrc.operation import Operation
from fluxsrc.testing.ssh_server import SSHServer


class Tunnel:
    """A proxy that reads one request by the function `greet`, and then carries bytes to wherever that says."""

    def __init__(self, greet):
        self.greet = greet
        self.asked = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client, suppress(OSError):
            target = self.greet(self, client)
            if target is None:
                return
            with socket.create_connection(target) as server:
                back = threading.Thread(target=pump, args=(server, client), daemon=True)
                back.start()
                pump(client, server)
                back.join()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


def pump(source, sink):
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def connect(tunnel, client):
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(4096)
    lines = head.decode().split("\r\n")
    tunnel.asked.append(lines[0])
    wanted = "Basic " + base64.b64encode(b"me:pw").decode()
    if f"proxy-authorization: {wanted}".lower() not in (line.lower() for line in lines):
        client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        return None
    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    host, _, port = lines[0].split()[1].rpartition(":")
    return ("127.0.0.1" if host == "git.example.com" else host), int(port)


def socks5(tunnel, client):
    client.recv(3)
    client.sendall(b"\x05\x00")
    request = client.recv(300)
    host, port = request[5 : 5 + request[4]].decode(), int.from_bytes(request[-2:], "big")
    tunnel.asked.append(f"{host}:{port}")
    client.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
    return "127.0.0.1", port


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

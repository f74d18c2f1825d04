"""Two proxies for the tests, HTTP's CONNECT with a password and SOCKS5 without, and the name that only they can resolve."""

import base64
import socket
import threading
from contextlib import suppress

NAME = "git.example.com"


class Tunnel:
    """A proxy that reads one request by the function `greet`, and then carries bytes to wherever that says.

    Attributes:
        asked: What it was asked for.
        ports: Other ports that stand for some, such as 22.
    """

    def __init__(self, greet):
        self.greet = greet
        self.ports = {}
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
    return ("127.0.0.1" if host == NAME else host), tunnel.ports.get(int(port), int(port))


def socks5(tunnel, client):
    client.recv(3)
    client.sendall(b"\x05\x00")
    request = client.recv(300)
    host, port = request[5 : 5 + request[4]].decode(), int.from_bytes(request[-2:], "big")
    tunnel.asked.append(f"{host}:{port}")
    client.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
    return "127.0.0.1", tunnel.ports.get(port, port)


PROXIES = {"http": connect, "socks5": socks5}

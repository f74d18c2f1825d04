"""A real API server of Kubernetes on loopback: kube-apiserver over etcd, no nodes, and users by token.

A server that is missing is a failure: this lane was asked for.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import httpx
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from helpers.programs import free_port, process, tool

ADMIN = "admin-token"
_PATIENCE = 90.0
"""Seconds after which what should have happened will not."""


def until(condition: Callable[[], Any], what: str, evidence: Callable[[], Any] = str) -> Any:
    """Ask until the answer is true, and give it; if that never happens, fail with the evidence."""
    deadline = time.monotonic() + _PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"never happened: {what}\n{evidence()}"
        time.sleep(0.05)
    return answer


@attrs.frozen
class Cluster:
    """The API server.

    Attributes:
        url: Where it is.
        directory: Its certificate, and the kubeconfigs made here.
        client: An administrator's.
        program: How it is run, from when it is ready until a block ends.
    """

    url: str
    directory: Path
    client: httpx.Client
    program: Callable[[], contextlib.AbstractContextManager[None]]
    _stack: contextlib.ExitStack

    def start(self) -> None:
        """Run it until the end, or `stop`."""
        self._stack.enter_context(self.program())

    def stop(self) -> None:
        """End it; what it knows stays."""
        self._stack.close()

    def request(self, method: str, path: str, body: Any = None, *, patch: str = "merge") -> Any:
        """Ask; what is not a success is an error with the server's words."""
        headers = {"Content-Type": f"application/{patch}-patch+json"} if method == "PATCH" else {}
        response = self.client.request(method, path, json=body, headers=headers)
        if response.is_error:
            raise RuntimeError(f"{method} {path}: {response.status_code} {response.text}")
        return response.json()

    def apply(self, text: str) -> None:
        """Create the objects of a YAML text."""
        kinds = {"CustomResourceDefinition": "customresourcedefinitions", "ClusterRole": "clusterroles"}
        kinds |= {"ClusterRoleBinding": "clusterrolebindings"}
        for each in yaml.safe_load_all(text):
            self.request("POST", f"/apis/{each['apiVersion']}/{kinds[each['kind']]}", each)

    def kubeconfig(self, token: str) -> Path:
        """A kubeconfig of the user whose token this is."""
        path = self.directory / f"kubeconfig-{token}"
        cluster = {"server": self.url, "certificate-authority": str(self.directory / "certificates" / "apiserver.crt")}
        context = {"cluster": "test", "user": "user", "namespace": "default"}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": context}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(document))
        return path


@contextlib.contextmanager
def cluster(directory: Path, users: dict[str, str]) -> Iterator[Cluster]:
    """An API server without anything in it.

    Args:
        directory: For its data.
        users: Names by token, beside the administrator's.
    """
    store, port = f"http://127.0.0.1:{free_port()}", free_port()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (directory / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    lines = [f'{ADMIN},admin,admin,"system:masters"', *(f"{token},{name},{name}" for token, name in users.items())]
    (directory / "tokens.csv").write_text("\n".join(lines))
    etcd = [tool("etcd"), f"--data-dir={directory / 'etcd'}", "--unsafe-no-fsync"]
    etcd += [f"--listen-client-urls={store}", f"--advertise-client-urls={store}"]
    etcd += [f"--listen-peer-urls=http://127.0.0.1:{free_port()}"]
    server = [tool("kube-apiserver"), f"--etcd-servers={store}", "--authorization-mode=RBAC"]
    server += ["--bind-address=127.0.0.1", f"--secure-port={port}", f"--cert-dir={directory / 'certificates'}"]
    server += [f"--token-auth-file={directory / 'tokens.csv'}", "--service-account-issuer=https://cluster.example"]
    server += [f"--service-account-key-file={directory / 'key.pem'}", "--service-cluster-ip-range=10.0.0.0/24"]
    server += [f"--service-account-signing-key-file={directory / 'key.pem'}"]
    url, certificate = f"https://127.0.0.1:{port}", directory / "certificates" / "apiserver.crt"

    @contextlib.contextmanager
    def program() -> Iterator[None]:
        with process(server, directory / "kube-apiserver.log") as running:

            def answers() -> bool:
                assert running.poll() is None, (directory / "kube-apiserver.log").read_text()[-4000:]
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    return True
                return False

            until(answers, "the API server listens")
            with administrator() as client:
                until(lambda: client.get("/readyz").is_success, "the API server is ready")
            try:
                yield
            finally:
                running.kill()  # asked to end, it waits a minute for those who watch; what it knows is in etcd

    def administrator() -> httpx.Client:
        return httpx.Client(
            base_url=url,
            verify=ssl.create_default_context(cafile=certificate),
            headers={"Authorization": f"Bearer {ADMIN}"},
            timeout=30,
            trust_env=False,
        )

    with process(etcd, directory / "etcd.log"), contextlib.ExitStack() as stack:
        stack.enter_context(program())
        with administrator() as client:
            yield Cluster(url, directory, client, program, stack)

"""Real Git servers on loopback: `git http-backend` behind TLS and basic auth, `git daemon`, OpenSSH's `sshd`.

A server that is missing is a failure: this lane was asked for.
"""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fluxsrc.auth import BasicAuth, Credentials, SSHKey, StaticKeychain, TLSConfig
from fluxsrc.git import GitCache, GitSource
from fluxsrc.git.ssh_pool import IDLE_CONNECTIONS
from fluxsrc.testing.git_server import GitHTTPServer
from helpers.programs import free_port, tool
from helpers.tls import TLS, server_context

USER, PASSWORD = "robot", "hunter2"
_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{role}_{what}": "ada@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def git(*arguments: object, cwd: Path | None = None) -> str:
    """Run the real git without anybody's configuration."""
    words = [tool("git"), *map(str, arguments)]
    done = subprocess.run(words, cwd=cwd, env=_ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stderr}"
    return done.stdout


class Origin:
    """A repository that the real git commits to, and a server that serves it.

    Attributes:
        url: Where the server has it.
        secrets: What no text may show.
    """

    keeps_modes = True

    def __init__(self, root: Path, url: str, credentials: Credentials | None = None, **options: Any) -> None:
        self.path = root / "repository.git"
        self.work = root / "work"
        self.url = url
        self.secrets = (PASSWORD,) if isinstance(credentials, BasicAuth) else ()
        self.options = {"cache": GitCache(path=root / "cache"), **options}
        if not self.path.exists():
            git("init", "-q", "--bare", "-b", "main", self.path)
            for key in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
                git("config", key, "true", cwd=self.path)
            (self.path / "git-daemon-export-ok").touch()
        if credentials is not None:
            origin = GitSource(url).address.origin
            self.options["keychain"] = StaticKeychain(((origin, credentials),))

    def publish(self, files: Mapping[str, Any], /) -> None:
        """Commit exactly these files, and push."""
        shutil.rmtree(self.work, ignore_errors=True)
        # Not a clone: that of an empty repository does not learn how it names objects.
        named = git("rev-parse", "--show-object-format", cwd=self.path).strip()
        git("init", "-q", "-b", "main", f"--object-format={named}", self.work)
        git("remote", "add", "origin", self.path, cwd=self.work)
        git("fetch", "-q", "origin", cwd=self.work)
        if git("for-each-ref", "refs/remotes/origin/main", cwd=self.work):
            git("reset", "-q", "--hard", "origin/main", cwd=self.work)
        for item in self.work.iterdir():
            if item.name != ".git":
                shutil.rmtree(item) if item.is_dir() else item.unlink()
        for path, file in files.items():
            target = self.work / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.data)
            target.chmod(file.mode.permissions)
        git("add", "-A", cwd=self.work)
        git("commit", "-q", "--allow-empty", "-m", "published", cwd=self.work)
        git("push", "-q", "origin", "main", cwd=self.work)

    def source(self, **options: Any) -> GitSource:
        """A source of the branch `main`, unless another choice is made."""
        if not {"tag", "semver", "ref", "commit", "branch"} & options.keys():
            options["branch"] = "main"
        return GitSource(self.url, **self.options, **options)

    def missing(self) -> GitSource:
        """A source of a branch that is not there."""
        return GitSource(self.url, branch="missing", **self.options)


@contextlib.contextmanager
def https(root: Path) -> Iterator[Origin]:
    """`git http-backend` behind HTTPS, with a password."""
    tool("git")
    with GitHTTPServer(root, username=USER, password=PASSWORD, context=server_context()) as server:
        tls = TLSConfig(ca=(TLS / "ca.pem").read_text())
        yield Origin(root, server.url("repository.git", host="localhost"), BasicAuth(USER, PASSWORD), tls=tls)


@contextlib.contextmanager
def daemon(root: Path) -> Iterator[Origin]:
    """`git daemon`."""
    port = free_port()
    command = [tool("git"), "daemon", f"--base-path={root}", "--listen=127.0.0.1", f"--port={port}", "--reuseaddr"]
    with _process(command, port):
        yield Origin(root, f"git://127.0.0.1:{port}/repository.git")


@contextlib.contextmanager
def sshd(root: Path) -> Iterator[Origin]:
    """OpenSSH's `sshd`, with a host key and a user key made for the occasion."""
    home = root / "sshd"
    home.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run([tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", home / name], check=True)
    (home / "authorized_keys").write_text((home / "user.pub").read_text())
    (home / "authorized_keys").chmod(0o600)
    port = free_port()
    (home / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {home}/host\nAuthorizedKeysFile {home}/authorized_keys\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nAcceptEnv GIT_PROTOCOL\n"
        f"PermitRootLogin yes\nSetEnv GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=*\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd separates its privileges
    with _process([tool("sshd"), "-D", "-e", "-f", str(home / "sshd_config")], port):
        kind, key, *_ = (home / "host.pub").read_text().split()
        known = f"[127.0.0.1]:{port} {kind} {key}\n"
        credentials = SSHKey(identity=(home / "user").read_text(), known_hosts=known)
        yield Origin(root, f"git+ssh://{getpass.getuser()}@127.0.0.1:{port}{root}/repository.git", credentials)


@contextlib.contextmanager
def _process(command: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=_ENVIRONMENT) as process:
        try:
            for _ in range(200):
                if process.poll() is not None:
                    pytest.fail(f"{command[0]} did not start: {process.stderr.read().decode()}")
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.05)
            yield
        finally:
            IDLE_CONNECTIONS.close()  # sshd's children, which have its stderr too, end with their connections
            process.terminate()
            process.communicate()

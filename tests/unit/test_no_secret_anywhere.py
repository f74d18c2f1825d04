"""No secret in any text: every way to fail is gone, and all that it says, logs or chains is searched for the secrets.

Each scenario is a generator function: it yields the secrets it uses, then fails with a `FluxSrcError`. What is collected:
str, repr, arguments and attributes of the error and of everything chained to it, shown or not; its formatted traceback;
every log record of every library at DEBUG; and the repr and str of the objects in the scenario's own frame.
"""

import base64
import json
import logging
import os
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

import asyncssh
import attrs
import pytest

from fluxsrc import GitSource
from fluxsrc._io.http import HTTPClient
from fluxsrc.auth import BasicAuth, BearerToken, Origin, Proxy, Secret, StaticKeychain, TLSConfig
from fluxsrc.errors import FluxSrcError
from fluxsrc.git.address import GitAddress
from fluxsrc.git.lfs import LFSPointer
from fluxsrc.git.lfs_store import LFSStore
from fluxsrc.git.transport import Access
from fluxsrc.git.transport_ssh import open_upload_pack
from fluxsrc.keychains import ChainKeychain, GitCredentialHelper, GitHubApp, NetrcKeychain, keychain_from_env
from fluxsrc.limits import DEFAULT_LIMITS
from fluxsrc.operation import Operation
from fluxsrc.testing.git import GitRepositoryBuilder
from fluxsrc.testing.git_server import GitHTTPServer
from fluxsrc.testing.lfs_server import LFSServer
from fluxsrc.testing.ssh_server import SSHServer
from helpers.tls import TLS, server_context

SECRET = "s3cr3t-p4ssw0rd"
"""Long and odd enough to be found by accident nowhere."""
OTHER = "0ther-h1dden-v4lue"

Scenario = Callable[["Stage"], Iterator[str]]
SCENARIOS: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


# --- collecting ------------------------------------------------------------------------------------------------------


class Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts += [self.format(record), repr(record.args), repr(record.__dict__)]

    def collect(self, error: BaseException) -> None:
        """The error and whatever hangs on it, also where `from None` hides it from people."""
        seen: set[int] = set()
        todo: list[BaseException | None] = [error]
        while todo:
            exc = todo.pop()
            if exc is None or id(exc) in seen:
                continue
            seen.add(id(exc))
            self.texts += [str(exc), repr(exc), repr(exc.args), repr(vars(exc)), repr(getattr(exc, "__notes__", ""))]
            self.texts += traceback.format_exception(exc)
            todo += [exc.__cause__, exc.__context__]

    def collect_frame(self, values: dict[str, object]) -> None:
        for value in values.values():
            if not isinstance(value, str | bytes):  # the test's own texts hold the secrets, of course
                self.texts += [repr(value), str(value), f"{value}"]


def spellings(secret: str) -> set[str]:
    """A secret in the disguises that it travels in."""
    pairs = [f"{user}:{secret}" for user in ("me", "git", "x-access-token", "")]
    encoded = {base64.b64encode(text.encode()).decode().rstrip("=") for text in (secret, *pairs)}
    return {secret, quote(secret, safe=""), secret.encode().hex(), repr(secret)[1:-1]} | encoded


@contextmanager
def listening() -> Iterator[Collector]:
    collector = Collector()
    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(name) for name in ("asyncssh", "fluxsrc", "urllib3", "httpx", "httpcore"))]
    before = [(logger, logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    root.addHandler(collector)
    try:
        yield collector
    finally:
        root.removeHandler(collector)
        for logger, level in before:
            logger.setLevel(level)


# --- the stage -------------------------------------------------------------------------------------------------------


@attrs.define
class Stage:
    """What scenarios are played with: a place on disk, and things to close afterwards."""

    path: Path
    stack: ExitStack
    monkeypatch: pytest.MonkeyPatch

    def git_server(self, **options) -> GitHTTPServer:
        GitRepositoryBuilder(self.path / "app.git").commit({"a.yaml": b"a"})
        return self.stack.enter_context(GitHTTPServer(self.path, **options))

    def lfs_server(self, **options) -> LFSServer:
        return self.stack.enter_context(LFSServer(**options))

    def ssh_server(self, **options) -> SSHServer:
        return self.stack.enter_context(SSHServer(self.path, **options))

    def lfs_store(self, url: str, keychain=None, timeout: float = 10.0) -> LFSStore:
        access = Access(
            address=GitAddress.parse(url), keychain=keychain, tls=TLSConfig(), proxy=None, limits=DEFAULT_LIMITS
        )
        return self.stack.enter_context(LFSStore(access, self.path / "lfs", Operation(timeout)))

    def black_hole(self) -> int:
        """The port of a listener that never answers."""
        return self.stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]

    def helper(self, script: str, **options) -> GitCredentialHelper:
        path = self.path / "git-credential-test"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        self.monkeypatch.setenv("PATH", f"{self.path}{os.pathsep}{os.environ['PATH']}")
        return GitCredentialHelper("test", **options)


def basic(url: str) -> StaticKeychain:
    return StaticKeychain.for_url(url.removeprefix("git+"), BasicAuth("me", SECRET))


# --- Git over HTTP ---------------------------------------------------------------------------------------------------


@scenario
def wrong_password_over_http(stage):
    server = stage.git_server(username="me", password=OTHER)
    yield SECRET
    url = server.url("app.git")
    source = GitSource(url, branch="main", keychain=basic(url), cache=None)
    source.resolve_revision()


@scenario
def password_written_into_the_url(stage):
    server = stage.git_server(username="me", password=OTHER)
    yield SECRET
    url = server.url("app.git").replace("://", f"://me:{SECRET}@")
    source = GitSource(url, branch="main", cache=None)
    source.resolve_revision()


@scenario
def token_in_a_url_that_nobody_understands(stage):
    yield SECRET
    GitSource(f"ftp://me:{SECRET}@git.example.com/app.git?token={SECRET}", branch="main")


@scenario
def token_in_the_query_of_a_url(stage):
    yield SECRET
    GitSource(f"https://git.example.com/app.git?private_token={SECRET}", branch="main")


@scenario
def a_server_that_echoes_what_it_was_sent(stage):
    def echo(handler) -> bool:
        body = f"you sent {handler.headers['Authorization']}".encode()
        handler.send_response(403)
        handler.send_header("Content-Type", "text/plain")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        return True

    server = stage.git_server(before=echo)
    yield SECRET
    url = server.url("app.git")
    source = GitSource(url, branch="main", keychain=basic(url), cache=None)
    source.resolve_revision()


@scenario
def redirect_elsewhere(stage):
    port = stage.black_hole()

    def redirect(handler) -> bool:
        handler.send_response(302)
        handler.send_header("Location", f"http://127.0.0.1:{port}/app.git/info/refs?sig={OTHER}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    server = stage.git_server(before=redirect)
    yield SECRET
    yield OTHER
    url = server.url("app.git")
    source = GitSource(url, branch="main", keychain=basic(url), cache=None, timeout=0.5)
    source.resolve_revision()


@scenario
def untrusted_certificate(stage):
    server = stage.git_server(context=server_context())
    yield SECRET
    url = server.url("app.git")
    source = GitSource(url, branch="main", keychain=basic(url), cache=None)
    source.resolve_revision()


@scenario
def unreadable_client_key(stage):
    server = stage.git_server(context=server_context())
    yield SECRET
    tls = TLSConfig(certificate=(TLS / "client.pem").read_text(), key=f"-----BEGIN {SECRET}-----\n{SECRET}\n")
    source = GitSource(server.url("app.git"), branch="main", tls=tls, cache=None)
    source.resolve_revision()


@scenario
def timeout_while_a_token_is_on_its_way(stage):
    port = stage.black_hole()
    yield SECRET
    url = f"http://127.0.0.1:{port}/app.git"
    keychain = StaticKeychain.for_url(url, BearerToken(SECRET))
    source = GitSource(url, branch="main", keychain=keychain, cache=None, timeout=0.3)
    source.resolve_revision()


@scenario
def a_proxy_that_wants_another_password(stage):
    def refuse(handler) -> bool:
        handler.send_response(407)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    server = stage.git_server(before=refuse)
    yield SECRET
    proxy = Proxy(url=f"http://127.0.0.1:{server.port}", username="me", password=SECRET)
    source = GitSource("http://git.example.com/app.git", branch="main", proxy=proxy, cache=None)
    source.resolve_revision()


@scenario
def a_password_in_the_url_of_a_proxy(stage):
    yield SECRET
    proxy = Proxy(url=f"http://me:{SECRET}@127.0.0.1:1")
    source = GitSource("http://git.example.com/app.git", branch="main", proxy=proxy, cache=None)
    source.resolve_revision()


@scenario
def an_ssh_key_for_an_http_url(stage):
    server = stage.ssh_server()
    yield SECRET
    url = "https://git.example.com/app.git"
    key = attrs.evolve(server.key, passphrase=SECRET)
    source = GitSource(url, branch="main", keychain=StaticKeychain.for_url(url, key), cache=None)
    source.resolve_revision()


# --- SSH -------------------------------------------------------------------------------------------------------------


QUICK = {"rounds": 16, "ignore_few_rounds": True}
"""Rounds of the function that slows guessing down; a key may have any number of them."""


def private_lines(text: str) -> str:
    """A line from the middle of a private key."""
    return text.splitlines()[2]


def ssh(stage, server, key, timeout=60.0):
    address = GitAddress.parse(server.url("app.git"))
    with open_upload_pack(address, key, operation=Operation(timeout)) as stream:
        stream.read(1)


@scenario
def wrong_passphrase(stage):
    server = stage.ssh_server()
    text = asyncssh.import_private_key(server.key.identity.reveal()).export_private_key("pkcs8-pem", passphrase=OTHER)
    yield SECRET
    yield OTHER
    yield private_lines(text.decode())
    ssh(stage, server, attrs.evolve(server.key, identity=text.decode(), passphrase=SECRET))


@scenario
def missing_passphrase(stage):
    server = stage.ssh_server()
    key = asyncssh.import_private_key(server.key.identity.reveal())
    text = key.export_private_key("openssh", passphrase=OTHER, **QUICK)
    yield private_lines(text.decode())
    ssh(stage, server, attrs.evolve(server.key, identity=text.decode()))


@scenario
def a_private_key_that_is_none(stage):
    server = stage.ssh_server()
    yield SECRET
    text = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n-----END OPENSSH PRIVATE KEY-----\n"
    ssh(stage, server, attrs.evolve(server.key, identity=text))


@scenario
def a_key_that_the_ssh_server_does_not_take(stage):
    server = stage.ssh_server()
    key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
    text = key.export_private_key(passphrase=SECRET, **QUICK).decode()
    yield SECRET
    yield private_lines(text)
    ssh(stage, server, attrs.evolve(server.key, identity=text, passphrase=SECRET))


@scenario
def another_host_key(stage):
    server = stage.ssh_server()
    public = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    yield private_lines(server.key.identity.reveal())
    ssh(stage, server, attrs.evolve(server.key, known_hosts=f"[127.0.0.1]:{server.port} {public}"))


@scenario
def a_password_for_ssh(stage):
    server = stage.ssh_server()
    yield SECRET
    ssh(stage, server, BasicAuth("me", SECRET))


@scenario
def a_password_in_an_ssh_url(stage):
    server = stage.ssh_server()
    yield SECRET
    url = server.url("app.git").replace("git@", f"git:{SECRET}@")
    source = GitSource(url, branch="main", cache=None)
    source.resolve_revision()


@scenario
def ssh_timeout(stage):
    server = stage.ssh_server()
    port = stage.black_hole()
    known = f"[127.0.0.1]:{port} {server.known_hosts.split(' ', 1)[1]}"
    yield private_lines(server.key.identity.reveal())
    key = attrs.evolve(server.key, known_hosts=known)
    open_upload_pack(GitAddress.parse(f"ssh://127.0.0.1:{port}/x"), key, operation=Operation(0.3))


# --- LFS -------------------------------------------------------------------------------------------------------------


@scenario
def lfs_wants_other_credentials(stage):
    server = stage.lfs_server(username="me", password=OTHER)
    yield SECRET
    yield OTHER
    store = stage.lfs_store(f"{server.url}/app.git", basic(server.url))
    store.open(server.add(b"x"))


def lfs_action(server, **action):
    def change(answer):
        for item in answer["objects"]:
            item["actions"]["download"] |= action
        return answer

    server.batch = change


@scenario
def a_signed_lfs_address_that_is_refused(stage):
    server = stage.lfs_server(token=OTHER)
    pointer = server.add(b"x")
    lfs_action(server, href=f"{server.url}/objects/{pointer.oid}?sig={SECRET}", header={"X-Token": f"{SECRET}x"})
    yield SECRET
    yield OTHER
    store = stage.lfs_store(f"{server.url}/app.git")
    store.open(pointer)


@scenario
def a_signed_lfs_address_with_other_bytes(stage):
    server = stage.lfs_server(spoil=lambda data: data + b"!")
    pointer = server.add(b"x")
    lfs_action(server, href=f"{server.url}/objects/{pointer.oid}?sig={SECRET}")
    yield SECRET
    store = stage.lfs_store(f"{server.url}/app.git")
    store.open(pointer)


@scenario
def an_lfs_answer_that_is_not_json_but_has_a_token(stage):
    server = stage.lfs_server(batch=lambda _: f'{{"token": "{SECRET}"'.encode())
    yield SECRET
    store = stage.lfs_store(f"{server.url}/app.git")
    store.open(server.add(b"x"))


@scenario
def an_lfs_header_that_is_none(stage):
    server = stage.lfs_server()
    pointer = server.add(b"x")
    lfs_action(server, header={"Authorization": f"{SECRET}\r\nHost: x"})
    yield SECRET
    store = stage.lfs_store(f"{server.url}/app.git")
    store.open(pointer)


@scenario
def an_lfs_address_with_a_password(stage):
    server = stage.lfs_server()
    pointer = server.add(b"x")
    lfs_action(server, href=f"http://me:{SECRET}@127.0.0.1/x")
    yield SECRET
    store = stage.lfs_store(f"{server.url}/app.git")
    store.open(pointer)


@scenario
def an_lfs_token_by_way_of_ssh_that_makes_no_sense(stage):
    async def answer(process):
        process.stdout.write(json.dumps({"href": f"http://x/?{SECRET}", "header": {"Authorization": SECRET}}).encode())
        process.exit(0)

    server = stage.ssh_server(command=answer)
    yield SECRET
    keychain = StaticKeychain.for_url(server.url("x"), server.key)
    store = stage.lfs_store(server.url("app.git"), keychain)
    store.open(LFSPointer("00" * 32, 1))


# --- keychains -------------------------------------------------------------------------------------------------------

HERE = Origin.of("https://git.example.com")


@scenario
def a_credential_helper_that_fails(stage):
    keychain = stage.helper(f"echo password={SECRET}; echo {SECRET} >&2; exit 1")
    yield SECRET
    keychain.credentials(HERE)


@scenario
def a_credential_helper_that_talks_nonsense(stage):
    keychain = stage.helper(f"echo username=me; echo {SECRET}")
    yield SECRET
    keychain.credentials(HERE)


@scenario
def a_credential_helper_that_does_not_end(stage):
    keychain = stage.helper(f"echo password={SECRET}; sleep 30", timeout=0.3)
    yield SECRET
    keychain.credentials(HERE)


@scenario
def a_netrc_file_that_cannot_be_parsed(stage):
    (stage.path / "netrc").write_text(f"machine git.example.com login me password a b {SECRET}\n")
    yield SECRET
    keychain = ChainKeychain.of(NetrcKeychain(stage.path / "netrc"))
    keychain.credentials(HERE)


@scenario
def half_a_pair_of_variables(stage):
    yield SECRET
    keychain_from_env("https://git.example.com", environ={"FLUXSRC_PASSWORD": SECRET})


@scenario
def two_kinds_of_variables(stage):
    yield SECRET
    yield OTHER
    url = f"https://me:{OTHER}@git.example.com"
    for name, value in (("TOKEN", SECRET), ("USERNAME", "me"), ("PASSWORD", OTHER)):
        stage.monkeypatch.setenv(f"FLUXSRC_{name}", value)
    keychain_from_env(url)


@scenario
def a_github_app_whose_key_is_none(stage):
    yield SECRET
    keychain = GitHubApp(app_id=1, private_key=f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n", owner="acme")
    keychain.credentials(keychain.origin)


# --- the HTTP client below them all ----------------------------------------------------------------------------------


@scenario
def a_header_that_cannot_be_sent(stage):
    server = stage.lfs_server()
    yield SECRET
    client = stage.stack.enter_context(HTTPClient())
    headers = {"Authorization": Secret(f"Bearer {SECRET}\r\nX: y")}
    client.request("GET", server.url, operation=Operation(5), phase="test", headers=headers)


@scenario
def a_url_with_a_password(stage):
    yield SECRET
    client = stage.stack.enter_context(HTTPClient())
    client.request("GET", f"http://me:{SECRET}@127.0.0.1/", operation=Operation(5), phase="test")


@scenario
def a_signed_url_at_a_port_where_nobody_listens(stage):
    yield SECRET
    client = stage.stack.enter_context(HTTPClient())
    client.request("GET", f"http://127.0.0.1:1/x?X-Amz-Signature={SECRET}", operation=Operation(5), phase="test")


# --- the test --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("play", SCENARIOS, ids=lambda function: function.__name__)
def test_no_secret_is_in_any_text_of_a_failure(play, tmp_path, monkeypatch):
    """Play the scenario; it must fail with an error of ours, and none of its secrets may show anywhere."""
    secrets: set[str] = set()
    values: dict[str, object] = {}
    with ExitStack() as stack, listening() as collector:
        run = play(Stage(tmp_path, stack, monkeypatch))
        failure = None
        try:
            for secret in run:
                secrets |= spellings(secret)
                values |= run.gi_frame.f_locals
        except FluxSrcError as exc:
            failure = exc
            innermost = exc.__traceback__
            while innermost is not None:
                if innermost.tb_frame.f_code is play.__code__:
                    values |= innermost.tb_frame.f_locals
                innermost = innermost.tb_next
        assert failure is not None, "the scenario has to fail"
        collector.collect(failure)
        collector.collect_frame(values)
    assert secrets
    said = "\n".join(collector.texts)
    # The traceback quotes this file's source lines, in which secrets have names, not values.
    assert {secret for secret in secrets if secret in said} == set()


def test_the_search_would_find_a_secret():
    """A check of the check: planted secrets are found in each of the places that are looked at."""
    places = []
    with listening() as collector:
        logging.getLogger("asyncssh").debug("sent %s", SECRET)
        places.append("\n".join(collector.texts))
        collector.texts.clear()
        try:
            try:
                raise ValueError(SECRET)
            except ValueError:
                raise FluxSrcError("hidden") from None
        except FluxSrcError as exc:
            collector.collect(exc)
        places.append("\n".join(collector.texts))
        collector.texts.clear()
        collector.collect_frame({"keychain": [SECRET]})
        places.append("\n".join(collector.texts))
    assert all(SECRET in place for place in places)
    assert base64.b64encode(f"me:{SECRET}".encode()).decode().rstrip("=") in spellings(SECRET)

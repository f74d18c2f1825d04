"""Signing with a name, as far as nobody has to be asked: what is refused, and that no token is ever told."""

import base64
import datetime as dt
import json
import socket
import sys
import threading
import traceback
from pathlib import Path

import pytest

from fluxsrc.auth import Secret
from fluxsrc.cli import main
from fluxsrc.errors import (
    AuthenticationError,
    ConfigurationError,
    MissingExtraError,
    OperationCancelledError,
    TransportError,
    TransportTimeoutError,
)
from fluxsrc.memory import MemorySource
from fluxsrc.oci import push
from fluxsrc.operation import Operation
from fluxsrc.signatures import TrustedRoot
from fluxsrc.signing import CosignKeylessSigner, SigningConfig, ambient_token, sign
from helpers.waiting import expire

ROOT = Path(__file__).parent / "data" / "keyless" / "trusted_root.json"
AMBIENT = ("GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "GOOGLE_SERVICE_ACCOUNT_NAME", "SIGSTORE_ID_TOKEN")
NAMED = ("--verify-identity", "ada", "--verify-issuer", "https://ci.example.com")


def token(**claims):
    """An identity token as it looks; its signature is nobody's, which only an authority would find out."""
    now = int(dt.datetime.now(dt.UTC).timestamp())
    claims = {
        "iss": "https://ci.example.com",
        "aud": "sigstore",
        "sub": "ada",
        "iat": now,
        "nbf": now - 60,
        "exp": now + 600,
        **claims,
    }

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return Secret(f"{part({'alg': 'ES256', 'typ': 'JWT'})}.{part(claims)}.c2VjcmV0")


def config(**services):
    """A signing config whose services are somewhere."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}"

    def service(version):
        valid = {"start": "2024-01-01T00:00:00Z"}
        return [{"url": nowhere, "majorApiVersion": version, "operator": "small", "validFor": valid}]

    value = {
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "caUrls": service(1),
        "oidcUrls": service(1),
        "rekorTlogUrls": service(2),
        "rekorTlogConfig": {"selector": "ANY"},
        "tsaConfig": {"selector": "ANY"},
    }
    return SigningConfig(json.dumps({**value, **services}).encode())


def signer(secret, signing_config=None):
    return CosignKeylessSigner(secret, config=signing_config or config(), trusted_root=TrustedRoot.from_file(ROOT))


@pytest.fixture
def image(tmp_path, monkeypatch):
    """An artifact that is to be signed, on a machine that is nobody's."""
    monkeypatch.chdir(tmp_path)
    for name in AMBIENT:
        monkeypatch.delenv(name, raising=False)
    pushed = push(MemorySource({"app.yaml": b"a"}), "oci-layout:images:v1")
    return f"oci-layout:images@{pushed.digest}"


@pytest.mark.parametrize(
    "secret",
    [Secret("no token at all"), token(aud="another"), token(exp=1), token(iss=None)],
    ids=["none", "for another service", "expired", "without an issuer"],
)
def test_a_token_that_cannot_be_used_is_an_error_of_authentication(image, secret):
    """Before anybody is asked; and what is said has no token in it."""
    with pytest.raises(AuthenticationError) as caught:
        sign(image, signer(secret))
    assert secret.reveal() not in "".join(traceback.format_exception(caught.value))


def test_services_that_are_not_there_are_an_error_of_transport(image):
    """Nothing is put beside the artifact then."""
    secret = token()
    with pytest.raises(TransportError, match="cannot sign") as caught:
        sign(image, signer(secret))
    assert secret.reveal() not in "".join(traceback.format_exception(caught.value))
    assert secret.reveal() not in repr(signer(secret))


def test_services_that_do_not_answer_are_not_waited_for_longer_than_asked(image):
    """Their library knows no deadline."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        valid = {"start": "2024-01-01T00:00:00Z"}
        authority = [{"url": url, "majorApiVersion": 1, "operator": "small", "validFor": valid}]
        silent = signer(token(), config(caUrls=authority))
        operation, over = Operation(60), threading.Event()

        def hear():
            connection, _ = deaf.accept()
            with connection:
                expire(operation)
                over.wait(60)

        asked = threading.Thread(target=hear)
        asked.start()
        with pytest.raises(TransportTimeoutError) as caught:
            sign(image, silent, operation=operation)
        over.set()
        asked.join()
        assert caught.value.phase == "sign"
        calls = iter([*[False] * 20, True])
        with pytest.raises(OperationCancelledError):
            sign(image, silent, operation=Operation(cancel=lambda: next(calls, True)))


@pytest.mark.parametrize(
    "signing_config",
    [SigningConfig(b""), SigningConfig(b"{}"), SigningConfig(b"\xff"), config(rekorTlogUrls=[]), config(caUrls=[])],
    ids=["empty", "without a type", "no text", "without a log", "without an authority"],
)
def test_a_signing_config_that_cannot_be_used_is_refused(image, signing_config):
    with pytest.raises(ConfigurationError, match="signing config"):
        sign(image, signer(token(), signing_config))


def test_a_signing_config_is_read_from_a_file_and_missed_where_there_is_none(tmp_path):
    path = tmp_path / "signing_config.json"
    with pytest.raises(ConfigurationError, match="cannot read"):
        SigningConfig.from_file(path)
    path.write_bytes(config().content)
    assert b"caUrls" in SigningConfig.from_file(path).content
    path.write_bytes(b" " * 2_000_000)
    with pytest.raises(ConfigurationError, match="larger"):
        SigningConfig.from_file(path)


def test_the_public_instances_signing_config_comes_with_the_library():
    """And can be used with its trusted root."""
    assert SigningConfig.bundled().model(TrustedRoot.bundled())


def test_a_machine_that_is_nobodys_has_no_token(image, monkeypatch):
    """A CI job has one, if it may."""
    with pytest.raises(AuthenticationError, match="who signs"):
        ambient_token()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", raising=False)
    with pytest.raises(AuthenticationError, match="no identity token"):
        ambient_token()


def test_a_token_of_the_job_is_found_where_gitlab_puts_it(image, monkeypatch):
    """No request is needed for that."""
    secret = token()
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", secret.reveal())
    assert ambient_token() == secret


def test_without_the_library_the_extra_is_named(image, monkeypatch):
    for name in ("sigstore.models", "sigstore.oidc"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"fluxsrc\[verify\]"):
        ambient_token()
    with pytest.raises(MissingExtraError, match=r"fluxsrc\[verify\]"):
        config().model(TrustedRoot(ROOT.read_bytes()))


def test_the_command_line_refreshes_the_trusted_root_where_it_is_told_to(image, monkeypatch, capfd):
    """Before anything is asked of the registry; the refresh itself is tested elsewhere."""
    asked = []

    def refresh(cache):
        asked.append(cache)
        return TrustedRoot.from_file(ROOT)

    monkeypatch.setattr(TrustedRoot, "refresh", refresh)
    assert main(["resolve", "oci-layout:images:v1", *NAMED, "--verify-tuf-cache", "cache"]) == 4
    assert "check 2 (signature)" in capfd.readouterr().err
    assert asked == [Path("cache")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sign", "IMAGE", "--keyless", "--key", "x.key"), "not both"),
        (("sign", "IMAGE"), "sign with which key"),
        (("sign", "IMAGE", "--keyless"), "nothing here says who signs"),
        (("sign", "IMAGE", "--keyless", "--layout", "cosign"), "signs bundles only"),
        (("sign", "IMAGE", "--key", "x.key", "--trusted-root", "x.json"), "are about --keyless"),
        (("push", "oci-layout:images:v1", "oci-layout:images:v2", "--keyless", "--sign", "x.key"), "not both"),
        (("push", "oci-layout:images:v1", "oci-layout:images:v2", "--signing-config", "x"), "sign with which key"),
        (("resolve", "oci-layout:images:v1", "--verify-identity", "ada"), "does not say by whom"),
        (("resolve", "oci-layout:images:v1", "--verify-issuer", "x"), "does not say by whom"),
        (("resolve", "oci-layout:images:v1", "--verify-trusted-root", "x"), "does not say by whom"),
        (("resolve", "oci-layout:images:v1", "--verify-identity", "/(/", "--verify-issuer", "x"), "regular expression"),
        (("resolve", "oci-layout:images:v1", "--verify-key", "x.pub", "--verify-issuer", "x"), "leave one out"),
        (("resolve", "git+file://.", "--verify-key", "x", "--verify-issuer", "x"), "take no --verify-issuer"),
        (("resolve", "git+file://.", "--verify-key", "x", "--verify-tuf-cache", "x"), "take no --verify-tuf-cache"),
        (
            ("resolve", "oci-layout:images:v1", *NAMED, "--verify-tuf-cache", "x", "--verify-trusted-root", "y"),
            "two roots",
        ),
    ],
)
def test_what_would_have_no_effect_or_names_nobody_is_refused(image, capfd, arguments, said):
    """An option about trust that nothing heeds would be worse than none."""
    code = main([image if word == "IMAGE" else word for word in arguments])
    out, err = capfd.readouterr()
    assert code in (2, 3)
    assert out == ""
    assert said in err


def test_the_token_of_the_environment_is_used_and_not_told(image, monkeypatch, capfd):
    """As far as an authority that is not there: exit code 3, and no token in the error."""
    secret = token()
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", secret.reveal())
    Path("signing_config.json").write_bytes(config().content)
    words = ["--keyless", "--trusted-root", str(ROOT), "--signing-config", "signing_config.json"]
    assert main(["sign", image, *words]) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert "cannot sign" in err
    assert secret.reveal() not in err


def test_the_command_line_asks_for_names(image, capfd):
    """Exact ones, and patterns between slashes; nothing is signed here, which is check 2."""
    words = ["--verify-issuer", "https://ci.example.com", "--verify-trusted-root", str(ROOT)]
    for name in ("ada@example.com", "/.*@example[.]com/"):
        assert main(["resolve", "oci-layout:images:v1", "--verify-identity", name, *words]) == 4
        assert "check 2 (signature)" in capfd.readouterr().err

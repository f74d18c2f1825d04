"""`fluxsrc lock --sign` and `--verify`: who signs, who is asked, and what is refused."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fluxsrc.cli import main

MANIFEST = """
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: app}}
spec:
  interval: 5m
  url: file://{root}
  ref: {{branch: main}}
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A directory with a repository, a manifest, and keys of Ada, Eve and cosign."""
    from fluxsrc.testing.git import GitRepositoryBuilder

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLUXSRC_KEY_PASSWORD", raising=False)
    monkeypatch.delenv("COSIGN_PASSWORD", raising=False)
    GitRepositoryBuilder(tmp_path / "app.git").commit({"app.yaml": "kind: App\n"})
    Path("sources.yaml").write_text(MANIFEST.format(root=tmp_path / "app.git"))
    for name, seed in {"ada": b"a" * 32, "eve": b"e" * 32}.items():
        key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
        Path(name).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        Path(f"{name}.pub").write_text(f'{name}@example.com namespaces="fluxsrc-lock" {public}\n')
    key = ec.derive_private_key(99, ec.SECP256R1())
    how = BestAvailableEncryption(b"hunter2")
    Path("cosign.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
    Path("cosign.pub").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return tmp_path


@pytest.fixture
def run(capfd, work):
    def execute(*words):
        capfd.readouterr()
        code = main(("lock", *words))
        out, err = capfd.readouterr()
        return code, out, err

    return execute


def test_a_lock_is_written_and_signed_at_once_and_then_asked_for(run):
    """With JSON for programs; `--frozen` goes on only after the signature was found good."""
    code, out, _ = run("-f", "sources.yaml", "--sign", "ada", "--json")
    assert (code, json.loads(out)["signature"]) == (0, "fluxsrc.lock.sig")
    code, out, _ = run("--verify", "ada.pub", "--json")
    shown = json.loads(out)
    assert (code, shown["signer"], shown["scheme"]) == (0, "ada@example.com", "ssh")
    assert shown["locked"] == ["gitrepository/default/app"]
    asked = ("-f", "sources.yaml", "--verify", "ada.pub", "--identity", "ada@example.com")
    assert run(*asked, "--frozen", "--store", "store")[0] == 0
    assert run(*asked, "--check")[0] == 0


def test_a_lock_that_somebody_else_signed_or_changed_pins_nothing(run):
    """Exit code of content that is refused, the number of the check, and an empty store."""
    run("-f", "sources.yaml", "--sign", "eve")
    code, _, err = run("-f", "sources.yaml", "--verify", "ada.pub", "--frozen", "--store", "store")
    assert code != 0
    assert "check 6" in err
    assert run("--sign", "ada")[0] == 0
    Path("fluxsrc.lock").write_text(Path("fluxsrc.lock").read_text().replace("main@", "maim@"))
    code, _, err = run("-f", "sources.yaml", "--verify", "ada.pub", "--locked", "--store", "store")
    assert code != 0
    assert "check 9" in err
    assert not Path("store").exists()


def test_an_encrypted_key_takes_its_password_from_the_environment(run, monkeypatch):
    """And never from the command line, which everybody can read."""
    run("-f", "sources.yaml")
    code, _, err = run("--sign", "cosign.key")
    assert code != 0
    assert "password" in err
    monkeypatch.setenv("FLUXSRC_KEY_PASSWORD", "hunter2")
    assert run("--sign", "ada")[0] == 0, "one that needs no password is not asked for it"
    assert run("--sign", "cosign.key")[0] == 0
    code, out, _ = run("--verify", "cosign.pub", "--verify", "ada.pub")
    assert code == 0
    assert "a key without a name, SHA256:" in out


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--check",),
        ("-f", "sources.yaml", "--verify", "ada.pub"),
        ("-f", "sources.yaml", "--sign", "ada", "--check"),
        ("--sign", "ada", "--verify", "ada.pub"),
        ("-f", "sources.yaml", "--identity", "ada@example.com", "--check"),
        ("--sign", "missing"),
        ("--sign", "ada.pub"),
        ("--verify", "missing"),
    ],
)
def test_what_makes_no_sense_is_refused(run, words):
    """Nothing that was asked for is passed over."""
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    assert err


@pytest.fixture
def program(capfd, work):
    """Any command, beside a bucket that Ada approved."""
    Path("bucket").mkdir()
    Path("bucket/app.yaml").write_text("kind: App\n")
    url = f"bucket+file://{work / 'bucket'}"
    assert main(("pull", url, "--lock", "--store", "store")) == 0
    assert main(("lock", "--sign", "ada")) == 0

    def execute(command, *words, keys="ada.pub"):
        capfd.readouterr()
        code = main((command, url, *words, "--verify-lock", "fluxsrc.lock", "--verify-key", keys))
        return code, *capfd.readouterr()

    return execute


def test_any_source_is_held_against_a_signed_lock(program):
    """Who signed it, and which source it is there, are told; what is different content puts nothing anywhere."""
    code, out, err = program("pull", "--output", "out", "--verify-identity", "ada@example.com")
    assert (code, err) == (0, "")
    assert "lock.signer: ada@example.com" in out
    code, out, _ = program("resolve", "--json")
    facts = dict(json.loads(out)["verification"])
    assert (code, facts["lock.scheme"]) == (0, "ssh")
    name = facts["lock.source"]
    assert program("ls", "--verify-lock-source", name)[0] == 0
    code, _, err = program("ls", "--verify-lock-source", "bucket/default/other")
    assert (code, "check 11" in err) == (4, True)
    Path("bucket/app.yaml").write_text("kind: Evil\n")
    for command, place in (("pull", ("--output", "evil")), ("pull", ("--store", "fresh")), ("ls", ())):
        code, out, err = program(command, *place)
        assert (code, out, "check 13" in err) == (4, "", True)
    assert not Path("evil").exists()


def test_a_lock_that_is_not_signed_or_by_somebody_else_lets_nothing_through(program):
    """With the numbers of the checks."""
    code, out, err = program("ls", keys="eve.pub")
    assert (code, out, "check 6" in err) == (4, "", True)
    code, _, err = program("ls", "--verify-identity", "eve@example.com")
    assert (code, "check 8" in err) == (4, True)
    Path("fluxsrc.lock.sig").unlink()
    code, out, err = program("ls")
    assert (code, out, "check 3" in err) == (4, "", True)


def test_a_signed_lock_does_not_stand_in_for_the_sources_own_signatures(program, work):
    """Where both are asked for, both have to hold."""
    code, _, err = program("ls", "--verify-layout", "bundle")
    assert (code, "have no signatures" in err) == (2, True)
    Path("trustpolicy.json").write_text("{}")
    code, _, err = program("ls", "--verify-trust-policy", "trustpolicy.json")
    assert (code, "have no signatures" in err) == (2, True)

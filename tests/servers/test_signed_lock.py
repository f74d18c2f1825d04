"""Signed locks in both directions: what `ssh-keygen` and `cosign` sign we verify, and what we sign they verify."""

import os
import subprocess

import attrs
import pytest

from fluxsrc.auth import Secret
from fluxsrc.directory import DirectorySource
from fluxsrc.errors import VerificationError
from fluxsrc.lock import Locked, LockFile
from fluxsrc.signed_lock import NAMESPACE, SignedLock, sign_lock
from fluxsrc.stores import MemoryStore
from helpers.programs import tool

pytestmark = pytest.mark.servers

SSH_KEYS = {
    "ed25519": ["-t", "ed25519"],
    "rsa": ["-t", "rsa", "-b", "3072"],
    "p256": ["-t", "ecdsa", "-b", "256"],
    "p384": ["-t", "ecdsa", "-b", "384"],
    "p521": ["-t", "ecdsa", "-b", "521"],
}
PASSWORD = "hunter2"


def run(*command, cwd, check=True, stdin=None, **environment):
    words = [tool(command[0]), *map(str, command[1:])]
    done = subprocess.run(
        words, cwd=cwd, input=stdin, capture_output=True, check=False, timeout=120, env={**os.environ, **environment}
    )
    assert not check or done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture
def work(tmp_path):
    """A directory with a tree, and its lock."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "app.yaml").write_text("kind: App\n")
    source = DirectorySource(tmp_path / "tree")
    lock = LockFile({"directory/default/app": Locked.of(source, source.produce_artifact(MemoryStore()))})
    lock.save(tmp_path / "fluxsrc.lock")
    return tmp_path


def verified(work, keys, **options):
    """The facts, and a proof that other content does not pass."""
    policy = SignedLock.from_files(work / "fluxsrc.lock", keys=work / keys, **options)
    source = DirectorySource(work / "tree", verify=policy)
    facts = dict(source.produce_artifact(MemoryStore()).verification)
    (work / "tree" / "evil.yaml").write_text("kind: Evil\n")
    with pytest.raises(VerificationError) as caught:
        source.produce_artifact(MemoryStore())
    assert caught.value.check == 13
    (work / "tree" / "evil.yaml").unlink()
    return facts


def ssh_key(work, kind, passphrase=""):
    run("ssh-keygen", "-q", "-N", passphrase, "-C", "", *SSH_KEYS[kind], "-f", work / kind, cwd=work)
    public = (work / f"{kind}.pub").read_text()
    (work / "allowed").write_text(f'ada@example.com namespaces="{NAMESPACE}" {public}')


@pytest.mark.parametrize("kind", SSH_KEYS)
def test_what_ssh_keygen_signs_we_verify(work, kind):
    """`ssh-keygen -Y sign -n fluxsrc-lock`; the same key in the namespace of files is refused."""
    ssh_key(work, kind)
    run("ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", kind, "fluxsrc.lock", cwd=work)
    facts = verified(work, "allowed", identities=["ada@example.com"])
    assert (facts["lock.signer"], facts["lock.scheme"]) == ("ada@example.com", "ssh")
    (work / "fluxsrc.lock.sig").unlink()
    run("ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", kind, "fluxsrc.lock", cwd=work)
    with pytest.raises(VerificationError) as caught:
        verified(work, "allowed")
    assert caught.value.check == 5


@pytest.mark.parametrize("passphrase", ["", PASSWORD], ids=["plain", "encrypted"])
@pytest.mark.parametrize("kind", SSH_KEYS)
def test_what_we_sign_ssh_keygen_verifies(work, kind, passphrase):
    """With its own keys, encrypted ones too; and nothing but this file, in this namespace."""
    ssh_key(work, kind, passphrase)
    lock = (work / "fluxsrc.lock").read_bytes()
    key = Secret((work / kind).read_text())
    (work / "fluxsrc.lock.sig").write_bytes(sign_lock(lock, key, passphrase=Secret(PASSWORD) if passphrase else None))
    verify = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "ada@example.com", "-s", "fluxsrc.lock.sig"]
    run(*verify, "-n", NAMESPACE, cwd=work, stdin=lock)
    assert run(*verify, "-n", "file", cwd=work, stdin=lock, check=False).returncode != 0
    assert run(*verify, "-n", NAMESPACE, cwd=work, stdin=lock + b" ", check=False).returncode != 0
    assert verified(work, "allowed")["lock.scheme"] == "ssh"


@pytest.fixture
def cosign(work):
    """Runs cosign with a key pair of its own, and no log."""
    environment = {"COSIGN_PASSWORD": PASSWORD, "HOME": str(work)}
    run("cosign", "generate-key-pair", cwd=work, **environment)
    return lambda *words, check=True: run("cosign", *words, cwd=work, check=check, **environment)


OFFLINE = ["--yes", "--tlog-upload=false", "--use-signing-config=false"]


@pytest.mark.parametrize(
    "how",
    [["--bundle", "fluxsrc.lock.sig"], ["--new-bundle-format=false", "--output-signature", "fluxsrc.lock.sig"]],
    ids=["bundle", "base64"],
)
def test_what_cosign_signs_we_verify(work, cosign, how):
    """`cosign sign-blob`, in the form of today and of before."""
    cosign("sign-blob", "--key", "cosign.key", *OFFLINE, *how, "fluxsrc.lock")
    facts = verified(work, "cosign.pub")
    assert (facts["lock.scheme"], facts["lock.algorithm"]) == ("cosign", "ecdsa-p256-sha256")


def test_what_we_sign_cosign_verifies(work, cosign):
    """With cosign's own encrypted key; and nothing but this file."""
    lock = (work / "fluxsrc.lock").read_bytes()
    key = Secret((work / "cosign.key").read_text())
    (work / "fluxsrc.lock.sig").write_bytes(sign_lock(lock, key, passphrase=Secret(PASSWORD)))
    verify = ["verify-blob", "--key", "cosign.pub", "--bundle", "fluxsrc.lock.sig", "--insecure-ignore-tlog=true"]
    cosign(*verify, "fluxsrc.lock")
    assert verified(work, "cosign.pub")["lock.scheme"] == "cosign"
    (work / "other").write_bytes(lock + b" ")
    assert cosign(*verify, "other", check=False).returncode != 0


def test_a_signature_of_another_cosign_key_is_refused_by_both(work, cosign):
    """Ours says which check: the signature is by none of the keys."""
    cosign("sign-blob", "--key", "cosign.key", *OFFLINE, "--bundle", "fluxsrc.lock.sig", "fluxsrc.lock")
    (work / "cosign.key").unlink()
    (work / "cosign.pub").unlink()
    cosign("generate-key-pair")
    policy = SignedLock.from_files(work / "fluxsrc.lock", keys=work / "cosign.pub")
    with pytest.raises(VerificationError) as caught:
        attrs.evolve(DirectorySource(work / "tree"), verify=policy).produce_artifact(MemoryStore())
    assert caught.value.check == 9
    verify = ["verify-blob", "--key", "cosign.pub", "--bundle", "fluxsrc.lock.sig", "--insecure-ignore-tlog=true"]
    assert cosign(*verify, "fluxsrc.lock", check=False).returncode != 0

"""Signing and verifying on the command line: what is told, what is refused, and that nothing is passed over."""

import json
from pathlib import Path

import pytest

from fluxsrc.auth import Secret
from fluxsrc.cli import main
from fluxsrc.signatures.privatekeys import SigningKey
from fluxsrc.testing.git import GitRepositoryBuilder
from fluxsrc.testing.registry import Registry

OURS, THEIRS = SigningKey.generate(), SigningKey.generate()


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """Runs the program beside a small tree and two pairs of keys; gives exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    for name in ("FLUXSRC_STORE", "FLUXSRC_KEY_PASSWORD", "COSIGN_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    Path("src").mkdir()
    Path("src/app.yaml").write_text("replicas: 3\n")
    for name, key in (("ours", OURS), ("theirs", THEIRS)):
        Path(f"{name}.key").write_text(key.pem().reveal())
        Path(f"{name}.pub").write_text(key.public.pem)
    Path("sealed.key").write_text(OURS.pem(Secret("hunter2")).reveal())

    def execute(*words):
        capfd.readouterr()
        code = main(words)
        return code, *capfd.readouterr()

    return execute


def test_the_whole_way_from_a_signed_push_to_a_verified_pull(run):
    """Signed in both layouts before the tag shows it; pulled with the key, refused with another."""
    with Registry() as registry:
        home = f"oci://{registry.host}/team/app:v1"
        both = ("--layout", "bundle", "--layout", "cosign", "--signed-annotation", "env=prod")
        code, out, err = run("push", "src", home, "--insecure", "--sign", "ours.key", *both)
        assert (code, err) == (0, "")
        assert out.count(f"by {OURS.public.fingerprint}") == 2
        asked = ("--verify-key", "theirs.pub", "--verify-key", "ours.pub", "--verify-annotation", "env=prod")
        for layout in ("bundle", "cosign"):
            code, out, _ = run("pull", home, "--insecure", "--output", layout, *asked, "--verify-layout", layout)
            assert (code, Path(layout, "app.yaml").read_text()) == (0, "replicas: 3\n")
            assert f"oci.key: {OURS.public.fingerprint}" in out
            assert f"oci.layout: {layout}" in out
        named = ("--verify-repository", f"{registry.host}/team/app")
        assert run("resolve", home, "--insecure", *asked, *named)[0] == 0
        code, _, err = run("resolve", home, "--insecure", *asked, "--verify-repository", "ghcr.io/team/app")
        assert (code, "check 9 (subject)" in err) == (4, True)
        code, out, err = run("pull", home, "--insecure", "--output", "refused", "--verify-key", "theirs.pub")
        assert (code, out) == (4, "")
        assert "check 8 (cryptography)" in err
        assert not Path("refused").exists()
        code, out, err = run("resolve", home, "--insecure", "--verify-key", "ours.pub")
        assert (code, out.startswith("v1@sha256:")) == (0, True)
        assert f"verified: oci.key: {OURS.public.fingerprint}" in err
        assert run("resolve", home, "--insecure", "--verify-key", "theirs.pub")[0] == 4


def test_the_history_of_a_tag_says_who_signed_what_it_was(run):
    """At three in the morning: the first one by our key, the one that replaced it by nobody."""
    tag, store = "oci-layout:images:prod", ("--store", "store")
    run("push", "src", tag, "--sign", "ours.key")
    assert run("pull", tag, *store)[0] == 0
    assert "signed by" not in run("history", tag, *store)[1]  # nobody asked for a signature
    assert run("pull", tag, *store, "--verify-key", "ours.pub")[0] == 0
    Path("src/app.yaml").write_text("replicas: 0\n")
    run("push", "src", tag)
    assert run("pull", tag, *store)[0] == 0
    head, newest, older = run("history", tag, *store)[1].splitlines()[:3]
    assert head.endswith("made from  signed by")
    assert OURS.public.fingerprint not in newest
    assert older.endswith(OURS.public.fingerprint)


def test_what_is_there_can_be_signed_later_by_its_digest(run):
    code, out, _ = run("push", "src", "oci-layout:images:v1", "--json")
    digest = json.loads(out)["digest"]
    assert run("resolve", "oci-layout:images:v1", "--verify-key", "ours.pub")[0] == 4
    code, _, err = run("sign", "oci-layout:images:v1", "--key", "ours.key")
    assert code == 2
    assert "what is signed is a digest" in err
    first = run("sign", f"oci-layout:images@{digest}", "--key", "ours.key", "--json")
    assert first == run("sign", f"oci-layout:images@{digest}", "--key", "ours.key", "--json")
    (signature,) = json.loads(first[1])["signatures"]
    assert (signature["layout"], signature["by"]) == ("bundle", OURS.public.fingerprint)
    code, out, _ = run("resolve", "oci-layout:images:v1", "--verify-key", "ours.pub", "--json")
    assert ["oci.signature", signature["manifest"]] in json.loads(out)["verification"]


@pytest.mark.parametrize("variable", ["FLUXSRC_KEY_PASSWORD", "COSIGN_PASSWORD"])
def test_the_password_of_a_key_comes_from_the_environment(run, monkeypatch, variable):
    arguments = ("push", "src", "oci-layout:images:v1", "--sign", "sealed.key")
    code, _, err = run(*arguments)
    assert code == 2
    assert "is encrypted" in err
    assert "FLUXSRC_KEY_PASSWORD" in err
    monkeypatch.setenv(variable, "wrong-password")
    code, _, err = run(*arguments)
    assert code == 2
    assert "sealed.key" in err
    assert "wrong-password" not in err
    assert not Path("images").exists()
    monkeypatch.setenv(variable, "hunter2")
    assert run(*arguments)[0] == 0


def test_signed_commits_are_asked_for_in_the_same_words(run, tmp_path):
    builder = GitRepositoryBuilder(tmp_path / "repository")
    builder.commit({"app.yaml": "a"})
    Path("allowed").write_text(
        "ada@example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMNFHAlXYpvJwyRWoQVxJx3r0tJZqNUoaPvqSJLSR3gm\n"
    )
    code, _, err = run(
        "resolve", f"git+file://{tmp_path}/repository", "--verify-key", "allowed", "--verify-mode", "HEAD"
    )
    assert code == 4
    assert "the commit is not signed" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("resolve", "src", "--verify-key", "ours.pub"), "have no signatures"),
        (("resolve", "oci-layout:images:v1", "--verify-layout", "bundle"), "does not say by whom"),
        (
            ("resolve", "oci-layout:images:v1", "--verify-key", "ours.pub", "--verify-mode", "Tag"),
            "take no --verify-mode",
        ),
        (
            ("resolve", "git+file://.", "--verify-key", "ours.pub", "--verify-layout", "cosign"),
            "take no --verify-layout",
        ),
        (("resolve", "oci-layout:images:v1", "--verify-key", "ours.key"), "PRIVATE KEY"),
        (("resolve", "oci-layout:images:v1", "--verify-key", "absent.pub"), "absent.pub"),
        (("resolve", "git+file://.", "--verify-key", "src/app.yaml"), "src/app.yaml: allowed signers, line 1"),
        (
            ("resolve", "src", "--verify-lock", "fluxsrc.lock", "--verify-key", "src/app.yaml"),
            "src/app.yaml: allowed signers, line 1",
        ),
        (("resolve", "oci-layout:images:v1", "--verify-key", "ours.pub", "--verify-annotation", "a"), "NAME=VALUE"),
        (("push", "src", "oci-layout:images:v1", "--layout", "cosign"), "sign with which key"),
        (("push", "src", "oci-layout:images:v1", "--sign", "ours.pub"), "not a private key"),
        (("push", "src", "oci-layout:images:v1", "--sign", "absent.key"), "absent.key"),
        (("sign", f"oci-layout:images@sha256:{'0' * 64}", "--key", "ours.key"), "is not there"),
        (("cat", f"sha256:{'0' * 64}", "a", "--store", ".", "--verify-key", "ours.pub"), "is in the store"),
        (
            ("push", f"sha256:{'0' * 64}", "oci-layout:x:y", "--store", ".", "--verify-key", "ours.pub"),
            "is in the store",
        ),
    ],
)
def test_what_would_have_no_effect_is_refused(run, arguments, said):
    """An option about trust that nothing heeds would be worse than none."""
    code, out, err = run(*arguments)
    assert code in (2, 3)
    assert out == ""
    assert said in err

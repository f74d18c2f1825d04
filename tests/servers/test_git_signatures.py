"""Signatures that gpg and ssh-keygen make here and now, through a real Git server; and our verdicts beside theirs."""

import contextlib
import shutil
import subprocess

import attrs
import pytest

from fluxsrc import AllowedSigners, GitSignature, GitSource, MemoryStore, OpenPGPKeys
from fluxsrc.errors import SourceChangedError, VerificationError
from fluxsrc.git import GitCache
from fluxsrc.testing.git_server import GitHTTPServer
from helpers.git_workshop import SSH_KEYS, Workshop, export, make_gpg_keys

pytestmark = pytest.mark.servers

GOOD_PGP = ["rsa", "ed25519", "nistp384", "subkey"]
GOOD_SSH = ["ssh-ed25519", "ssh-nistp256", "ssh-nistp384", "ssh-nistp521", "ssh-rsa"]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Keys of all kinds, and a repository with a branch for each and signed tags, all made by the real tools just now."""
    for program in ("git", "gpg", "ssh-keygen"):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is not installed: run tests/servers/install-signatures.sh")
    made = Workshop(tmp_path_factory.mktemp("signatures"))
    make_gpg_keys(made)
    for name, flags in SSH_KEYS.items():
        made.run("ssh-keygen", "-q", "-N", "", "-C", "", *flags, "-f", made.root / name)
    made.start()
    made.commit("unsigned")
    for name in (*GOOD_PGP, "expired", "other", *GOOD_SSH):
        made.commit(name, "-S", config=made.ssh(name) if name.startswith("ssh") else made.pgp(name))
        made.git("branch", name)
    made.git("commit", "-q", "--allow-empty", "-m", "unsigned")
    made.git("branch", "unsigned")
    made.tag("pgp", "v1.0.0", "-s", config=made.pgp("ed25519"))
    made.tag("ssh", "v1.1.0", "-s", config=made.ssh("ssh-ed25519"))
    made.tag("unsigned", "v1.2.0", "-a")
    made.git("tag", "v1.3.0")
    made.git(
        *["-c", "gpg.format=ssh", "-c", f"user.signingkey={made.root / 'ssh-ed25519'}"],
        "tag",
        "-s",
        "-m",
        "Outer",
        "v1.4.0",
        "v1.1.0",
    )
    made.keys = export(made)
    yield made
    subprocess.run(["gpgconf", "--kill", "all"], env=made.environment, check=False)


@pytest.fixture(params=[2, 0], ids=["protocol 2", "protocol 0"])
def server(request, workshop):
    """A real server, by `git http-backend`: with filters and without."""
    config = {"uploadpack.allowFilter": "true"} if request.param == 2 else {}
    with GitHTTPServer(workshop.root, version=request.param, config=config) as running:
        yield running


def policy(workshop, *names, **options):
    keys = [
        AllowedSigners.parse(f"ada@example.com {workshop.keys[name]}")
        if name.startswith("ssh")
        else OpenPGPKeys.parse(workshop.keys[name])
        for name in names
    ]
    return GitSignature(keys, **options)


def source(server, tmp_path, **options):
    return GitSource(server.url("sha1/.git"), cache=GitCache(path=tmp_path / "cache"), **options)


@pytest.mark.parametrize("name", GOOD_PGP + GOOD_SSH)
def test_what_the_real_tools_sign_verifies(workshop, name):
    """From a repository on disk, each kind of key."""
    made = GitSource(workshop.repository, branch=name, verify=policy(workshop, name))
    assert dict(made.produce_artifact(MemoryStore()).verification)["git.commit.key"]


def test_commits_from_a_server(workshop, server, tmp_path):
    """Trusted ones come with their facts; what is refused leaves no artifact."""
    good = source(server, tmp_path, branch="ed25519", verify=policy(workshop, "ed25519"))
    with good.fetch() as snapshot:
        assert dict(snapshot.verification)["git.commit.signer"].endswith("<ed25519@example.com>")
        assert [entry.path for entry in snapshot.entries()] == ["app.yaml"]
    for branch, check in [("other", 6), ("unsigned", 3), ("ssh-rsa", 6)]:
        with pytest.raises(VerificationError) as caught:
            attrs.evolve(good, branch=branch).produce_artifact(MemoryStore())
        assert caught.value.check == check


@pytest.mark.parametrize(
    "options", [{}, {"sparse": ["app.yaml"]}, {"cache": None}], ids=["whole", "sparse", "no cache"]
)
def test_tags_from_a_server(workshop, server, tmp_path, options):
    """The tag object is fetched too, and its tags; a second time it is there already."""
    made = attrs.evolve(source(server, tmp_path), verify=None, **options)
    trusted = policy(workshop, "ed25519", "ssh-ed25519", mode="Tag")
    for tag in ("v1.0.0", "v1.1.0", "v1.4.0", "v1.0.0"):
        with attrs.evolve(made, tag=tag, verify=trusted).fetch() as snapshot:
            assert dict(snapshot.verification)["git.tag.key"]
            assert [entry.path for entry in snapshot.entries()] == ["app.yaml"]
    for tag, check in [("v1.2.0", 3), ("v1.3.0", 2)]:
        with pytest.raises(VerificationError) as caught:
            attrs.evolve(made, tag=tag, verify=trusted).fetch().__enter__()
        assert caught.value.check == check
    with pytest.raises(VerificationError) as caught:
        attrs.evolve(made, tag="v1.0.0", verify=attrs.evolve(trusted, mode="TagAndHEAD")).fetch().__enter__()
    assert caught.value.check == 3  # the commit itself is not signed


def test_a_tag_that_moved_on_the_server(workshop, server, tmp_path):
    """Between resolving and fetching."""
    made = source(server, tmp_path, tag="v9.0.0", verify=policy(workshop, "ssh-ed25519", mode="Tag"))
    sign = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={workshop.root / 'ssh-ed25519'}"]
    workshop.git(*sign, "tag", "-f", "-s", "-m", "x", "v9.0.0", "rsa")
    revision = made.resolve_revision()
    workshop.git(*sign, "tag", "-f", "-s", "-m", "x", "v9.0.0", "ed25519")
    with pytest.raises(SourceChangedError):
        made.fetch(revision).__enter__()
    with made.fetch() as snapshot:
        assert snapshot.verification


def accepted(made):
    with contextlib.suppress(VerificationError), made.fetch():
        return True
    return False


def test_git_itself_agrees(workshop, tmp_path):
    """`git verify-commit` and `git verify-tag` with the same keys, on each branch and tag: we accept nothing they refuse."""
    allowed = tmp_path / "allowed_signers"
    trusted = ["ssh-ed25519", "ssh-nistp256", "ssh-rsa"]
    allowed.write_text("".join(f"ada@example.com {workshop.keys[name]}" for name in trusted))
    config = ["-c", f"gpg.ssh.allowedSignersFile={allowed}"]
    made = GitSource(workshop.repository, verify=GitSignature.from_files(allowed))
    compared = 0
    for branch in (*GOOD_SSH, "unsigned"):
        theirs = _succeeds(workshop, *config, "verify-commit", branch)
        assert accepted(attrs.evolve(made, branch=branch)) == theirs == (branch in trusted)
        compared += 1
    for tag in ("v1.1.0", "v1.2.0", "v1.4.0"):
        theirs = _succeeds(workshop, *config, "verify-tag", tag)
        ours = accepted(attrs.evolve(made, tag=tag, verify=GitSignature.from_files(allowed, mode="Tag")))
        assert ours == theirs == (tag != "v1.2.0")
        compared += 1
    assert compared == 9


@pytest.mark.parametrize(
    "options",
    [
        "",
        'namespaces="git"',
        'namespaces="file"',
        'namespaces="g?t,file"',
        'namespaces="!git,*"',
        'valid-after="20240101Z"',
        'valid-after="20240601Z"',
        'valid-before="20240401Z"',
        'valid-before="20990101Z",namespaces="git"',
    ],
)
@pytest.mark.parametrize("principals", ["ada@example.com", "*@example.com", "!ada@*,*", "a?a@example.com,eve", "eve"])
def test_ssh_keygen_reads_allowed_signers_as_we_do(workshop, tmp_path, options, principals):
    """`ssh-keygen -Y verify` at the time of signing, for the same identity."""
    file = tmp_path / "allowed_signers"
    file.write_text(f"{principals} {options} {workshop.keys['ssh-ed25519']}")
    payload, signature = tmp_path / "payload", tmp_path / "payload.sig"
    payload.write_bytes(b"content")
    workshop.run("ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", workshop.root / "ssh-ed25519", payload)
    command = ["ssh-keygen", "-Y", "verify", "-f", file, "-I", "ada@example.com", "-n", "git", "-s", signature]
    command += ["-O", "verify-time=20240501120000"]
    done = subprocess.run(
        list(map(str, command)), input=payload.read_bytes(), capture_output=True, env=workshop.environment
    )
    made = GitSource(
        workshop.repository, branch="ssh-ed25519", verify=GitSignature.from_files(file, identities=["ada@example.com"])
    )
    assert accepted(made) == (done.returncode == 0), done.stderr


def test_gpg_agrees(workshop):
    """`git verify-commit` with gpg, of keys in its keyring: what it accepts we do, but for the key that expired since."""
    for name in (*GOOD_PGP, "unsigned"):
        made = GitSource(workshop.repository, branch=name, verify=policy(workshop, *GOOD_PGP))
        theirs = _succeeds(workshop, "-c", f"gpg.program={workshop.root / 'gpg'}", "verify-commit", name)
        assert accepted(made) == theirs == (name != "unsigned"), name
    with pytest.raises(VerificationError) as caught:
        GitSource(workshop.repository, branch="expired", verify=policy(workshop, "expired")).fetch().__enter__()
    assert caught.value.check == 7


def _succeeds(workshop, *arguments):
    command = ["git", "-C", str(workshop.repository), *arguments]
    return subprocess.run(command, env=workshop.environment, capture_output=True).returncode == 0

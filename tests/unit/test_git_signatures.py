"""Git signatures: what the real tools signed verifies; every attack fails closed, at the check that is documented for it."""

import base64
import contextlib
import datetime as dt
import hashlib
import json
import logging
import pickle
import struct
import sys
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxsrc import AllOf, AllowedSigners, AnyOf, Digest, GitSignature, GitSource, MemoryStore, OpenPGPKeys
from fluxsrc.errors import ConfigurationError, MissingExtraError, SourceChangedError, VerificationError
from fluxsrc.git.packfile import Kind
from fluxsrc.signatures import Check, GitEvidence
from fluxsrc.signatures.gitobject import MAX_SIGNED_BYTES, git_oid, split_commit, split_tag
from fluxsrc.signatures.sshkeys import SSHPublicKey
from fluxsrc.signatures.sshsig import verify_ssh
from fluxsrc.testing.git import GitRepositoryBuilder
from fluxsrc.verify import Policy, UnsafeNoVerification

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "git-signatures" / "vectors.json").read_text())
KEYS = VECTORS["keys"]
NOW = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
SIGNED = "2024-05-01T12:00:00Z"
IDENTITY = "ada@example.com"

PGP = ["rsa", "ed25519", "nistp384", "subkey"]
SSH = ["ssh-ed25519", "ssh-nistp256", "ssh-nistp384", "ssh-nistp521", "ssh-rsa"]


def data(name):
    return base64.b64decode(VECTORS["objects"][name]["data"])


def evidence(name=None, *, content=None, now=NOW, tag=None, tags=()):
    """Of a commit among the vectors, or of one that somebody made: under its true name."""
    content = data(name) if content is None else content
    algorithm = "sha256" if name and name.startswith("sha256") else "sha1"
    commit_id = Digest(algorithm, git_oid("commit", content, algorithm))
    return GitEvidence(subject="here", now=now, commit_id=commit_id, commit=content, tag=tag, tags=tuple(tags))


def of_release(tag_object, tag="v1.0.0"):
    return evidence("release", tag=tag, tags=[tag_object])


def keys(*names):
    """All keys that are given by name, in one policy's terms."""
    return [
        AllowedSigners.parse(f"{IDENTITY} {KEYS[name]}") if name.startswith("ssh") else OpenPGPKeys.parse(KEYS[name])
        for name in names
    ]


def refused(check, policy, what):
    with pytest.raises(VerificationError) as caught:
        policy.check(what)
    assert caught.value.check == check, str(caught.value)
    assert f"check {int(check)} (" in str(caught.value)
    return str(caught.value)


# --- what is good -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PGP + SSH)
def test_a_commit_that_the_real_tools_signed_verifies(name):
    """Each algorithm; key, signer and time are what is recorded."""
    policy = GitSignature(keys(name))
    facts = dict(policy.check(evidence(name)))
    assert facts["git.commit.signed"] == SIGNED
    assert facts["git.commit.scheme"] == ("ssh" if name in SSH else "openpgp")
    assert facts["git.commit.key"]
    assert facts["policy"] == str(policy.digest)
    assert IDENTITY in facts["git.commit.signer"] or f"<{name}@example.com>" in facts["git.commit.signer"]


@pytest.mark.parametrize("name", ["sha512", "lasting-signature"])
def test_a_signature_with_other_options_verifies(name):
    """A longer hash; an expiry that is far away."""
    assert GitSignature(keys("rsa")).check(evidence(name))


@pytest.mark.parametrize(("name", "key"), [("sha256-pgp", "ed25519"), ("sha256-ssh", "ssh-ed25519")])
def test_a_sha256_repository_has_a_header_of_its_own(name, key):
    """`gpgsig-sha256`, and names of 64 digits."""
    assert GitSignature(keys(key)).check(evidence(name))


@pytest.mark.parametrize("mode", ["Tag", "TagAndHEAD"])
@pytest.mark.parametrize(("name", "key"), [("tag-pgp", "ed25519"), ("tag-ssh", "ssh-ed25519")])
def test_a_signed_tag_verifies(name, key, mode):
    """By tag alone, and by tag and commit: the commit is signed by somebody else, who is trusted too."""
    facts = dict(GitSignature(keys(key, "ssh-other"), mode=mode).check(of_release(data(name))))
    assert facts["git.tag.signed"] == SIGNED
    assert ("git.commit.key" in facts) == (mode == "TagAndHEAD")


def test_any_of_the_keys_may_have_signed():
    """OpenPGP keys of several blocks, and SSH keys, in one policy; ten keys that did not sign do no harm."""
    text = "\n".join(KEYS[name] for name in ("other", *PGP))
    policy = GitSignature([OpenPGPKeys.parse(text), *keys(*SSH)])
    for name in PGP + SSH:
        assert policy.check(evidence(name))


def test_identities_are_asked_for():
    """Principals of allowed signers, with their patterns; addresses of OpenPGP user ids."""
    allowed = AllowedSigners.parse(f"*@example.com,!eve@example.com {KEYS['ssh-ed25519']}")
    policy = GitSignature(allowed, identities=[IDENTITY])
    assert dict(policy.check(evidence("ssh-ed25519")))["git.commit.signer"] == IDENTITY
    assert GitSignature(keys("rsa"), identities=["RSA@example.com"]).check(evidence("rsa"))


@pytest.mark.parametrize("hashed", ["sha256", "sha512"])
def test_both_hashes_of_ssh_signatures_verify(hashed):
    """`ssh-keygen -O hashalg=`."""
    assert GitSignature(keys("ssh-ed25519")).check(
        evidence(content=signed_with(VECTORS["signatures"][f"git-{hashed}"]))
    )


def test_a_security_key_signs_with_somebody_present():
    """sk-ssh-ed25519, with flags and counter; without the touch it is refused."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    kind, application = b"sk-ssh-ed25519@openssh.com", b"ssh:"
    blob = wire(kind) + wire(private.public_key().public_bytes_raw()) + wire(application)
    key = SSHPublicKey.parse(blob)

    def sign(flags):
        tail = bytes([flags]) + struct.pack(">I", 7)
        signed = hashlib.sha256(application).digest() + tail + hashlib.sha256(b"message").digest()
        return wire(kind) + wire(private.sign(signed)) + tail

    assert key.verify(sign(1), b"message") == kind.decode()
    for signature, message, check in [
        (sign(0), b"message", 5),
        (sign(1), b"other", 9),
        (sign(1) + b"x", b"message", 4),
    ]:
        with pytest.raises(VerificationError) as caught:
            key.verify(signature, message)
        assert caught.value.check == check


# --- the table of attacks ---------------------------------------------------------------------------------------------


def wire(value):
    return struct.pack(">I", len(value)) + value


def signed_with(armored, content=None):
    """The unsigned commit with somebody's signature put into it."""
    head, _, message = (content or data("unsigned")).partition(b"\n\n")
    lines = armored.encode().rstrip(b"\n").replace(b"\n", b"\n ")
    return head + b"\ngpgsig " + lines + b"\n\n" + message


def ssh_armor(blob):
    text = base64.b64encode(blob).decode()
    rows = "\n".join(text[at : at + 70] for at in range(0, len(text), 70))
    return f"-----BEGIN SSH SIGNATURE-----\n{rows}\n-----END SSH SIGNATURE-----\n"


def ssh_blob(name):
    armored = VECTORS["signatures"][name]
    return base64.b64decode("".join(armored.splitlines()[1:-1]))


def without_signature(content):
    head, _, message = content.partition(b"\n\n")
    start = head.index(b"\ngpgsig ")
    return head[:start] + b"\n\n" + message


@pytest.mark.parametrize(("signed", "trusted"), [("other", "rsa"), ("ssh-other", "ssh-ed25519"), ("rsa", "ssh-rsa")])
def test_attack_another_key(signed, trusted):
    """A good signature by somebody who is not trusted, or of another family."""
    refused(Check.KEY, GitSignature(keys(trusted)), evidence(signed))


@pytest.mark.parametrize("name", ["rsa", "ssh-ed25519"])
def test_attack_the_signature_of_another_commit(name):
    """Moved over, below a new name: the payload is another."""
    policy = GitSignature(keys(name))
    message = refused(Check.CRYPTOGRAPHY, policy, evidence(content=data(name).replace(b"Signed by", b"Forged by")))
    assert "not one over this content" in message


def test_attack_content_under_a_signed_name():
    """The name that was resolved, with other bytes."""
    good = evidence("rsa")
    refused(Check.OBJECT, GitSignature(keys("rsa")), attrs.evolve(good, commit=data("rsa") + b"\n"))
    refused(Check.OBJECT, GitSignature(keys("rsa")), attrs.evolve(good, commit=data("ed25519")))


@pytest.mark.parametrize("name", ["rsa", "ssh-ed25519"])
def test_attack_a_stripped_signature(name):
    """Nothing is left of it; an empty header is not one either."""
    stripped = without_signature(data(name))
    assert b"gpgsig" not in stripped
    policy = GitSignature(keys(name))
    assert "not signed" in refused(Check.SIGNATURE, policy, evidence(content=stripped))
    refused(Check.SIGNATURE, policy, evidence(content=stripped.replace(b"\n\n", b"\ngpgsig \n\n", 1)))
    refused(Check.SIGNATURE, policy, evidence("unsigned"))


@pytest.mark.parametrize("name", ["expired", "expired-subkey"])
def test_attack_an_expired_key(name):
    """Good while it lasted; refused since, whatever time the signature claims."""
    policy = GitSignature(keys(name))
    assert policy.check(evidence(name, now=dt.datetime(2024, 6, 1, tzinfo=dt.UTC)))
    assert "expired" in refused(Check.TIME, policy, evidence(name))


def test_attack_a_revoked_key():
    """Refused from the moment the policy knows of it, also if an older copy of the key is there too."""
    assert GitSignature(keys("not-yet-revoked")).check(evidence("revoked"))
    refused(Check.KEY, GitSignature(keys("revoked")), evidence("revoked"))
    refused(Check.KEY, GitSignature(keys("not-yet-revoked", "revoked")), evidence("revoked"))


def test_attack_an_expired_signature():
    """Its own expiry, not the key's."""
    assert "the signature expired" in refused(Check.TIME, GitSignature(keys("rsa")), evidence("expired-signature"))


@pytest.mark.parametrize("name", ["rsa", "ssh-ed25519"])
def test_attack_a_signature_from_the_future(name):
    """A clock that is wrong, or a date that was made up."""
    past = dt.datetime(2024, 4, 30, tzinfo=dt.UTC)
    refused(Check.TIME, GitSignature(keys(name)), evidence(name, now=past))


@pytest.mark.parametrize("name", ["md5", "sha1", "sha224", "text"])
def test_attack_a_weak_hash_or_another_kind_of_signature(name):
    """MD5, SHA-1, SHA-224; a text signature is over other bytes than the commit's."""
    refused(Check.ALGORITHM, GitSignature(keys("rsa")), evidence(name))


def test_attack_an_unknown_critical_notation():
    """Whoever set it wanted it obeyed, and we do not know how."""
    refused(Check.CRYPTOGRAPHY, GitSignature(keys("rsa")), evidence("notation"))


def test_attack_weak_keys():
    """RSA of 1024 bits: refused among the keys (SSH), and as a signer (OpenPGP)."""
    refused(Check.KEY, GitSignature(keys("weak")), evidence("weak"))
    with pytest.raises(ConfigurationError, match="1024 bits"):
        keys("ssh-weak")


def test_attack_another_namespace():
    """What was signed as a file is no commit; a key that is for files signs no commit."""
    content = signed_with(VECTORS["signatures"]["file-sha512"])
    refused(Check.ALGORITHM, GitSignature(keys("ssh-ed25519")), evidence(content=content))
    for_files = AllowedSigners.parse(f'* namespaces="file,email" {KEYS["ssh-ed25519"]}')
    refused(Check.KEY, GitSignature(for_files), evidence("ssh-ed25519"))
    for_both = AllowedSigners.parse(f'* namespaces="file,git" {KEYS["ssh-ed25519"]}')
    assert GitSignature(for_both).check(evidence("ssh-ed25519"))


def test_attack_a_namespace_that_is_written_over():
    """The word in the envelope is part of what is signed."""
    blob = ssh_blob("file-sha512").replace(wire(b"file"), wire(b"git"))
    refused(Check.CRYPTOGRAPHY, GitSignature(keys("ssh-ed25519")), evidence(content=signed_with(ssh_armor(blob))))


def test_attack_another_principal():
    """A trusted key that signs for somebody else; a key without a name, where one is asked for."""
    who = ["grace@example.com"]
    refused(Check.SIGNER, GitSignature(keys("ssh-ed25519"), identities=who), evidence("ssh-ed25519"))
    refused(Check.SIGNER, GitSignature(keys("rsa"), identities=who), evidence("rsa"))
    nameless = AllowedSigners.parse(KEYS["ssh-ed25519"])
    assert GitSignature(nameless).check(evidence("ssh-ed25519"))
    refused(Check.SIGNER, GitSignature(nameless, identities=[IDENTITY]), evidence("ssh-ed25519"))


@pytest.mark.parametrize(
    "options",
    ['valid-before="20240401Z"', 'valid-before="20240701Z"', 'valid-after="20240601Z"', 'valid-after="202405011201Z"'],
)
def test_attack_an_ssh_key_outside_its_time(options):
    """Not yet, not any more, or not any more since: both the time of signing and now have to be within."""
    allowed = AllowedSigners.parse(f"* {options} {KEYS['ssh-ed25519']}")
    refused(Check.TIME, GitSignature(allowed), evidence("ssh-ed25519"))


def test_a_later_line_may_allow_what_an_earlier_one_does_not():
    """As in OpenSSH: a key may be there more than once."""
    lines = f'* valid-before="20240401Z" {KEYS["ssh-ed25519"]}\n* valid-after="20240401Z" {KEYS["ssh-ed25519"]}'
    assert GitSignature(AllowedSigners.parse(lines)).check(evidence("ssh-ed25519"))


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        (wire(b"sha512"), wire(b"sha1"), Check.ALGORITHM),
        (wire(b"sha512"), wire(b"md5"), Check.ALGORITHM),
        (wire(b"sha512"), wire(b"sha256"), Check.CRYPTOGRAPHY),
        (b"SSHSIG\0\0\0\1", b"SSHSIG\0\0\0\2", Check.FORM),
        (b"SSHSIG", b"SSHSIX", Check.FORM),
        (wire(b"git") + wire(b""), wire(b"git") + wire(b"new"), Check.FORM),
    ],
)
def test_attack_algorithms_of_an_ssh_signature_written_over(old, new, check):
    """Weaker hashes, another one, other versions, reserved fields."""
    blob = ssh_blob("git-sha512")
    assert old in blob
    content = signed_with(ssh_armor(blob.replace(old, new, 1)))
    refused(check, GitSignature(keys("ssh-ed25519")), evidence(content=content))


def test_attack_algorithm_confusion():
    """A signature names an algorithm that is not its key's: above all `ssh-rsa`, which is SHA-1."""
    key = SSHPublicKey.parse(base64.b64decode(KEYS["ssh-rsa"].split()[1]))
    for algorithm in (b"ssh-rsa", b"ssh-ed25519", b"rsa-sha2-1024", b"none"):
        with pytest.raises(VerificationError) as caught:
            key.verify(wire(algorithm) + wire(b"x" * 384), b"message")
        assert caught.value.check == Check.ALGORITHM


@pytest.mark.parametrize("name", ["rsa", "ssh-ed25519"])
def test_attack_more_than_one_signature(name):
    """A second one, one of the other object format, and one that begins with something else: all refused."""
    content = data(name)
    head, _, message = content.partition(b"\n\n")
    policy = GitSignature(keys(name))
    for more in (b"\ngpgsig x", b"\ngpgsig-sha256 x", b"\ngpgsig-new x", head[head.index(b"\ngpgsig") :]):
        refused(Check.SIGNATURE, policy, evidence(content=head + more + b"\n\n" + message))


@pytest.mark.parametrize("name", ["rsa", "ssh-ed25519"])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-40],
        lambda text: text * 2,
        lambda text: "junk\n" + text,
        lambda text: text + "junk\n",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.splitlines()[0] + "\n" + text.splitlines()[-1] + "\n",
        lambda text: text.splitlines()[0] + "\n" + "A" * 200_000 + "\n" + text.splitlines()[-1] + "\n",
        lambda text: text.splitlines()[0] + "\n" + "QUJD\n" * 40_000 + text.splitlines()[-1] + "\n",
    ],
    ids=["truncated", "twice", "before", "after", "crlf", "empty", "long line", "oversized"],
)
def test_attack_malformed_armor(name, change):
    """Truncated, doubled, padded, oversized: refused before anything is computed."""
    head = data(name).partition(b"\n\n")[0]
    armored = head[head.index(b"gpgsig ") + 7 :].replace(b"\n ", b"\n").decode() + "\n"
    with pytest.raises(VerificationError) as caught:
        GitSignature(keys(name)).check(evidence(content=signed_with(change(armored), without_signature(data(name)))))
    assert caught.value.check in (Check.SIGNATURE, Check.FORM)


def test_attack_a_commit_that_is_not_one():
    """Headers out of order, repeated, missing; NUL; too large."""
    good = data("rsa")
    bad = [
        b"",
        b"tree",
        good.replace(b"tree ", b"parent ", 1),
        b"x\n" + good,
        good.replace(b"\nauthor", b"\ntree " + b"0" * 40 + b"\nauthor", 1),
        good.replace(b"committer Ada", b"committer Ad\0a", 1),
        good.replace(b" +0000\n", b"\n"),
        good.replace(b"committer Ada <ada@example.com> 1714564800", b"committer Ada <ada@example.com> 999999999999"),
        good + b"x" * MAX_SIGNED_BYTES,
    ]
    for content in bad:
        assert content != good
        refused(Check.SIGNATURE, GitSignature(keys("rsa")), evidence(content=content))


# --- tags -------------------------------------------------------------------------------------------------------------


def test_attack_a_lightweight_or_missing_tag():
    """Nothing to sign; and no tag at all."""
    policy = GitSignature(keys("ssh-ed25519"), mode="Tag")
    assert "lightweight" in refused(Check.TAG, policy, evidence("release", tag="v1.0.0"))
    refused(Check.TAG, policy, evidence("release"))


def test_attack_tags():
    """Unsigned, by another key, of another name, to another commit, stripped, doubled."""
    policy = GitSignature(keys("ssh-ed25519"), mode="Tag")
    good = data("tag-ssh")
    assert policy.check(of_release(good))
    refused(Check.SIGNATURE, policy, of_release(data("tag-unsigned")))
    refused(Check.KEY, policy, of_release(data("tag-other-key")))
    refused(Check.TAG, policy, of_release(data("tag-other-name")))
    refused(Check.TAG, policy, evidence("rsa", tag="v1.0.0", tags=[good]))
    refused(Check.SIGNATURE, policy, of_release(good[: good.index(b"-----BEGIN")]))
    refused(Check.SIGNATURE, policy, of_release(good + good[good.index(b"-----BEGIN") :]))
    refused(Check.FORM, policy, of_release(good + b"junk\n"))
    refused(Check.CRYPTOGRAPHY, policy, of_release(good.replace(b"A release", b"B release")))
    refused(Check.CRYPTOGRAPHY, policy, of_release(data("tag-other-name").replace(b"v2.0.0", b"v1.0.0")))
    refused(Check.SIGNATURE, policy, of_release(good.replace(b"\ntagger", b"\ngpgsig x\ntagger", 1)))


def test_a_signed_tag_of_a_tag_vouches_for_what_it_leads_to():
    """The chain has to be whole: each tag's content has the name that the one before gives."""
    release = VECTORS["objects"]["release"]["oid"]
    inner = data("tag-ssh")
    inner_oid = git_oid("tag", inner, "sha1")
    outer = inner.replace(release.encode(), inner_oid.encode()).replace(b"type commit", b"type tag")
    policy = GitSignature(keys("ssh-ed25519"), mode="Tag")
    # The outer one's signature is not good, so check 9 is reached only where the chain is.
    refused(Check.CRYPTOGRAPHY, policy, evidence("release", tag="v1.0.0", tags=[outer, inner]))
    refused(Check.TAG, policy, evidence("release", tag="v1.0.0", tags=[outer, data("tag-pgp")]))
    refused(Check.TAG, policy, evidence("release", tag="v1.0.0", tags=[outer]))
    refused(Check.TAG, policy, evidence("release", tag="v1.0.0", tags=[inner, inner]))
    refused(Check.TAG, policy, evidence("release", tag="v1.0.0", tags=[outer] * 40))


def test_tag_and_head_needs_both():
    """A trusted tag on a commit by a stranger; a trusted commit below a stranger's tag."""
    policy = GitSignature(keys("ssh-ed25519"), mode="TagAndHEAD")
    refused(Check.KEY, policy, of_release(data("tag-ssh")))  # the commit is by ssh-other
    policy = GitSignature(keys("ssh-other"), mode="TagAndHEAD")
    refused(Check.KEY, policy, of_release(data("tag-ssh")))
    assert policy.check(of_release(data("tag-other-key")))


# --- whatever comes ---------------------------------------------------------------------------------------------------


def mutations(content):
    """One byte changed, removed, added or repeated."""
    at = st.integers(0, len(content) - 1)
    byte = st.integers(0, 255).map(lambda value: bytes([value]))
    return st.one_of(
        st.builds(lambda i, b: content[:i] + b + content[i + 1 :], at, byte),
        st.builds(lambda i, b: content[:i] + b + content[i:], at, byte),
        st.builds(lambda i, n: content[:i] + content[i + n :], at, st.integers(1, 40)),
        st.builds(lambda i, n: content[: i + n] + content[i:], at, st.integers(1, 40)),
    )


def payload(content):
    """What was signed, as far as the signature is still recognised."""
    return split_commit(content, "sha1").payload


@pytest.mark.parametrize("name", ["rsa", "ed25519", "subkey", "ssh-ed25519", "ssh-nistp256", "ssh-rsa"])
def test_no_mutation_of_a_commit_is_accepted(name):
    """Under the old name none; under its own name none whose signed bytes are others. Nothing but `VerificationError`."""
    policy = GitSignature(keys(name))
    content = data(name)
    good = evidence(name)

    @given(mutations(content))
    def holds(mutant):
        if mutant == content:
            return
        with pytest.raises(VerificationError):
            policy.check(attrs.evolve(good, commit=mutant))
        try:
            policy.check(evidence(content=mutant))
        except VerificationError:
            return
        assert payload(mutant) == payload(content)

    holds()


@pytest.mark.parametrize("name", ["tag-pgp", "tag-ssh"])
def test_no_mutation_of_a_tag_is_accepted(name):
    """What is accepted has the same signed bytes."""
    policy = GitSignature(keys("ed25519", "ssh-ed25519"), mode="Tag")
    content = data(name)

    @given(mutations(content))
    def holds(mutant):
        try:
            policy.check(of_release(mutant))
        except VerificationError:
            return
        assert split_tag(mutant).payload == split_tag(content).payload

    holds()


def test_every_bit_of_an_ssh_signature_matters():
    """Exhaustively: each bit of the envelope turned around, with Ed25519, whose signatures cannot be varied."""
    allowed = AllowedSigners.parse(f"* {KEYS['ssh-ed25519']}")
    blob, message = ssh_blob("git-sha512"), data("unsigned")
    when = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
    verify_ssh(ssh_armor(blob).encode(), message, allowed, when=when, now=NOW)
    for bit in range(len(blob) * 8):
        mutant = bytearray(blob)
        mutant[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(VerificationError):
            verify_ssh(ssh_armor(bytes(mutant)).encode(), message, allowed, when=when, now=NOW)


def test_every_byte_of_an_openpgp_packet_is_read_safely():
    """Exhaustively, below the armor: nothing but `VerificationError`, unless what was changed is outside of what is signed."""
    policy = GitSignature(keys("ed25519"))
    content = data("ed25519")
    lines = split_commit(content, "sha1").signature.decode().splitlines()
    packet = base64.b64decode("".join(line for line in lines if line and line[0] not in "-="))
    unhashed = 10 + int.from_bytes(packet[6:8])  # after two bytes of the packet's head, six fixed ones, and a length
    end = unhashed + int.from_bytes(packet[unhashed - 2 : unhashed]) + 2  # and the first two bytes of the hash
    accepted = set()
    for at in range(len(packet)):
        for byte in {0, 0xFF, packet[at] ^ 1, packet[at] ^ 0x80} - {packet[at]}:
            mutant = base64.b64encode(packet[:at] + bytes([byte]) + packet[at + 1 :]).decode()
            armored = f"-----BEGIN PGP SIGNATURE-----\n\n{mutant}\n-----END PGP SIGNATURE-----\n"
            with contextlib.suppress(VerificationError):
                policy.check(evidence(content=signed_with(armored, without_signature(content))))
                accepted.add(at)
    assert accepted <= set(range(unhashed, end))


@given(st.binary(max_size=300))
def test_garbage_is_refused(garbage):
    """As a whole object, and within armor."""
    policy = GitSignature(keys("ed25519", "ssh-ed25519"))
    with pytest.raises(VerificationError):
        policy.check(evidence(content=garbage))
    body = base64.b64encode(garbage).decode()
    for kind in ("SSH", "PGP"):
        armored = f"-----BEGIN {kind} SIGNATURE-----\n\n{body}\n-----END {kind} SIGNATURE-----\n"
        with pytest.raises(VerificationError):
            policy.check(evidence(content=signed_with(armored)))
        with pytest.raises(VerificationError):
            policy.check(evidence(content=signed_with(armored.replace("-----\n\n", "-----\n"))))


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no key"),
        ("# nothing\n", "no key"),
        ("ada@example.com", "no key"),
        ("ada@example.com ssh-ed25519", "no key"),
        ("* cert-authority {key}", "cert-authority"),
        ("* no-touch-required {key}", "unknown"),
        ("* namespaces= {key}", "option"),
        ('* namespaces="" {key}', "option"),
        ('* namespaces="git,," {key}', "pattern"),
        ('* valid-after="yesterday" {key}', "not a time"),
        ('* valid-after="20240230" {key}', "not a time"),
        ("* valid-after=20240101Z {key}", "quoted"),
        ('* valid-after="20240101",valid-after="20250101" {key}', "repeated"),
        ("* ssh-rsa {blob}", "another kind"),
        ("* ssh-ed25519 {blob}AAAA", "line 1"),
        ("* ssh-ed25519 !!!!", "line 1"),
        ("* ssh-ed25519 AAAA\u00b0AAA", "line 1"),
        ('* "{key}', "not closed"),
        ("* ssh-dss AAAAB3NzaC1kc3MAAAAA", "not supported"),
    ],
)
def test_allowed_signers_that_are_not_understood_are_errors(text, says):
    """A condition that is passed over would be trust that nobody gave."""
    key = KEYS["ssh-ed25519"].strip()
    with pytest.raises(ConfigurationError, match=says):
        AllowedSigners.parse(text.format(key=key, blob=key.split()[1]))


@given(st.text(max_size=200))
def test_any_text_is_allowed_signers_or_a_configuration_error(text):
    """Nothing else comes out of a file somebody edited."""
    try:
        AllowedSigners.parse(text)
    except ConfigurationError:
        return


@pytest.mark.parametrize("name", ["rsa", "subkey", "ssh-ed25519", "ssh-nistp256", "ssh-rsa"])
def test_a_damaged_key_is_refused_or_harmless(name):
    """Any byte changed: an error of configuration, a key that did not sign, or the same key (names and layout may differ)."""

    @given(mutations(KEYS[name].encode()))
    def holds(mutant):
        text = mutant.decode("latin1")
        try:
            trusted = AllowedSigners.parse(text) if name.startswith("ssh") else OpenPGPKeys.parse(text)
        except ConfigurationError:
            return
        with contextlib.suppress(VerificationError):
            facts = dict(GitSignature(trusted).check(evidence(name)))
            assert facts["git.commit.key"] == dict(GitSignature(keys(name)).check(evidence(name)))["git.commit.key"]

    holds()


def test_openpgp_keys_that_are_none_are_errors():
    """Nothing, damage, and above all secret keys."""
    for text in ("", "x", KEYS["rsa"].replace("\n\n", "\n\nAAAA", 1)[:400], "-----BEGIN PGP PRIVATE KEY BLOCK-----"):
        with pytest.raises(ConfigurationError):
            OpenPGPKeys.parse(text)
    assert len(OpenPGPKeys.parse(KEYS["rsa"] + KEYS["ed25519"]).fingerprints) == 2


def test_a_policy_is_a_value(tmp_path):
    """It pickles, compares, reads files, and its digest follows keys, mode and identities, not the layout of a file."""
    (tmp_path / "a.asc").write_text(KEYS["rsa"])
    (tmp_path / "b.sshpub").write_text("# ours\n\n" + KEYS["ssh-ed25519"])
    policy = GitSignature.from_files(tmp_path / "a.asc", tmp_path / "b.sshpub", mode="head")
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert isinstance(policy, Policy)
    same = GitSignature([OpenPGPKeys.parse(KEYS["rsa"]), AllowedSigners.parse(KEYS["ssh-ed25519"])])
    assert same.digest == policy.digest
    others = [
        attrs.evolve(policy, mode="Tag"),
        attrs.evolve(policy, identities=["a"]),
        GitSignature(keys("rsa")),
        GitSignature(keys("ssh-ed25519")),
        GitSignature(AllowedSigners.parse(KEYS["ssh-ed25519"])),
        GitSignature(AllowedSigners.parse(f'{IDENTITY} valid-after="20200101" {KEYS["ssh-ed25519"]}')),
    ]
    assert len({str(other.digest) for other in [policy, *others]}) == 7


def test_what_is_not_installed_is_named(monkeypatch):
    """A missing library is no verdict: not accepted, and not a failed check either, not even within `AnyOf`."""
    policies = [GitSignature(keys("rsa")), GitSignature(keys("ssh-ed25519"))]
    monkeypatch.setitem(sys.modules, "pysequoia", None)
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    for policy, name in zip(policies, ("rsa", "ssh-ed25519"), strict=True):
        with pytest.raises(MissingExtraError, match=r"fluxsrc\[verify\]"):
            policy.check(evidence(name))
    with pytest.raises(MissingExtraError):
        AnyOf(policies).check(evidence("rsa"))


def test_a_policy_that_says_nothing_is_refused(tmp_path):
    """No keys, no policies, no mode, one string for a list."""
    for wrong in (
        lambda: GitSignature([]),
        lambda: AllOf([]),
        lambda: AnyOf([]),
        lambda: GitSignature(keys("rsa"), mode="any"),
        lambda: GitSignature(keys("rsa"), identities=IDENTITY),
        lambda: GitSignature.from_files(tmp_path / "missing"),
        GitSignature.from_files,
    ):
        with pytest.raises(ConfigurationError):
            wrong()


def test_combinations():
    """All of them, any of them; what none accepts tells why, of each."""
    rsa, ssh = GitSignature(keys("rsa")), GitSignature(keys("ssh-ed25519"))
    assert AnyOf([ssh, rsa]).check(evidence("rsa"))
    with pytest.raises(VerificationError):
        AllOf([rsa, ssh]).check(evidence("rsa"))
    with pytest.raises(VerificationError, match=r"none of 2 policies holds: \[1\].*check 6.*\[2\].*check 6"):
        AnyOf([ssh, rsa]).check(evidence("other"))
    with pytest.raises(VerificationError) as caught:
        AnyOf([rsa]).check(evidence("other"))
    assert caught.value.check == Check.KEY
    assert AllOf([rsa]).digest != AnyOf([rsa]).digest != rsa.digest
    assert AllOf([attrs.evolve(rsa, mode="Tag"), ssh]).needs == AnyOf([attrs.evolve(rsa, mode="Tag")]).needs


# --- through a source -------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path):
    """The vectors' objects in a repository: `main` and `stranger` are branches, v1.0.0 is a signed tag."""
    made = GitRepositoryBuilder(tmp_path / "app.git")
    made.commit({"app.yaml": "kind: Namespace\n"})  # the tree of all of them
    for name in ("ssh-ed25519", "release", "unsigned"):
        assert made.write(Kind.COMMIT, data(name)).hex() == VECTORS["objects"][name]["oid"]
    made.set_ref("refs/heads/main", VECTORS["objects"]["ssh-ed25519"]["oid"])
    made.set_ref("refs/heads/stranger", VECTORS["objects"]["unsigned"]["oid"])
    made.set_ref("refs/tags/v1.0.0", made.write(Kind.TAG, data("tag-ssh")).hex())
    made.set_ref("refs/tags/v3.0.0", made.write(Kind.TAG, data("tag-ssh")).hex())
    made.set_ref("refs/tags/v2.0.0", VECTORS["objects"]["release"]["oid"])
    return made


def test_a_source_gives_a_snapshot_only_of_what_its_policy_accepts(repository):
    """And records in snapshot and artifact who signed."""
    policy = GitSignature(keys("ssh-ed25519"))
    source = GitSource(repository.path, branch="main", verify=policy)
    with source.fetch() as snapshot:
        assert dict(snapshot.verification)["git.commit.signer"] == IDENTITY
    artifact = source.produce_artifact(MemoryStore())
    assert dict(artifact.verification)["policy"] == str(policy.digest)
    stranger = attrs.evolve(source, branch="stranger")
    store = MemoryStore()
    with pytest.raises(VerificationError, match="branch=stranger") as caught:
        stranger.produce_artifact(store, name="app")
    assert caught.value.check == Check.SIGNATURE
    assert not list(store.sources())


def test_a_changed_policy_verifies_an_unchanged_revision_again(repository):
    """Flux does not: there a rotated key is looked at when the next commit comes."""
    store = MemoryStore()
    plain = GitSource(repository.path, branch="main")
    first = plain.produce_artifact(store, name="app")
    assert first.verification == ()
    good = attrs.evolve(plain, verify=GitSignature(keys("ssh-ed25519")))
    second = good.produce_artifact(store, name="app")
    assert second.verification
    assert second.content_digest == first.content_digest
    assert good.produce_artifact(store, name="app").observed == second.observed
    rotated = attrs.evolve(plain, verify=GitSignature(keys("ssh-other")))
    with pytest.raises(VerificationError):
        rotated.produce_artifact(store, name="app")


def test_tags_through_a_source(repository):
    """A signed one; a lightweight one; one whose object has another name."""
    source = GitSource(repository.path, tag="v1.0.0", verify=GitSignature(keys("ssh-ed25519"), mode="Tag"))
    with source.fetch() as snapshot:
        assert "git.tag.key" in dict(snapshot.verification)
    with attrs.evolve(source, tag=None, semver="~1.0").fetch() as snapshot:
        assert "git.tag.key" in dict(snapshot.verification)
    with attrs.evolve(source, tag=None, ref="refs/tags/v1.0.0").fetch() as snapshot:
        assert "git.tag.key" in dict(snapshot.verification)
    for tag in ("v2.0.0", "v3.0.0"):
        with pytest.raises(VerificationError) as caught:
            attrs.evolve(source, tag=tag).fetch().__enter__()
        assert caught.value.check == Check.TAG


def test_a_tag_that_moved_between_resolving_and_fetching_is_a_changed_source(repository):
    """The tag object that is verified has to lead to the commit that was resolved."""
    source = GitSource(repository.path, tag="v1.0.0", verify=GitSignature(keys("ssh-ed25519"), mode="Tag"))
    revision = source.resolve_revision()
    repository.set_ref("refs/tags/v1.0.0", VECTORS["objects"]["unsigned"]["oid"])
    with pytest.raises(SourceChangedError):
        source.fetch(revision).__enter__()


def test_a_policy_that_cannot_be_answered_is_refused_at_once(repository):
    """A tag's signature where no tag is followed (Flux stalls on it), and evidence that Git does not have."""

    class Images:
        digest, needs = Digest.of(b""), frozenset({"manifest"})

        def check(self, evidence):
            return ()

    with pytest.raises(ConfigurationError, match="tag"):
        GitSource(repository.path, branch="main", verify=GitSignature(keys("rsa"), mode="Tag"))
    with pytest.raises(ConfigurationError, match="manifest"):
        GitSource(repository.path, verify=Images())


def test_no_verification_says_so_each_time(repository, caplog):
    """In the log and in the artifact."""
    source = GitSource(repository.path, branch="stranger", verify=UnsafeNoVerification())
    for count in (1, 2):
        with caplog.at_level(logging.WARNING), source.fetch() as snapshot:
            assert snapshot.verification == (("policy", "unsafe-no-verification"),)
        assert caplog.text.count("without any verification") == count

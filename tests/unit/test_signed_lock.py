"""Signed locks: what a source holds has to be what somebody signed, whatever the source itself says."""

import base64
import datetime as dt
import hashlib
import json
import pickle
from pathlib import Path

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from fluxsrc.auth import Secret
from fluxsrc.bucket import BucketSource, LocalBucket
from fluxsrc.directory import DirectorySource
from fluxsrc.entry import Entry
from fluxsrc.errors import ConfigurationError, SourceChangedError, VerificationError
from fluxsrc.git import GitSource
from fluxsrc.inspect import ls
from fluxsrc.lock import Locked, LockFile
from fluxsrc.memory import MemoryFile, MemorySource
from fluxsrc.oci import OCISource
from fluxsrc.oci.layers import LayerOperation
from fluxsrc.sealed import SealedSnapshot
from fluxsrc.signatures.allowed_signers import AllowedSigners
from fluxsrc.signatures.publickeys import parse_public_keys
from fluxsrc.signatures.sshsign import sign_ssh
from fluxsrc.signatures.statements import Bundle
from fluxsrc.signed_lock import NAMESPACE, SignedLock, sign_lock
from fluxsrc.stores import LocalStore, MemoryStore
from fluxsrc.testing.git import GitRepositoryBuilder
from fluxsrc.verify import AllOf, AnyOf, ContentEvidence, UnsafeNoVerification
from fluxsrc.wrappers import Include, Included

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
FILES = {"app.yaml": "kind: App\n", "lib/run.sh": "#!/bin/sh\n", ".sourceignore": "*.md\n", "README.md": "# App\n"}


def openssh(key, passphrase=None):
    how = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase.encode())
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, how).decode())


def pem(key):
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def line(key):
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def public_pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


ADA = ed25519.Ed25519PrivateKey.from_private_bytes(b"a" * 32)
EVE = ed25519.Ed25519PrivateKey.from_private_bytes(b"e" * 32)
COSIGN = ec.derive_private_key(12345678901234567890, ec.SECP256R1())
ALLOWED = AllowedSigners.parse(f'ada@example.com namespaces="{NAMESPACE}" {line(ADA)}')
(COSIGN_PUBLIC,) = parse_public_keys(public_pem(COSIGN))


def locked(source):
    return Locked.of(source, source.produce_artifact(MemoryStore()))


def lock_of(**sources):
    return str(LockFile({name: locked(source) for name, source in sources.items()})).encode()


def signed(lock, key=ADA, *, keys=ALLOWED, namespace=NAMESPACE, **options):
    return SignedLock(lock, sign_ssh(lock, openssh(key), namespace=namespace), keys=keys, **options)


def evidence(source):
    entry = locked(source)
    return ContentEvidence(
        subject=f"{source.url} at {entry.revision.short}",
        now=NOW,
        url=source.url,
        revision=entry.revision,
        content_digest=entry.content_digest,
    )


SOURCE = MemorySource(FILES)
LOCK = lock_of(app=SOURCE)


def fails(policy, source=SOURCE, *, now=NOW):
    """The number of the check that fails."""
    with pytest.raises(VerificationError) as caught:
        policy.check(attrs.evolve(evidence(source), now=now))
    assert caught.value.check is not None
    assert f"check {caught.value.check} (" in str(caught.value)
    return caught.value.check


# --- what holds ------------------------------------------------------------------------------------------------------


def test_the_facts_say_who_signed_and_what():
    """Signer, key, scheme, the locked name, content and revision, and which lock it was."""
    facts = dict(signed(LOCK).check(evidence(SOURCE)))
    assert facts["lock.signer"] == "ada@example.com"
    assert facts["lock.key"].startswith("SHA256:")
    assert (facts["lock.scheme"], facts["lock.algorithm"], facts["lock.source"]) == ("ssh", "ssh-ed25519", "app")
    assert facts["lock.content"] == str(evidence(SOURCE).content_digest)
    assert facts["lock.digest"].startswith("sha256:")
    assert facts["policy"] == str(signed(LOCK).digest)


@pytest.mark.parametrize(
    "key",
    [
        ADA,
        ec.derive_private_key(7, ec.SECP256R1()),
        ec.derive_private_key(7, ec.SECP384R1()),
        ec.derive_private_key(7, ec.SECP521R1()),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["ed25519", "p256", "p384", "p521", "rsa"],
)
def test_ssh_keys_of_every_kind_sign(key):
    """What is signed here is accepted here; the server lane asks ssh-keygen."""
    policy = signed(LOCK, key, keys=AllowedSigners.parse(line(key)))
    assert dict(policy.check(evidence(SOURCE)))["lock.scheme"] == "ssh"


@pytest.mark.parametrize("key", [COSIGN, ADA, rsa.generate_private_key(65537, 2048)], ids=["p256", "ed25519", "rsa"])
def test_keys_in_pem_sign_as_cosign_does(key):
    """A bundle with one signature over the bytes of the file."""
    policy = SignedLock(LOCK, sign_lock(LOCK, pem(key)), keys=parse_public_keys(public_pem(key)))
    assert dict(policy.check(evidence(SOURCE)))["lock.scheme"] == "cosign"


def bundle(good, **changes):
    """A bundle with parts of its own; None leaves one out."""
    document = json.loads(good)
    for part, name in {"material": "verificationMaterial", "digest": "messageDigest"}.items():
        if part in changes:
            inside = document if part == "material" else document["messageSignature"]
            inside[name] = changes[part]
            if changes[part] is None:
                del inside[name]
    return json.dumps(document).encode()


def sha256(data):
    return {"algorithm": "SHA2_256", "digest": base64.b64encode(hashlib.sha256(data).digest()).decode()}


def bare(bundled):
    return base64.b64encode(Bundle.parse(bundled).signature)


def test_the_signature_in_a_bundle_holds_as_well_as_the_bundle():
    """cosign 3 writes bundles, earlier ones base64; a bundle need not say which digest it is about."""
    for signature in (GOOD_BUNDLE, GOOD_COSIGN, GOOD_COSIGN + b"\n", bundle(GOOD_BUNDLE, digest=None)):
        policy = SignedLock(LOCK, signature, keys=COSIGN_PUBLIC)
        assert dict(policy.check(evidence(SOURCE)))["lock.key"] == COSIGN_PUBLIC.fingerprint


@pytest.mark.parametrize("keys", [[ALLOWED, COSIGN_PUBLIC], [COSIGN_PUBLIC, ALLOWED]])
def test_one_of_several_keys_is_enough(keys):
    """Of either kind, in any order."""
    assert signed(LOCK, keys=keys).check(evidence(SOURCE))
    assert SignedLock(LOCK, sign_lock(LOCK, pem(COSIGN)), keys=keys).check(evidence(SOURCE))


def test_an_encrypted_key_signs_with_its_passphrase_only():
    """And the error does not quote the key."""
    key = openssh(ADA, "hunter2")
    assert sign_lock(LOCK, key, passphrase=Secret("hunter2")) == sign_lock(LOCK, openssh(ADA))
    for passphrase in (None, Secret("hunter3")):
        with pytest.raises(ConfigurationError) as caught:
            sign_lock(LOCK, key, passphrase=passphrase)
        assert caught.value.__cause__ is None


def test_only_lock_files_are_signed():
    """A key for locks signs no letters."""
    with pytest.raises(ConfigurationError, match="lock file"):
        sign_lock(b"Dear Bob", openssh(ADA))


def test_a_mirror_with_the_same_content_is_as_good_by_name():
    """The URL says where the content was; the digest says what it is."""
    mirror = MemorySource(FILES, "mirror")
    assert fails(signed(LOCK), mirror) == 11
    assert signed(LOCK, source="app").check(evidence(mirror))


def test_several_names_of_one_url_may_have_several_contents():
    """With other ignore rules, for instance: each was signed for that URL."""
    other = attrs.evolve(SOURCE, ignore="lib/\n")
    policy = signed(lock_of(app=SOURCE, small=other))
    assert dict(policy.check(evidence(other)))["lock.source"] == "small"
    assert dict(policy.check(evidence(SOURCE)))["lock.source"] == "app"


# --- attacks ---------------------------------------------------------------------------------------------------------


def test_other_content_fails_at_13():
    """One byte more in one file, one mode changed, one file less."""
    for files in (
        FILES | {"app.yaml": "kind: App \n"},
        FILES | {"app.yaml": MemoryFile(b"kind: App\n", SOURCE.files["app.yaml"].mode.EXECUTABLE)},
        {"app.yaml": FILES["app.yaml"]},
    ):
        assert fails(signed(LOCK), MemorySource(files)) == 13


def test_a_stripped_signature_fails_at_3(tmp_path):
    """An empty file, and none."""
    assert fails(SignedLock(LOCK, b"", keys=ALLOWED)) == 3
    (tmp_path / "fluxsrc.lock").write_bytes(LOCK)
    (tmp_path / "keys").write_text(line(ADA))
    with pytest.raises(VerificationError, match="not signed") as caught:
        SignedLock.from_files(tmp_path / "fluxsrc.lock", keys=tmp_path / "keys")
    assert caught.value.check == 3


@pytest.mark.parametrize(
    "signature",
    [
        b"x",
        b"-----BEGIN SSH SIGNATURE-----\n",
        b"-----BEGIN SSH SIGNATURE-----\nU1NI\n-----END SSH SIGNATURE-----\n",
        b"{}",
        b"{" * 5000,
        b"A" * 70_000,
        b"\xff\xfe",
        sign_ssh(LOCK, openssh(ADA), namespace=NAMESPACE) * 2,
        sign_lock(LOCK, pem(COSIGN)) + b"x",
        sign_lock(LOCK, pem(COSIGN)).replace(b"SHA2_256", b"SHA2_512"),
    ],
)
def test_a_malformed_signature_fails_at_4(signature):
    """Nothing that is almost a signature is one."""
    assert fails(SignedLock(LOCK, signature, keys=[ALLOWED, COSIGN_PUBLIC])) == 4


def test_another_namespace_fails_at_5():
    """A signature that the same key made over the same bytes for Git, or as a file, is not one of a lock."""
    keys = AllowedSigners.parse(line(ADA))
    for namespace in ("git", "file", "fluxsrc-lock2"):
        assert fails(signed(LOCK, keys=keys, namespace=namespace)) == 5


def test_a_bundle_of_a_certificate_fails_at_5():
    """Whose it is, only a transparency log and its roots could tell."""
    material = {"certificate": {"rawBytes": "AAAA"}}
    assert fails(SignedLock(LOCK, bundle(GOOD_BUNDLE, material=material), keys=COSIGN_PUBLIC)) == 5


def test_an_envelope_in_a_bundle_is_refused():
    """What it signs is another statement, not the lock."""
    document = json.loads(GOOD_BUNDLE)
    document["dsseEnvelope"] = {"payload": "AAAA", "payloadType": "x", "signatures": [{"sig": "AAAA"}]}
    del document["messageSignature"]
    assert fails(SignedLock(LOCK, json.dumps(document).encode(), keys=COSIGN_PUBLIC)) == 4


def test_another_key_fails_at_6():
    """Whoever it belongs to; and a key of the other family is no key."""
    assert fails(signed(LOCK, EVE)) == 6
    assert fails(signed(LOCK, keys=COSIGN_PUBLIC)) == 6
    assert fails(SignedLock(LOCK, sign_lock(LOCK, pem(COSIGN)), keys=ALLOWED)) == 6


def test_a_key_for_another_namespace_fails_at_6():
    """`namespaces=` of the allowed signers is obeyed."""
    assert fails(signed(LOCK, keys=AllowedSigners.parse(f'ada namespaces="git" {line(ADA)}'))) == 6


def test_an_expired_key_fails_at_7():
    """Now is what counts: the signature carries no time."""
    keys = AllowedSigners.parse(f'ada valid-before="20260401Z" {line(ADA)}')
    assert signed(LOCK, keys=keys).check(evidence(SOURCE))
    assert fails(signed(LOCK, keys=keys), now=dt.datetime(2026, 4, 1, tzinfo=dt.UTC)) == 7


def test_another_signer_than_asked_for_fails_at_8():
    """By principal; a cosign key has none."""
    assert signed(LOCK, identities=["ada@example.com"]).check(evidence(SOURCE))
    assert fails(signed(LOCK, identities=["release@example.com"])) == 8
    policy = SignedLock(LOCK, sign_lock(LOCK, pem(COSIGN)), keys=COSIGN_PUBLIC, identities=["ada@example.com"])
    assert fails(policy) == 8


def test_a_tampered_lock_fails_at_9():
    """The attacker's content, written into the lock of Ada."""
    evil = MemorySource(FILES | {"app.yaml": "kind: Evil\n"})
    forged = lock_of(app=evil)
    assert fails(SignedLock(forged, sign_ssh(LOCK, openssh(ADA), namespace=NAMESPACE), keys=ALLOWED), evil) == 9
    for signature in (
        GOOD_BUNDLE,
        GOOD_COSIGN,
        bundle(GOOD_BUNDLE, digest=sha256(forged)),
        bundle(GOOD_BUNDLE, digest=None),
    ):
        assert fails(SignedLock(forged, signature, keys=COSIGN_PUBLIC), evil) == 9


def test_what_is_signed_must_be_a_lock_file_at_10():
    """In the very form that this library writes: nothing can be read in two ways."""
    for text in (
        b"hello",
        b'{"version": 2, "sources": {}}\n',
        LOCK.replace(b"\n", b"\r\n"),
        LOCK + b"\n",
        LOCK.replace(b'"version": 1,', b'"version": 1, "version": 1,'),
    ):
        assert fails(signed(text)) == 10


def test_the_lock_of_another_source_fails_at_11():
    """A signed entry for one source is none for another, by URL and by name."""
    assert fails(signed(lock_of(other=MemorySource(FILES, "other")))) == 11
    assert fails(signed(LOCK, source="other")) == 11


def test_a_name_chooses_its_entry_and_no_other():
    """The content of one entry does not pass for another's."""
    other = MemorySource({"other.yaml": "1"}, "other")
    policy = signed(lock_of(app=SOURCE, other=other), source="app")
    assert policy.check(evidence(SOURCE))
    assert fails(policy, other) == 13


def test_another_revision_fails_at_12_where_that_is_asked_for():
    """Same content, other revision: by default that is nobody's business."""
    later = attrs.evolve(evidence(SOURCE), revision=evidence(MemorySource({"x": "y"})).revision)
    assert signed(LOCK).check(later)
    assert signed(LOCK, revisions=True).check(evidence(SOURCE))
    with pytest.raises(VerificationError) as caught:
        signed(LOCK, revisions=True).check(later)
    assert caught.value.check == 12


def test_an_older_lock_accepts_older_content_and_nothing_else():
    """Rollback is what a signature does not protect from; mixing old and new is."""
    newer = MemorySource(FILES | {"app.yaml": "kind: App2\n"})
    old, new = signed(LOCK), signed(lock_of(app=newer))
    assert old.check(evidence(SOURCE))
    assert fails(old, newer) == 13
    assert fails(new, SOURCE) == 13


@given(st.data())
def test_no_damaged_signature_holds(data):
    """Any byte of the armor changed: one of the checks fails, and nothing else is raised."""
    armored = data.draw(st.sampled_from([GOOD_SSH, GOOD_COSIGN, GOOD_BUNDLE]))
    place = data.draw(st.integers(0, len(armored) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != armored[place]))
    damaged = armored[:place] + bytes([byte]) + armored[place + 1 :]
    policy = SignedLock(LOCK, damaged, keys=[ALLOWED, COSIGN_PUBLIC])
    number = None
    try:
        policy.check(EVIDENCE)
    except VerificationError as exc:
        number = exc.check
    if number is None:
        # What is not signed may change, the hint of a bundle or the line end of base64; the signature may not.
        assert (bare(damaged) if armored is GOOD_BUNDLE else damaged.strip()) == GOOD_COSIGN
    else:
        assert 3 <= number <= 9


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_arbitrary_bytes_are_no_signature(data):
    """Whatever is beside the lock, the error is ours."""
    with pytest.raises(VerificationError):
        SignedLock(LOCK, data, keys=[ALLOWED, COSIGN_PUBLIC]).check(EVIDENCE)


GOOD_SSH = sign_ssh(LOCK, openssh(ADA), namespace=NAMESPACE)
GOOD_BUNDLE = sign_lock(LOCK, pem(COSIGN))
GOOD_COSIGN = bare(GOOD_BUNDLE)
EVIDENCE = evidence(SOURCE)


# --- in sources ------------------------------------------------------------------------------------------------------


def write_tree(root: Path, files) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def git_source(root, **options):
    if not (root / "repository.git").exists():
        GitRepositoryBuilder(root / "repository.git").commit(FILES)
    return GitSource(str(root / "repository.git"), **options)


def oci_source(root, **options):
    if not (root / "layout").exists():
        with LocalStore(root / "layout") as store:
            MemorySource(FILES).produce_artifact(store, name="app")
    names = json.loads((root / "layout" / "index.json").read_text())["manifests"]
    return OCISource(f"oci-layout:{root / 'layout'}@{names[0]['digest']}", **options)


def directory_source(root, **options):
    if not (root / "tree").exists():
        write_tree(root / "tree", FILES)
    return DirectorySource(root / "tree", **options)


def bucket_source(root, **options):
    if not (root / "bucket").exists():
        write_tree(root / "bucket", FILES)
    return BucketSource(LocalBucket(str(root / "bucket")), **options)


def memory_source(root, **options):
    return MemorySource(FILES, **options)


@pytest.fixture(params=[directory_source, bucket_source, git_source, oci_source, memory_source])
def make(request, tmp_path):
    """Makes one source of each kind over the same files."""
    return lambda **options: request.param(tmp_path, **options)


def test_every_kind_of_source_takes_a_signed_lock(make):
    """The artifact is the same one as without, its facts tell of the lock, and the recipe of the policy."""
    plain = make()
    policy = signed(lock_of(app=plain))
    source = make(verify=policy)
    artifact = source.produce_artifact(MemoryStore())
    assert artifact.content_digest == locked(plain).content_digest
    assert dict(artifact.verification)["lock.source"] == "app"
    assert ("verify", str(policy.digest)) in source.recipe.options
    assert pickle.loads(pickle.dumps(source)) == source
    assert [entry.path for entry in ls(source)] == [".sourceignore", "app.yaml", "lib/run.sh"]
    assert artifact.skipped == plain.produce_artifact(MemoryStore()).skipped


def test_one_lock_serves_the_same_content_from_anywhere(make):
    """Locked from memory, verified from a bucket, a repository, a registry, a directory: by name."""
    source = make(verify=signed(LOCK, source="app"))
    assert source.produce_artifact(MemoryStore()).content_digest == EVIDENCE.content_digest


def test_nothing_is_recorded_or_shown_of_content_that_is_not_locked(make):
    """No artifact, no entry, no annotation, no ignore file: only the revision."""
    source = make(verify=signed(lock_of(app=MemorySource({"a": "b"})), source="app"))
    store = MemoryStore()
    with pytest.raises(VerificationError) as caught:
        source.produce_artifact(store)
    assert caught.value.check == 13
    assert list(store.sources()) == []
    with source.fetch() as snapshot:
        assert snapshot.revision == source.resolve_revision()
        for look in (
            lambda: list(snapshot.entries()),
            snapshot.ignore_files,
            lambda: snapshot.annotations,
            lambda: snapshot.skipped,
            lambda: snapshot.tree_id,
            lambda: snapshot.created,
            lambda: snapshot.verification,
        ):
            with pytest.raises(VerificationError):
                look()


def test_a_refused_artifact_leaves_no_blob_in_the_layout(tmp_path):
    """What no policy let through is not lying in the store under its digest."""
    source = directory_source(tmp_path, verify=signed(lock_of(app=MemorySource({"a": "b"})), source="app"))
    with LocalStore(tmp_path / "store") as store:
        with pytest.raises(VerificationError):
            source.produce_artifact(store)
        assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file() and "blobs" in path.parts]


def test_what_is_handed_out_is_what_was_verified(tmp_path):
    """A file that changes after the check is not looked at again."""
    source = directory_source(tmp_path)
    source = attrs.evolve(source, verify=signed(lock_of(app=source)))
    with source.fetch() as snapshot:
        assert isinstance(snapshot, SealedSnapshot)
        (entry,) = [entry for entry in snapshot.entries() if entry.path == "app.yaml"]
        (tmp_path / "tree" / "app.yaml").write_text("kind: Evil\n")
        assert entry.read() == b"kind: App\n"
        assert [each.read() for each in snapshot.entries() if each.path == "app.yaml"] == [b"kind: App\n"]
        assert snapshot.ignore_files() == {"": "*.md\n"}
    with pytest.raises(ConfigurationError, match="closed"):
        list(snapshot.entries())


def test_a_change_while_it_is_read_is_an_error_not_a_mixture(tmp_path):
    """Between listing and reading."""
    source = directory_source(tmp_path)
    source = attrs.evolve(source, verify=signed(lock_of(app=source)))
    with source.fetch() as snapshot:
        (tmp_path / "tree" / "app.yaml").write_text("kind: Evil\n")
        with pytest.raises(SourceChangedError):
            list(snapshot.entries())


def test_another_lock_verifies_an_unchanged_revision_again():
    """An artifact made without a policy, or under an older lock, does not stand in."""
    store = MemoryStore()
    SOURCE.produce_artifact(store, name="app")
    good = attrs.evolve(SOURCE, verify=signed(LOCK))
    assert good.produce_artifact(store, name="app").verification
    moved_on = attrs.evolve(SOURCE, verify=signed(lock_of(app=MemorySource({"a": "b"}))))
    with pytest.raises(VerificationError):
        moved_on.produce_artifact(store, name="app")


def test_a_new_lock_still_reuses_what_did_not_change():
    """Of two files one changes: the other one comes out of the artifact of the old lock, and is not read."""
    store = MemoryStore()
    large = {"a": "a" * 3_000_000, "b": "b" * 3_000_000}
    source = MemorySource(large)
    attrs.evolve(source, verify=signed(lock_of(app=source))).produce_artifact(store, name="app")
    source = MemorySource(large | {"b": "c" * 3_000_000})
    lock = lock_of(app=source)
    read = []
    with pytest.MonkeyPatch.context() as patch:
        plain = Entry.from_bytes

        def watched(path, data, *rest):
            entry = plain(path, data, *rest)
            return attrs.evolve(
                entry,
                opener=lambda: read.append(path) or entry.open(),
                reader=lambda: read.append(path) or data,
            )

        patch.setattr(Entry, "from_bytes", watched)
        artifact = attrs.evolve(source, verify=signed(lock)).produce_artifact(store, name="app")
    assert set(read) == {"b"}
    assert dict(artifact.verification)["lock.source"] == "app"


def test_policies_about_revision_and_content_go_together(tmp_path):
    """Both are asked; a choice between them is refused, as it could not be made in time."""
    lock = signed(lock_of(app=git_source(tmp_path)))
    both = git_source(tmp_path, verify=AllOf([UnsafeNoVerification(), lock]))
    assert dict(both.produce_artifact(MemoryStore()).verification)["policy"]

    @attrs.frozen
    class Refusing:
        digest = lock.digest
        needs = frozenset({"commit"})

        def check(self, evidence):
            raise VerificationError("no", check=1)

    refused = git_source(tmp_path, verify=AllOf([Refusing(), lock]))
    with pytest.raises(VerificationError, match="no"), refused.fetch():
        pass
    with pytest.raises(ConfigurationError, match="AllOf"):
        git_source(tmp_path, verify=AnyOf([Refusing(), lock]))
    with pytest.raises(ConfigurationError, match="commit"):
        MemorySource(FILES, verify=Refusing())
    either = AnyOf([signed(LOCK, EVE), lock])
    assert git_source(tmp_path, verify=either).produce_artifact(MemoryStore()).verification


def test_a_source_without_signatures_of_its_own_can_say_so():
    """The unsafe policy is recorded in every kind of source."""
    source = MemorySource(FILES, verify=UnsafeNoVerification())
    assert source.produce_artifact(MemoryStore()).verification == (("policy", "unsafe-no-verification"),)


def test_an_included_source_is_verified_by_its_own_lock():
    """What is mounted from a sealed snapshot was verified before."""
    part = MemorySource({"b": "2"}, "part")
    good = Include(source=SOURCE, includes=[Included(attrs.evolve(part, verify=signed(lock_of(p=part))), "lib2")])
    assert good.produce_artifact(MemoryStore()).files == 4
    bad = Include(source=SOURCE, includes=[Included(attrs.evolve(part, verify=signed(LOCK, source="app")), "lib2")])
    with pytest.raises(VerificationError):
        bad.produce_artifact(MemoryStore())


def test_a_layer_kept_as_it_is_is_verified_as_it_is(tmp_path):
    """`copy` keeps the bytes: their digest is what was locked."""
    plain = oci_source(tmp_path, layer_operation=LayerOperation.COPY)
    source = oci_source(tmp_path, layer_operation=LayerOperation.COPY, verify=signed(lock_of(app=plain)))
    assert source.produce_artifact(MemoryStore()).verification
    assert [entry.path for entry in ls(source)] == [".sourceignore", "app.yaml", "lib/run.sh"]


def test_pull_does_not_go_round_the_lock(tmp_path):
    """It would unpack what no artifact holds."""
    source = oci_source(tmp_path, verify=signed(LOCK))
    with pytest.raises(ConfigurationError, match="produce_artifact"):
        source.pull(tmp_path / "out")


def test_a_tree_that_is_known_is_asked_about_again(tmp_path):
    """An empty commit: the same tree, not read again, and yet held against the lock."""
    builder = GitRepositoryBuilder(tmp_path / "repository.git")
    builder.commit(FILES)
    plain = GitSource(str(tmp_path / "repository.git"))
    source = attrs.evolve(plain, verify=signed(lock_of(app=plain)))
    store = MemoryStore()
    first = source.produce_artifact(store, name="app")
    builder.commit(FILES, message="Again")
    second = source.produce_artifact(store, name="app")
    assert first.revision != second.revision
    assert first.digest == second.digest
    assert dict(second.verification)["lock.source"] == "app"


def test_the_policy_needs_keys_and_names_that_are_a_sequence():
    """Neither nobody nor the letters of a name."""
    with pytest.raises(ConfigurationError):
        SignedLock(LOCK, GOOD_SSH, keys=[])
    with pytest.raises(ConfigurationError):
        SignedLock(LOCK, GOOD_SSH, keys=ALLOWED, identities="ada@example.com")


def test_whatever_decides_changes_the_digest():
    """Lock, signature, keys, name, identities, namespace, revisions."""
    policies = [
        signed(LOCK),
        signed(lock_of(app=MemorySource({"a": "b"}))),
        signed(LOCK, EVE),
        signed(LOCK, keys=[ALLOWED, COSIGN_PUBLIC]),
        signed(LOCK, keys=AllowedSigners.parse(f"ada@example.com {line(ADA)}")),
        signed(LOCK, source="app"),
        signed(LOCK, identities=["ada@example.com"]),
        attrs.evolve(signed(LOCK), namespace="other"),
        signed(LOCK, revisions=True),
    ]
    assert len({str(policy.digest) for policy in policies}) == len(policies)
    assert signed(LOCK).digest == signed(LOCK).digest
    assert pickle.loads(pickle.dumps(policies[0])) == policies[0]


def test_the_signature_is_one_block_of_base64_lines():
    """As ssh-keygen writes it: lines of 70, and nothing around it."""
    lines = GOOD_SSH.decode().splitlines()
    assert lines[0] == "-----BEGIN SSH SIGNATURE-----"
    assert {len(each) for each in lines[1:-2]} == {70}

"""Keyless signatures at a registry: nothing that the policy refuses is read or stored, and what it found out is shown."""

import datetime as dt
import json
from pathlib import Path

import pytest

from fluxsrc.cli import main
from fluxsrc.digest import Digest
from fluxsrc.errors import FluxSrcError, LimitExceededError, VerificationError
from fluxsrc.limits import Limits
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, OCISource, push
from fluxsrc.signatures import CosignKeylessSignature, CosignKeySignature, Identity, OCICheck, TrustedRoot
from fluxsrc.signatures.oci import BUNDLE_MEDIA_TYPE, SIMPLE_SIGNING_MEDIA_TYPE
from fluxsrc.signing import CosignSigner, SigningKey, push_bundle, sign
from fluxsrc.status import SourceStatus
from fluxsrc.stores import LocalStore, MemoryStore
from fluxsrc.verify import AllOf, AnyOf, UnsafeNoVerification
from helpers import small_sigstore as small
from helpers.registries import let_referrers_be_endless

PLAIN = Access(insecure=True)
LAYOUTS = ["bundle", "cosign"]
AGO = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
EVE = "eve@example.com"


@pytest.fixture(scope="module")
def sigstore():
    return small.SmallSigstore()


pytestmark = pytest.mark.usefixtures("impatient")


def published(registry, text="replicas: 3\n", tag="v1"):
    return push(MemorySource({"app.yaml": text}), f"oci://{registry.host}/team/app:{tag}", access=PLAIN).digest


def plant(registry, digest, layout, payload, notes=None):
    """Put a layer beside a manifest, in the place of a signature."""
    if layout == "bundle":
        reference = f"oci://{registry.host}/team/app@{digest}"
        sign(reference, lambda repository, document: (push_bundle(repository, document, payload),), access=PLAIN)
    else:
        registry.put("team/app", f"sha256-{digest.hex}.sig", layers=[(SIMPLE_SIGNING_MEDIA_TYPE, payload, notes)])


def signed(registry, sigstore, digest, layout, *, of=None, repository=None, **options):
    """A signature in this layout beside the digest; of another one, if it says so."""
    about, options = of or digest, {"at": AGO} | options
    if layout == "bundle":
        plant(registry, digest, layout, json.dumps(sigstore.bundle(small.statement(about), **options)).encode())
    else:
        payload = small.simple_payload(about, repository=repository or f"{registry.host}/team/app")
        plant(registry, digest, layout, payload, sigstore.legacy(payload, **options))
    return digest


def policy(sigstore, subject=small.SUBJECT, **options):
    root = TrustedRoot.parse(sigstore.trusted_root())
    return CosignKeylessSignature(Identity(small.ISSUER, subject), trusted_root=root, **options)


def source(registry, wanted, **options):
    return OCISource(f"oci://{registry.host}/team/app:v1", insecure=True, verify=wanted, **options)


def layers_asked(registry):
    """How often a blob was read that is not part of a signature."""
    documents = [json.loads(data) for _, data in registry.repository("team/app").manifests.values()]
    layers = {
        layer["digest"]
        for document in documents
        for layer in document.get("layers", [])
        if layer["mediaType"] not in (BUNDLE_MEDIA_TYPE, SIMPLE_SIGNING_MEDIA_TYPE)
    }
    return sum(registry.count(f"GET .*/blobs/{digest}") for digest in layers)


def refused(registry, wanted, check, store=None, **options):
    """Hold the source against a policy that it must fail at this check, with no layer read and nothing stored."""
    before, store = layers_asked(registry), store or MemoryStore()
    kept = list(store.sources())
    with pytest.raises(VerificationError) as caught:
        source(registry, wanted, **options).produce_artifact(store)
    assert caught.value.check == check, caught.value
    assert f"check {check.value} ({check.name.lower()})" in str(caught.value)
    assert layers_asked(registry) == before
    assert list(store.sources()) == kept


@pytest.mark.parametrize("layout", LAYOUTS)
def test_who_signed_where_and_when_is_recorded_with_the_artifact(each_registry, sigstore, layout, tmp_path):
    """And is still known by whoever opens the store later."""
    signed(each_registry, sigstore, published(each_registry), layout)
    wanted = policy(sigstore)
    made = source(each_registry, wanted).produce_artifact(LocalStore(tmp_path))
    [key] = LocalStore(tmp_path).sources()
    [kept] = LocalStore(tmp_path).history(key)
    assert kept.verification == made.verification
    facts = dict(kept.verification)
    assert facts["oci.layout"] == layout
    assert facts["oci.signer"] == small.SUBJECT
    assert facts["oci.issuer"] == small.ISSUER
    assert facts["oci.log"] == sigstore.log.id.hex()
    assert int(facts["oci.log_index"]) == len(sigstore.log.bodies) - 1
    assert facts["oci.signed"] == AGO.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert facts["policy"] == str(wanted.digest)


def test_the_outcome_is_shown_wherever_the_artifact_is(registry, sigstore, tmp_path, monkeypatch, capfd):
    """In the status of a source, and by `pull`, `resolve`, `store list`, `store history` and `get`."""
    monkeypatch.chdir(tmp_path)
    signed(registry, sigstore, published(registry), "bundle")
    made = source(registry, policy(sigstore)).produce_artifact(LocalStore("store"))
    status = SourceStatus(key=made.key).succeeded(made, 1, AGO)
    condition = status.conditions["SourceVerified"]
    assert f"oci.signer {small.SUBJECT}" in condition.message
    assert f"oci.log_index {len(sigstore.log.bodies) - 1}" in condition.message
    Path("root.json").write_bytes(sigstore.trusted_root())
    asked = ["--verify-trusted-root", "root.json", "--verify-issuer", small.ISSUER, "--verify-identity", small.SUBJECT]
    home = f"oci://{registry.host}/team/app:v1"
    for words in (
        ["pull", home, "--insecure", "--output", "out", *asked],
        ["resolve", home, "--insecure", *asked],
        ["resolve", home, "--insecure", "--json", *asked],
        ["store", "list", "--store", "store"],
        ["store", "history", str(made.key), "--store", "store"],
        ["store", "history", str(made.key), "--store", "store", "--json"],
        ["get", "--store", "store", "--json"],
    ):
        assert main(words) == 0, words
        out, err = capfd.readouterr()
        assert small.SUBJECT in out + err, words


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_policy_verifies_an_unchanged_revision_anew(registry, sigstore, layout):
    """Another identity, another trusted root; and what was found good is not looked at twice."""
    store = MemoryStore()
    signed(registry, sigstore, published(registry), layout)
    first = source(registry, policy(sigstore)).produce_artifact(store)
    requests = len(registry.requests)
    assert source(registry, policy(sigstore)).produce_artifact(store) == first
    assert len(registry.requests) == requests + 1
    refused(registry, policy(sigstore, EVE), OCICheck.SIGNER, store)
    refused(registry, policy(small.SmallSigstore()), OCICheck.CERTIFICATE, store)
    assert source(registry, policy(sigstore)).produce_artifact(store) == first


# --- attacks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_attack_another_signer(each_registry, sigstore, layout):
    """A good certificate of somebody else's."""
    signed(each_registry, sigstore, published(each_registry), layout, subject=EVE)
    refused(each_registry, policy(sigstore), OCICheck.SIGNER)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_attack_another_digest(each_registry, sigstore, layout):
    """A true signature, moved beside something else."""
    other = published(each_registry, "replicas: 9\n", "other")
    signed(each_registry, sigstore, published(each_registry), layout, of=other)
    refused(each_registry, policy(sigstore), OCICheck.SUBJECT)


def test_attack_another_repository(each_registry, sigstore):
    """What was signed for a place where anybody may push."""
    signed(each_registry, sigstore, published(each_registry), "cosign", repository="registry.example/sandbox/app")
    refused(each_registry, policy(sigstore, repository=f"{each_registry.host}/team/app"), OCICheck.SUBJECT)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_attack_an_expired_certificate(each_registry, sigstore, layout):
    """Logged an hour after it had expired."""
    key, certificate = sigstore.issue(at=AGO - dt.timedelta(hours=1))
    signed(each_registry, sigstore, published(each_registry), layout, key=key, certificate=certificate)
    refused(each_registry, policy(sigstore), OCICheck.CERTIFICATE)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_attack_a_log_entry_for_another_artifact(each_registry, sigstore, layout):
    """The entry is good, but about something else that the same person signed."""
    digest = published(each_registry)
    key, certificate = sigstore.issue(at=AGO)
    options = {"at": AGO, "key": key, "certificate": certificate}
    if layout == "bundle":
        bundle = sigstore.bundle(small.statement(digest), **options)
        other = sigstore.bundle(small.statement(Digest.of(b"other")), **options)
        bundle["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]
        plant(each_registry, digest, layout, json.dumps(bundle).encode())
    else:
        payload, entry = small.simple_payload(digest), "dev.sigstore.cosign/bundle"
        notes = sigstore.legacy(payload, **options)
        notes[entry] = sigstore.legacy(small.simple_payload(Digest.of(b"other")), **options)[entry]
        plant(each_registry, digest, layout, payload, notes)
    refused(each_registry, policy(sigstore), OCICheck.LOG)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_attack_a_stripped_signature(each_registry, sigstore, layout):
    digest = signed(each_registry, sigstore, published(each_registry), layout)
    repository = each_registry.repository("team/app")
    for tag in [tag for tag in repository.tags if tag.startswith("sha256-")]:
        del repository.tags[tag]
    for key in [key for key, (_, data) in repository.manifests.items() if b'"subject"' in data]:
        del repository.manifests[key]
    assert str(digest) in repository.manifests
    refused(each_registry, policy(sigstore), OCICheck.SIGNATURE)


def test_attack_a_signature_added_after_the_policy_failed_is_judged_anew(registry, sigstore):
    """No verdict is remembered, neither way."""
    store, digest = MemoryStore(), published(registry)
    source(registry, None).produce_artifact(store)
    refused(registry, policy(sigstore), OCICheck.SIGNATURE, store)
    signed(registry, sigstore, digest, "bundle", subject=EVE)
    refused(registry, policy(sigstore), OCICheck.SIGNER, store)
    signed(registry, sigstore, digest, "bundle")
    assert dict(source(registry, policy(sigstore)).produce_artifact(store).verification)["oci.signer"] == small.SUBJECT


def test_attack_a_downgrade_to_the_first_layout(registry, sigstore):
    """A log's promise in place of its proof is not even looked for, where bundles are demanded."""
    signed(registry, sigstore, published(registry), "cosign")
    registry.requests.clear()
    refused(registry, policy(sigstore, layouts="bundle"), OCICheck.SIGNATURE)
    assert registry.count(r"\.sig") == 0


def test_attack_algorithm_confusion(registry, sigstore):
    """A key's signature is none by a name, and a name's none by a key, whatever lies beside it."""
    digest, key = published(registry), SigningKey.generate()
    sign(f"oci://{registry.host}/team/app@{digest}", CosignSigner(key, layouts=LAYOUTS), access=PLAIN)
    refused(registry, policy(sigstore), OCICheck.SIGNER)
    by_key = CosignKeySignature(key.public)
    assert source(registry, by_key).produce_artifact(MemoryStore())
    with pytest.raises(VerificationError):
        source(registry, AllOf([by_key, policy(sigstore)])).produce_artifact(MemoryStore())
    other = published(registry, "replicas: 4\n")
    signed(registry, sigstore, other, "bundle")
    refused(registry, by_key, OCICheck.SIGNER)
    assert source(registry, AnyOf([by_key, policy(sigstore)])).produce_artifact(MemoryStore())


def test_attack_endless_and_oversized_signatures_are_errors_and_no_verdict(registry, sigstore, monkeypatch):
    """Before anything of them is parsed; and `AnyOf` does not go on to the next policy."""
    digest = signed(registry, sigstore, published(registry), "bundle")
    either = AnyOf([policy(sigstore), UnsafeNoVerification()])
    for number in range(5):
        plant(registry, digest, "bundle", b'{"n":%d}' % number)
    with pytest.raises(LimitExceededError) as caught:
        source(registry, either, limits=Limits(max_signatures=5)).produce_artifact(MemoryStore())
    assert caught.value.limit == "max_signatures"
    plant(registry, digest, "bundle", bytes(2_000_000))
    with pytest.raises(LimitExceededError) as caught:
        source(registry, either).produce_artifact(MemoryStore())
    assert caught.value.limit == "max_signature_bytes"
    assert registry.count(f"GET .*/blobs/{Digest.of(bytes(2_000_000))}") == 0
    let_referrers_be_endless(monkeypatch)
    with pytest.raises(LimitExceededError) as caught:
        source(registry, either).produce_artifact(MemoryStore())
    assert caught.value.limit == "max_referrers"
    assert layers_asked(registry) == 0


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 403}, {"corrupt": True}])
@pytest.mark.parametrize("where", [r"GET .*/referrers/", r"GET .*\.sig", r"GET .*/blobs/"])
def test_what_cannot_be_read_is_an_error_and_no_verdict(registry, sigstore, where, fault):
    """A registry that does not show the signatures is not one without signatures."""
    digest = published(registry)
    for layout in LAYOUTS:
        signed(registry, sigstore, digest, layout)
    registry.inject(where, times=None, **fault)
    with pytest.raises(FluxSrcError) as caught:
        source(registry, AnyOf([policy(sigstore), UnsafeNoVerification()])).produce_artifact(MemoryStore())
    assert not isinstance(caught.value, VerificationError)
    assert layers_asked(registry) == 0

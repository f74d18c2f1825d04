"""Signatures in registries: what the real cosign signed verifies; every attack fails closed, before a layer is asked for."""

import base64
import datetime as dt
import json
import pickle
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxsrc.auth import Secret
from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, FluxSrcError, LimitExceededError, RemoteProtocolError, VerificationError
from fluxsrc.limits import Limits
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, OCISource, promote, push
from fluxsrc.signatures import CosignKeySignature, OCICheck, OCIEvidence, PublicKey, SignatureKind, SignatureRecord
from fluxsrc.signatures.oci import BUNDLE_MEDIA_TYPE, SIMPLE_SIGNING_MEDIA_TYPE
from fluxsrc.signatures.privatekeys import SigningKey
from fluxsrc.signatures.publickeys import parse_public_keys
from fluxsrc.signatures.statements import Bundle, Claim, key_bundle, pre_authentication, simple_signing, statement
from fluxsrc.signing import CosignSigner, sign
from fluxsrc.stores import MemoryStore
from fluxsrc.testing.registry import handler as fake
from fluxsrc.verify import AllOf, AnyOf, Policy, UnsafeNoVerification
from helpers.registries import let_referrers_be_endless

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "cosign" / "vectors.json").read_text())
KINDS = ["generated", "ecdsa-p256", "ecdsa-p384", "rsa"]
LAYOUTS = ["bundle", "cosign"]
OURS = SigningKey.generate()
THEIRS = SigningKey.generate()
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
PLAIN = Access(insecure=True)


pytestmark = pytest.mark.usefixtures("impatient")


def published(registry, name="team/app", text="replicas: 3\n", tag="v1"):
    """Push a tree; its digest."""
    return push(MemorySource({"app.yaml": text}), f"oci://{registry.host}/{name}:{tag}", access=PLAIN).digest


def signed(registry, key=OURS, name="team/app", **options):
    """Push a tree and sign it; its digest."""
    digest = published(registry, name)
    sign(f"oci://{registry.host}/{name}@{digest}", CosignSigner(key, **options), access=PLAIN)
    return digest


def source(registry, policy, name="team/app", **options):
    return OCISource(f"oci://{registry.host}/{name}:v1", insecure=True, verify=policy, **options)


def policy(*keys, **options):
    return CosignKeySignature([key.public for key in keys or [OURS]], **options)


def layers_asked(registry):
    """How often a blob was read that is not part of a signature."""
    signature = {BUNDLE_MEDIA_TYPE, SIMPLE_SIGNING_MEDIA_TYPE}
    layers = {
        layer["digest"]
        for repository in registry.repositories.values()
        for _, data in repository.manifests.values()
        for layer in json.loads(data).get("layers", [])
        if layer["mediaType"] not in signature
    }
    return sum(registry.count(f"GET .*/blobs/{digest}") for digest in layers)


def refused(registry, wanted, check, *, said="", **options):
    """Hold a source against a policy that it must fail, at this check, with no layer read and nothing stored."""
    before, store = layers_asked(registry), MemoryStore()
    with pytest.raises(VerificationError) as caught:
        source(registry, wanted, **options).produce_artifact(store)
    assert caught.value.check == check, caught.value
    assert f"check {check.value} ({check.name.lower()})" in str(caught.value)
    assert said in str(caught.value)
    assert layers_asked(registry) == before
    assert not list(store.sources())


def restored(registry, case):
    """Put what a real registry was left with into ours."""
    repository = registry.repository("team/app")
    repository.manifests.update({key: (kind, text.encode()) for key, (kind, text) in case["manifests"].items()})
    repository.blobs.update({key: base64.b64decode(text) for key, text in case["blobs"].items()})
    repository.tags.update(case["tags"])


# --- what cosign signed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_cosign_signed_verifies_and_says_by_which_key(registry, kind, layout):
    case = VECTORS["cases"][f"{kind}/{layout}"]
    restored(registry, case)
    (key,) = parse_public_keys(VECTORS["keys"][kind]["pub"])
    wanted = CosignKeySignature(key, annotations={"env": "prod"})
    artifact = source(registry, wanted).produce_artifact(MemoryStore())
    facts = dict(artifact.verification)
    assert (facts["oci.layout"], facts["oci.key"]) == (layout, key.fingerprint)
    assert facts["oci.signature"] in case["manifests"]
    assert facts["oci.algorithm"] in key.algorithms
    assert facts["policy"] == str(wanted.digest)


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_cosign_encrypted_opens_and_signs_what_its_public_half_verifies(kind):
    files = VECTORS["keys"][kind]
    key = SigningKey.parse(files["key"], Secret("hunter2"))
    assert (key.public,) == parse_public_keys(files["pub"])
    assert key.public.pem == files["pub"]
    assert key.public.verify(key.sign(b"message"), b"message") is not None
    assert key.sign(b"message") == key.sign(b"message")


def test_cosigns_signed_identity_can_be_asked_for(registry):
    restored(registry, VECTORS["cases"]["rsa/cosign"])
    key = parse_public_keys(VECTORS["keys"]["rsa"]["pub"])
    good = CosignKeySignature(key, repository="registry.example/team/app")
    assert source(registry, good).produce_artifact(MemoryStore()).verification
    refused(registry, attrs.evolve(good, repository="registry.example/team/other"), OCICheck.SUBJECT, said="team/other")


# --- what we sign ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_we_sign_verifies_with_its_name_and_annotations(each_registry, layout):
    digest = signed(each_registry, layouts=layout, annotations={"env": "prod", "team": "a"})
    wanted = policy(annotations={"env": "prod"}, repository=f"{each_registry.host}/team/app", layouts=layout)
    artifact = source(each_registry, wanted).produce_artifact(MemoryStore())
    assert artifact.revision.digest == digest
    assert dict(artifact.verification)["oci.layout"] == layout


@pytest.mark.parametrize("layout", LAYOUTS)
def test_signing_twice_changes_nothing(each_registry, layout):
    digest = signed(each_registry, layouts=layout)
    repository = each_registry.repository("team/app")
    before = dict(repository.manifests), dict(repository.tags), dict(repository.blobs)
    again = sign(f"oci://{each_registry.host}/team/app@{digest}", CosignSigner(OURS, layouts=layout), access=PLAIN)
    assert (dict(repository.manifests), dict(repository.tags), dict(repository.blobs)) == before
    assert again[0].subject == digest
    assert str(again[0].manifest) in repository.manifests


@pytest.mark.parametrize("layout", LAYOUTS)
def test_signatures_of_several_keys_lie_beside_each_other(each_registry, layout):
    digest = signed(each_registry, THEIRS, layouts=layout)
    sign(f"oci://{each_registry.host}/team/app@{digest}", CosignSigner(OURS, layouts=layout), access=PLAIN)
    both = AllOf([policy(OURS), policy(THEIRS)])
    facts = source(each_registry, both).produce_artifact(MemoryStore()).verification
    assert {value for name, value in facts if name == "oci.key"} == {OURS.public.fingerprint, THEIRS.public.fingerprint}


def test_a_layout_on_disk_is_signed_and_verified_like_a_registry(tmp_path):
    pushed = push(MemorySource({"app.yaml": "a"}), f"oci-layout:{tmp_path}/images:v1")
    reference = f"oci-layout:{tmp_path}/images@{pushed.digest}"
    for layout in LAYOUTS:
        sign(reference, CosignSigner(OURS, layouts=layout, identity="registry.example/app"))
        wanted = policy(layouts=layout, repository="registry.example/app")
        with OCISource(f"oci-layout:{tmp_path}/images:v1", verify=wanted).fetch() as snapshot:
            assert dict(snapshot.verification)["oci.layout"] == layout
        with pytest.raises(VerificationError, match="check 8"):
            OCISource(f"oci-layout:{tmp_path}/images:v1", verify=policy(THEIRS, layouts=layout)).fetch().__enter__()


def test_a_layout_needs_a_name_for_cosigns_first_layout(tmp_path):
    pushed = push(MemorySource({"app.yaml": "a"}), f"oci-layout:{tmp_path}/images:v1")
    with pytest.raises(ConfigurationError, match="has no name"):
        sign(f"oci-layout:{tmp_path}/images@{pushed.digest}", CosignSigner(OURS, layouts="cosign"))


def test_a_tag_is_not_signed(registry):
    published(registry)
    with pytest.raises(ConfigurationError, match="what is signed is a digest"):
        sign(f"oci://{registry.host}/team/app:v1", CosignSigner(OURS), access=PLAIN)


def test_a_push_shows_the_tag_only_after_the_signature_is_there(registry):
    signer = CosignSigner(OURS, layouts=LAYOUTS)
    push(MemorySource({"app.yaml": "a"}), f"oci://{registry.host}/team/app:v1", access=PLAIN, attach=signer)
    puts = [request.path for request in registry.requests if request.method == "PUT" and "/manifests/" in request.path]
    assert puts[-1].endswith("/manifests/v1")
    assert len(puts) == 4
    assert source(registry, policy()).produce_artifact(MemoryStore()).verification


def test_a_promoted_artifact_brings_its_signatures_along(each_registry):
    signed(each_registry, layouts=LAYOUTS)
    here, there = f"oci://{each_registry.host}/team/app:v1", f"oci://{each_registry.host}/prod/app:v1"
    promote(here, there, referrers=True, access=PLAIN)
    for layout in LAYOUTS:
        facts = (
            source(each_registry, policy(layouts=layout), name="prod/app").produce_artifact(MemoryStore()).verification
        )
        assert dict(facts)["oci.layout"] == layout


@pytest.mark.parametrize("said", [None, "application/vnd.oci.empty.v1+json"], ids=["nothing", "as-zot-has-it"])
def test_a_list_that_does_not_say_what_a_referrer_is_leads_to_it_all_the_same(registry, said):
    digest = signed(registry)
    repository = registry.repository("team/app")
    (key,) = [key for key, (_, data) in repository.manifests.items() if b'"subject"' in data]
    item = {"mediaType": MANIFEST, "digest": key, "size": len(repository.manifests[key][1])}
    listed = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [item | ({"artifactType": said} if said else {})]}
    registry.has_referrers = False
    registry.put_document("team/app", f"sha256-{digest.hex}", json.dumps(listed).encode(), INDEX)
    assert source(registry, policy()).produce_artifact(MemoryStore()).verification


def test_an_index_is_verified_by_its_own_signature(registry):
    child = published(registry)
    index = registry.put_index("team/app", "v1", {"linux/amd64": str(child)})
    refused(registry, policy(), OCICheck.SIGNATURE)
    sign(f"oci://{registry.host}/team/app@{index}", CosignSigner(OURS), access=PLAIN)
    artifact = source(registry, policy()).produce_artifact(MemoryStore())
    assert str(artifact.revision.digest) == index


# --- attacks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_attack_another_key(each_registry, layout):
    signed(each_registry, THEIRS, layouts=layout)
    refused(each_registry, policy(OURS), OCICheck.CRYPTOGRAPHY, said=OURS.public.fingerprint)


def test_attack_nothing_is_signed(each_registry):
    published(each_registry)
    refused(each_registry, policy(), OCICheck.SIGNATURE, said="there is no signature in the layout bundle or cosign")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_attack_a_signature_of_another_digest_put_beside_this_one(registry, layout):
    """The signature is true, by the right key, and about something else."""
    other = published(registry, text="replicas: 9\n", tag="other")
    digest = published(registry)
    plant(registry, digest, layout, *planted(other, layout))
    refused(registry, policy(), OCICheck.SUBJECT, said=str(other))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_attack_a_signature_for_another_repository(each_registry, layout):
    digest = published(each_registry)
    signer = CosignSigner(OURS, layouts=layout, identity="registry.example/team/other")
    sign(f"oci://{each_registry.host}/team/app@{digest}", signer, access=PLAIN)
    wanted = policy(repository=f"{each_registry.host}/team/app")
    refused(each_registry, wanted, OCICheck.SUBJECT, said="registry.example/team/other")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_attack_a_stripped_signature(each_registry, layout):
    digest = signed(each_registry, layouts=layout)
    repository = each_registry.repository("team/app")
    for tag in [tag for tag in repository.tags if tag.startswith("sha256-")]:
        del repository.tags[tag]
    for key in [key for key, (_, data) in repository.manifests.items() if b'"subject"' in data]:
        del repository.manifests[key]
    refused(each_registry, policy(), OCICheck.SIGNATURE)
    assert str(digest) in repository.manifests


def test_attack_a_signature_added_after_the_policy_failed_is_judged_anew(registry):
    """No verdict is remembered: neither is the failure, nor does an earlier artifact without policy stand in."""
    store = MemoryStore()
    digest = published(registry)
    source(registry, None).produce_artifact(store)
    with pytest.raises(VerificationError):
        source(registry, policy()).produce_artifact(store)
    sign(f"oci://{registry.host}/team/app@{digest}", CosignSigner(THEIRS), access=PLAIN)
    with pytest.raises(VerificationError):
        source(registry, policy()).produce_artifact(store)
    sign(f"oci://{registry.host}/team/app@{digest}", CosignSigner(OURS), access=PLAIN)
    assert dict(source(registry, policy()).produce_artifact(store).verification)["oci.key"] == OURS.public.fingerprint


def test_attack_a_downgrade_to_the_first_layout(registry):
    """Where bundles are demanded, a good signature of the first layout does not count, and is not even looked for."""
    digest = signed(registry, layouts="cosign")
    refused(registry, policy(layouts="bundle"), OCICheck.SIGNATURE, said="layout bundle")
    assert registry.count(r"\.sig") == registry.count(r"PUT .*\.sig") + 1  # the one look of who signed
    assert source(registry, policy()).produce_artifact(MemoryStore()).revision.digest == digest


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_bad_signature_beside_a_good_one_takes_nothing_from_it(registry, layout):
    """Whoever can push could otherwise stop every deployment."""
    digest = signed(registry, layouts=layout)
    for kind in LAYOUTS:
        sign(f"oci://{registry.host}/team/app@{digest}", CosignSigner(THEIRS, layouts=kind), access=PLAIN)
    plant(registry, digest, "bundle", b"{}", {})
    facts = dict(source(registry, policy()).produce_artifact(MemoryStore()).verification)
    assert facts["oci.layout"] == layout


def test_attack_a_signature_manifest_that_is_about_another_subject(registry):
    """The list of referrers is the registry's word; the signature manifest's own subject has to agree."""
    other = published(registry, text="replicas: 9\n", tag="other")
    digest = published(registry)
    payload, notes = planted(digest, "bundle")
    planted_at = plant(registry, other, "bundle", payload, notes)
    size = len(registry.repository("team/app").manifests[planted_at][1])
    item = {"mediaType": MANIFEST, "digest": planted_at, "size": size}
    listed = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [item]}
    registry.has_referrers = False
    registry.put_document("team/app", f"sha256-{digest.hex}", json.dumps(listed).encode(), INDEX)
    refused(registry, policy(), OCICheck.SIGNATURE)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_attack_a_word_of_the_signed_content_written_over(registry, layout):
    digest = published(registry)
    payload, notes = planted(digest, layout, annotations={"env": "test"})
    if layout == "bundle":
        bundle = json.loads(payload)
        envelope = bundle["dsseEnvelope"]
        signed_bytes = base64.b64decode(envelope["payload"]).replace(b'"test"', b'"prod"')
        envelope["payload"] = base64.b64encode(signed_bytes).decode()
        payload = json.dumps(bundle).encode()
    else:
        payload = payload.replace(b'"test"', b'"prod"')
    plant(registry, digest, layout, payload, notes)
    refused(registry, policy(annotations={"env": "prod"}), OCICheck.CRYPTOGRAPHY)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("asked", [{"env": "prod"}, {"absent": ""}, {"env": "test", "team": "a"}])
def test_attack_other_annotations_than_are_asked_for(each_registry, layout, asked):
    signed(each_registry, layouts=layout, annotations={"env": "test"})
    refused(each_registry, policy(annotations=asked), OCICheck.ANNOTATIONS)


def test_attack_an_annotation_that_is_equal_only_after_conversion(registry):
    digest = published(registry)
    payload = simple_signing(digest, "r", {}).replace(b'"optional":null', b'"optional":{"n":1}')
    plant(registry, digest, "cosign", payload, tagged(payload))
    refused(registry, policy(annotations={"n": "1"}), OCICheck.ANNOTATIONS)


def test_attack_an_attestation_in_place_of_a_signature(registry):
    """An SBOM signed with the same key says nothing about whether the image may be deployed."""
    digest = published(registry)
    claim = statement(digest, "", {}).replace(b"https://sigstore.dev/cosign/sign/v1", b"https://spdx.dev/Document")
    plant(registry, digest, "bundle", key_bundle(OURS, claim), {})
    refused(registry, policy(), OCICheck.SUBJECT, said="https://spdx.dev/Document")


def test_attack_a_payload_of_one_layout_signed_in_the_other(registry):
    """A statement below cosign's tag and a payload in an envelope mean nothing, though the signature is true."""
    digest = published(registry)
    claim = statement(digest, "", {})
    plant(registry, digest, "cosign", claim, tagged(claim))
    refused(registry, policy(), OCICheck.FORM)
    plant(registry, digest, "bundle", key_bundle(OURS, simple_signing(digest, "r", {})), {})
    refused(registry, policy(layouts="bundle"), OCICheck.FORM)


def test_attack_a_bundle_with_a_certificate_does_not_pass_for_a_key(registry):
    digest = published(registry)
    bundle = json.loads(key_bundle(OURS, statement(digest, "", {})))
    bundle["verificationMaterial"] = {"certificate": {"rawBytes": "AAAA"}}
    plant(registry, digest, "bundle", json.dumps(bundle).encode(), {})
    refused(registry, policy(), OCICheck.SIGNER)


def test_a_bundle_over_the_manifest_itself_verifies_and_one_over_another_does_not(registry):
    digest = published(registry)
    content = registry.repository("team/app").manifests[str(digest)][1]
    plant(registry, digest, "bundle", message_bundle(content, content), {})
    assert source(registry, policy()).produce_artifact(MemoryStore()).verification
    refused(registry, policy(annotations={"env": "prod"}), OCICheck.ANNOTATIONS)
    refused(registry, policy(repository="r"), OCICheck.SUBJECT, said="no repository")


@pytest.mark.parametrize(
    ("signed_over", "stated", "check"),
    [(b"{}", b"{}", OCICheck.SUBJECT), (b"{}", None, OCICheck.CRYPTOGRAPHY)],
    ids=["another-message", "a-digest-that-lies"],
)
def test_attack_a_bundle_over_another_message(registry, signed_over, stated, check):
    digest = published(registry)
    content = registry.repository("team/app").manifests[str(digest)][1]
    plant(registry, digest, "bundle", message_bundle(signed_over, stated or content), {})
    refused(registry, policy(), check)


def test_attack_a_bundle_whose_digest_is_by_another_algorithm(registry):
    digest = published(registry)
    content = registry.repository("team/app").manifests[str(digest)][1]
    plant(registry, digest, "bundle", message_bundle(content, content).replace(b"SHA2_256", b"SHA2_512"), {})
    refused(registry, policy(), OCICheck.ALGORITHM)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda bundle: bundle | {"mediaType": "application/json"}, OCICheck.FORM),
        (lambda bundle: bundle | {"messageSignature": {}}, OCICheck.FORM),
        (lambda bundle: {"mediaType": BUNDLE_MEDIA_TYPE}, OCICheck.FORM),
        (lambda bundle: bundle | {"dsseEnvelope": None}, OCICheck.FORM),
        (lambda bundle: envelope(bundle, signatures=[]), OCICheck.FORM),
        (lambda bundle: envelope(bundle, signatures=bundle["dsseEnvelope"]["signatures"] * 2), OCICheck.FORM),
        (lambda bundle: envelope(bundle, signatures=[{"sig": "not base64!"}]), OCICheck.FORM),
        (lambda bundle: envelope(bundle, signatures=[{"sig": ""}]), OCICheck.FORM),
        (lambda bundle: envelope(bundle, signatures=["sig"]), OCICheck.FORM),
        (lambda bundle: envelope(bundle, payload="AAB="), OCICheck.FORM),
        (lambda bundle: envelope(bundle, payloadType="application/json"), OCICheck.ALGORITHM),
        (lambda bundle: envelope(bundle, signatures=[{"sig": "MAA="}]), OCICheck.CRYPTOGRAPHY),
    ],
)
def test_attack_a_bundle_that_is_no_bundle(registry, change, check):
    digest = published(registry)
    bundle = json.loads(key_bundle(OURS, statement(digest, "", {})))
    plant(registry, digest, "bundle", json.dumps(change(bundle)).encode(), {})
    refused(registry, policy(), check)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"critical":NaN}',
        b'{"critical":1.5}',
        b"[" * 100_000,
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b'{"critical":{},"critical":{}}',
        b'{"critical":{"identity":{"docker-reference":"r"},"type":"cosign container image signature"}}',
        b'{"critical":{"identity":{"docker-reference":"r"},"image":{"docker-manifest-digest":"sha256:0"},"type":"cosign container image signature"}}',
        b'{"critical":{"identity":{"docker-reference":"r"},"image":[],"type":"cosign container image signature"}}',
    ],
)
def test_attack_signed_content_that_is_no_payload(registry, payload):
    digest = published(registry)
    plant(registry, digest, "cosign", payload, tagged(payload))
    refused(registry, policy(), OCICheck.FORM)


def test_attack_a_payload_with_the_digest_twice(registry):
    """Readers that take the last of two equal keys and readers that take the first must not be told two things."""
    digest = published(registry)
    other = Digest.of(b"")
    payload = simple_signing(digest, "r", {}).replace(
        b'"docker-manifest-digest"', b'"docker-manifest-digest":"%b","docker-manifest-digest"' % str(other).encode()
    )
    plant(registry, digest, "cosign", payload, tagged(payload))
    refused(registry, policy(), OCICheck.FORM, said="a key is there twice")


def test_attack_more_in_critical_than_is_understood(registry):
    digest = published(registry)
    payload = simple_signing(digest, "r", {}).replace(b'"critical":{', b'"critical":{"expires":"2020",')
    plant(registry, digest, "cosign", payload, tagged(payload))
    refused(registry, policy(), OCICheck.FORM)


def test_attack_a_layer_without_a_signature(registry):
    digest = published(registry)
    plant(registry, digest, "cosign", simple_signing(digest, "r", {}), {})
    refused(registry, policy(), OCICheck.FORM, said="dev.cosignproject.cosign/signature")


def test_attack_algorithm_confusion_a_key_only_takes_its_own_kind_of_signature(registry):
    """An RSA key's bytes as an HMAC key, an ECDSA signature for an Ed25519 key, none at all: none of them holds."""
    import hmac

    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    def key(private):
        return SigningKey.parse(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())

    kinds = [key(rsa.generate_private_key(65537, 2048)), key(ed25519.Ed25519PrivateKey.generate()), OURS]
    message = b"message"
    for verifier in kinds:
        hmacs = [hmac.digest(text, message, "sha256") for text in (verifier.public.der, verifier.public.pem.encode())]
        others = [other.sign(message) for other in kinds if other is not verifier]
        for forged in (*hmacs, *others, b"", b"\0", b"\x30\x06\x02\x01\x00\x02\x01\x00", bytes(64), bytes(256)):
            assert verifier.public.verify(forged, message) is None
        assert verifier.public.verify(verifier.sign(message), message)
        assert verifier.public.verify(verifier.sign(message), message + b"\0") is None


def test_attack_a_signature_written_in_another_way_than_der(registry):
    """The same two numbers in BER's long form, with a byte behind, or with a zero in front."""
    good = OURS.sign(b"message")
    assert OURS.public.verify(good, b"message")
    for forged in (good + b"\0", b"\x30\x81" + good[1:], good[:1] + bytes([good[1] + 1]) + good[2:] + b"\0"):
        assert OURS.public.verify(forged, b"message") is None


# --- limits ----------------------------------------------------------------------------------------------------------


def test_too_many_signatures_are_an_error_and_no_verdict(registry):
    digest = signed(registry)
    for number in range(5):
        plant(registry, digest, "bundle", b'{"n":%d}' % number, {})
    with pytest.raises(LimitExceededError) as caught:
        source(registry, policy(), limits=Limits(max_signatures=5)).produce_artifact(MemoryStore())
    assert caught.value.limit == "max_signatures"
    assert layers_asked(registry) == 0
    assert source(registry, policy(), limits=Limits(max_signatures=6)).produce_artifact(MemoryStore()).verification


def test_too_many_layers_below_cosigns_tag_are_an_error_before_they_are_read(registry):
    digest = published(registry)
    layers = [(SIMPLE_SIGNING_MEDIA_TYPE, b"{%d" % number, {}) for number in range(200)]
    registry.put("team/app", f"sha256-{digest.hex}.sig", layers=layers)
    with pytest.raises(LimitExceededError):
        source(registry, policy()).produce_artifact(MemoryStore())
    assert registry.count("GET .*/blobs/") <= Limits().max_signatures + 1


def test_an_oversized_signature_is_an_error_and_is_not_downloaded(registry):
    digest = signed(registry)
    plant(registry, digest, "bundle", bytes(2_000_000), {})
    with pytest.raises(LimitExceededError) as caught:
        source(registry, policy()).produce_artifact(MemoryStore())
    assert caught.value.limit == "max_signature_bytes"
    assert registry.count(f"GET .*/blobs/{Digest.of(bytes(2_000_000))}") == 0


def test_endless_pages_of_referrers_come_to_an_end(registry, monkeypatch):
    """Each page leads to another, with something new in it; the list is not followed for ever."""
    signed(registry)
    let_referrers_be_endless(monkeypatch)
    with pytest.raises(LimitExceededError) as caught:
        source(registry, policy()).produce_artifact(MemoryStore())
    assert caught.value.limit == "max_referrers"
    assert registry.count("/referrers/") == 21


def test_a_page_of_referrers_with_nothing_in_it_and_a_next_one_is_an_error(registry, monkeypatch):
    signed(registry)

    def empty(handler, name, digest):
        headers = {"Link": f'</v2/{name}/referrers/{digest}?page=2>; rel="next"'}
        handler._json({"schemaVersion": 2, "mediaType": fake.INDEX, "manifests": []}, headers)

    route = next(route for route in fake._ROUTES if "referrers" in route[1])
    monkeypatch.setattr(fake, "_ROUTES", [(("GET",), route[1], empty), *fake._ROUTES])
    with pytest.raises(RemoteProtocolError, match="have no end"):
        source(registry, policy()).produce_artifact(MemoryStore())


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 403}, {"corrupt": True}])
@pytest.mark.parametrize("where", [r"GET .*/referrers/", r"GET .*\.sig", r"GET .*/blobs/"])
def test_what_cannot_be_read_is_an_error_and_no_verdict(registry, where, fault):
    """A registry that does not show the signatures is not one without signatures: `AnyOf` does not go on to the next."""
    signed(registry, layouts=LAYOUTS)
    registry.inject(where, times=None, **fault)
    before = layers_asked(registry)
    with pytest.raises(FluxSrcError) as caught:
        source(registry, AnyOf([policy(), UnsafeNoVerification()])).produce_artifact(MemoryStore())
    assert not isinstance(caught.value, VerificationError)
    assert layers_asked(registry) == before


# --- policies --------------------------------------------------------------------------------------------------------


def test_a_policy_is_a_value_with_a_digest_of_all_that_decides():
    one = policy(OURS, THEIRS, annotations={"env": "prod"})
    assert one == pickle.loads(pickle.dumps(one))
    assert one.digest == policy(THEIRS, OURS, annotations={"env": "prod"}).digest
    assert isinstance(one, Policy)
    others = [
        policy(OURS, annotations={"env": "prod"}),
        policy(OURS, THEIRS),
        attrs.evolve(one, layouts="bundle"),
        attrs.evolve(one, repository="r"),
    ]
    assert len({str(each.digest) for each in (one, *others)}) == 5
    assert one.needs == {"bundle", "cosign"}
    assert policy(layouts="cosign").needs == {"cosign"}


@pytest.mark.parametrize("keys", [[], ()])
def test_a_policy_without_keys_is_refused(keys):
    with pytest.raises(ConfigurationError, match="accepts nobody"):
        CosignKeySignature(keys)


@pytest.mark.parametrize("layouts", [[], "notation", ["bundle", "sig"]])
def test_a_policy_of_unknown_layouts_is_refused(layouts):
    with pytest.raises(ConfigurationError, match="not layouts"):
        policy(layouts=layouts)


def test_a_source_refuses_a_policy_that_it_has_no_evidence_for(registry):
    @attrs.frozen
    class OfCommits(UnsafeNoVerification):
        @property
        def needs(self):
            return frozenset({"commit"})

    with pytest.raises(ConfigurationError, match="has no commit"):
        source(registry, OfCommits())


def test_another_policy_verifies_an_unchanged_revision_anew(registry):
    store = MemoryStore()
    signed(registry)
    first = source(registry, policy()).produce_artifact(store)
    requests = len(registry.requests)
    assert source(registry, policy()).produce_artifact(store) == first
    assert len(registry.requests) == requests + 1  # the HEAD: nothing is verified twice
    with pytest.raises(VerificationError):
        source(registry, policy(THEIRS)).produce_artifact(store)
    again = source(registry, policy(OURS, THEIRS)).produce_artifact(store)
    assert again.content_digest == first.content_digest
    assert again.recipe != first.recipe


def test_a_policy_costs_no_request_for_layouts_that_it_does_not_accept(registry):
    signed(registry, layouts="cosign")
    registry.requests.clear()
    source(registry, UnsafeNoVerification()).produce_artifact(MemoryStore())
    assert registry.count("referrers|sha256-") == 0


def test_check_1_holds_the_content_against_the_digest():
    with pytest.raises(VerificationError) as caught:
        policy().check(evidence(content=b"{}", digest=Digest.of(b"{ }")))
    assert caught.value.check == OCICheck.OBJECT


# --- keys ------------------------------------------------------------------------------------------------------------


def pem(kind, data=b"data"):
    return f"-----BEGIN {kind}-----\n{base64.b64encode(data).decode()}\n-----END {kind}-----\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a public key in PEM"),
        ("ssh-ed25519 AAAA", "not a public key in PEM"),
        (pem("CERTIFICATE"), "CERTIFICATE"),
        (pem("PRIVATE KEY"), "PRIVATE KEY"),
        (pem("PUBLIC KEY"), "not a public key that can be computed with"),
        (pem("PUBLIC KEY")[:-20], "not a public key in PEM"),
        # Named, as they are others in each process that collects them.
        pytest.param(OURS.public.pem + "-----BEGIN PUBLIC KEY-----\n", "damaged", id="two, one damaged"),
        pytest.param(pem("PUBLIC KEY", OURS.public.der + b"\0"), "not a public key", id="one byte more"),
    ],
)
def test_what_is_no_public_key_is_refused(text, said):
    with pytest.raises(ConfigurationError, match=said):
        parse_public_keys(text)


def test_weak_and_foreign_keys_are_refused():
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa, x25519
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    def der(key):
        return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    weak = [
        rsa.generate_private_key(65537, 1024),
        rsa.generate_private_key(3, 2048),
        ec.generate_private_key(ec.SECP256K1()),
        dsa.generate_private_key(1024),
        x25519.X25519PrivateKey.generate(),
    ]
    for key in weak:
        with pytest.raises(ConfigurationError):
            PublicKey.from_der(der(key))


def test_an_rsa_key_that_calls_itself_a_pss_one_is_refused():
    """Read as plain RSA it would mean another algorithm than its owner's tools use."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    plain = (
        rsa.generate_private_key(65537, 2048).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    pss = plain.replace(bytes.fromhex("06092a864886f70d0101010500"), bytes.fromhex("06092a864886f70d01010a0500"))
    assert pss != plain
    with pytest.raises(ConfigurationError):
        PublicKey.from_der(pss)


def test_a_file_of_several_keys_gives_all_of_them(tmp_path):
    (tmp_path / "keys.pub").write_text(
        "# ours\n" + OURS.public.pem + "# theirs\n" + THEIRS.public.pem + OURS.public.pem
    )
    found = CosignKeySignature.from_files(tmp_path / "keys.pub")
    assert found.keys == (OURS.public, THEIRS.public)
    assert CosignKeySignature.from_pem(OURS.public.pem, THEIRS.public.pem) == found


def test_a_file_that_cannot_be_read_says_which(tmp_path):
    with pytest.raises(ConfigurationError, match=r"absent\.pub"):
        CosignKeySignature.from_files(tmp_path / "absent.pub")
    (tmp_path / "bad.pub").write_text("nothing")
    with pytest.raises(ConfigurationError, match=r"bad\.pub: not a public key"):
        CosignKeySignature.from_files(tmp_path / "bad.pub")


def test_no_text_shows_a_private_key():
    text = OURS.pem().reveal()
    assert text not in repr(OURS)
    assert text.splitlines()[1] not in f"{OURS} {OURS!r} {CosignSigner(OURS)!r}"
    encrypted = OURS.pem(Secret("hunter2"))
    assert SigningKey.parse(encrypted, Secret("hunter2")) == OURS


@pytest.mark.parametrize(
    ("key", "password", "said"),
    [
        (lambda: OURS.pem(Secret("hunter2")).reveal(), None, "no password is given"),
        (lambda: OURS.pem(Secret("hunter2")).reveal(), "wrong", "this password opens"),
        (lambda: VECTORS["keys"]["rsa"]["key"], None, "no password is given"),
        (lambda: VECTORS["keys"]["rsa"]["key"], "wrong", "does not open"),
        (lambda: OURS.public.pem, None, "not a private key"),
        (lambda: "", None, "not a private key"),
        (lambda: pem("ENCRYPTED SIGSTORE PRIVATE KEY", b"{}"), "p", "damaged"),
        (lambda: pem("ENCRYPTED SIGSTORE PRIVATE KEY", b"[" * 5000), "p", "damaged"),
        (lambda: pem("ENCRYPTED COSIGN PRIVATE KEY", costly()), "p", "in a way that cosign does not write"),
        (lambda: "x" * 100_000, None, "larger than"),
    ],
)
def test_a_private_key_that_does_not_open_says_why_and_nothing_else(key, password, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        SigningKey.parse(key(), None if password is None else Secret(password))
    assert caught.value.__cause__ is None
    assert "wrong" not in str(caught.value)


def costly():
    """A sealed key whose file asks for a terabyte of memory."""
    text = base64.b64decode("".join(VECTORS["keys"]["rsa"]["key"].splitlines()[1:-1]))
    value = json.loads(text)
    value["kdf"]["params"] = {"N": 1 << 30, "r": 8, "p": 1}
    return json.dumps(value).encode()


# --- hypothesis ------------------------------------------------------------------------------------------------------


def evidence(*records, content=b"{}", digest=None):
    return OCIEvidence(
        subject="here",
        now=dt.datetime(2025, 1, 1, tzinfo=dt.UTC),
        repository="registry.example/app",
        digest=digest or Digest.of(content),
        media_type="application/vnd.oci.image.manifest.v1+json",
        content=content,
        records=records,
    )


def record(layout, payload, notes=None):
    return SignatureRecord(
        kind=SignatureKind(layout), manifest=Digest.of(payload), media_type="", payload=payload, annotations=notes or {}
    )


@st.composite
def damaged(draw, good):
    """The same bytes with one changed, removed, added or repeated."""
    at = draw(st.integers(0, len(good) - 1))
    how = draw(st.sampled_from(["change", "remove", "insert", "repeat", "cut"]))
    byte = bytes([draw(st.integers(0, 255))])
    return {
        "change": good[:at] + byte + good[at + 1 :],
        "remove": good[:at] + good[at + 1 :],
        "insert": good[:at] + byte + good[at:],
        "repeat": good[:at] + good[at:] + good[at:],
        "cut": good[:at],
    }[how]


CONTENT = b'{"schemaVersion":2}'
CLAIM = statement(Digest.of(CONTENT), "registry.example/app", {"env": "prod"})
GOOD_BUNDLE = key_bundle(OURS, CLAIM)
GOOD_PAYLOAD = simple_signing(Digest.of(CONTENT), "registry.example/app", {"env": "prod"})


@settings(max_examples=150)
@given(damaged(GOOD_BUNDLE))
def test_a_bundle_with_one_byte_changed_fails_or_says_the_same(data):
    """JSON has places that mean nothing, and the hint is one of them: what is signed is then still what was."""
    try:
        facts = policy(annotations={"env": "prod"}).check(evidence(record("bundle", data), content=CONTENT))
    except VerificationError as exc:
        number = exc.check
    else:
        number = OCICheck.OBJECT
        assert Bundle.parse(data).payload == CLAIM
        assert dict(facts)["oci.key"] == OURS.public.fingerprint
    assert number in set(OCICheck)


@settings(max_examples=150)
@given(damaged(GOOD_PAYLOAD))
def test_a_payload_with_one_byte_changed_fails(data):
    notes = {"dev.cosignproject.cosign/signature": base64.b64encode(OURS.sign(GOOD_PAYLOAD)).decode()}
    if data == GOOD_PAYLOAD:
        return
    with pytest.raises(VerificationError) as caught:
        policy().check(evidence(record("cosign", data, notes), content=CONTENT))
    assert caught.value.check == OCICheck.CRYPTOGRAPHY


@settings(max_examples=150)
@given(damaged(OURS.sign(GOOD_PAYLOAD)))
def test_a_signature_with_one_byte_changed_fails(data):
    if data == OURS.sign(GOOD_PAYLOAD):
        return
    assert OURS.public.verify(data, GOOD_PAYLOAD) is None


@settings(max_examples=100)
@given(damaged(OURS.public.der))
def test_a_key_with_one_byte_changed_is_another_key_or_none(data):
    try:
        key = PublicKey.from_der(data)
    except ConfigurationError:
        return
    assert key == OURS.public or key.verify(OURS.sign(b"m"), b"m") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    *("critical", "identity", "image", "type", "optional", "docker-reference", "docker-manifest-digest"),
    *("subject", "digest", "name", "_type", "predicateType", "annotations", "mediaType", "verificationMaterial"),
    *("publicKey", "dsseEnvelope", "messageSignature", "payload", "payloadType", "signatures", "sig", "messageDigest"),
]
SHAPED = st.recursive(JSON, lambda inner: st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5), max_leaves=12)


def replaced(draw, value):
    """A document with something in it put in place of something else."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        name = draw(st.sampled_from(sorted(value)))
        return value | {name: replaced(draw, value[name])}
    return draw(SHAPED)


@settings(max_examples=200)
@given(st.data())
def test_documents_of_any_shape_never_do_more_than_fail(data):
    """Signed by the right key, so that every reader is reached: none of them raises anything but its verdict."""
    claim = json.dumps(replaced(data.draw, json.loads(CLAIM))).encode()
    payload = json.dumps(replaced(data.draw, json.loads(GOOD_PAYLOAD))).encode()
    bundle = json.dumps(replaced(data.draw, json.loads(GOOD_BUNDLE))).encode()
    records = [
        record("bundle", key_bundle(OURS, claim)),
        record("cosign", payload, tagged(payload)),
        record("bundle", bundle),
    ]
    checks = []
    for each in records:
        try:
            policy(annotations={"env": "prod"}, repository="registry.example/app").check(
                evidence(each, content=CONTENT)
            )
        except VerificationError as exc:
            checks.append(exc.check)
    assert set(checks) <= set(OCICheck)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_never_do_more_than_fail(data):
    for reader in (Bundle.parse, Claim.from_simple_signing, lambda each: Claim.from_statement(each, Digest.of(b""))):
        with pytest.raises(VerificationError):
            reader(data)
    with pytest.raises(ConfigurationError):
        PublicKey.from_der(data)


@given(st.text(max_size=40), st.binary(max_size=40), st.text(max_size=40), st.binary(max_size=40))
def test_two_envelopes_never_have_the_same_bytes_to_sign(one_type, one, other_type, other):
    if (one_type, one) != (other_type, other):
        assert pre_authentication(one_type, one) != pre_authentication(other_type, other)


# --- helpers of the attacks ------------------------------------------------------------------------------------------


def tagged(payload, key=OURS):
    return {"dev.cosignproject.cosign/signature": base64.b64encode(key.sign(payload)).decode()}


def planted(digest, layout, annotations=None):
    """A signature and its annotations, as they lie in a layer."""
    if layout == "bundle":
        return key_bundle(OURS, statement(digest, "", annotations or {})), {}
    payload = simple_signing(digest, "registry.example/app", annotations or {})
    return payload, tagged(payload)


def plant(registry, digest, layout, payload, notes):
    """Put a layer beside a manifest, in the place of a signature."""
    if layout == "bundle":
        layers = [(BUNDLE_MEDIA_TYPE, payload, notes)]
        return registry.put("team/app", layers=layers, subject=str(digest), artifact_type=BUNDLE_MEDIA_TYPE)
    layers = [(SIMPLE_SIGNING_MEDIA_TYPE, payload, notes)]
    return registry.put("team/app", f"sha256-{digest.hex}.sig", layers=layers)


def envelope(bundle, **changes):
    return bundle | {"dsseEnvelope": bundle["dsseEnvelope"] | changes}


def message_bundle(message, stated):
    digest = base64.b64encode(bytes.fromhex(Digest.of(stated).hex)).decode()
    return json.dumps(
        {
            "mediaType": BUNDLE_MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "messageSignature": {
                "messageDigest": {"algorithm": "SHA2_256", "digest": digest},
                "signature": base64.b64encode(OURS.sign(message)).decode(),
            },
        }
    ).encode()

"""Keyless signatures: what holds is accepted, and each attack fails at the check that is meant to stop it."""

import base64
import datetime as dt
import json
import pickle
import re
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, FluxSrcError, MissingExtraError, VerificationError
from fluxsrc.signatures import CosignKeylessSignature, Identity, SignatureKind, TrustedRoot, identities_from_flux
from fluxsrc.verify import AllOf, AnyOf, Policy
from helpers import small_sigstore as small

ADA = Identity(small.ISSUER, small.SUBJECT)
HOUR = dt.timedelta(hours=1)


@pytest.fixture(scope="module")
def sigstore():
    return small.SmallSigstore()


@pytest.fixture(scope="module")
def root(sigstore):
    return TrustedRoot.parse(sigstore.trusted_root())


def policy(root, *identities, **options):
    return CosignKeylessSignature(identities or [ADA], trusted_root=root, **options)


def refused(policy, *records, **options):
    with pytest.raises(VerificationError) as caught:
        policy.check(small.evidence(*records, **options))
    return caught.value


# --- what holds -----------------------------------------------------------------------------------------------------


def test_a_signature_in_the_first_layout_holds_by_the_logs_promise(sigstore, root):
    """Who, by whose word, in which log, when: all of it becomes known."""
    payload = small.simple_payload()
    facts = dict(policy(root).check(small.evidence(small.legacy_record(payload, sigstore.legacy(payload)))))
    assert facts["oci.signer"] == small.SUBJECT
    assert facts["oci.issuer"] == small.ISSUER
    assert facts["oci.layout"] == "cosign"
    assert facts["oci.inclusion"] == "promise"
    assert facts["oci.signed"] == "2026-04-01T12:00:00Z"
    assert facts["oci.log"] == sigstore.log.id.hex()
    assert facts["oci.log_index"] == str(len(sigstore.log.bodies) - 1)
    assert facts["policy"] == str(policy(root).digest)


@pytest.mark.parametrize("make", ["statement", "message"])
def test_a_bundle_holds_by_the_logs_proof(sigstore, root, make):
    """Around a statement about the manifest, or around a signature of the manifest itself."""
    bundle = sigstore.bundle(small.statement()) if make == "statement" else sigstore.message_bundle(small.MANIFEST)
    facts = dict(policy(root).check(small.evidence(small.bundle_record(bundle))))
    assert facts["oci.signer"] == small.SUBJECT
    assert facts["oci.layout"] == "bundle"
    assert facts["oci.inclusion"] == "proof"
    assert facts["oci.certificate"].startswith("sha256:")


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1])
def test_certificates_for_larger_curves_hold(sigstore, root, curve):
    """Fulcio issues for P-256 and P-384 alike."""
    key, certificate = sigstore.issue(ec.generate_private_key(curve()))
    payload = small.simple_payload()
    record = small.legacy_record(payload, sigstore.legacy(payload, key=key, certificate=certificate))
    assert dict(policy(root).check(small.evidence(record)))["oci.algorithm"] == f"ecdsa-{curve.name}-sha256"


def test_a_workflow_is_known_by_its_uri(sigstore, root):
    """What signs in a pipeline has a URI for a name; a pattern fits all of it."""
    uri = "https://github.com/shop/app/.github/workflows/release.yaml@refs/tags/v1.2.3"
    bundle = sigstore.bundle(small.statement(), subject=uri)
    release = Identity(small.ISSUER, re.compile(r"https://github\.com/shop/app/.*@refs/tags/v[0-9.]+"))
    assert dict(policy(root, release).check(small.evidence(small.bundle_record(bundle))))["oci.signer"] == uri
    main = Identity(small.ISSUER, re.compile(r"https://github\.com/shop/app/.*@refs/heads/main"))
    assert refused(policy(root, main), small.bundle_record(bundle)).check == 7


def test_a_user_name_that_is_no_address_is_read_as_fulcio_writes_it(sigstore, root):
    """An OtherName of Fulcio's own kind."""
    name = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), small.utf8string("ada!example.com"))
    bundle = sigstore.bundle(small.statement(), names=[name])
    who = Identity(small.ISSUER, "ada!example.com")
    assert policy(root, who).check(small.evidence(small.bundle_record(bundle)))


def test_an_issuer_in_either_extension_counts(sigstore, root):
    """Old certificates have it as bare text, new ones as DER, most as both."""
    for issuers in ([("1", small.ISSUER.encode())], [("8", small.utf8string(small.ISSUER))]):
        record = small.bundle_record(sigstore.bundle(small.statement(), issuers=issuers))
        assert policy(root).check(small.evidence(record))


def test_a_good_signature_holds_beside_bad_ones(sigstore, root):
    """Whoever can push can put a bad one there: that must not stop anything."""
    payload = small.simple_payload()
    good = small.legacy_record(payload, sigstore.legacy(payload))
    records = [
        small.bundle_record(b"{"),
        small.legacy_record(payload, {}),
        small.legacy_record(payload, sigstore.legacy(payload, subject="eve@example.com")),
        good,
    ]
    assert dict(policy(root).check(small.evidence(*records)))["oci.signer"] == small.SUBJECT


def test_annotations_and_repository_that_are_asked_for_have_to_be_signed(sigstore, root):
    """Both are the signer's words, so they are looked at after the signature was found good."""
    payload = small.simple_payload(annotations={"env": "prod"})
    record = small.legacy_record(payload, sigstore.legacy(payload))
    asked = policy(root, annotations={"env": "prod"}, repository=small.REPOSITORY)
    assert asked.check(small.evidence(record))
    assert refused(policy(root, annotations={"env": "test"}), record).check == 10
    assert refused(policy(root, repository="registry.example.com/other"), record).check == 9


# --- attacks --------------------------------------------------------------------------------------------------------

ATTACKS = []


def attack(check):
    """An attack makes a record; `check` is the number of what has to stop it."""

    def register(function):
        ATTACKS.append(pytest.param(function, check, id=function.__name__))
        return function

    return register


def legacy(sigstore, **options):
    payload = small.simple_payload()
    return small.legacy_record(payload, sigstore.legacy(payload, **options))


def edited(record, **annotations):
    """A record in the first layout with other annotations; None takes one away."""
    names = {"signature": "dev.cosignproject.cosign/signature"}
    changed = dict(record.annotations)
    for name, value in annotations.items():
        key = names.get(name, f"dev.sigstore.cosign/{name}")
        if value is None:
            del changed[key]
        else:
            changed[key] = value
    return small.legacy_record(record.payload, changed)


def promise_of(record):
    return json.loads(record.annotations["dev.sigstore.cosign/bundle"])


def entry_of(bundle):
    return bundle["verificationMaterial"]["tlogEntries"][0]


# Whoever signs


@attack(7)
def other_subject(sigstore):
    return legacy(sigstore, subject="eve@example.com")


@attack(7)
def other_issuer(sigstore):
    return legacy(sigstore, issuer="https://evil.example")


@attack(7)
def other_subject_in_a_bundle(sigstore):
    return small.bundle_record(sigstore.bundle(small.statement(), subject="eve@example.com"))


@attack(7)
def subject_with_the_wanted_one_inside(sigstore):
    return legacy(sigstore, subject=f"x{small.SUBJECT}")


@attack(7)
def two_names_one_of_them_wanted(sigstore):
    names = [x509.RFC822Name("eve@example.com"), x509.RFC822Name(small.SUBJECT)]
    return legacy(sigstore, names=names)


@attack(7)
def wanted_name_of_another_kind(sigstore):
    return legacy(sigstore, names=[x509.DNSName("example.com")])


@attack(7)
def two_issuers_that_differ(sigstore):
    return legacy(sigstore, issuers=[("1", small.ISSUER.encode()), ("8", small.utf8string("https://evil.example"))])


@attack(7)
def no_issuer(sigstore):
    return legacy(sigstore, issuers=[])


@attack(7)
def issuer_that_is_not_der(sigstore):
    return legacy(sigstore, issuers=[("8", small.ISSUER.encode())])


@attack(7)
def name_with_a_line_break(sigstore):
    uri = f"https://ci.example.com/\n{small.SUBJECT}"
    return legacy(sigstore, names=[x509.UniformResourceIdentifier(uri)])


@attack(7)
def key_instead_of_a_certificate(sigstore):
    return edited(legacy(sigstore), certificate=None)


@attack(7)
def bundle_with_a_key_instead_of_a_certificate(sigstore):
    bundle = sigstore.bundle(small.statement())
    del bundle["verificationMaterial"]["certificate"]
    bundle["verificationMaterial"]["publicKey"] = {"hint": "whoever"}
    return small.bundle_record(bundle)


# The certificate


@attack(5)
def authority_of_nobody(sigstore):
    return legacy(sigstore, authority=small.Authority.make())


@attack(5)
def authority_of_the_same_name(sigstore):
    """Only the name of the trusted one: the key is the attacker's."""
    other = small.Authority.make()
    other.certificate = sigstore.authority.certificate
    return legacy(sigstore, authority=other)


@attack(5)
def leaf_that_issues(sigstore):
    """A certificate that anybody may have, used as if it were an authority's; it comes along as the chain."""
    key, certificate = sigstore.issue(subject="eve@example.com")
    middle = small.Authority(key=key, certificate=certificate)
    record = legacy(sigstore, authority=middle)
    return edited(record, chain=small.pem(certificate))


@attack(5)
def leaf_that_issues_in_an_old_bundle(sigstore):
    key, certificate = sigstore.issue(subject="eve@example.com")
    bundle = sigstore.bundle(small.statement(), authority=small.Authority(key=key, certificate=certificate))
    material = bundle["verificationMaterial"]
    leaf = material.pop("certificate")
    material["x509CertificateChain"] = {"certificates": [leaf, {"rawBytes": small.b64(small.der(certificate))}]}
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2"
    return small.bundle_record(bundle)


@attack(5)
def certificate_of_an_authority_signs(sigstore):
    return legacy(sigstore, key=sigstore.authority.key, certificate=sigstore.authority.certificate)


@attack(5)
def expired_when_it_was_logged(sigstore):
    key, certificate = sigstore.issue(at=small.SIGNED - HOUR)
    return legacy(sigstore, key=key, certificate=certificate)


@attack(5)
def not_yet_valid_when_it_was_logged(sigstore):
    key, certificate = sigstore.issue(at=small.SIGNED + HOUR)
    return legacy(sigstore, key=key, certificate=certificate)


@attack(5)
def signed_in_the_future(sigstore):
    return legacy(sigstore, at=small.NOW + HOUR)


@attack(5)
def for_servers_not_for_code(sigstore):
    return legacy(sigstore, usage=ExtendedKeyUsageOID.SERVER_AUTH)


@attack(5)
def not_for_signatures(sigstore):
    return legacy(sigstore, digital_signature=False)


@attack(5)
def no_timestamp_of_a_certificate_log(sigstore):
    return legacy(sigstore, sct=False)


@attack(5)
def timestamp_of_another_certificate_log(sigstore):
    return legacy(sigstore, sct_key=small.ecdsa())


@attack(5)
def timestamp_for_another_certificate(sigstore):
    _, other = sigstore.issue(subject="eve@example.com")
    return legacy(sigstore, sct_over=other)


@attack(4)
def rsa_key(sigstore):
    _, certificate = sigstore.issue(rsa.generate_private_key(65537, 2048))
    record = legacy(sigstore)
    return edited(record, certificate=small.pem(certificate))


@attack(4)
def ed25519_key(sigstore):
    _, certificate = sigstore.issue(ed25519.Ed25519PrivateKey.generate())
    return edited(legacy(sigstore), certificate=small.pem(certificate))


@attack(4)
def curve_that_nobody_asked_for(sigstore):
    _, certificate = sigstore.issue(ec.generate_private_key(ec.SECP256K1()))
    return edited(legacy(sigstore), certificate=small.pem(certificate))


# The log


@attack(6)
def stripped_log_entry(sigstore):
    return edited(legacy(sigstore), bundle=None)


@attack(6)
def stripped_log_entry_of_a_bundle(sigstore):
    bundle = sigstore.bundle(small.statement())
    bundle["verificationMaterial"]["tlogEntries"] = []
    return small.bundle_record(bundle)


@attack(6)
def two_log_entries(sigstore):
    bundle = sigstore.bundle(small.statement())
    bundle["verificationMaterial"]["tlogEntries"] *= 2
    return small.bundle_record(bundle)


@attack(6)
def stripped_proof(sigstore):
    bundle = sigstore.bundle(small.statement())
    del entry_of(bundle)["inclusionProof"]
    return small.bundle_record(bundle)


@attack(6)
def log_entry_for_another_artifact(sigstore):
    """A good promise about something else that the same certificate signed."""
    key, certificate = sigstore.issue()
    payload, other = small.simple_payload(), small.simple_payload(Digest.of(b"other"))
    record = small.legacy_record(payload, sigstore.legacy(payload, key=key, certificate=certificate))
    elsewhere = sigstore.legacy(other, key=key, certificate=certificate)
    return edited(record, bundle=elsewhere["dev.sigstore.cosign/bundle"])


@attack(6)
def log_entry_for_another_statement(sigstore):
    key, certificate = sigstore.issue()
    bundle = sigstore.bundle(small.statement(), key=key, certificate=certificate)
    other = sigstore.bundle(small.statement(Digest.of(b"other")), key=key, certificate=certificate)
    bundle["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]
    return small.bundle_record(bundle)


@attack(6)
def log_entry_of_another_certificate(sigstore):
    """The content is the same, but somebody else signed it and was logged."""
    bundle = sigstore.bundle(small.statement())
    other = sigstore.bundle(small.statement(), subject="eve@example.com")
    bundle["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]
    return small.bundle_record(bundle)


@attack(6)
def promise_with_another_body(sigstore):
    """The body fits, but it is not what the log signed."""
    key, certificate = sigstore.issue()
    payload = small.simple_payload()
    signature = small.sign(key, payload)
    sigstore.log.append(b"something else")
    index = len(sigstore.log.bodies) - 1
    set_, promised = sigstore.log.promise(index, small.SIGNED)
    promised["body"] = small.b64(small.hashedrekord(payload, signature, certificate))
    return small.legacy_record(payload, sigstore.annotated(signature, certificate, set_, promised))


@attack(6)
def proof_of_another_body(sigstore):
    bundle = sigstore.bundle(small.statement())
    statement = json.loads(base64.b64decode(entry_of(bundle)["canonicalizedBody"]))
    statement["spec"]["envelopeHash"]["value"] = "00" * 32
    entry_of(bundle)["canonicalizedBody"] = small.b64(small.canonical(statement))
    return small.bundle_record(bundle)


@attack(5)
def backdated_promise(sigstore):
    """A certificate that is long expired, and a promise whose time was changed to fit it."""
    early = small.SIGNED - HOUR
    key, certificate = sigstore.issue(at=early)
    payload = small.simple_payload()
    return small.legacy_record(payload, sigstore.legacy(payload, key=key, certificate=certificate))


@attack(6)
def backdated_promise_with_its_time_written_over(sigstore):
    record = backdated_promise(sigstore)
    promise = promise_of(record)
    promise["Payload"]["integratedTime"] = int((small.SIGNED - HOUR).timestamp())
    return edited(record, bundle=json.dumps(promise))


@attack(6)
def promise_of_another_log(sigstore):
    record = legacy(sigstore)
    promise = promise_of(record)
    index = promise["Payload"]["logIndex"]
    set_, _ = sigstore.log.promise(index, small.SIGNED, key=small.ecdsa())
    return edited(record, bundle=json.dumps(promise | {"SignedEntryTimestamp": small.b64(set_)}))


@attack(6)
def promise_of_another_place_in_the_log(sigstore):
    record = legacy(sigstore)
    promise = promise_of(record)
    promise["Payload"]["logIndex"] += 1
    return edited(record, bundle=json.dumps(promise))


@attack(6)
def checkpoint_by_another_key(sigstore):
    bundle = sigstore.bundle(small.statement())
    entry_of(bundle)["inclusionProof"]["checkpoint"]["envelope"] = sigstore.log.checkpoint(key=small.ecdsa())
    return small.bundle_record(bundle)


@attack(6)
def checkpoint_of_another_tree(sigstore):
    bundle = sigstore.bundle(small.statement())
    entry_of(bundle)["inclusionProof"]["checkpoint"]["envelope"] = sigstore.log.checkpoint(root=b"\0" * 32)
    return small.bundle_record(bundle)


@attack(6)
def checkpoint_without_a_signature(sigstore):
    bundle = sigstore.bundle(small.statement())
    proof = entry_of(bundle)["inclusionProof"]
    proof["checkpoint"]["envelope"] = proof["checkpoint"]["envelope"].partition("\n\n")[0] + "\n\n"
    return small.bundle_record(bundle)


@attack(6)
def proof_with_a_wrong_hash(sigstore):
    bundle = sigstore.bundle(small.statement())
    entry_of(bundle)["inclusionProof"]["hashes"][0] = small.b64(b"\0" * 32)
    return small.bundle_record(bundle)


@attack(6)
def proof_cut_short(sigstore):
    bundle = sigstore.bundle(small.statement())
    entry_of(bundle)["inclusionProof"]["hashes"].pop()
    return small.bundle_record(bundle)


@attack(6)
def proof_of_another_place(sigstore):
    bundle = sigstore.bundle(small.statement())
    entry_of(bundle)["inclusionProof"]["logIndex"] = "0"
    return small.bundle_record(bundle)


@attack(6)
def proof_with_a_promise_of_another_log(sigstore):
    """The proof is good; the promise beside it, which the time comes from, is not."""
    bundle = sigstore.bundle(small.statement())
    entry = entry_of(bundle)
    set_, _ = sigstore.log.promise(int(entry["logIndex"]), small.SIGNED, key=small.ecdsa())
    entry["inclusionPromise"]["signedEntryTimestamp"] = small.b64(set_)
    return small.bundle_record(bundle)


@attack(3)
def proof_without_any_time(sigstore):
    """Neither a promise nor a timestamp authority says when it was signed."""
    bundle = sigstore.bundle(small.statement())
    del entry_of(bundle)["inclusionPromise"]
    return small.bundle_record(bundle)


@attack(5)
def time_without_a_promise_for_it(sigstore):
    """A time that nobody signed, and timestamps that no trusted authority made."""
    bundle = sigstore.bundle(small.statement())
    del entry_of(bundle)["inclusionPromise"]
    data = json.loads((Path(__file__).parent / "data/keyless/bundle-v2.json").read_text())
    bundle["verificationMaterial"]["timestampVerificationData"] = data["verificationMaterial"][
        "timestampVerificationData"
    ]
    return small.bundle_record(bundle)


@attack(5)
def entry_of_another_kind(sigstore):
    """An entry of the kind `rekord`, which says less."""
    key, certificate = sigstore.issue()
    payload = small.simple_payload()
    signature = small.sign(key, payload)
    body = json.loads(small.hashedrekord(payload, signature, certificate)) | {"kind": "rekord"}
    index = sigstore.log.append(small.canonical(body))
    return small.legacy_record(
        payload, sigstore.annotated(signature, certificate, *sigstore.log.promise(index, small.SIGNED))
    )


# The signature, and what it is over


@attack(8)
def signature_of_other_bytes(sigstore):
    record = legacy(sigstore)
    return small.legacy_record(small.simple_payload(annotations={"a": "b"}), record.annotations)


@attack(8)
def signature_by_another_key(sigstore):
    record = legacy(sigstore)
    return edited(record, signature=small.b64(small.sign(small.ecdsa(), record.payload)))


@attack(8)
def envelope_with_another_payload(sigstore):
    bundle = sigstore.bundle(small.statement(Digest.of(b"other")))
    bundle["dsseEnvelope"]["payload"] = small.b64(small.statement())
    return small.bundle_record(bundle)


@attack(8)
def message_of_another_manifest(sigstore):
    """A bundle around a signature of another manifest's bytes, under this one."""
    bundle = sigstore.message_bundle(b"another manifest")
    del bundle["messageSignature"]["messageDigest"]
    return small.bundle_record(bundle)


@attack(9)
def other_digest(sigstore):
    payload = small.simple_payload(Digest.of(b"other"))
    return small.legacy_record(payload, sigstore.legacy(payload))


@attack(9)
def other_digest_in_a_statement(sigstore):
    return small.bundle_record(sigstore.bundle(small.statement(Digest.of(b"other"))))


@attack(9)
def attestation_that_is_no_signature(sigstore):
    """Good provenance about the very digest says how it was built, not that it may be deployed."""
    return small.bundle_record(sigstore.bundle(small.statement(predicate="https://slsa.dev/provenance/v1")))


@attack(9)
def payload_of_another_type(sigstore):
    payload = small.simple_payload(kind="atomic container signature")
    return small.legacy_record(payload, sigstore.legacy(payload))


@attack(4)
def envelope_of_another_type(sigstore):
    return small.bundle_record(sigstore.bundle(small.statement(), payload_type="application/json"))


# The form


@attack(3)
def no_signature_at_all(sigstore):
    return edited(legacy(sigstore), signature=None)


@attack(3)
def certificate_that_is_none(sigstore):
    return edited(legacy(sigstore), certificate="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


@attack(3)
def two_certificates(sigstore):
    record = legacy(sigstore)
    _, other = sigstore.issue(subject="eve@example.com")
    both = record.annotations["dev.sigstore.cosign/certificate"] + small.pem(other)
    return edited(record, certificate=both)


@attack(3)
def endless_certificate(sigstore):
    return edited(legacy(sigstore), certificate="-----BEGIN CERTIFICATE-----\n" + "A" * 70_000)


@attack(3)
def promise_that_says_a_thing_twice(sigstore):
    record = legacy(sigstore)
    text = record.annotations["dev.sigstore.cosign/bundle"]
    return edited(record, bundle=text.replace('"logIndex"', '"logIndex": 0, "logIndex"'))


@attack(3)
def promise_without_fields(sigstore):
    return edited(legacy(sigstore), bundle="{}")


@attack(3)
def promise_at_no_time(sigstore):
    record = legacy(sigstore)
    promise = promise_of(record)
    promise["Payload"]["integratedTime"] = 10**30
    return edited(record, bundle=json.dumps(promise))


@attack(3)
def log_with_a_name_that_is_none(sigstore):
    record = legacy(sigstore)
    promise = promise_of(record)
    promise["Payload"]["logID"] = "zz"
    return edited(record, bundle=json.dumps(promise))


@attack(3)
def bundle_of_an_unknown_type(sigstore):
    return small.bundle_record(sigstore.bundle(small.statement()) | {"mediaType": "application/json"})


@attack(3)
def bundle_that_is_no_json(_sigstore):
    return small.bundle_record(b"\xff\xfe")


@attack(3)
def bundle_with_unknown_fields(sigstore):
    return small.bundle_record(sigstore.bundle(small.statement()) | {"andBesides": True})


@attack(3)
def certificate_with_a_blank_in_its_base64(sigstore):
    """The library would pass over it, and others read something else, or nothing."""
    bundle = sigstore.bundle(small.statement())
    certificate = bundle["verificationMaterial"]["certificate"]
    certificate["rawBytes"] = certificate["rawBytes"][:4] + " " + certificate["rawBytes"][4:]
    return small.bundle_record(bundle)


@attack(3)
def field_with_another_spelling(sigstore):
    """The library knows both, others only one, or take the first for something unknown."""
    bundle = sigstore.bundle(small.statement())
    certificate = bundle["verificationMaterial"]["certificate"]
    certificate["raw_bytes"] = certificate.pop("rawBytes")
    return small.bundle_record(bundle)


@attack(3)
def hash_with_more_than_base64(sigstore):
    bundle = sigstore.bundle(small.statement())
    entry_of(bundle)["inclusionProof"]["hashes"][0] += "@"
    return small.bundle_record(bundle)


@attack(3)
def two_signatures(sigstore):
    bundle = sigstore.bundle(small.statement())
    bundle["dsseEnvelope"]["signatures"] *= 2
    return small.bundle_record(bundle)


@pytest.mark.parametrize(("make", "check"), ATTACKS)
def test_an_attack_fails_at_the_check_that_is_meant_to_stop_it(sigstore, root, make, check):
    """Every one of them would be a signature that holds, but for the one thing its name says."""
    error = refused(policy(root), make(sigstore))
    assert error.check == check, str(error)
    assert f"check {check} (" in str(error)


def test_nothing_signed_is_check_2(root):
    """No signatures, or none in a layout that counts."""
    assert refused(policy(root)).check == 2


def test_a_promise_is_not_enough_where_only_bundles_count(sigstore, root):
    """A downgrade to the first layout is not even looked at."""
    assert refused(policy(root, layouts="bundle"), legacy(sigstore)).check == 2
    assert policy(root, layouts="bundle").needs == {"bundle"}


def test_another_manifest_under_the_digest_is_check_1(sigstore, root):
    """The evidence itself is not believed."""
    import attrs

    evidence = attrs.evolve(small.evidence(legacy(sigstore)), content=b"{}")
    with pytest.raises(VerificationError) as caught:
        policy(root).check(evidence)
    assert caught.value.check == 1


# --- the trusted root -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda s: {"certificateAuthorities": [{**_authority(s), "validFor": _before()}]}, 5),
        (lambda s: {"ctlogs": [s.ct.service(valid=_before())]}, 5),
        (lambda s: {"tlogs": [s.log.service(valid=_before())]}, 6),
        (lambda s: {"tlogs": [s.log.service(valid=small.period(small.SIGNED + HOUR))]}, 6),
    ],
    ids=["authority retired", "certificate log retired", "log retired", "log not yet in use"],
)
@pytest.mark.parametrize("layout", ["cosign", "bundle"])
def test_what_was_not_in_use_when_it_was_signed_vouches_for_nothing(sigstore, change, check, layout):
    """A key that leaks after its log was retired is worth nothing; the library itself would take it."""
    record = legacy(sigstore) if layout == "cosign" else small.bundle_record(sigstore.bundle(small.statement()))
    narrowed = TrustedRoot.parse(sigstore.trusted_root(**change(sigstore)))
    assert refused(policy(narrowed), record).check == check


def _before():
    return small.period(end=small.SIGNED - HOUR)


def _authority(sigstore):
    return json.loads(sigstore.trusted_root())["certificateAuthorities"][0]


def test_another_instances_signature_does_not_hold(sigstore):
    """Somebody else's Sigstore, with the same names in it."""
    other = TrustedRoot.parse(small.SmallSigstore().trusted_root())
    assert refused(policy(other), legacy(sigstore)).check == 5


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}',
    ],
)
def test_what_is_no_trusted_root_is_refused_when_it_is_read(content):
    """Not at the first signature."""
    with pytest.raises(ConfigurationError, match="trusted root") as caught:
        TrustedRoot.parse(content)
    assert not re.search(r"\n|https:|input_value", caught.value.message)


@pytest.mark.parametrize("service", ["certificateAuthorities", "tlogs", "ctlogs"])
def test_a_trusted_root_without_a_service_is_refused(sigstore, service):
    """Nothing could ever be verified with it."""
    with pytest.raises(ConfigurationError, match="has no"):
        TrustedRoot.parse(sigstore.trusted_root(**{service: []}))


def test_a_trusted_root_with_a_certificate_that_is_none_is_refused(sigstore):
    """The library's own words are translated."""
    authority = _authority(sigstore)
    authority["certChain"]["certificates"] = [{"rawBytes": small.b64(b"nonsense")}]
    with pytest.raises(ConfigurationError, match="cannot be used"):
        TrustedRoot.parse(sigstore.trusted_root(certificateAuthorities=[authority]))


def test_a_trusted_root_is_read_from_a_file_and_missed_where_there_is_none(sigstore, tmp_path):
    """And is the same value then."""
    path = tmp_path / "trusted_root.json"
    with pytest.raises(ConfigurationError, match="cannot read"):
        TrustedRoot.from_file(path)
    path.write_bytes(sigstore.trusted_root())
    assert TrustedRoot.from_file(path) == TrustedRoot.parse(sigstore.trusted_root())
    path.write_bytes(b" " * 2_000_000)
    with pytest.raises(ConfigurationError, match="larger"):
        TrustedRoot.from_file(path)


def test_the_public_instances_root_comes_with_the_library():
    """Without a request, and without a directory of anybody's."""
    assert b"rekor.sigstore.dev" in TrustedRoot.bundled().content


# --- the policy as a value ------------------------------------------------------------------------------------------


def test_no_identities_are_an_error_not_a_wildcard(root):
    """In Flux, the empty list lets everybody through."""
    with pytest.raises(ConfigurationError, match="everybody"):
        CosignKeylessSignature([], trusted_root=root)
    with pytest.raises(ConfigurationError, match="everybody"):
        CosignKeylessSignature.from_match_oidc_identity([], trusted_root=root)


@pytest.mark.parametrize(
    ("issuer", "subject"), [("", "x"), ("x", ""), (re.compile(""), "x"), ("x", re.compile("")), (None, "x")]
)
def test_an_identity_that_says_nothing_is_refused(issuer, subject):
    """An empty text fits nobody, an empty pattern everybody: neither can be meant."""
    with pytest.raises(ConfigurationError, match="says something"):
        Identity(issuer, subject)


def test_identities_are_not_just_texts(root):
    """A name without its issuer is not an identity."""
    with pytest.raises(ConfigurationError, match="Identity"):
        CosignKeylessSignature(["ada@example.com"], trusted_root=root)


def test_flux_patterns_have_to_fit_the_whole_name_unless_asked_otherwise():
    """The attack on unanchored patterns: the wanted name inside another one."""
    items = [{"issuer": r"https://ci\.example\.com", "subject": r"https://git\.example\.com/shop"}]
    evil = "https://evil.example/?https://git.example.com/shop"
    [anchored], [found] = identities_from_flux(items), identities_from_flux(items, anchored=False)
    assert not anchored.fits("https://ci.example.com", evil)
    assert found.fits("https://ci.example.com", evil)
    assert not anchored.fits("https://ci.example.com.evil.example", "https://git.example.com/shop")
    assert anchored.fits("https://ci.example.com", "https://git.example.com/shop")


def test_a_name_that_continues_after_a_line_break_does_not_fit_the_end_of_a_pattern():
    """Python's `$` also stands before a last line break; Go's does not. Whole names are fitted, so it does not matter."""
    [identity] = identities_from_flux([{"issuer": "^x$", "subject": "^ada$"}])
    assert not identity.fits("x", "ada\n")


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"issuer": "x"},
        {"subject": "x"},
        {"issuer": "x", "subject": ""},
        {"issuer": "(", "subject": "x"},
        {"issuer": "[[:alpha:]]", "subject": "x"},
        {"issuer": "x", "subject": r"\pL"},
        {"issuer": "x", "subject": "a{,3}"},
        {"issuer": "x", "subject": "y", "subjectRegExp": "z"},
    ],
)
def test_a_malformed_entry_of_match_oidc_identity_is_refused(item):
    """Also what Go would read in another way than Python."""
    with pytest.raises(ConfigurationError):
        identities_from_flux([item])


def test_digits_in_flux_patterns_are_ascii():
    """As in Go: no other script's digits stand in for a version."""
    [identity] = identities_from_flux([{"issuer": "x", "subject": r"v\d"}])
    assert identity.fits("x", "v1")
    assert not identity.fits("x", "v٣")


def test_a_policy_is_a_value(root):
    """It pickles, compares, and has a digest of all that decides, and of nothing else."""
    one = policy(root, Identity(re.compile("a.*"), "b"), ADA)
    assert isinstance(one, Policy)
    assert pickle.loads(pickle.dumps(one)) == one
    assert one.digest == policy(root, ADA, Identity(re.compile("a.*"), "b")).digest
    assert len(repr(one)) < 500


def test_whatever_decides_is_in_the_digest(sigstore, root):
    """So that a change verifies again what is unchanged."""
    others = [
        policy(root, Identity(small.ISSUER, "eve@example.com")),
        policy(root, Identity("https://other.example", small.SUBJECT)),
        policy(root, Identity(small.ISSUER, re.compile(re.escape(small.SUBJECT)))),
        policy(root, Identity(small.ISSUER, re.compile(re.escape(small.SUBJECT), re.IGNORECASE))),
        policy(root, Identity(small.ISSUER, re.compile(re.escape(small.SUBJECT)), anchored=False)),
        policy(root, ADA, Identity(small.ISSUER, "eve@example.com")),
        policy(root, layouts="bundle"),
        policy(root, layouts="cosign"),
        policy(root, annotations={"env": "prod"}),
        policy(root, repository=small.REPOSITORY),
        policy(TrustedRoot.parse(sigstore.trusted_root() + b"\n")),
    ]
    digests = {other.digest for other in [*others, policy(root)]}
    assert len(digests) == len(others) + 1


def test_policies_combine(sigstore, root):
    """Anyone of two, or both; what a stranger's signature does to the library is a verdict, never a crash."""
    eve = policy(root, Identity(small.ISSUER, "eve@example.com"))
    evidence = small.evidence(legacy(sigstore), small.bundle_record(b"[" * 5000))
    assert AnyOf([eve, policy(root)]).check(evidence)
    with pytest.raises(VerificationError):
        AllOf([policy(root), eve]).check(evidence)


def test_without_the_library_the_extra_is_named(sigstore, root, monkeypatch):
    """Not a verdict: what cannot be checked is no failure of a signature."""
    from fluxsrc.signatures import certified

    record = small.bundle_record(sigstore.bundle(small.statement()))
    certified._bundle_class.cache_clear()
    monkeypatch.setitem(sys.modules, "sigstore.models", None)
    with pytest.raises(MissingExtraError, match=r"fluxsrc\[verify\]"):
        policy(root).check(small.evidence(record))


def test_a_library_that_no_longer_asks_for_times_or_names_is_not_trusted(sigstore, root, monkeypatch):
    """What is overridden is not public. If it is gone one day, nothing may hold any more."""
    from sigstore.verify import Verifier

    from fluxsrc.signatures import certified

    class Deaf(Verifier):
        def __init__(self, trust):
            super().__init__(trusted_root=trust.root.narrowed((), ()))

    monkeypatch.setattr(certified, "_verifier_class", lambda: Deaf)
    assert refused(policy(root), legacy(sigstore)).check == 5


# --- whatever is thrown at it ---------------------------------------------------------------------------------------

_JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=20),
    st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode()),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)


def _paths(value, prefix=()):
    yield prefix
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, (*prefix, key))


def _replaced(value, path, junk):
    if not path:
        return junk
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _replaced(copy[path[0]], path[1:], junk)
    return copy


def _at(value, path):
    for key in path:
        value = value[key]
    return value


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_bundle_with_any_value_replaced_does_not_hold(sigstore, root, data):
    """Whatever stands anywhere instead of what was there: a verdict, and never a crash."""
    bundle = _once(sigstore, "bundle")
    path = data.draw(st.sampled_from(list(_paths(bundle))))
    junk = data.draw(_JUNK)
    if _at(bundle, path) == junk:
        return
    assert refused(policy(root), small.bundle_record(_replaced(bundle, path, junk))).check


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_bundle_with_any_bytes_changed_holds_only_if_it_says_the_same(sigstore, root, data):
    """Bits flipped, removed and doubled, also within base64: nothing but a `VerificationError` comes of it."""
    original = json.dumps(_once(sigstore, "bundle")).encode()
    changed = _damaged(data, original)
    record = small.bundle_record(changed)
    facts = _facts_or_numbered_error(policy(root), record)
    if facts is not None:
        assert json.loads(changed)["dsseEnvelope"] == json.loads(original)["dsseEnvelope"]
        assert dict(facts)["oci.signer"] == small.SUBJECT


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_annotations_with_any_bytes_changed_hold_only_if_they_say_the_same(sigstore, root, data):
    """The same of the first layout."""
    record = _once(sigstore, "legacy")
    name = data.draw(st.sampled_from([*record.annotations, "payload"]))
    if name == "payload":
        changed = small.legacy_record(_damaged(data, record.payload), record.annotations)
    else:
        text = _damaged(data, record.annotations[name].encode()).decode("latin-1")
        changed = small.legacy_record(record.payload, {**record.annotations, name: text})
    facts = _facts_or_numbered_error(policy(root), changed)
    if facts is not None:
        assert changed.payload == record.payload
        assert dict(facts)["oci.signer"] == small.SUBJECT


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_certificate_with_any_bytes_changed_does_not_hold(sigstore, root, data):
    """DER and ASN.1: whatever is read out of it, no authority signed it."""
    record = _once(sigstore, "legacy")
    pem = record.annotations["dev.sigstore.cosign/certificate"]
    original = small.der(x509.load_pem_x509_certificate(pem.encode()))
    changed = _damaged(data, original)
    if changed == original:
        return
    text = f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(changed).decode()}-----END CERTIFICATE-----\n"
    assert refused(policy(root), edited(record, certificate=text)).check in {3, 4, 5, 6, 7}


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_nothing_but_a_configuration_error_comes_of_a_malformed_trusted_root(content):
    """It is the caller's file, but a file nevertheless."""
    with pytest.raises(FluxSrcError):
        TrustedRoot.parse(content)


def _facts_or_numbered_error(policy, record):
    try:
        return policy.check(small.evidence(record))
    except VerificationError as exc:
        if not exc.check:
            raise
        return None


_MADE = {}


def _once(sigstore, what):
    if what not in _MADE:
        _MADE[what] = sigstore.bundle(small.statement()) if what == "bundle" else legacy(sigstore)
    return _MADE[what]


def _damaged(data, original):
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        match data.draw(st.sampled_from(["flip", "delete", "double", "insert"])):
            case "flip":
                changed[at] ^= 1 << data.draw(st.integers(0, 7))
            case "delete":
                del changed[at : at + data.draw(st.integers(1, 8))]
            case "double":
                changed[at:at] = changed[at : at + 8]
            case _:
                changed[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        if not changed:
            changed = bytearray(b"x")
    return bytes(changed)


def test_every_kind_of_record_is_one_that_the_policy_asks_for(root):
    """The evidence's kinds are the policy's layouts."""
    assert policy(root).needs == {SignatureKind.COSIGN.value, SignatureKind.BUNDLE.value}

"""Notation's signatures: what holds, and every way in which one must not."""

import base64
import datetime as dt
import hashlib
import json
import pickle

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, VerificationError
from fluxsrc.oci import OCISource
from fluxsrc.signatures.notation import NotationSignature, RevocationList, TrustPolicy, TrustStore
from fluxsrc.signatures.notation.cbor import CBORError, Tag, decode
from fluxsrc.signatures.notation.envelope import COSE_MEDIA_TYPE, JWS_MEDIA_TYPE, Envelope
from fluxsrc.signatures.notation.names import DistinguishedName
from fluxsrc.signatures.notation.timestamp import check_timestamp
from fluxsrc.signatures.oci import OCIEvidence, SignatureKind, SignatureRecord
from helpers import notation_keys as keys

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
REPOSITORY = "registry.example/team/app"
MANIFEST = b'{"schemaVersion": 2, "layers": []}'
MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
DIGEST = Digest.of(MANIFEST)
FORMS = {JWS_MEDIA_TYPE: keys.jws, COSE_MEDIA_TYPE: keys.cose}

CA = keys.issue(keys.name("Root"), keys.new_key("p256"), ca=True, now=NOW, days=1000)
ADA = keys.issue(keys.name("Ada"), keys.new_key("p256"), CA, now=NOW)
OTHER_CA = keys.issue(keys.name("Root"), keys.new_key("p256"), ca=True, now=NOW)


def leaf(key=None, ca=CA, **options):
    return keys.issue(keys.name("Ada"), key or keys.new_key("p256"), ca, now=NOW, **options)


def document(**more):
    return keys.payload(str(DIGEST), len(MANIFEST), MEDIA_TYPE, **more)


@pytest.fixture(params=FORMS, ids=["jws", "cose"])
def form(request):
    """The media type of an envelope, and what makes one."""
    return request.param


def envelope(form, signer=ADA, content=None, *, when=NOW, **options):
    return FORMS[form](signer, document() if content is None else content, when=when, **options)


def record(payload, form=JWS_MEDIA_TYPE):
    return SignatureRecord(kind=SignatureKind.NOTATION, manifest=Digest.of(payload), media_type=form, payload=payload)


def evidence(*records, **changes):
    found = OCIEvidence(
        subject=f"oci://{REPOSITORY}@{DIGEST.short}",
        now=NOW,
        repository=REPOSITORY,
        digest=DIGEST,
        media_type=MEDIA_TYPE,
        content=MANIFEST,
        records=records,
    )
    return attrs.evolve(found, **changes)


def trust_policy(level="strict", **changes):
    statement = {
        "name": "all",
        "registryScopes": ["*"],
        "signatureVerification": {"level": level},
        "trustStores": ["ca:acme"],
        "trustedIdentities": ["*"],
    } | changes
    return {"version": "1.0", "trustPolicies": [{key: value for key, value in statement.items() if value is not None}]}


def policy(ca=CA, *, stores=None, crls=(), annotations=(), repository=None, unsafe_levels=False, **changes):
    stores = [TrustStore("ca", "acme", (ca.root,))] if stores is None else stores
    return NotationSignature(
        TrustPolicy.parse(json.dumps(trust_policy(**changes))),
        stores,
        crls=crls,
        annotations=annotations,
        repository=repository,
        unsafe_levels=unsafe_levels,
    )


def fails(policy, *records, **changes):
    """The number of the check that fails."""
    with pytest.raises(VerificationError) as caught:
        policy.check(evidence(*records, **changes))
    assert f"check {caught.value.check} (" in str(caught.value)
    return caught.value.check


STRICT = policy()


def refused(form, *args, policy=STRICT, **options):
    return fails(policy, record(envelope(form, *args, **options), form))


# --- what holds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rsa2048", "rsa3072", "p256", "p384", "p521"])
def test_an_envelope_of_each_form_and_kind_of_key_holds(form, kind):
    """RSA of 4096 bits, and notation's own signatures, are the server lane's."""
    signer = leaf(keys.some_key(kind))
    facts = dict(policy().check(evidence(record(envelope(form, signer, expiry=NOW + DAY), form))))
    assert facts["oci.algorithm"] == keys.ALGORITHMS[kind]
    assert facts["oci.signer"] == "CN=Ada,O=Acme,ST=WA,C=US"
    assert facts["oci.key"] == "sha256:" + hashlib.sha256(signer.ders[0]).hexdigest()
    assert (facts["oci.layout"], facts["oci.statement"], facts["oci.level"]) == ("notation", "all", "strict")
    assert facts["oci.signed"] == "2026-03-01T12:00:00Z"


def test_a_self_signed_signer_and_a_long_chain_hold(form):
    """As `notation cert generate-test` makes one; and with two authorities in between."""
    alone = keys.issue(keys.name("Test"), keys.some_key("rsa2048"), now=NOW)
    assert policy(alone).check(evidence(record(envelope(form, alone), form)))
    middle = keys.issue(keys.name("Middle"), keys.new_key("p384"), CA, ca=True, now=NOW, path_length=1)
    low = keys.issue(keys.name("Low"), keys.new_key("p384"), middle, ca=True, now=NOW, path_length=0)
    deep = record(envelope(form, leaf(ca=low)), form)
    assert policy().check(evidence(deep))
    anchored_low = policy(stores=[TrustStore("ca", "acme", (low.ders[0],))])
    assert anchored_low.check(evidence(deep)), "any certificate of the chain may be the trusted one"


def test_a_signing_authority_says_when(form):
    """Its clock counts, so its certificates may have expired since."""
    stores = [TrustStore("signingAuthority", "acme", (CA.root,))]
    authority = policy(stores=stores, trustStores=["signingAuthority:acme"])
    signer = leaf(days=2)
    good = record(envelope(form, signer, scheme="notary.x509.signingAuthority"), form)
    assert authority.check(evidence(good, now=NOW + 10 * DAY))
    late = record(envelope(form, signer, scheme="notary.x509.signingAuthority", when=NOW + 5 * DAY), form)
    assert fails(authority, late, now=NOW + 10 * DAY) == 5
    assert fails(policy(), good) == 5, "a store of the kind ca is none of signing authorities"
    assert fails(authority, record(envelope(form), form)) == 5, "nor the other way round"


def test_one_good_signature_among_bad_ones_is_enough(form):
    """Whoever can push can add bad ones."""
    bad = [record(b"{}", form), record(envelope(form, leaf(ca=OTHER_CA)), form)]
    assert policy().check(evidence(*bad, record(envelope(form), form), *bad))


def test_signed_metadata_is_asked_for(form):
    """`notation sign -m`."""
    signed = record(envelope(form, content=document(annotations={"env": "prod"})), form)
    assert policy(annotations={"env": "prod"}).check(evidence(signed))
    assert fails(policy(annotations={"env": "test"}), signed) == 10
    assert fails(policy(annotations={"build": "1"}), signed) == 10


@pytest.mark.parametrize(
    ("identities", "holds"),
    [
        (["*"], True),
        (["x509.subject: C=US, ST=WA, O=Acme"], True),
        (["x509.subject:CN=Ada,O=Acme,S=WA,C=US"], True),
        (["x509.subject: C=US, ST=WA, O=Evil", "x509.subject: C=US, ST=WA, O=Acme, CN=Ada"], True),
        (["x509.subject: C=US, ST=WA, O=Acme, CN=Eve"], False),
        (["x509.subject: C=US, ST=WA, O=acme"], False),
        (["x509.subject: C=US, ST=WA, O=Acme, OU=Ops"], False),
    ],
)
def test_trusted_identities_are_parts_of_the_subject(identities, holds):
    """All that is named has to be there, to the letter."""
    asked = policy(trustedIdentities=identities)
    if holds:
        assert asked.check(evidence(record(envelope(JWS_MEDIA_TYPE))))
    else:
        assert refused(JWS_MEDIA_TYPE, policy=asked) == 7


def test_a_subject_with_something_twice_is_nobody():
    """Two organisations in one name: which of them is it?"""
    oid = x509.NameOID.ORGANIZATION_NAME
    twice = x509.Name([*keys.name("Ada"), x509.NameAttribute(oid, "Evil")])
    signer = keys.issue(twice, keys.new_key("p256"), CA, now=NOW)
    asked = policy(trustedIdentities=["x509.subject: C=US, ST=WA, O=Acme"])
    assert refused(JWS_MEDIA_TYPE, signer, policy=asked) == 7


def test_the_statement_for_a_repository_decides():
    """By exact name; `*` is for the rest; without either there is nothing that could hold."""
    both = trust_policy(registryScopes=[REPOSITORY])
    rest = trust_policy(name="rest", trustStores=["ca:other"])["trustPolicies"]
    both["trustPolicies"] += rest
    stores = [TrustStore("ca", "acme", (CA.root,)), TrustStore("ca", "other", (OTHER_CA.root,))]
    found = NotationSignature(TrustPolicy.parse(json.dumps(both)), stores)
    signed = record(envelope(JWS_MEDIA_TYPE))
    assert dict(found.check(evidence(signed)))["oci.statement"] == "all"
    assert fails(found, signed, repository="registry.example/team/other") == 5
    only = policy(registryScopes=[REPOSITORY])
    assert fails(only, signed, repository="registry.example/team/other") == 9
    assert fails(only, signed, repository=f"{REPOSITORY}/evil") == 9
    assert fails(only, signed, repository="oci-layout:/tmp/store") == 9
    mirrored = policy(registryScopes=[REPOSITORY], repository=REPOSITORY)
    assert mirrored.check(evidence(signed, repository="oci-layout:/tmp/store"))


# --- attacks ---------------------------------------------------------------------------------------------------------


def test_no_signature_fails_at_2():
    """Nothing there, or nothing of notation."""
    assert fails(policy()) == 2


def test_another_ca_fails_at_5(form):
    """Of the same name, even."""
    assert refused(form, leaf(ca=OTHER_CA)) == 5


def test_a_chain_with_the_trusted_root_hung_on_fails_at_5(form):
    """The root has to have certified it, not only to be there."""
    eve = leaf(ca=OTHER_CA)
    assert refused(form, eve, chain=[eve.ders[0], CA.root]) == 5
    assert refused(form, eve, chain=[*eve.ders, CA.root]) == 5
    assert refused(form, ADA, chain=[ADA.ders[0]]) == 5
    assert refused(form, ADA, chain=list(reversed(ADA.ders))) in (5, 8)


def test_another_digest_size_or_type_fails_at_9(form):
    """A signature of another manifest, of whatever the same key signed."""
    for content in (
        keys.payload(str(Digest.of(b"x")), len(MANIFEST), MEDIA_TYPE),
        keys.payload(str(DIGEST), len(MANIFEST) + 1, MEDIA_TYPE),
        keys.payload(str(DIGEST), True, MEDIA_TYPE),
        keys.payload(str(DIGEST), len(MANIFEST), "application/vnd.oci.image.index.v1+json"),
    ):
        assert refused(form, content=content) == 9


def test_a_manifest_that_is_not_its_digest_fails_at_1(form):
    """Before any signature is looked at."""
    assert fails(policy(), record(envelope(form), form), content=MANIFEST + b" ") == 1


def test_a_payload_that_is_something_else_fails(form):
    """No target, two of them, more than that, no JSON."""
    for content in (b"{}", b"[]", b"x", json.dumps({"targetArtifact": 1}).encode()):
        assert refused(form, content=content) == 3
    more = json.dumps(json.loads(document()) | {"also": 1}).encode()
    assert refused(form, content=more) == 3
    assert refused(form, content=document()[:-1] + b', "targetArtifact": {}}') == 3
    assert refused(form, content=document(annotations=["x"])) in (3, 9)


def test_an_expired_signature_fails_at_5(form):
    """By the signer's own wish."""
    signed = record(envelope(form, when=NOW - DAY / 2, expiry=NOW), form)
    assert policy().check(evidence(signed, now=NOW - dt.timedelta(seconds=1)))
    assert fails(policy(), signed) == 5
    assert refused(form, when=NOW, expiry=NOW - DAY) == 3


def test_an_expired_certificate_fails_at_5(form):
    """Of the signer, or above; and one that is not valid yet. The signer's own time does not help."""
    signed = record(envelope(form, leaf(days=2)), form)
    assert policy().check(evidence(signed))
    assert fails(policy(), signed, now=NOW + 2 * DAY) == 5
    short = keys.issue(keys.name("Short"), keys.new_key("p256"), ca=True, now=NOW, days=2)
    assert fails(policy(short), record(envelope(form, leaf(ca=short)), form), now=NOW + 2 * DAY) == 5
    assert fails(policy(), record(envelope(form, leaf(start=DAY)), form)) == 5


def test_a_signature_from_the_future_fails_at_5(form):
    """Beyond what clocks differ by."""
    assert policy().check(evidence(record(envelope(form, when=NOW + dt.timedelta(minutes=4)), form)))
    assert refused(form, when=NOW + dt.timedelta(minutes=6)) == 5


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS256", "PS384", "ES384", "ES256K", "EdDSA", "", 1, None])
def test_an_algorithm_that_is_not_the_keys_fails_at_4(form, algorithm):
    """`none`, a MAC with the public key, PKCS #1 instead of PSS, another hash: the key says which one it is."""
    for signer in (ADA, leaf(keys.some_key("rsa2048"))):
        more = {"alg": algorithm}
        assert refused(form, signer, **more) == 4


def test_a_pkcs1_signature_does_not_pass_for_pss():
    """The right algorithm in the header, another one in the signature."""
    signer = leaf(keys.some_key("rsa2048"))
    value = json.loads(envelope(JWS_MEDIA_TYPE, signer))
    signed = f"{value['protected']}.{value['payload']}".encode()
    value["signature"] = keys.b64url(signer.raw(signed, "RS256"))
    assert fails(policy(), record(json.dumps(value).encode())) == 8


def test_a_stripped_or_another_signature_fails(form):
    """Empty, of zeros, in DER, of another key, over another payload."""
    if form == JWS_MEDIA_TYPE:
        value = json.loads(envelope(form))
        for text, number in (("", 3), (keys.b64url(b"\0" * 64), 8), (keys.b64url(b"\0" * 70), 8), ("====", 3)):
            assert fails(policy(), record(json.dumps(value | {"signature": text}).encode())) == number
        other = json.loads(envelope(form, content=document(annotations={"a": "b"})))
        assert fails(policy(), record(json.dumps(value | {"payload": other["payload"]}).encode())) == 8
        del value["signature"]
        assert fails(policy(), record(json.dumps(value).encode())) == 3
    else:
        tag = decode(envelope(form))
        protected, header, content, signature = tag.value
        for changed in (b"", b"\0" * 64, b"\0" * 70):
            forged = keys.cbor(keys.Tagged(18, [protected, header, content, changed]))
            assert fails(policy(), record(forged, form)) == 8
        other = keys.cbor(keys.Tagged(18, [protected, header, document(annotations={"a": "b"}), signature]))
        assert fails(policy(), record(other, form)) == 8
        untagged = keys.cbor([protected, header, content, signature])
        assert fails(policy(), record(untagged, form)) == 3
    eve = leaf()
    assert refused(form, eve, chain=ADA.ders) == 8


def test_what_is_critical_must_be_known_and_what_must_be_critical_is(form):
    """An unknown critical header, one that is missing, none at all, one twice."""
    scheme, expiry = f"{keys.PREFIX}signingScheme", f"{keys.PREFIX}expiry"
    for crit in (
        [],
        [scheme, "example.unknown"],
        ["example.unknown"],
        "x",
        [scheme, scheme],
        [[scheme]],
        [scheme, expiry],
    ):
        assert refused(form, crit=crit, **{"example.unknown": 1}) == 3
    assert refused(form, crit=[scheme], expiry=NOW + DAY) == 3
    assert refused(form, crit=[scheme], scheme="notary.x509.signingAuthority") == 3


def test_headers_that_do_not_go_together_fail_at_3(form):
    """Schemes, times, types, plugins that we do not have."""
    prefix = keys.PREFIX
    for more in (
        {f"{prefix}signingScheme": "notary.x509.unknown"},
        {f"{prefix}signingScheme": None},
        {f"{prefix}signingTime": None},
        {f"{prefix}signingTime": "yesterday"},
        {f"{prefix}signingTime": 1},
        {f"{prefix}authenticSigningTime": "2026-03-01T12:00:00Z"},
        {f"{prefix}verificationPlugin": "example"},
        {"cty": "application/json"},
        {"cty": None},
    ):
        assert refused(form, **more) == 3
    assert fails(policy(), record(envelope(form), "application/pkcs7-mime")) == 3
    other = COSE_MEDIA_TYPE if form == JWS_MEDIA_TYPE else JWS_MEDIA_TYPE
    assert fails(policy(), record(envelope(form), other)) == 3


def test_a_header_that_is_unknown_and_not_critical_is_passed_over(form):
    """As both standards say; keys by URL are never fetched."""
    assert policy().check(evidence(record(envelope(form, **{"example.note": "x"}), form)))


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({"purposes": [ExtendedKeyUsageOID.SERVER_AUTH]}, 5),
        ({"purposes": [ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.TIME_STAMPING]}, 5),
        ({"purposes": [ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]}, 5),
        ({"key_usage": False}, 5),
        ({"key_usage": keys.usage(key_encipherment=True)}, 5),
        ({"key_usage": keys.usage(digital_signature=True, key_cert_sign=True)}, 5),
        ({"extensions": [(x509.OCSPNoCheck(), True)]}, 5),
    ],
)
def test_a_certificate_for_something_else_fails(options, number):
    """Servers, timestamps, authorities, everything; and a critical extension that nobody here understands."""
    assert refused(JWS_MEDIA_TYPE, leaf(**options)) == number


def test_an_authority_does_not_sign_code():
    """Its key may do more than one thing, then."""
    both = keys.issue(
        keys.name("Ada"), keys.new_key("p256"), CA, ca=True, now=NOW, key_usage=keys.usage(digital_signature=True)
    )
    assert refused(JWS_MEDIA_TYPE, both) == 5


def test_weak_and_strange_keys_and_hashes_fail_at_4():
    """RSA of 1024 bits, of a size that is not specified, Ed25519, P-224, SHA-1."""
    odd = leaf(rsa.generate_private_key(65537, 2560))
    assert refused(JWS_MEDIA_TYPE, odd) == 4
    small = leaf(rsa.generate_private_key(65537, 1024))
    assert refused(JWS_MEDIA_TYPE, small) == 4
    weak_ca = keys.issue(keys.name("Weak"), rsa.generate_private_key(65537, 1024), ca=True, now=NOW)
    assert refused(JWS_MEDIA_TYPE, leaf(ca=weak_ca), policy=policy(weak_ca)) == 4
    edwards = keys.issue(keys.name("Ada"), ec.generate_private_key(ec.SECP256K1()), CA, now=NOW)
    value = json.loads(envelope(JWS_MEDIA_TYPE))
    value["header"]["x5c"] = [base64.b64encode(each).decode() for each in edwards.ders]
    assert fails(policy(), record(json.dumps(value).encode())) == 4
    other = ed25519.Ed25519PrivateKey.generate()
    certificate = keys.issue(keys.name("Ada"), other, CA, now=NOW)
    value["header"]["x5c"] = [base64.b64encode(each).decode() for each in certificate.ders]
    assert fails(policy(), record(json.dumps(value).encode())) == 4


def test_authorities_obey_their_limits():
    """A path length, a leaf that signs certificates, an authority without the right."""
    narrow = keys.issue(keys.name("Narrow"), keys.new_key("p256"), ca=True, now=NOW, path_length=0)
    below = keys.issue(keys.name("Below"), keys.new_key("p256"), narrow, ca=True, now=NOW)
    assert refused(JWS_MEDIA_TYPE, leaf(ca=below), policy=policy(narrow)) == 5
    assert refused(JWS_MEDIA_TYPE, leaf(ca=ADA)) == 5
    powerless = keys.issue(
        keys.name("Powerless"), keys.new_key("p256"), CA, ca=True, now=NOW, key_usage=keys.usage(crl_sign=True)
    )
    assert refused(JWS_MEDIA_TYPE, leaf(ca=powerless)) == 5


# --- revocation ------------------------------------------------------------------------------------------------------


def crl(issuer=CA, *serials, start=-DAY, days=7, critical=()):
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
    builder = builder.last_update(NOW + start).next_update(NOW + start + dt.timedelta(days=days))
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - DAY).build()
        builder = builder.add_revoked_certificate(revoked)
    for extension in critical:
        builder = builder.add_extension(extension, critical=True)
    return RevocationList.parse(builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM))


POINT = x509.CRLDistributionPoints(
    [x509.DistributionPoint([x509.UniformResourceIdentifier("http://crl.example/ca.crl")], None, None, None)]
)
ASK = x509.AuthorityInformationAccess(
    [x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier("http://ocsp.example"))]
)


@pytest.mark.parametrize("extension", [POINT, ASK], ids=["crl", "ocsp"])
def test_a_certificate_that_can_be_revoked_needs_a_list_that_says_it_is_not(extension):
    """Strict is strict: nobody is asked over the network, and not knowing is no answer."""
    signer = leaf(extensions=[(extension, False)])
    assert refused(JWS_MEDIA_TYPE, signer) == 5
    signed = record(envelope(JWS_MEDIA_TYPE, signer))
    assert policy(crls=[crl()]).check(evidence(signed))
    assert policy(crls=[crl(OTHER_CA), crl()]).check(evidence(signed))
    lenient = {"level": "strict", "override": {"revocation": "skip"}}
    assert policy(signatureVerification=lenient).check(evidence(signed))
    logged = {"level": "strict", "override": {"revocation": "log"}}
    facts = dict(policy(signatureVerification=logged).check(evidence(signed)))
    assert "could be revoked" in facts["oci.warning.revocation"]
    assert facts["oci.level"] == "custom"


def test_a_revoked_certificate_fails_at_5():
    """The signer's, or an authority's, whether it names a place to ask or not."""
    signed = record(envelope(JWS_MEDIA_TYPE))
    assert fails(policy(crls=[crl(CA, ADA.certificate.serial_number)]), signed) == 5
    middle = keys.issue(keys.name("Middle"), keys.new_key("p256"), CA, ca=True, now=NOW)
    deep = record(envelope(JWS_MEDIA_TYPE, leaf(ca=middle)))
    assert policy(crls=[crl()]).check(evidence(deep))
    assert fails(policy(crls=[crl(CA, middle.certificate.serial_number)]), deep) == 5


def test_a_list_that_is_not_current_or_not_the_issuers_says_nothing():
    """Old, not valid yet, by another of the same name, of some reasons only."""
    signed = record(envelope(JWS_MEDIA_TYPE, leaf(extensions=[(POINT, False)])))
    some = x509.IssuingDistributionPoint(
        None, None, False, False, frozenset([x509.ReasonFlags.key_compromise]), False, False
    )
    for useless in (crl(days=0.5), crl(start=DAY), crl(OTHER_CA), crl(critical=[some])):
        assert fails(policy(crls=[useless]), signed) == 5


# --- timestamps ------------------------------------------------------------------------------------------------------

STAMPING = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True)
CLOCK_CA = keys.issue(keys.name("Clocks"), keys.new_key("rsa2048"), ca=True, now=NOW, days=1000)


def clock(ca=CLOCK_CA, *more, purposes=STAMPING, **options):
    extensions = [*([purposes] if purposes else []), *more]
    key = keys.some_key("rsa2048")
    return keys.issue(keys.name("Clock"), key, ca, now=NOW, purposes=(), extensions=extensions, **options)


CLOCK = clock()


def clocked(ca=CLOCK_CA, *, crls=(), verify="always", level="strict", store=None):
    stores = [TrustStore("ca", "acme", (CA.root,)), store or TrustStore("tsa", "clocks", (ca.root,))]
    return policy(
        stores=stores,
        crls=crls,
        trustStores=["ca:acme", "tsa:clocks"],
        signatureVerification={"level": level, "verifyTimestamp": verify},
    )


def stamped(form, authority=CLOCK, signer=None, *, when=NOW, over=None, **options):
    """An envelope with a timestamp."""

    def stamp(signature):
        return keys.timestamp(authority, signature if over is None else over, when, **options)

    return record(envelope(form, signer or leaf(days=3), stamp=stamp), form)


def test_what_was_timestamped_in_time_holds_when_its_certificate_has_expired(form):
    """By an authority whose root the trust policy names; its own certificate counted then, too."""
    later = NOW + 300 * DAY
    for options in ({}, {"hashed": "sha512", "imprint": "sha512"}):
        signed = stamped(form, **options)
        assert clocked().check(evidence(signed))
        assert clocked().check(evidence(signed, now=later))
        assert clocked(verify="afterCertExpiry").check(evidence(signed, now=later))
    assert fails(policy(), signed, now=later) == 5, "without a store for timestamps the token is nobody's word"
    middle = keys.issue(keys.name("More Clocks"), keys.new_key("rsa2048"), CLOCK_CA, ca=True, now=NOW)
    assert clocked().check(evidence(stamped(form, clock(middle)), now=later))


def test_a_timestamp_that_is_missing_fails_at_5(form):
    """Always, or once the certificates are over: as the policy says. An empty store is no way around it."""
    signed = record(envelope(form, leaf(days=3)), form)
    later = NOW + 9 * DAY
    assert fails(clocked(), signed) == 5
    assert clocked(verify="afterCertExpiry").check(evidence(signed))
    assert fails(clocked(verify="afterCertExpiry"), signed, now=later) == 5
    assert fails(clocked(store=TrustStore("tsa", "clocks", ())), signed) == 5
    assert fails(clocked(store=TrustStore("tsa", "clocks", ())), stamped(form)) == 5


def test_a_timestamp_by_somebody_else_or_of_something_else_fails_at_5(form):
    """Another authority of the same name, another signature, a time at which the certificates were not valid, the future."""
    twin = keys.issue(keys.name("Clocks"), keys.new_key("rsa2048"), ca=True, now=NOW, days=1000)
    assert fails(clocked(), stamped(form, clock(twin))) == 5
    assert fails(clocked(), stamped(form, over=b"something else")) == 5
    assert fails(clocked(), stamped(form, when=NOW - 2 * DAY)) == 5
    assert fails(clocked(), stamped(form, when=NOW + DAY)) == 5
    assert fails(clocked(), stamped(form, when=NOW + 4 * DAY), now=NOW + 9 * DAY) == 5
    edge = NOW - DAY + dt.timedelta(seconds=30)
    assert clocked().check(evidence(stamped(form, when=edge)))
    assert fails(clocked(), stamped(form, when=edge, accuracy=60)) == 5, "it may have been before"
    assert fails(clocked(), stamped(form, ADA_RSA)) == 5, "a signer of code is no clock"
    forged = keys.issue(keys.name("Clock"), CLOCK.key, twin, now=NOW, purposes=(), extensions=[STAMPING])
    assert fails(clocked(), stamped(form, certificates=[*forged.ders[:1], CLOCK_CA.root])) == 5


ADA_RSA = leaf(keys.new_key("rsa2048"), CLOCK_CA)


def test_a_certificate_beside_the_clocks_that_only_looks_like_it_fails_at_5():
    """The same issuer and serial number, the right purpose, but certified by nobody: whose signature is it, then?"""
    twin = keys.issue(keys.name("Clocks"), keys.new_key("rsa2048"), ca=True, now=NOW)
    serial = ADA_RSA.certificate.serial_number
    lookalike = keys.issue(
        keys.name("Clock"), keys.new_key("rsa2048"), twin, now=NOW, purposes=(), extensions=[STAMPING], serial=serial
    )
    both = [*ADA_RSA.ders, lookalike.ders[0]]
    for certificates in (both, both[1:], both[:2]):
        assert fails(clocked(), stamped(JWS_MEDIA_TYPE, ADA_RSA, certificates=certificates)) == 5


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({"purposes": None}, 5),
        ({"purposes": (STAMPING[0], False)}, 5),
        ({"purposes": (x509.ExtendedKeyUsage([*STAMPING[0], ExtendedKeyUsageOID.CODE_SIGNING]), True)}, 5),
        ({"key_usage": keys.usage(digital_signature=True, key_cert_sign=True)}, 5),
        ({"start": -DAY, "days": 0.5}, 5),
    ],
)
def test_a_timestamp_by_a_certificate_for_something_else_fails(options, number):
    """It has to be for timestamps alone, marked as critical, and valid at that time."""
    assert fails(clocked(), stamped(JWS_MEDIA_TYPE, clock(**options))) == number


def test_a_timestamp_with_sha1_fails_at_4(form):
    """Over the signature, or by its authority."""
    assert fails(clocked(), stamped(form, imprint="sha1")) == 4
    assert fails(clocked(), stamped(form, hashed="sha1")) in (4, 5)


def test_the_clocks_certificate_must_not_be_revoked(form):
    """As notation has it, this belongs to the timestamp: unknown is no answer there either, whatever is said of revocation."""
    revocable = clock(CLOCK_CA, (POINT, False))
    signed = stamped(form, revocable)
    assert fails(clocked(), signed) == 5
    assert clocked(crls=[crl(CLOCK_CA)]).check(evidence(signed))
    assert fails(clocked(crls=[crl(CLOCK_CA, revocable.certificate.serial_number)]), signed) == 5
    facts = dict(clocked(level="permissive").check(evidence(signed)))
    assert "could be revoked" in facts["oci.warning.authenticTimestamp"]


TOKEN = keys.timestamp(CLOCK, b"signature", NOW)


@settings(max_examples=150)
@given(st.data())
def test_no_damaged_timestamp_holds(data):
    """Any byte changed: it is refused, or says what it said."""
    place = data.draw(st.integers(0, len(TOKEN) - 1))
    damaged = TOKEN[:place] + bytes([data.draw(st.integers(0, 255))]) + TOKEN[place + data.draw(st.integers(0, 1)) :]
    try:
        found = check_timestamp(damaged, b"signature", [CLOCK_CA.root])
    except VerificationError as exc:
        assert exc.check in (4, 5)  # noqa: PT017 - either outcome is looked at
        return
    assert (found.earliest, found.latest) == (NOW - dt.timedelta(seconds=1), NOW + dt.timedelta(seconds=1))


ROOT, LIST = CA.root, crl(CA, 5).der


@settings(max_examples=150)
@given(st.data())
def test_damaged_files_of_the_caller_are_errors_of_ours(data):
    """What `cryptography` reads only on use, names and keys, is noticed when the file is read."""
    original = data.draw(st.sampled_from([ROOT, LIST]))
    place = data.draw(st.integers(0, len(original) - 1))
    damaged = original[:place] + bytes([data.draw(st.integers(0, 255))]) + original[place + 1 :]
    try:
        if original is ROOT:
            assert TrustStore.parse("ca", "acme", damaged).certificates == (damaged,)
        elif RevocationList.parse(damaged).revoked(ADA.certificate, CA.certificate, NOW) is not None:
            read = x509.load_der_x509_crl
            assert read(damaged).tbs_certlist_bytes == read(LIST).tbs_certlist_bytes
    except ConfigurationError as exc:
        assert exc.message  # noqa: PT017 - either outcome is looked at


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_no_timestamp(data):
    """The error is ours."""
    with pytest.raises(VerificationError):
        check_timestamp(data, b"signature", [CLOCK_CA.root])


# --- levels and documents --------------------------------------------------------------------------------------------


def test_permissive_logs_what_it_does_not_enforce():
    """An expired signature and certificate pass, with a warning each among the facts; another CA does not."""
    signer = leaf(days=2)
    signed = record(envelope(JWS_MEDIA_TYPE, signer, expiry=NOW + DAY))
    facts = dict(policy(level="permissive").check(evidence(signed, now=NOW + 9 * DAY)))
    assert set(facts) >= {"oci.warning.expiry", "oci.warning.authenticTimestamp"}
    assert refused(JWS_MEDIA_TYPE, leaf(ca=OTHER_CA), policy=policy(level="permissive")) == 5
    strict_about_expiry = {"level": "permissive", "override": {"expiry": "enforce"}}
    assert fails(policy(signatureVerification=strict_about_expiry), signed, now=NOW + 9 * DAY) == 5


@pytest.mark.parametrize("level", ["audit", "skip"])
def test_levels_that_verify_nobody_are_refused_unless_they_are_meant(level):
    """And then the facts say so; audit still wants a signature of this very manifest."""
    nobody = {"trustStores": None, "trustedIdentities": None} if level == "skip" else {}
    with pytest.raises(ConfigurationError, match="verifies nobody"):
        policy(level=level, **nobody)
    stores = [] if level == "skip" else None
    meant = policy(level=level, stores=stores, unsafe_levels=True, **nobody)
    facts = dict(meant.check(evidence(record(envelope(JWS_MEDIA_TYPE, leaf(ca=OTHER_CA))))))
    assert facts["oci.level"] == level
    if level == "audit":
        assert "trust store" in facts["oci.warning.authenticity"]
        assert fails(meant) == 2
        other = keys.payload(str(Digest.of(b"x")), 1, MEDIA_TYPE)
        assert refused(JWS_MEDIA_TYPE, content=other, policy=meant) == 9
    custom = {"level": "strict", "override": {"authenticity": "log"}}
    with pytest.raises(ConfigurationError, match="verifies nobody"):
        policy(signatureVerification=custom)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": None},
        {"registryScopes": []},
        {"registryScopes": ["*", "a.example/b"]},
        {"registryScopes": ["a.example/b:v1"]},
        {"registryScopes": ["a.example"]},
        {"registryScopes": "*"},
        {"signatureVerification": None},
        {"signatureVerification": {}},
        {"signatureVerification": {"level": "Strict"}},
        {"signatureVerification": {"level": "strict", "overide": {}}},
        {"signatureVerification": {"level": "strict", "override": {"integrity": "log"}}},
        {"signatureVerification": {"level": "strict", "override": {"expiry": "skip"}}},
        {"signatureVerification": {"level": "strict", "override": {"age": "log"}}},
        {"signatureVerification": {"level": "skip", "override": {"expiry": "log"}}},
        {"signatureVerification": {"level": "strict", "verifyTimestamp": "never"}},
        {"trustStores": []},
        {"trustStores": ["acme"]},
        {"trustStores": ["ca:../acme"]},
        {"trustStores": ["ca:.."]},
        {"trustStores": ["pgp:acme"]},
        {"trustedIdentities": []},
        {"trustedIdentities": ["*", "x509.subject: C=US, ST=WA, O=Acme"]},
        {"trustedIdentities": ["x509.subject: C=US, O=Acme"]},
        {"trustedIdentities": ["x509.subject:"]},
        {"trustedIdentities": ["x509.subject: C=US, ST=WA, O=#414243"]},
        {"trustedIdentities": ["x509.subject: C=US+ST=WA, O=Acme"]},
        {"trustedIdentities": ["x509.subject: C=US, ST=WA, O=Acme, O=Evil"]},
        {"trustedIdentities": ["email: ada@example.com"]},
        {"trustedIdentities": ["x509.subject: C=US, ST=WA, O=Acme", "x509.subject: C=US, ST=WA, O=Acme, CN=Ada"]},
        {"trustPolicy": "typo"},
        {"globalPolicy": True},
    ],
)
def test_a_trust_policy_that_notation_would_refuse_is_refused(changes):
    """A misspelt restriction is none."""
    with pytest.raises(ConfigurationError):
        TrustPolicy.parse(json.dumps(trust_policy(**changes)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": "2.0", "trustPolicies": []}',
        '{"version": "1.0", "trustPolicies": []}',
        '{"version": "1.0", "version": "1.0", "trustPolicies": [{}]}',
        "[" * 100_000,
        json.dumps({"version": "1.0", "trustPolicies": trust_policy()["trustPolicies"] * 2}),
    ],
)
def test_what_is_no_trust_policy_is_refused(text):
    """Neither empty nor ambiguous ones."""
    with pytest.raises(ConfigurationError):
        TrustPolicy.parse(text)


def test_a_store_that_is_named_has_to_be_there():
    """Missing is an error, never an omission."""
    with pytest.raises(ConfigurationError, match="ca:acme"):
        policy(stores=[])
    with pytest.raises(ConfigurationError, match="ca:acme"):
        policy(stores=[TrustStore("tsa", "acme", (CA.root,))])


def test_notations_own_directory_is_read(tmp_path):
    """Trust policy, trust stores of PEM and DER, revocation lists."""
    directory = tmp_path / "truststore" / "x509" / "ca" / "acme"
    directory.mkdir(parents=True)
    (tmp_path / "trustpolicy.json").write_text(json.dumps(trust_policy()))
    with pytest.raises(ConfigurationError, match=f"{directory} has no certificates"):
        NotationSignature.from_directory(tmp_path)
    (directory / "root.der").write_bytes(CA.root)
    (directory / "other.pem").write_bytes(OTHER_CA.certificate.public_bytes(Encoding.PEM))
    (directory / "README").write_text("not a certificate")
    (tmp_path / "ca.crl").write_bytes(crl().der)
    found = NotationSignature.from_directory(tmp_path, crls=[tmp_path / "ca.crl"])
    assert found.check(evidence(record(envelope(JWS_MEDIA_TYPE))))
    assert len(found.crls) == 1
    (directory / "bad.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigurationError, match="not certificates"):
        NotationSignature.from_directory(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot read"):
        NotationSignature.from_directory(tmp_path / "missing")


def test_what_notation_would_not_put_into_a_trust_store_is_refused():
    """A signer who is neither an authority nor his own; for timestamps whatever is no root; and what is no certificate."""
    alone = keys.issue(keys.name("Test"), keys.new_key("p256"), now=NOW)
    middle = keys.issue(keys.name("Middle"), keys.new_key("p256"), CA, ca=True, now=NOW)
    for kind in ("ca", "signingAuthority"):
        for good in (CA, alone, middle):
            assert TrustStore.parse(kind, "acme", good.ders[0]).certificates == (good.ders[0],)
        with pytest.raises(ConfigurationError, match="nor signed by itself"):
            TrustStore.parse(kind, "acme", CA.root, ADA.ders[0])
    with pytest.raises(ConfigurationError, match="is not a root"):
        TrustStore.parse("tsa", "acme", middle.ders[0])
    for nothing in ((), (b"",), (b"-----BEGIN nothing",), (b"x" * 2_000_000,)):
        with pytest.raises(ConfigurationError):
            TrustStore.parse("ca", "acme", *nothing)
    with pytest.raises(ConfigurationError, match="kind of trust store"):
        TrustStore.parse("pgp", "acme", CA.root)


def test_whatever_decides_changes_the_digest():
    """Policy, stores, lists, annotations, repository; and equal policies are equal."""
    policies = [
        policy(),
        policy(OTHER_CA),
        policy(level="permissive"),
        policy(trustedIdentities=["x509.subject: C=US, ST=WA, O=Acme"]),
        policy(crls=[crl()]),
        policy(annotations={"a": "b"}),
        policy(repository="a.example/b"),
        policy(unsafe_levels=True),
    ]
    assert len({str(each.digest) for each in policies}) == len(policies)
    assert policy().digest == policy().digest
    assert pickle.loads(pickle.dumps(policies[4])) == policies[4]
    assert hash(policies[0]) == hash(policy())
    assert OCISource(f"oci://{REPOSITORY}", verify=policies[0]).verify == policies[0]


# --- damaged bytes ---------------------------------------------------------------------------------------------------


def certified(chain):
    """What is signed of certificates. Their signatures themselves can be written in more than one way, and nobody signs which."""
    return [x509.load_der_x509_certificate(each).tbs_certificate_bytes for each in chain]


GOOD = {form: make(ADA, document(), when=NOW) for form, make in FORMS.items()}


@settings(max_examples=300)
@given(st.data())
def test_no_damaged_envelope_holds(data):
    """Any byte changed, removed, added or repeated: a check fails, unless nobody signs what changed."""
    form = data.draw(st.sampled_from(list(FORMS)))
    good = GOOD[form]
    place = data.draw(st.integers(0, len(good) - 1))
    how = data.draw(st.sampled_from(["change", "remove", "add", "cut"]))
    byte = bytes([data.draw(st.integers(0, 255))])
    damaged = {
        "change": good[:place] + byte + good[place + 1 :],
        "remove": good[:place] + good[place + 1 :],
        "add": good[:place] + byte + good[place:],
        "cut": good[:place],
    }[how]
    try:
        STRICT.check(evidence(record(damaged, form)))
    except VerificationError as exc:
        assert exc.check in range(1, 11)  # noqa: PT017 - either outcome is looked at
        return
    kept, original = Envelope.parse(form, damaged), Envelope.parse(form, good)
    assert (kept.signed, kept.signature) == (original.signed, original.signature)
    assert certified(kept.chain) == certified(original.chain)


@given(st.binary(max_size=200), st.sampled_from(list(FORMS)))
def test_arbitrary_bytes_are_no_envelope(data, form):
    """The error is ours, and its number is 3 or 4."""
    with pytest.raises(VerificationError) as caught:
        Envelope.parse(form, data)
    assert caught.value.check in (3, 4)


CBOR = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.integers(-9, 9) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(CBOR)
def test_cbor_round_trips(value):
    """What was written is what is read."""
    assert decode(keys.cbor(value)) == value
    assert decode(keys.cbor(keys.Tagged(18, value))) == Tag(18, value)


@given(st.binary(max_size=60))
def test_cbor_has_one_form_for_each_value(data):
    """Whatever is read is written the same way; everything else is refused, with our error."""

    def again(value):
        if isinstance(value, Tag):
            return keys.Tagged(value.number, again(value.value))
        if isinstance(value, list):
            return [again(each) for each in value]
        return {key: again(each) for key, each in value.items()} if isinstance(value, dict) else value

    try:
        value = decode(data)
    except CBORError:
        return
    assert keys.cbor(again(value)) == data


@pytest.mark.parametrize(
    "text", ["9fff", "f97e00", "1801", "a201000100", "a1f500", "9b7fffffffffffffff", "c2" * 40, "f814", "ff"]
)
def test_cbor_that_can_be_read_in_two_ways_is_refused(text):
    """Indefinite lengths, fractions, long forms, keys twice, lengths beyond the end, depth."""
    with pytest.raises(CBORError):
        decode(bytes.fromhex(text))


@given(st.dictionaries(st.sampled_from(["CN", "OU", "L"]), st.text(min_size=1, max_size=12), max_size=3))
def test_distinguished_names_are_read_as_they_are_escaped(more):
    """`cryptography` escapes as RFC 4514 says; what it wrote is read as what it was."""
    attributes = {"C": "US", "ST": "WA", "O": "Acme, Inc."} | more
    oids = keys._OIDS | {"L": x509.NameOID.LOCALITY_NAME}
    try:
        name = x509.Name([x509.NameAttribute(oids[key], value) for key, value in attributes.items()])
        text = name.rfc4514_string()
    except (ValueError, UnicodeEncodeError):
        return
    if "=#" in text:
        return
    assert dict(DistinguishedName.parse(text).attributes) == attributes

"""Throws damaged documents at everything that reads notation's signatures, and signed locks: `python tests/fuzz_notation.py --seconds 300`.

Envelopes, with and without timestamps; headers and payloads that are signed again afterwards, so that their readers are reached; CBOR,
certificate chains, timestamps, trust stores, revocation lists, trust policies, names; locks and all three forms of their signatures.
Whatever comes of it has to be an error of ours, or to say what it said before. The same seed throws the same, but for keys and what
they sign; `--case` throws one of it again.
"""

import base64
import json
import logging
import sys

from cryptography import x509

from fluxsrc.errors import ConfigurationError, VerificationError
from fluxsrc.signatures.notation import RevocationList, TrustPolicy, TrustStore
from fluxsrc.signatures.notation.cbor import CBORError, Tag, decode
from fluxsrc.signatures.notation.chain import Chain
from fluxsrc.signatures.notation.envelope import Envelope
from fluxsrc.signatures.notation.names import DistinguishedName
from fluxsrc.signatures.notation.timestamp import check_timestamp
from fluxsrc.signed_lock import SignedLock
from fuzzing import run
from unit import test_notation as unit
from unit import test_signed_lock as locks

keys, JWS, COSE = unit.keys, unit.JWS_MEDIA_TYPE, unit.COSE_MEDIA_TYPE
CLOCKED = unit.clocked()
ENVELOPES = [(form, data, unit.STRICT) for form, data in unit.GOOD.items()]
ENVELOPES += [(form, unit.stamped(form).payload, CLOCKED) for form in unit.GOOD]
LIST = unit.crl(unit.CA, 5).der
POLICY = unit.trust_policy(trustedIdentities=["x509.subject: C=US, ST=WA, O=Acme"], registryScopes=["a.example/b"])


def verdict(form, data, policy=unit.STRICT):
    """None, or the number of the check that failed."""
    try:
        policy.check(unit.evidence(unit.record(data, form)))
    except VerificationError as exc:
        if exc.check not in range(2, 11):
            raise
        return exc.check
    return None


def envelope(fuzzer):
    form, good, policy = fuzzer.random.choice(ENVELOPES)
    data = fuzzer.bytes(good) if form == COSE else fuzzer.document(json.loads(good))
    check = verdict(form, data, policy)
    if check is None:
        kept, original = Envelope.parse(form, data), Envelope.parse(form, good)
        assert (kept.signed, kept.signature) == (original.signed, original.signature)
        assert unit.certified(kept.chain) == unit.certified(original.chain)
    return check


def signed_jws(fuzzer):
    value = json.loads(unit.GOOD[JWS])
    part = fuzzer.random.choice(["protected", "payload"])
    inside = json.loads(base64.urlsafe_b64decode(value[part] + "=="))
    value[part] = keys.b64url(fuzzer.document(inside))
    value["signature"] = keys.b64url(unit.ADA.raw(f"{value['protected']}.{value['payload']}".encode()))
    check = verdict(JWS, json.dumps(value).encode())
    if check is None:
        assert unit.DIGEST.hex in base64.urlsafe_b64decode(value["payload"] + "==").decode()
    return check


def signed_cose(fuzzer):
    protected, header, payload, _ = decode(unit.GOOD[COSE]).value
    if fuzzer.random.random() < 0.5:
        protected = fuzzer.bytes(protected)
    else:
        payload = fuzzer.document(json.loads(payload))
    signature = unit.ADA.raw(keys.cbor(["Signature1", protected, b"", payload]))
    check = verdict(COSE, keys.cbor(keys.Tagged(18, [protected, header, payload, signature])))
    if check is None:
        assert unit.DIGEST.hex in payload.decode()
    return check


def cbor(fuzzer):
    data = fuzzer.bytes(unit.GOOD[COSE])
    try:
        value = decode(data)
    except CBORError:
        return "refused"
    assert keys.cbor(_again(value)) == data
    return None


def _again(value):
    if isinstance(value, Tag):
        return keys.Tagged(value.number, _again(value.value))
    if isinstance(value, list):
        return [_again(each) for each in value]
    return {key: _again(each) for key, each in value.items()} if isinstance(value, dict) else value


def chain(fuzzer):
    original = list(unit.ADA.ders)
    damaged = [fuzzer.bytes(each) if fuzzer.random.random() < 0.7 else each for each in original]
    try:
        found = Chain.parse(damaged)
    except VerificationError as exc:
        return exc.check
    assert unit.certified(damaged) == unit.certified(original)
    assert found.subject
    return None


def timestamp(fuzzer):
    try:
        found = check_timestamp(fuzzer.bytes(unit.TOKEN), b"signature", [unit.CLOCK_CA.root])
    except VerificationError as exc:
        return exc.check
    assert found.earliest < unit.NOW < found.latest
    return None


def trust_store(fuzzer):
    try:
        TrustStore.parse(fuzzer.random.choice(["ca", "tsa"]), "acme", fuzzer.bytes(unit.CA.root))
    except ConfigurationError:
        return "refused"
    return None


def revocation_list(fuzzer):
    try:
        damaged = RevocationList.parse(fuzzer.bytes(LIST))
        found = damaged.revoked(unit.ADA.certificate, unit.CA.certificate, unit.NOW)
    except ConfigurationError:
        return "refused"
    if found is not None:
        read = x509.load_der_x509_crl
        assert read(damaged.der).tbs_certlist_bytes == read(LIST).tbs_certlist_bytes
    return None


def trust_policy(fuzzer):
    try:
        TrustPolicy.parse(fuzzer.document(POLICY).decode(errors="replace"))
    except ConfigurationError:
        return "refused"
    return None


def name(fuzzer):
    try:
        DistinguishedName.parse(fuzzer.bytes(rb"C=US, ST=WA, O=Acme\, Inc., CN=a\20b").decode(errors="replace"))
    except ConfigurationError:
        return "refused"
    return None


def lock(fuzzer):
    text, signature = locks.LOCK, fuzzer.random.choice([locks.GOOD_SSH, locks.GOOD_BUNDLE, locks.GOOD_COSIGN])
    if fuzzer.random.random() < 0.3:
        text = fuzzer.bytes(text)
    elif signature is locks.GOOD_BUNDLE:
        signature = fuzzer.document(json.loads(signature))
    else:
        signature = fuzzer.bytes(signature)
    try:
        SignedLock(text, signature, keys=[locks.ALLOWED, locks.COSIGN_PUBLIC]).check(locks.EVIDENCE)
    except VerificationError as exc:
        if exc.check not in range(3, 14):
            raise
        return exc.check
    assert text == locks.LOCK
    return None


TARGETS = [
    envelope,
    signed_jws,
    signed_cose,
    cbor,
    chain,
    timestamp,
    trust_store,
    revocation_list,
    trust_policy,
    name,
    lock,
]


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    sys.exit(run(TARGETS, __doc__))

"""Throws damaged documents at everything that reads signatures of cosign's: `python tests/fuzz_cosign.py --seconds 300`.

Bundles, payloads, statements, annotations, certificates, timestamps, trusted roots, signing configs and keys: bytes are changed in
them, also within what is in base64, and values replaced by what has no business there; statements and payloads are signed again
afterwards, so that their readers are reached. Whatever comes of it has to be an error of ours, or to say what it said before; and
to take no time worth speaking of. The same seed throws the same, but for keys and what they sign; `--case` throws one of it again.
"""

import base64
import datetime as dt
import json
import sys
from pathlib import Path

import attrs

from fluxsrc.auth import Secret
from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, VerificationError
from fluxsrc.signatures import CosignKeylessSignature, CosignKeySignature, Identity, PublicKey, TrustedRoot
from fluxsrc.signatures.publickeys import parse_public_keys
from fluxsrc.signatures.statements import key_bundle, simple_signing, statement
from fluxsrc.signing import SigningConfig, SigningKey
from fuzzing import run
from helpers import small_sigstore as small

UNIT = Path(__file__).parent / "unit"
DATA = UNIT / "data" / "keyless"


MANIFEST = (DATA / "manifest.json").read_bytes()
DIGEST = Digest.of(MANIFEST)
ROOT = (DATA / "trusted_root.json").read_bytes()
WHO = json.loads((DATA / "identity.json").read_text())
KEY = SigningKey.generate()
BY_KEY = CosignKeySignature(KEY.public, annotations={"env": "prod"})
BY_NAME = CosignKeylessSignature(Identity(WHO["issuer"], WHO["subject"]), trusted_root=TrustedRoot.parse(ROOT))
CLAIM = statement(DIGEST, "registry.example/app", {"env": "prod"})
PAYLOAD = simple_signing(DIGEST, "registry.example/app", {"env": "prod"})
LAYOUT = json.loads((DATA / "first-layout.json").read_text())
EVIDENCE = attrs.evolve(small.evidence(now=dt.datetime(2026, 11, 22, tzinfo=dt.UTC)), content=MANIFEST, digest=DIGEST)


def issuer(fuzzer):
    """The issuer's name as a certificate has it, perhaps damaged."""
    whole = small.utf8string(small.ISSUER)
    return whole if fuzzer.random.random() < 0.3 else fuzzer.bytes(whole)


def verdict(policy, record, evidence=EVIDENCE):
    """None, or the number of the check that failed."""
    try:
        policy.check(attrs.evolve(evidence, records=(record,)))
    except VerificationError as exc:
        if exc.check not in range(2, 11):
            raise
        return exc.check
    return None


def keyed_bundle(fuzzer):
    bundle = json.loads(key_bundle(KEY, CLAIM))
    data = fuzzer.document(bundle)
    check = verdict(BY_KEY, small.bundle_record(data))
    if check is None:
        assert base64.b64decode(json.loads(data)["dsseEnvelope"]["payload"]) == CLAIM
    return check


def signed_statement(fuzzer):
    data = fuzzer.document(json.loads(CLAIM))
    check = verdict(BY_KEY, small.bundle_record(key_bundle(KEY, data)))
    if check is None:
        assert DIGEST.hex in data.decode()
    return check


def signed_payload(fuzzer):
    data = fuzzer.document(json.loads(PAYLOAD))
    notes = {"dev.cosignproject.cosign/signature": small.b64(KEY.sign(data))}
    check = verdict(BY_KEY, small.legacy_record(data, notes))
    if check is None:
        assert DIGEST.hex in data.decode()
    return check


def keyless_bundle(fuzzer):
    name = fuzzer.random.choice(("bundle-v1", "bundle-v2"))
    original = json.loads((DATA / f"{name}.json").read_text())
    data = fuzzer.document(original)
    check = verdict(BY_NAME, small.bundle_record(data))
    if check is None:
        changed = json.loads(data)
        assert changed["dsseEnvelope"]["payload"] == original["dsseEnvelope"]["payload"]
        assert changed["verificationMaterial"]["certificate"] == original["verificationMaterial"]["certificate"]
    return check


def keyless_annotations(fuzzer):
    name = fuzzer.random.choice([*LAYOUT["annotations"], ""])
    notes, payload = dict(LAYOUT["annotations"]), LAYOUT["payload"].encode()
    if name:
        notes[name] = fuzzer.text(notes[name])
    else:
        payload = fuzzer.document(json.loads(payload))
    check = verdict(BY_NAME, small.legacy_record(payload, notes))
    if check is None:
        assert payload == LAYOUT["payload"].encode()
    return check


def certificate(fuzzer):
    """What an authority might sign, and then names nobody, or somebody in an odd way."""
    sigstore = certificate.sigstore
    payload = small.simple_payload()
    try:
        names = [fuzzer.random.choice(certificate.names)(fuzzer) for _ in range(fuzzer.random.choice((0, 1, 1, 1, 2)))]
        issuers = [(number, issuer(fuzzer)) for number in fuzzer.random.choice(("", "1", "8", "8", "18"))]
        key, made = sigstore.issue(issuers=issuers, names=names)
    except (ValueError, TypeError, OverflowError):
        return "not made"  # it cannot even be written down
    notes = sigstore.legacy(payload, key=key, certificate=made)
    return verdict(certificate.policy, small.legacy_record(payload, notes), small.evidence())


def trusted_root(fuzzer):
    data = fuzzer.document(json.loads(ROOT))
    try:
        root = TrustedRoot.parse(data)
    except ConfigurationError:
        return "refused"
    name = fuzzer.random.choice(("bundle-v1", "bundle-v2"))
    verdict(attrs.evolve(BY_NAME, trusted_root=root), small.bundle_record((DATA / f"{name}.json").read_bytes()))
    return None


def signing_config(fuzzer):
    try:
        SigningConfig(fuzzer.document(signing_config.original)).model(TrustedRoot(ROOT))
    except ConfigurationError:
        return "refused"
    return None


def keys(fuzzer):
    if fuzzer.random.random() < 0.5:
        try:
            SigningKey.parse(Secret(fuzzer.text(KEY.pem().reveal())), None)
        except ConfigurationError:
            return "refused"
        return None
    try:
        found = [PublicKey.from_der(fuzzer.bytes(KEY.public.der))] if fuzzer.random.random() < 0.5 else None
        found = found or parse_public_keys(fuzzer.text(KEY.public.pem))
    except ConfigurationError:
        return "refused"
    signature = KEY.sign(b"message")
    assert all(key == KEY.public or key.verify(signature, b"message") is None for key in found)
    return None


def prepare():
    """What is made once: an instance whose authority signs anything, and the public one's signing config."""
    from cryptography import x509

    certificate.sigstore = small.SmallSigstore()
    certificate.policy = CosignKeylessSignature(
        Identity(small.ISSUER, small.SUBJECT), trusted_root=TrustedRoot.parse(certificate.sigstore.trusted_root())
    )
    other = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7")
    certificate.names = [
        lambda fuzzer: x509.RFC822Name(fuzzer.bytes(small.SUBJECT.encode()).decode("ascii")),
        lambda fuzzer: x509.UniformResourceIdentifier(fuzzer.bytes(b"https://ci.example.com/x").decode("ascii")),
        lambda fuzzer: x509.OtherName(other, fuzzer.bytes(small.utf8string(small.SUBJECT))),
        lambda _: x509.DNSName("example.com"),
        lambda _: x509.RFC822Name(small.SUBJECT),
        lambda _: x509.RFC822Name(small.SUBJECT),
    ]
    signing_config.original = json.loads(SigningConfig.bundled().content)


TARGETS = [
    *(keyed_bundle, signed_statement, signed_payload, keyless_bundle, keyless_annotations, certificate),
    *(trusted_root, signing_config, keys),
]  # fmt: skip


if __name__ == "__main__":
    prepare()
    sys.exit(run(TARGETS, __doc__))

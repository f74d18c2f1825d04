"""Signatures that cosign made with a real Fulcio and a real Rekor: they hold, and nothing in them can be changed.

The second Rekor tells no time: a timestamp authority does. What that makes possible besides is attacked here; see
`data/keyless/README.md` for where the recordings come from.
"""

import base64
import datetime as dt
import json
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxsrc.digest import Digest
from fluxsrc.errors import VerificationError
from fluxsrc.signatures import CosignKeylessSignature, Identity, TrustedRoot
from helpers import small_sigstore as small

DATA = Path(__file__).parent / "data" / "keyless"
MANIFEST = (DATA / "manifest.json").read_bytes()
ROOT = (DATA / "trusted_root.json").read_bytes()
WHO = json.loads((DATA / "identity.json").read_text())
SIGNED = dt.datetime(2026, 11, 21, 6, 52, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def recorded(name):
    return json.loads((DATA / f"{name}.json").read_text())


def record(name, value=None):
    """What lay in the registry, or something else in its place."""
    value = recorded(name) if value is None else value
    if name == "first-layout":
        return small.legacy_record(value["payload"].encode(), value["annotations"])
    return small.bundle_record(value)


def policy(root=ROOT, subject=WHO["subject"], **options):
    return CosignKeylessSignature(Identity(WHO["issuer"], subject), trusted_root=TrustedRoot.parse(root), **options)


POLICY = policy()


def evidence(*records, now=SIGNED + DAY, content=MANIFEST):
    return attrs.evolve(small.evidence(*records, now=now), content=content, digest=Digest.of(content))


def refused(wanted, *records, **options):
    with pytest.raises(VerificationError) as caught:
        wanted.check(evidence(*records, **options))
    return caught.value.check


@pytest.mark.parametrize(
    ("name", "inclusion"), [("bundle-v1", "proof"), ("bundle-v2", "proof"), ("first-layout", "promise")]
)
def test_what_cosign_signed_holds(name, inclusion):
    """In both logs and both layouts: by whom, when, and where it is written down."""
    facts = dict(POLICY.check(evidence(record(name))))
    assert (facts["oci.signer"], facts["oci.issuer"]) == (WHO["subject"], WHO["issuer"])
    assert facts["oci.inclusion"] == inclusion
    assert facts["oci.signed"].startswith("2026-11-21T06:52:")
    assert int(facts["oci.log_index"]) > 0


@pytest.mark.parametrize("name", ["bundle-v1", "bundle-v2", "first-layout"])
def test_the_same_for_something_else_or_somebody_else_does_not(name):
    """Another digest, another name, another trusted root, an earlier time."""
    good = record(name)
    assert refused(POLICY, good, content=MANIFEST + b"\n") == 9
    assert refused(policy(subject="eve@example.com"), good) == 7
    assert refused(policy(small.SmallSigstore().trusted_root()), good) == 5
    assert refused(POLICY, good, now=SIGNED - DAY) == 5


# --- attacks on what only the second Rekor has -----------------------------------------------------------------------


def _entry(bundle):
    return bundle["verificationMaterial"]["tlogEntries"][0]


def _body(bundle):
    return json.loads(base64.b64decode(_entry(bundle)["canonicalizedBody"]))["spec"]["hashedRekordV002"]


def _with_body(bundle, **changes):
    entry = json.loads(base64.b64decode(_entry(bundle)["canonicalizedBody"]))
    entry["spec"]["hashedRekordV002"] |= changes
    _entry(bundle)["canonicalizedBody"] = small.b64(small.canonical(entry))


def no_timestamps(bundle):
    del bundle["verificationMaterial"]["timestampVerificationData"]


def empty_timestamps(bundle):
    bundle["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": []}


def timestamp_twice(bundle):
    bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"] *= 2


def timestamp_that_is_no_der(bundle):
    stamps = bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    stamps[0]["signedTimestamp"] = small.b64(b"nonsense")


def timestamp_cut_short(bundle):
    stamps = bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    stamps[0]["signedTimestamp"] = small.b64(base64.b64decode(stamps[0]["signedTimestamp"])[:-1])


def timestamp_with_another_time(bundle):
    stamps = bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    data = base64.b64decode(stamps[0]["signedTimestamp"])
    stamps[0]["signedTimestamp"] = small.b64(data.replace(b"20261121065228Z", b"20261121065529Z"))


def time_of_the_log_in_place_of_a_timestamp(bundle):
    """The log does not sign it, so it is worth nothing."""
    no_timestamps(bundle)
    _entry(bundle)["integratedTime"] = str(int(SIGNED.timestamp()) + 30)


def time_of_the_log_with_somebodys_promise(bundle):
    time_of_the_log_in_place_of_a_timestamp(bundle)
    _entry(bundle)["inclusionPromise"] = {"signedEntryTimestamp": small.b64(b"0" * 70)}


def entry_about_another_artifact(bundle):
    _with_body(bundle, data=_body(bundle)["data"] | {"digest": small.b64(b"0" * 32)})


def entry_about_another_signature(bundle):
    _with_body(bundle, signature=_body(bundle)["signature"] | {"content": small.b64(b"0" * 70)})


def entry_of_the_first_rekor(bundle):
    bundle["verificationMaterial"]["tlogEntries"] = recorded("bundle-v1")["verificationMaterial"]["tlogEntries"]


def entry_that_calls_itself_older(bundle):
    _entry(bundle)["kindVersion"]["version"] = "0.0.1"


def checkpoint_of_another_log(bundle):
    proof = _entry(bundle)["inclusionProof"]
    proof["checkpoint"]["envelope"] = proof["checkpoint"]["envelope"].replace("rekor2.", "rekor3.")


def checkpoint_of_a_larger_tree(bundle):
    proof = _entry(bundle)["inclusionProof"]
    proof["checkpoint"]["envelope"] = proof["checkpoint"]["envelope"].replace("\n2\n", "\n3\n")


def no_checkpoint(bundle):
    del _entry(bundle)["inclusionProof"]["checkpoint"]


def proof_of_another_leaf(bundle):
    _entry(bundle)["inclusionProof"]["hashes"] = [small.b64(b"0" * 32)]


def proof_of_nothing(bundle):
    _entry(bundle)["inclusionProof"] |= {"hashes": [], "treeSize": "1", "logIndex": "0"}


def endless_proof(bundle):
    _entry(bundle)["inclusionProof"]["hashes"] *= 5000


@pytest.mark.parametrize(
    ("attack", "check"),
    [
        (no_timestamps, 3),
        (empty_timestamps, 3),
        (timestamp_twice, 5),
        (timestamp_that_is_no_der, 3),
        (timestamp_cut_short, 3),
        (timestamp_with_another_time, 5),
        (time_of_the_log_in_place_of_a_timestamp, 3),
        (time_of_the_log_with_somebodys_promise, 5),
        (entry_about_another_artifact, 6),
        (entry_about_another_signature, 6),
        (entry_of_the_first_rekor, 6),
        (entry_that_calls_itself_older, 6),
        (checkpoint_of_another_log, 6),
        (checkpoint_of_a_larger_tree, 6),
        (no_checkpoint, 3),
        (proof_of_another_leaf, 6),
        (proof_of_nothing, 6),
        (endless_proof, 6),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_attack_on_an_entry_of_the_second_rekor_fails_at_the_check_that_is_meant_to_stop_it(attack, check):
    """Every one of them is what cosign signed, but for the one thing its name says."""
    bundle = recorded("bundle-v2")
    attack(bundle)
    assert refused(POLICY, record("bundle-v2", bundle)) == check


def test_a_timestamp_of_another_signature_tells_no_time():
    """A good one, of a trusted authority and of the same minute, but over something else."""
    bundle = recorded("bundle-v1")
    del _entry(bundle)["inclusionPromise"]
    stamps = recorded("bundle-v2")["verificationMaterial"]["timestampVerificationData"]
    bundle["verificationMaterial"]["timestampVerificationData"] = stamps
    assert refused(POLICY, record("bundle-v1", bundle)) == 5


def test_a_timestamp_of_another_authority_tells_no_time():
    """The trusted one has other certificates."""
    root = json.loads(ROOT)
    chain = root["certificateAuthorities"][0]["certChain"]
    root["timestampAuthorities"][0]["certChain"] = chain
    assert refused(policy(small.canonical(root)), record("bundle-v2")) == 5


@pytest.mark.parametrize("service", ["timestampAuthorities", "tlogs"])
@pytest.mark.parametrize("period", [small.period(end=SIGNED - DAY), small.period(SIGNED + DAY)], ids=["past", "future"])
def test_what_was_not_in_use_when_it_was_signed_vouches_for_nothing(service, period):
    """A timestamp authority or a log that was retired, or not yet there."""
    root = json.loads(ROOT)
    for item in root[service]:
        (item["publicKey"] if service == "tlogs" else item)["validFor"] = period
    assert refused(policy(small.canonical(root)), record("bundle-v2")) == (6 if service == "tlogs" else 5)


def test_without_timestamp_authorities_no_timestamp_counts():
    """Others than the public instance may have none."""
    root = json.loads(ROOT) | {"timestampAuthorities": []}
    assert refused(policy(small.canonical(root)), record("bundle-v2")) == 5
    assert policy(small.canonical(root)).check(evidence(record("bundle-v1")))


def _leaves(value, path=()):
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, (*path, key))
    else:
        yield path


@pytest.mark.parametrize("name", ["bundle-v1", "bundle-v2"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_byte_of_anything_in_a_bundle_changed_holds_only_if_it_says_the_same(name, data):
    """Also within what is in base64: a bit flipped in certificate, entry, timestamp, payload, signature or checkpoint."""
    bundle = recorded(name)
    path = data.draw(st.sampled_from(sorted(_leaves(bundle), key=str)))
    place = bundle
    for key in path[:-1]:
        place = place[key]
    text = place[path[-1]]
    try:
        raw, packed = bytearray(base64.b64decode(text, validate=True)), True
    except ValueError:
        raw, packed = bytearray(text.encode()), False
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    place[path[-1]] = small.b64(raw) if packed else raw.decode("latin-1")
    try:
        facts = dict(POLICY.check(evidence(record(name, bundle))))
    except VerificationError as exc:
        assert exc.check  # noqa: PT017 - most changes are refused, some change nothing
    else:
        assert facts["oci.signer"] == WHO["subject"]
        assert bundle["dsseEnvelope"] == recorded(name)["dsseEnvelope"]
        assert bundle["verificationMaterial"]["certificate"] == recorded(name)["verificationMaterial"]["certificate"]

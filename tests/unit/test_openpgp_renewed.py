"""OpenPGP keys that were renewed after they had signed: gpg's export says nothing of the time before, and what was signed holds on."""

import datetime as dt
import json
from pathlib import Path

import pysequoia
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxsrc.errors import VerificationError
from fluxsrc.signatures.openpgp import OpenPGPKeys, verify_openpgp
from fluxsrc.signatures.openpgp_packets import holds_since_renewed

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "openpgp-renewed" / "vectors.json").read_text())
MESSAGE = VECTORS["message"].encode()
KEYS = VECTORS["keys"]
NOW = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
ALL = sorted(KEYS)


def verify(name, *, key="new", message=MESSAGE, now=NOW, **options):
    keys = OpenPGPKeys.parse(KEYS[name][key])
    return verify_openpgp(KEYS[name]["signature"].encode(), message, keys, now=now, **options)


def packets(armored):
    pile = pysequoia.packet.PacketPile.from_bytes(armored.encode())
    return [(str(packet.tag).rpartition(".")[2], packet.body) for packet in pile]


def holds(name, *, certificate=None, signature=None, message=MESSAGE, signing=None):
    made = KEYS[name]
    body = packets(made["signature"])[0][1] if signature is None else signature
    parts = packets(made["new"]) if certificate is None else certificate
    return holds_since_renewed(body, message, parts, (signing or made["signing"]).lower())


@pytest.mark.parametrize("name", ALL)
def test_what_was_signed_before_a_key_was_renewed_verifies(name):
    signer = verify(name)
    assert (signer.name, signer.key, signer.when.year) == ("Ada <ada@example.com>", KEYS[name]["signing"], 2022)
    assert verify(name, identities=["ada@example.com"]).name == "ada@example.com"


@pytest.mark.parametrize("name", ALL)
def test_a_key_that_was_not_renewed_in_time_is_expired(name):
    with pytest.raises(VerificationError) as caught:
        verify(name, key="old")
    assert caught.value.check == 7
    assert verify(name, key="old", now=dt.datetime(2022, 7, 1, tzinfo=dt.UTC)).key == KEYS[name]["signing"]


@pytest.mark.parametrize("name", ALL)
def test_a_renewed_key_does_not_sign_another_message(name):
    with pytest.raises(VerificationError) as caught:
        verify(name, message=MESSAGE + b"more")
    assert caught.value.check == 9


@pytest.mark.parametrize("name", ALL)
def test_a_renewed_key_that_expires_again_is_expired(name):
    with pytest.raises(VerificationError) as caught:
        verify(name, now=dt.datetime(2041, 1, 1, tzinfo=dt.UTC))
    assert caught.value.check == 7


def test_a_key_that_may_only_certify_since_then_does_not_sign():
    with pytest.raises(VerificationError) as caught:
        verify("ed25519", key="certifies-only")
    assert caught.value.check == 9


def test_what_only_a_revoked_name_says_does_not_count():
    """Of a name that is there no more; another name of the key says the same still."""
    parts = packets(KEYS["p256"]["name-revoked"])
    assert holds("p256", certificate=parts)
    second = [tag for tag, _ in parts].index("UserID", 2)
    assert not holds("p256", certificate=parts[:second])


@pytest.mark.parametrize("name", ALL)
def test_without_a_renewal_the_judgement_is_left_to_sequoia(name):
    assert holds(name)
    assert not holds(name, certificate=packets(KEYS[name]["old"]))


@pytest.mark.parametrize("name", ALL)
def test_a_key_does_not_speak_for_itself_without_its_own_signature(name):
    parts = packets(KEYS[name]["new"])
    assert not holds(name, certificate=[part for part in parts if part[0] != "Signature"])
    other = packets(KEYS["rsa" if name != "rsa" else "p384"]["new"])
    words = iter([body for tag, body in other if tag == "Signature"] * 2)
    forged = [(tag, next(words) if tag == "Signature" else body) for tag, body in parts]
    assert not holds(name, certificate=forged)


@pytest.mark.parametrize("name", ["subkey", "rsa-subkey"])
def test_a_subkey_of_somebody_else_is_not_taken_over(name):
    """Neither by putting it below another primary key, nor by a binding in which it does not agree."""
    mine, other = packets(KEYS["ed25519"]["new"]), packets(KEYS[name]["new"])
    below = [part[0] for part in other].index("PublicSubkey")
    assert not holds(name, certificate=[*mine, *other[below:]])
    assert not holds(name, signing=KEYS["ed25519"]["signing"])
    tag, binding = other[below + 1]
    assert binding.count(b"\x19") >= 1
    at = binding.index(b"\x04\x19")  # the signature within: by the subkey, over both keys
    assert not holds(name, certificate=[*other[: below + 1], (tag, binding[:at] + b"\x04\x18" + binding[at + 2 :])])


@given(name=st.sampled_from(ALL), data=st.data())
def test_a_signature_or_key_with_one_byte_changed_fails_or_says_the_same(name, data):
    """Only bytes that nobody signed may change: those that say who made a signature, beside it."""
    body = bytearray(packets(KEYS[name]["signature"])[0][1])
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    length = 6 + int.from_bytes(body[4:6])
    loose = range(length, length + 2 + int.from_bytes(body[length : length + 2]))
    assert at in loose or not holds(name, signature=bytes(body))
    parts = packets(KEYS[name]["new"])
    which = data.draw(st.sampled_from([n for n, (tag, _) in enumerate(parts) if tag in ("PublicKey", "PublicSubkey")]))
    key = bytearray(parts[which][1])
    key[data.draw(st.integers(0, len(key) - 1))] ^= data.draw(st.integers(1, 255))
    assert not holds(name, certificate=[*parts[:which], (parts[which][0], bytes(key)), *parts[which + 1 :]])


@given(signature=st.binary(max_size=400), key=st.binary(max_size=400), said=st.binary(max_size=400))
def test_bytes_of_any_kind_never_hold(signature, key, said):
    assert not holds("rsa", signature=signature)
    assert not holds("rsa", certificate=[("PublicKey", key), ("UserID", b"x"), ("Signature", said)])
    version = b"\x04\x00\x01\x08"
    assert not holds("rsa", signature=version + signature)


def test_a_signature_from_before_there_was_a_key_is_nobodys():
    body = packets(KEYS["ed25519"]["signature"])[0][1]
    at = body.index(b"\x05\x02") + 2  # the time of signing
    assert at < 6 + int.from_bytes(body[4:6])
    assert not holds("ed25519", signature=body[:at] + b"\x00\x00\x00\x01" + body[at + 4 :])

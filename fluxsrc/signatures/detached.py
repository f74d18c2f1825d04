"""Signatures beside a lock file: SSH's, as `ssh-keygen -Y sign` makes them, and cosign's, as its `sign-blob` does. Bytes in, verdicts out."""

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from fluxsrc.auth import Secret
from fluxsrc.digest import Digest
from fluxsrc.errors import VerificationError
from fluxsrc.signatures import sshsig
from fluxsrc.signatures.allowed_signers import AllowedSigners
from fluxsrc.signatures.oci import BUNDLE_MEDIA_TYPE
from fluxsrc.signatures.privatekeys import SigningKey
from fluxsrc.signatures.publickeys import PublicKey, parse_public_keys
from fluxsrc.signatures.sshsign import BEGIN_PRIVATE, sign_ssh
from fluxsrc.signatures.statements import Bundle, decode_base64
from fluxsrc.signatures.verdict import Check, Signer, failed

__all__ = ["MAX_SIGNATURE", "DetachedKeys", "Keys", "parse_keys", "sign_detached"]

MAX_SIGNATURE: Final = 64 * 1024
"""Bytes that a signature may have."""

Keys = AllowedSigners | PublicKey
"""Keys that are trusted."""


@attrs.frozen
class DetachedKeys:
    """Whose signatures over a lock file count.

    Attributes:
        keys: Allowed SSH signers and public keys; one of them has to have signed.
        identities: Principals of allowed signers one of which has to have signed; none given is anyone among the keys.
        namespace: What SSH signatures have to be made for.
    """

    keys: Sequence[Keys]
    identities: Sequence[str]
    namespace: str

    def verify(self, data: bytes, signature: bytes, *, now: dt.datetime) -> Signer:
        """Who signed exactly these bytes.

        Raises:
            VerificationError: One of the checks 3 to 9 of `fluxsrc.signed_lock.SignedLock` failed.
            MissingExtraError: There is nothing to check it with.
        """
        if not signature.strip():
            raise failed(Check.SIGNATURE, "the lock file is not signed")
        if len(signature) > MAX_SIGNATURE:
            raise failed(Check.FORM, f"a signature of more than {MAX_SIGNATURE:,} bytes")
        if not signature.startswith(sshsig.BEGIN):
            return self._verify_cosign(data, signature, now)
        signers = tuple(each for key in self.keys if isinstance(key, AllowedSigners) for each in key.signers)
        return sshsig.verify_ssh(
            signature,
            data,
            AllowedSigners(signers),
            when=now,
            now=now,
            identities=self.identities,
            namespace=self.namespace,
        )

    def _verify_cosign(self, data: bytes, signature: bytes, now: dt.datetime) -> Signer:
        bare = _signature_of_cosign(data, signature)
        if self.identities:
            raise failed(Check.SIGNER, f"signed with cosign, whose keys have no names: {' or '.join(self.identities)}")
        keys = [key for key in self.keys if isinstance(key, PublicKey)]
        if not keys:
            raise failed(Check.KEY, "signed with cosign, and no public key is trusted")
        for key in keys:
            algorithm = key.verify(bare, data)
            if algorithm is not None:
                return Signer("", key.fingerprint, now, "cosign", algorithm)
        raise failed(Check.CRYPTOGRAPHY, "the signature is not one over this lock file by any of the keys")


def _signature_of_cosign(data: bytes, signature: bytes) -> bytes:
    """The signature that cosign made, out of its bundle or its base64."""
    try:
        if not signature.lstrip().startswith(b"{"):
            return decode_base64(signature.decode("ascii").strip(), what="the signature")
        bundle = Bundle.parse(signature)
    except UnicodeDecodeError:
        raise failed(Check.FORM, "neither an SSH signature, nor a bundle, nor base64") from None
    except VerificationError as exc:
        raise failed(Check.FORM, exc.message.partition("): ")[2] or exc.message) from None
    if bundle.payload is not None:
        raise failed(Check.FORM, "the bundle has an envelope of its own, not a signature of the lock file")
    if "publicKey" not in bundle.material:
        raise failed(Check.ALGORITHM, "the bundle is of a certificate, not of a key")
    if bundle.message_digest is not None and bundle.message_digest.hex() != Digest.of(data).hex:
        raise failed(Check.CRYPTOGRAPHY, "the bundle is about another file")
    return bundle.signature


def sign_detached(data: bytes, private_key: Secret, *, passphrase: Secret | None, namespace: str) -> bytes:
    """A signature over these bytes: of an SSH key, SSH's; of a key in PEM, a bundle.

    Raises:
        ConfigurationError: The key cannot sign.
        MissingExtraError: There is nothing to sign with.
    """
    if BEGIN_PRIVATE in private_key.reveal():
        return sign_ssh(data, private_key, namespace=namespace, passphrase=passphrase)
    key = SigningKey.parse(private_key, passphrase)
    digest, signature = (base64.b64encode(each).decode() for each in (hashlib.sha256(data).digest(), key.sign(data)))
    bundle = {
        "mediaType": BUNDLE_MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.public.hint}},
        "messageSignature": {"messageDigest": {"algorithm": "SHA2_256", "digest": digest}, "signature": signature},
    }
    return json.dumps(bundle).encode() + b"\n"


def parse_keys(text: str) -> Iterable[Keys]:
    """Public keys in PEM, or allowed SSH signers.

    Raises:
        ConfigurationError: It is neither.
        MissingExtraError: There is nothing to read the keys with.
    """
    return parse_public_keys(text) if "-----BEGIN " in text else (AllowedSigners.parse(text),)

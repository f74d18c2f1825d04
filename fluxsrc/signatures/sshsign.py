"""`sign_ssh`: a signature as `ssh-keygen -Y sign` makes it, with a private key in memory; no agent is asked."""

import base64
import hashlib
import struct
from typing import TYPE_CHECKING, Final

from fluxsrc.auth import Secret
from fluxsrc.errors import ConfigurationError, MissingExtraError
from fluxsrc.signatures.sshkeys import KeyFormatError, SSHPublicKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.serialization import SSHPrivateKeyTypes

__all__ = ["BEGIN_PRIVATE", "sign_ssh"]

BEGIN_PRIVATE: Final = "-----BEGIN OPENSSH PRIVATE KEY-----"
_HASH: Final = "sha512"
_LINE: Final = 70


def sign_ssh(message: bytes, private_key: Secret, *, namespace: str, passphrase: Secret | None = None) -> bytes:
    """Sign with an Ed25519, ECDSA or RSA key.

    Args:
        message: What is signed.
        private_key: The key, as `ssh-keygen` writes it.
        namespace: What kind of thing the message is: a signature for one kind must not pass for another.
        passphrase: Of an encrypted key.

    Returns:
        The armored signature.

    Raises:
        ConfigurationError: The key is none, of a kind that cannot sign here, or the passphrase is missing or wrong.
        MissingExtraError: There is nothing to sign with.
    """
    if not namespace or not namespace.isascii() or not namespace.isprintable():
        raise ConfigurationError(f"not a namespace: {namespace[:60]!r}")
    key = _load(private_key, passphrase)
    public = _public(key)
    # What is signed is not the message but this structure: PROTOCOL.sshsig, "Blob format" and "Signed Data".
    digest = hashlib.new(_HASH, message).digest()
    signed = b"SSHSIG" + _strings(namespace.encode(), b"", _HASH.encode(), digest)
    signature = _signature(key, public.algorithm, signed)
    blob = b"SSHSIG" + struct.pack(">I", 1) + _strings(public.blob, namespace.encode(), b"", _HASH.encode(), signature)
    text = base64.b64encode(blob).decode()
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""]).encode()


def _load(private_key: Secret, passphrase: Secret | None) -> "SSHPrivateKeyTypes":
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.serialization import load_ssh_private_key  # noqa: PLC0415
    except ImportError as exc:
        raise MissingExtraError("signing", extra="verify") from exc
    data = private_key.reveal().encode()
    # An offered passphrase is for whatever key it may be: first without.
    for password in (None, *([] if passphrase is None else [passphrase.reveal().encode()])):
        try:
            return load_ssh_private_key(data, password)
        except TypeError:
            continue  # encrypted
        except UnsupportedAlgorithm as exc:
            if "bcrypt" in str(exc):
                raise MissingExtraError("an encrypted SSH key", extra="ssh") from None
            raise ConfigurationError(
                "the SSH key is of a kind that cannot sign here", hint="for a security key: ssh-keygen -Y sign"
            ) from None
        except ValueError:  # cut off: what it says may quote the key
            raise ConfigurationError("not an SSH private key, or not its passphrase") from None
    raise ConfigurationError("the SSH key is encrypted, and there is no passphrase")


def _public(key: "SSHPrivateKeyTypes") -> SSHPublicKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 - an extra

    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    try:
        return SSHPublicKey.parse(base64.b64decode(line.split()[1], validate=True))
    except KeyFormatError as exc:
        raise ConfigurationError(f"nobody would accept a signature by this key: {exc}") from None


def _signature(key: "SSHPrivateKeyTypes", algorithm: str, signed: bytes) -> bytes:
    """The signature in the wire format."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512  # noqa: PLC0415

    if isinstance(key, rsa.RSAPrivateKey):
        return _strings(b"rsa-sha2-512", key.sign(signed, padding.PKCS1v15(), SHA512()))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        hashed = {256: SHA256(), 384: SHA384(), 521: SHA512()}[key.curve.key_size]
        numbers = decode_dss_signature(key.sign(signed, ec.ECDSA(hashed)))
        return _strings(algorithm.encode(), _strings(*(_mpint(number) for number in numbers)))
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    return _strings(algorithm.encode(), key.sign(signed))


def _strings(*values: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(value)) + value for value in values)


def _mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1)

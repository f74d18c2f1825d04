"""`SigningKey`: a private key from a PEM file, cosign's own encrypted kind included. The same key and message, the same signature."""

import base64
import binascii
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, Final, Self

import attrs

from fluxsrc.auth import Secret
from fluxsrc.errors import ConfigurationError, MissingExtraError
from fluxsrc.signatures.publickeys import PublicKey

__all__ = ["SigningKey"]

_MAX_BYTES: Final = 64 * 1024
_SEALED: Final = re.compile(
    r"\s*-----BEGIN ENCRYPTED (?P<whose>SIGSTORE|COSIGN) PRIVATE KEY-----\s+"
    r"(?P<body>[A-Za-z0-9+/=\s]+)-----END ENCRYPTED (?P=whose) PRIVATE KEY-----\s*"
)
# Those that cosign knows: any others would let a file decide how much memory and time opening it takes.
_SCRYPT: Final = ({"N": 1 << 15, "r": 8, "p": 1}, {"N": 1 << 16, "r": 8, "p": 1}, {"N": 1 << 17, "r": 8, "p": 1})
_SCRYPT_MEMORY: Final = 256 << 20


@attrs.frozen
class SigningKey:
    """A key to sign with. Its text stays in a `Secret`: neither repr nor an error shows it.

    Attributes:
        public: The public half, by which verifiers know it.
    """

    _private: Secret
    public: PublicKey

    @classmethod
    def parse(cls, pem: str | Secret, password: Secret | None = None) -> Self:
        """Read a private key in PEM: PKCS #8, plain or encrypted, or what `cosign generate-key-pair` writes.

        Args:
            pem: The file's text.
            password: What it is encrypted with, if it is.

        Raises:
            ConfigurationError: It is no such key, or the password does not open it.
            MissingExtraError: There is nothing to read it with.
        """
        text = pem.reveal() if isinstance(pem, Secret) else pem
        if len(text) > _MAX_BYTES:
            raise ConfigurationError(f"the private key is larger than {_MAX_BYTES:,} bytes")
        sealed = _SEALED.fullmatch(text)
        opened = _load(_open(sealed["body"], password), None) if sealed else _load(text.encode(), password)
        try:
            from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - an extra
                Encoding,
                NoEncryption,
                PrivateFormat,
                PublicFormat,
            )

            public = opened.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            private = opened.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        except (AttributeError, ValueError, TypeError):
            raise ConfigurationError("not a private key that signs") from None
        return cls(Secret(private.decode()), PublicKey.from_der(public))

    @classmethod
    def read(cls, path: str | os.PathLike[str], password: Secret | None = None) -> Self:
        """The key in a file; see `parse`.

        Raises:
            ConfigurationError: It cannot be read, or see `parse`.
        """
        try:
            with Path(path).open("rb") as file:
                text = file.read(_MAX_BYTES + 1).decode("ascii")
        except OSError as exc:
            raise ConfigurationError(f"cannot read the private key {path}: {exc.strerror or exc}") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"the private key {path} is not PEM") from None
        return cls.parse(Secret(text), password)

    @classmethod
    def generate(cls) -> Self:
        """A new key on P-256, as cosign's are.

        Raises:
            MissingExtraError: There is nothing to make it with.
        """
        try:
            from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - an extra
            from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
                Encoding,
                NoEncryption,
                PrivateFormat,
            )
        except ImportError as exc:
            raise MissingExtraError("making keys", extra="verify") from exc
        private = ec.generate_private_key(ec.SECP256R1())
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return cls.parse(Secret(pem.decode()))

    @staticmethod
    def needs_password(pem: str) -> bool:
        """Whether the text of a private key says that it is encrypted."""
        return "ENCRYPTED" in pem

    def pem(self, password: Secret | None = None) -> Secret:
        """The key as PKCS #8, encrypted if there is a password."""
        from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - an extra
            BestAvailableEncryption,
            Encoding,
            PrivateFormat,
        )

        if not password:
            return self._private
        opened = _load(self._private.reveal().encode(), None)
        how = BestAvailableEncryption(password.reveal().encode())
        return Secret(opened.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode())

    def sign(self, message: bytes) -> bytes:
        """A signature in the form that cosign expects of this kind of key: SHA-256 with ECDSA and RSA."""
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa  # noqa: PLC0415
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

        opened = _load(self._private.reveal().encode(), None)
        if isinstance(opened, ec.EllipticCurvePrivateKey):
            try:  # RFC 6979: signing twice gives one signature, and a weak random generator no key away
                how = ec.ECDSA(SHA256(), deterministic_signing=True)
            except UnsupportedAlgorithm:
                how = ec.ECDSA(SHA256())
            return opened.sign(message, how)
        if isinstance(opened, rsa.RSAPrivateKey):
            return opened.sign(message, padding.PKCS1v15(), SHA256())
        signed: bytes = opened.sign(message)
        return signed


def _load(data: bytes, password: Secret | None) -> Any:
    """The key as `cryptography` has it. Its exceptions end here: what they quote may be secret."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
            load_der_private_key,
            load_pem_private_key,
        )
    except ImportError as exc:
        raise MissingExtraError("signing", extra="verify") from exc
    armored = data.lstrip().startswith(b"-----BEGIN ")
    if armored and b"ENCRYPTED" not in data:
        password = None  # one is offered for whatever key it may be
    load = load_pem_private_key if armored else load_der_private_key
    try:
        return load(data, None if password is None else password.reveal().encode())
    except TypeError:
        raise ConfigurationError("the private key is encrypted, and no password is given") from None
    except (ValueError, UnsupportedAlgorithm, OverflowError):
        why = "not a private key in PEM" if password is None else "not a private key that this password opens"
        raise ConfigurationError(why) from None


def _open(body: str, password: Secret | None) -> bytes:
    """What is sealed in cosign's own way: scrypt and NaCl's secretbox, in JSON."""
    if password is None:
        raise ConfigurationError("the private key is encrypted, and no password is given")
    try:
        from nacl.exceptions import CryptoError  # noqa: PLC0415 - an extra
        from nacl.secret import SecretBox  # noqa: PLC0415
    except ImportError as exc:
        raise MissingExtraError("opening cosign's encrypted keys", extra="verify") from exc
    try:
        value = json.loads(base64.b64decode("".join(body.split()), validate=True))
        kdf, cipher, parameters = value["kdf"], value["cipher"], value["kdf"]["params"]
        known = kdf["name"] == "scrypt" and parameters in _SCRYPT and cipher["name"] == "nacl/secretbox"
        salt, nonce, sealed = (base64.b64decode(each) for each in (kdf["salt"], cipher["nonce"], value["ciphertext"]))
    except (binascii.Error, ValueError, KeyError, TypeError, RecursionError):
        raise ConfigurationError("a damaged private key") from None
    if not known or len(nonce) != SecretBox.NONCE_SIZE:
        raise ConfigurationError("the private key is encrypted in a way that cosign does not write")
    key = hashlib.scrypt(
        password.reveal().encode(),
        salt=salt,
        n=parameters["N"],
        r=parameters["r"],
        p=parameters["p"],
        maxmem=_SCRYPT_MEMORY,
        dklen=SecretBox.KEY_SIZE,
    )
    try:
        return bytes(SecretBox(key).decrypt(sealed, nonce))
    except (CryptoError, ValueError):
        raise ConfigurationError("the password does not open the private key") from None

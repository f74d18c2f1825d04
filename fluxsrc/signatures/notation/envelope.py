"""`Envelope`: a Notary Project signature, JWS or COSE, taken apart but not verified. Bytes in, values out.

After the Notary Project's signature specification; both forms say the same, so they become the same value.
"""

import base64
import binascii
import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, Final, Self

import attrs

from fluxsrc.signatures.notation.cbor import CBORError, Tag, decode, encode_array_of_strings
from fluxsrc.signatures.oci import strict_json
from fluxsrc.signatures.verdict import OCICheck, failed

__all__ = ["COSE_MEDIA_TYPE", "JWS_MEDIA_TYPE", "PAYLOAD_MEDIA_TYPE", "Envelope", "Scheme"]

JWS_MEDIA_TYPE: Final = "application/jose+json"
COSE_MEDIA_TYPE: Final = "application/cose"
PAYLOAD_MEDIA_TYPE: Final = "application/vnd.cncf.notary.payload.v1+json"

_PREFIX: Final = "io.cncf.notary."
_SCHEME: Final = f"{_PREFIX}signingScheme"
_SIGNING_TIME: Final = f"{_PREFIX}signingTime"
_AUTHENTIC_TIME: Final = f"{_PREFIX}authenticSigningTime"
_EXPIRY: Final = f"{_PREFIX}expiry"
_TIMESTAMP: Final = f"{_PREFIX}timestampSignature"
_AGENT: Final = f"{_PREFIX}signingAgent"
_PLUGIN: Final = f"{_PREFIX}verificationPlugin"

_COSE_SIGN1: Final = 18
_EPOCH: Final = 1
_ALG, _CRIT, _CONTENT_TYPE, _X5CHAIN = 1, 2, 3, 33
_COSE_ALGORITHMS: Final = {-37: "PS256", -38: "PS384", -39: "PS512", -7: "ES256", -35: "ES384", -36: "ES512"}
_JWS_ALGORITHMS: Final = frozenset(_COSE_ALGORITHMS.values())
_MAX_CERTIFICATES: Final = 10
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


class Scheme:
    """Who says when it was signed: nobody whom one could trust, or a signing authority."""

    X509: Final = "notary.x509"
    AUTHORITY: Final = "notary.x509.signingAuthority"


@attrs.frozen(kw_only=True)
class Envelope:
    """A signature and what it is over.

    Attributes:
        payload: The signed document.
        algorithm: "PS256", "PS384", "PS512", "ES256", "ES384" or "ES512", as the envelope says.
        signed: The bytes that the signature is over.
        signature: The signature; of ECDSA both numbers, one after the other.
        chain: The certificates in DER, from the signer's to the root.
        scheme: One of `Scheme`.
        signing_time: When, as the signer says, or the signing authority.
        expiry: Until when the signer wants it to be used.
        timestamp: An RFC 3161 token over the signature; not signed by the signer.
        agent: The program that signed, as it says itself; not signed.
    """

    payload: bytes = attrs.field(repr=False)
    algorithm: str
    signed: bytes = attrs.field(repr=False)
    signature: bytes = attrs.field(repr=False)
    chain: tuple[bytes, ...] = attrs.field(repr=False)
    scheme: str
    signing_time: dt.datetime
    expiry: dt.datetime | None = None
    timestamp: bytes | None = attrs.field(default=None, repr=False)
    agent: str = ""

    @classmethod
    def parse(cls, media_type: str, data: bytes) -> Self:
        """Read an envelope.

        Raises:
            VerificationError: 3: it is none, has a critical part that is not known, or lacks one that has to be there. 4: it is
                of an algorithm that is not allowed.
        """
        if media_type == JWS_MEDIA_TYPE:
            return cls._jws(data)
        if media_type == COSE_MEDIA_TYPE:
            try:
                return cls._cose(data)
            except CBORError as exc:
                raise _malformed(f"the COSE envelope is damaged: {exc}") from None
        raise _malformed(f"an envelope of the type {media_type[:60]!a} is not known")

    @classmethod
    def _jws(cls, data: bytes) -> Self:
        value = strict_json(data, what="the JWS envelope")
        if set(value) != {"payload", "protected", "header", "signature"}:
            raise _malformed("the JWS envelope does not have payload, protected, header and signature, and no more")
        payload, protected = _text(value["payload"]), _text(value["protected"])
        headers = strict_json(_base64url(protected, "the protected header"), what="the protected header")
        algorithm = headers.get("alg")
        if not isinstance(algorithm, str) or algorithm not in _JWS_ALGORITHMS:
            raise failed(OCICheck.ALGORITHM, f"the algorithm {algorithm!a:.40} is not one of the specification")
        unprotected = value["header"]
        if not isinstance(unprotected, dict):
            raise _malformed("the JWS envelope has no header")
        timestamp = unprotected.get(_TIMESTAMP)
        return cls(
            payload=_base64url(payload, "the payload"),
            algorithm=algorithm,
            signed=f"{protected}.{payload}".encode("ascii"),
            signature=_base64url(_text(value["signature"]), "the signature"),
            chain=_chain(unprotected.get("x5c"), lambda each: _base64(_text(each))),
            timestamp=None if timestamp is None else _base64(_text(timestamp)),
            agent=_agent(unprotected.get(_AGENT)),
            **_claims(headers, headers.get("crit"), headers.get("cty"), _rfc3339),
        )

    @classmethod
    def _cose(cls, data: bytes) -> Self:
        message = decode(data)
        parts = message.value if isinstance(message, Tag) and message.number == _COSE_SIGN1 else None
        if not isinstance(parts, list) or [type(part) for part in parts] != [bytes, dict, bytes, bytes]:
            raise _malformed("not a tagged COSE_Sign1 with protected and unprotected headers, payload and signature")
        protected, unprotected, payload, signature = parts
        headers = decode(protected)
        if not isinstance(headers, dict):
            raise _malformed("the protected headers are no map")
        if headers.keys() & unprotected.keys():
            raise _malformed("a header is both protected and not")
        number = headers.get(_ALG)
        algorithm = _COSE_ALGORITHMS.get(number) if isinstance(number, int) else None
        if algorithm is None:
            raise failed(OCICheck.ALGORITHM, f"the algorithm {number!a:.40} is not one of the specification")
        timestamp = unprotected.get(_TIMESTAMP)
        return cls(
            payload=payload,
            algorithm=algorithm,
            signed=encode_array_of_strings("Signature1", protected, b"", payload),
            signature=signature,
            chain=_chain(unprotected.get(_X5CHAIN), _bytes),
            timestamp=None if timestamp is None else _bytes(timestamp),
            agent=_agent(unprotected.get(_AGENT)),
            **_claims(headers, headers.get(_CRIT), headers.get(_CONTENT_TYPE), _epoch),
        )


def _claims(headers: Mapping[Any, Any], critical: Any, content_type: Any, time: Any) -> dict[str, Any]:
    """What is signed besides the payload, in either form. Whatever is critical must be understood, or nothing is."""
    if content_type != PAYLOAD_MEDIA_TYPE:
        raise _malformed(f"the payload is of the type {content_type!a:.80}")
    if _PLUGIN in headers:
        raise _malformed(f"it asks for the verification plugin {headers[_PLUGIN]!a:.60}, and there is none")
    scheme = headers.get(_SCHEME)
    if scheme not in (Scheme.X509, Scheme.AUTHORITY):
        raise _malformed(f"the signing scheme {scheme!a:.60} is not known")
    when, other = (_SIGNING_TIME, _AUTHENTIC_TIME) if scheme == Scheme.X509 else (_AUTHENTIC_TIME, _SIGNING_TIME)
    needed = {_SCHEME} | ({_AUTHENTIC_TIME} if scheme == Scheme.AUTHORITY else set())
    needed |= {_EXPIRY} if _EXPIRY in headers else set()
    if not isinstance(critical, list) or not all(isinstance(name, str | int) for name in critical):
        raise _malformed("there is no list of what is critical")
    if set(critical) != needed or len(critical) != len(needed):
        shown = ", ".join(f"{name!a:.60}" for name in critical[:8])
        raise _malformed(f"what is critical has to be {', '.join(sorted(needed))}, not {shown or 'nothing'}")
    if when not in headers or other in headers:
        raise _malformed(f"the signing scheme {scheme} goes with {when}, and with no other time")
    signing_time = time(headers[when])
    expiry = time(headers[_EXPIRY]) if _EXPIRY in headers else None
    if expiry is not None and expiry <= signing_time:
        raise _malformed("it expired before it was signed")
    return {"scheme": scheme, "signing_time": signing_time, "expiry": expiry}


def _chain(value: Any, read: Any) -> tuple[bytes, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= _MAX_CERTIFICATES:
        raise _malformed(f"there is no certificate chain, or it has more than {_MAX_CERTIFICATES} certificates")
    return tuple(read(each) for each in value)


def _agent(value: Any) -> str:
    return value[:200] if isinstance(value, str) and value.isprintable() else ""


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isascii():
        raise _malformed("a part of the envelope is not the text it should be")
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise _malformed("a part of the envelope is not the bytes it should be")
    return value


def _base64url(text: str, what: str) -> bytes:
    """Base64url without padding; one text for one value."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise _malformed(f"{what} is not base64url") from None
    if not data or base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise _malformed(f"{what} is empty, or not the base64url of anything")
    return data


def _base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise _malformed("a part of the header is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise _malformed("a part of the header is not the base64 of anything")
    return data


def _rfc3339(value: Any) -> dt.datetime:
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return dt.datetime.fromisoformat(value).astimezone(dt.UTC)
        except (ValueError, OverflowError):
            pass
    raise _malformed(f"not a time: {value!a:.60}")


def _epoch(value: Any) -> dt.datetime:
    if isinstance(value, Tag) and value.number == _EPOCH and type(value.value) is int:
        try:
            return dt.datetime.fromtimestamp(value.value, dt.UTC)
        except (ValueError, OverflowError, OSError):
            pass
    raise _malformed("a time is not a tagged number of seconds")


def _malformed(message: str) -> Exception:
    return failed(OCICheck.FORM, message)

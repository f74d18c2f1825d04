"""RFC 3161 timestamps over a signature. `rfc3161-client` (which sigstore brings along) does the verification."""

import datetime as dt
import hashlib
from collections.abc import Iterable
from typing import Final

import attrs

from fluxsrc.errors import MissingExtraError
from fluxsrc.signatures.verdict import OCICheck, failed

__all__ = ["Timestamp", "check_timestamp"]

_HASHES: Final = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_GRANTED: Final = bytes.fromhex("3003020100")
_LONG_FORM: Final = 0x80
_SEQUENCE: Final = 0x30
_CONTEXT_0: Final = 0xA0


@attrs.frozen
class Timestamp:
    """When something was signed at the latest, by somebody else's clock.

    Attributes:
        earliest: The time of the token, less its accuracy.
        latest: The time of the token, and its accuracy.
    """

    earliest: dt.datetime
    latest: dt.datetime


def check_timestamp(token: bytes, signature: bytes, anchors: Iterable[bytes]) -> Timestamp:
    """Hold a token against a signature and the timestamp authorities that are trusted.

    Args:
        token: A TimeStampToken, in DER.
        signature: What it has to be over.
        anchors: The roots of the authorities, in DER.

    Raises:
        VerificationError: 5: it is damaged, over something else, or by somebody else.
        MissingExtraError: There is nothing to check it with.
    """
    try:
        import rfc3161_client  # noqa: PLC0415 - an extra
        from cryptography import x509  # noqa: PLC0415
    except ImportError as exc:
        raise MissingExtraError("checking timestamps", extra="verify") from exc
    roots = [x509.load_der_x509_certificate(each) for each in anchors]
    try:
        # The library wants an authority's whole answer, of which notation keeps the token: "granted" is put in front.
        answer = rfc3161_client.decode_timestamp_response(_wrap(_SEQUENCE, _GRANTED + _sorted_certificates(token)))
        info = answer.tst_info
        hashed = _HASHES.get(info.message_imprint.hash_algorithm.dotted_string)
        if hashed is None:
            raise failed(OCICheck.CERTIFICATE, "the timestamp is over a hash that is not allowed")
        verifier = rfc3161_client.VerifierBuilder(roots=roots).build()
        verifier.verify(answer, hashlib.new(hashed, signature).digest())
        accuracy = dt.timedelta()
        if info.accuracy is not None:
            accuracy = dt.timedelta(
                seconds=info.accuracy.seconds or 0,
                milliseconds=info.accuracy.millis or 0,
                microseconds=info.accuracy.micros or 0,
            )
        return Timestamp(info.gen_time - accuracy, info.gen_time + accuracy)
    except rfc3161_client.VerificationError as exc:
        raise failed(OCICheck.CERTIFICATE, f"the timestamp does not hold: {exc}"[:200]) from None
    except (ValueError, TypeError, OverflowError, AttributeError):
        raise failed(OCICheck.CERTIFICATE, "the timestamp is damaged") from None


def _sorted_certificates(token: bytes) -> bytes:
    """The token with its certificates in DER's order. Authorities write them in others, and nobody signs the order.

    ContentInfo is a sequence of a type and [0] of SignedData, which is a sequence of version, digest algorithms, content, [0] of
    the certificates, and the rest.
    """
    (content_info,) = _parts(token)
    kind, explicit = _parts(_content(content_info))
    (signed_data,) = _parts(_content(explicit))
    parts = [
        _wrap(_CONTEXT_0, b"".join(sorted(set(_parts(_content(part)))))) if part[0] == _CONTEXT_0 else part
        for part in _parts(_content(signed_data))
    ]
    return _wrap(_SEQUENCE, kind + _wrap(_CONTEXT_0, _wrap(_SEQUENCE, b"".join(parts))))


def _parts(data: bytes) -> list[bytes]:
    """The values that stand one after the other, each with its tag and length."""
    found = []
    while data:
        _, end = _bounds(data)
        if end > len(data):
            raise ValueError("it ends too early")
        found.append(data[:end])
        data = data[end:]
    return found


def _content(value: bytes) -> bytes:
    """A value without its tag and length."""
    start, end = _bounds(value)
    return value[start:end]


def _bounds(data: bytes) -> tuple[int, int]:
    """Where the content of the first value begins and ends."""
    if len(data) < 2:  # noqa: PLR2004 - a tag and a length
        raise ValueError("it ends too early")
    size, start = data[1], 2
    if size >= _LONG_FORM:
        start += size - _LONG_FORM
        size = int.from_bytes(data[2:start])
    return start, start + size


def _wrap(tag: int, content: bytes) -> bytes:
    """A value with its tag and length."""
    size = len(content)
    if size < _LONG_FORM:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, _LONG_FORM | len(length)]) + length + content

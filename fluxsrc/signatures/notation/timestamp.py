"""RFC 3161 timestamps over a signature: the time that somebody else's clock showed.

`rfc3161-client` (which sigstore brings along) reads and verifies them; the authority's chain is then held against our rules, too.
"""

import datetime as dt
import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import attrs

from fluxsrc.errors import MissingExtraError, VerificationError
from fluxsrc.signatures.notation.certificates import Purpose, is_issued_by
from fluxsrc.signatures.notation.chain import Chain
from fluxsrc.signatures.verdict import OCICheck, failed

if TYPE_CHECKING:
    from cryptography import x509

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
_MAX_CERTIFICATES: Final = 20


@attrs.frozen
class Timestamp:
    """When something was signed at the latest, by somebody else's clock.

    Attributes:
        time: The time of the token.
        earliest: That, less its accuracy.
        latest: That, and its accuracy.
        chain: The authority's certificates, up to a trusted root.
    """

    time: dt.datetime
    earliest: dt.datetime
    latest: dt.datetime
    chain: Chain


def check_timestamp(token: bytes, signature: bytes, anchors: Iterable[bytes]) -> Timestamp:
    """Hold a token against a signature and the timestamp authorities that are trusted.

    Args:
        token: A TimeStampToken, in DER.
        signature: What it has to be over.
        anchors: The roots of the authorities, in DER.

    Raises:
        VerificationError: 4: an algorithm or a key of the authority is too weak. 5: the token is damaged, over something else, or by
            somebody else, or its authority's certificates are not for timestamps, or were not valid then.
        MissingExtraError: There is nothing to check it with.
    """
    try:
        import rfc3161_client  # noqa: PLC0415 - an extra
        from cryptography import x509  # noqa: PLC0415
    except ImportError as exc:
        raise MissingExtraError("checking timestamps", extra="verify") from exc
    try:
        return _checked(token, signature, [x509.load_der_x509_certificate(each) for each in anchors])
    except VerificationError:
        raise
    except rfc3161_client.VerificationError as exc:
        raise failed(OCICheck.CERTIFICATE, f"the timestamp does not hold: {exc}"[:200]) from None
    except Exception:  # noqa: BLE001 - whatever parsers of other people's bytes raise, it is no timestamp
        raise failed(OCICheck.CERTIFICATE, "the timestamp is damaged") from None


def _checked(token: bytes, signature: bytes, roots: "list[x509.Certificate]") -> Timestamp:
    import rfc3161_client  # noqa: PLC0415 - an extra

    # The library wants an authority's whole answer, of which notation keeps the token: "granted" is put in front.
    answer = rfc3161_client.decode_timestamp_response(_wrap(_SEQUENCE, _GRANTED + _sorted_certificates(token)))
    info = answer.tst_info
    hashed = _HASHES.get(info.message_imprint.hash_algorithm.dotted_string)
    if hashed is None or not {each.dotted_string for each in answer.signed_data.digest_algorithms} <= set(_HASHES):
        raise failed(OCICheck.ALGORITHM, "the timestamp is over a hash that is not allowed")
    rfc3161_client.VerifierBuilder(roots=roots).build().verify(answer, hashlib.new(hashed, signature).digest())
    chain = Chain.parse(_path(answer, roots), Purpose.TIME)
    chain.check_time(info.gen_time, "at the time of its timestamp")
    accuracy = dt.timedelta()
    if info.accuracy is not None:
        accuracy = dt.timedelta(
            seconds=info.accuracy.seconds or 0,
            milliseconds=info.accuracy.millis or 0,
            microseconds=info.accuracy.micros or 0,
        )
    return Timestamp(info.gen_time, info.gen_time - accuracy, info.gen_time + accuracy, chain)


def _path(answer: Any, roots: "Iterable[x509.Certificate]") -> list[bytes]:
    """The chain from who signed the token up to a trusted root, of the certificates that came with it."""
    from cryptography import x509  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    (signer,) = answer.signed_data.signer_infos
    trusted = list(roots)
    others = [x509.load_der_x509_certificate(each) for each in sorted(answer.signed_data.certificates)]
    if len(others) > _MAX_CERTIFICATES:
        raise failed(OCICheck.CERTIFICATE, f"the timestamp has more than {_MAX_CERTIFICATES} certificates")
    named = [each for each in others if (each.issuer, each.serial_number) == (signer.issuer, signer.serial_number)]
    if len(named) != 1:
        raise failed(OCICheck.CERTIFICATE, "the timestamp has not one certificate of who made it")
    path = [last := named[0]]
    while last not in trusted:
        issuer = next((each for each in (*trusted, *others) if each not in path and is_issued_by(last, each)), None)
        if issuer is None:
            raise failed(OCICheck.CERTIFICATE, "the timestamp is of no trusted authority")
        path.append(issuer)
        last = issuer
    return [each.public_bytes(Encoding.DER) for each in path]


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

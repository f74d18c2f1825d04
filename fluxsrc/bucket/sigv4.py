"""AWS Signature Version 4 for requests without a body: values in, header fields out, no clock, no network."""

import datetime as dt
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

import attrs

from fluxsrc.auth import Secret

__all__ = ["EMPTY_SHA256", "AWSKeys", "Signer", "canonical_path", "canonical_query", "timestamp"]

EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()


def _secret(value: str | Secret | None) -> Secret | None:
    return Secret(value) if isinstance(value, str) else value


def _required_secret(value: str | Secret) -> Secret:
    return Secret(value) if isinstance(value, str) else value


@attrs.frozen
class AWSKeys:
    """An access key, as AWS and everything that speaks S3 has it.

    Attributes:
        access_key: The public half.
        secret_key: The secret one.
        session_token: Comes with keys that are lent for a while.
    """

    access_key: str
    secret_key: Secret = attrs.field(converter=_required_secret)
    session_token: Secret | None = attrs.field(default=None, converter=_secret)


def canonical_path(key: str) -> str:
    """A path as S3 signs it: every byte percent-encoded but letters, digits, `-`, `.`, `_`, `~` and `/`.

    Surrogates stand for bytes that are no UTF-8, as a listing may have them: asking for such a key must not fail here.
    """
    return quote(key, safe="/-._~", errors="surrogateescape")


def canonical_query(pairs: Iterable[tuple[str, str]]) -> str:
    """A query as it is signed: encoded, then sorted."""
    encoded = sorted(
        (quote(name, safe="-._~"), quote(value, safe="-._~", errors="surrogateescape")) for name, value in pairs
    )
    return "&".join([f"{name}={value}" for name, value in encoded])


def timestamp(now: dt.datetime) -> str:
    """A time in UTC as signatures have it.

    >>> timestamp(dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC))
    '20260102T030405Z'
    """
    return now.strftime("%Y%m%dT%H%M%SZ")


class Signer:
    """Signs requests of one region and service with one set of keys.

    The signing key is the same for a day, and four of the five hashes of a signature; it is kept for as long.
    """

    def __init__(self, keys: AWSKeys, region: str, service: str = "s3") -> None:
        self._keys = keys
        self._region = region
        self._service = service
        self._day = ("", b"")

    def sign(
        self, method: str, host: str, path: str, query: str, headers: Mapping[str, str], stamp: str
    ) -> dict[str, str | Secret]:
        """The header fields that authenticate a request, to be sent together with those given.

        Args:
            method: In capitals.
            host: As in the Host field.
            path: As `canonical_path` makes it.
            query: As `canonical_query` makes it.
            headers: Fields that must be signed too: all that begin with "x-amz-".
            stamp: The time, as `timestamp` writes it.
        """
        fields: dict[str, str | Secret] = {"x-amz-content-sha256": EMPTY_SHA256, "x-amz-date": stamp}
        signed = {"host": host, "x-amz-content-sha256": EMPTY_SHA256, "x-amz-date": stamp}
        signed |= {name.lower(): value.strip() for name, value in headers.items()}
        if self._keys.session_token is not None:
            fields["x-amz-security-token"] = self._keys.session_token
            signed["x-amz-security-token"] = self._keys.session_token.reveal()
        names = sorted(signed)
        lines = "".join([f"{name}:{signed[name]}\n" for name in names])
        listed = ";".join(names)
        request = f"{method}\n{path}\n{query}\n{lines}\n{listed}\n{EMPTY_SHA256}"
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self._signing_key(stamp[:8]), text.encode(), "sha256").hex()
        fields["authorization"] = Secret(
            f"AWS4-HMAC-SHA256 Credential={self._keys.access_key}/{scope}, SignedHeaders={listed}, Signature={signature}"
        )
        return fields

    def _signing_key(self, day: str) -> bytes:
        known, key = self._day
        if known != day:
            key = f"AWS4{self._keys.secret_key.reveal()}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._day = (day, key)  # one assignment: threads see a whole pair
        return key

"""From status codes to errors, in one place for all backends."""

import datetime as dt
from typing import Final

from fluxsrc._io.http.response import Response
from fluxsrc.errors import (
    AuthenticationError,
    PermissionDeniedError,
    RateLimitedError,
    RemoteProtocolError,
    RevisionNotFoundError,
    SourceError,
    TransportError,
)

__all__ = ["raise_for_status", "retry_after", "status_error"]

_TRY_AGAIN: Final = frozenset({408, 425, 499, 522, 524})
_MAX_DETAIL: Final = 300


def raise_for_status(response: Response, what: str) -> None:
    """Return if the status is of success, else raise what it means. See `status_error`."""
    if not 200 <= response.status < 300:  # noqa: PLR2004 - success
        raise status_error(response, what)


def status_error(response: Response, what: str, *, detail: str | None = None) -> SourceError:
    """The error for a response that is no success; closes it.

    Args:
        response: The response.
        what: What was tried, for the message: "list tags of example.com/app".
        detail: What the server says about it; by default the beginning of a text body.
    """
    status, url = response.status, response.url
    if detail is None:
        textual = (response.headers.get("content-type") or "").startswith(("text/plain", "application/json"))
        detail = response.excerpt() if textual else ""
    response.close()
    message = f"cannot {what}: status {status}" + (f": {detail[:_MAX_DETAIL]}" if detail else "")
    if status == 401:  # noqa: PLR2004 - the codes are the best names of themselves
        return AuthenticationError(message, url=url, hint="are credentials given for this host, and still good?")
    if status == 403:  # noqa: PLR2004
        return PermissionDeniedError(message, url=url)
    if status in (404, 410):
        return RevisionNotFoundError(message, url=url)
    if status == 407:  # noqa: PLR2004
        return AuthenticationError(message, url=url, hint="the proxy wants other credentials")
    patience = retry_after(response.headers.get("retry-after"))
    if status == 429 or (status == 503 and patience is not None):  # noqa: PLR2004
        return RateLimitedError(message, url=url, retry_after=patience)
    if status >= 500 or status in _TRY_AGAIN:  # noqa: PLR2004
        return TransportError(message, url=url)
    return RemoteProtocolError(message, url=url)


def retry_after(value: str | None, *, now: dt.datetime | None = None) -> float | None:
    """Seconds that a `Retry-After` header asks for, as a number or as a date; None if it says nothing sensible.

    >>> retry_after("120")
    120.0
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    import email.utils  # noqa: PLC0415 - a date is the rare form, and what reads it brings all of the mail package

    try:
        when = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # a year, or a zone, of twenty digits
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    return max(0.0, (when - (now or dt.datetime.now(dt.UTC))).total_seconds())

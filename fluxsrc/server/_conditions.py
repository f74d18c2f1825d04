"""Preconditions and ranges, as RFC 9110 has them: header fields in, decisions out. Whatever a client sends, nothing here fails."""

import contextlib
import datetime as dt
import re
from collections.abc import Mapping
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import attrs

__all__ = ["Span", "byte_span", "http_date", "precondition", "wants_range"]

_ENTITY_TAG: Final = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_RANGE: Final = re.compile(r"bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.IGNORECASE)
_MANY_DIGITS: Final = 19
"""More than any file has bytes; Python refuses to make integers of thousands of digits."""


@attrs.frozen
class Span:
    """A part of a representation.

    Attributes:
        first: Its first byte.
        length: How many bytes; 0 if what was asked for is not there.
    """

    first: int
    length: int


def precondition(headers: Mapping[str, str], *, etag: str, modified: dt.datetime | None) -> HTTPStatus | None:
    """What the preconditions of a GET or HEAD come to, in the order of RFC 9110, section 13.2.2.

    A date in `If-Modified-Since` must be the very date we gave: after a rollback what is served is *older* than what
    the client has, and "not modified since" would keep it there for ever.

    Args:
        headers: By lower-case name.
        etag: The strong entity tag of what would be sent, quoted.
        modified: When it last changed, in whole seconds, if that is known.

    Returns:
        304, 412, or None to go on.
    """
    if (value := headers.get("if-match")) is not None:
        if not _lists(value, etag, weak=False):
            return HTTPStatus.PRECONDITION_FAILED
    elif _is_after(modified, _date(headers.get("if-unmodified-since"))):
        return HTTPStatus.PRECONDITION_FAILED
    if (value := headers.get("if-none-match")) is not None:
        if _lists(value, etag, weak=True):
            return HTTPStatus.NOT_MODIFIED
    elif modified is not None and _date(headers.get("if-modified-since")) == modified:
        return HTTPStatus.NOT_MODIFIED
    return None


def wants_range(headers: Mapping[str, str], *, etag: str) -> bool:
    """Whether `Range` counts: there is one, and `If-Range`, if there is one too, names what would be sent.

    A date in `If-Range` never does: a second is too coarse to vouch that two halves belong together (section 13.1.5).
    """
    return "range" in headers and headers.get("if-range", etag) == etag


def byte_span(value: str, size: int) -> Span | None:
    """The part that a `Range` field asks for.

    Args:
        value: The field's value.
        size: Bytes there are.

    Returns:
        None for what is to be ignored: other units, several ranges, nonsense. A `Span` of length 0 for a 416.
    """
    match = _RANGE.fullmatch(value)
    if match is None:
        return None
    first, last = map(_position, match.groups())
    if first is None:
        if last is None:
            return None
        length = min(last, size)  # the last so many bytes
        return Span(size - length, length)
    if last is not None and last < first:
        return None
    if first >= size:
        return Span(0, 0)
    end = size if last is None else min(last + 1, size)
    return Span(first, end - first)


def http_date(moment: dt.datetime) -> str:
    """As `Last-Modified` has it."""
    return format_datetime(moment.astimezone(dt.UTC), usegmt=True)


def _lists(value: str, etag: str, *, weak: bool) -> bool:
    """Whether a list of entity tags, or `*`, has this one."""
    return value.strip() == "*" or any(
        tag == etag and (weak or not is_weak) for is_weak, tag in _ENTITY_TAG.findall(value)
    )


def _is_after(modified: dt.datetime | None, since: dt.datetime | None) -> bool:
    return modified is not None and since is not None and modified > since


def _date(value: str | None) -> dt.datetime | None:
    """A date in any form that HTTP ever had, or None."""
    if value is None:
        return None
    with contextlib.suppress(ValueError, TypeError, IndexError, OverflowError):
        found = parsedate_to_datetime(value)
        return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found.astimezone(dt.UTC)
    return None


def _position(digits: str) -> int | None:
    return int(digits) if 0 < len(digits) <= _MANY_DIGITS else 10**_MANY_DIGITS if digits else None

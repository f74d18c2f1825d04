"""What Git signs: raw commits and tags taken apart into the signed payload and the signature. Bytes in, values out.

Stricter than git, since a signature says nothing about what git passes over: an object with more than one signature, with one
of another object format, or with headers that are not where git writes them, is refused rather than interpreted.
"""

import datetime as dt
import hashlib
import re
from typing import Final

import attrs

from fluxsrc.errors import VerificationError

__all__ = ["MAX_SIGNED_BYTES", "SignedObject", "git_oid", "split_commit", "split_tag", "tag_target"]

MAX_SIGNED_BYTES: Final = 4 * 1024 * 1024
"""The largest commit or tag object that is looked at."""
_SIGNATURE_HEADER: Final = {"sha1": b"gpgsig", "sha256": b"gpgsig-sha256"}
_BEGIN: Final = re.compile(
    rb"^-----BEGIN (?:PGP SIGNATURE|PGP MESSAGE|SSH SIGNATURE|SIGNED MESSAGE)-----$", re.MULTILINE
)
_COMMIT: Final = re.compile(
    rb"tree [0-9a-f]{40,64}\n(?:parent [0-9a-f]{40,64}\n)*"
    rb"author [^\n]*\ncommitter (?P<who>[^\n]*) (?P<when>\d{1,12}) [+-]\d{4}\n"
)
_TAG: Final = re.compile(
    rb"object (?P<target>[0-9a-f]{40,64})\ntype (?P<kind>commit|tag|tree|blob)\ntag (?P<name>[^\n]+)\n"
    rb"tagger (?P<who>[^\n]*) (?P<when>\d{1,12}) [+-]\d{4}\n"
)


@attrs.frozen
class SignedObject:
    """A commit or tag, taken apart.

    Attributes:
        payload: The bytes that were signed.
        signature: The armored signature; empty where there is none.
        who: The committer or tagger, as the object says: a claim, not a fact.
        when: The committer's or tagger's time: a claim too.
    """

    payload: bytes
    signature: bytes
    who: str
    when: dt.datetime


def git_oid(kind: str, data: bytes, algorithm: str) -> str:
    """The name of an object, hexadecimal."""
    return hashlib.new(algorithm, b"%s %d\0" % (kind.encode(), len(data)) + data, usedforsecurity=True).hexdigest()


def split_commit(data: bytes, algorithm: str) -> SignedObject:
    """Take a raw commit apart.

    Args:
        data: The object's content.
        algorithm: The repository's object format, "sha1" or "sha256".

    Raises:
        VerificationError: It is not a commit as git writes it, or its signature is ambiguous.
    """
    head, message = _head(data, "commit")
    start = _COMMIT.match(head)
    if start is None:
        raise VerificationError("the commit's headers are not as git writes them")
    ours = _SIGNATURE_HEADER[algorithm]
    kept: list[bytes] = []
    signature: list[bytes] = []
    state = b""  # the header that a continuation line belongs to
    for line in head.splitlines(keepends=True):
        if not line.startswith(b" "):
            state = line.partition(b" ")[0].rstrip(b"\n")
            if state.startswith(b"gpgsig") and (state != ours or signature):
                raise VerificationError("the commit has more than one signature, or one of another object format")
        if state == ours:
            signature.append(line[1:] if line.startswith(b" ") else line[len(ours) + 1 :])
        else:
            kept.append(line)
    payload = b"".join(kept) + b"\n" + message
    return SignedObject(payload, b"".join(signature), *_claims(start))


def split_tag(data: bytes) -> SignedObject:
    """Take a raw tag object apart.

    Raises:
        VerificationError: It is not a tag as git writes it, or its signature is ambiguous.
    """
    head, message = _head(data, "tag")
    start = _tag(head)
    found = list(_BEGIN.finditer(message))
    if len(found) > 1:
        raise VerificationError("the tag has more than one signature")
    split = len(head) + 1 + found[0].start() if found else len(data)
    return SignedObject(data[:split], data[split:], *_claims(start))


def tag_target(data: bytes) -> tuple[str, str, str]:
    """What a raw tag object points at, the kind of that, and the tag's own name.

    Raises:
        VerificationError: It is not a tag as git writes it.
    """
    start = _tag(_head(data, "tag")[0])
    return start["target"].decode(), start["kind"].decode(), start["name"].decode(errors="surrogateescape")


def _head(data: bytes, what: str) -> tuple[bytes, bytes]:
    """The headers, each with its line end, and the message."""
    if len(data) > MAX_SIGNED_BYTES:
        raise VerificationError(f"the {what} is larger than {MAX_SIGNED_BYTES:,} bytes")
    head, blank, message = data.partition(b"\n\n")
    if not blank or b"\0" in head or b"\r" in head:
        raise VerificationError(f"the {what} is not one that git writes")
    return head + b"\n", message


def _tag(head: bytes) -> "re.Match[bytes]":
    start = _TAG.fullmatch(head)  # nothing else: no other header has a meaning here, or a reason
    if start is None:
        raise VerificationError("the tag's headers are not as git writes them")
    return start


def _claims(start: "re.Match[bytes]") -> tuple[str, dt.datetime]:
    try:
        when = dt.datetime.fromtimestamp(int(start["when"]), dt.UTC)
    except (OverflowError, OSError, ValueError):
        raise VerificationError("the signer's time is not one") from None
    return start["who"].decode(errors="replace"), when

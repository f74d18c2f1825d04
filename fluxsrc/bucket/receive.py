"""What goes over the wire for an object: header lines there, the body of a part back."""

from collections.abc import Mapping

from fluxsrc._io.http import Response
from fluxsrc.auth import Secret
from fluxsrc.bucket.protocol import BucketObject
from fluxsrc.errors import RemoteProtocolError, SourceChangedError, TransportError

__all__ = ["header_lines", "receive"]


def header_lines(fields: Mapping[str, str | Secret]) -> str:
    """Header fields as lines.

    Raises:
        ValueError: A value would break out of its line.
    """
    values = {name: value.reveal() if isinstance(value, Secret) else value for name, value in fields.items()}
    text = "".join([f"{name}: {value}\r\n" for name, value in values.items()])
    if text.count("\n") != len(values) or text.count("\r") != len(values) or not text.isascii():
        raise ValueError("a header value with a line end, or that is not ASCII")
    return text


def receive(response: Response, item: BucketObject, start: int, length: int) -> bytearray:
    """All bytes of a part, in one piece of memory.

    Raises:
        SourceChangedError: The object is not of the listed size.
        RemoteProtocolError: It is another part than was asked for.
        TransportError: The body ended early.
    """
    if response.length is not None and response.length != length:
        raise SourceChangedError(
            f"{item.key!a}: {response.length} bytes come where {length} were listed", url=response.url
        )
    given = response.headers.get("content-range")
    if given is not None and not _is_range(given, start, length, item.size):
        if given.rpartition("/")[2] not in (str(item.size), "*"):
            raise SourceChangedError(f"{item.key!a} is not of the listed size any more", url=response.url)
        raise RemoteProtocolError(f"{item.key!a}: not the range that was asked for", url=response.url)
    data = bytearray(length)
    view, done = memoryview(data), 0
    while count := response.readinto(view[done:]):
        done += count
    if done != length:
        raise TransportError(f"{item.key!a}: {done} bytes came, not {length}", url=response.url)
    return data


def _is_range(given: str, start: int, length: int, size: int) -> bool:
    return given.replace(" ", "") in (
        f"bytes{start}-{start + length - 1}/{size}",
        f"bytes{start}-{start + length - 1}/*",
    )

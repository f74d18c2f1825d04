"""`Dialect`: how one service is talked to. It does no I/O: it makes requests and understands answers; `client` sends them."""

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import NamedTuple, Protocol, runtime_checkable

from fluxsrc._io.http import Headers, Response
from fluxsrc.auth import Secret
from fluxsrc.bucket.protocol import BucketObject
from fluxsrc.errors import FluxSrcError

__all__ = ["Ask", "Delimiter", "Dialect", "Failure", "listed_object", "listed_objects"]


class Ask(NamedTuple):
    """A request.

    Attributes:
        server: `http[s]://HOST[:PORT]`.
        target: Path and query, encoded; may hold a signature.
        headers: What goes with it.
        method: GET or HEAD.
    """

    server: str
    target: str
    headers: Mapping[str, str | Secret]
    method: str = "GET"


class Failure(NamedTuple):
    """A response that is no success.

    Attributes:
        status: Its status.
        headers: Its header fields.
        body: The beginning of its body; it may quote what was sent, so it is for codes, not for messages.
    """

    status: int
    headers: Headers
    body: bytes


class Dialect(Protocol):
    """How one service is talked to. Thread-safe."""

    @property
    def url(self) -> str:
        """The bucket's address, redacted."""
        ...

    @property
    def jumps(self) -> bool:
        """Whether a listing can begin in the middle."""
        ...

    def list(self, prefix: str, after: str, token: str | None) -> Ask:
        """The request for a page: the first one behind a key, or the one that a token names."""
        ...

    def page(self, data: bytes) -> tuple[Sequence[BucketObject], str | None]:
        """The objects of a page, and the token of the next one.

        Raises:
            ValueError: It is none.
        """
        ...

    def prefers_keys(self, headers: Headers) -> bool:
        """Whether this service, which answered with a page, is quicker to go on behind a key than at a token: at first."""
        ...

    def read(self, items: Sequence[BucketObject], part: str | None = None) -> Sequence[Ask]:
        """The requests for some objects, or for the one `part` ("bytes=0-9") of each; with its precondition."""
        ...

    def describe(self, item: BucketObject) -> Ask | None:
        """The HEAD that says what `checksum` wants to know of an object that is read in parts; None: it is known already."""
        ...

    def is_same(self, item: BucketObject, headers: Mapping[str, str] | Headers) -> bool:
        """Whether the header fields of an answer are of this object. Not every service knows preconditions."""
        ...

    def checksum(self, item: BucketObject, headers: Mapping[str, str] | Headers) -> str | None:
        """What an answer says about the content of the whole object, as in `Content`."""
        ...

    def error(self, failure: Failure, where: str) -> FluxSrcError | None:
        """The meaning of a failure that its status alone does not tell; None where it does."""
        ...

    def elsewhere(self, response: Response) -> bool:
        """Whether a response says that another server should have been asked; then it is, once."""
        ...


@runtime_checkable
class Delimiter(Protocol):
    """What a dialect needs besides, if its service cannot begin a listing in the middle."""

    def list_level(self, prefix: str, token: str | None) -> Ask:
        """The request for a page of what lies right below."""
        ...

    def level(self, data: bytes) -> tuple[Sequence[str], str | None]:
        """The names on such a page, and the token of the next one.

        Raises:
            ValueError: It is none.
        """
        ...


def listed_object(
    key: str, size: str | None, etag: str, checksum: str | None = None, version: str | None = None
) -> BucketObject:
    """What a listing says, if it can be true.

    Raises:
        ValueError: It cannot.
    """
    if not key or size is None or not (size.isascii() and size.isdigit()):
        raise ValueError("an object without a name or a size")
    if not etag or not (etag.isascii() and etag.isprintable()):
        raise ValueError("an object whose etag is none")
    return BucketObject(key, int(size), etag, checksum, version)


def listed_objects(keys: Sequence[str], sizes: Sequence[str], etags: Sequence[str]) -> Sequence[BucketObject]:
    """What a listing says of many objects, if all of it can be true: seen at once, and if it looks odd, one by one.

    Raises:
        ValueError: It cannot.
    """
    digits, names = "".join(sizes), "".join(etags)
    if (
        all(keys)
        and all(sizes)
        and all(etags)
        and digits.isdigit()
        and names.isprintable()
        and (digits + names).isascii()
    ):
        return list(
            map(BucketObject._make, zip(keys, map(int, sizes), etags, repeat(None), repeat(None), strict=False))
        )
    return list(map(listed_object, keys, sizes, etags))

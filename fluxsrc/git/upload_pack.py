"""`UploadPack`: one conversation with a server, whatever carries it: list references, fetch a pack."""

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

from fluxsrc.errors import RemoteProtocolError, TransportError
from fluxsrc.git.pktline import ByteStream, Mark, PktReader
from fluxsrc.git.protocol import Advertisement, FetchRequest, ls_refs_request, read_refs, server_error
from fluxsrc.git.refs import GitRef
from fluxsrc.limits import Limits
from fluxsrc.operation import Operation

__all__ = ["Connection", "Fetched", "UploadPack"]

_V2: Final = 2
_DATA, _PROGRESS, _FATAL = 1, 2, 3


class Connection(Protocol):
    """A way to a server's `git-upload-pack`. Used by one thread at a time.

    Attributes:
        stateless: Whether each request stands alone, as over HTTP.
        memorable: Whether what the server said first holds for the next connection, too.
        url: The remote's, redacted, for messages.
    """

    stateless: bool
    url: str

    @property
    def memorable(self) -> bool: ...  # noqa: D102 - in the class docstring

    def discover(self) -> ByteStream:
        """What the server says first."""
        ...

    def request(self, body: bytes) -> ByteStream:
        """Send a request; return what is answered."""
        ...

    def obey(self, operation: Operation | None, /) -> None:
        """From now on obey this operation; with None, rest until the next one, and hold on to no earlier one."""
        ...

    def close(self) -> None:
        """Let go; never raises."""
        ...


class Fetched(NamedTuple):
    """What a fetch brings.

    Attributes:
        shallow: Commits that come without their parents.
        unshallow: Commits that were so before, and are no more.
        pack: The pack, in pieces; nothing of it is checked.
    """

    shallow: frozenset[str]
    unshallow: frozenset[str]
    pack: Iterator[bytes]


class UploadPack:
    """One conversation.

    Args:
        connection: What carries it; closed with this.
        limits: On the references.
        server: What is known of the server from before; saves asking.
    """

    def __init__(self, connection: Connection, limits: Limits, server: Advertisement | None = None) -> None:
        self._connection = connection
        self._limits = limits
        self._url = connection.url
        self._reader: PktReader | None = None
        self._server = server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the conversation."""
        self._connection.close()

    def obey(self, operation: Operation | None) -> None:
        """Rest, or go on under another operation; see `Connection`."""
        self._connection.obey(operation)

    @property
    def server(self) -> Advertisement:
        """What the server can do; asked once.

        Raises:
            SourceError: The server cannot be reached, refuses, or is none.
        """
        if self._server is None:
            reader = self._read(self._connection.discover())
            self._server = Advertisement.parse(reader.lines(), limits=self._limits, url=self._url)
        return self._server

    @property
    def memorable(self) -> Mapping[str, str] | None:
        """The capabilities of the server, if they may be taken for granted the next time."""
        known = self._server
        return known.capabilities if known is not None and known.version == _V2 and self._connection.memorable else None

    def list_refs(self, prefixes: tuple[str, ...]) -> Mapping[str, GitRef]:
        """The references that begin with one of these, by name. One exchange.

        Raises:
            SourceError: The server cannot be reached, refuses, or talks nonsense.
            LimitExceededError: There are more than `Limits.max_refs`.
        """
        server = self.server
        if server.version != _V2:
            found = {name: ref for name, ref in server.refs.items() if name.startswith(prefixes)}
        else:
            answer = self._read(self._connection.request(ls_refs_request(server, prefixes)))
            found = read_refs(answer.lines(), limits=self._limits, url=self._url)
        self._limits.check("max_refs", len(found), what=self._url)
        return found

    def fetch(self, request: FetchRequest) -> Fetched:
        """Ask for objects; the pack is read by whoever iterates it.

        Raises:
            UnavailableError: The server does not give out one of them by its name.
            SourceError: The server cannot be reached, refuses, or talks nonsense.
        """
        server = self.server
        if request.depth is not None and not server.offers("shallow"):
            raise RemoteProtocolError(f"{self._url} cannot send less than the whole history", url=self._url)
        if server.version == _V2:
            reader = self._read(self._connection.request(request.encode_v2(server)))
            return self._fetched_v2(reader)
        if "side-band-64k" not in server.capabilities:
            raise RemoteProtocolError(f"{self._url} does not offer side-band-64k, as all do since 2006", url=self._url)
        first, second = request.encode_v0(server)
        if self._connection.stateless:
            reader = self._read(self._connection.request(first + second))
            shallow = self._shallow(reader) if request.depth is not None else {}
        else:
            reader = self._read(self._connection.request(first))
            shallow = self._shallow(reader) if request.depth is not None else {}
            reader = self._read(self._connection.request(second))
        return self._fetched_v0(reader, shallow)

    def _read(self, stream: ByteStream) -> PktReader:
        # A lasting connection has one reader: it may have taken more from the stream than the last answer.
        if self._connection.stateless:
            return PktReader(stream, url=self._url)
        if self._reader is None:
            self._reader = PktReader(stream, url=self._url)
        return self._reader

    def _fetched_v2(self, reader: PktReader) -> Fetched:
        shallow: dict[str, str] = {}
        while True:
            title = reader.read()
            if isinstance(title, Mark):
                raise RemoteProtocolError(f"{self._url} answered a fetch without a pack", url=self._url)
            match title.removesuffix(b"\n"):
                case b"packfile":
                    return _fetched(shallow, self._banded(reader, None))
                case b"shallow-info":
                    shallow = self._shallow(reader)
                case name if name.startswith(b"ERR "):
                    raise server_error(name[4:], url=self._url)
                case _:
                    for _ in reader.lines():  # acknowledgments and what may be invented yet
                        pass

    def _fetched_v0(self, reader: PktReader, shallow: dict[str, str]) -> Fetched:
        while True:
            line = reader.read()
            if isinstance(line, Mark) or line.startswith((b"NAK", b"ACK")):
                continue
            if line.startswith(b"ERR "):
                raise server_error(line[4:], url=self._url)
            return _fetched(shallow, self._banded(reader, line))

    def _shallow(self, reader: PktReader) -> dict[str, str]:
        """Commits by what they are now: "shallow" or "unshallow"."""
        found = {}
        for line in reader.lines():
            if line.startswith(b"ERR "):
                raise server_error(line[4:], url=self._url)
            word, _, oid = line.decode("ascii", "replace").partition(" ")
            if word not in ("shallow", "unshallow"):
                raise RemoteProtocolError(f"{self._url} answered nonsense: {line[:80]!a}", url=self._url)
            found[oid] = word
        return found

    def _banded(self, reader: PktReader, line: bytes | Mark | None) -> Iterator[bytes]:
        """The data of the first band; what the third says is an error."""
        try:
            while True:
                if line is None:
                    line = reader.read()
                if isinstance(line, Mark):
                    return
                band = line[0] if line else 0
                if band == _DATA:
                    yield line[1:]
                elif band == _FATAL or line.startswith(b"ERR "):
                    raise server_error(line[1:] if band == _FATAL else line[4:], url=self._url)
                elif band != _PROGRESS:
                    raise RemoteProtocolError(f"{self._url} sent data outside of all bands", url=self._url)
                line = None
        except TransportError as exc:
            if type(exc) is TransportError:
                exc.add_note("the pack was cut short")
            raise


def _fetched(shallow: Mapping[str, str], pack: Iterator[bytes]) -> Fetched:
    return Fetched(
        frozenset(oid for oid, word in shallow.items() if word == "shallow"),
        frozenset(oid for oid, word in shallow.items() if word == "unshallow"),
        pack,
    )

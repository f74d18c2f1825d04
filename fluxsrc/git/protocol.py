"""What is said to `git-upload-pack` and what it answers, in versions 0, 1 and 2: lines in, values out, no I/O.

Written after git's `gitprotocol-v2` and `gitprotocol-pack`. A fetch is always one request: what is wanted, what is there
already, and `done`. There is no negotiation, because there is nothing to negotiate: of the one commit that is wanted the
parents are not, and what is there is known exactly.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import attrs

from fluxsrc.errors import (
    LimitExceededError,
    PermissionDeniedError,
    RemoteProtocolError,
    RevisionNotFoundError,
    SourceError,
)
from fluxsrc.git.pktline import DELIM_PKT, FLUSH_PKT, pkt, pkts
from fluxsrc.git.refs import PEELED, GitRef
from fluxsrc.limits import Limits

__all__ = [
    "Advertisement",
    "FetchRequest",
    "UnavailableError",
    "ls_refs_request",
    "read_refs",
    "server_error",
]

AGENT: Final = "fluxsrc"
_OID: Final = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_MAX_TEXT: Final = 300
_REF_BYTES: Final = 256
"""Bytes of a listed reference, on average, that the limit on their number allows for."""
_NOT_THERE: Final = "(?i)not our ref|not a valid object|bad object|unadvertised object|no such remote ref"
_REFUSED: Final = "(?i)access denied|permission|forbidden|not authori[sz]ed"
_NO_REPOSITORY: Final = (
    "(?i)not found|does not exist|repository not exported|not appear to be a git repository|no such repository"
)


class UnavailableError(RevisionNotFoundError):
    """The server does not give out an object by its name, be it not there or not allowed."""


@attrs.frozen(repr=False)
class Advertisement:
    """What a server says first.

    Attributes:
        version: Of the protocol it speaks.
        capabilities: By name; several values of one name are joined by spaces.
        refs: All references; of versions 0 and 1 only.
    """

    version: int
    capabilities: Mapping[str, str]
    refs: Mapping[str, GitRef] = attrs.field(factory=dict)

    @classmethod
    def parse(cls, lines: Iterable[bytes], *, limits: Limits, url: str) -> "Advertisement":
        """Read the lines up to the first flush.

        Raises:
            RemoteProtocolError: They are not what upload-pack says.
        """
        version = 0
        capabilities: dict[str, str] = {}
        rows: list[bytes] = []
        symrefs: dict[str, str] = {}
        for line in _bounded(lines, limits, url):
            if line.startswith(b"ERR "):
                raise server_error(line[4:], url=url)
            if line.startswith(b"version ") and not rows:
                version = {b"1": 1, b"2": 2}.get(line[8:], 0)
                continue
            if version == 2:  # noqa: PLR2004 - the version
                name, _, value = line.decode(errors="replace").partition("=")
                capabilities[name] = value
                continue
            row, nul, words = line.partition(b"\0")
            if nul:
                for name, _, value in (word.partition("=") for word in words.decode(errors="replace").split()):
                    if name == "symref" and ":" in value:
                        source, _, target = value.partition(":")
                        symrefs[source] = target
                    capabilities[name] = f"{capabilities[name]} {value}" if name in capabilities else value
            rows.append(row)
        return cls(version, capabilities, _refs_v0(rows, symrefs, url))

    @property
    def object_format(self) -> str:
        """How the repository names its objects."""
        return self.capabilities.get("object-format", "sha1").split()[0]

    def offers(self, feature: str) -> bool:
        """Whether a fetch can use a feature: "shallow", "filter", …"""
        if self.version == 2:  # noqa: PLR2004 - the version
            return feature in self.capabilities.get("fetch", "").split()
        return feature in self.capabilities

    @property
    def gives_out_any(self) -> bool:
        """Whether trees and blobs can be asked for."""
        return self.version == 2 or "allow-any-sha1-in-want" in self.capabilities  # noqa: PLR2004 - the version

    def gives_out(self, oid: str) -> bool:
        """Whether asking for this object by its name has a chance."""
        if self.version == 2:  # noqa: PLR2004 - the version
            return True  # git itself gives out everything, and others may
        if {"allow-tip-sha1-in-want", "allow-reachable-sha1-in-want"} & self.capabilities.keys():
            return True
        return any(oid in (ref.oid, ref.peeled) for ref in self.refs.values())


class FetchRequest(NamedTuple):
    """What is wanted, and what is there.

    Attributes:
        wants: Object names, hexadecimal.
        haves: Commits that are there with all of their trees.
        shallow: Commits that are there without their parents.
        depth: Commits of history to send; None for all that is not there.
        filter: Which objects to leave out, in git's words, or None.
    """

    wants: Sequence[str]
    haves: Sequence[str] = ()
    shallow: Sequence[str] = ()
    depth: int | None = None
    filter: str | None = None

    def encode_v2(self, server: Advertisement) -> bytes:
        """The one request of version 2."""
        arguments = ["ofs-delta", "no-progress"]
        if self.haves:
            arguments.append("thin-pack")
        arguments += [f"shallow {oid}" for oid in self.shallow]
        if self.depth is not None:
            arguments.append(f"deepen {self.depth}")
        if self.filter is not None:
            arguments.append(f"filter {self.filter}")
        arguments += [f"want {oid}" for oid in self.wants]
        arguments += [f"have {oid}" for oid in self.haves]
        return _command("fetch", server) + pkts([*arguments, "done"]) + FLUSH_PKT

    def encode_v0(self, server: Advertisement) -> tuple[bytes, bytes]:
        """The two halves of versions 0 and 1: what is wanted, and (after the server told of depth) what is there."""
        offered = server.capabilities
        wishes = ["multi_ack_detailed" if "multi_ack_detailed" in offered else "multi_ack", "side-band-64k"]
        wishes += ["ofs-delta", "no-progress", *(["thin-pack"] if self.haves else [])]
        words = [word for word in wishes if word in offered]
        if self.filter is not None:
            words.append("filter")
        if "object-format" in offered:
            words.append(f"object-format={server.object_format}")
        if "agent" in offered:
            words.append(f"agent={AGENT}")
        lines = [f"want {oid}" for oid in self.wants]
        lines[0] += " " + " ".join(words)
        lines += [f"shallow {oid}" for oid in self.shallow]
        if self.depth is not None:
            lines.append(f"deepen {self.depth}")
        if self.filter is not None:
            lines.append(f"filter {self.filter}")
        return pkts(lines) + FLUSH_PKT, pkts([*(f"have {oid}" for oid in self.haves), "done"])


def ls_refs_request(server: Advertisement, prefixes: Iterable[str]) -> bytes:
    """Ask for the references that begin with one of these, peeled, symbolic ones with their targets; version 2."""
    arguments = ["peel", "symrefs", *(f"ref-prefix {prefix}" for prefix in prefixes)]
    return _command("ls-refs", server) + pkts(arguments) + FLUSH_PKT


def read_refs(lines: Iterable[bytes], *, limits: Limits, url: str) -> dict[str, GitRef]:
    """The answer to `ls_refs_request`, by name.

    Raises:
        LimitExceededError: There are more than `Limits.max_refs`.
        RemoteProtocolError: It is none.
    """
    found: dict[str, GitRef] = {}
    for line in _bounded(lines, limits, url):
        if line.startswith(b"ERR "):
            raise server_error(line[4:], url=url)
        oid, *words = line.split(b" ")
        if oid == b"unborn":
            continue
        if not words or not _OID.fullmatch(oid):
            raise RemoteProtocolError(f"{url} lists what is no reference: {line[:80]!a}", url=url)
        name = _text(words[0])
        attributes = dict(_text(word).partition(":")[::2] for word in words[1:])
        found[name] = GitRef(name, oid.decode(), attributes.get("peeled"), attributes.get("symref-target"))
    return found


def server_error(message: bytes, *, url: str) -> SourceError:
    """The error for what a server says went wrong."""
    text = "".join(char if char.isprintable() else " " for char in message[:_MAX_TEXT].decode(errors="replace")).strip()
    said = f"{url} says: {text}"
    if re.search(_NOT_THERE, text):
        return UnavailableError(said, url=url)
    if re.search(_NO_REPOSITORY, text):
        return RevisionNotFoundError(said, url=url)
    if re.search(_REFUSED, text):
        return PermissionDeniedError(said, url=url)
    return RemoteProtocolError(said, url=url)


def _command(name: str, server: Advertisement) -> bytes:
    lines = [f"command={name}"]
    if "agent" in server.capabilities:
        lines.append(f"agent={AGENT}")
    if "object-format" in server.capabilities:
        lines.append(f"object-format={server.object_format}")
    return b"".join(pkt(line) for line in lines) + DELIM_PKT


def _bounded(lines: Iterable[bytes], limits: Limits, url: str) -> Iterator[bytes]:
    size = 0
    for count, line in enumerate(lines, 1):
        size += len(line)
        if count > limits.max_refs + 64 or size > limits.max_refs * _REF_BYTES + (1 << 20):
            raise LimitExceededError(
                f"{url} lists too many references", limit="max_refs", allowed=limits.max_refs, actual=count
            )
        yield line


def _refs_v0(rows: Sequence[bytes], symrefs: Mapping[str, str], url: str) -> dict[str, GitRef]:
    found: dict[str, GitRef] = {}
    for row in rows:
        oid, _, raw = row.partition(b" ")
        name = _text(raw)
        if name == f"capabilities{PEELED}" or oid in (b"shallow", b"unshallow"):
            continue
        if not _OID.fullmatch(oid) or not name:
            raise RemoteProtocolError(f"{url} does not speak git's protocol: it sent {row[:80]!a}", url=url)
        tag = name.removesuffix(PEELED)
        if tag != name and tag in found:
            found[tag] = found[tag]._replace(peeled=oid.decode())
        else:
            found[name] = GitRef(name, oid.decode(), target=symrefs.get(name))
    return found


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")

"""Indexes, and indexes in them: the manifest for a platform, and all that a document leads to. Each is read once, and no more than allowed."""

from collections.abc import Callable, Iterator, Mapping
from itertools import count

import attrs

from fluxsrc.digest import Digest
from fluxsrc.errors import RemoteProtocolError
from fluxsrc.limits import Limits
from fluxsrc.oci.manifest import Descriptor, Index, Manifest, Platform, parse_document
from fluxsrc.oci.repository import Document, Repository

__all__ = ["below", "choose"]


def choose(
    repository: Repository, top: Index, platform: Platform | None, *, limits: Limits, where: str
) -> tuple[Manifest, Mapping[str, str]]:
    """The manifest for a platform, and all annotations on the way to it; the outer ones count before the inner ones.

    What an index lists itself goes before what the indexes in it do, which are read only if nothing there will do. One
    that is for a platform has nothing for others, and its entries that name none are for that one.

    Args:
        repository: Where all of it is.
        top: The index.
        platform: What is looked for; None for the only manifest there is.
        limits: `max_index_depth` and `max_manifests` bound what is read.
        where: Whose it is, for messages.

    Raises:
        RevisionNotFoundError: There is none; the message names those there are.
        ConfigurationError: There are several, and nothing says which.
        LimitExceededError: There are more, or deeper down, than allowed.
    """
    offered: dict[Descriptor, Mapping[str, str]] = {}
    seen: set[tuple[Digest, Platform | None]] = set()
    level: list[tuple[Index, Platform | None, Mapping[str, str]]] = [(top, None, top.annotations)]
    for depth in count(1):
        inner = []
        for index, inherited, notes in level:
            for entry in index.manifests:
                child = attrs.evolve(entry, platform=entry.platform or inherited)
                if (child.digest, child.platform) in seen:
                    continue
                seen.add((child.digest, child.platform))
                limits.check("max_manifests", len(seen), what=where)
                if child.is_index and _may_hold(child, platform):
                    inner.append((child, notes))
                else:
                    offered[child] = notes
        if not inner or (platform is not None and any(_is_for(child, platform) for child in offered)):
            break
        limits.check("max_index_depth", depth, what=where)
        level = [_opened(repository, child, notes, where) for child, notes in inner]
    chosen = Index(manifests=tuple(offered)).choose(platform, where=where)
    parsed = _read(repository, chosen, where)
    if isinstance(parsed, Index):
        raise RemoteProtocolError(f"{where}: {chosen.digest} is an index, which its entry does not say", url=where)
    return parsed, dict(parsed.annotations) | dict(offered[chosen])


def below(
    document: Document, read: Callable[[Descriptor], Document | None], *, limits: Limits, where: str
) -> Iterator[tuple[Document, Manifest | Index]]:
    """A document after all that it leads to, each once: an index after what is in it.

    Args:
        document: Where to begin.
        read: Reads what an index lists, or does not, and says None: then nothing below that is seen, either.
        limits: `max_index_depth` and `max_manifests` bound what is read.
        where: Whose it is, for messages.

    Raises:
        RemoteProtocolError: One of them is no manifest.
        LimitExceededError: There are more, or deeper down, than allowed.
    """
    seen = {document.descriptor.digest}

    def walk(document: Document, depth: int) -> Iterator[tuple[Document, Manifest | Index]]:
        parsed = parse_document(document.data, where=where, media_type=document.descriptor.media_type or None)
        if isinstance(parsed, Index):
            limits.check("max_index_depth", depth, what=where)
            for child in parsed.manifests:
                if child.digest not in seen:
                    seen.add(child.digest)
                    limits.check("max_manifests", len(seen) - 1, what=where)
                    if (found := read(child)) is not None:
                        yield from walk(found, depth + 1)
        yield document, parsed

    return walk(document, 0)


def _may_hold(index: Descriptor, platform: Platform | None) -> bool:
    if index.platform is None:
        return True
    return index.platform.os != "unknown" if platform is None else index.platform.matches(platform)


def _is_for(child: Descriptor, platform: Platform) -> bool:
    return child.platform is not None and child.platform.matches(platform)


def _opened(
    repository: Repository, child: Descriptor, notes: Mapping[str, str], where: str
) -> tuple[Index, Platform | None, Mapping[str, str]]:
    parsed = _read(repository, child, where)
    if not isinstance(parsed, Index):
        raise RemoteProtocolError(f"{where}: {child.digest} is no index, as its entry says", url=where)
    return parsed, child.platform, dict(parsed.annotations) | dict(notes)


def _read(repository: Repository, child: Descriptor, where: str) -> Manifest | Index:
    found = repository.document(str(child.digest))
    return parse_document(found.data, where=where, media_type=child.media_type)

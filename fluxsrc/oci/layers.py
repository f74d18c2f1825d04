"""Which layers of a manifest make a source's files, and how: extract one, apply all, take them as files, copy one."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fluxsrc.digest import Digest
from fluxsrc.entry import check_path
from fluxsrc.errors import ContentError
from fluxsrc.limits import Limits
from fluxsrc.oci.manifest import Descriptor, Manifest
from fluxsrc.oci.repository import Repository
from fluxsrc.oci.stream import BlobStream, as_binary, reading
from fluxsrc.operation import Operation
from fluxsrc.recipe import Choice
from fluxsrc.tarball.codec import Stream
from fluxsrc.tarball.tree import FileTree, Spool

__all__ = ["LayerOperation", "build_tree", "content_of", "is_archive", "naming", "not_an_archive", "select_layers"]

_TITLE: Final = "org.opencontainers.image.title"
_UNPACK: Final = "io.deis.oras.content.unpack"
_STATIC: Final = "application/vnd.cncf.flux.content.v1."
_ORAS_DEFAULT: Final = "application/vnd.oci.image.layer.v1.tar"
_MAGICS: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
_USTAR: Final = slice(257, 262)


class LayerOperation(Choice):
    """What becomes of the layers.

    EXTRACT unpacks one: the first, or the first of the media type that is asked for. COPY keeps that one byte for byte.
    IMAGE applies all of them in order, as a container runtime does. FILES takes each as the file its title names, as
    ORAS pushes them; what ORAS packed from directories is unpacked.
    """

    EXTRACT = "extract"
    COPY = "copy"
    IMAGE = "image"
    FILES = "files"


def select_layers(
    manifest: Manifest, operation: LayerOperation, media_type: str | None, *, limits: Limits, where: str
) -> tuple[Descriptor, ...]:
    """The layers an operation is about.

    Raises:
        ContentError: There is none, or none of this media type; the message names those there are.
        LimitExceededError: There are more than `max_layers`.
    """
    limits.check("max_layers", len(manifest.layers), what=where)
    if not manifest.layers:
        raise ContentError(f"{where} has no layers")
    found = manifest.layers if media_type is None else tuple(x for x in manifest.layers if x.media_type == media_type)
    if not found:
        there = ", ".join(dict.fromkeys(layer.media_type for layer in manifest.layers))
        raise ContentError(f"{where} has no layer of media type {media_type}, only {there}")
    return found if operation in (LayerOperation.IMAGE, LayerOperation.FILES) else found[:1]


def build_tree(
    repository: Repository,
    layers: tuple[Descriptor, ...],
    how: LayerOperation,
    *,
    limits: Limits,
    operation: Operation,
) -> FileTree:
    """Download layers and read their files. What is returned is verified: a layer's end is only reached if it is right.

    Raises:
        ContentError: A layer is not what it should be.
    """
    tree = FileTree(limits, operation)
    try:
        for layer in layers:
            with naming(layer, where=repository.name), reading(repository, layer) as stream:
                _add(tree, layer, stream, how, where=repository.name)
    except BaseException:
        tree.close()
        raise
    return tree


def _add(tree: FileTree, layer: Descriptor, stream: BlobStream, how: LayerOperation, *, where: str) -> None:
    blob = as_binary(stream)
    if how is LayerOperation.IMAGE:
        tree.add_layer(blob)
        return
    title = layer.annotations.get(_TITLE)
    if how is LayerOperation.FILES:
        if layer.annotations.get(_UNPACK) == "true":
            tree.add_archive(blob)
        elif title is None:
            raise ContentError(f"{where}: the layer {layer.digest} has no title to name a file by")
        else:
            tree.add_file(check_path(title), blob)
        return
    if is_archive(layer, stream):
        tree.add_archive(blob)
        return
    # A plain file: as ORAS names it, or as `flux push artifact -f app.yaml` types it.
    if title is None and layer.media_type.startswith(_STATIC):
        title = f"artifact.{layer.media_type.removeprefix(_STATIC)}"
    if title is None:
        raise not_an_archive(layer, where=where)
    tree.add_file(check_path(title), blob)


def is_archive(layer: Descriptor, stream: BlobStream) -> bool:
    """By its content, or by its name: what claims to be a tar and is none must fail, not become a file."""
    head = stream.peek(512)
    if head.startswith(_MAGICS) or head[_USTAR] == b"ustar":
        return True
    if layer.media_type == _ORAS_DEFAULT and _TITLE in layer.annotations:
        return False  # `oras push HOST/REPOSITORY:TAG app.yaml` claims that of every file
    return ".tar" in layer.media_type or "+gzip" in layer.media_type


@contextmanager
def naming(layer: Descriptor, *, where: str) -> Iterator[None]:
    """Errors about what is in a layer say whose layer it is: there may be two sources, as for a diff."""
    try:
        yield
    except ContentError as exc:
        if not exc.message.startswith(where):
            exc.message = f"{where}: the layer {layer.digest}: {exc.message}"
        raise


def not_an_archive(layer: Descriptor, *, where: str) -> ContentError:
    """The error for a layer that cannot be unpacked."""
    return ContentError(
        f"{where}: the layer {layer.digest} of media type {layer.media_type} is not an archive",
        hint="choose another one by its media type, or copy it as it is",
    )


def content_of(layer: Descriptor, blob: Spool, limits: Limits) -> tuple[Digest, int]:
    """Digest and size of a copied layer's content: of the tar inside it, or of itself if it is not compressed."""
    if not blob.read_at(0, 4).startswith(_MAGICS) or "tar" not in layer.media_type:
        digest = hashlib.sha256()
        stream = blob.open()
        while data := stream.read(1 << 20):
            digest.update(data)
        return Digest("sha256", digest.hexdigest()), layer.size
    stream_in = Stream(blob.open(), limits)
    size = 0
    while piece := stream_in.read(1 << 20):
        size += len(piece)
        limits.check("max_content_bytes", size, what=f"the layer {layer.digest}")
    return Digest("sha256", stream_in.digest.hexdigest()), size

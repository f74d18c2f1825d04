"""Moving what is published: `tag`, `promote`, `copy`, `delete`. Everything travels by digest, the tag comes last."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, Final

import attrs

from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, RevisionNotFoundError
from fluxsrc.limits import Limits
from fluxsrc.oci.access import Access, open_repository
from fluxsrc.oci.indexes import below
from fluxsrc.oci.manifest import Descriptor, Manifest
from fluxsrc.oci.reference import LayoutReference, Reference, check_name, is_tag, parse_reference
from fluxsrc.oci.repository import BlobSource, Document, Repository
from fluxsrc.operation import Operation
from fluxsrc.tarball.tree import Spool

__all__ = ["Copied", "copy", "delete", "promote", "signature_tags", "tag"]

_DEFAULT_TAG: Final = "latest"
_WORKERS: Final = 4
_MAX_DEPTH: Final = 4
"""Of referrers of referrers."""
_SIGNATURE_SUFFIXES: Final = ("sig", "att", "sbom")


@attrs.frozen
class Copied:
    """What a copy or a promotion did.

    Attributes:
        reference: Where it is now, with tag and digest.
        digest: Of what was copied.
        previous: What the tag pointed at before, None if it is new. Promote this to roll back.
        uploaded: Bytes of blobs that travelled; those that were there or could be mounted did not.
        referrers: Signatures and other referrers that came along.
    """

    reference: Reference | LayoutReference
    digest: Digest
    previous: Digest | None
    uploaded: int
    referrers: tuple[Digest, ...] = ()


def tag(
    reference: str, /, *tags: str, access: Access | None = None, operation: Operation | None = None
) -> list[Copied]:
    """Let more tags point at what a reference names.

    Raises:
        RevisionNotFoundError: The reference names nothing.
        ConfigurationError: A tag is none, and in a layout no name either. None is moved then.
    """
    access, operation = access or Access(), operation or Operation()
    source = parse_reference(reference)
    if not tags:
        raise ConfigurationError("no tag is given")
    for name in tags:
        check_name(source, name)
    with open_repository(source, access, operation) as repository:
        document = repository.document(_what(source))
        return [_point(repository, source, document, name) for name in tags]


def promote(
    source: str,
    destination: str,
    /,
    *,
    referrers: bool = False,
    access: Access | None = None,
    destination_access: Access | None = None,
    operation: Operation | None = None,
) -> Copied:
    """Let a tag point at exactly what another reference names now, in the same repository or far away.

    1. Resolve the source once; from here on only its digest is used.
    2. Copy what the destination lacks: blobs, then manifests, children before their index. Layers that nobody may hand
       on, as those of Windows once were, stay where they are.
    3. Copy its referrers, if asked for, so that nothing can be deployed before its signature is there; of an index also
       those of its manifests, each of which may be signed by itself.
    4. Move the tag. Nothing is seen at the destination before this.

    Rolling back is the same, with the digest of an earlier revision as the source.

    Args:
        source: What to promote.
        destination: Where to; without a tag, the source's.
        referrers: Bring signatures, attestations and SBOMs along: OCI referrers, and cosign's `sha256-….sig` tags.
        access: How the source's registry is reached.
        destination_access: How the destination's is, if differently.
        operation: The deadline, cancel switch and progress callback.

    Raises:
        RevisionNotFoundError: The source names nothing.
        ConfigurationError: The destination has a digest, or can have no tag of this name.
        LimitExceededError: It is an index of more, or deeper down, than `access.limits` allows.
    """
    access, operation = access or Access(), operation or Operation()
    there = destination_access or access
    origin, target = parse_reference(source), parse_reference(destination)
    if target.digest is not None:
        raise ConfigurationError(f"{target}: what is promoted is the source's digest", hint="name a tag")
    name = check_name(target, target.tag or origin.tag or _DEFAULT_TAG)
    with (
        open_repository(origin, access, operation) as here,
        open_repository(target, there, operation) as repository,
    ):
        top = here.document(_what(origin))  # 1
        if origin.name == target.name:
            return _point(repository, target, top, name)
        copier = _Copier(here, repository, _mountable(origin, target), access.limits)
        copier.graph(top)  # 2
        if referrers:
            copier.all_referrers(top)  # 3
        return attrs.evolve(
            _point(repository, target, top, name),  # 4
            uploaded=copier.uploaded,
            referrers=tuple(copier.copied_referrers),
        )


copy = promote
"""The same under the name that registry tools use for it."""


def delete(
    reference: str, /, *, confirmed: bool, access: Access | None = None, operation: Operation | None = None
) -> None:
    """Delete a tag, or a manifest by its digest with all its tags. It cannot be undone.

    Registries differ: some refuse to delete a tag alone, some delete its manifest with it. Blobs are left to the
    registry's own collection.

    Args:
        reference: A reference with a tag or a digest.
        confirmed: Must be true.
        access: How the registry is reached.
        operation: The deadline and cancel switch.

    Raises:
        ConfigurationError: It is not confirmed, or the reference has neither tag nor digest.
        RevisionNotFoundError: It is not there.
    """
    target = parse_reference(reference)
    if not confirmed:
        raise ConfigurationError(f"{target} is not deleted without confirmation", hint="confirmed=True")
    if target.tag is None and target.digest is None:
        raise ConfigurationError(f"{target}: say which tag or digest to delete")
    with open_repository(target, access or Access(), operation or Operation()) as repository:
        repository.delete(_what(target))


def signature_tags(digest: Digest) -> tuple[str, ...]:
    """The tags under which cosign keeps what belongs to a digest, where there are no referrers. None can be for a sha512."""
    names = (f"{digest.algorithm}-{digest.hex}.{suffix}" for suffix in _SIGNATURE_SUFFIXES)
    return tuple(name for name in names if is_tag(name))


def _what(reference: Reference | LayoutReference) -> str:
    return str(reference.digest) if reference.digest is not None else reference.tag or _DEFAULT_TAG


def _point(repository: Repository, target: Reference | LayoutReference, top: Document, name: str) -> Copied:
    digest = top.descriptor.digest
    try:
        previous = repository.resolve(name).digest
    except RevisionNotFoundError:
        previous = None
    if previous != digest or isinstance(target, LayoutReference):  # where one may be found that has no name yet
        repository.push_document(top, tag=name)
    return Copied(attrs.evolve(target, tag=name, digest=digest), digest, previous, 0)


def _mountable(origin: Reference | LayoutReference, target: Reference | LayoutReference) -> str | None:
    """The repository to mount from: only where both are in one registry."""
    if isinstance(origin, Reference) and isinstance(target, Reference) and origin.api_host == target.api_host:
        return origin.api_repository
    return None


class _Copier:
    """Copies manifests with everything below them, each once."""

    def __init__(self, origin: Repository, target: Repository, mount_from: str | None, limits: Limits) -> None:
        self.uploaded = 0
        self.copied_referrers: list[Digest] = []
        self._origin = origin
        self._target = target
        self._mount_from = mount_from
        self._limits = limits

    def graph(self, document: Document) -> None:
        """A manifest or index, its parts first; the document itself goes under its digest.

        Where the document is already, its parts are looked for all the same: a retention policy may have eaten some.
        """

        def read(child: Descriptor) -> Document | None:
            found = self._found(str(child.digest))
            if found is None and not self._target.has(child):
                raise RevisionNotFoundError(f"{self._origin.name}@{child.digest} is not there", url=self._origin.name)
            return found

        for each, parsed in below(document, read, limits=self._limits, where=self._origin.name):
            if isinstance(parsed, Manifest):
                with ThreadPoolExecutor(_WORKERS, thread_name_prefix="fluxsrc-copy") as pool:
                    self.uploaded += sum(pool.map(self._blob, parsed.parts()))
            if not self._target.has(each.descriptor):
                self._target.push_document(each)

    def all_referrers(self, document: Document) -> None:
        """What refers to a manifest; of an index also what refers to any part of it."""
        for each, _ in below(
            document, lambda child: self._found(str(child.digest)), limits=self._limits, where=self._origin.name
        ):
            self.referrers_of(each.descriptor.digest)

    def _found(self, reference: str) -> Document | None:
        with contextlib.suppress(RevisionNotFoundError):
            return self._origin.document(reference)
        return None

    def referrers_of(self, digest: Digest, depth: int = 0) -> None:
        """What refers to a digest, and what refers to that; and cosign's tags."""
        if depth > _MAX_DEPTH:
            return
        for referrer in self._origin.referrers(digest):
            if referrer.digest in self.copied_referrers:
                continue
            # What is listed by hand under a tag may be deleted since: then there is no such referrer.
            if (document := self._found(str(referrer.digest))) is not None:
                self.graph(document)
                self.copied_referrers.append(referrer.digest)
                self.referrers_of(referrer.digest, depth + 1)
        for name in signature_tags(digest):
            if (document := self._found(name)) is not None:
                self.graph(document)
                self._target.push_document(document, tag=name)
                self.copied_referrers.append(document.descriptor.digest)

    def _blob(self, blob: Descriptor) -> int:
        @contextlib.contextmanager
        def opened() -> Iterator[BinaryIO]:
            spool = Spool()
            try:
                self._origin.fetch(blob, spool)
                yield spool.open()
            finally:
                spool.close()

        source: BlobSource = opened
        return blob.size if self._target.push(blob, source, mount_from=self._mount_from) else 0

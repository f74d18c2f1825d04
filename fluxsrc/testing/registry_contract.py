"""`RegistryContract`: what our OCI client needs of a registry, as a pytest suite to run against yours.

```python
class TestMyRegistry(RegistryContract):
    @pytest.fixture
    def remote(self):
        return Remote("oci://registry.example/scratch", Access(keychain=...))
```
"""

import secrets
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import attrs
import pytest

from fluxsrc.artifact import ANNOTATION_SOURCE
from fluxsrc.digest import Digest
from fluxsrc.entry import Mode
from fluxsrc.errors import RevisionNotFoundError
from fluxsrc.memory import MemoryFile, MemorySource
from fluxsrc.oci import Access, OCISource, ranges, registry, transfer
from fluxsrc.oci.access import open_repository
from fluxsrc.oci.listing import candidates, list_tags
from fluxsrc.oci.manifest import (
    EMPTY_CONFIG,
    INDEX_MEDIA_TYPE,
    MANIFEST_MEDIA_TYPE,
    Descriptor,
    Index,
    Manifest,
    Platform,
)
from fluxsrc.oci.publish import delete, promote, tag
from fluxsrc.oci.pushing import push
from fluxsrc.oci.reference import Reference
from fluxsrc.oci.repository import Document
from fluxsrc.operation import Operation
from fluxsrc.stores import LocalStore, MemoryStore

__all__ = ["RegistryContract", "Remote"]

_FILES = {
    "app.yaml": MemoryFile(b"kind: Deployment\n"),
    "bin/run.sh": MemoryFile(b"#!/bin/sh\n", Mode.EXECUTABLE),
}
_EMPTY = "application/vnd.oci.empty.v1+json"


@attrs.frozen
class Remote:
    """Where a test may write.

    Attributes:
        prefix: `oci://HOST/NAMESPACE`; every test makes repositories of its own below it.
        access: How the registry is reached.
        deletes: Whether it lets manifests be deleted.
        mounts: Whether blobs can be mounted from repository to repository.
        has_subjects: Whether it takes manifests with a subject.
        names_artifact_types: Whether its lists of referrers name `artifactType`, which is newer than the lists.
        keeps_untagged: Whether a manifest that its last tag left is still there: zot 1 drops it at once.
    """

    prefix: str
    access: Access
    deletes: bool = True
    mounts: bool = True
    has_subjects: bool = True
    names_artifact_types: bool = True
    keeps_untagged: bool = True

    def repository(self) -> str:
        """A new name."""
        return f"{self.prefix}/t{secrets.token_hex(6)}"

    def source(self, reference: str, **options: Any) -> OCISource:
        """A source that is allowed in."""
        access = self.access
        return OCISource(
            reference,
            keychain=access.keychain,
            tls=access.tls,
            insecure=access.insecure,
            tokens=access.tokens,
            **options,
        )


class RegistryContract:
    """Subclass it, and give it a `remote` fixture."""

    def _push(self, remote: Remote, destination: str, files: dict[str, MemoryFile] | None = None) -> Digest:
        return push(MemorySource(files or _FILES), destination, access=remote.access).digest

    def test_what_is_pushed_is_what_is_pulled(self, remote: Remote) -> None:
        """Equal content, through the registry and back."""
        name = remote.repository()
        annotations = {"team": "a=b", ANNOTATION_SOURCE: "https://example.com/repo"}
        pushed = push(MemorySource(_FILES), f"{name}:v1", annotations=annotations, access=remote.access)
        artifact = remote.source(f"{name}:v1").produce_artifact(MemoryStore())
        assert str(artifact.revision) == f"v1@{pushed.digest}"
        assert artifact.content_digest == MemorySource(_FILES).produce_artifact(MemoryStore()).content_digest
        assert dict(artifact.annotations).items() >= annotations.items()

    def test_pushing_again_moves_no_byte_and_changes_nothing(self, remote: Remote) -> None:
        """The manifest is deterministic, and blobs that are there are skipped."""
        name = remote.repository()
        fresh = MemorySource({"random": secrets.token_bytes(100)})  # some registries share blobs between repositories
        first = push(fresh, f"{name}:v1", access=remote.access)
        second = push(fresh, f"{name}:v2", access=remote.access)
        assert first.uploaded > 0
        assert (second.uploaded, second.digest) == (0, first.digest)

    def test_a_stored_artifact_is_pushed_as_it_is_stored(self, remote: Remote, tmp_path: Path) -> None:
        """The registry's manifest is the store's, to the byte."""
        store = LocalStore(tmp_path / "store")
        artifact = MemorySource(_FILES).produce_artifact(store)
        pushed = push(artifact, f"{remote.repository()}:v1", store=store, access=remote.access)
        assert pushed.digest == artifact.manifest

    def test_a_large_blob_goes_in_chunks(self, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
        """And arrives whole."""
        monkeypatch.setattr(transfer, "_UPLOAD_CHUNK", 1 << 20)
        files = {"large": MemoryFile(secrets.token_bytes(3 * (1 << 20) + 17))}
        name = remote.repository()
        self._push(remote, f"{name}:v1", files)
        with remote.source(f"{name}:v1").fetch() as snapshot:
            assert next(iter(snapshot.entries())).read() == files["large"].data

    def test_a_large_blob_comes_over_several_connections_where_one_is_slow(
        self, remote: Remote, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every connection counts as slow here."""
        for name, value in {"_FAST": float("inf"), "_PROBE": 1 << 20, "_WORTH": 1 << 20, "_SEGMENT": 1 << 20}.items():
            monkeypatch.setattr(ranges, name, value)
        files = {"large": MemoryFile(secrets.token_bytes(6 * (1 << 20) + 17))}
        name = remote.repository()
        self._push(remote, f"{name}:v1", files)
        with remote.source(f"{name}:v1").fetch() as snapshot:
            assert next(iter(snapshot.entries())).read() == files["large"].data

    def test_a_tag_can_move_and_a_digest_cannot(self, remote: Remote) -> None:
        """The old revision is still fetched whole by its digest."""
        name = remote.repository()
        source = remote.source(f"{name}:v1")
        first = self._push(remote, f"{name}:v1")
        if not remote.keeps_untagged:
            tag(f"{name}@{first}", "kept", access=remote.access)
        old = source.resolve_revision()
        self._push(remote, f"{name}:v1", {"new": MemoryFile(b"new")})
        assert source.resolve_revision() != old
        with source.fetch(old) as snapshot:
            assert [entry.path for entry in snapshot.entries()] == sorted(_FILES)

    def test_what_is_not_there_is_not_found(self, remote: Remote) -> None:
        """Neither tag nor repository nor digest."""
        name = remote.repository()
        with pytest.raises(RevisionNotFoundError):
            remote.source(f"{name}:v1").resolve_revision()
        with pytest.raises(RevisionNotFoundError):
            remote.source(name, semver="*").resolve_revision()
        self._push(remote, f"{name}:v1")
        with pytest.raises(RevisionNotFoundError):
            remote.source(f"{name}:v2").resolve_revision()
        with pytest.raises(RevisionNotFoundError), remote.source(f"{name}@sha256:{'0' * 64}").fetch():
            pass

    def test_versions_are_chosen_and_tags_listed(self, remote: Remote) -> None:
        """By range and pattern, newest first."""
        name = remote.repository()
        annotations = {ANNOTATION_SOURCE: "https://example.com/repo"}
        push(MemorySource(_FILES), f"{name}:1.0.0", annotations=annotations, access=remote.access)
        tag(f"{name}:1.0.0", "1.9.0", "1.10.0", "2.0.0-rc.1", "main", access=remote.access)
        source = remote.source(name, semver="1.x")
        assert source.resolve_revision().pointer == "1.10.0"
        infos = list_tags(name, semver=">=1.0.0", pattern=r"^1\.", access=remote.access)
        assert [info.tag for info in infos] == ["1.10.0", "1.9.0", "1.0.0"]
        assert {(info.source, info.digest) for info in infos} == {("https://example.com/repo", infos[0].digest)}
        assert {info.tag for info in list_tags(name, details=False, access=remote.access)} == {
            "1.0.0", "1.9.0", "1.10.0", "2.0.0-rc.1", "main",
        }  # fmt: skip

    def test_no_tag_is_missed_where_a_list_has_pages(self, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
        """However a registry says that there is more, and where it does not say it."""
        monkeypatch.setattr(registry, "_PAGE", 4)
        name = remote.repository()
        self._push(remote, f"{name}:t00")
        names = [f"t{number:02}" for number in range(12)]
        tag(f"{name}:t00", *names[1:], access=remote.access)
        assert sorted(info.tag for info in list_tags(name, details=False, access=remote.access)) == names

    def test_a_promotion_is_by_digest_and_mounts_what_it_can(self, remote: Remote) -> None:
        """Between tags and between repositories; and back again."""
        staging, production = remote.repository(), remote.repository()
        first = self._push(remote, f"{staging}:v1")
        promoted = promote(f"{staging}:v1", f"{production}:stable", access=remote.access)
        assert (promoted.digest, promoted.previous) == (first, None)
        assert promoted.uploaded == 0 or not remote.mounts
        second = self._push(remote, f"{staging}:v2", {"x": MemoryFile(b"2")})
        promoted = promote(f"{staging}:v2", f"{production}:stable", access=remote.access)
        assert (promoted.digest, promoted.previous) == (second, first)
        assert remote.source(f"{production}:stable").resolve_revision().digest == second
        back = promote(f"{production}@{first}", f"{production}:stable", access=remote.access)
        assert (back.digest, back.previous) == (first, second)
        assert remote.source(f"{production}:stable").resolve_revision().digest == first

    def test_referrers_come_along_if_asked_for(self, remote: Remote) -> None:
        """Signatures are there before the tag is."""
        if not remote.has_subjects:
            pytest.skip("this registry takes no manifests with a subject")
        here, there = remote.repository(), remote.repository()
        digest = self._push(remote, f"{here}:v1")
        signature = self._refer(remote, here, digest)
        promoted = promote(f"{here}:v1", f"{there}:v1", referrers=True, access=remote.access)
        assert promoted.referrers == (signature,)
        with open_repository(Reference.parse(there), remote.access, Operation()) as repository:
            (found,) = repository.referrers(digest)
        assert found.digest == signature
        assert found.artifact_type == "application/x.test" or not remote.names_artifact_types
        assert [info.tag for info in list_tags(there, access=remote.access)] == ["v1"]

    def _refer(self, remote: Remote, name: str, digest: Digest) -> Digest:
        config = Descriptor.of(EMPTY_CONFIG, _EMPTY)
        with open_repository(Reference.parse(name), remote.access, Operation()) as repository:
            subject = repository.resolve(str(digest))
            manifest = Manifest(
                config=config,
                layers=(config,),
                artifact_type="application/x.test",
                subject=Descriptor(media_type=MANIFEST_MEDIA_TYPE, digest=digest, size=subject.size),
            ).encode()
            described = Descriptor.of(manifest, MANIFEST_MEDIA_TYPE)
            repository.push(config, lambda: closing(BytesIO(EMPTY_CONFIG)))
            repository.push_document(Document(described, manifest))
        return described.digest

    def test_an_index_is_resolved_by_platform_and_keeps_its_own_digest(self, remote: Remote) -> None:
        """The revision is the index's, the content the platform's; all of it is promoted."""
        name = remote.repository()
        children = []
        for platform in ("linux/amd64", "linux/arm64"):
            digest = self._push(
                remote, f"{name}:{platform.replace('/', '-')}", {"platform": MemoryFile(platform.encode())}
            )
            with open_repository(Reference.parse(name), remote.access, Operation()) as repository:
                size = repository.resolve(str(digest)).size
            children.append(
                Descriptor(media_type=MANIFEST_MEDIA_TYPE, digest=digest, size=size, platform=Platform.parse(platform))
            )
        inner = self._index(remote, name, *children)
        outer = self._index(remote, name, inner)  # an index of indexes, too
        for described in (inner, outer):
            there = remote.repository()
            promote(f"{name}@{described.digest}", f"{there}:all", access=remote.access)
            source = remote.source(f"{there}:all", platform="linux/arm64")
            with source.fetch() as snapshot:
                assert snapshot.revision.digest == described.digest
                assert [entry.read() for entry in snapshot.entries()] == [b"linux/arm64"]

    def _index(self, remote: Remote, name: str, *children: Descriptor) -> Descriptor:
        data = Index(manifests=children).encode()
        described = Descriptor.of(data, INDEX_MEDIA_TYPE)
        with open_repository(Reference.parse(name), remote.access, Operation()) as repository:
            repository.push_document(Document(described, data), tag=described.digest.short)
        return described

    def test_a_copied_layer_is_the_layer_byte_for_byte(self, remote: Remote) -> None:
        """Its digest is the layer's."""
        name = remote.repository()
        artifact = push(MemorySource(_FILES), f"{name}:v1", access=remote.access).artifact
        copied = remote.source(f"{name}:v1", layer_operation="copy").produce_artifact(MemoryStore())
        assert (copied.digest, copied.size, copied.media_type) == (artifact.digest, artifact.size, artifact.media_type)
        assert copied.content_digest == artifact.content_digest

    def test_deleting_is_final(self, remote: Remote) -> None:
        """And what is gone is no candidate for a rollback any more."""
        if not remote.deletes:
            pytest.skip("this registry deletes nothing")
        name = remote.repository()
        store = MemoryStore()
        source = remote.source(f"{name}:v1")
        first = self._push(remote, f"{name}:v1")
        key = source.produce_artifact(store).key
        self._push(remote, f"{name}:v1", {"x": MemoryFile(b"2")})
        source.produce_artifact(store)
        (found,) = candidates(f"{name}:v1", store=store, key=key, access=remote.access)
        assert (found.digest, found.complete, found.stored) == (first, remote.keeps_untagged, True)
        if remote.keeps_untagged:
            delete(f"{name}@{first}", confirmed=True, access=remote.access)
        with pytest.raises(RevisionNotFoundError):
            delete(f"{name}@{first}", confirmed=True, access=remote.access)
        (found,) = candidates(f"{name}:v1", store=store, key=key, access=remote.access)
        assert (found.digest, found.missing) == (first, (first,))

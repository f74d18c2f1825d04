"""The public interface as a caller's type checker sees it. Nothing runs this file; mypy reads it."""

import threading
from pathlib import Path
from typing import assert_type

from fluxsrc import (
    AllOf,
    AnyOf,
    Artifact,
    Digest,
    DirectorySource,
    GitSignature,
    GitSource,
    IgnoreRules,
    LocalStore,
    MemoryFile,
    MemorySource,
    MemoryStore,
    Mode,
    Operation,
    Policy,
    Progress,
    Revision,
    Snapshot,
    Source,
    Store,
    produce_artifact,
    source_from_url,
)
from fluxsrc.signatures import GitEvidence


def three_lines() -> Artifact:
    """The contract as the README gives it."""
    source = source_from_url("git+file://.?branch=main")
    store = LocalStore("store")
    return source.produce_artifact(store)


def every_source_is_a_source(sources: list[Source]) -> None:
    """Structurally: nothing inherits from the protocol."""
    sources.append(MemorySource({"a": "text", "b": b"bytes", "c": MemoryFile(b"#!/bin/sh", Mode.EXECUTABLE)}))
    sources.append(DirectorySource("deploy"))
    sources.append(DirectorySource("deploy", ignore="*.md", dialect="flux", symlinks="keep", timeout=None))
    sources.append(GitSource("git+file:///srv/repo.git", branch="main"))


def every_store_is_a_store(stores: list[Store]) -> None:
    """The same for stores."""
    stores.append(MemoryStore())
    stores.append(LocalStore(Path("store")))


def the_values_have_types(source: Source, store: Store, cancel: threading.Event) -> None:
    """What the calls give."""

    def report(progress: Progress) -> None:
        assert_type(progress.total, int | None)

    operation = Operation(60, cancel, report)
    revision = source.resolve_revision(operation=operation)
    assert_type(revision, Revision)
    assert_type(revision.digest, Digest)
    with source.fetch(revision, operation=operation) as snapshot:
        assert_type(snapshot, Snapshot)
        for entry in snapshot.entries():
            assert_type(entry.mode, Mode)
            assert_type(entry.size, int)
            assert_type(entry.read(), bytes)
    artifact = produce_artifact(source, store, name="podinfo")
    assert_type(artifact.content_digest, Digest)
    assert_type(store.lookup(artifact.key), Artifact | None)
    assert_type(IgnoreRules(extra="*.md").excluded("README.md"), bool)


def policies_are_values(mine: Policy[GitEvidence]) -> None:
    """A policy of somebody else stands beside ours."""
    signed = GitSignature.from_files("allowed_signers", "ada.asc", mode="TagAndHEAD", identities=["ada@example.com"])
    source = GitSource(".", tag="v1.0.0", verify=AllOf([AnyOf([signed, mine]), mine]))
    with source.fetch() as snapshot:
        assert_type(snapshot.verification, tuple[tuple[str, str], ...])

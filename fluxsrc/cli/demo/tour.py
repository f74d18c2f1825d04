"""The tour: what `fluxsrc demo` does, step by step. Nothing in here is a fake; read it as a tutorial.

It runs in a directory that `fluxsrc.cli.demo.scene` has laid out: a Git repository, a bucket, and somebody's laptop. The
registry is an image layout, a directory; with one on the network, `oci://HOST/REPOSITORY:TAG` takes its place.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from fluxsrc import Artifact, Digest, LocalStore, Operation, Revision, source_from_url
from fluxsrc.cli.demo.scene import BUCKET, GIT, LAPTOP
from fluxsrc.errors import DigestMismatchError
from fluxsrc.inspect import diff, unified
from fluxsrc.oci import candidates, history, moves, promote, push

__all__ = ["Fact", "Step", "tour"]

Fact = Revision | Digest | str | int

_RELEASE: Final = "oci-layout:registry:v1.0.0"
_PROD: Final = "oci-layout:registry:prod"


@attrs.frozen(kw_only=True)
class Step:
    """One thing that was done.

    Attributes:
        title: What it is, in a line.
        commands: What one types for it.
        facts: What came out, by name; numbers are bytes.
        diff: The lines that differ, where it is these that came out.
    """

    title: str
    commands: Sequence[str]
    facts: Mapping[str, Fact] = attrs.field(factory=dict)
    diff: str = ""


def tour(store: LocalStore, operation: Operation) -> Iterator[Step]:
    """Every step, done when it is asked for. All of it is in the current directory.

    Args:
        store: An empty one, in the directory `store`.
        operation: The deadline, and the cancel switch.

    Raises:
        DigestMismatchError: Equal trees have different content digests. That must not be.
    """
    from_git = source_from_url(GIT).produce_artifact(store, operation=operation)
    yield Step(
        title="A tag in a Git repository becomes an artifact in a store.",
        commands=[_pull(GIT)],
        facts=_identity(from_git),
    )

    from_bucket = source_from_url(BUCKET).produce_artifact(store, operation=operation)
    yield Step(
        title="A bucket has the same files: another place, another revision, same content.",
        commands=[_pull(BUCKET)],
        facts=_identity(from_bucket),
    )

    push(from_git, _RELEASE, store=store, operation=operation)
    from_registry = source_from_url(_RELEASE).produce_artifact(store, operation=operation)
    yield Step(
        title="Published in a registry, and pulled from there, it is still the same.",
        commands=[f"fluxsrc push '{GIT}' {_RELEASE} --store store", _pull(_RELEASE)],
        facts=_identity(from_registry),
    )

    promoted = promote(_RELEASE, _PROD, operation=operation)
    prod = source_from_url(_PROD)
    released = prod.produce_artifact(store, operation=operation)
    yield Step(
        title="Promote it: the tag prod means it now. A store that pulls prod remembers.",
        commands=[f"fluxsrc promote {_RELEASE} {_PROD}", _pull(_PROD)],
        facts=_identity(released) | {"uploaded": promoted.uploaded},
    )

    push(source_from_url(LAPTOP), _PROD, operation=operation)
    hijacked = prod.produce_artifact(store, operation=operation)
    [moved] = moves(history(store, hijacked.key))
    yield Step(
        title="Somebody pushes over prod, from a laptop. The store has seen it move.",
        commands=[f"fluxsrc push {LAPTOP} {_PROD}", _pull(_PROD), f"fluxsrc history {_PROD} --store store"],
        facts={
            "was": moved.old,
            "was made from": released.origin,
            "is": moved.new,
            "is made from": hijacked.origin or "nobody says",
            "content": hijacked.content_digest,
        },
    )

    changes = diff(source_from_url(_RELEASE), prod, operation=operation)
    yield Step(
        title="What changed? Any two sources can be compared.",
        commands=[f"fluxsrc diff {_RELEASE} {_PROD}"],
        diff="".join(unified(changes)),
    )

    known = candidates(_PROD, store=store, key=hijacked.key, operation=operation)
    newest = next(each for each in known if each.complete)
    earlier = f"oci-layout:registry@{newest.digest}"
    restored = promote(earlier, _PROD, operation=operation)
    rolled_back = prod.produce_artifact(store, operation=operation)
    yield Step(
        title="Back again: promote what it was. Nothing is built, all of it is still there.",
        commands=[f"fluxsrc candidates {_PROD} --store store", f"fluxsrc promote {earlier} {_PROD}", _pull(_PROD)],
        facts=_identity(rolled_back) | {"uploaded": restored.uploaded},
    )

    same = {"Git": from_git, "bucket": from_bucket, "registry": from_registry, "prod": rolled_back}
    for place, artifact in same.items():
        if artifact.content_digest != from_git.content_digest:
            raise DigestMismatchError(
                f"the same files have another content digest in {place} than in Git",
                expected=str(from_git.content_digest),
                actual=str(artifact.content_digest),
            )
    yield Step(
        title="One tree, three places, a detour and the way back: one content digest.",
        commands=["fluxsrc store list --store store"],
        facts={place: str(artifact.content_digest) for place, artifact in same.items()},
    )


def _pull(url: str) -> str:
    quoted = f"'{url}'" if "?" in url else url
    return f"fluxsrc pull {quoted} --store store"


def _identity(artifact: Artifact) -> dict[str, Fact]:
    """The two names of an artifact: what it was made from, and what is in it."""
    return {"revision": artifact.revision, "content": artifact.content_digest}

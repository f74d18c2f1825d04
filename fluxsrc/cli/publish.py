"""`push`, `tag`, `promote`, `delete`: what registries hold, and what their tags point at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fluxsrc import oci
from fluxsrc.cli.documents import artifact_document
from fluxsrc.cli.options import a_store, named_values, optional_store, timeout_option
from fluxsrc.cli.paths import Place
from fluxsrc.cli.place import apart
from fluxsrc.cli.remotes import Remotes, SourceMaker, makes_sources, remote_options
from fluxsrc.cli.render import echo, echo_json, facts, plural, size
from fluxsrc.cli.sections import command
from fluxsrc.cli.session import Session, common_options, pass_session
from fluxsrc.cli.sign import SignerOptions, signatures_document, signatures_rows, signer_options
from fluxsrc.cli.targets import is_stored, stored
from fluxsrc.errors import ConfigurationError, RemoteProtocolError
from fluxsrc.oci import Access, Copied, LayoutReference, parse_reference

__all__ = ["delete", "promote", "push", "tag"]


@command()
@click.argument("what")
@click.argument("destination")
@click.option("--annotation", multiple=True, metavar="NAME=VALUE", help="A further fact for the manifest. Repeatable.")
@click.option(
    "--sign",
    "key",
    type=Place(dir_okay=False, path_type=Path),
    help="Sign it with this private key; the tag shows it only when the signature is there.",
)
@signer_options
@makes_sources
@optional_store
@common_options
@pass_session
def push(
    session: Session,
    what: str,
    destination: str,
    annotation: tuple[str, ...],
    key: Path | None,
    how: SignerOptions,
    make_source: SourceMaker,
    remotes: Remotes,
    timeout: float,
    store: Path | None,
) -> None:
    """Publish WHAT as DESTINATION in a registry or an image layout, for Flux and every OCI tool.

    WHAT is the URL of a source, or the digest of an artifact in --store, which is not packed again. With --store, the
    artifact of a source is made there.
    """
    notes = named_values(annotation, "--annotation")
    target = parse_reference(destination)
    access = Access(**remotes.options(destination, beside=() if is_stored(what) else (what,)))
    left_out: list[str] = []
    made: list[Any] = []
    options: dict[str, Any] = {"annotations": notes, "access": access, "attach": _signing(key, how, made)}
    if is_stored(what):
        make_source.refuse_policy(what)
        found = stored(what, store)
        with session.operation(timeout) as operation:
            pushed = oci.push(found.artifact, target, store=found.store, operation=operation, **options)
    else:
        layout = Path(target.path) if isinstance(target, LayoutReference) else None
        source = make_source(what, beside=(destination,))
        source, left_out = apart(source, {"--store": store, "the layout": layout})
        with a_store(store) as place, session.operation(timeout) as operation:
            artifact = source.produce_artifact(place, operation=operation)
            pushed = oci.push(artifact, target, store=place, operation=operation, **options)
    if session.json:
        document = {
            "reference": str(pushed.reference),
            "digest": str(pushed.digest),
            "uploaded": pushed.uploaded,
            "signatures": signatures_document(made),
        }
        echo_json(document | {"left_out": left_out, "artifact": artifact_document(pushed.artifact)})
        return
    for path in left_out:
        echo(f"left out: {path}, which this command writes", err=True)
    rows = [
        ("source", pushed.artifact.url),
        ("revision", str(pushed.artifact.revision)),
        ("content", str(pushed.artifact.content_digest)),
        ("pushed", str(pushed.reference)),
        ("uploaded", size(pushed.uploaded) if pushed.uploaded else "nothing: all of it was there"),
    ]
    rows += signatures_rows(made)
    echo(facts(rows))


def _signing(key: Path | None, how: SignerOptions, made: list[Any]) -> Callable[[Any, Any], object] | None:
    """What `push` calls before it moves the tag; the signatures go to `made`."""
    if key is None and how == SignerOptions():
        return None
    signer = how.signer(key, "--sign")
    return lambda repository, document: made.extend(signer(repository, document))


@command()
@click.argument("reference")
@click.argument("tags", nargs=-1, required=True)
@remote_options
@timeout_option
@common_options
@pass_session
def tag(session: Session, reference: str, tags: tuple[str, ...], remotes: Remotes, timeout: float) -> None:
    """Let TAGS point at what REFERENCE names, in the same repository."""
    access = Access(**remotes.options(reference))
    with session.operation(timeout) as operation:
        done = oci.tag(reference, *tags, access=access, operation=operation)
    if session.json:
        echo_json({"tags": [_document(copied) for copied in done]})
        return
    echo("\n\n".join(facts(_moved(copied)) for copied in done))


@command()
@click.argument("source")
@click.argument("destination")
@click.option("--referrers", is_flag=True, help="Bring signatures, attestations and SBOMs along.")
@remote_options
@timeout_option
@common_options
@pass_session
def promote(
    session: Session, source: str, destination: str, remotes: Remotes, timeout: float, *, referrers: bool
) -> None:
    """Let the tag DESTINATION point at exactly what SOURCE names now, in the same repository or far away.

    By digest: nothing is built again. Rolling back is promoting the digest of an earlier revision; `candidates` lists them.
    """
    access = Access(**remotes.options(source, beside=(destination,)))
    with session.operation(timeout) as operation:
        done = oci.promote(source, destination, referrers=referrers, access=access, operation=operation)
    if session.json:
        echo_json(_document(done))
        return
    rows = [*_moved(done), ("uploaded", size(done.uploaded) if done.uploaded else "nothing")]
    if referrers:
        rows.append(("along", plural(len(done.referrers), "referrer")))
    echo(facts(rows))


@command()
@click.argument("reference")
@click.option("--yes", is_flag=True, help="Yes, delete it. Without this, nothing is.")
@remote_options
@timeout_option
@common_options
@pass_session
def delete(session: Session, reference: str, remotes: Remotes, timeout: float, *, yes: bool) -> None:
    """Delete a tag, or a manifest by its digest, with all its tags. It cannot be undone."""
    if not yes:
        raise ConfigurationError(f"{parse_reference(reference)} is not deleted", hint="say --yes if it is meant")
    access = Access(**remotes.options(reference))
    with session.operation(timeout) as operation:
        try:
            oci.delete(reference, confirmed=True, access=access, operation=operation)
        except RemoteProtocolError as exc:
            exc.hint = (
                exc.hint or "not every registry deletes tags; `fluxsrc list` shows the digests, which all do delete"
            )
            raise
    if session.json:
        echo_json({"deleted": str(parse_reference(reference))})
    else:
        echo(facts([("deleted", str(parse_reference(reference)))]))


def _moved(copied: Copied) -> list[tuple[str, str]]:
    """Where it is, and the way back."""
    if copied.previous is None:
        before = "nothing: the tag is new"
    elif copied.previous == copied.digest:
        before = "the same"
    else:
        before = f"{copied.previous} (promote it to roll back)"
    return [("now", str(copied.reference)), ("before", before)]


def _document(copied: Copied) -> dict[str, Any]:
    """Where something is now, and what was there before."""
    return {
        "reference": str(copied.reference),
        "digest": str(copied.digest),
        "previous": None if copied.previous is None else str(copied.previous),
        "uploaded": copied.uploaded,
        "referrers": [str(digest) for digest in copied.referrers],
    }

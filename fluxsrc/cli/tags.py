"""`list`, `history`, `candidates`: what a repository holds, what a tag was, and what it could be again."""

import click

from fluxsrc import oci
from fluxsrc.cli.documents import artifact_document, revision_document, signed_by, time_text
from fluxsrc.cli.options import existing_store, optional_local_store, timeout_option
from fluxsrc.cli.remotes import Remotes, remote_options, takes_source
from fluxsrc.cli.render import echo, echo_json, plural, size, table
from fluxsrc.cli.sections import command
from fluxsrc.cli.session import Session, common_options, pass_session
from fluxsrc.digest import Digest
from fluxsrc.oci import Access, Candidate, Observed, OCISource, RefMoved, TagInfo
from fluxsrc.produce import source_key
from fluxsrc.source import Source
from fluxsrc.stores import LocalStore

__all__ = ["candidates", "history", "list_"]

_semver = click.option("--semver", metavar="RANGE", help="Only tags that are versions in this range, such as 1.x.")
_filter = click.option(
    "--filter",
    "pattern",
    metavar="REGEX",
    help="Only tags this is found in; a group may say which part is the version.",
)


@command("list")
@click.argument("reference")
@_semver
@_filter
@click.option("--no-details", is_flag=True, help="Only the names: one request for each thousand tags.")
@remote_options
@timeout_option
@common_options
@pass_session
def list_(
    session: Session,
    reference: str,
    semver: str | None,
    pattern: str | None,
    remotes: Remotes,
    timeout: float,
    *,
    no_details: bool,
) -> None:
    """List the tags of a repository, newest first, with what they point at."""
    access = Access(**remotes.options(reference))
    with session.operation(timeout) as operation:
        found = oci.list_tags(
            reference, semver=semver, pattern=pattern, details=not no_details, access=access, operation=operation
        )
    if session.json:
        echo_json({"reference": reference, "tags": [_tag_document(info) for info in found]})
    elif no_details:
        click.echo("".join(f"{info.tag}\n" for info in found), nl=False)
    else:
        rows = [
            (
                info.tag,
                "" if info.digest is None else str(info.digest),
                info.revision or "",
                time_text(info.created) or "",
                "" if info.size is None else size(info.size),
                info.source or "",
            )
            for info in found
        ]
        echo(table(("tag", "digest", "revision", "created", "size", "source"), rows, right=frozenset({4})))


@command()
@takes_source
@existing_store
@common_options
@pass_session
def history(session: Session, source: Source, timeout: float, store: LocalStore) -> None:
    """List what the source of a URL was over time, as a store saw it, newest first, and every time a name was moved."""
    del timeout  # nothing but the store is asked
    key = source_key(source)
    seen = oci.history(store, key)
    moves = list(oci.moves(seen))
    if session.json:
        echo_json(
            {
                "url": source.url,
                "key": str(key),
                "observations": [_observed_document(each) for each in seen],
                "moves": [_move_document(move) for move in moves],
            }
        )
        return
    rows = [_observed_row(each) for each in seen]
    shown = 5 if any(signers for *_, signers in rows) else 4  # who signed it, if anybody did
    echo(table(("observed", "revision", "content", "made from", "signed by")[:shown], [row[:shown] for row in rows]))
    for move in moves:
        where = "" if move.url in (None, source.url) else f", at {move.url}"
        when = time_text(move.observed)
        echo(f"moved: {move.pointer}, {when}: from {move.old.digest} to {move.new.digest}{where}")
    if not seen:
        echo("the store never saw it: `pull --store` is what watches", err=True)


@command()
@click.argument("reference")
@_semver
@_filter
@remote_options
@timeout_option
@optional_local_store
@common_options
@pass_session
def candidates(
    session: Session,
    reference: str,
    semver: str | None,
    pattern: str | None,
    remotes: Remotes,
    timeout: float,
    store: LocalStore | None,
) -> None:
    """List what a tag could be rolled back to, newest first, and whether all of each is still there.

    With --store, also what the store saw the tag point at, and whether the store can replace what the registry lost.
    """
    key = None if store is None else source_key(OCISource(reference))
    access = Access(**remotes.options(reference))
    with session.operation(timeout) as operation:
        found = oci.candidates(
            reference, store=store, key=key, semver=semver, pattern=pattern, access=access, operation=operation
        )
    if session.json:
        echo_json({"reference": reference, "candidates": [_candidate_document(one) for one in found]})
        return
    rows = [
        (
            str(one.digest),
            " ".join(one.tags),
            time_text(one.observed or one.created) or "",
            one.revision or "",
            _state(one),
        )
        for one in found
    ]
    echo(table(("digest", "tags", "when", "revision", "state"), rows))
    if not found:
        more = "" if store is not None else "; --store also knows what the tag was"
        echo(f"nothing to go back to{more}", err=True)


def _observed_row(each: Observed) -> tuple[str, ...]:
    made = each.artifact
    what = ("", "", "") if made is None else (_short(made.content_digest), made.origin, signed_by(made))
    return time_text(each.observed) or "", str(each.revision), *what


def _state(one: Candidate) -> str:
    state = "complete" if one.complete else f"the registry lost {plural(len(one.missing), 'part')} of it"
    return state + (", in the store" if one.stored else "")


def _short(digest: Digest) -> str:
    return f"{digest.algorithm}:{digest.short}"


def _tag_document(info: TagInfo) -> dict[str, object]:
    return {
        "tag": info.tag,
        "digest": None if info.digest is None else str(info.digest),
        "media_type": info.media_type,
        "size": info.size,
        "source": info.source,
        "revision": info.revision,
        "created": time_text(info.created),
    }


def _observed_document(each: Observed) -> dict[str, object]:
    document = revision_document(each.revision) | {"observed": time_text(each.observed), "url": each.url}
    return document | {"artifact": None if each.artifact is None else artifact_document(each.artifact)}


def _move_document(move: RefMoved) -> dict[str, object]:
    return {
        "pointer": move.pointer,
        "old": str(move.old.digest),
        "new": str(move.new.digest),
        "observed": time_text(move.observed),
        "url": move.url,
    }


def _candidate_document(one: Candidate) -> dict[str, object]:
    return {
        "digest": str(one.digest),
        "tags": list(one.tags),
        "revision": one.revision,
        "created": time_text(one.created),
        "observed": time_text(one.observed),
        "complete": one.complete,
        "missing": [str(digest) for digest in one.missing],
        "stored": one.stored,
    }

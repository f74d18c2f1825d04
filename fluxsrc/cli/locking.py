"""`lock`: write down what the sources of a file are, sign that, check that they still are, take exactly that."""

import datetime as dt
import os
from pathlib import Path
from typing import Any, Final

import click

from fluxsrc._io.atomic import store_errors, write_atomic
from fluxsrc.auth import Secret
from fluxsrc.cli.described import Described, takes_manifests
from fluxsrc.cli.documents import artifact_document
from fluxsrc.cli.failures import EXIT_CODES
from fluxsrc.cli.options import a_store, optional_store, timeout_option
from fluxsrc.cli.paths import Place
from fluxsrc.cli.pins import LOCK_FILE
from fluxsrc.cli.render import echo, echo_json, facts, plural
from fluxsrc.cli.sections import command
from fluxsrc.cli.session import Session, common_options, pass_session
from fluxsrc.errors import ConfigurationError, RefMovedError, SourceError
from fluxsrc.lock import Locked, LockFile, produce_locked
from fluxsrc.operation import Operation
from fluxsrc.signed_lock import SignedLock, sign_lock, signature_path

__all__ = ["lock"]

_PASSWORDS: Final = ("FLUXSRC_KEY_PASSWORD", "COSIGN_PASSWORD")
_MAX_KEY: Final = 64 * 1024


@command()
@takes_manifests(required=False)
@optional_store
@click.option(
    "--lock-file",
    type=Place(dir_okay=False, path_type=Path),
    default=LOCK_FILE,
    show_default=True,
    help="The file to write, or to hold the sources against.",
)
@click.option("--check", is_flag=True, help="Write nothing: say which sources are not what is locked.")
@click.option(
    "--locked", is_flag=True, help="Put what is locked into the store; fail if a source points elsewhere by now."
)
@click.option("--frozen", is_flag=True, help="Put what is locked into the store, without asking where sources point.")
@click.option(
    "--sign",
    type=Place(dir_okay=False, path_type=Path),
    help=f"Sign the lock file with this SSH key, or key in PEM; ${_PASSWORDS[0]} opens an encrypted one.",
)
@click.option(
    "--verify",
    multiple=True,
    type=Place(dir_okay=False, path_type=Path),
    help="First of all, the lock file must be signed by one of the keys in this file. Repeatable.",
)
@click.option(
    "--identity", multiple=True, metavar="NAME", help="With --verify: who has to have signed. Repeatable: any of them."
)
@timeout_option
@common_options
@pass_session
def lock(
    session: Session,
    described: Described,
    store: Path | None,
    lock_file: Path,
    timeout: float,
    sign: Path | None,
    verify: tuple[Path, ...],
    identity: tuple[str, ...],
    *,
    check: bool,
    locked: bool,
    frozen: bool,
) -> int:
    """Write revision and content digest of each source that manifests describe into a file, to be committed.

    With --check, --locked or --frozen, hold the sources against that file instead. --frozen touches no network for what the
    store has. Without --file, --sign and --verify are about the lock file that is there.
    """
    if check + locked + frozen > 1:
        raise ConfigurationError("--check, --locked and --frozen are three different things", hint="say one of them")
    if (locked or frozen) and store is None:
        raise ConfigurationError("where should the artifacts go?", hint="give --store DIR")
    held = check or locked or frozen
    if sign is not None and (held or verify):
        raise ConfigurationError(
            "--sign is for a lock that is written, not for one that is checked", hint="do one first"
        )
    if identity and not verify:
        raise ConfigurationError("--identity needs --verify: names without keys prove nothing")
    if verify and described.given and not held:
        raise ConfigurationError("--verify with --file: what for?", hint="say --check, --locked or --frozen as well")
    if (held and not described.given) or not (described.given or sign or verify):
        raise ConfigurationError("which sources?", hint="give --file FILE")
    # Read once: what is verified is what counts.
    approved = _verified(lock_file, verify, identity) if verify else LockFile.load(lock_file) if held else None
    if not described.given:
        return _sign(session, lock_file, sign) if sign is not None else _show(session, lock_file, verify, identity)
    with session.operation(timeout) as operation:
        if approved is None:
            return _write(session, described, lock_file, store, operation, sign)
        if check:
            return _check(session, described, approved, operation)
        assert store is not None
        return _take(session, described, approved, store, operation, frozen=frozen)


def _policy(file: Path, keys: tuple[Path, ...], identities: tuple[str, ...]) -> SignedLock:
    return SignedLock.from_files(file, keys=keys, identities=identities)


def _verified(file: Path, keys: tuple[Path, ...], identities: tuple[str, ...]) -> LockFile:
    return _policy(file, keys, identities).verified(dt.datetime.now(dt.UTC))[0]


def _show(session: Session, file: Path, keys: tuple[Path, ...], identities: tuple[str, ...]) -> int:
    """Say whose signature it is."""
    found, signer = _policy(file, keys, identities).verified(dt.datetime.now(dt.UTC))
    if session.json:
        document = {"lock_file": str(file), "signer": signer.name, "key": signer.key, "scheme": signer.scheme}
        echo_json(document | {"algorithm": signer.algorithm, "locked": sorted(found.sources)})
    else:
        rows = [("lock file", str(file)), ("signed by", f"{signer.name or 'a key without a name'}, {signer.key}")]
        echo(facts([*rows, ("locked", plural(len(found.sources), "source"))]))
    return 0


def _sign(session: Session, file: Path, key: Path) -> int:
    signature = _write_signature(file, key)
    if session.json:
        echo_json({"lock_file": str(file), "signature": str(signature)})
    else:
        echo(facts([("lock file", str(file)), ("signature", str(signature))]))
    return 0


def _write_signature(file: Path, key: Path) -> Path:
    password = next((os.environ[name] for name in _PASSWORDS if os.environ.get(name)), None)
    try:
        with key.open("rb") as opened:
            private = Secret(opened.read(_MAX_KEY).decode("ascii"))
        lock = file.read_bytes()
    except OSError as exc:
        raise ConfigurationError(f"cannot read {exc.filename}: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{key} is no private key in a text file") from None
    signature = sign_lock(lock, private, passphrase=Secret(password) if password else None)
    path = signature_path(file)
    with store_errors("write", path):
        write_atomic(path, signature, scratch=path.parent, durable=True)
    return path


def _write(
    session: Session, described: Described, file: Path, store: Path | None, operation: Operation, key: Path | None
) -> int:
    found = {}
    with a_store(store) as target:
        for each in described.load():
            artifact = each.source.produce_artifact(
                target, name=each.name, namespace=each.namespace, operation=operation
            )
            found[str(each.key)] = Locked.of(each.source, artifact)
    fresh = LockFile(found)
    changed = fresh.save(file)
    signature = None if key is None else _write_signature(file, key)
    if session.json:
        document = {"lock_file": str(file), "changed": changed, "locked": sorted(found)}
        echo_json(document | ({} if signature is None else {"signature": str(signature)}))
    else:
        rows = [(name, f"{each.revision} {each.content_digest}") for name, each in fresh.sources.items()]
        rows.append(("lock file", f"{file}{'' if changed else ' (as it was)'}"))
        echo(facts([*rows, *([] if signature is None else [("signature", str(signature))])]))
    return 0


def _check(session: Session, described: Described, locked: LockFile, operation: Operation) -> int:
    problems: list[dict[str, Any]] = []
    names = []
    for each in described.load():
        name = str(each.key)
        names.append(name)
        try:
            entry = locked.need(name, each.source)
        except ConfigurationError as exc:
            problems.append({"source": name, "problem": "NotLocked", "message": str(exc)})
            continue
        try:
            revision = each.source.resolve_revision(operation=operation)
        except SourceError as exc:
            problems.append({"source": name, "problem": exc.reason, "message": str(exc)})
            continue
        if revision != entry.revision:
            message = f"points at {revision}; locked is {entry.revision}"
            problems.append({"source": name, "problem": "RefMoved", "message": message})
    problems += [
        {"source": name, "problem": "Stale", "message": "locked, and described no more"} for name in locked.stale(names)
    ]
    if session.json:
        echo_json({"clean": not problems, "problems": problems})
    else:
        for problem in problems:
            echo(f"{problem['source']}: {problem['problem']}: {problem['message']}")
        echo(f"{plural(len(names), 'source')}, {plural(len(problems), 'problem')}", err=True)
    return EXIT_CODES[SourceError] if problems else 0


def _take(
    session: Session, described: Described, locked: LockFile, store: Path, operation: Operation, *, frozen: bool
) -> int:
    artifacts = []
    moved: list[RefMovedError] = []
    with a_store(store) as target:
        for each in described.load():
            entry = locked.need(str(each.key), each.source)
            try:
                artifacts.append(produce_locked(each, target, entry, frozen=frozen, operation=operation))
            except RefMovedError as exc:
                moved.append(exc)
    if len(moved) > 1:
        moved[0].message += f"; and {len(moved) - 1} more, see --check"
    if moved:
        raise moved[0]
    if session.json:
        echo_json({"artifacts": [artifact_document(artifact) for artifact in artifacts]})
    else:
        echo(facts([(str(each.key), f"{each.revision} {each.content_digest}") for each in artifacts]))
    return 0

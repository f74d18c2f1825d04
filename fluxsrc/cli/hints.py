"""What to do about an error, in the words of the command line: the library says `timeout=`, and here that is `--timeout`."""

import math
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from fluxsrc.errors import FluxSrcError, PathNotFoundError, RateLimitedError, RevisionNotFoundError, SourceError

__all__ = ["advice", "spoken"]

_AUTH: Final = "say --auth docker, netrc, git:HELPER or env"
_URL_OPTIONS: Final = (
    "ambiguous_keys|branch|endpoint|lfs_url|platform|region|semver|strip_prefix|tag|unsafe_keys|user_project"
)
_WORDS: Final = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"\btimeout=", "--timeout"),
        (r", or give the source a cache, or cache=None", ""),
        (r"raise it with Limits\(", "in a program of your own, raise it with Limits("),
        (r"symlinks='skip', 'keep' or 'dereference'", "--symlinks skip, keep or dereference"),
        (r"lfs='fetch' for the files or lfs='keep'", "--lfs fetch for the files or --lfs keep"),
        (r"lists? \(crls=\)", "list (--verify-crl)"),
        (
            r"identity='HOST/REPOSITORY', or sign with the layout 'bundle'",
            "--identity HOST/REPOSITORY, or --layout bundle",
        ),
        (r"give its CA with TLSConfig\(ca=\.\.\.\)", "give its CA with --ca-file"),
        (r"give one with TLSConfig\(certificate=\.\.\., key=\.\.\.\)", "give one with --cert-file and --key-file"),
        (r"plain HTTP\? then say so", "plain HTTP? then say --insecure, or of Git git+http://"),
        (r"are credentials given for this host, and still good\?", rf"\g<0> To give some, {_AUTH}"),
        (
            r"give an SSHKey\(identity=\.\.\., known_hosts=\.\.\.\) for this host",
            "say --auth env, with the key in $FLUXSRC_SSH_IDENTITY and the host's own in $FLUXSRC_SSH_KNOWN_HOSTS",
        ),
        (r"SSHKey\(passphrase=\.\.\.\)", "put it into $FLUXSRC_SSH_PASSPHRASE"),
        (
            r"give credentials=, or Anonymous\(\) for",
            "log in as with the cloud's own tools, or say ?anonymous=true for",
        ),
        (r"^oci://HOST\[:PORT\].*", r"\g<0>, or oci-layout:PATH[:NAME][@DIGEST]"),
        (r"=True\b", "=true"),
        (rf"(?<![?&\w])({_URL_OPTIONS})=(?:'([^']*)')?", r"?\1=\2"),
    )
)


def advice(error: FluxSrcError) -> str | None:
    """What the library advises; or else which command shows what is there, in place of what is not."""
    if error.hint is not None:
        return spoken(error.hint)
    if isinstance(error, RateLimitedError) and error.retry_after:
        return f"it asks for patience: try again in {math.ceil(error.retry_after):,} s"
    where = error.url or "" if isinstance(error, SourceError) else ""
    if isinstance(error, RevisionNotFoundError) and where.startswith(("oci://", "oci-layout:")):
        name = re.split("[?#]", where)[0]  # what is taken of it does not belong into a reference
        return f"`fluxsrc list {name}` shows its tags"
    if isinstance(error, PathNotFoundError):
        directory = Path(unquote(urlsplit(where).path)) if where.startswith("file:") else None
        if directory is not None and not directory.exists():
            return "a path names a directory; for a Git repository write git+https://…, for a registry oci://…"
        if directory is not None and not directory.is_dir():
            return "a path names a directory, never a single file"
        return "`fluxsrc ls` shows what is there"
    return None


def spoken(hint: str) -> str:
    """The advice as a user of the command line can follow it.

    >>> spoken("give it more time with timeout=, or see why the remote is slow")
    'give it more time with --timeout, or see why the remote is slow'
    >>> spoken("choose with platform='linux/amd64'")
    'choose with ?platform=linux/amd64'
    """
    for pattern, words in _WORDS:
        hint = pattern.sub(words, hint)
    return hint

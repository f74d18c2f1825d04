"""`GitSignature`: commits and tags must be signed, by OpenPGP or SSH keys that the caller names."""

import datetime as dt
import enum
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import attrs

from fluxsrc._units import why
from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, MissingExtraError, VerificationError
from fluxsrc.signatures import openpgp, sshsig
from fluxsrc.signatures.allowed_signers import AllowedSigners, identity_names
from fluxsrc.signatures.gitobject import SignedObject, git_oid, split_commit, split_tag, tag_target
from fluxsrc.signatures.openpgp import OpenPGPKeys, verify_openpgp
from fluxsrc.signatures.sshsig import verify_ssh
from fluxsrc.signatures.verdict import Check, Signer, failed
from fluxsrc.verify import Evidence, Facts, Policy, policy_digest

__all__ = ["GitEvidence", "GitSignature", "Keys", "SignedWhat"]

Keys = OpenPGPKeys | AllowedSigners
"""Keys that are trusted."""

_MAX_TAGS: Final = 32


class SignedWhat(enum.StrEnum):
    """What has to be signed; Flux's modes, in Flux's words."""

    HEAD = "HEAD"
    TAG = "Tag"
    TAG_AND_HEAD = "TagAndHEAD"

    @property
    def commit(self) -> bool:
        """Whether the commit has to be."""
        return self is not SignedWhat.TAG

    @property
    def tag(self) -> bool:
        """Whether the tag has to be."""
        return self is not SignedWhat.HEAD


@attrs.frozen(kw_only=True)
class GitEvidence:
    """What a Git source knows about a revision.

    Attributes:
        subject: Its redacted URL and the revision.
        now: The time of verification.
        commit_id: The commit that was resolved.
        commit: The commit object's content.
        tag: The tag that was followed, without `refs/tags/`; None where it was none.
        tags: The tag objects on the way to the commit, the followed one first; none, if the tag is a lightweight one.
    """

    subject: str
    now: dt.datetime
    commit_id: Digest
    commit: bytes = attrs.field(repr=False)
    tag: str | None = None
    tags: tuple[bytes, ...] = attrs.field(default=(), repr=False)


def _mode(value: "str | SignedWhat") -> SignedWhat:
    for mode in SignedWhat:
        if str(value).lower() == mode.value.lower():  # Flux takes "head" as well
            return mode
    raise ConfigurationError(f"not a mode: {value!r}", hint="one of HEAD, Tag, TagAndHEAD")


def _keys(value: Keys | Iterable[Keys]) -> tuple[Keys, ...]:
    keys = (value,) if isinstance(value, OpenPGPKeys | AllowedSigners) else tuple(value)
    if not keys:
        raise ConfigurationError("a signature policy without keys accepts nobody", hint="GitSignature.from_files(...)")
    return keys


@attrs.frozen
class GitSignature:
    """A policy: the commit, the tag, or both have to be signed by one of these keys.

    What is checked, of the tag first and then of the commit; a `VerificationError` gives the number of what failed:

    1. The object's content has the name that was resolved.
    2. A tag was followed, it is an annotated one, its own name is the one that was followed, and it leads, through any tags
       of tags, to the very commit.
    3. The object is as git writes it, and has exactly one signature, of a kind that is known: OpenPGP or SSH.
    4. The signature is one well-formed block of limited size, with nothing around it.
    5. Its algorithms are allowed: no MD5 or SHA-1, no DSA; in SSH the namespace is `git`, and the algorithm one of the key.
    6. The key is a trusted one, may sign this, and is not revoked.
    7. Key and signature are valid now, and were when it was made; and that is not in the future.
    8. The signer has one of the names that are asked for, if any are.
    9. The signature holds over exactly the content, without the signature.

    A key that expired is refused although it may have been good when it signed: that time is the signer's own word, and
    whoever finds an old key can write any.

    Attributes:
        keys: OpenPGP keys and allowed SSH signers; one of them has to have signed.
        mode: What has to be signed: "HEAD" (the commit), "Tag" or "TagAndHEAD".
        identities: Names of which the signer has to have one: principals of allowed signers, addresses of OpenPGP user ids.
            None given is anyone among the keys.
    """

    keys: tuple[Keys, ...] = attrs.field(converter=_keys)
    mode: SignedWhat = attrs.field(default=SignedWhat.HEAD, converter=_mode, kw_only=True)
    identities: tuple[str, ...] = attrs.field(default=(), converter=identity_names, kw_only=True)

    @classmethod
    def from_files(
        cls, *paths: str | os.PathLike[str], mode: str | SignedWhat = "HEAD", identities: Iterable[str] = ()
    ) -> Self:
        """A policy with the keys in some files: armored OpenPGP keys, allowed signers, or SSH public keys.

        Raises:
            ConfigurationError: A file cannot be read, or holds none of these.
            MissingExtraError: There is nothing to read OpenPGP keys with.
        """
        return cls([_read_keys(Path(path)) for path in paths], mode=mode, identities=identities)

    @property
    def digest(self) -> Digest:
        """Of mode, keys with all their conditions, and identities."""
        return policy_digest(
            "git-signature", mode=self.mode, keys=[repr(_value(key)) for key in self.keys], identities=self.identities
        )

    @property
    def needs(self) -> frozenset[str]:
        """The commit, the tag, or both."""
        return frozenset({"commit"} | ({"tag"} if self.mode.tag else set()))

    def check(self, evidence: GitEvidence, /) -> Facts:
        """Check tag and commit, as the mode says; see `Policy`."""
        facts: list[tuple[str, str]] = [("git.mode", self.mode.value), ("policy", str(self.digest))]
        algorithm = evidence.commit_id.algorithm
        try:
            if git_oid("commit", evidence.commit, algorithm) != evidence.commit_id.hex:
                raise failed(Check.OBJECT, f"the content is not that of commit {evidence.commit_id.hex}")
            if self.mode.tag:
                followed = _check_tag(evidence)
                facts += _facts("tag", self._check_signature(_split("tag", followed, algorithm), "tag", evidence.now))
            if self.mode.commit:
                commit = _split("commit", evidence.commit, algorithm)
                facts += _facts("commit", self._check_signature(commit, "commit", evidence.now))
        except VerificationError as exc:
            raise VerificationError(f"{evidence.subject}: {exc.message}", check=exc.check, hint=exc.hint) from None
        return tuple(facts)

    def _check_signature(self, signed: SignedObject, what: str, now: dt.datetime) -> Signer:
        """Checks 3 to 9 of one object."""
        if not signed.signature:
            raise failed(Check.SIGNATURE, f"the {what} is not signed")
        is_ssh = signed.signature.startswith(sshsig.BEGIN)
        if not is_ssh and not signed.signature.startswith(openpgp.BEGIN):
            raise failed(Check.SIGNATURE, f"the {what}'s signature is neither OpenPGP nor SSH")
        family = [key for key in self.keys if isinstance(key, AllowedSigners if is_ssh else OpenPGPKeys)]
        if not family:
            raise failed(
                Check.KEY, f"the {what} is signed with {'SSH' if is_ssh else 'OpenPGP'}, and no such key is trusted"
            )
        if is_ssh:
            allowed = AllowedSigners(
                tuple(entry for key in family if isinstance(key, AllowedSigners) for entry in key.signers)
            )
            return verify_ssh(
                signed.signature, signed.payload, allowed, when=signed.when, now=now, identities=self.identities
            )
        keys = OpenPGPKeys("\n".join(key.armored for key in family if isinstance(key, OpenPGPKeys)))
        return verify_openpgp(signed.signature, signed.payload, keys, now=now, identities=self.identities)


def _check_tag(evidence: GitEvidence) -> bytes:
    """Check 2; returns the tag object that was followed."""
    if evidence.tag is None:
        raise failed(Check.TAG, "no tag was followed to this commit", hint="choose one with tag= or semver=")
    if not evidence.tags:
        raise failed(
            Check.TAG,
            f"the tag {evidence.tag!r} is a lightweight one, which cannot be signed",
            hint="git tag --sign",
        )
    algorithm = evidence.commit_id.algorithm
    expected: str | None = None
    kind = "tag"
    for depth, data in enumerate(evidence.tags[:_MAX_TAGS]):
        if kind != "tag" or (expected is not None and git_oid("tag", data, algorithm) != expected):
            raise failed(Check.TAG, f"the tag {evidence.tag!r} does not lead to the tags that follow it")
        expected, kind, name = _target(data)
        if depth == 0 and name != evidence.tag:
            raise failed(Check.TAG, f"the tag {evidence.tag!r} holds a tag object of another name, {name[:200]!a}")
    if kind != "commit" or expected != evidence.commit_id.hex:
        raise failed(Check.TAG, f"the tag {evidence.tag!r} points at {expected}, not at the commit")
    return evidence.tags[0]


def _target(data: bytes) -> tuple[str, str, str]:
    try:
        return tag_target(data)
    except VerificationError as exc:
        raise failed(Check.SIGNATURE, exc.message) from None


def _split(what: str, data: bytes, algorithm: str) -> SignedObject:
    """Check 3, first part."""
    try:
        return split_tag(data) if what == "tag" else split_commit(data, algorithm)
    except VerificationError as exc:
        raise failed(Check.SIGNATURE, exc.message) from None


def _facts(what: str, signer: Signer) -> Facts:
    values = {
        "signer": signer.name,
        "key": signer.key,
        "signed": signer.when.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "scheme": signer.scheme,
        "algorithm": signer.algorithm,
    }
    return tuple((f"git.{what}.{name}", value) for name, value in values.items() if value)


def _value(keys: Keys) -> object:
    """What of the keys decides: not how their file is laid out."""
    if isinstance(keys, OpenPGPKeys):
        return keys.armored
    return [
        (
            *attrs.astuple(entry, recurse=False)[:1],
            entry.key.blob.hex(),
            entry.namespaces,
            str(entry.valid_after),
            str(entry.valid_before),
        )
        for entry in keys.signers
    ]


def _read_keys(path: Path) -> Keys:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"cannot read the keys in {path}: {why(exc)}") from exc
    try:
        return OpenPGPKeys.parse(text) if "-----BEGIN PGP" in text else AllowedSigners.parse(text)
    except MissingExtraError:
        raise
    except ConfigurationError as exc:
        raise ConfigurationError(f"{path}: {exc.message}", hint=exc.hint) from exc


if TYPE_CHECKING:

    def _(policy: GitSignature, evidence: GitEvidence) -> tuple[Policy[GitEvidence], Evidence]:
        return policy, evidence

"""`SignedLock`: a policy for any source: its content has to be what a signed lock file says it is.

A bucket, a directory, a web server has no signatures. But whoever approves what they hold can write it into a lock file
(`fluxsrc.lock`), and sign that, with an SSH key as `ssh-keygen -Y sign` does or with cosign's `sign-blob`. As `verify=` of a source
the lock then decides: not over what the source calls its revision, but over the digest of all files that come out of it.
"""

import datetime as dt
import enum
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import attrs

from fluxsrc._units import why
from fluxsrc.auth import Secret
from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, MissingExtraError, VerificationError
from fluxsrc.limits import DEFAULT_LIMITS
from fluxsrc.lock import Locked, LockFile
from fluxsrc.signatures.allowed_signers import AllowedSigners, identity_names
from fluxsrc.signatures.detached import MAX_SIGNATURE, DetachedKeys, Keys, parse_keys, sign_detached
from fluxsrc.signatures.publickeys import PublicKey
from fluxsrc.signatures.verdict import Check, Signer, failed
from fluxsrc.verify import CONTENT, ContentEvidence, Facts, Policy, policy_digest

__all__ = ["NAMESPACE", "LockCheck", "SignedLock", "sign_lock", "signature_path"]

NAMESPACE: Final = "fluxsrc-lock"
"""What `ssh-keygen -Y sign -n` has to be told."""


class LockCheck(enum.IntEnum):
    """What is checked of a lock once its signature holds."""

    LOCK = 10
    SOURCE = 11
    REVISION = 12
    CONTENT = 13


def _keys(value: Keys | Iterable[Keys]) -> tuple[Keys, ...]:
    keys = (value,) if isinstance(value, AllowedSigners | PublicKey) else tuple(value)
    if not keys:
        raise ConfigurationError("a signed lock without keys accepts nobody", hint="SignedLock.from_files(keys=...)")
    return keys


@attrs.frozen
class SignedLock:
    """A policy: the content is the one that a lock file has for this source, and a trusted key signed the lock file.

    What is checked; a `VerificationError` gives the number of what failed:

    3. There is a signature.
    4. It is one well-formed SSH signature, one Sigstore bundle, or base64 of one signature, and of limited size.
    5. Its algorithms are allowed; of SSH, it was made for this namespace. cosign's are made with a key, not a certificate.
    6. The key is a trusted one, and may sign this.
    7. It is valid now.
    8. The signer has one of the names that are asked for, if any are. cosign's keys have none.
    9. The signature holds over exactly the bytes of the lock file.
    10. These are a lock file, in the one way in which this library writes it.
    11. It has the source: under the name that is given, or else by its URL.
    12. If that is asked for, the source is at the locked revision.
    13. The digest of the content is the locked one.

    The digest is over every file's path, mode and bytes. How they came here, from where, or by which ignore rules, does not matter:
    a mirror is as good as the origin. Nothing is seen of the content, and no store records it, before all of this holds.

    An older lock that was signed holds as well, and older content with it. Whoever must not go back keeps the lock where its own
    history is guarded: in a Git repository, behind a `GitSignature` perhaps.

    Attributes:
        lock: The bytes of the lock file.
        signature: The bytes of the signature beside it.
        keys: Allowed SSH signers and public keys; one of them has to have signed.
        source: The source's name in the lock, `KIND/NAMESPACE/NAME`. None is whatever has the source's URL there.
        identities: Principals of allowed signers one of which has to have signed; none given is anyone among the keys.
        namespace: What SSH signatures have to be made for.
        revisions: Whether the source has to be at the locked revision, too. Buckets and directories name revisions by what
            differs between copies of the same content, so this is for Git, OCI and archives.
    """

    lock: bytes = attrs.field(repr=False)
    signature: bytes = attrs.field(repr=False)
    keys: tuple[Keys, ...] = attrs.field(converter=_keys, kw_only=True)
    source: str | None = attrs.field(default=None, kw_only=True)
    identities: tuple[str, ...] = attrs.field(default=(), converter=identity_names, kw_only=True)
    namespace: str = attrs.field(default=NAMESPACE, kw_only=True)
    revisions: bool = attrs.field(default=False, kw_only=True)

    @classmethod
    def from_files(
        cls,
        lock: str | os.PathLike[str] = "fluxsrc.lock",
        *,
        keys: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        signature: str | os.PathLike[str] | None = None,
        source: str | None = None,
        identities: Iterable[str] = (),
        namespace: str = NAMESPACE,
        revisions: bool = False,
    ) -> Self:
        """A policy of files.

        Args:
            lock: The lock file.
            keys: Files of allowed SSH signers, SSH public keys, or public keys in PEM as cosign has them.
            signature: The signature; by default the lock file's name with `.sig`.
            source: As in the class.
            identities: As in the class.
            namespace: As in the class.
            revisions: As in the class.

        Raises:
            ConfigurationError: A file cannot be read, or holds no keys.
            VerificationError: 3: there is no signature.
            MissingExtraError: There is nothing to read the keys with.
        """
        lock = Path(lock)
        files = [keys] if isinstance(keys, str | os.PathLike) else list(keys)
        trusted = [key for file in files for key in _read_keys(Path(file))]
        beside = signature_path(lock) if signature is None else Path(signature)
        try:
            text = _read(lock, "the lock file", at_most=int(DEFAULT_LIMITS.max_manifest_bytes))
        except FileNotFoundError:
            raise ConfigurationError(f"there is no lock file {lock}", hint="make it with fluxsrc lock") from None
        try:
            signed = _read(beside, "the signature", at_most=MAX_SIGNATURE)
        except FileNotFoundError:
            raise failed(Check.SIGNATURE, f"{lock} is not signed: there is no {beside}") from None
        return cls(
            text,
            signed,
            keys=trusted,
            source=source,
            identities=identities,
            namespace=namespace,
            revisions=revisions,
        )

    @property
    def digest(self) -> Digest:
        """Of the lock, its signature, the keys with all their conditions, and what is asked for."""
        return policy_digest(
            "signed-lock",
            lock=str(Digest.of(self.lock)),
            signature=str(Digest.of(self.signature)),
            keys=[_value(key) for key in self.keys],
            source=self.source,
            identities=self.identities,
            namespace=self.namespace,
            revisions=self.revisions,
        )

    @property
    def needs(self) -> frozenset[str]:
        """The content."""
        return frozenset({CONTENT})

    def check(self, evidence: ContentEvidence, /) -> Facts:
        """Checks 3 to 13; see `Policy`."""
        try:
            lock, signer = self.verified(evidence.now)
            name, locked = self._choose(lock, evidence)
        except VerificationError as exc:
            raise VerificationError(f"{evidence.subject}: {exc.message}", check=exc.check, hint=exc.hint) from None
        values = {
            "signer": signer.name,
            "key": signer.key,
            "scheme": signer.scheme,
            "algorithm": signer.algorithm,
            "source": name,
            "revision": str(locked.revision),
            "content": str(locked.content_digest),
            "digest": str(Digest.of(self.lock)),
        }
        return (*((f"lock.{name}", value) for name, value in values.items() if value), ("policy", str(self.digest)))

    def verified(self, now: dt.datetime) -> tuple[LockFile, Signer]:
        """The lock file, and who signed it: checks 3 to 10.

        Raises:
            VerificationError: One of them failed.
            MissingExtraError: There is nothing to check it with.
        """
        signer = DetachedKeys(self.keys, self.identities, self.namespace).verify(self.lock, self.signature, now=now)
        try:
            text = self.lock.decode("utf-8")
            lock = LockFile.parse(text)
        except (UnicodeDecodeError, ConfigurationError) as exc:
            raise failed(LockCheck.LOCK, f"what is signed is no lock file: {exc}"[:300]) from None
        if str(lock) != text:
            raise failed(
                LockCheck.LOCK, "the lock file is not written as fluxsrc writes it", hint="lock and sign again"
            )
        return lock, signer

    def _choose(self, lock: LockFile, evidence: ContentEvidence) -> tuple[str, Locked]:
        """Checks 11 to 13: the entry that vouches for the content."""
        candidates: Mapping[str, Locked] = {
            name: entry
            for name, entry in lock.sources.items()
            if (name == self.source if self.source is not None else entry.url == evidence.url)
        }
        if not candidates:
            asked = f"no source {self.source!r}" if self.source is not None else f"nothing of {evidence.url}"
            raise failed(LockCheck.SOURCE, f"the lock has {asked}")
        if self.revisions:
            candidates = {name: e for name, e in candidates.items() if e.revision.digest == evidence.revision.digest}
            if not candidates:
                raise failed(LockCheck.REVISION, f"{evidence.revision} is not a locked revision")
        for name, entry in candidates.items():
            if entry.content_digest == evidence.content_digest:
                return name, entry
        expected = " or ".join(str(entry.content_digest) for entry in candidates.values())
        raise failed(LockCheck.CONTENT, f"the content is {evidence.content_digest}; locked is {expected}")


def signature_path(lock: Path) -> Path:
    """Where the signature of a lock file is looked for: beside it."""
    return lock.with_name(f"{lock.name}.sig")


def sign_lock(
    lock: bytes, private_key: Secret, *, passphrase: Secret | None = None, namespace: str = NAMESPACE
) -> bytes:
    """The signature of a lock file.

    Args:
        lock: The bytes of the lock file.
        private_key: An SSH key, for a signature as `ssh-keygen -Y sign` makes it; or a key in PEM, cosign's own encrypted
            kind included, for a bundle as `cosign sign-blob` does.
        passphrase: Of an encrypted key.
        namespace: What an SSH signature is made for.

    Raises:
        ConfigurationError: The bytes are no lock file, or the key cannot sign.
        MissingExtraError: There is nothing to sign with.
    """
    LockFile.parse(lock.decode(errors="replace"))
    return sign_detached(lock, private_key, passphrase=passphrase, namespace=namespace)


def _value(key: Keys) -> object:
    """What of a key decides: not how its file is laid out."""
    if isinstance(key, PublicKey):
        return key.fingerprint
    return [
        (entry.principals, entry.key.blob.hex(), entry.namespaces, str(entry.valid_after), str(entry.valid_before))
        for entry in key.signers
    ]


def _read_keys(path: Path) -> Iterable[Keys]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"cannot read the keys in {path}: {why(exc)}") from exc
    try:
        return parse_keys(text)
    except MissingExtraError:
        raise
    except ConfigurationError as exc:
        raise ConfigurationError(f"{path}: {exc.message}", hint=exc.hint) from exc


def _read(path: Path, what: str, *, at_most: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(at_most + 1)
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise ConfigurationError(f"cannot read {what} {path}: {why(exc)}") from exc
    if len(data) > at_most:
        raise ConfigurationError(f"{what} {path} is larger than {at_most:,} bytes")
    return data


if TYPE_CHECKING:

    def _(policy: SignedLock) -> Policy[ContentEvidence]:
        return policy

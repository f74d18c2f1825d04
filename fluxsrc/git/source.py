"""`GitSource`: a Git repository as a source."""

import datetime as dt
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import attrs

from fluxsrc import signatures
from fluxsrc._io.temporary import temporary_directory
from fluxsrc._lazy import later
from fluxsrc.auth import Keychain, Proxy, TLSConfig, redact_url
from fluxsrc.entry import given_path
from fluxsrc.errors import ConfigurationError, LimitExceededError, RevisionNotFoundError, SourceChangedError
from fluxsrc.git.address import GitAddress
from fluxsrc.git.cache import GitCache
from fluxsrc.git.lfs import LFSPolicy
from fluxsrc.git.local import LocalRepository, local_errors, peel, read_tags
from fluxsrc.git.objects import ObjectDatabase
from fluxsrc.git.packfile import Kind
from fluxsrc.git.refs import TAGS, RefKind, Selector
from fluxsrc.git.snapshot import GitSnapshot, SnapshotOptions
from fluxsrc.operation import Operation
from fluxsrc.produce import Earlier, Packing, SourceOptions
from fluxsrc.revision import Revision
from fluxsrc.select import select
from fluxsrc.source import Snapshot, Source
from fluxsrc.store import Ingest
from fluxsrc.verify import Facts, split_policy

if TYPE_CHECKING:
    from fluxsrc import mounted
    from fluxsrc.git import lfs_store, remote, submodules, transport
else:  # to import all of it takes longer than a local repository's revision, or a remote one's poll
    mounted = later("fluxsrc.mounted")
    lfs_store, remote, submodules, transport = (
        later(f"fluxsrc.git.{name}") for name in ("lfs_store", "remote", "submodules", "transport")
    )

__all__ = ["GitSource"]

_CHOICES: Final = (RefKind.BRANCH, RefKind.TAG, RefKind.SEMVER, RefKind.REF, RefKind.COMMIT)


def _address(value: "str | os.PathLike[str] | GitAddress") -> GitAddress:
    return GitAddress.parse(value)


def _sparse(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise ConfigurationError("sparse is a sequence of paths, not one path", hint=f"sparse=[{value!r}]")
    return tuple(sorted({given_path(path.removeprefix("./").rstrip("/")) for path in value}))


@attrs.frozen(repr=False)
class GitSource(SourceOptions):
    """A source over a Git repository.

    At most one of `branch`, `tag`, `semver`, `ref` and `commit` says which revision; none of them is the remote's HEAD.
    Nothing is checked out: files come from Git's objects, and nothing of the repository is executed or obeyed.

    Attributes:
        address: `git+https://…`, `git+ssh://…`, `git@host:path`, `git+file://…`, or a path.
        branch: A branch's name.
        tag: A tag's name; annotated tags stand for their commit.
        semver: A range; of the tags that are versions within it the highest is chosen.
        tag_pattern: With `semver`: a regular expression that picks tags, and the version in them.
        ref: A full reference name, "refs/pull/1/head".
        commit: A full commit.
        submodules: Whether submodules are part of the snapshot; each is fetched as the commit its link names.
        sparse: Directories and files, relative to `path`, that are all of the snapshot; each must exist.
        lfs: What becomes of Git LFS pointers: "keep" (reported), "error" or "fetch".
        lfs_url: The LFS server, if it is not the repository's own.
        keychain: Asked for the credentials of an origin, anew for each operation.
        tls: How HTTPS servers prove who they are, and how we do.
        proxy: For HTTP and SSH.
        cache: Keeps what was fetched, for whoever comes next; None keeps nothing.
        verify: What has to hold of the commit or the tag, such as `GitSignature`, or of the content.
    """

    _evidence = frozenset({"commit", "tag"})

    address: GitAddress = attrs.field(converter=_address, repr=lambda address: repr(address.url))
    branch: str | None = attrs.field(default=None, kw_only=True)
    tag: str | None = attrs.field(default=None, kw_only=True)
    semver: str | None = attrs.field(default=None, kw_only=True)
    tag_pattern: str | None = attrs.field(default=None, kw_only=True)
    ref: str | None = attrs.field(default=None, kw_only=True)
    commit: str | None = attrs.field(default=None, kw_only=True)
    submodules: bool = attrs.field(default=False, kw_only=True)
    sparse: tuple[str, ...] = attrs.field(default=(), converter=_sparse, kw_only=True)
    lfs: LFSPolicy = attrs.field(default=LFSPolicy.KEEP, converter=LFSPolicy, kw_only=True)
    lfs_url: str | None = attrs.field(default=None, kw_only=True)

    keychain: Keychain | None = attrs.field(default=None, kw_only=True)
    tls: TLSConfig = attrs.field(factory=TLSConfig, kw_only=True)
    proxy: Proxy | None = attrs.field(default=None, kw_only=True)
    cache: GitCache | None = attrs.field(factory=GitCache, kw_only=True)
    _depth: int = attrs.field(default=0, kw_only=True, repr=False)

    def __attrs_post_init__(self) -> None:
        _ = self.selector  # says now what is wrong with the arguments
        self._check_policy()

    @property
    def kind(self) -> str:
        """Always "gitrepository"."""
        return "gitrepository"

    @property
    def url(self) -> str:
        """The canonical address, with everything that is taken of it as options and the sub-path as fragment."""
        given = {name: getattr(self, name) for name in ("branch", "tag", "semver", "tag_pattern", "ref", "commit")}
        given["submodules"] = "true" if self.submodules else None
        # Escaped twice: between paths stands a comma, and in them may be one.
        given["sparse"] = ",".join(quote(path) for path in self.sparse) or None
        given["lfs"] = None if self.lfs is LFSPolicy.KEEP else self.lfs.value
        given["lfs_url"] = None if self.lfs_url is None else redact_url(self.lfs_url)
        options = [f"{name}={quote(value, safe='/')}" for name, value in given.items() if value is not None]
        query = f"?{'&'.join(options)}" if options else ""
        return f"{self.address.url}{query}" + (f"#path={quote(self.path)}" if self.path else "")

    @property
    def selector(self) -> Selector:
        """Which revision is meant.

        Raises:
            ConfigurationError: More than one is, or what is given is no name, range or commit.
        """
        given = [kind for kind in _CHOICES if getattr(self, kind.value) is not None]
        if len(given) > 1:
            names = " and ".join(kind.value for kind in given)
            raise ConfigurationError(f"{names} are both given: one of them can say which revision", hint="give one")
        if self.tag_pattern is not None and given != [RefKind.SEMVER]:
            raise ConfigurationError("tag_pattern goes with semver", hint="give semver='*' for any version")
        if not given:
            return Selector(RefKind.HEAD)
        return Selector(given[0], getattr(self, given[0].value), self.tag_pattern)

    def resolve_revision(self, *, operation: Operation | None = None) -> Revision:
        """What the repository points at now; see `Source`. Costs one listing of the references in question."""
        operation = self._operation(operation)
        operation.check("resolve", url=self.url)
        if not self.address.is_local:
            return self._remote().resolve(self.selector, operation)
        repository = self._local()
        with local_errors(self._path), repository.open_objects(self.limits) as objects:
            pinned = self.selector.pinned
            if pinned is not None:
                self._check_commit(objects, pinned)
                return pinned
            refs = repository.refs(self.selector.prefixes, self.limits)
            return self.selector.revision(peel(self.selector.choose(refs, url=self.url), objects), url=self.url)

    @contextmanager
    def fetch(self, revision: Revision | None = None, /, *, operation: Operation | None = None) -> Iterator[Snapshot]:
        """The files of exactly this revision; see `Source`."""
        operation = self._operation(operation)
        if revision is None:
            revision = self.resolve_revision(operation=operation)
        options = SnapshotOptions(path=self.path, sparse=self.sparse, lfs=self.lfs, limits=self.limits)
        with ExitStack() as stack:
            open_lfs = partial(self._open_lfs, stack, revision, operation)
            objects = stack.enter_context(self._open(revision, operation))
            # Before the snapshot is made: what the policy refuses, nobody sees a name of.
            facts = self._verify(objects, revision, operation)
            snapshot = GitSnapshot(objects, revision, options, operation, open_lfs=open_lfs, verification=facts)
            whole = self._with_submodules(snapshot, stack, operation) if self.submodules else snapshot
            yield stack.enter_context(self._guarded(whole, operation))

    def _pack_snapshot(
        self, snapshot: Snapshot, blob: Ingest, earlier: Earlier | None, operation: Operation
    ) -> Packing:
        if self.lfs is LFSPolicy.FETCH and earlier is None:  # with one, packing says what it does not find in there
            for entry in select(snapshot, self.recipe, []):
                entry.expect()
        return super()._pack_snapshot(snapshot, blob, earlier, operation)

    def _with_submodules(self, snapshot: GitSnapshot, stack: ExitStack, operation: Operation) -> Snapshot:
        """The snapshot with its submodules mounted; each is a source of its own, pinned to a commit."""
        links = snapshot.submodules()
        if not links:
            return snapshot
        if self._depth >= submodules.MAX_DEPTH:
            raise LimitExceededError(
                f"{self.url}: submodules within submodules, {submodules.MAX_DEPTH} deep",
                limit="MAX_DEPTH",
                allowed=submodules.MAX_DEPTH,
            )
        urls = submodules.parse_modules(snapshot.read_from_root(".gitmodules"))
        mounts = []
        for link in links:
            whole = f"{self.path}/{link.path}" if self.path else link.path
            address = submodules.submodule_address(self.address, whole, urls.get(whole))
            at_home = address.origin == self.address.origin
            source = GitSource(
                address,
                commit=link.oid.hex(),
                submodules=True,
                lfs=self.lfs,
                limits=self.limits,
                # Asked by origin: another host gets what is meant for it, if anything is.
                keychain=self._access().effective_keychain,
                tls=self.tls if at_home else TLSConfig(ca=self.tls.ca),
                proxy=self.proxy,
                cache=self.cache,
                depth=self._depth + 1,
            )
            mounts.append((link.path, stack.enter_context(source.fetch(operation=operation))))
        replaces = frozenset(link.path for link in links)
        return mounted.MountedSnapshot(revision=snapshot.revision, base=snapshot, mounts=mounts, replaces=replaces)

    def _recipe_options(self) -> tuple[tuple[str, str], ...]:
        options = []
        if self.lfs is not LFSPolicy.KEEP:
            options.append(("lfs", self.lfs.value))
        options += [("sparse", path) for path in self.sparse]
        if self.submodules:
            options.append(("submodules", "true"))
        return tuple(options)

    def _check_policy(self) -> None:
        """Refuse a policy that cannot be answered: Flux stalls on it, too."""
        if self.verify is not None and "tag" in self.verify.needs and not self._follows_tag:
            raise ConfigurationError(
                f"the policy verifies the tag, and {self.selector} is none", hint="give tag= or semver="
            )

    @property
    def _follows_tag(self) -> bool:
        selector = self.selector
        by_name = selector.kind is RefKind.REF and selector.value.startswith(TAGS)
        return by_name or selector.kind in (RefKind.TAG, RefKind.SEMVER)

    def _verify(self, objects: ObjectDatabase, revision: Revision, operation: Operation) -> Facts:
        """Hold a revision against the policy: 1. collect the evidence, 2. check it, 3. return what was found out."""
        policy, _ = split_policy(self.verify)
        if policy is None:
            return ()
        tag: str | None = None
        tags: tuple[bytes, ...] = ()
        if "tag" in policy.needs:
            tag = (self.selector.ref_of(revision) or "").removeprefix(TAGS)
            tags = self._read_tags(objects, revision, operation)
        evidence = signatures.GitEvidence(
            subject=f"{self.url} at {revision.short}",
            now=dt.datetime.now(dt.UTC),
            commit_id=revision.digest,
            commit=objects.read_kind(bytes.fromhex(revision.digest.hex), Kind.COMMIT),
            tag=tag,
            tags=tags,
        )
        return policy.check(evidence)

    def _read_tags(self, objects: ObjectDatabase, revision: Revision, operation: Operation) -> tuple[bytes, ...]:
        """The tag objects that lead to a commit: a revision does not name them, so the reference is looked up again."""
        if not self.address.is_local:
            return self._remote().read_tags(revision, self.selector, operation)
        name = self.selector.ref_of(revision) or ""
        with local_errors(self._path):
            ref = self._local().refs((name,), self.limits).get(name)
            if ref is None or peel(ref, objects).final != revision.digest.hex:
                raise SourceChangedError(
                    f"{self.selector} of {self.url} is not at {revision.short} any more", url=self.url
                )
            return read_tags(objects, ref.oid)

    @contextmanager
    def _open(self, revision: Revision, operation: Operation) -> Iterator[ObjectDatabase]:
        """The objects of a revision, all there."""
        operation.check("fetch", url=self.url)
        if self.address.is_local:
            with local_errors(self._path):
                opened: AbstractContextManager[ObjectDatabase] = self._local().open_objects(self.limits)
        else:
            opened = self._remote().open(revision, self.selector, self._sparse_paths(), operation)
        with opened as objects:
            self._check_commit(objects, revision)
            yield objects

    def _open_lfs(
        self, stack: ExitStack, revision: Revision, operation: Operation, config: bytes | None
    ) -> "lfs_store.LFSStore":
        """The LFS files of a revision: beside its objects, where those are kept, and as long as the snapshot, else."""
        elsewhere = [self._local().lfs_objects] if self.address.is_local else []
        directory = None if self.address.is_local else self._remote().lfs_directory(revision, operation)
        if directory is None:
            directory = stack.enter_context(temporary_directory("lfs"))
        store = lfs_store.LFSStore(
            self._access(), directory, operation, config=config, url=self.lfs_url, elsewhere=elsewhere
        )
        return stack.enter_context(store)

    def _sparse_paths(self) -> tuple[str, ...]:
        """The sparse paths from the root of the repository."""
        return tuple(f"{self.path}/{path}" if self.path else path for path in self.sparse)

    @property
    def _path(self) -> Path:
        return Path(self.address.path)

    def _local(self) -> LocalRepository:
        with local_errors(self._path):
            return LocalRepository.find(self._path)

    def _remote(self) -> "remote.RemoteRepository":
        return remote.RemoteRepository(self._access(), self.cache, self.url)

    def _access(self) -> "transport.Access":
        return transport.Access(
            address=self.address, keychain=self.keychain, tls=self.tls, proxy=self.proxy, limits=self.limits
        )

    def _check_commit(self, objects: ObjectDatabase, revision: Revision) -> None:
        oid = bytes.fromhex(revision.digest.hex)
        if len(oid) != objects.object_format.raw_size or oid not in objects:
            raise RevisionNotFoundError(f"commit {revision.digest} is not in {self.url}", url=self.url)
        kind = objects.kind(oid)
        if kind is not Kind.COMMIT:
            raise RevisionNotFoundError(
                f"{revision.digest} in {self.url} is a {kind.word.decode()}, not a commit", url=self.url
            )


if TYPE_CHECKING:

    def _(source: GitSource) -> Source:
        return source

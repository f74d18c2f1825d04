"""The sources without a remote, and wrappers around one, pass the contract; the contract rejects sources that break it."""

import contextlib
import inspect
import io
import json
import os
import shutil

import attrs
import pytest

from fluxsrc.auth import Secret
from fluxsrc.digest import Digest
from fluxsrc.directory import DirectorySource
from fluxsrc.entry import Mode
from fluxsrc.errors import TransportError
from fluxsrc.memory import MemorySource
from fluxsrc.revision import Revision
from fluxsrc.source import Source
from fluxsrc.testing import SourceContract
from fluxsrc.wrappers import Include, Included, Wrapper


class DirectoryOrigin:
    secrets = ()
    keeps_modes = True

    def __init__(self, root):
        self.root = root

    def publish(self, files):
        shutil.rmtree(self.root, ignore_errors=True)
        for path, file in files.items():
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.mode is Mode.SYMLINK:
                os.symlink(file.data, os.fsencode(target))
            else:
                target.write_bytes(file.data)
                target.chmod(file.mode.permissions)

    def source(self, **options):
        return DirectorySource(self.root, **options)

    def missing(self):
        return DirectorySource(self.root / "missing")


class TestDirectorySource(SourceContract):
    @pytest.fixture
    def origin(self, tmp_path):
        return DirectoryOrigin(tmp_path / "root")


_PUBLISHED = {}


@attrs.frozen
class SharedMemorySource(MemorySource):
    """A memory source that looks its files up by label, so that an equal value sees what is published."""

    files = attrs.field(factory=dict, init=False, eq=False)
    token: Secret = attrs.field(default=Secret("hunter2"), kw_only=True)

    def _now(self):
        options = {f.name: getattr(self, f.name) for f in attrs.fields(MemorySource) if f.name != "files"}
        return MemorySource(_PUBLISHED[self.label], **options)

    def resolve_revision(self, *, operation=None):
        if self.label not in _PUBLISHED:
            return MemorySource({}, path="missing").fetch(operation=operation).__enter__().revision
        return self._now().resolve_revision(operation=operation)

    def fetch(self, revision=None, /, *, operation=None):
        return self._now().fetch(revision, operation=operation)

    def __reduce__(self):
        return _shared, (type(self), {f.name: getattr(self, f.name) for f in attrs.fields(type(self)) if f.init})


def _shared(cls, fields):
    return cls(**fields)


class MemoryOrigin:
    secrets = ("hunter2",)
    keeps_modes = True
    cls = SharedMemorySource

    def publish(self, files):
        _PUBLISHED[self.cls.__name__] = files

    def source(self, **options):
        return self.cls(label=self.cls.__name__, **options)

    def missing(self):
        return self.cls(label="missing")


class TestMemorySource(SourceContract):
    @pytest.fixture
    def origin(self):
        return MemoryOrigin()


class WrappedOrigin(MemoryOrigin):
    def source(self, **options):
        return self.wrap(super().source(**options))

    def missing(self):
        return self.wrap(super().missing())


@attrs.frozen
class _Plain(Wrapper):
    source: Source


class TestWrapper(SourceContract):
    """A wrapper that changes nothing is as good as what it is around."""

    @pytest.fixture
    def origin(self):
        origin = WrappedOrigin()
        origin.wrap = _Plain
        return origin


class TestInclude(SourceContract):
    """What is mounted is empty: so all that can be told of the source must hold of the whole."""

    @pytest.fixture
    def origin(self):
        _PUBLISHED["nothing"] = {}
        nothing = Included(SharedMemorySource(label="nothing"), "deploy/more")
        origin = WrappedOrigin()
        origin.wrap = lambda source: Include(source=source, includes=[nothing])
        return origin


# --- planted faults --------------------------------------------------------------------------------------------------


@attrs.frozen
class _Changed:
    """A snapshot with some of its behaviour replaced."""

    inner: object
    replaced: dict

    def __getattr__(self, name):
        return self.replaced.get(name) or getattr(self.inner, name)


class _Faulty(SharedMemorySource):
    def change(self, snapshot):
        return {}

    @contextlib.contextmanager
    def fetch(self, revision=None, /, *, operation=None):
        with super().fetch(revision, operation=operation) as snapshot:
            yield _Changed(snapshot, self.change(snapshot))


class WrongOrder(_Faulty):
    def change(self, snapshot):
        return {"entries": lambda: iter(sorted(snapshot.entries(), key=lambda entry: entry.path.split("/")))}


class OneShotIterator(_Faulty):
    def change(self, snapshot):
        once = snapshot.entries()
        return {"entries": lambda: once}


class OneShotContent(_Faulty):
    def change(self, snapshot):
        def entries():
            for entry in snapshot.entries():
                stream = io.BytesIO(entry.read())
                yield attrs.evolve(entry, opener=lambda stream=stream: stream, reader=None)

        listing = list(entries())
        return {"entries": lambda: iter(listing)}


class MissingEntry(_Faulty):
    def change(self, snapshot):
        return {"entries": lambda: (entry for entry in snapshot.entries() if entry.size)}


class WrongSize(_Faulty):
    def change(self, snapshot):
        return {"entries": lambda: (attrs.evolve(entry, size=entry.size + 1) for entry in snapshot.entries())}


class ForgetsModes(_Faulty):
    def change(self, snapshot):
        return {"entries": lambda: (attrs.evolve(entry, mode=Mode.FILE) for entry in snapshot.entries())}


class ForeignException(_Faulty):
    def change(self, snapshot):
        def entries():
            yield from snapshot.entries()
            raise KeyError("from some library")

        return {"entries": entries}


class ForeignExceptionWhenContentGoes(_Faulty):
    """Well-behaved until something happens to the remote in the middle of an iteration."""

    def change(self, snapshot):
        listed = _PUBLISHED[self.label]

        def entries():
            for entry in snapshot.entries():
                if _PUBLISHED[self.label] is not listed:
                    raise KeyError(f"404: {entry.path}")
                yield entry

        return {"entries": entries}


class ReadsWhatIsThereNow(_Faulty):
    """Lists what was there, and reads what is there, as long as the sizes agree."""

    def change(self, snapshot):
        def entries():
            for entry in snapshot.entries():
                now = _PUBLISHED[self.label].get(entry.path)
                data = now.data if now else bytes(entry.size)
                yield attrs.evolve(entry, opener=lambda data=data: io.BytesIO(data), reader=None)

        return {"entries": entries}


class StaleContentIds(_Faulty):
    """Names contents by their paths: what changed looks like what was there."""

    def change(self, snapshot):
        return {
            "entries": lambda: (attrs.evolve(entry, content_id=f"path:{entry.path}") for entry in snapshot.entries())
        }


@attrs.frozen
class _ForgetfulSnapshot(_Changed):
    """Says what changed since an earlier revision, but for what is below a directory."""

    def entries(self):
        return (attrs.evolve(each, content_id=str(Digest.of(each.read()))) for each in self.inner.entries())

    def entries_from(self, path):
        return (each for each in self.entries() if each.path >= path)

    def survey(self):
        return json.dumps({each.path: each.content_id for each in self.entries()})

    def changed_since(self, revision, survey):
        before, now = json.loads(survey), json.loads(self.survey())
        changed = {path for path, _ in before.items() ^ now.items()}
        return sorted(path for path in changed if "/" not in path or self.replaced.get("is honest"))


class ForgetsChanges(SharedMemorySource):
    is_honest = False

    @contextlib.contextmanager
    def fetch(self, revision=None, /, *, operation=None):
        with super().fetch(revision, operation=operation) as snapshot:
            yield _ForgetfulSnapshot(snapshot, {"is honest": self.is_honest})


class ForgetsNothing(ForgetsChanges):
    is_honest = True


class ForeignExceptionForMissing(SharedMemorySource):
    def resolve_revision(self, *, operation=None):
        return super().resolve_revision(operation=operation) if self.label != "missing" else _PUBLISHED[object()]


class SecretInRepr(SharedMemorySource):
    def __repr__(self):
        return f"SecretInRepr({self.token.reveal()})"


class SecretInSnapshot(_Faulty):
    def change(self, snapshot):
        return {"annotations": {"origin": f"https://user:{self.token.reveal()}@host"}}


class SecretInAnError(SharedMemorySource):
    def resolve_revision(self, *, operation=None):
        if self.label == "missing":
            raise TransportError("no answer", url="memory:") from OSError(
                f"no route to user:{self.token.reveal()}@host"
            )
        return super().resolve_revision(operation=operation)


class SecretInUrl(SharedMemorySource):
    @property
    def url(self):
        return f"memory:{self.token.reveal()}@host"


class RevisionDrift(SharedMemorySource):
    def resolve_revision(self, *, operation=None):
        super().resolve_revision(operation=operation)
        return Revision(Digest.of(os.urandom(8)))


class AlwaysNewest(SharedMemorySource):
    def fetch(self, revision=None, /, *, operation=None):
        snapshot = super().fetch(None, operation=operation).__enter__()
        return contextlib.nullcontext(_Changed(snapshot, {"revision": revision} if revision else {}))


class StaleRevision(SharedMemorySource):
    def resolve_revision(self, *, operation=None):
        super().resolve_revision(operation=operation)
        return Revision(Digest.of(b"always the same"))


class Unpicklable(SharedMemorySource):
    def __reduce__(self):
        raise TypeError("cannot pickle a lock")


class ComparesByIdentity(SharedMemorySource):
    __eq__ = object.__eq__
    __hash__ = object.__hash__


class IgnoresItsPath(SharedMemorySource):
    def _now(self):
        return attrs.evolve(super()._now(), path="")


class NeverCancelled(SharedMemorySource):
    def resolve_revision(self, *, operation=None):
        return super().resolve_revision()


def failures(origin):
    """The names of the contract's tests that this origin's sources fail."""
    contract = SourceContract()
    failed = []
    for name, test in inspect.getmembers(contract, inspect.ismethod):
        if name.startswith("test_"):
            origin.publish(contract._expected(origin))
            try:
                test(origin)
            except (Exception, pytest.fail.Exception):
                failed.append(name)
    return failed


@pytest.mark.parametrize("honest", [SharedMemorySource, ForgetsNothing])
def test_the_contract_accepts_the_sources_that_the_faults_are_planted_in(honest):
    """Else the next test would prove nothing."""
    origin = MemoryOrigin()
    origin.cls = honest
    assert failures(origin) == []


@pytest.mark.parametrize(
    ("fault", "caught_by"),
    [
        (WrongOrder, "test_entries_come_in_the_order_of_their_paths_bytes"),
        (OneShotIterator, "test_entries_can_be_iterated_again_and_at_once"),
        (OneShotContent, "test_an_entry_can_be_opened_again_and_read_as_a_stream"),
        (MissingEntry, "test_a_snapshot_holds_exactly_what_was_published"),
        (WrongSize, "test_a_snapshot_holds_exactly_what_was_published"),
        (ForgetsModes, "test_a_snapshot_holds_exactly_what_was_published"),
        (ForeignException, "test_a_snapshot_holds_exactly_what_was_published"),
        (ForeignExceptionWhenContentGoes, "test_content_that_goes_away_while_it_is_read_is_one_of_our_errors"),
        (ReadsWhatIsThereNow, "test_content_that_goes_away_while_it_is_read_is_one_of_our_errors"),
        (StaleContentIds, "test_a_changed_source_makes_a_new_artifact"),
        (ForgetsChanges, "test_changes_of_every_kind_make_what_a_fresh_start_makes"),
        (ForeignExceptionForMissing, "test_a_missing_origin_is_one_of_our_errors"),
        (SecretInAnError, "test_a_missing_origin_is_one_of_our_errors"),
        (SecretInRepr, "test_it_shows_no_secret"),
        (SecretInSnapshot, "test_it_shows_no_secret"),
        (SecretInUrl, "test_it_shows_no_secret"),
        (RevisionDrift, "test_unchanged_content_keeps_its_revision"),
        (AlwaysNewest, "test_what_was_resolved_is_what_is_fetched"),
        (StaleRevision, "test_changed_content_changes_the_revision"),
        (Unpicklable, "test_it_is_a_value"),
        (ComparesByIdentity, "test_it_is_a_value"),
        (IgnoresItsPath, "test_a_path_makes_a_sub_tree_the_whole"),
        (NeverCancelled, "test_cancelling_stops_it"),
    ],
)
def test_the_contract_rejects(fault, caught_by):
    """Each fault, by the test that is about it."""
    origin = MemoryOrigin()
    origin.cls = fault
    assert caught_by in failures(origin)

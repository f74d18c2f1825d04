"""The sources without a remote pass the contract, and the contract rejects sources that break it."""

import contextlib
import inspect
import io
import os
import shutil

import attrs
import pytest

from fluxsrc.auth import Secret
from fluxsrc.digest import Digest
from fluxsrc.directory import DirectorySource
from fluxsrc.entry import Mode
from fluxsrc.memory import MemorySource
from fluxsrc.revision import Revision
from fluxsrc.testing import SourceContract


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


class ForeignException(_Faulty):
    def change(self, snapshot):
        def entries():
            yield from snapshot.entries()
            raise KeyError("from some library")

        return {"entries": entries}


class ForeignExceptionForMissing(SharedMemorySource):
    def resolve_revision(self, *, operation=None):
        return super().resolve_revision(operation=operation) if self.label != "missing" else _PUBLISHED[object()]


class SecretInRepr(SharedMemorySource):
    def __repr__(self):
        return f"SecretInRepr({self.token.reveal()})"


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


class NeverCancelled(SharedMemorySource):
    def resolve_revision(self, *, operation=None):
        return super().resolve_revision()


FAULTS = [
    WrongOrder,
    OneShotIterator,
    OneShotContent,
    MissingEntry,
    ForeignException,
    ForeignExceptionForMissing,
    SecretInRepr,
    SecretInUrl,
    RevisionDrift,
    AlwaysNewest,
    StaleRevision,
    Unpicklable,
    NeverCancelled,
]


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


def test_the_contract_accepts_the_source_that_the_faults_are_planted_in():
    assert failures(MemoryOrigin()) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_the_contract_rejects(fault):
    origin = MemoryOrigin()
    origin.cls = fault
    assert failures(origin)

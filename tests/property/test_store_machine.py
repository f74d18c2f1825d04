"""Any sequence of operations does the same to a store on disk as to the one in memory."""

import json
import pickle
import shutil
import tempfile
from pathlib import Path

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from fluxsrc.artifact import SourceKey
from fluxsrc.digest import Digest
from fluxsrc.errors import ArtifactNotFoundError
from fluxsrc.stores import LocalStore, MemoryStore
from fluxsrc.testing.store_contract import make_artifact, put_new

keys = st.sampled_from([SourceKey("memory", "default", name) for name in ("a", "a-b", "a.json", "n" * 253)])
texts = st.sampled_from(["", "one", "two", "three"])
revisions = st.sampled_from(["r1", "r2", "r3"])
pin_names = st.sampled_from(["stable", "release-1.0"])


def timeless(artifact):
    """An artifact without the one field that two clocks may tell differently."""
    return None if artifact is None else attrs.evolve(artifact, observed=None)


class StoreMachine(RuleBasedStateMachine):
    artifacts = Bundle("artifacts")

    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.disk = LocalStore(self.directory / "store", durable=False)
        self.memory = MemoryStore()

    def teardown(self):
        shutil.rmtree(self.directory)

    def both(self, action):
        """Do the same to both; the outcomes, errors included, must agree."""
        outcomes = []
        for store in (self.disk, self.memory):
            try:
                outcomes.append(action(store))
            except ArtifactNotFoundError as exc:
                outcomes.append(type(exc))
        assert outcomes[0] == outcomes[1]
        return outcomes[0]

    @rule(target=artifacts, key=keys, text=texts, revision=revisions, index=st.none() | st.binary(max_size=5))
    def put_blob(self, key, text, revision, index):
        return self.both(lambda store: timeless(put_new(store, text, key=key, revision=revision, index=index)))

    @rule(target=artifacts, key=keys, text=texts, revision=revisions)
    def put_without_blob(self, key, text, revision):
        artifact, _ = make_artifact(text, key=key, revision=revision)
        found = self.both(lambda store: timeless(store.put(artifact)))
        return multiple() if found is ArtifactNotFoundError else found

    @rule(artifact=artifacts)
    def read(self, artifact):
        def blob(store):
            with store.open(artifact) as stream:
                return stream.read()

        data = self.both(blob)
        assert data is ArtifactNotFoundError or Digest.of(data) == artifact.digest
        self.both(lambda store: store.index(artifact))

    @rule(key=keys)
    def forget(self, key):
        self.both(lambda store: store.forget(key))

    @rule(key=st.none() | keys, records=st.integers(1, 3))
    def retain(self, key, records):
        self.both(lambda store: store.retain(key, records=records))

    @rule(artifact=artifacts, name=pin_names)
    def pin(self, artifact, name):
        self.both(lambda store: store.pin(artifact, name))

    @rule(name=pin_names)
    def unpin(self, name):
        self.both(lambda store: store.unpin(name))

    @rule(artifact=consumes(artifacts))
    def collect_under_a_lease(self, artifact):
        def lease(store):
            with store.lease(artifact):
                store.gc(grace=-60)
                with store.open(artifact) as stream:
                    return stream.read()

        self.both(lease)

    @rule()
    def collect(self):
        # The one on disk counts manifests and configs as well.
        for store in (self.disk, self.memory):
            store.gc(grace=-60)

    @rule()
    def flush(self):
        self.disk.flush()

    @precondition(lambda self: self.disk.path.exists())
    @rule()
    def move_to_another_process(self):
        self.disk = pickle.loads(pickle.dumps(self.disk))
        self.memory = pickle.loads(pickle.dumps(self.memory))

    @invariant()
    def histories_agree(self):
        sources = self.both(lambda store: list(store.sources()))
        for key in sources:
            self.both(lambda store, key=key: timeless(store.lookup(key)))
            self.both(lambda store, key=key: [timeless(artifact) for artifact in store.history(key)])
            self.both(lambda store, key=key: [seen.revision for seen in store.observations(key)])
        self.both(lambda store: {name: timeless(artifact) for name, artifact in store.pins().items()})

    @precondition(lambda self: self.disk.path.exists())
    @invariant()
    def the_store_is_whole(self):
        report = self.disk.verify()
        assert (report.problems, report.leftovers, report.unknown) == ((), (), ())

    @precondition(lambda self: self.disk.path.exists())
    @invariant()
    def a_flushed_index_lists_what_is_current(self):
        if not (self.disk.path / "index.journal").exists():
            index = json.loads((self.disk.path / "index.json").read_text())
            listed = {entry["annotations"]["dev.fluxsrc.source"]: entry["digest"] for entry in index["manifests"]}
            assert listed == {str(key): str(self.disk.lookup(key).manifest) for key in self.disk.sources()}


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

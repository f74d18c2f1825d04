"""Status as data: Flux's conditions, reasons and artifact object."""

import datetime as dt
import pickle

import attrs
import pytest

from fluxsrc.artifact import SourceKey
from fluxsrc.errors import AuthenticationError, ContentError, TransportError, UnsafeEntryError
from fluxsrc.events import Failure
from fluxsrc.memory import MemorySource
from fluxsrc.revision import Revision
from fluxsrc.status import SourceStatus, artifact_path
from fluxsrc.stores import MemoryStore

T0 = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
GIT = SourceKey("gitrepository", "default", "app")
REVISION = Revision.parse("main@sha1:" + "a" * 40)


def at(minutes):
    return T0 + dt.timedelta(minutes=minutes)


def artifact(key=GIT, **options):
    made = MemorySource({"app.yaml": "v1"}).produce_artifact(MemoryStore())
    return attrs.evolve(made, key=key, revision=REVISION, observed=T0, **options)


def shown(status):
    """Type, status and reason of each condition."""
    return [(each.type, each.status, each.reason) for each in status.conditions.values()]


def test_a_first_success():
    """Progressing, then Ready and ArtifactInStorage, and nothing negative left."""
    status = SourceStatus(key=GIT)
    assert status.document() == {"observedGeneration": -1, "conditions": []}
    status = status.started(1, at(0))
    assert shown(status) == [("Ready", None, "Progressing"), ("Reconciling", True, "Progressing")]
    assert [each["status"] for each in status.document()["conditions"]] == ["Unknown", "True"]
    assert not status.ready
    status = status.succeeded(artifact(), 1, at(1), request="now")
    assert shown(status) == [("Ready", True, "Succeeded"), ("ArtifactInStorage", True, "Succeeded")]
    document = status.document(base_url="http://here:9090/")
    path = f"gitrepository/default/app/{'a' * 40}.tar.gz"
    made = artifact()
    assert document["artifact"] == {
        "digest": str(made.digest),
        "path": path,
        "url": f"http://here:9090/{path}",
        "revision": str(REVISION),
        "size": made.size,
        "lastUpdateTime": "2026-01-02T03:04:05Z",
    }
    assert (document["observedGeneration"], document["lastHandledReconcileAt"]) == (1, "now")
    assert document["conditions"][0] == {
        "type": "Ready",
        "status": "True",
        "reason": "Succeeded",
        "message": f"stored artifact for revision '{REVISION}'",
        "lastTransitionTime": "2026-01-02T03:05:05Z",
        "observedGeneration": 1,
    }


def test_a_failure_keeps_the_artifact_and_the_generation_that_was_processed():
    """What was made before stays in storage; the new generation is not observed before it succeeded."""
    status = SourceStatus(key=GIT).succeeded(artifact(), 1, at(0))
    newer = Revision.parse("main@sha1:" + "b" * 40)
    failure = Failure.of(TransportError("refused", hint="is it up?"))
    status = status.failed(failure, 2, at(1), revision=newer)
    assert shown(status) == [
        ("Ready", False, "GitOperationFailed"),
        ("Reconciling", True, "ProgressingWithRetry"),
        ("FetchFailed", True, "GitOperationFailed"),
        ("ArtifactOutdated", True, "NewRevision"),
        ("ArtifactInStorage", True, "Succeeded"),
    ]
    assert status.message == "fetch failed (TransportFailed): refused\nhint: is it up?"
    assert (status.observed_generation, status.artifact.revision, status.failures) == (1, REVISION, 1)
    again = status.succeeded(artifact(), 2, at(2))
    assert shown(again) == [("Ready", True, "Succeeded"), ("ArtifactInStorage", True, "Succeeded")]
    assert (again.observed_generation, again.failures, again.failure) == (2, 0, None)


def test_what_has_no_artifact_is_not_outdated():
    """As in Flux: there is nothing to be older than the source."""
    status = SourceStatus(key=GIT).failed(Failure.of(TransportError("refused")), 1, at(0), revision=REVISION)
    assert "ArtifactOutdated" not in status.conditions
    assert "ArtifactInStorage" not in status.conditions


def test_a_new_generation_is_not_ready_before_it_was_looked_at():
    """Nor is it broken: nobody knows yet. Of the old generation nothing is forgotten on a look at the same."""
    status = SourceStatus(key=GIT).succeeded(artifact(), 1, at(0))
    assert status.started(1, at(1)) is status
    begun = status.started(2, at(1))
    assert shown(begun)[:2] == [("Ready", None, "Progressing"), ("Reconciling", True, "Progressing")]
    again = SourceStatus.from_document(GIT, begun.document(), artifact=begun.artifact)
    assert again == attrs.evolve(begun, checked=None)
    assert begun.succeeded(artifact(), 2, at(2)).conditions["Ready"].since == at(2)


def test_a_look_at_what_is_ready_is_no_news_unless_somebody_asked_for_it():
    """As in Flux, which writes Reconciling for a new generation and a new request, and not at each interval."""
    status = SourceStatus(key=GIT).succeeded(artifact(), 1, at(0), request="one")
    assert status.started(1, at(1), request="one") is status
    begun = status.started(1, at(1), request="two")
    assert (begun.ready, begun.conditions["Reconciling"].reason) == (True, "Progressing")
    again = begun.succeeded(artifact(), 1, at(2), request="two")
    assert (shown(again), again.handled_request) == (shown(status), "two")
    later = again.succeeded(artifact(), 1, at(3))
    assert later == attrs.evolve(again, checked=at(3))


def test_times_are_those_of_transitions_not_of_looks():
    """An alert on 'not ready for ten minutes' needs the first of them."""
    status = SourceStatus(key=GIT)
    failure = Failure.of(TransportError("refused"))
    for minute in range(5):
        status = status.failed(failure, 1, at(minute))
    assert status.conditions["Ready"].since == at(0)
    assert status.failures == 5


def test_reasons_are_fluxs():
    """By the kind, and by what failed."""

    def reason(kind, error):
        key = SourceKey(kind, "default", "app")
        return SourceStatus(key=key).failed(Failure.of(error), 1, T0).conditions["FetchFailed"].reason

    assert reason("ocirepository", TransportError("x")) == "OCIArtifactPullFailed"
    assert reason("bucket", TransportError("x")) == "BucketOperationFailed"
    assert reason("gitrepository", AuthenticationError("x")) == "AuthenticationFailed"
    assert reason("ocirepository", ContentError("x")) == "OCIArtifactLayerOperationFailed"
    assert reason("gitrepository", UnsafeEntryError("x")) == "UnsafeEntry"
    assert reason("directory", TransportError("x")) == "TransportFailed"


def test_who_vouched_is_in_the_condition():
    """And the condition goes when nobody is asked any more."""
    status = SourceStatus(key=GIT).succeeded(artifact(verification=(("ssh", "SHA256:abc"),)), 1, T0)
    assert "ssh SHA256:abc" in status.conditions["SourceVerified"].message
    assert "SourceVerified" not in status.succeeded(artifact(), 1, T0).conditions


@pytest.mark.parametrize(
    "facts",
    [
        (("policy", "unsafe-no-verification"),),
        (("oci.level", "skip"), ("oci.statement", "all"), ("policy", "sha256:1")),
        (("oci.warning.authenticity", "check 5"), ("oci.signer", "CN=Eve"), ("policy", "sha256:1")),
    ],
)
def test_what_nobody_vouched_for_is_not_verified(facts):
    """Though a policy let it pass: skipped, or signed by whoever; as in Flux."""
    assert "SourceVerified" not in SourceStatus(key=GIT).succeeded(artifact(verification=facts), 1, T0).conditions


def test_paths_are_named_as_flux_names_them():
    """A registry's digest keeps its algorithm, as the code of Flux has it."""
    key = SourceKey("ocirepository", "default", "app")
    revision = Revision.parse("v1@sha256:" + "c" * 64)
    assert artifact_path(attrs.evolve(artifact(key), revision=revision)).endswith(f"/app/sha256:{'c' * 64}.tar.gz")


def test_it_is_a_value():
    """Comparable, and it travels."""
    status = SourceStatus(key=GIT).succeeded(artifact(), 1, T0)
    assert pickle.loads(pickle.dumps(status)) == status
    assert status == SourceStatus(key=GIT).succeeded(artifact(), 1, T0)


def test_a_controller_goes_on_from_what_it_wrote():
    """Conditions with their times, generation and request come back; so the next status moves no time that did not change."""
    made = artifact()
    status = SourceStatus(key=GIT).started(1, at(0)).succeeded(made, 1, at(1), request="now")
    again = SourceStatus.from_document(GIT, status.document(), artifact=made)
    assert again == attrs.evolve(status, checked=None)
    assert again.succeeded(made, 1, at(9)).document() == status.document()


def test_what_is_no_condition_is_left_out():
    """Anybody may have written into a status: what is not understood is not there."""
    nonsense = [
        None,
        "Ready",
        {"type": "Ready", "status": "True"},
        {"type": "Ready", "status": True, "lastTransitionTime": "2026-01-02T03:04:05Z"},
        {"type": "Ready", "status": "True", "lastTransitionTime": "yesterday"},
        {"type": "Unheard", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"},
    ]
    for document in (
        {"conditions": nonsense, "observedGeneration": True, "lastHandledReconcileAt": 7},
        {"conditions": 7},
        {},
    ):
        assert SourceStatus.from_document(GIT, document) == SourceStatus(key=GIT)
    [found] = SourceStatus.from_document(
        GIT, {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-02T03:04:05"}]}
    ).conditions.values()
    assert (found.since, found.reason, found.observed_generation) == (T0, "", -1)
    assert "observedGeneration" not in found.document()


def test_a_condition_is_one_that_an_api_server_takes():
    """It refuses a message of more than 32,768 letters, and with it the whole status."""
    status = SourceStatus(key=GIT).failed(Failure.worker("x" * 40_000), 1, at(0))
    assert {len(each["message"]) for each in status.document()["conditions"]} == {32_768}

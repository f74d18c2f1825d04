"""Metrics and spans: what an operator's tools see of a reconciler."""

import gzip
import io
import random
import subprocess
import sys
import tarfile

from fluxsrc import tracing
from fluxsrc.artifact import SourceKey
from fluxsrc.errors import TransportTimeoutError
from fluxsrc.events import Failure, FetchFailed, GarbageCollected, NewArtifact, Reconciled, RefMoved
from fluxsrc.managed import ManagedSource
from fluxsrc.memory import MemorySource
from fluxsrc.metrics import Metrics
from fluxsrc.oci import OCISource
from fluxsrc.reconcile import Reconciler
from fluxsrc.revision import Revision
from fluxsrc.stores import MemoryStore
from fluxsrc.testing import Registry

KEY = SourceKey("gitrepository", "default", "app")
LABELS = {"kind": "gitrepository", "namespace": "default", "name": "app"}
FAILURE = Failure.of(TransportTimeoutError("late"))


def registry():
    import prometheus_client

    return prometheus_client.CollectorRegistry()


def looked(**options):
    given = {"seconds": 0.2, "received": 0, "unchanged": False, "failure": None, "observed": 1000.0} | options
    return Reconciled(key=KEY, **given)


def test_events_become_numbers():
    """Duration, bytes, cache hits, failures by reason, moves, and the age of the last success."""
    found = registry()
    metrics = Metrics(found, now=lambda: 1090.0)
    revision = Revision.parse("v1@sha1:" + "a" * 40)
    artifact = MemorySource({}).produce_artifact(MemoryStore())
    for event in [
        looked(received=4096),
        looked(unchanged=True),
        looked(unchanged=True, observed=1060.0),
        looked(failure=FAILURE, observed=1080.0),
        FetchFailed(key=KEY, failure=FAILURE, failures=1, retry_in=1.0),
        RefMoved(key=KEY, pointer="v1", old=revision, new=revision),
        NewArtifact(key=KEY, artifact=artifact),
        GarbageCollected(retired=1, blobs=2, bytes=300),
    ]:
        metrics(event)
    value = found.get_sample_value
    assert value("fluxsrc_received_bytes_total", LABELS) == 4096
    assert value("fluxsrc_cache_hits_total", LABELS) == 2
    assert value("fluxsrc_failures_total", LABELS | {"stage": "fetch", "reason": "Timeout"}) == 1
    assert value("fluxsrc_ref_moves_total", LABELS) == 1
    assert value("fluxsrc_new_artifacts_total", LABELS) == 1
    assert value("fluxsrc_last_success_age_seconds", LABELS) == 30
    assert value("fluxsrc_collected_bytes_total") == 300
    counts = {
        result: value("fluxsrc_reconcile_duration_seconds_count", {"kind": "gitrepository", "result": result})
        for result in ("new", "unchanged", "failed")
    }
    assert counts == {"new": 1, "unchanged": 2, "failed": 1}


def test_a_source_that_is_no_more_leaves_no_numbers():
    """Its age would grow for ever, and wake somebody."""
    found = registry()
    metrics = Metrics(found)
    metrics(looked(received=1))
    metrics(FetchFailed(key=KEY, failure=FAILURE, failures=1, retry_in=None))
    metrics.forget(KEY)
    metrics.forget(KEY)
    assert found.get_sample_value("fluxsrc_last_success_age_seconds", LABELS) is None
    assert found.get_sample_value("fluxsrc_failures_total", LABELS | {"stage": "fetch", "reason": "Timeout"}) is None


def test_a_reconciler_feeds_it():
    """By nothing but its callback."""
    found = registry()
    source = ManagedSource(name="app", source=MemorySource({"a": "1"}))
    reconciler = Reconciler(MemoryStore(), [source], on_event=Metrics(found))
    reconciler.run_once()
    reconciler.run_once()
    labels = {"kind": "memory", "namespace": "default", "name": "app"}
    assert found.get_sample_value("fluxsrc_cache_hits_total", labels) == 1


def test_bytes_are_those_that_travelled():
    """A layer, once; a look that finds nothing new receives nothing."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("app.bin")
        member.size = 100_000
        tar.addfile(member, io.BytesIO(random.Random(1).randbytes(member.size)))
    layer = gzip.compress(out.getvalue())
    found = registry()
    with Registry() as there:
        there.put("team/app", "prod", layers=[("application/vnd.cncf.flux.content.v1.tar+gzip", layer)])
        source = OCISource(f"oci://{there.host}/team/app", tag="prod", insecure=True)
        managed = ManagedSource(name="app", source=source)
        reconciler = Reconciler(MemoryStore(), [managed], on_event=Metrics(found))
        for _ in range(2):
            assert reconciler.run_once()[managed.key].ready
    labels = LABELS | {"kind": "ocirepository"}
    assert found.get_sample_value("fluxsrc_received_bytes_total", labels) == len(layer)
    assert found.get_sample_value("fluxsrc_cache_hits_total", labels) == 1


def test_without_its_extra_it_says_which_one_to_install():
    """And importing the module costs nothing."""
    program = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from fluxsrc.metrics import Metrics\n"
        "try: Metrics()\n"
        "except ImportError as exc: print(exc)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "fluxsrc[metrics]" in done.stdout


class Recorded:
    def __init__(self):
        self.attributes = {}

    def set_attributes(self, facts):
        self.attributes |= facts


class Tracer:
    """What OpenTelemetry's API offers, as far as it is used."""

    def __init__(self):
        self.spans = []

    def start_as_current_span(self, name, *, attributes):
        import contextlib

        span = Recorded()
        span.attributes |= attributes
        self.spans.append((name, span))
        return contextlib.nullcontext(span)


def test_each_look_is_a_span(monkeypatch):
    """With the source, what it came to, and what failed."""
    tracer = Tracer()
    monkeypatch.setattr(tracing, "_tracer", lambda: tracer)
    Reconciler(MemoryStore(), [ManagedSource(name="app", source=MemorySource({"a": "1"}))]).run_once()
    [(name, span)] = tracer.spans
    assert name == "fluxsrc.reconcile"
    assert span.attributes["fluxsrc.key"] == "memory/default/app"
    assert span.attributes["fluxsrc.revision"].startswith("sha256:")


def test_without_opentelemetry_a_span_is_nothing(monkeypatch):
    """No import, no cost, no error."""
    monkeypatch.setattr(tracing, "_tracer", lambda: None)
    with tracing.span("x", key="y") as facts:
        facts["z"] = 1
    assert facts == {"z": 1}

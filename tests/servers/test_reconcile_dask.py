"""Whoever outgrows one machine takes dask's executor, and not an engine of ours."""

import pytest

from fluxsrc.managed import ManagedSource
from fluxsrc.memory import MemorySource
from fluxsrc.reconcile import Policy, Reconciler
from fluxsrc.stores import LocalStore

pytestmark = [pytest.mark.servers, pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.timeout(300)]


def test_dask_executor_does_the_work(tmp_path):
    """Two worker processes of a cluster on this machine, one store that all of them see."""
    import distributed

    store = LocalStore(tmp_path / "store", durable=False)
    sources = [ManagedSource(name=f"app{n}", source=MemorySource({"app.yaml": str(n)})) for n in range(20)]
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, dashboard_address=None, host="127.0.0.1", local_directory=str(tmp_path)
    )
    with cluster, distributed.Client(cluster) as client:
        reconciler = Reconciler(store, sources, executor=client.get_executor(), policy=Policy(concurrency=4))
        statuses = reconciler.run_once()
        assert all(status.ready for status in statuses.values()), [status.message for status in statuses.values()]
        assert {status.artifact for status in statuses.values()} == {store.lookup(key) for key in statuses}
        assert all(status.failure is None for status in reconciler.run_once().values())

"""Keep many sources up to date in one store.

`Schedule` is a state machine that decides what happens next, without clock, network and threads. `Reconciler` drives it with
any `concurrent.futures.Executor`, and keeps each source's status. `look` is what a worker does.
"""

from fluxsrc.reconcile.retention import Retention
from fluxsrc.reconcile.runner import Reconciler
from fluxsrc.reconcile.saved import SavedStatuses
from fluxsrc.reconcile.schedule import Policy, Schedule
from fluxsrc.reconcile.work import Outcome, look

__all__ = ["Outcome", "Policy", "Reconciler", "Retention", "SavedStatuses", "Schedule", "look"]

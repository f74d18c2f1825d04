"""What the controller does at one object, without a cluster: an object in, a status out. It blocks; threads call it."""

import datetime as dt
import random
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from fluxsrc.artifact import SourceKey
from fluxsrc.errors import FluxSrcError
from fluxsrc.events import Failure
from fluxsrc.managed import ManagedSource
from fluxsrc.manifests import KINDS, REQUESTED_AT, Resolver, load_manifests
from fluxsrc.reconcile import Outcome, Policy, look
from fluxsrc.status import SourceStatus
from fluxsrc.stores import LocalStore

GROUP, VERSION, PLURAL = "sources.example.org", "v1", "sources"

Object = Mapping[str, Any]
"""A Source as the API server has it."""


def keys(obj: Object) -> list[SourceKey]:
    """Where the store may hold artifacts of an object."""
    return [SourceKey(kind.lower(), obj["metadata"]["namespace"], obj["metadata"]["name"]) for kind in KINDS]


def demand(obj: Object) -> tuple[int, str | None]:
    """What of an object calls for a look at once when it changes. Its status does not: that is our own doing."""
    return obj["metadata"]["generation"], obj["metadata"].get("annotations", {}).get(REQUESTED_AT)


def is_idle(obj: Object) -> bool:
    """Whether it is to be left alone: suspended, which leaves its artifact and its status as they are, or on its way out."""
    return bool(obj["spec"].get("suspend")) or "deletionTimestamp" in obj["metadata"]


def load(obj: Object, resolve: Resolver) -> ManagedSource:
    """The source that an object describes, with what its Secrets say now.

    Raises:
        FluxSrcError: It is wrong, or a Secret cannot be had.
    """
    spec = dict(obj["spec"])
    flux = {"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": spec.pop("kind"), "metadata": obj["metadata"]}
    [managed] = load_manifests(flux | {"spec": spec}, resolve=resolve)
    return managed


@attrs.frozen(kw_only=True)
class Keeper:
    """Brings sources up to date, one look at a time.

    Attributes:
        store: Where artifacts go.
        base_url: Where the store is served.
        resolve: Gives the Secrets that objects refer to.
        write: Makes a document an object's `status`.
        policy: How patiently; the default is Flux's.
        now: The time of day.
        dice: A number from 0 to 1, for jitter.
    """

    store: LocalStore
    base_url: str
    resolve: Resolver
    write: Callable[[Object, dict[str, Any]], None]
    policy: Policy = attrs.field(factory=Policy)
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    dice: Callable[[], float] = random.random

    def turn(self, obj: Object, last: SourceStatus | None, cancel: Callable[[], bool]) -> tuple[SourceStatus, float]:
        """One look at one object's source.

        Args:
            obj: The object as it is now.
            last: What the turn before returned; None if this is the first one of the process.
            cancel: Whether nobody wants the result any more.

        Returns:
            How the source is doing, and seconds until the next turn, unless the object changes before.
        """
        generation, request = demand(obj)
        status = last or self._recall(obj)
        ready = status.conditions.get("Ready")
        if ready is None or ready.observed_generation != generation:
            # 1. Nobody who waits for this generation must take the Ready of the one before for its own.
            status = self._publish(obj, status, status.started(generation, self.now()))
        # 2. The look. What goes wrong is not raised: it is a failure, with its stage, its reason and its patience.
        try:
            managed = load(obj, self.resolve)
        except FluxSrcError as error:
            outcome = Outcome(key=status.key, failure=Failure.of(error))
        else:
            outcome = look(managed, self.store, cancel)
        if cancel():
            return status, 0.0
        # 3. What it came to.
        if (failure := outcome.failure) is None:
            assert outcome.artifact is not None  # one of the two is there
            after = status.succeeded(outcome.artifact, generation, self.now(), request=request)
            delay = self.policy.interval(managed.interval, self.dice())
        else:
            after = status.failed(failure, generation, self.now(), revision=outcome.revision, request=request)
            # A configuration does not mend itself (the source is Stalled), but what is wrong may be in a Secret.
            delay = self.policy.delay(failure, after.failures, self.dice()) or self.policy.max_delay
        return self._publish(obj, status, after), delay

    def _recall(self, obj: Object) -> SourceStatus:
        """What the process before this one knew: without it, each restart would say that everything has changed."""
        [key] = [key for key in keys(obj) if key.kind == obj["spec"]["kind"].lower()]
        return SourceStatus.from_document(key, obj.get("status", {}), artifact=self.store.lookup(key))

    def _publish(self, obj: Object, old: SourceStatus | None, new: SourceStatus) -> SourceStatus:
        """Write a status, if it says anything new, or somebody else wrote over ours."""
        document = new.document(base_url=self.base_url)
        known = None if old is None else old.document(base_url=self.base_url)
        if document != known or document != obj.get("status"):
            self.write(obj, document)
        return new

"""A controller with kopf: keeps Sources up to date, and serves their artifacts. `kopf run controller.py --all-namespaces`."""

import asyncio
import contextlib
import functools
import logging
import os
from collections.abc import Awaitable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import kopf
import kubernetes
import urllib3.exceptions
from kubernetes.dynamic.exceptions import DynamicApiError, NotFoundError
from sources import GROUP, PLURAL, VERSION, Keeper, Object, demand, is_idle, keys

from fluxsrc.errors import AuthenticationError, FluxSrcError, TransportError
from fluxsrc.events import Failure
from fluxsrc.manifests import ObjectReference
from fluxsrc.reconcile import Retention
from fluxsrc.server import app, serving
from fluxsrc.stores import LocalStore

SOURCES: Final = (GROUP, VERSION, PLURAL)
STORE: Final = LocalStore(os.environ.get("STORE", "/data"))
BASE_URL: Final = os.environ.get("BASE_URL", "http://controller.sources-system.svc")
RETENTION: Final = Retention(records=2, ttl=60)
# Everything that blocks runs here: kopf's event loop only waits. So many sources at once, and no more.
WORKERS: Final = ThreadPoolExecutor(int(os.environ.get("CONCURRENCY", "8")), "source")


def why(error: Exception) -> str:
    """An error of the API server or the way to it, without the response's headers and body."""
    return f"{type(error).__name__}: {getattr(error, 'reason', error)}"


class Cluster:
    """The two things the sources need of the API server. It blocks."""

    def __init__(self) -> None:
        kubernetes.config.load_config()  # a pod's service account, or KUBECONFIG
        self._client = kubernetes.dynamic.DynamicClient(kubernetes.client.ApiClient())

    def resolve(self, reference: ObjectReference) -> Mapping[str, Any]:
        """A Secret or a ServiceAccount. One that is not there is a failure to log in: it may come, as in Flux."""
        try:
            kind = self._client.resources.get(api_version="v1", kind=reference.kind)
            found: dict[str, Any] = kind.get(reference.name, reference.namespace, _request_timeout=10).to_dict()
            return found
        except NotFoundError:
            raise AuthenticationError(f"{reference} does not exist") from None
        except (DynamicApiError, urllib3.exceptions.HTTPError) as exc:
            raise TransportError(f"{reference} could not be read: {why(exc)}") from None

    def write_status(self, obj: Object, status: dict[str, Any]) -> None:
        """Replace an object's status as a whole; a merge would keep what is no longer true."""
        patch = [{"op": "add", "path": "/status", "value": status}]
        name, namespace = obj["metadata"]["name"], obj["metadata"]["namespace"]
        content_type = "application/json-patch+json"
        kind = self._client.resources.get(api_version=f"{GROUP}/{VERSION}", name=PLURAL)
        try:
            kind.status.patch(patch, name, namespace, content_type=content_type, _request_timeout=10)
        except (DynamicApiError, urllib3.exceptions.HTTPError) as exc:
            # Kopf begins the daemon anew after the delay; the store has the artifact, so that costs little.
            raise kopf.TemporaryError(f"the status could not be written: {why(exc)}", delay=10) from exc


async def in_thread(function: Any, *arguments: Any) -> Any:
    """Run what blocks."""
    return await asyncio.get_running_loop().run_in_executor(WORKERS, functools.partial(function, *arguments))


async def first(*waits: Awaitable[Any]) -> None:
    """Wait until one of these came."""
    tasks = [asyncio.ensure_future(each) for each in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    """Connect, serve the store from a thread of its own, and sweep it now and then."""
    # Statuses are ours alone: kopf's own notes go to annotations.
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage()
    settings.background.instant_exit_timeout = 5  # seconds for a look to notice that it is cancelled
    cluster = await in_thread(Cluster)
    memo.keeper = Keeper(store=STORE, base_url=BASE_URL, resolve=cluster.resolve, write=cluster.write_status)
    memo.stack = contextlib.ExitStack()
    port, token = int(os.environ.get("PORT", "8080")), os.environ.get("TOKEN")
    memo.stack.enter_context(serving(app(STORE, token=token), host="0.0.0.0", port=port))
    memo.sweeper = asyncio.create_task(sweep())


@kopf.on.cleanup()
async def stop(memo: kopf.Memo, **_: Any) -> None:
    """Let requests that are being answered finish."""
    memo.sweeper.cancel()
    await in_thread(memo.stack.close)
    WORKERS.shutdown(wait=False, cancel_futures=True)
    STORE.flush()


async def sweep() -> None:
    """Let old artifacts go, and those of deleted objects; what was current in the last hour can still be fetched."""
    while True:
        await asyncio.sleep(RETENTION.every)
        with contextlib.suppress(FluxSrcError):
            await in_thread(RETENTION.apply, STORE)


@kopf.on.event(*SOURCES)
async def wake(memo: kopf.Memo, **_: Any) -> None:
    """Something is new; whether it matters is for the object's daemon to see, which begins after the first call of this."""
    memo.setdefault("turn", asyncio.Lock())
    memo.setdefault("news", asyncio.Event()).set()


@kopf.daemon(*SOURCES, backoff=10, cancellation_polling=1)
async def keep(body: kopf.Body, memo: kopf.Memo, stopped: kopf.DaemonStopped, logger: kopf.Logger, **_: Any) -> None:
    """Keep one source up to date for as long as its object is there. `body` is always the object as last seen."""
    status, said = None, ""
    while not stopped:
        seen, delay = demand(body), None
        async with memo.turn:
            if not is_idle(body):
                status, delay = await in_thread(memo.keeper.turn, dict(body), status, stopped.is_set)
        if status is not None and status.message != said:
            said, ready = status.message, status.conditions["Ready"]  # of a failure, the first word says what failed
            logger.log(logging.INFO if ready.status else logging.WARNING, said)
            kopf.event(body, type="Normal" if ready.status else "Warning", reason=ready.reason, message=said)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                while not stopped and demand(body) == seen:
                    memo.news.clear()
                    await first(memo.news.wait(), stopped.wait())


@kopf.on.delete(*SOURCES)
async def forget(body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:
    """The object goes once its artifacts are forgotten. Its daemon was told to stop; wait for a look under way."""
    async with memo.turn:
        try:
            for key in keys(body):
                await in_thread(STORE.forget, key)
        except FluxSrcError as error:
            raise kopf.TemporaryError(Failure.of(error).line, delay=10) from error

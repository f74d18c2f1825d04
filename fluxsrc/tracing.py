"""`span`: OpenTelemetry spans where somebody set up a provider of them, and nothing at all where nobody did."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["span"]


@functools.cache
def _api() -> Any:
    try:
        from opentelemetry import trace  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        return None
    return trace


@functools.cache
def _tracer_of(provider: Any) -> Any:
    return provider.get_tracer("fluxsrc")


def _tracer() -> Any:
    api = _api()
    if api is None:
        return None
    provider = api.get_tracer_provider()
    # The API alone stands for whoever may come; a span that nobody hears of costs more than all else around a look.
    return None if isinstance(provider, api.ProxyTracerProvider) else _tracer_of(provider)


@contextlib.contextmanager
def span(name: str, /, **attributes: str | float | bool | Callable[[], str]) -> Iterator[dict[str, Any]]:
    """A span around the block; an exception that leaves it marks the span as failed, as OpenTelemetry does.

    >>> with span("fluxsrc.reconcile", key="memory/default/app") as facts:
    ...     facts["fluxsrc.received"] = 4096

    Args:
        name: What is done.
        attributes: What it is done to; in the span each is called `fluxsrc.NAME`. No secrets. What costs something is called
            for if anybody wants to know.

    Yields:
        A mapping for attributes that are known only in the end, by their full names.
    """
    facts: dict[str, Any] = {}
    tracer = _tracer()
    if tracer is None:
        yield facts
        return
    start = {f"fluxsrc.{key}": value() if callable(value) else value for key, value in attributes.items()}
    with tracer.start_as_current_span(name, attributes=start) as current:
        try:
            yield facts
        finally:
            current.set_attributes(facts)

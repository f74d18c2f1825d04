"""`span`: OpenTelemetry spans where its API is installed, and nothing at all where it is not."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

__all__ = ["span"]


@functools.cache
def _tracer() -> Any:
    try:
        from opentelemetry import trace  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        return None
    return trace.get_tracer("fluxsrc")


@contextlib.contextmanager
def span(name: str, /, **attributes: str | float | bool) -> Iterator[dict[str, Any]]:
    """A span around the block; an exception that leaves it marks the span as failed, as OpenTelemetry does.

    >>> with span("fluxsrc.reconcile", key="memory/default/app") as facts:
    ...     facts["fluxsrc.received"] = 4096

    Args:
        name: What is done.
        attributes: What it is done to; in the span each is called `fluxsrc.NAME`. No secrets.

    Yields:
        A mapping for attributes that are known only in the end, by their full names.
    """
    facts: dict[str, Any] = {}
    tracer = _tracer()
    if tracer is None:
        yield facts
        return
    start = {f"fluxsrc.{key}": value for key, value in attributes.items()}
    with tracer.start_as_current_span(name, attributes=start) as current:
        try:
            yield facts
        finally:
            current.set_attributes(facts)

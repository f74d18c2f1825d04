"""What a server counts, for Prometheus, where prometheus-client is installed; nothing where it is not."""

from http import HTTPStatus
from typing import Any, Final, Protocol

import attrs

from fluxsrc.server._http import Response

__all__ = ["Meter", "meter"]

_BUCKETS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Meter(Protocol):
    """Counts requests."""

    def count(self, route: str, status: HTTPStatus, sent: int, seconds: float) -> None:
        """One more request is over, of whose body so many bytes were handed to the server."""
        ...

    def page(self) -> Response | None:
        """All that is counted, or None if nobody counts."""
        ...


def meter(registry: Any) -> Meter:
    """A meter whose page also shows another registry; that of the process if None is given."""
    try:
        import prometheus_client  # noqa: PLC0415 - belongs to an extra
    except ImportError:
        return _Nobody()
    return _Prometheus(prometheus_client, prometheus_client.REGISTRY if registry is None else registry)


@attrs.frozen
class _Nobody:
    def count(self, route: str, status: HTTPStatus, sent: int, seconds: float) -> None:
        """Forget it."""

    def page(self) -> None:
        """There is none."""


class _Prometheus:
    def __init__(self, client: Any, shown: Any) -> None:
        self._client = client
        # One of its own: many applications may live in a process, and a name registers only once.
        own = client.CollectorRegistry()
        self._registries = (shown, own)
        labels = ("route", "status")
        self._requests = client.Counter("fluxsrc_http_requests", "Requests answered.", labels, registry=own)
        self._bytes = client.Counter(
            "fluxsrc_http_sent_bytes", "Bytes of bodies handed to the server.", ("route",), registry=own
        )
        self._seconds = client.Histogram(
            "fluxsrc_http_request_duration_seconds",
            "From the request to the last byte handed to the server.",
            ("route",),
            buckets=_BUCKETS,
            registry=own,
        )

    def count(self, route: str, status: HTTPStatus, sent: int, seconds: float) -> None:
        self._requests.labels(route, str(int(status))).inc()
        self._bytes.labels(route).inc(sent)
        self._seconds.labels(route).observe(seconds)

    def page(self) -> Response:
        body = b"".join(self._client.generate_latest(registry) for registry in self._registries)
        return Response(HTTPStatus.OK, {"Content-Type": self._client.CONTENT_TYPE_LATEST}, body)

"""The HTTP transport of all backends: HTTP/1.1 under one deadline, credentials bound to their origin.

`HTTPClient` is made per operation or per use of a source, is thread-safe, and is closed by leaving its context::

    with HTTPClient(tls=source.tls) as http:
        with http.request("GET", url, operation=operation, phase="resolve") as response:
            raise_for_status(response, f"read {response.url}")
            data = response.read(limits.max_manifest_bytes)

No type of a third-party HTTP library shows. Everything raised is a `FluxSrcError`, also while a body is read.
"""

from fluxsrc._io.http.client import HTTPClient, Transport
from fluxsrc._io.http.message import Content, Headers
from fluxsrc._io.http.response import Response
from fluxsrc._io.http.retry import Attempts, RetryPolicy, retrying
from fluxsrc._io.http.status import raise_for_status, retry_after, status_error

__all__ = [
    "Attempts",
    "Content",
    "HTTPClient",
    "Headers",
    "Response",
    "RetryPolicy",
    "Transport",
    "raise_for_status",
    "retry_after",
    "retrying",
    "status_error",
]

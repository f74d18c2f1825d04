"""`Registry`, the server that a test holds."""

import re
import ssl
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from fluxsrc.testing._loopback import Fault, Faults, Loopback, Request
from fluxsrc.testing.registry.contents import Repository
from fluxsrc.testing.registry.handler import RegistryHandler

__all__ = ["Registry"]


class Registry(Loopback):
    """The server; use it as a context.

    Attributes:
        users: Who may log in, by name and password; empty for everybody.
        token: Log in by bearer token rather than by basic authentication.
        token_seconds: How long a token is good.
        tokens: When each one ends, on the monotonic clock, and its scopes.
        faults: What is still to go wrong.
        page: Tags listed at once, at most.
        has_referrers: Whether it knows the referrers API.
        has_head: Whether HEAD of a manifest works; pull-through caches answer 404.
        has_ranges: Whether blobs can be read in part.
        has_totals: Whether the answer to a chunk says how much of the upload is there; zot 1 says how much was in it.
        requests: What was asked, in order.
        repositories: What it holds, by name.
    """

    def __init__(
        self,
        *,
        users: Mapping[str, str] | None = None,
        token: bool = False,
        token_seconds: int = 300,
        page: int = 1000,
        has_referrers: bool = True,
        has_head: bool = True,
        has_ranges: bool = True,
        has_totals: bool = True,
        context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(type("Handler", (RegistryHandler,), {"registry": self}), context)
        self.users = dict(users or {})
        self.token = token
        self.token_seconds = token_seconds
        self.tokens: dict[str, tuple[float, set[str]]] = {}
        self.page = page
        self.has_referrers = has_referrers
        self.has_head = has_head
        self.has_ranges = has_ranges
        self.has_totals = has_totals
        self.requests: list[Request] = []
        self.repositories: dict[str, Repository] = {}
        self.faults = Faults()
        self._lock = threading.Lock()

    def repository(self, name: str) -> Repository:
        """A repository, made if it is not there."""
        with self._lock:
            return self.repositories.setdefault(name, Repository())

    def put(
        self,
        name: str,
        tag: str | None = None,
        *,
        layers: Sequence[tuple[str, bytes] | tuple[str, bytes, Mapping[str, str]]] = (),
        annotations: Mapping[str, str] | None = None,
        config: tuple[str, bytes] = ("application/vnd.oci.empty.v1+json", b"{}"),
        subject: str | None = None,
        artifact_type: str | None = None,
    ) -> str:
        """Make a manifest of layers (media type, bytes, annotations), and return its digest."""
        return self.repository(name).put(tag, layers, annotations, config, subject, artifact_type)

    def put_index(self, name: str, tag: str | None, children: Mapping[str, str]) -> str:
        """Make an index of manifests that are there, by platform, and return its digest."""
        return self.repository(name).put_index(tag, children)

    def put_document(self, name: str, tag: str | None, data: bytes, media_type: str) -> str:
        """Hold a manifest or index as it is, and return its digest."""
        return self.repository(name).put_document(tag, data, media_type)

    def inject(self, match: str, **what: Any) -> Fault:
        """Fail on purpose; see `Fault`."""
        return self.faults.inject(match, **what)

    def count(self, pattern: str) -> int:
        """How many requests there were that this is found in `METHOD PATH?QUERY` of."""
        return sum(re.search(pattern, request.line) is not None for request in self.requests)

    def take_fault(self, line: str) -> Fault | None:
        """The fault that hits this request, `METHOD PATH?QUERY`, counted. Override it to fail in other ways."""
        return self.faults.take(line)

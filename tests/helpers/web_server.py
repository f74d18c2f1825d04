"""A web server made of one function that answers; `http_server` is for answers that no web server would give."""

from collections.abc import Callable, Mapping

import attrs

from fluxsrc.testing._loopback import Handler, Loopback, Request

Answer = tuple[int, bytes] | tuple[int, bytes, Mapping[str, str]]
"""Status, body, and headers beyond its length."""


class WebServer(Loopback):
    """Serves while its context is open.

    Attributes:
        requests: What was asked; names of headers are in lower case.
    """

    def __init__(self, answer: Callable[[Request, bytes], Answer], **options):
        super().__init__(type("Handler", (_Handler,), {"web": self}), **options)
        self.answer = answer
        self.requests: list[Request] = []


class _Handler(Handler):
    web: WebServer

    def _any(self) -> None:
        received = self.received()
        request = attrs.evolve(received, headers={name.lower(): value for name, value in received.headers.items()})
        self.web.requests.append(request)
        status, body, *headers = self.web.answer(request, self.body())
        self.reply(status, body, headers[0] if headers else {})

    do_GET = do_HEAD = do_POST = _any  # noqa: N815 - the base class's names

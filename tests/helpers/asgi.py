"""A client for ASGI applications, in the place of a server: nothing in between tidies up what is sent or hides what comes."""

import asyncio
from urllib.parse import unquote

import attrs


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    pieces: list[int]
    file: str | None = None


def call(application, method, target, headers=None, *, extensions=None, root_path="", on_send=None):
    """One request; `target` is sent as it is. `on_send` is called with each message before it is taken."""
    return asyncio.run(acall(application, method, target, headers, extensions, root_path, on_send))


async def acall(application, method, target, headers=None, extensions=None, root_path="", on_send=None):
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": root_path,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()],
        "extensions": extensions or {},
    }
    sent: list[dict] = []
    gone = asyncio.Event()
    requested = False

    async def receive():
        nonlocal requested
        if not requested:
            requested = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if on_send is not None and on_send(message) is False:
            gone.set()
            await asyncio.sleep(0)
        sent.append(message)

    await application(scope, receive, send)
    start, *rest = sent
    assert start["type"] == "http.response.start"
    fields = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    assert len(fields) == len(start["headers"]), "a header is there twice"
    file = rest[0]["path"] if rest and rest[0]["type"] == "http.response.pathsend" else None
    pieces = [len(message.get("body", b"")) for message in rest]
    body = b"".join(message.get("body", b"") for message in rest)
    return Answer(start["status"], fields, body, pieces, file)

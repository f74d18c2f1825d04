"""`LFSServer`: a Git LFS server in this process, whose answers a test can spoil."""

import base64
import hashlib
import json
import ssl
from collections.abc import Callable
from typing import Any, Final

import attrs

from fluxsrc.git.lfs import LFSPointer
from fluxsrc.testing._loopback import Handler, Loopback

__all__ = ["LFSRequest", "LFSServer"]

_MEDIA_TYPE: Final = "application/vnd.git-lfs+json"


@attrs.frozen
class LFSRequest:
    """A request as it came.

    Attributes:
        method: GET or POST.
        path: With the query.
        headers: By lower-case name.
        body: Of a POST.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@attrs.define(eq=False)
class LFSServer(Loopback):
    """The server; use it as a context. A repository's LFS endpoint is `{url}/NAME.git/info/lfs`.

    Attributes:
        username: With `password`: who may ask; anybody, if there is none.
        password: See `username`.
        token: With it, downloads want it in a header that the answer brings; without, what the question wanted.
        context: Serve HTTPS with this.
        batch: Changes an answer before it is sent.
        spoil: Changes an object before it is sent.
        objects: The objects, by oid.
        requests: All requests so far.
    """

    username: str = ""
    password: str = attrs.field(default="", repr=False)
    token: str = attrs.field(default="", repr=False)
    context: ssl.SSLContext | None = None
    batch: Callable[[dict[str, Any]], Any] = lambda answer: answer
    spoil: Callable[[bytes], bytes] = lambda data: data
    objects: dict[str, bytes] = attrs.field(factory=dict, repr=False)
    requests: list[LFSRequest] = attrs.field(factory=list, repr=False)

    def __attrs_post_init__(self) -> None:
        super().__init__(type("Handler", (_Handler,), {"lfs": self}), self.context)

    @property
    def batches(self) -> list[list[str]]:
        """Which objects were asked about, question by question."""
        questions = (json.loads(request.body) for request in self.requests if request.method == "POST")
        return [[item["oid"] for item in question["objects"]] for question in questions]

    def add(self, data: bytes) -> LFSPointer:
        """Hold an object; return what a repository has in its place."""
        oid = hashlib.sha256(data).hexdigest()
        self.objects[oid] = data
        return LFSPointer(oid, len(data))


class _Handler(Handler):
    lfs: LFSServer

    def _post(self) -> None:
        body = self.body()
        self._note(body)
        if not self.path.endswith("/info/lfs/objects/batch"):
            self._answer(404, {"message": "Not found"})
        elif self._knows_password():
            objects = [self._describe(item["oid"]) for item in json.loads(body)["objects"]]
            answer = self.lfs.batch({"transfer": "basic", "objects": objects})
            self._answer(200, answer)

    def _get(self) -> None:
        self._note(b"")
        data = self.lfs.objects.get(self.path.partition("?")[0].rpartition("/")[2])
        if data is None:
            self._answer(404, {"message": "Not found"})
        elif self.lfs.token and self.headers.get("X-Token") != self.lfs.token:
            self._answer(403, {"message": "The token is wrong"})
        elif self.lfs.token or self._knows_password():
            self._send(200, self.lfs.spoil(data), "application/octet-stream")

    do_POST, do_GET = _post, _get  # noqa: N815 - the base class's names

    def _note(self, body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.lfs.requests.append(LFSRequest(self.command, self.path, headers, body))

    def _describe(self, oid: str) -> dict[str, Any]:
        data = self.lfs.objects.get(oid)
        if data is None:
            return {"oid": oid, "size": 0, "error": {"code": 404, "message": "Object does not exist"}}
        action: dict[str, Any] = {"href": f"{self.lfs.url}/objects/{oid}"}
        if self.lfs.token:
            action["header"] = {"X-Token": self.lfs.token}
        return {"oid": oid, "size": len(data), "authenticated": bool(self.lfs.token), "actions": {"download": action}}

    def _knows_password(self) -> bool:
        pair = base64.b64encode(f"{self.lfs.username}:{self.lfs.password}".encode()).decode()
        if self.lfs.password and self.headers.get("Authorization") != f"Basic {pair}":
            self._answer(401, {"message": "Credentials needed"})
            return False
        return True

    def _answer(self, status: int, answer: Any) -> None:
        self._send(status, answer if isinstance(answer, bytes) else json.dumps(answer).encode(), _MEDIA_TYPE)

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.reply(status, data, {"Content-Type": kind})

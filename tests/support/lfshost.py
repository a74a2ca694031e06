"""A Git host that has an LFS server too (git-lfs, docs/api): objects in memory, every request remembered."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from mirrord.serve.negotiation import UnsatisfiableError, parse_range
from mirrord.testing.exchange import Exchange, Wire
from mirrord.testing.faults import Fault
from mirrord.testing.githost import GitHost
from mirrord.testing.intake import Outlet
from mirrord.testing.reply import Reply

_BATCH, _OBJECTS, _VERIFY = "/info/lfs/objects/batch", "/lfs-objects/", "/lfs-verify"
_MEDIA = "application/vnd.git-lfs+json"


class LfsHost(GitHost):
    """As `GitHost`, with LFS; faults can be laid upon the answers of its LFS server.

    Attributes:
        objects: content by repository and SHA-256.
        requests: method, path and `Authorization` of each LFS request.
        asked: operation and ids of each batch.
        refuses: uploads are refused: all, or those of these ids.
        issues: headers that it gives for each address of an object, and insists on there.
        elsewhere: where addresses of objects lead instead of to itself, or "".
        verifies: uploads are to be verified, by a request of their own.
        verified: ids of objects that were.
        most: objects that a batch may have.
    """

    def __init__(self, folder: Path, *, wire: Wire | None = None, user: tuple[str, str] | None = None) -> None:
        super().__init__(folder, wire=wire, user=user)
        self.objects: dict[tuple[str, str], bytes] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.asked: list[tuple[str, list[str]]] = []
        self.refuses: bool | set[str] = False
        self.issues: dict[str, str] = {}
        self.elsewhere = ""
        self.verifies = False
        self.verified: list[str] = []
        self.most = 100

    def put(self, name: str, data: bytes) -> str:
        """Give a repository an object; return its SHA-256."""
        oid = hashlib.sha256(data).hexdigest()
        self.objects[name, oid] = data
        return oid

    async def _respond(
        self, request: web.BaseRequest, exchange: Exchange, outlet: Outlet, fault: Fault
    ) -> web.StreamResponse:
        path = unquote(exchange.path)
        if "/info/lfs/" not in path and _OBJECTS not in path and not path.endswith(_VERIFY):
            return await super()._respond(request, exchange, outlet, fault)
        self.requests.append((request.method, path, request.headers.get("Authorization", "")))
        if fault.instead is not None:
            return await outlet.send(Reply(*fault.instead))
        return await outlet.send(self._lfs(request, path, await request.content.read()))

    def _lfs(self, request: web.BaseRequest, path: str, body: bytes) -> Reply:
        if path.endswith(_BATCH):
            return self._batch(path.removesuffix(_BATCH).strip("/"), json.loads(body))
        if any(request.headers.get(name) != value for name, value in self.issues.items()):
            return Reply(403)
        if path.endswith(_VERIFY):
            self.verified.append(json.loads(body)["oid"])
            return Reply(200)
        name, _, oid = path.strip("/").partition(_OBJECTS)
        if request.method == "PUT" and not self._refused(oid):
            self.objects[name, oid] = body
            return Reply(200)
        found = self.objects.get((name, oid)) if request.method == "GET" else None
        return Reply(404) if found is None else _part(found, request.headers.get("Range"))

    def _refused(self, oid: str) -> bool:
        return self.refuses if isinstance(self.refuses, bool) else oid in self.refuses

    def _batch(self, name: str, asked: dict[str, Any]) -> Reply:
        self.asked.append((asked["operation"], [one["oid"] for one in asked["objects"]]))
        if len(asked["objects"]) > self.most:
            return Reply(413)
        answers = [self._answer(name, one, asked["operation"]) for one in asked["objects"]]
        text = json.dumps({"transfer": "basic", "objects": answers})
        return Reply(200, {"Content-Type": _MEDIA}, text.encode())

    def _answer(self, name: str, one: dict[str, Any], operation: str) -> dict[str, Any]:
        href = {"href": f"{self.elsewhere or self.base}/{name}{_OBJECTS}{one['oid']}", "header": self.issues}
        here = (name, one["oid"]) in self.objects
        if operation == "download":
            missing = {"error": {"code": 404, "message": "the object is not here"}}
            return one | ({"actions": {"download": href}} if here else missing)
        if here:
            return one
        if self._refused(one["oid"]):
            return one | {"error": {"code": 422, "message": "the quota of this host is used up"}}
        verify = {"verify": {"href": f"{self.base}/{name}{_VERIFY}", "header": self.issues}}
        return one | {"actions": {"upload": href, **(verify if self.verifies else {})}}


def _part(data: bytes, wanted: str | None) -> Reply:
    try:
        span = parse_range(wanted, len(data))
    except UnsatisfiableError:
        return Reply(416)
    if span is None:
        return Reply(200, {}, data)
    part = data[span.offset : span.offset + span.count]
    return Reply(206, {"Content-Range": span.content_range(len(data))}, part)

"""A Git host that has an LFS server too (git-lfs, docs/api): objects in memory, every request remembered."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from aiohttp import web

from mirrord.testing.exchange import Wire
from mirrord.testing.githost import GitHost

_BATCH, _OBJECTS = "/info/lfs/objects/batch", "/lfs-objects/"


class LfsHost(GitHost):
    """As `GitHost`, with LFS; of the faults its LFS server knows `status` alone.

    Attributes:
        objects: content by repository and SHA-256.
        requests: method, path and `Authorization` of each LFS request.
        refuses: uploads are refused.
    """

    def __init__(self, folder: Path, *, wire: Wire | None = None, user: tuple[str, str] | None = None) -> None:
        super().__init__(folder, wire=wire, user=user)
        self.objects: dict[tuple[str, str], bytes] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.refuses = False

    def put(self, name: str, data: bytes) -> str:
        """Give a repository an object; return its SHA-256."""
        oid = hashlib.sha256(data).hexdigest()
        self.objects[name, oid] = data
        return oid

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if "/info/lfs/" not in path and _OBJECTS not in path:
            return await super()._handle(request)
        self.requests.append((request.method, path, request.headers.get("Authorization", "")))
        fault = self.faults.take(request.method, request.path_qs)
        if fault is not None and fault.instead is not None:
            status, headers, body = fault.instead
            return web.Response(status=status, headers=headers, body=body)
        if path.endswith(_BATCH):
            return self._batch(path.removesuffix(_BATCH).strip("/"), json.loads(await request.read()))
        name, _, oid = path.strip("/").partition(_OBJECTS)
        if request.method == "PUT" and not self.refuses:
            self.objects[name, oid] = await request.read()
            return web.Response()
        found = self.objects.get((name, oid)) if request.method == "GET" else None
        return web.Response(status=404) if found is None else web.Response(body=found)

    def _batch(self, name: str, asked: dict[str, Any]) -> web.Response:
        answers = [self._answer(name, one, asked["operation"]) for one in asked["objects"]]
        text = json.dumps({"transfer": "basic", "objects": answers})
        return web.Response(text=text, content_type="application/vnd.git-lfs+json")

    def _answer(self, name: str, one: dict[str, Any], operation: str) -> dict[str, Any]:
        href = {"href": f"{self.base}/{name}{_OBJECTS}{one['oid']}"}
        here = (name, one["oid"]) in self.objects
        if operation == "download":
            missing = {"error": {"code": 404, "message": "the object is not here"}}
            return one | ({"actions": {"download": href}} if here else missing)
        if self.refuses:
            return one | {"error": {"code": 422, "message": "the quota of this host is used up"}}
        return one if here else one | {"actions": {"upload": href}}

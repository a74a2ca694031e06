"""Objects of Git LFS for those who cloned a cache: the reading half of the batch API (git-lfs, docs/api/batch.md).

git-lfs asks below the address that it cloned: `POST …/info/lfs/objects/batch` says where each object is, which is below
the same address again. Nothing can be uploaded, and there are no locks: git-lfs takes 404 for that.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from mirrord.files import LocalFile
from mirrord.syncer.serving import Request, Response
from mirrord.syncers.git.front.content_type import SAFETY
from mirrord.wire.git.lfs import objects

PREFIX: Final = "info/lfs/"
MOST: Final = 1000  # objects of one request; git-lfs asks for 100
LONGEST: Final = 256 << 10  # bytes of a request; 1000 objects have about 110 KB
_TYPE: Final = "application/vnd.git-lfs+json"
_FOREVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}


async def lfs(request: Request, cache: Path, rest: str) -> Response:
    """Map what follows `info/lfs/` in the address of a repository to content."""
    if rest == "objects/batch":
        if request.method != "POST":
            return _refusal(405, "this address is posted to")
        folder = f"{request.origin}{request.prefix}{request.path.removesuffix('/batch')}"
        return Response(200, {}, posted=partial(_batch, cache, folder if request.origin else ""), longest=LONGEST)
    if rest.startswith("locks"):
        return _refusal(404, "there are no locks here: this mirror is read-only")
    oid = rest.removeprefix("objects/")
    if not objects.valid(oid):
        return _refusal(404, "this is no address of Git LFS")
    if request.method == "POST":
        return _refusal(405, "this mirror is read-only; push to its upstream")
    headers = {"Content-Type": "application/octet-stream", "ETag": f'"{oid}"', **_FOREVER, **SAFETY}
    stored = await asyncio.to_thread(LocalFile.whole, objects.place(cache, oid))
    return Response(200, headers, stored) if stored else _refusal(404, "this mirror does not have the object")


async def _batch(cache: Path, folder: str, body: bytes) -> Response:
    """Answer a request for many objects; `folder` is the address below which they are."""
    if not folder:
        return _refusal(400, "the request has no valid Host header, so no address of this server can be given")
    wanted = _wanted(body)
    if isinstance(wanted, Response):
        return wanted
    found = await asyncio.to_thread(lambda: [_answer(cache, folder, one) for one in wanted])
    return _document(200, {"transfer": "basic", "objects": found, "hash_algo": "sha256"})


def _wanted(body: bytes) -> list[dict[str, Any]] | Response:
    try:
        request = json.loads(body)
        operation, algorithm, transfers = request["operation"], request.get("hash_algo"), request.get("transfers")
        wanted = [{"oid": str(one["oid"]), "size": int(one["size"])} for one in request["objects"]]
        basic = not transfers or "basic" in transfers
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return _refusal(422, "this is no request of Git LFS's batch API")
    if operation != "download":
        return _refusal(403, "this mirror is read-only; push to its upstream")
    if algorithm not in {None, "sha256"}:
        return _refusal(409, "objects have SHA-256 ids here")
    if not basic:
        return _refusal(422, "objects are sent by the basic transfer only")
    if len(wanted) > MOST:
        return _refusal(413, f"a request may be for {MOST} objects")
    return wanted


def _answer(cache: Path, folder: str, one: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say where an object is, or that it is not here."""
    oid, size = one["oid"], one["size"]
    answer = {"oid": oid[:64], "size": size}
    if not objects.valid(oid):
        return {**answer, "error": {"code": 422, "message": "this is no id of an object"}}
    here = objects.size_of(cache, oid)
    if here is None:
        return {**answer, "error": {"code": 404, "message": "this mirror does not have the object"}}
    # Its id decides. Git LFS also accepts it for a pointer with another size.
    return {**answer, "size": here, "authenticated": True, "actions": {"download": {"href": f"{folder}/{oid}"}}}


def _refusal(status: int, reason: str) -> Response:
    return _document(status, {"message": reason})


def _document(status: int, document: Mapping[str, Any]) -> Response:
    headers = {"Content-Type": _TYPE, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    return Response(status, headers, body=json.dumps(document).encode())

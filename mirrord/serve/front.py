"""The read-only front: what syncers hold locally, over HTTP. A syncer only maps a path to content, all else is here."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from mirrord.serve.ranges import Span, UnsatisfiableError, applies, parse_range, unchanged
from mirrord.serve.sendfile import send_file
from mirrord.syncer import Content, Serves, Services


class Front:
    """Answers for all syncers that serve, by the longest prefix that fits."""

    def __init__(self, fronts: Mapping[str, Serves], services: Callable[[], Services]) -> None:
        """Serve `fronts` (by prefix, such as `/v2/`) with whatever services are current."""
        self._fronts = sorted(fronts.items(), key=lambda entry: len(entry[0]), reverse=True)
        self._services = services

    async def answer(self, request: web.Request, path: str) -> web.StreamResponse | None:
        """Answer a request for a raw path that passed `paths.refusal`; None when no syncer owns it."""
        for prefix, syncer in self._fronts:
            if path.startswith(prefix) or path == prefix.rstrip("/"):
                if request.method not in ("GET", "HEAD"):
                    return unsupported(request.method)
                query = {key: request.query[key] for key in request.query}  # the first of several wins
                content = syncer.content(path[len(prefix) :], query, self._services())
                return await _send(request, content)
        return None


def unsupported(method: str) -> web.Response:
    """Refuse whatever is not reading (distribution-spec, error code UNSUPPORTED)."""
    body = oci_error("UNSUPPORTED", f"{method[:20]} is not supported: this registry is read-only")
    return web.Response(status=405, headers={"Allow": "GET, HEAD"}, body=body, content_type="application/json")


def oci_error(code: str, message: str) -> bytes:
    """Return an error body as the distribution specification wants it."""
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


async def _send(request: web.Request, content: Content) -> web.StreamResponse:
    headers = {key: value for key, value in content.headers.items() if key.lower() != "content-length"}
    lower = {key.lower(): value for key, value in headers.items()}
    headers.setdefault("X-Content-Type-Options", "nosniff")
    if content.status == 200 and unchanged(request.headers.get("If-None-Match"), lower.get("etag")):
        return web.Response(status=304, headers=headers)
    if content.file is None:
        return web.Response(status=content.status, headers=headers, body=content.body)
    try:
        file = _open(content.file)
    except OSError:  # collected between the look-up and now
        return web.Response(status=404, body=oci_error("BLOB_UNKNOWN", "gone"), content_type="application/json")
    try:
        return await _send_file(request, content.status, headers, lower.get("etag"), file)
    finally:
        file.close()


def _open(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


async def _send_file(
    request: web.Request, status: int, headers: Mapping[str, str], etag: str | None, file: BinaryIO
) -> web.StreamResponse:
    size = os.fstat(file.fileno()).st_size
    ranged = status == 200 and request.method == "GET" and applies(request.headers.get("If-Range"), etag)
    try:
        span = parse_range(request.headers.get("Range"), size) if ranged else None
    except UnsatisfiableError:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"})
    response = web.StreamResponse(status=206 if span else status, headers=headers)
    response.headers["Accept-Ranges"] = "bytes"
    if span:
        response.headers["Content-Range"] = span.content_range(size)
    part = span or Span(0, size)
    response.content_length = part.count
    writer = await response.prepare(request)
    transport = request.transport
    if request.method == "HEAD" or not part.count or writer is None:
        return response
    if transport is None:
        raise ConnectionResetError("the client went away")
    transport.set_write_buffer_limits(high=0)
    await writer.drain()
    transport.set_write_buffer_limits()
    await send_file(transport, file, part.offset, part.count)
    return response

"""The read-only front: what syncers hold locally, over HTTP. A syncer only maps a path to content, all else is here."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from mirrord.serve.bodies import Bodies, BodyError
from mirrord.serve.negotiation import tag_of, wants_gzip, with_vary
from mirrord.serve.programs import Programs
from mirrord.serve.ranges import Span, UnsatisfiableError, applies, parse_range, unchanged
from mirrord.serve.sendfile import FileSender
from mirrord.syncer.serving import Request, Response, Serves
from mirrord.syncer.values import Services

_READING = ("GET", "HEAD")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")


class Front:
    """Answers for all syncers that serve, by the longest prefix that fits."""

    def __init__(
        self,
        fronts: Mapping[str, Serves],
        services: Callable[[], Services],
        programs: Programs | None = None,
        bodies: Bodies | None = None,
    ) -> None:
        """Serve `fronts` (by prefix, such as `/v2/`) with whatever services are current."""
        self._fronts = sorted(fronts.items(), key=lambda entry: len(entry[0]), reverse=True)
        self._services = services
        self._programs = programs or Programs()
        self._bodies = bodies or Bodies()
        self._files = FileSender()

    async def close(self, _: web.Application) -> None:
        """Leave nothing running."""
        self._files.close()

    async def answer(self, request: web.Request, path: str) -> web.StreamResponse | None:
        """Answer a request for a raw path that passed `paths.refusal`; None when no syncer owns it."""
        for prefix, syncer in self._fronts:
            if path.startswith(prefix) or path == prefix.rstrip("/"):
                if request.method not in (*_READING, "POST"):
                    return unsupported(request.method)
                content = await syncer.respond(_asked(request, prefix, path), self._services())
                if request.method not in _READING and content.status < 400:
                    if content.posted is None:
                        return unsupported(request.method)
                    return await self._posted(request, content.posted, content.longest)
                return await self._send(request, content)
        return None

    async def _posted(
        self, request: web.Request, posted: Callable[[bytes], Awaitable[Response]], longest: int
    ) -> web.StreamResponse:
        """Read the body, and do for it what is wanted: nothing is, and no program waits, before it has come."""
        try:
            async with self._bodies.whole(request, longest) as body:
                content = await posted(body)
                job = None if content.process is None else await self._programs.job(content.process)
        except BodyError as error:
            status, reason = error.args
            return web.Response(status=status, text=f"{reason}\n")
        del body
        content = replace(content, process=None)  # it may hold the body, and a slow client would keep that
        if job is not None:
            return await self._programs.answer(request, job, content.headers)
        return await _send(request, content, self._files)

    async def _send(self, request: web.Request, content: Response) -> web.StreamResponse:
        if content.process is None:
            return await _send(request, content, self._files)
        if request.method == "HEAD":
            return web.Response(status=content.status, headers=content.headers)
        return await self._programs.answer(request, await self._programs.job(content.process), content.headers)


def _asked(request: web.Request, prefix: str, path: str) -> Request:
    query = {key: request.query[key] for key in request.query}  # the first of several wins
    rest = request.raw_path.partition("?")[2]
    git = request.headers.get("Git-Protocol", "")
    return Request(request.method, prefix, path[len(prefix) :], query, rest, _origin(request), git)


def _origin(request: web.Request) -> str:
    """Return by which address the client reached us, also through a proxy that says so; "" when nobody can tell.

    Whoever lies here gets wrong addresses in an answer that goes to nobody else: to a POST, which no cache keeps.
    """
    said = request.headers
    scheme = said.get("X-Forwarded-Proto", request.scheme).partition(",")[0].strip().lower()
    host = said.get("X-Forwarded-Host", said.get("Host", "")).partition(",")[0].strip()
    return f"{scheme}://{host}" if scheme in {"http", "https"} and _HOST.fullmatch(host) else ""


def unsupported(method: str) -> web.Response:
    """Refuse whatever is not reading (distribution-spec, error code UNSUPPORTED)."""
    body = oci_error("UNSUPPORTED", f"{method[:20]} is not supported: everything here is read-only")
    return web.Response(status=405, headers={"Allow": "GET, HEAD"}, body=body, content_type="application/json")


def oci_error(code: str, message: str) -> bytes:
    """Return an error body as the distribution specification wants it."""
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


async def _send(request: web.Request, content: Response, files: FileSender) -> web.StreamResponse:
    headers = {key: value for key, value in content.headers.items() if key.lower() != "content-length"}
    headers.setdefault("X-Content-Type-Options", "nosniff")
    if content.gzipped is not None:
        headers = with_vary(headers, "Accept-Encoding")
    if content.status == 200 and content.gzipped is not None and _may_pack(request):
        packed = _open(content.gzipped)
        if packed is not None:
            headers = _packed(headers)
            with packed:
                return _same(request, headers) or await _send_file(request, 200, headers, packed, files)
    same = _same(request, headers) if content.status == 200 else None
    if same is not None:
        return same
    if content.file is None:
        return _send_body(request, content, headers)
    file = _open(content.file)
    if file is None:  # collected between the look-up and now
        return web.Response(status=404, body=oci_error("BLOB_UNKNOWN", "gone"), content_type="application/json")
    with file:
        return await _send_file(request, content.status, headers, file, files)


def _may_pack(request: web.Request) -> bool:
    """Say whether to send the compressed form: parts are parts of the plain one."""
    return "Range" not in request.headers and wants_gzip(request.headers.get("Accept-Encoding"))


def _packed(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of the compressed form."""
    forms = {key: tag_of(value, "gzip") if key.lower() == "etag" else value for key, value in headers.items()}
    return {**forms, "Content-Encoding": "gzip"}


def _etag(headers: Mapping[str, str]) -> str | None:
    return next((value for key, value in headers.items() if key.lower() == "etag"), None)


def _same(request: web.Request, headers: Mapping[str, str]) -> web.Response | None:
    if not unchanged(request.headers.get("If-None-Match"), _etag(headers)):
        return None
    kept = {key: value for key, value in headers.items() if key != "Content-Encoding"}  # there is no content
    return web.Response(status=304, headers=kept)


def _open(path: Path) -> BinaryIO | None:
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
    except OSError:
        return None


def _part(request: web.Request, status: int, etag: str | None, size: int) -> Span | None:
    """Return the part that is asked for, or None for the whole."""
    if status != 200 or request.method != "GET" or not applies(request.headers.get("If-Range"), etag):
        return None
    return parse_range(request.headers.get("Range"), size)


def _beyond(headers: Mapping[str, str], size: int) -> web.Response:
    vary = {"Vary": headers["Vary"]} if "Vary" in headers else {}
    return web.Response(status=416, headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes", **vary})


def _send_body(request: web.Request, content: Response, headers: Mapping[str, str]) -> web.Response:
    """Send what is in memory; in parts, when it has a tag by which the parts can be told to belong together."""
    etag, size = _etag(headers), len(content.body)
    if etag is None:
        return web.Response(status=content.status, headers=headers, body=content.body)
    try:
        span = _part(request, content.status, etag, size)
    except UnsatisfiableError:
        return _beyond(headers, size)
    headers = {**headers, "Accept-Ranges": "bytes"}
    if span is None:
        return web.Response(status=content.status, headers=headers, body=content.body)
    part = content.body[span.offset : span.offset + span.count]
    return web.Response(status=206, headers={**headers, "Content-Range": span.content_range(size)}, body=part)


async def _send_file(
    request: web.Request, status: int, headers: Mapping[str, str], file: BinaryIO, files: FileSender
) -> web.StreamResponse:
    size = os.fstat(file.fileno()).st_size
    try:
        span = _part(request, status, _etag(headers), size)
    except UnsatisfiableError:
        return _beyond(headers, size)
    response = web.StreamResponse(status=206 if span else status, headers=headers)
    if "Content-Encoding" not in headers:
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
    try:
        await files.send(transport, file, part.offset, part.count)
    except ConnectionError:
        transport.abort()  # the client has left, or must not take this for whole: nobody is there to be told
    return response

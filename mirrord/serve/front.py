"""The read-only front: what syncers serve, over HTTP. A syncer only maps a path to content, all else is here."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import BinaryIO, Final

from aiohttp import web

from mirrord.blobs.store import Remote, Stored
from mirrord.errors import BrokenError, MirrordError, MissingError
from mirrord.files import LocalFile
from mirrord.serve import negotiation
from mirrord.serve.bodies import Bodies, BodyError
from mirrord.serve.negotiation import Span, etag_of
from mirrord.serve.programs import Programs
from mirrord.serve.sending import STALL, FileSender, abort, attended, send_pieces
from mirrord.syncer.serving import Request, Response, Serves
from mirrord.syncer.values import Services

_READING = ("GET", "HEAD")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")
_SMALL: Final = 64 << 10  # bytes that are read at once, and not sent by threads of their own


class Front:
    """Answers for all syncers that serve, by the longest prefix that fits."""

    def __init__(
        self,
        fronts: Mapping[str, Serves],
        services: Callable[[], Services],
        programs: Programs | None = None,
        bodies: Bodies | None = None,
        *,
        stall: float = STALL,
    ) -> None:
        """Serve `fronts` (by prefix, such as `/v2/`) with whatever services are current."""
        self._fronts = sorted(fronts.items(), key=lambda entry: len(entry[0]), reverse=True)
        self._services = services
        self._programs = programs or Programs()
        self._bodies = bodies or Bodies()
        self._files = FileSender(stall=stall)
        self._stall = stall

    async def close(self, _: web.Application) -> None:
        """Leave nothing running."""
        self._files.close()

    async def answer(self, request: web.Request, path: str) -> web.StreamResponse | None:
        """Answer a request for a raw path that passed `app.refusal`; None when no syncer owns it."""
        for prefix, syncer in self._fronts:
            if path.startswith(prefix) or path == prefix.rstrip("/"):
                if request.method not in (*_READING, "POST"):
                    return unsupported(request.method)
                response = await syncer.respond(_request(request, prefix, path), self._services())
                if request.method not in _READING and response.status < 400:
                    if response.posted is None:
                        return unsupported(request.method)
                    return await self._posted(request, response.posted, response.longest)
                return await self._respond(request, response)
        return None

    async def _posted(
        self, request: web.Request, posted: Callable[[bytes], Awaitable[Response]], longest: int
    ) -> web.StreamResponse:
        """Read the body, and do for it what is wanted: nothing is, and no program waits, before it has come."""
        try:
            async with self._bodies.whole(request, longest) as body:
                response = await posted(body)
                job = None if response.process is None else await self._programs.job(response.process)
        except BodyError as error:
            status, reason = error.args
            return web.Response(status=status, text=f"{reason}\n")
        del body
        response = replace(response, process=None)  # it may hold the body, and a slow client would keep that
        if job is not None:
            return await self._programs.answer(request, job, response.headers)
        return await self._respond(request, response)

    async def _respond(self, request: web.Request, response: Response) -> web.StreamResponse:
        if response.process is not None:
            if request.method == "HEAD":
                return web.Response(status=response.status, headers=response.headers)
            job = await self._programs.job(response.process)
            return await self._programs.answer(request, job, response.headers)
        headers = {key: value for key, value in response.headers.items() if key.lower() != "content-length"}
        headers.setdefault("X-Content-Type-Options", "nosniff")
        forms: list[tuple[Mapping[str, str], Stored | None]] = [(headers, response.stored)]
        if response.gzipped is not None:
            headers = negotiation.with_vary(headers, "Accept-Encoding")
            forms = [(headers, response.stored)]
            accepted = request.headers.get("Accept-Encoding")  # parts are parts of the plain form
            if response.status == 200 and "Range" not in request.headers and negotiation.wants_gzip(accepted):
                forms.insert(0, (negotiation.packed(headers), response.gzipped))
        for fields, stored in forms:
            if response.status == 200 and negotiation.unchanged(request.headers.get("If-None-Match"), etag_of(fields)):
                kept = {key: value for key, value in fields.items() if key != "Content-Encoding"}  # there is no content
                return web.Response(status=304, headers=kept)
            sent = await self._form(request, response, fields, stored)
            if sent is not None:
                return sent
        return _gone()

    async def _form(
        self, request: web.Request, response: Response, headers: Mapping[str, str], stored: Stored | None
    ) -> web.StreamResponse | None:
        """Send one form of the content, or a part of it; None when it was collected between the look-up and now."""
        if stored is None:
            return _send_body(request, response, headers)
        if isinstance(stored, Remote) and stored.url is not None:
            return web.Response(status=307, headers={"Location": stored.url, "Cache-Control": "no-store"})
        begun = _begin(request, response.status, headers, stored.size)
        if not isinstance(begun, tuple):
            return begun
        answer, part = begun
        if request.method == "HEAD" or not part.count:
            await answer.prepare(request)
            return answer
        if isinstance(stored, Remote):
            return await attended(request, self._streamed(request, answer, stored, part))
        return await self._file(request, answer, stored, part)

    async def _file(
        self, request: web.Request, answer: web.StreamResponse, stored: LocalFile, part: Span
    ) -> web.StreamResponse | None:
        file = await asyncio.to_thread(_open, stored, part)
        if file is None:
            return None
        if isinstance(file, bytes):
            return web.Response(status=answer.status, headers=answer.headers, body=file)
        with file:
            writer, transport = await answer.prepare(request), request.transport
            if writer is None or transport is None:
                raise ConnectionResetError("the client went away")
            transport.set_write_buffer_limits(high=0)
            await writer.drain()
            transport.set_write_buffer_limits()
            try:
                await self._files.send(transport, file, stored.offset + part.offset, part.count)
            except ConnectionError:
                transport.abort()  # the client has left, or must not take this for whole: nobody is there to be told
        return answer

    async def _streamed(
        self, request: web.Request, answer: web.StreamResponse, stored: Remote, part: Span
    ) -> web.StreamResponse:
        """Stream from elsewhere; an error that comes before the first byte has a status of its own."""
        async with aclosing(_exactly(stored, part)) as pieces:
            try:
                first = await anext(pieces)
            except MissingError:
                return _gone()
            except MirrordError:
                return web.Response(status=502, text="the place where this is kept does not answer; try again later\n")
            await answer.prepare(request)
            try:
                await answer.write(first)
                await send_pieces(request, answer, pieces, self._stall)
            except (MirrordError, ConnectionError):
                abort(request)
        return answer


def _request(request: web.Request, prefix: str, path: str) -> Request:
    fields: dict[str, str] = {}
    for name, value in request.headers.items():
        fields.setdefault(name.lower(), value)
    scheme = fields.get("x-forwarded-proto", request.scheme).partition(",")[0].strip().lower()
    host = fields.get("x-forwarded-host", fields.get("host", "")).partition(",")[0].strip()
    known = scheme in {"http", "https"} and _HOST.fullmatch(host)
    return Request(
        request.method,
        prefix,
        path[len(prefix) :],
        {key: request.query[key] for key in request.query},  # the first of several wins
        fields,
        host if known else "",
        scheme if known else request.scheme,
        request.remote or "",
    )


def unsupported(method: str) -> web.Response:
    """Refuse whatever is not reading (distribution-spec, error code UNSUPPORTED)."""
    body = oci_error("UNSUPPORTED", f"{method[:20]} is not supported: everything here is read-only")
    return web.Response(status=405, headers={"Allow": "GET, HEAD"}, body=body, content_type="application/json")


def oci_error(code: str, message: str) -> bytes:
    """Return an error body as the distribution specification wants it."""
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def _gone() -> web.Response:
    return web.Response(status=404, body=oci_error("BLOB_UNKNOWN", "gone"), content_type="application/json")


def _open(stored: LocalFile, part: Span) -> bytes | BinaryIO | None:
    """Open a file, or read all that is wanted of it when that is little; None when it is not there any more."""
    try:
        file = os.fdopen(os.open(stored.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0)
    except OSError:
        return None
    if part.count > _SMALL:
        return file
    with file, suppress(OSError):
        data = os.pread(file.fileno(), part.count, stored.offset + part.offset)
        return data if len(data) == part.count else None
    return None


async def _exactly(stored: Remote, part: Span) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a part, all of them and no more; raises BrokenError when it ends early."""
    left = part.count
    async for piece in stored.open(part.offset, part.count):
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return
    raise BrokenError(f"{left} bytes are missing")


def _begin(
    request: web.Request, status: int, headers: Mapping[str, str], size: int
) -> tuple[web.StreamResponse, Span] | web.Response:
    """Begin an answer with the part that is asked for, or the whole; 416 where nothing of it is there."""
    span = None
    try:
        if_range = request.headers.get("If-Range")
        if status == 200 and request.method == "GET" and negotiation.applies(if_range, etag_of(headers)):
            span = negotiation.parse_range(request.headers.get("Range"), size)
    except negotiation.UnsatisfiableError:
        vary = {"Vary": headers["Vary"]} if "Vary" in headers else {}
        return web.Response(status=416, headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes", **vary})
    response = web.StreamResponse(status=206 if span else status, headers=headers)
    if "Content-Encoding" not in headers:
        response.headers["Accept-Ranges"] = "bytes"
    if span:
        response.headers["Content-Range"] = span.content_range(size)
    response.content_length = span.count if span else size
    return response, span or Span(0, size)


def _send_body(request: web.Request, response: Response, headers: Mapping[str, str]) -> web.StreamResponse:
    """Send what is in memory; in parts, when it has a tag by which the parts can be told to belong together."""
    if etag_of(headers) is None:
        return web.Response(status=response.status, headers=headers, body=response.body)
    begun = _begin(request, response.status, headers, len(response.body))
    if not isinstance(begun, tuple):
        return begun
    sent, part = begun
    data = response.body[part.offset : part.offset + part.count]
    return web.Response(status=sent.status, headers=sent.headers, body=data)

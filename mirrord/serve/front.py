"""The read-only front: content of syncers over HTTP. A syncer only maps a path to content; the rest is here."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import partial

from aiohttp import web

from mirrord.blobs.store import Remote, Stored
from mirrord.errors import BrokenError, MirrordError, MissingError
from mirrord.events import AnswerBroken
from mirrord.files import LocalFile
from mirrord.serve import negotiation
from mirrord.serve.bodies import Bodies, BodyError
from mirrord.serve.negotiation import Span, etag_of
from mirrord.serve.programs import Programs
from mirrord.serve.sending import STALL, FileSender
from mirrord.serve.small import SMALL, SmallFiles, open_stored
from mirrord.serve.streaming import attended, send_stream
from mirrord.syncer.serving import Body, Process, Request, Response, Serves
from mirrord.syncer.values import Services

_READING = ("GET", "HEAD")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")


class Front:
    """Dispatches to the syncers by the longest matching prefix."""

    def __init__(
        self,
        fronts: Mapping[str, Serves],
        services: Callable[[], Services],
        programs: Programs | None = None,
        bodies: Bodies | None = None,
        *,
        stall: float = STALL,
    ) -> None:
        """Serve `fronts` (by prefix, such as `/v2/`) with the current services."""
        self._fronts = sorted(fronts.items(), key=lambda entry: len(entry[0]), reverse=True)
        self._services = services
        self._programs = programs or Programs()
        self._bodies = bodies or Bodies()
        self._files, self._small = FileSender(stall=stall), SmallFiles()
        self._stall = stall

    async def close(self, _: web.Application) -> None:
        """Stop all senders."""
        self._files.close()

    async def answer(self, request: web.Request, path: str) -> web.StreamResponse | None:
        """Answer a request for a valid raw path (`app.refusal`); None if no syncer owns it."""
        for prefix, syncer in self._fronts:
            if path.startswith(prefix) or path == prefix[:-1]:
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
        """Read the body, then answer it: no work starts and no program waits before it is complete."""
        try:
            async with self._bodies.whole(request, longest) as body:
                response = await posted(body)
                job = await self._programs.job(response.body) if isinstance(response.body, Process) else None
        except BodyError as error:
            status, reason = error.args
            return web.Response(status=status, text=f"{reason}\n")
        del body
        if job is None:
            return await self._respond(request, response)
        answer = web.StreamResponse(status=response.status, headers=response.headers)
        del response  # it references the body, which a slow client would keep in memory
        return await self._programs.answer(request, job, answer, partial(self._broken, request))

    async def _respond(self, request: web.Request, response: Response) -> web.StreamResponse:
        """Send the best available form of the content."""
        headers = {key: value for key, value in response.headers.items() if key.lower() != "content-length"}
        headers.setdefault("X-Content-Type-Options", "nosniff")
        if response.gzipped is not None:
            headers = negotiation.with_vary(headers, "Accept-Encoding")
            accepted = request.headers.get("Accept-Encoding")  # ranges are of the plain form
            if response.status == 200 and "Range" not in request.headers and negotiation.wants_gzip(accepted):
                sent = await self._form(request, 200, negotiation.packed(headers), response.gzipped)
                if sent is not None:
                    return sent
        return await self._form(request, response.status, headers, response.body) or _gone()

    async def _form(
        self, request: web.Request, status: int, headers: Mapping[str, str], body: Body
    ) -> web.StreamResponse | None:
        """Send one form of the content, or a part of it; None if it was removed since the lookup."""
        etag = etag_of(headers)
        if status == 200 and negotiation.unchanged(request.headers.get("If-None-Match"), etag):
            kept = {key: value for key, value in headers.items() if key != "Content-Encoding"}  # no content
            return web.Response(status=304, headers=kept)
        if isinstance(body, bytes) and etag is None:  # its parts could not be matched
            return web.Response(status=status, headers=headers, body=body)
        if isinstance(body, bytes | LocalFile | Remote):
            return await self._part(request, status, headers, body)
        answer = web.StreamResponse(status=status, headers=headers)
        if request.method == "HEAD":
            return answer
        if isinstance(body, Process):
            job = await self._programs.job(body)
            return await self._programs.answer(request, job, answer, partial(self._broken, request))
        return await attended(request, self._streamed(request, answer, body()))

    async def _part(
        self, request: web.Request, status: int, headers: Mapping[str, str], body: bytes | Stored
    ) -> web.StreamResponse | None:
        """Send the requested part of content of a known size."""
        if isinstance(body, Remote) and body.url is not None:
            return web.Response(status=307, headers={"Location": body.url, "Cache-Control": "no-store"})
        size = len(body) if isinstance(body, bytes) else body.size
        try:
            asked = _asked(request, status, headers, size)
        except negotiation.UnsatisfiableError:
            vary = {"Vary": headers["Vary"]} if "Vary" in headers else {}
            vary |= {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}
            return web.Response(status=416, headers=vary)
        part = asked or Span(0, size)
        fields = {**headers, "Content-Length": str(part.count)}
        if "Content-Encoding" not in headers:
            fields["Accept-Ranges"] = "bytes"
        if asked:
            status, fields["Content-Range"] = 206, part.content_range(size)
        if request.method == "HEAD" or not part.count:
            return web.StreamResponse(status=status, headers=fields)
        if isinstance(body, LocalFile) and part.count > SMALL:
            answer = web.StreamResponse(status=status, headers=fields)
            return await self._file(request, answer, _within(body, part))
        if isinstance(body, Remote):
            answer = web.StreamResponse(status=status, headers=fields)
            return await attended(request, self._streamed(request, answer, _exactly(body, part), prompt=body.prompt))
        if isinstance(body, LocalFile):
            data = await self._small.read(_within(body, part), etag_of(headers))
        else:
            data = body[part.offset :][: part.count]
        return None if data is None else web.Response(status=status, headers=fields, body=data)

    async def _file(
        self, request: web.Request, answer: web.StreamResponse, wanted: LocalFile
    ) -> web.StreamResponse | None:
        file = await asyncio.to_thread(open_stored, wanted)
        if file is None:
            return None
        with file:
            writer, transport = await answer.prepare(request), request.transport
            if writer is None or transport is None:
                raise ConnectionResetError("the client disconnected")
            transport.set_write_buffer_limits(high=0)
            await writer.drain()
            transport.set_write_buffer_limits()
            try:
                await self._files.send(transport, file, wanted.offset, wanted.size)
            except ConnectionError:
                transport.abort()  # the client has left, or must not regard this as complete
        return answer

    async def _streamed(
        self,
        request: web.Request,
        answer: web.StreamResponse,
        pieces: AsyncGenerator[bytes, None],
        *,
        prompt: bool = False,
    ) -> web.StreamResponse:
        """Stream; an error before the first byte gets its own status, except after prompt headers."""
        try:
            return await send_stream(
                request, answer, pieces, partial(self._broken, request), self._stall, prompt=prompt
            )
        except MissingError:
            return _gone()
        except MirrordError:
            return web.Response(status=502, text="the storage of this content does not answer; try again later\n")

    def _broken(self, request: web.Request, error: Exception) -> None:
        self._services().events.emit(AnswerBroken(request.raw_path, str(error) or type(error).__name__))


def _request(request: web.Request, prefix: str, path: str) -> Request:
    fields: dict[str, str] = {}
    for name, value in request.headers.items():
        fields.setdefault(name.lower(), value)
    scheme = fields.get("x-forwarded-proto", request.scheme).partition(",")[0].strip().lower()
    host = fields.get("x-forwarded-host", fields.get("host", "")).partition(",")[0].strip()
    known = scheme in {"http", "https"} and _HOST.fullmatch(host)
    asked = request.query if "?" in request.raw_path else {}
    return Request(
        request.method,
        prefix,
        path[len(prefix) :],
        {key: asked[key] for key in asked},  # the first of several counts
        fields,
        host if known else "",
        scheme if known else request.scheme,
        request.remote or "",
        tuple(request.headers.getall("Accept", ())),
    )


def unsupported(method: str) -> web.Response:
    """Reject methods that write (distribution-spec, error code UNSUPPORTED)."""
    body = oci_error("UNSUPPORTED", f"{method[:20]} is not supported: everything here is read-only")
    return web.Response(status=405, headers={"Allow": "GET, HEAD"}, body=body, content_type="application/json")


def oci_error(code: str, message: str) -> bytes:
    """Return an error body in the format of the distribution specification."""
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def _gone() -> web.Response:
    return web.Response(status=404, body=oci_error("BLOB_UNKNOWN", "gone"), content_type="application/json")


def _within(stored: LocalFile, part: Span) -> LocalFile:
    return LocalFile(stored.path, stored.offset + part.offset, part.count)


async def _exactly(stored: Remote, part: Span) -> AsyncGenerator[bytes, None]:
    """Yield exactly the bytes of a part; raises BrokenError if it ends early."""
    left = part.count
    async for piece in stored.open(part.offset, part.count):
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return
    raise BrokenError(f"{left} bytes are missing")


def _asked(request: web.Request, status: int, headers: Mapping[str, str], size: int) -> Span | None:
    """Return the requested part, or None for the whole; UnsatisfiableError if it is outside the content."""
    asked = request.headers.get("Range")
    if asked is None or status != 200 or request.method != "GET":
        return None
    applies = negotiation.applies(request.headers.get("If-Range"), etag_of(headers))
    return negotiation.parse_range(asked, size) if applies else None

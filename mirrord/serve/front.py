"""The read-only front: content of syncers over HTTP. A syncer only maps a path to content; the rest is here."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import partial
from typing import BinaryIO

from aiohttp import web

from mirrord.blobs.store import Remote, Stored
from mirrord.errors import BrokenError, MirrordError, MissingError, StorageError
from mirrord.events import AnswerBroken
from mirrord.files import LocalFile
from mirrord.serve import negotiation
from mirrord.serve.answered import reported
from mirrord.serve.bodies import Bodies, BodyError
from mirrord.serve.door import while_there
from mirrord.serve.incoming import incoming
from mirrord.serve.negotiation import Span, etag_of
from mirrord.serve.programs import Programs
from mirrord.serve.sending import PIECE, STALL, FileSender
from mirrord.serve.small import SMALL, SmallFiles, open_stored
from mirrord.serve.streaming import attended, send_stream
from mirrord.serve.turns import TurnBudget
from mirrord.syncer.serving import Body, Meter, Process, Response, Serves
from mirrord.syncer.values import Services

_READING = ("GET", "HEAD")
_IN_PARTS = {"Accept-Ranges": "bytes"}
_REDIRECTED = ("Docker-Content-Digest", "Docker-Distribution-Api-Version")  # a redirect has them, too


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
        self._stall, self._turns = stall, TurnBudget()

    async def close(self, _: web.Application) -> None:
        """Stop all senders."""
        self._files.close()

    async def answer(self, request: web.Request, path: str, token: str | None = None) -> web.StreamResponse | None:
        """Answer a request for a valid raw path (`app.refusal`); None if no syncer owns it."""
        for prefix, syncer in self._fronts:
            if path.startswith(prefix) or path == prefix[:-1]:
                if request.method not in (*_READING, "POST"):
                    return unsupported(request.method)
                asked = incoming(request, prefix, path, token)
                response = await while_there(request, syncer.respond(asked, self._services()))
                if request.method not in _READING and response.status < 400:
                    if response.posted is None:
                        return unsupported(request.method)
                    return await self._posted(request, response.posted, response.longest)
                send = partial(self._send, request)
                return await reported(response, send, self._services().events) if response.log else await send(response)
        return None

    async def _send(self, request: web.Request, response: Response) -> web.StreamResponse:
        try:
            return await self._respond(request, response)
        except StorageError as error:
            self._broken(request, error)
            return _unreadable()
        finally:
            if response.meter is not None:
                response.meter.ended()

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
        if response.gzipped is not None:
            headers = negotiation.with_vary(headers, "Accept-Encoding")
            accepted = request.headers.get("Accept-Encoding")  # ranges are of the plain form
            if response.status == 200 and "Range" not in request.headers and negotiation.wants_gzip(accepted):
                packed = negotiation.packed(headers)
                sent = await self._form(request, 200, packed, response.gzipped, response.meter)
                if sent is not None:
                    return sent
        elif etag_of(headers) is not None:  # these bytes and no others: no proxy may compress them
            headers.setdefault("Cache-Control", "no-transform")
        return await self._form(request, response.status, headers, response.body, response.meter) or _gone()

    async def _form(
        self, request: web.Request, status: int, headers: Mapping[str, str], body: Body, meter: Meter | None
    ) -> web.StreamResponse | None:
        """Send one form of the content, or a part of it; None if it was removed since the lookup."""
        etag = etag_of(headers)
        if status == 200 and negotiation.unchanged(request.headers.get("If-None-Match"), etag):
            kept = {key: value for key, value in headers.items() if key != "Content-Encoding"}  # no content
            return web.Response(status=304, headers=kept)
        if isinstance(body, bytes) and etag is None:  # its parts could not be matched
            await _metered(request, meter, len(body))
            return web.Response(status=status, headers=headers, body=body)
        if isinstance(body, bytes | LocalFile | Remote):
            return await self._part(request, status, headers, body, meter)
        answer = web.StreamResponse(status=status, headers=headers)
        if request.method == "HEAD":
            return answer
        if isinstance(body, Process):
            job = await self._programs.job(body)
            return await self._programs.answer(request, job, answer, partial(self._broken, request))
        return await attended(request, self._streamed(request, answer, body(), meter))

    async def _part(
        self, request: web.Request, status: int, headers: Mapping[str, str], body: bytes | Stored, meter: Meter | None
    ) -> web.StreamResponse | None:
        """Send the requested part of content of a known size."""
        if isinstance(body, Remote) and body.url is not None and request.method == "GET":
            kept = {key: headers[key] for key in _REDIRECTED if key in headers}
            return web.Response(status=307, headers={**kept, "Location": body.url, "Cache-Control": "no-store"})
        size = len(body) if isinstance(body, bytes) else body.size
        try:
            asked = _asked(request, status, headers, size)
        except negotiation.UnsatisfiableError:
            vary = {"Vary": headers["Vary"]} if "Vary" in headers else {}
            return web.Response(status=416, headers={**vary, "Content-Range": f"bytes */{size}", **_IN_PARTS})
        part = asked or Span(0, size)
        fields = {**headers, "Content-Length": str(part.count)}
        if "Content-Encoding" not in headers:
            fields |= _IN_PARTS
        if asked:
            status, fields["Content-Range"] = 206, part.content_range(size)
        if request.method == "HEAD" or not part.count:
            return web.StreamResponse(status=status, headers=fields)
        if isinstance(body, LocalFile) and part.count > SMALL:
            answer = web.StreamResponse(status=status, headers=fields)
            return await self._file(request, answer, _within(body, part), meter)
        if isinstance(body, Remote):
            answer = web.StreamResponse(status=status, headers=fields)
            pieces = _exactly(body, part)
            return await attended(request, self._streamed(request, answer, pieces, meter, prompt=body.prompt))
        return await self._small_part(request, web.Response(status=status, headers=fields), body, part, meter)

    async def _small_part(
        self, request: web.Request, answer: web.Response, body: bytes | LocalFile, part: Span, meter: Meter | None
    ) -> web.StreamResponse | None:
        """Send a part that fits into memory."""
        if isinstance(body, LocalFile):
            data = await self._small.read(_within(body, part), etag_of(answer.headers))
            if data is None:
                return None
        else:
            data = body[part.offset :][: part.count]
        await _metered(request, meter, len(data))
        answer.body = data
        return answer

    async def _file(
        self, request: web.Request, answer: web.StreamResponse, wanted: LocalFile, meter: Meter | None
    ) -> web.StreamResponse | None:
        if (file := await asyncio.to_thread(open_stored, wanted)) is None:
            return None
        with file:
            if request.transport is not None and request.transport.get_extra_info("sslcontext") is not None:
                return await attended(request, self._streamed(request, answer, _read(file, wanted), meter))
            if meter is not None and meter.paced:
                return await attended(request, self._sent(request, answer, file, wanted, meter))
            return await self._sent(request, answer, file, wanted, meter)

    async def _sent(
        self, request: web.Request, answer: web.StreamResponse, file: BinaryIO, wanted: LocalFile, meter: Meter | None
    ) -> web.StreamResponse:
        """Send a file without reading it: all at once, or in pieces if it is paced."""
        writer, transport = await answer.prepare(request), request.transport
        if writer is None or transport is None:
            raise ConnectionResetError("the client disconnected")
        transport.set_write_buffer_limits(high=0)
        await writer.drain()
        transport.set_write_buffer_limits()
        paced, end = meter is not None and meter.paced, wanted.offset + wanted.size
        try:
            for offset in range(wanted.offset, end, PIECE if paced else wanted.size):
                count = min(PIECE, end - offset) if paced else wanted.size
                if meter is not None and paced:
                    await meter.pace(count)
                await self._files.send(transport, file, offset, count, meter.sent if meter is not None else None)
        except ConnectionError:
            transport.abort()  # the client has left, or must not regard this as complete
        return answer

    async def _streamed(
        self,
        request: web.Request,
        answer: web.StreamResponse,
        pieces: AsyncGenerator[bytes, None],
        meter: Meter | None,
        *,
        prompt: bool = False,
    ) -> web.StreamResponse:
        """Stream; an error before the first byte gets its own status, except after prompt headers."""
        try:
            broken, stall, turns = partial(self._broken, request), self._stall, self._turns
            return await send_stream(request, answer, pieces, broken, stall, prompt=prompt, meter=meter, turns=turns)
        except MissingError:
            return _gone()
        except MirrordError:
            return web.Response(status=502, text="the storage of this content does not answer; try again later\n")

    def _broken(self, request: web.Request, error: Exception) -> None:
        self._services().events.emit(AnswerBroken(request.raw_path, str(error) or type(error).__name__))


def unsupported(method: str) -> web.Response:
    """Reject methods that write (distribution-spec, error code UNSUPPORTED)."""
    body = oci_error("UNSUPPORTED", f"{method[:20]} is not supported: everything here is read-only")
    return web.Response(status=405, headers={"Allow": "GET, HEAD"}, body=body, content_type="application/json")


def oci_error(code: str, message: str) -> bytes:
    """Return an error body in the format of the distribution specification."""
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def _unreadable() -> web.Response:
    body = oci_error("UNKNOWN", "the store cannot be read; see the log")
    return web.Response(status=503, headers={"Retry-After": "10"}, body=body, content_type="application/json")


def _gone() -> web.Response:
    return web.Response(status=404, body=oci_error("BLOB_UNKNOWN", "gone"), content_type="application/json")


def _within(stored: LocalFile, part: Span) -> LocalFile:
    return LocalFile(stored.path, stored.offset + part.offset, part.count)


async def _metered(request: web.Request, meter: Meter | None, count: int) -> None:
    """Let a meter count a small body, which is sent in one piece."""
    if meter is not None and request.method != "HEAD":
        if meter.paced:
            await meter.pace(count)
        meter.sent(count)


async def _read(file: BinaryIO, wanted: LocalFile) -> AsyncGenerator[bytes, None]:
    """Yield a file in pieces; raises BrokenError if it is truncated."""
    end = wanted.offset + wanted.size
    for offset in range(wanted.offset, end, PIECE):
        count = min(PIECE, end - offset)
        piece = await asyncio.to_thread(os.pread, file.fileno(), count, offset)
        if len(piece) != count:
            raise BrokenError("the file was truncated")
        yield piece


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

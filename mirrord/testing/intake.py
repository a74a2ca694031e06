"""The two ends of a request at a double: reading its body, sending its answer; both log and obey faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from aiohttp import web

from mirrord.testing.exchange import Exchange, Moment, Wire
from mirrord.testing.faults import Fault
from mirrord.testing.reply import Body, Reply

CHUNK = 256 * 1024
NO_FAULT = Fault("", "", times=0)


class RefusedEarlyError(Exception):
    """The order was to answer in the middle of the request's body."""


class Pacer:
    """Makes bytes flow at `rate` a second, or as they come."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._due = time.monotonic()

    @property
    def chunk(self) -> int:
        """How much to move at a time: a twentieth of a second's worth."""
        return CHUNK if self.rate is None else max(1, min(CHUNK, int(self.rate / 20)))

    async def moved(self, count: int) -> None:
        """Wait until `count` more bytes may have passed."""
        if self.rate is not None:
            self._due += count / self.rate
            await asyncio.sleep(max(0.0, self._due - time.monotonic()))


class Intake:
    """The body of a request."""

    def __init__(self, request: web.BaseRequest, exchange: Exchange, wire: Wire, fault: Fault) -> None:
        self._request = request
        self._exchange = exchange
        self._wire = wire
        self._fault = fault

    @property
    def size(self) -> int | None:
        """Length of the body as announced, None when it was not."""
        return self._request.content_length

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read the body as it comes.

        Raises:
            RefusedEarlyError: a fault ended it.
        """
        if self._request.headers.get("Expect", "").lower() == "100-continue":
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        pacer = Pacer(self._fault.rate_in)
        while True:
            if 0 < self._fault.after_received <= self._exchange.received:
                raise RefusedEarlyError
            content = self._request.content
            chunk = await (content.readany() if pacer.rate is None else content.read(pacer.chunk))
            if not chunk:
                break
            self._exchange.received += len(chunk)
            self._wire.mark(self._exchange, Moment.FIRST_RECEIVED)
            yield chunk
            await pacer.moved(len(chunk))
        self._wire.mark(self._exchange, Moment.LAST_RECEIVED)

    async def read(self, limit: int) -> bytes | None:
        """Read the whole body, None when it is longer than `limit`."""
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                return None
        return bytes(body)


class Outlet:
    """Sends the answer of one exchange, as wrong as its fault wants."""

    def __init__(self, request: web.BaseRequest, exchange: Exchange, wire: Wire, fault: Fault) -> None:
        self._request = request
        self._exchange = exchange
        self._wire = wire
        self._fault = fault

    async def send(self, reply: Reply) -> web.StreamResponse:
        """Send `reply`; returns what aiohttp wants back from a handler."""
        self._exchange.status = reply.status
        fault, body = self._fault, self._distorted(reply.body)
        headers = {**reply.headers, "Content-Length": str(len(body))}
        if reply.status in (204, 304):
            del headers["Content-Length"]
        for name, value in fault.headers.items():
            headers = {key: kept for key, kept in headers.items() if key.lower() != name.lower()}
            if value is not None:
                headers[name] = value
        if fault.half_header:
            await self._request.writer.write(f"HTTP/1.1 {reply.status} OK\r\nContent-Le".encode())
            return await self.drop()
        response = web.StreamResponse(status=reply.status, headers=headers)
        await response.prepare(self._request)
        if self._request.method != "HEAD" and len(body):
            await self._send_body(response, memoryview(body))
            if fault.length is not None:
                return await self.drop(response)
        if self._fault.instead is None or not fault.after_received:
            await response.write_eof()
        return response

    async def drop(self, response: web.StreamResponse | None = None) -> web.StreamResponse:
        """Close the connection as it is."""
        if self._request.transport is not None:
            self._request.transport.close()
        return response or web.Response()

    def _distorted(self, true: Body) -> Body:
        body = true if self._fault.body is None else self._fault.body
        if not self._fault.flips or not len(body):
            return body
        flipped = bytearray(body)
        for offset in self._fault.flips:
            flipped[offset] ^= 0xFF
        return flipped

    async def _send_body(self, response: web.StreamResponse, body: memoryview) -> None:
        fault, pacer, position = self._fault, Pacer(self._fault.rate_out), 0
        end = len(body) if fault.length is None else min(fault.length, len(body))
        stall = fault.stalled_at
        while position < end:
            if stall is not None and position >= stall:
                stall = None
                await fault.wait()
            border = end if stall is None else min(stall, end)
            chunk = body[position : min(position + pacer.chunk, max(border, position + 1))]
            position += len(chunk)
            self._wire.mark(self._exchange, Moment.FIRST_SENT)
            if position == len(body):
                self._wire.mark(self._exchange, Moment.LAST_SENT)
            await response.write(chunk)
            self._exchange.sent += len(chunk)
            await pacer.moved(len(chunk))

"""One request and its answer over a connection of aiohttp: its connector, parser and flow control, without its session.

`aiohttp.ClientSession` prepares each request for cookies, redirects, authentication, middlewares and tracing, none of
which we use: that is a third of the CPU time of a small request (ADR 22 has the measurements).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from mirrord.wire.http.failures import failure
from mirrord.wire.http.lean import aiohttp
from mirrord.wire.http.message import KIB, WireRequest

if TYPE_CHECKING:
    from aiohttp.connector import Connection

_BUFFER: Final = 256 * KIB  # bytes of an answer that may lie unread; twice as many before the other side has to wait
_UNSENT: Final = 64 * KIB  # bytes of a body that may wait for the kernel before the next piece is asked for
_LINE: Final = 32 * KIB  # a presigned Location is longer than aiohttp's 8 KiB
_BODILESS: Final = frozenset({"GET", "HEAD"})  # methods whose requests need no `Content-Length: 0` (RFC 9110 8.6)
_SWITCHING: Final = 101


class Handler(aiohttp.client_proto.ResponseHandler):
    """Parses what comes over a connection, and closes it when something comes that no request asked for.

    aiohttp takes an answer that comes while the connection is in the pool for that to the next request, and keeps as
    many of them as a host sends.
    """

    pooled = False  # whether no request uses the connection
    broken: BaseException | None = None  # why the connection was lost, None while it is open and after a proper end

    def connection_lost(self, exc: BaseException | None) -> None:
        """Keep the reason: aiohttp takes a reset for the end of an answer without Content-Length."""
        self.broken = exc
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, or close."""
        if not self.pooled:
            super().data_received(data)
        elif self.transport is not None:
            self.transport.abort()


class Exchange:
    """Fulfils `WireResponse`.

    It must be closed with `aclose`. The connection goes back to the pool when the whole answer was read and the whole
    body was sent; otherwise it is closed.
    """

    def __init__(self, connection: Connection, request: WireRequest) -> None:
        """Use an open connection that is ours until `aclose`."""
        self._connection, self._request = connection, request
        assert isinstance(connection.protocol, Handler)
        self._protocol = connection.protocol
        self._protocol.pooled = False
        self._writing: asyncio.Task[None] | None = None

    async def start(self, target: str, headers: Mapping[str, str], silence: float) -> None:
        """Send the request and read the head of its answer.

        Args:
            target: as it stands in the request line (RFC 9112 section 3.2).
            headers: sent besides those of the request, and before them.
            silence: seconds between two pieces of the answer.

        Raises:
            aiohttp.ClientError: the connection ended, or nothing came for so long.
            aiohttp.http.HttpProcessingError: what came is not HTTP.
            ValueError: a header would become two.
        """
        request, protocol = self._request, self._protocol
        protocol.set_response_params(
            skip_payload=request.method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=silence,
            read_bufsize=_BUFFER,
            max_line_size=_LINE,
            max_field_size=_LINE,
        )
        await self._send(target, {**headers, **request.headers})
        while True:
            message, self._payload = await protocol.read()
            if not 100 <= message.code < 200 or message.code == _SWITCHING:
                break
        self.status, self.headers = message.code, _headers(message.raw_headers)
        self._message = message

    async def _send(self, target: str, headers: dict[str, str]) -> None:
        """Send the head, and a short body with it; a long one follows while the answer is awaited."""
        request, body = self._request, self._request.body
        writer = aiohttp.http.StreamWriter(self._protocol, asyncio.get_running_loop())
        if body is None or isinstance(body, bytes):
            if body or request.method not in _BODILESS:
                headers["Content-Length"] = str(len(body or b""))
        elif "Content-Length" not in headers:
            headers["Transfer-Encoding"] = "chunked"
            writer.enable_chunking()
        await writer.write_headers(f"{request.method} {target} HTTP/1.1", headers)  # type: ignore[arg-type]  # any mapping does
        if body is None or (isinstance(body, bytes) and len(body) <= _UNSENT):
            if body:
                await writer.write(body, drain=False)
            writer.set_eof()
            self._protocol.start_timeout()
        else:
            pieces = _pieces(body) if isinstance(body, bytes) else body
            self._writing = asyncio.create_task(self._write(writer, pieces))

    async def _write(self, writer: aiohttp.http.StreamWriter, pieces: AsyncIterable[bytes]) -> None:
        """Send a body piece by piece, no faster than the kernel takes it; an error here becomes that of the answer."""
        if writer.transport is not None:  # under TLS loops would let 512 KiB wait, which costs thrice as much memory
            writer.transport.set_write_buffer_limits(_UNSENT)
        try:
            async for piece in pieces:
                await writer.write(piece)
            await writer.write_eof()
        except Exception as error:  # noqa: BLE001 - the answer would be awaited for ever otherwise
            self._protocol.set_exception(aiohttp.ClientConnectionError("the body could not be sent"), error)
        else:
            self._protocol.start_timeout()

    @property
    def challenges(self) -> tuple[str, ...]:
        """Return each `WWW-Authenticate` header on its own."""
        return tuple(self._message.headers.getall("WWW-Authenticate", ()))

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what has come, as it comes."""
        try:
            while chunk := await self._payload.readany():
                yield chunk
            if self._protocol.broken is not None and not {"content-length", "transfer-encoding"} & self.headers.keys():
                raise aiohttp.ClientConnectionError("the connection was reset before its end")
        except (aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError) as error:
            raise failure(error, self._request) from error

    async def aclose(self) -> None:
        """Give the connection back, or close it when something of the body or of the answer is left."""
        sent = self._writing is None or (self._writing.done() and getattr(self._request.body, "finished", True))
        if sent and not self._protocol.should_close:
            self._protocol.pooled = True
            self._connection.release()
        else:  # answered in the middle of an upload: what follows on this connection would still be body
            self.abort()

    def abort(self) -> None:
        """Close the connection at once: a host that reads nothing would keep it open for what is not sent yet."""
        if self._writing is not None:
            self._writing.cancel()
        self._protocol.abort()
        self._connection.close()


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    view = memoryview(body)
    for at in range(0, len(view), _UNSENT):
        yield bytes(view[at : at + _UNSENT])


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Decode: ASCII says the standard, UTF-8 is what servers send, and Latin-1 reads everything."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key = name.decode("latin-1").lower()
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers

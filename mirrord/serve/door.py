"""The listening side of HTTP: limits for clients before their request is complete.

aiohttp waits forever for the first request of a connection, and answers 400 to oversized heads. Here a
connection without a complete head in ten seconds is closed (bad input 31), and oversized heads get 414 or
431 (32). The parser rejects ambiguous framing itself (30).
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from mirrord.errors import BusyError, UnreachableError, UsageError
from mirrord.files import nothing
from mirrord.wire.number import whole

_T = TypeVar("_T")

HEAD_SECONDS = 10.0
GRACE = 5.0
BACKLOG = 1024
"""Connections that may wait for the event loop; the kernel drops and finally resets further ones."""
_LINE = 8190
_FIELD = 8192  # differs from the other limit on purpose: the parser's error names only the limit
_LINGER = 2.0
_LIMITS: dict[str, Any] = {
    "max_line_size": _LINE,
    "max_field_size": _FIELD,
    "max_headers": 100,
    "keepalive_timeout": 60.0,
    "lingering_time": 2.0,
    "auto_decompress": False,  # a small body must not become a large one here
    "access_log": None,
}


SERVER: Final = "mirrord"
"""The Server field, without versions of libraries, which would only help attackers."""
ALWAYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    }
)
"""Header fields of every answer, also of errors, unless it has its own: nothing that strangers wrote runs as a page."""


async def signed(_: web.Request, response: web.StreamResponse) -> None:
    """Set the fields that every answer of an application has."""
    response.headers["Server"] = SERVER
    for name, value in ALWAYS.items():
        response.headers.setdefault(name, value)


class _LastWord(web.Response):
    """An answer that ends the connection, without a reset that would destroy it in transit (RFC 9112 §9.6)."""

    def __init__(self, connection: _Connection, status: int, text: str) -> None:
        super().__init__(status=status, text=text, headers={"Server": SERVER, **ALWAYS})
        self._connection = connection
        self.force_close()

    async def write_eof(self, data: bytes = b"") -> None:
        """Send, then discard what the client still sends, for a moment."""
        await super().write_eof(data)
        await self._connection.linger()


class _Connection(RequestHandler):
    """One connection, with a timer that runs while a request head is incomplete."""

    __slots__ = ("_deaf", "_head_seconds", "_head_timer", "gone", "leaving")

    def __init__(self, *args: Any, head_seconds: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deaf = False
        self.gone = asyncio.Event()
        self.leaving: Callable[[], None] = nothing  # is called when the client leaves
        self._head_seconds = head_seconds
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._disarm()
        self.gone.set()
        self.leaving()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        before = self._request_count
        super().data_received(data)
        if self._request_count > before:
            self._disarm()
        elif self._head_timer is None and self._waiter is not None:
            self._arm()  # the next head begins on an idle connection

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if isinstance(exc, ConnectionError) and (self.transport is None or self.transport.is_closing()):
            raise exc  # the client has left, which is no error; aiohttp ends the connection
        if isinstance(exc, LineTooLong) and exc.args[1] == _LINE:
            status, message = 414, "request target is too long"
        elif isinstance(exc, LineTooLong) or (exc is not None and "Too many headers" in str(exc)):
            status, message = 431, "headers are too long or too many"
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        self._deaf = True  # the client's fault: answer it, do not log it, and ignore the rest
        return _LastWord(self, status, f"{message or 'bad request'}\n"[:500])

    async def linger(self) -> None:
        """Close the sending side, and wait until the client closes, too."""
        with suppress(TimeoutError, OSError, RuntimeError):
            if self.transport is not None and self.transport.can_write_eof():
                self.transport.write_eof()
            async with asyncio.timeout(_LINGER):
                await self.gone.wait()

    def _arm(self) -> None:
        self._head_timer = asyncio.get_running_loop().call_later(self._head_seconds, self.force_close)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class Listener:
    """An application on one socket."""

    def __init__(self, app: web.Application, *, head_seconds: float = HEAD_SECONDS, grace: float = GRACE) -> None:
        """Prepare; running answers have `grace` seconds to end when it closes."""
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=grace, **_LIMITS)
        self._head_seconds = head_seconds
        self._server: asyncio.Server | None = None

    async def listen(self, connection: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Answer on a bound socket, of whatever family; with `tls` clients have to speak TLS."""
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        loop = asyncio.get_running_loop()

        def connect() -> _Connection:
            return _Connection(server, loop=loop, head_seconds=self._head_seconds, **_LIMITS)

        start = loop.create_unix_server if connection.family == socket.AF_UNIX else loop.create_server
        limits: dict[str, Any] = (
            {"ssl_handshake_timeout": self._head_seconds, "ssl_shutdown_timeout": _LINGER} if tls else {}
        )
        # With the backlog: it calls listen again, with a default of 100.
        self._server = await start(connect, sock=connection, backlog=BACKLOG, ssl=tls, **limits)

    async def close(self) -> None:
        """Stop accepting, let running answers end for a few seconds, and close."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()


async def departure(request: web.BaseRequest) -> None:
    """Wait until the client of `request` has disconnected, on a connection of a `Listener`."""
    assert isinstance(request.protocol, _Connection)
    await request.protocol.gone.wait()


async def while_there(request: web.BaseRequest, work: Awaitable[_T]) -> _T:
    """Return the result of `work`, which is cancelled when the client of `request` disconnects from its `Listener`.

    Raises:
        ConnectionResetError: it has.
    """
    connection, clock = request.protocol, asyncio.get_running_loop().time
    assert isinstance(connection, _Connection)
    try:
        async with asyncio.timeout(None) as limit:
            connection.leaving = lambda: limit.reschedule(clock())
            if connection.gone.is_set():
                connection.leaving()
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
        raise ConnectionResetError("the client disconnected") from None
    finally:
        connection.leaving = nothing


def address_of(connection: socket.socket) -> str:
    """Return `host:port` of a bound socket, as in a URL."""
    host, port = connection.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(listen: str) -> socket.socket:
    """Bind `host:port` (`[::1]:8080`, `:8080` for all addresses), to find a port in use before anything starts.

    Raises:
        UsageError: it cannot be parsed.
        BusyError: the port is in use.
        UnreachableError: the address is not of this machine, or may not be used.
    """
    host, _, port = listen.rpartition(":")
    number = whole(port, 5)
    if ":" not in listen or number is None or number > 65535:
        raise UsageError(f"listen: {listen!r} is not host:port; write something like 127.0.0.1:8080")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connection.bind(address)
            connection.listen(BACKLOG)
        except BaseException:
            connection.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BusyError(f"listen: {listen} is in use by another program; choose another address") from error
        raise UnreachableError(f"listen: cannot listen on {listen}: {error.strerror}") from error
    return connection

"""What every double that listens has in common: a port of 127.0.0.1, a log of requests, faults on order."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Protocol, Self

from aiohttp import web

from mirrord.testing.exchange import Exchange, Moment, Wire
from mirrord.testing.faults import Fault, Faults
from mirrord.testing.intake import NO_FAULT, Intake, Outlet, RefusedEarlyError
from mirrord.testing.reply import Reply

READ_AHEAD = 512 * 1024
LONGEST_HEADER = 64 * 1024  # a password of 8 kB is 11 kB in base64; registries written in Go take 1 MiB


async def listen(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    buffer: int | None = None,
) -> tuple[web.ServerRunner, int]:
    """Serve `handler` on 127.0.0.1; returns what to `cleanup()` and the port.

    Args:
        handler: gets every request.
        port: 0 for a free one.
        tls: speak TLS with this.
        buffer: size of the kernel's buffers in bytes, so that back-pressure is felt early; None leaves them alone.
    """
    server = socket.socket()
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if buffer is not None:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        server.bind(("127.0.0.1", port))
        runner = web.ServerRunner(
            web.Server(
                handler,
                handler_cancellation=True,
                read_bufsize=buffer or READ_AHEAD,
                max_field_size=LONGEST_HEADER,
                auto_decompress=False,
                access_log=None,
            ),
            handle_signals=False,
            shutdown_timeout=0.01,  # 0 would wait for ever
        )
        await runner.setup()
        await web.SockSite(runner, server, ssl_context=tls).start()
    except BaseException:
        server.close()
        raise
    return runner, int(server.getsockname()[1])


class Guard(Protocol):
    """Says who may do what."""

    def check(self, authorization: str, needs: tuple[str, ...], base: str) -> Reply | None:
        """Return None when a request may pass, else the 401; `base` is the URL of the server."""

    def token(self, method: str, query: str, authorization: str, body: bytes) -> Reply:
        """Answer a request to the token endpoint."""


class Server:
    """A double that listens; an async context manager. Each kind says how it replies.

    Attributes:
        name: how it is called on a shared `Wire`; its `host` when none was given.
        faults: what goes wrong, on order.
        wire: where all requests are logged.
        host: `127.0.0.1:PORT`, once started.
    """

    def __init__(
        self,
        *,
        name: str = "",
        faults: Faults | None = None,
        wire: Wire | None = None,
        tls: ssl.SSLContext | None = None,
        buffer: int | None = None,
    ) -> None:
        self.name, self.faults, self.wire, self.host = name, faults or Faults(), wire or Wire(), ""
        self._tls, self._buffer = tls, buffer
        self._runner: web.ServerRunner | None = None

    @property
    def base(self) -> str:
        """URL of the host."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    @property
    def log(self) -> list[Exchange]:
        """All requests that came here, in order."""
        return [exchange for exchange in self.wire.exchanges if exchange.server == self.name]

    def select(self, method: str, pattern: str) -> list[Exchange]:
        """Return the requests that match: `method` as `GET`, `PUT|PATCH` or `*`, `pattern` searched in path?query."""
        return [exchange for exchange in self.log if exchange.matches(method, pattern)]

    def count(self, method: str, pattern: str = "") -> int:
        """Count the requests that match."""
        return len(self.select(method, pattern))

    def sent(self, pattern: str = "") -> int:
        """Count the body bytes sent in answer to requests that match."""
        return sum(exchange.sent for exchange in self.select("*", pattern))

    def received(self, pattern: str = "") -> int:
        """Count the body bytes that came with requests that match."""
        return sum(exchange.received for exchange in self.select("*", pattern))

    def forget(self) -> None:
        """Empty the log (all of it, also when the `Wire` is shared), to count anew."""
        self.wire.exchanges.clear()

    async def wait(self, moment: Moment, method: str, pattern: str) -> Exchange:
        """Return the first matching request that reaches `moment`; waits for it."""
        return await self.wire.wait(moment, method, pattern, self.name)

    async def start(self) -> None:
        """Listen; after `stop` on the same port again."""
        port = int(self.host.rpartition(":")[2] or 0)
        self._runner, port = await listen(self._handle, port, self._tls, self._buffer)
        self.host = f"127.0.0.1:{port}"
        self.name = self.name or self.host

    async def stop(self) -> None:
        """Break all connections and refuse new ones; content and log stay."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.path_qs.partition("?")
        headers = {name.lower(): value for name, value in request.headers.items()}
        exchange = self.wire.begin(self.name, request.method, path, query, headers)
        fault = self.faults.take(request.method, exchange.target) or NO_FAULT
        outlet = Outlet(request, exchange, self.wire, fault)
        try:
            for action in fault.before:
                action()
            if fault.held:
                await fault.wait()
            if fault.dropped:
                return await outlet.drop()
            response = await self._respond(request, exchange, outlet, fault)
            for action in fault.afterwards:
                action()
            return response
        finally:
            self.wire.mark(exchange, Moment.ENDED)

    async def _respond(
        self, request: web.BaseRequest, exchange: Exchange, outlet: Outlet, fault: Fault
    ) -> web.StreamResponse:
        if fault.instead is not None and not fault.after_received:
            return await outlet.send(Reply(*fault.instead))
        try:
            reply = await self._reply(exchange, Intake(request, exchange, self.wire, fault))
        except RefusedEarlyError:
            assert fault.instead is not None
            reply = Reply(*fault.instead)
        return await outlet.send(reply)

    async def _reply(self, exchange: Exchange, intake: Intake) -> Reply:
        raise LookupError(f"{exchange.target}, {intake.size} bytes: each kind of server says its own")

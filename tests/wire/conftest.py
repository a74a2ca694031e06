"""Small servers on loopback, and an `Http` that waits for nothing."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from mirrord.events import Event, Events
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import Limits

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """Where it listens, and every request it got."""

    host: str = ""
    requests: list[web.Request] = field(default_factory=list)
    connections: int = 0
    over: bool = False

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def seen(self, header: str) -> list[str | None]:
        return [request.headers.get(header) for request in self.requests]


Serve = Callable[[Handler], Awaitable[Server]]
Raw = Callable[..., Awaitable[Server]]


@asynccontextmanager
async def _serving(handler: Handler) -> AsyncIterator[Server]:
    server = Server()

    async def handle(request: web.Request) -> web.StreamResponse:
        server.requests.append(request)
        return await handler(request)

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.host = "{}:{}".format(*runner.addresses[0])
    try:
        yield server
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _talking(talk: Talk, context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server()

    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # hung up on, or the test is over
        finally:
            writer.transport.abort() if server.over else writer.close()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(accept(reader, writer)))

    listener = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=context)
    server.host = "{}:{}".format(*listener.sockets[0].getsockname())
    try:
        yield server
    finally:
        listener.close()
        server.over = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


@pytest.fixture
async def _stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def serve(_stack: AsyncExitStack) -> Serve:
    """Start an HTTP server whose every request goes to one handler."""
    return lambda handler: _stack.enter_async_context(_serving(handler))


@pytest.fixture
def raw(_stack: AsyncExitStack) -> Raw:
    """Start a TCP server that says whatever it likes."""
    return lambda talk, context=None: _stack.enter_async_context(_talking(talk, context))


@pytest.fixture
def told() -> list[Event]:
    """All events of the test's `Http`."""
    return []


Client = Callable[..., Http]


@pytest.fixture
async def client(_stack: AsyncExitStack, told: list[Event]) -> Client:
    """Make an `Http` whose backoff takes no time; closed before the servers are."""
    events = Events()
    events.listen(told.append)

    def make(book: HostBook | None = None, limits: Limits | None = None, **more: object) -> Http:
        http = Http(book or HostBook(), events, limits or Limits(), jitter=lambda: 0.0, **more)  # type: ignore[arg-type]  # tests pass doubles
        _stack.push_async_callback(http.aclose)
        return http

    return make


@pytest.fixture
def http(client: Client) -> Http:
    """An `Http` with all defaults."""
    return client()

"""An OCI registry in this process, on 127.0.0.1 and a free port: scriptable, and it remembers every request.

    async with Registry(auth=Auth(bearer=("ann", "secret"))) as registry:
        await push(build_image(), registry, "team/app", ["main"])
        ...
        assert registry.count("GET", "/blobs/") == 5

Everything is kept in memory; `stop` and `start` play a registry that dies and comes back.
"""

from __future__ import annotations

import contextlib
import ssl
from types import TracebackType
from typing import Self
from urllib.parse import unquote

from aiohttp import web

from mirrord.testing.auth import Auth
from mirrord.testing.content import Content
from mirrord.testing.distribution import Ask, Distribution, Immutable
from mirrord.testing.exchange import Exchange, Moment, Wire
from mirrord.testing.faults import Fault, Faults
from mirrord.testing.intake import NO_FAULT, Intake, Outlet, RefusedEarlyError
from mirrord.testing.listening import listen
from mirrord.testing.reply import Reply
from mirrord.testing.uploads import Uploads

_ACTIONS = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}


class Registry:
    """A registry double; an async context manager.

    Attributes:
        name: how it is called on a shared `Wire`; its `host` when none was given.
        content: what it holds; may be shared with another registry.
        auth: who may do what; None lets everybody in.
        faults: what goes wrong, on order.
        wire: where all requests are logged.
        protocol: the answers and their quirks, may be changed at any time.
        host: `127.0.0.1:PORT`, once started.
    """

    def __init__(
        self,
        *,
        name: str = "",
        content: Content | None = None,
        auth: Auth | None = None,
        tls: ssl.SSLContext | None = None,
        faults: Faults | None = None,
        wire: Wire | None = None,
        absolute_locations: bool = False,
        mount: bool = True,
        strict: bool = True,
        digest_header: bool = True,
        ranges: bool = True,
        page_size: int | None = None,
        redirect_blobs_to: str | None = None,
        immutable_tags: Immutable | None = None,
        socket_buffer: int | None = None,
    ) -> None:
        self.name = name
        self.content = content or Content()
        self.auth = auth
        self.faults = faults or Faults()
        self.wire = wire or Wire()
        self.host = ""
        self.protocol = Distribution(
            self.content,
            Uploads(self.content, mount=mount),
            strict=strict,
            digest_header=digest_header,
            ranges=ranges,
            page_size=page_size,
            redirect_blobs_to=redirect_blobs_to,
            immutable=immutable_tags,
        )
        self._absolute = absolute_locations
        self._tls = tls
        self._buffer = socket_buffer
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        """Base URL without a trailing slash."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    @property
    def blobs(self) -> dict[str, bytes | bytearray]:
        """All blobs by digest."""
        return self.content.blobs

    @property
    def manifests(self) -> dict[str, dict[str, tuple[str, bytes]]]:
        """Media type and bytes of all manifests by repository and digest."""
        return self.content.manifests

    @property
    def tags(self) -> dict[str, dict[str, str]]:
        """Digests by repository and tag."""
        return self.content.tags

    @property
    def log(self) -> list[Exchange]:
        """All requests that came to this registry, in order."""
        return [exchange for exchange in self.wire.exchanges if exchange.server == self.name]

    def select(self, method: str, pattern: str) -> list[Exchange]:
        """Return the requests that match: `method` as `GET`, `PUT|PATCH` or `*`, `pattern` searched in path?query."""
        return [exchange for exchange in self.log if exchange.matches(method, pattern)]

    def count(self, method: str, pattern: str) -> int:
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
        self.protocol.uploads.prefix = self.url if self._absolute else ""

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
            response = await outlet.send(await self._reply(request, exchange, fault))
            for action in fault.afterwards:
                action()
            return response
        finally:
            self.wire.mark(exchange, Moment.ENDED)

    async def _reply(self, request: web.BaseRequest, exchange: Exchange, fault: Fault) -> Reply:
        if fault.instead is not None and not fault.after_received:
            return Reply(*fault.instead)
        intake = Intake(request, exchange, self.wire, fault)
        ask = Ask(request.method, unquote(exchange.path), dict(request.query), exchange.headers)
        try:
            return await self._authorized(ask, exchange, intake)
        except RefusedEarlyError:
            assert fault.instead is not None
            return Reply(*fault.instead)

    async def _authorized(self, ask: Ask, exchange: Exchange, intake: Intake) -> Reply:
        if self.auth is not None and not ask.path.startswith("/storage/"):
            authorization = ask.headers.get("authorization", "")
            if ask.path == "/token":
                form = await intake.read(64 * 1024) or b""
                return self.auth.token(ask.method, exchange.query, authorization, form)
            denied = self.auth.check(authorization, _needs(ask), self.url)
            if denied is not None:
                return denied
        return await self.protocol.answer(ask, intake)


def _needs(ask: Ask) -> tuple[str, ...]:
    """Return the scopes a request needs, as docker's registry asks for them."""
    with contextlib.suppress(ValueError):
        parts = ask.path.removeprefix("/v2/").split("/")
        border = max(parts.index(word) for word in ("manifests", "blobs", "tags", "referrers") if word in parts)
        scopes = [f"repository:{'/'.join(parts[:border])}:{_ACTIONS.get(ask.method, 'pull,push')}"]
        if "from" in ask.query:
            scopes.append(f"repository:{ask.query['from']}:pull")
        return tuple(scopes)
    return ()

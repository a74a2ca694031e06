"""A proxy before the object store of the tests: it counts requests, and fails those that a test names."""

from __future__ import annotations

import io
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from mirrord.testing.exchange import Exchange
from mirrord.testing.intake import Intake
from mirrord.testing.reply import Reply
from mirrord.testing.server import Server
from tests.support.gateway import gateway

_OURS = ("content-length", "transfer-encoding", "connection", "date", "server")
_MOST = 64 << 20  # bytes of a request


class BucketProxy(Server):
    """Passes requests on as they are: their signatures cover the host that was asked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        """Start."""
        self._session = aiohttp.ClientSession(auto_decompress=False)
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await super().__aexit__(kind, error, trace)
        await self._session.close()

    async def _reply(self, exchange: Exchange, intake: Intake) -> Reply:
        url = URL(f"{gateway().endpoint}{exchange.target}", encoded=True)
        headers = {name: value for name, value in exchange.headers.items() if name not in ("connection", "expect")}
        body = io.BytesIO(await intake.read(_MOST) or b"")
        async with self._session.request(exchange.method, url, headers=headers, data=body) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OURS}
            content = await answer.read()
            if exchange.method == "HEAD":  # only its length is sent
                content = bytes(int(answer.headers.get("Content-Length", 0)))
            return Reply(answer.status, kept, content)

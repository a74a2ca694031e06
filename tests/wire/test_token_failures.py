"""Token servers that give none: whoever waits for the same token shares the answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from mirrord.errors import ContentError, ServerError
from mirrord.wire.http.message import HttpRequest


@pytest.mark.parametrize(("status", "error"), [(200, ContentError), (500, ServerError)])
async def test_a_token_that_is_not_to_be_had(serve: Any, client: Any, status: int, error: Any) -> None:
    """Of eight calls that need one token one asks for it, and all fail as it does; the next ones ask again."""

    async def handle(request: Any) -> Any:
        if request.path == "/token":
            return web.Response(status=status, text="<html>", content_type="text/html")
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="http://{request.host}/token"'})

    server = await serve(handle)
    http, call = client(), HttpRequest("GET", f"{server.url}/v2/", server.host, scope="repository:a/b:pull", attempts=1)
    for asked, calls in enumerate((1, 8, 8), start=1):  # after the first one the realm is known
        answers = await asyncio.gather(*(http.fetch(call) for _ in range(calls)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {error}
        assert [request.path for request in server.requests].count("/token") == asked

"""Git hosts with an API: it makes real repositories and sets their real HEAD, and takes its token in a header only.

    async with ForgeHost(folder, "gitea") as host:
        address = Address.parse(host.url("robot/app.git"))  # Coding: TEAM/PROJECT/NAME
        await forge_of(address, host.forge).create(http, address, "private", "")
        assert host.api.asked[-1].body["private"] is True

Leaving the context fails when the token was seen in a URL.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import unquote

from aiohttp import web

from mirrord.testing.exchange import Exchange, Wire
from mirrord.testing.githost import GitHost, Kind
from mirrord.testing.intake import NO_FAULT, Intake, Outlet
from mirrord.testing.reply import Reply
from tests.support.forgeanswers import Api, Asked
from tests.support.forgewords import Forge, denied

TOKEN: Final = "tok-9f2d61c07ab84e35"
_CNB: Final = "application/vnd.cnb.api+json"
_LARGEST: Final = 1 << 20
_PREFIX: Final = {
    "github": "/api/v3",
    "gitee": "/api/v5",
    "gitea": "/api/v1",
    "gitlab": "/api/v4",
    "coding": "/open-api",
    "cnb": "",
}
_SCHEMES: Final = {
    "github": ("Bearer", "token"),
    "gitee": ("Bearer", "token"),
    "gitea": ("token", "Bearer"),
    "gitlab": ("Bearer",),
    "coding": ("token",),
    "cnb": ("Bearer",),
}


class ForgeHost(GitHost):
    """As `GitHost`, with the API of one kind of host.

    Attributes:
        forge: whose API.
        api: what it was asked, and what it knows.
        lag: how many requests by Git find nothing after its API made a repository.
        leaks: URLs in which the token was seen.
    """

    def __init__(
        self, folder: Path, forge: Forge, *, user: tuple[str, str] = ("robot", TOKEN), wire: Wire | None = None
    ) -> None:
        kind: Kind = forge if forge in ("github", "gitee", "coding") else "plain"
        super().__init__(folder, user=user, kind=kind, wire=wire)
        self.forge, self.api = forge, Api(self, forge, user[0])
        self.lag = 0
        self.leaks: list[str] = []
        self._token = user[1]

    def create(self, name: str, head: str = "main", **config: str) -> Path:
        """Make an empty repository, which the API knows then."""
        self.api.add(name)
        return super().create(name, head, **config)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, with every process.

        Raises:
            AssertionError: the token was seen in a URL.
        """
        await super().__aexit__(kind, error, trace)
        assert error is not None or not self.leaks, f"a token was seen in the URL of {len(self.leaks)} requests"

    def _refusal(self, exchange: Exchange, path: str) -> Reply | None:
        if self._token in unquote(exchange.target):
            self.leaks.append(exchange.target)
        if self._is_api(exchange):
            given = exchange.headers.get("authorization", "")
            known = [f"{scheme} {self._token}" for scheme in _SCHEMES[self.forge]]
            return None if given in known else denied(self.forge)
        refusal = super()._refusal(exchange, path)
        if refusal is None and self.lag:
            self.lag -= 1
            return Reply(404)
        return refusal

    async def _backend(
        self, request: web.BaseRequest, exchange: Exchange, intake: Intake, outlet: Outlet | None
    ) -> web.StreamResponse:
        if not self._is_api(exchange):
            return await super()._backend(request, exchange, intake, outlet)
        sent = await intake.read(_LARGEST) or b"{}"
        asked = Asked(exchange.method, exchange.path.removeprefix(_PREFIX[self.forge]), json.loads(sent))
        way = outlet or Outlet(request, exchange, self.wire, NO_FAULT)
        return await way.send(self.api.answer(asked))

    def _is_api(self, exchange: Exchange) -> bool:
        if self.forge == "cnb":  # another host in life; here the media type tells
            return exchange.headers.get("accept") == _CNB
        return f"{exchange.path}/".startswith(f"{_PREFIX[self.forge]}/")

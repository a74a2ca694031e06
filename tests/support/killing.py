"""Kills a process with SIGKILL at an event that is counted from outside: a request that it sends, a file it removes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

_HOP: Final = {"connection", "keep-alive", "transfer-encoding", "content-length"}
_HOOK: Final = """
import os, signal, sys

_at, _log = int(os.environ.get("KILL_AT", "0")), os.open(os.environ["KILL_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _look(event, arguments):
    if event in ("os.remove", "os.rename") and {parts!r} & set(os.fsdecode(arguments[0]).split("/")):
        os.write(_log, b".")
        if os.fstat(_log).st_size == _at:
            os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(_look)
"""


@dataclass(slots=True, eq=False)
class Gate:
    """A proxy before a registry that counts requests of some methods, and calls `act` at one of them.

    Attributes:
        behind: base URL of the registry.
        methods: of the requests that count.
        host: `host:port` of the proxy.
        seen: how many have come.
        at: the number of the request at which to act, 0 for none.
        done: whether that request reaches the registry before `act`; its answer never reaches the client.
        act: what happens then.
    """

    behind: str
    methods: frozenset[str]
    host: str = ""
    seen: int = 0
    at: int = 0
    done: bool = False
    act: Callable[[], None] = lambda: None
    _client: aiohttp.ClientSession = field(init=False)

    def arm(self, at: int, *, done: bool) -> None:
        """Count from 0, and act at that request."""
        self.seen, self.at, self.done = 0, at, done

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        now = False
        if request.method in self.methods:
            self.seen += 1
            now = self.seen == self.at
        body = await request.read()
        if now and not self.done:
            self.act()
            raise ConnectionResetError
        headers = {name: text for name, text in request.headers.items() if name.lower() not in _HOP}
        url = f"{self.behind}{request.raw_path}"
        async with self._client.request(
            request.method, url, data=body or None, headers=headers, allow_redirects=False
        ) as answer:
            content = await answer.read()
            if now:
                self.act()
                raise ConnectionResetError
            kept = {name: text for name, text in answer.headers.items() if name.lower() not in _HOP}
            if request.method == "HEAD":
                kept["Content-Length"] = answer.headers.get("Content-Length", "0")
            return web.Response(status=answer.status, headers=kept, body=content)


@contextlib.asynccontextmanager
async def gated(behind: str, *methods: str) -> AsyncIterator[Gate]:
    """Listen on a free port before `behind`."""
    gate = Gate(behind, frozenset(methods))
    async with aiohttp.ClientSession(auto_decompress=False) as gate._client:
        server = await asyncio.get_running_loop().create_server(web.Server(gate._handle), "127.0.0.1", 0)
        gate.host = "{}:{}".format(*server.sockets[0].getsockname())
        try:
            yield gate
        finally:
            server.close()


@dataclass(frozen=True, slots=True)
class FileEvents:
    """Lets a child count the files below folders of some names that it removes or replaces, and end at one of them.

    It sends SIGKILL to itself just before that removal.
    """

    folder: Path
    parts: frozenset[str]

    def environ(self, at: int = 0) -> dict[str, str]:
        """Return what the environment of the child needs; with 0 it only counts."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "sitecustomize.py").write_text(_HOOK.format(parts=set(self.parts)))
        self._log.unlink(missing_ok=True)
        return {"PYTHONPATH": str(self.folder), "KILL_AT": str(at), "KILL_LOG": str(self._log)}

    @property
    def seen(self) -> int:
        """How many the last child came to."""
        return self._log.stat().st_size

    @property
    def _log(self) -> Path:
        return self.folder / "log"

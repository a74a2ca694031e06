"""Health, status and metrics over HTTP. Probes decide by status code; `?verbose` is for people."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from aiohttp import web

from mirrord.report import health
from mirrord.report.health import Pulse, Verdict
from mirrord.report.metrics import CONTENT_TYPE
from mirrord.serve.page import POLICY, page
from mirrord.serve.view import View

_PROBES: dict[str, Callable[[Pulse], Verdict]] = {
    "/livez": health.live,
    "/readyz": health.ready,
    "/startupz": health.started,
    "/healthz": health.ready,  # what Kubernetes called it before 1.16; container health checks still do
}


class StatusPages:
    """The handlers for what a `View` shows."""

    def __init__(self, view: View) -> None:
        self._view = view

    def routes(self) -> list[web.RouteDef]:
        """Return the routes; `web.get` answers HEAD too."""
        probes = [web.get(path, self._probe(judge)) for path, judge in _PROBES.items()]
        return [*probes, web.get("/", self._page), web.get("/status", self._status), web.get("/metrics", self._metrics)]

    def _probe(self, judge: Callable[[Pulse], Verdict]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def probe(request: web.Request) -> web.StreamResponse:
            verdict = judge(self._view.pulse()).without(request.query.getall("exclude", []))
            text = verdict.verbose() if "verbose" in request.query else f"{verdict.reason}\n"
            return web.Response(status=200 if verdict.good else 503, text=text, headers={"Cache-Control": "no-store"})

        return probe

    async def _status(self, _: web.Request) -> web.Response:
        text = json.dumps(await self._view.status(), indent=2) + "\n"
        return web.Response(text=text, content_type="application/json", headers={"Cache-Control": "no-store"})

    async def _page(self, _: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
        return web.Response(text=page(await self._view.status()), content_type="text/html", headers=headers)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._view.metrics(), headers={"Content-Type": CONTENT_TYPE})

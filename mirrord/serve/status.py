"""Health, status and metrics over HTTP. Probes decide by status code; `?verbose` is for people.

With a thousand mirrors a page costs tens of milliseconds; so each is made at most once a second, however many ask.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiohttp import web

from mirrord.report import health
from mirrord.report.health import Health, Verdict
from mirrord.report.metrics import CONTENT_TYPE
from mirrord.report.status import Status, mirror_document, status_document
from mirrord.serve.page import POLICY, page
from mirrord.serve.rendered import Rendered
from mirrord.serve.view import View

_PROBES: dict[str, Callable[[Health], Verdict]] = {
    "/livez": health.live,
    "/readyz": health.ready,
    "/startupz": health.started,
    "/healthz": health.ready,  # what Kubernetes called it before 1.16; container health checks still do
}


class StatusPages:
    """The handlers for what a `View` shows."""

    def __init__(self, view: View) -> None:
        self._view = view
        html = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": POLICY}
        self._pages = {
            "/": Rendered(self._page, view.edition, {**html, "X-Content-Type-Options": "nosniff"}),
            "/status": Rendered(self._status, view.edition, {"Content-Type": "application/json; charset=utf-8"}),
            "/metrics": Rendered(view.metrics, view.edition, {"Content-Type": CONTENT_TYPE}),
        }

    def routes(self) -> list[web.RouteDef]:
        """Return the routes; `web.get` answers HEAD too."""
        probes = [web.get(path, self._probe(check)) for path, check in _PROBES.items()]
        return [*probes, *(web.get(path, rendered.answer) for path, rendered in self._pages.items())]

    async def close(self, _: web.Application) -> None:
        """Leave nothing running."""
        for rendered in self._pages.values():
            await rendered.close()

    def _probe(self, check: Callable[[Health], Verdict]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def probe(request: web.Request) -> web.StreamResponse:
            verdict = check(self._view.health()).without(request.query.getall("exclude", []))
            text = verdict.verbose() if "verbose" in request.query else f"{verdict.reason}\n"
            return web.Response(status=200 if verdict.good else 503, text=text, headers={"Cache-Control": "no-store"})

        return probe

    async def _status(self) -> bytes:
        return await asyncio.to_thread(_json, await self._view.status())

    async def _page(self) -> bytes:
        return (await asyncio.to_thread(page, await self._view.status())).encode()


def _json(status: Status) -> bytes:
    """Write a status, each mirror on a line of its own: `indent` is pure Python, and takes ten times as long."""
    head = json.dumps(status_document(replace(status, mirrors=()))).removesuffix("[]}")
    lines = ",\n".join(json.dumps(mirror_document(mirror)) for mirror in status.mirrors)
    return f"{head}[\n{lines}\n]}}\n".encode()

"""Health, status and metrics over HTTP. Probes decide by status code; `?verbose` adds text.

Each page is rendered in a thread, at most once a second for all clients. The part of an unchanged mirror is reused.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from aiohttp import web

from mirrord.model.catalog import CatalogEntry
from mirrord.pointing.client.mirror import ClientMirror
from mirrord.report import health
from mirrord.report.health import Health, Verdict
from mirrord.report.mirror import MirrorDetail, Wish
from mirrord.report.registry import CONTENT_TYPE
from mirrord.report.rows import ListPart, RowsAsked
from mirrord.report.status import MirrorStatus, Status, mirror_document, status_document
from mirrord.serve.incoming import TrustedProxies
from mirrord.serve.pagegroup import Handler, PageGroup
from mirrord.serve.rendered import Fragments, Rendered
from mirrord.syncer.serving import Serves
from mirrord.syncer.values import Services

_JSON = "application/json; charset=utf-8"
_PROBES: dict[str, Callable[[Health], Verdict]] = {
    "/livez": health.live,
    "/readyz": health.ready,
    "/startupz": health.started,
    "/healthz": health.ready,  # the name in Kubernetes before 1.16 and in container health checks
}


class View(Protocol):
    """The data of the pages."""

    def health(self) -> Health:
        """Return the health of the process."""

    async def status(self) -> Status:
        """Return the state of the mirrors; never fails, not even without a record."""

    async def catalog(self) -> Sequence[CatalogEntry]:
        """Return what is mirrored where; MirrordError: the record cannot be read."""

    def sync_log(self, mirrors: Sequence[str]) -> AsyncGenerator[bytes, None]:
        """Return the log of what is where, of these mirrors or of all.

        UsageError: there is no such mirror; StorageError: the record cannot be read.
        """

    async def detail(self, name: str, wish: Wish) -> MirrorDetail | None:
        """Return what is known of one mirror, None where none is called so; never fails."""

    async def rows(self, asked: RowsAsked) -> ListPart:
        """Return a part of what the record has of a mirror.

        Raises:
            UsageError: no mirror is called so any more.
            StorageError: the record cannot be read.
        """

    async def metrics(self) -> bytes:
        """Return all series as text."""

    def edition(self) -> int:
        """Return a number that grows when a run begins or ends, and at a reload: later requests show that."""

    async def pointed(self) -> ClientMirror | None:
        """Return what clients of the front are pointed at; None where it serves nothing."""

    def services(self) -> Services:
        """Return the current services."""

    def proxies(self) -> TrustedProxies:
        """Return the proxies whose fields about clients are used now."""

    @property
    def fronts(self) -> Mapping[str, Serves]:
        """Return the syncers that serve, by prefix."""


class StatusPages(PageGroup):
    """The handlers for what a `View` shows."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._pages = {
            "/status": Rendered(partial(self._document, Fragments(line_of)), view.edition, {"Content-Type": _JSON}),
            "/metrics": Rendered(view.metrics, view.edition, {"Content-Type": CONTENT_TYPE}),
        }

    def pages(self) -> Mapping[str, Handler]:
        """Return the handlers of GET and HEAD by raw path."""
        probes = {path: self._probe(check) for path, check in _PROBES.items()}
        return {**probes, **{path: rendered.answer for path, rendered in self._pages.items()}}

    async def close(self, _: web.Application) -> None:
        """Stop rendering."""
        for rendered in self._pages.values():
            await rendered.close()

    def _probe(self, check: Callable[[Health], Verdict]) -> Handler:
        async def probe(request: web.Request) -> web.StreamResponse:
            verdict = check(self._view.health()).without(request.query.getall("exclude", []))
            text = verdict.verbose() if "verbose" in request.query else f"{verdict.reason}\n"
            return web.Response(status=200 if verdict.good else 503, text=text, headers={"Cache-Control": "no-store"})

        return probe

    async def _document(self, lines: Fragments[bytes]) -> bytes:
        return await asyncio.to_thread(document, await self._view.status(), lines)


def document(status: Status, lines: Fragments[bytes]) -> bytes:
    """Encode a status as JSON, each mirror on its own line."""
    head = json.dumps(status_document(replace(status, mirrors=()))).removesuffix("]}")
    return b"".join([head.encode(), b"\n", b",\n".join(lines.of(status.mirrors)), b"\n]}\n"])


def line_of(mirror: MirrorStatus) -> bytes:
    """Encode the line of a mirror."""
    return json.dumps(mirror_document(mirror)).encode()

"""Health, status, metrics and the page at `/` over HTTP. Probes decide by status code; `?verbose` adds text.

Each page is rendered in a thread, at most once a second for all clients. The part of an unchanged mirror is reused.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Final, Protocol

from aiohttp import web

from mirrord.model.catalog import CatalogEntry
from mirrord.report import health
from mirrord.report.health import Health, Verdict
from mirrord.report.metrics import CONTENT_TYPE
from mirrord.report.status import MirrorStatus, Status, mirror_document, status_document
from mirrord.serve.incoming import TrustedProxies
from mirrord.serve.negotiation import packed, unchanged, wants_gzip, with_vary
from mirrord.serve.page import POLICY, Fragments, page, rows_of
from mirrord.syncer.serving import Serves
from mirrord.syncer.values import Services

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_JSON = "application/json; charset=utf-8"
_PROBES: dict[str, Callable[[Health], Verdict]] = {
    "/livez": health.live,
    "/readyz": health.ready,
    "/startupz": health.started,
    "/healthz": health.ready,  # the name in Kubernetes before 1.16 and in container health checks
}

EVERY: Final = 1.0
"""Minimum seconds between two renderings of a page."""


@dataclass(slots=True)
class _Made:
    """A rendered page: bytes, tag, start time, edition, and its gzip form."""

    body: bytes
    etag: str
    began: float
    edition: int
    small: asyncio.Task[bytes] | None = None

    async def packed(self) -> bytes:
        """Return the gzip form, which is compressed once, on demand."""
        if self.small is None:
            self.small = asyncio.create_task(asyncio.to_thread(gzip.compress, self.body, 1))
        return await asyncio.shield(self.small)


class Rendered:
    """One page."""

    def __init__(
        self,
        make: Callable[[], Awaitable[bytes]],
        edition: Callable[[], int],
        headers: Mapping[str, str],
        every: float = EVERY,
    ) -> None:
        """Render nothing yet.

        `make` returns the present page, and MUST NOT block the event loop for long; `edition` grows with each event
        that later requests have to show.
        """
        self._make, self._edition, self._every = make, edition, every
        self._headers = with_vary({"Cache-Control": "no-cache", **headers}, "Accept-Encoding")
        # Pages always differ, since they show the time.
        self._tags = (f'"{secrets.token_hex(6)}-{number}"' for number in count())
        self._made: _Made | None = None
        self._making: asyncio.Task[None] | None = None

    async def answer(self, request: web.Request) -> web.Response:
        """Send the page, or 304 if the client has it."""
        made = await self._current()
        headers, small = {**self._headers, "ETag": made.etag}, wants_gzip(request.headers.get("Accept-Encoding"))
        headers = packed(headers) if small else headers
        if unchanged(request.headers.get("If-None-Match"), headers["ETag"]):
            return web.Response(status=304, headers=headers)
        return web.Response(body=await made.packed() if small else made.body, headers=headers)

    async def close(self) -> None:
        """Stop rendering."""
        if self._making is not None:
            self._making.cancel()
            await asyncio.wait((self._making,))

    async def _current(self) -> _Made:
        asked, edition = asyncio.get_running_loop().time(), self._edition()
        while self._made is None or self._made.edition < edition or self._made.began + self._every <= asked:
            # A task that is done must not be awaited again: that returns at once, so that this would never yield.
            if self._making is None or self._making.done():
                self._making = asyncio.create_task(self._next())
                self._making.add_done_callback(lambda done: done.cancelled() or done.exception())  # the waiters get it
            await asyncio.shield(self._making)  # a cancelled client must not affect others
        return self._made

    async def _next(self) -> None:
        loop = asyncio.get_running_loop()
        if self._made is not None:
            await asyncio.sleep(self._made.began + self._every - loop.time())
        began, edition = loop.time(), self._edition()
        body = await self._make()
        self._made = _Made(body, next(self._tags), began, edition)


class View(Protocol):
    """The data of the pages."""

    def health(self) -> Health:
        """Return the health of the process."""

    async def status(self) -> Status:
        """Return the state of the mirrors; never fails, not even without a record."""

    async def catalog(self) -> Sequence[CatalogEntry]:
        """Return what is mirrored where; MirrordError: the record cannot be read."""

    async def metrics(self) -> bytes:
        """Return all series as text."""

    def edition(self) -> int:
        """Return a number that grows when a run begins or ends, and at a reload: later requests show that."""

    def services(self) -> Services:
        """Return the current services."""

    def proxies(self) -> TrustedProxies:
        """Return the proxies whose fields about clients are used now."""

    @property
    def fronts(self) -> Mapping[str, Serves]:
        """Return the syncers that serve, by prefix."""


class StatusPages:
    """The handlers for what a `View` shows."""

    def __init__(self, view: View) -> None:
        self._view = view
        html = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": POLICY}
        self._pages = {
            "/": Rendered(
                partial(self._write, page, Fragments(rows_of)),
                view.edition,
                {**html, "X-Content-Type-Options": "nosniff"},
            ),
            "/status": Rendered(
                partial(self._write, document, Fragments(line_of)), view.edition, {"Content-Type": _JSON}
            ),
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

    async def _write(self, form: Callable[[Status, Fragments], bytes], fragments: Fragments) -> bytes:
        return await asyncio.to_thread(form, await self._view.status(), fragments)


def document(status: Status, lines: Fragments) -> bytes:
    """Encode a status as JSON, each mirror on its own line."""
    head = json.dumps(status_document(replace(status, mirrors=()))).removesuffix("]}")
    return b"".join([head.encode(), b"\n", b",\n".join(lines.of(status.mirrors)), b"\n]}\n"])


def line_of(mirror: MirrorStatus) -> str:
    """Encode the line of a mirror."""
    return json.dumps(mirror_document(mirror))

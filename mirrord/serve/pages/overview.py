"""The page at `/`: all mirrors, those that fail first. A language is rendered at most once a second for all readers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from itertools import groupby
from typing import Final

from aiohttp import web

from mirrord.report.front import in_use
from mirrord.report.words import LANGUAGES, words
from mirrord.serve.pagegroup import Handler, PageGroup
from mirrord.serve.pages.frame import HEADERS, Frame, Look
from mirrord.serve.pages.listed import Listed, changes, listed_of
from mirrord.serve.pages.live import Live
from mirrord.serve.pages.rows import ATTENTION, STATES, Filter, MirrorRows, filled
from mirrord.serve.pages.templates import Html, render
from mirrord.serve.rendered import Body, Paced
from mirrord.serve.slots import FullError, Slots, client_of
from mirrord.serve.status import View
from mirrord.serve.streaming import abort

_SLOW: Final = 30.0  # seconds that a reader may take to read a filtered page


class OverviewPages(PageGroup):
    """Answers `/` and `/events`."""

    def __init__(self, view: View) -> None:
        """Render nothing yet."""
        self._view = view
        self._lists = {
            language: Paced(partial(self._listed, language, MirrorRows(language)), view.edition)
            for language in LANGUAGES
        }
        self._listings: dict[str, Listed] = {}  # the last one in each language
        self._slots = Slots(16, 4, waiting=64, patience=10.0)  # filtered pages in memory, and of one client
        self._live = Live({language: paced.current for language, paced in self._lists.items()}, changes)

    def pages(self) -> Mapping[str, Handler]:
        """Return the handlers."""
        return {"/": self._answer, "/events": self._live.answer}

    async def stop(self, _: web.Application) -> None:
        """End the streams of events."""
        await self._live.stop()

    async def close(self, _: web.Application) -> None:
        """Stop rendering."""
        for paced in self._lists.values():
            await paced.close()

    async def _listed(self, language: str, rows: MirrorRows) -> Listed:
        status = await self._view.status()
        listed = await asyncio.to_thread(listed_of, status, rows, language, self._listings.get(language))
        self._listings[language] = listed
        return listed

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        look, chosen = Look.of(request), Filter.of(request.query)
        listed = await self._lists[look.language].current()
        if chosen != Filter():
            return await self._filtered(request, listed, look, chosen)
        body = await listed.copies.get(look, partial(_body, listed, look, chosen))
        answer = await body.answer(request, HEADERS)
        look.remember(request, answer)
        return answer

    async def _filtered(self, request: web.Request, listed: Listed, look: Look, chosen: Filter) -> web.StreamResponse:
        """Send a page that nobody shares; a few are in memory at a time, and none for long."""
        try:
            async with self._slots.slot(client_of(request.remote or "")):
                body = await asyncio.to_thread(_body, listed, look, chosen)
                answer = await body.answer(request, HEADERS)
                look.remember(request, answer)
                async with asyncio.timeout(_SLOW):
                    await answer.prepare(request)
                    await answer.write_eof()
        except FullError:
            return web.Response(status=503, headers={"Retry-After": "5"}, text="too many readers\n")
        except TimeoutError:
            abort(request)
        return answer


def _body(listed: Listed, look: Look, chosen: Filter) -> Body:
    return Body(page(listed, look, chosen))


def page(listed: Listed, look: Look, chosen: Filter) -> bytes:
    """Render the page for a reader."""
    status, said = listed.status, words(look.language)
    rows = [row for row in listed.rows if chosen.takes(row)]
    groups = [
        (said.text("overview.attention") if group == ATTENTION else said.kind(group), group, list(found))
        for group, found in groupby(rows, key=lambda row: row.group)
    ]
    text = render(
        "overview.html",
        frame=Frame(look, status.now, status.version, "/", chosen.query(), in_use(status.front), status.about),
        listed=listed,
        chosen=chosen,
        states=STATES,
        kinds=sorted({row.mirror.kind for row in listed.rows}),
        targets=sorted({target.name for row in listed.rows for target in row.mirror.targets}),
        found=len(rows),
        replicas=Html(filled([listed.replicas], said, status.now)) if listed.replicas else "",
        groups=[(title, name, len(found), Html(filled(found, said, status.now))) for title, name, found in groups],
    )
    return text.encode()

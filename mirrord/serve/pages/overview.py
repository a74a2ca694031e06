"""The page at `/`: all mirrors, those that fail first. A language is rendered at most once a second for all readers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from itertools import groupby
from typing import Final

from aiohttp import web

from mirrord.report.front import FrontStatus
from mirrord.report.words import LANGUAGES, words
from mirrord.serve.pagegroup import Handler, PageGroup
from mirrord.serve.pages.frame import HEADERS, Frame, Look
from mirrord.serve.pages.listed import Listed, listed_of
from mirrord.serve.pages.live import Live
from mirrord.serve.pages.rows import ATTENTION, STATES, Filter, MirrorRows, filled
from mirrord.serve.pages.templates import Html, render
from mirrord.serve.rendered import Body, Paced
from mirrord.serve.status import View

_KEPT: Final = 32  # bodies of one second: looks and filters


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
        self._live = Live({language: paced.current for language, paced in self._lists.items()})

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
        body = listed.bodies.get((look, chosen))
        if body is None:
            body = listed.bodies[look, chosen] = asyncio.create_task(_body(listed, look, chosen))
            if len(listed.bodies) > _KEPT:
                listed.bodies.popitem(last=False)
        answer = await (await asyncio.shield(body)).answer(request, HEADERS)
        look.remember(request, answer)
        return answer


async def _body(listed: Listed, look: Look, chosen: Filter) -> Body:
    return Body(await asyncio.to_thread(page, listed, look, chosen))


def _used(front: FrontStatus | None) -> bool:
    return front is not None and bool(front.answers or front.refusals or front.cache_entries)


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
        frame=Frame(look, status.now, status.version, "/", chosen.query(), _used(status.front)),
        listed=listed,
        chosen=chosen,
        states=STATES,
        kinds=sorted({row.mirror.kind for row in listed.rows}),
        targets=sorted({target.name for row in listed.rows for target in row.mirror.targets}),
        found=len(rows),
        groups=[(title, name, len(found), Html(filled(found, said, status.now))) for title, name, found in groups],
    )
    return text.encode()

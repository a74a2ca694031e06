"""The page of the registry front, `/front`: how much of it needs no upstream, budgets, cache, images, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Final

from aiohttp import web

from mirrord.report.front import FrontStatus
from mirrord.report.status import Status
from mirrord.report.words import Words
from mirrord.serve.pagegroup import Handler, PageGroup
from mirrord.serve.pages.frame import HEADERS, Frame, Look
from mirrord.serve.pages.listed import front_troubles
from mirrord.serve.pages.templates import render
from mirrord.serve.status import View

PATH: Final = "/front"
_TONES: Final = {"local": "running", "hit": "ok", "revalidated": "deferred", "stale": "stale", "miss": "new"}
"""Colours of outcomes, in the order in which they are shown."""


class FrontPages(PageGroup):
    """Answers `/front`."""

    def __init__(self, view: View) -> None:
        """Render nothing yet."""
        self._view = view

    def pages(self) -> Mapping[str, Handler]:
        """Return the handler."""
        return {PATH: self._answer}

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        look, status = Look.of(request), await self._view.status()
        text = await asyncio.to_thread(page, status, look)
        answer = web.Response(body=text.encode(), headers={**HEADERS, "Cache-Control": "no-cache"})
        look.remember(request, answer)
        return answer


def page(status: Status, look: Look) -> str:
    """Render the page for a reader."""
    front = status.front or FrontStatus()
    frame = Frame(look, status.now, status.version, PATH, front=True)
    return render(
        "front.html",
        frame=frame,
        front=front,
        started=status.started,
        total=sum(front.answers.values()),
        tones={outcome: tone for outcome, tone in _TONES.items() if front.answers.get(outcome)},
        troubles=front_troubles(front, frame.words),
        refused=[(*name.partition(" ")[::2], count) for name, count in front.refused_names.items()],
        share=partial(share_of, frame.words),
    )


def share_of(said: Words, part: float | None) -> str:
    """Format a share of 0 to 1: `87 %`; only all is 100 %, and only none is 0 %."""
    if part is None:
        return said.text("unknown")
    percent = round(part * 100)
    return f"{percent if part in (0, 1) else min(99, max(1, percent))} %"

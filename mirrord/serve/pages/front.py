"""The page of the registry front, `/front`: how much of it needs no upstream, budgets, cache, images, refusals.

While it is open it follows `/front/events`: each message is the whole page, of which the script takes the main part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from aiohttp import web

from mirrord.report.front import FrontStatus
from mirrord.report.status import Status
from mirrord.report.words import LANGUAGES, Words
from mirrord.serve.pagegroup import Handler, PageGroup
from mirrord.serve.pages.frame import HEADERS, Frame, Look
from mirrord.serve.pages.listed import front_troubles
from mirrord.serve.pages.live import Live
from mirrord.serve.pages.templates import render
from mirrord.serve.rendered import Body, Copies, Paced, serial
from mirrord.serve.status import View

PATH: Final = "/front"
_TONES: Final = {"local": "running", "hit": "ok", "revalidated": "deferred", "stale": "stale", "miss": "new"}
"""Colours of outcomes, in the order in which they are shown."""


@dataclass(slots=True)
class FrontShown:
    """What the page shows at one moment, its number (see `Numbered`), and what was made of it."""

    status: Status
    serial: str
    copies: Copies[Look] = field(default_factory=Copies)

    @property
    def front(self) -> FrontStatus:
        """Its numbers; without a front, none."""
        return self.status.front or FrontStatus()


class FrontPages(PageGroup):
    """Answers `/front` and `/front/events`."""

    def __init__(self, view: View) -> None:
        """Render nothing yet."""
        self._view = view
        self._last: FrontShown | None = None
        self._shown = Paced(self._read, view.edition)
        self._live = Live(dict.fromkeys(LANGUAGES, self._shown.current), changed)

    def pages(self) -> Mapping[str, Handler]:
        """Return the handlers."""
        return {PATH: self._answer, f"{PATH}/events": self._live.answer}

    async def stop(self, _: web.Application) -> None:
        """End the streams of events."""
        await self._live.stop()

    async def close(self, _: web.Application) -> None:
        """Stop reading."""
        await self._shown.close()

    async def _read(self) -> FrontShown:
        last, now = self._last, FrontShown(await self._view.status(), serial())
        if last and last.front == now.front:
            now.serial = last.serial
        self._last = now
        return now

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        look, shown = Look.of(request), await self._shown.current()
        body = await shown.copies.get(look, lambda: Body(page(shown, look).encode()))
        answer = await body.answer(request, HEADERS)
        look.remember(request, answer)
        return answer


def changed(_: FrontShown, now: FrontShown, said: Words) -> str:
    """Return what readers in a language need, as JSON: the serial and the page."""
    return json.dumps({"to": now.serial, "page": page(now, Look(said.language))}, ensure_ascii=False)


def page(shown: FrontShown, look: Look) -> str:
    """Render the page for a reader."""
    status, front = shown.status, shown.front
    frame = Frame(look, status.now, status.version, PATH, front=True, about=status.about)
    return render(
        "front.html",
        frame=frame,
        serial=shown.serial,
        front=front,
        started=status.started,
        total=sum(front.answers.values()),
        tones={outcome: tone for outcome, tone in _TONES.items() if front.answers.get(outcome)},
        troubles=front_troubles(front, frame.words),
        refused=[(*name.partition(" ")[::2], times) for name, times in front.refused_names.items()],
        share=partial(share_of, frame.words),
    )


def share_of(said: Words, part: float | None) -> str:
    """Format a share of 0 to 1: `87 %`; only all is 100 %, and only none is 0 %."""
    if part is None:
        return said.text("unknown")
    percent = round(part * 100)
    return f"{percent if part in (0, 1) else min(99, max(1, percent))} %"

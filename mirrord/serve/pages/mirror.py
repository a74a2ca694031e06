"""The page of one mirror, `/mirrors/NAME`: read anew for each reader, since each one may look at another part of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Final
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from mirrord import __version__
from mirrord.report.front import in_use
from mirrord.report.mirror import (
    BEHIND,
    DAYS,
    MirrorDetail,
    Wish,
    changes_of,
    items_of,
    lacking_of,
    plots_of,
    ways_of,
)
from mirrord.report.runs import shown
from mirrord.report.status import TargetStatus
from mirrord.report.words import Words
from mirrord.serve.pagegroup import Handler, PageGroup
from mirrord.serve.pages.frame import HEADERS, Frame, Look
from mirrord.serve.pages.templates import Html, render
from mirrord.serve.rendered import tagged
from mirrord.serve.slots import FullError, Slots, client_of
from mirrord.serve.status import View
from mirrord.wire.number import whole

PREFIX: Final = "/mirrors/"
_LONGEST: Final = 1000  # characters of a part of the query
_SIGNS: Final = {"present": "ok", "other": "stale", "absent": "new"}
_TEXTS: Final = {"present": "mirror.present", "other": "mirror.other", "absent": "mirror.absent"}
_KEYS: Final = ("find", "after", "item", "before", "name")


@dataclass(frozen=True, slots=True)
class LastError:
    """An error with the targets that have it, and what to do about it."""

    targets: tuple[str, ...]
    code: str
    message: str
    advice: str
    failures: int
    success: datetime | None  # the last one at the target that has waited longest for it; None for never


class MirrorPages(PageGroup):
    """Answers `/mirrors/NAME`."""

    def __init__(self, view: View) -> None:
        """Render nothing yet."""
        self._view = view
        self._slots = Slots(4, 2, waiting=256, patience=20.0)  # pages that are made at a time, and for one client

    def below(self) -> Mapping[str, Handler]:
        """Return the handler."""
        return {PREFIX: self._answer}

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        look = Look.of(request)
        try:
            async with self._slots.slot(client_of(request.remote or "")):
                answer = await self._page(request, look)
        except FullError:
            return web.Response(status=503, headers={"Retry-After": "5"}, text="too many readers\n")
        look.remember(request, answer)
        return answer

    async def _page(self, request: web.Request, look: Look) -> web.Response:
        name = unquote(request.path.removeprefix(PREFIX))
        raw = request.raw_path.partition("?")[2]  # names of branches may be bytes that are no UTF-8
        wish = _wish(dict(parse_qsl(raw, errors="surrogateescape")))
        detail = await self._view.detail(name, wish)
        if detail is None:
            status = await self._view.status()
            near = get_close_matches(name[:_LONGEST], [mirror.name for mirror in status.mirrors], 3)
            frame = Frame(
                look, status.now, status.version, request.path, front=in_use(status.front), about=status.about
            )
            text = await asyncio.to_thread(render, "unknown.html", frame=frame, asked=name[:_LONGEST], near=near)
            return web.Response(body=text.encode(), status=404, headers={**HEADERS, "Cache-Control": "no-cache"})
        text = await asyncio.to_thread(page, detail, look, wish, __version__)
        return await tagged(text.encode()).answer(request, HEADERS)


def _wish(query: Mapping[str, str]) -> Wish:
    found = {key: query.get(key, "")[:_LONGEST] for key in _KEYS}  # a branch may be called by a space
    return Wish(found["find"].strip(), found["after"], found["item"], whole(found["before"]) or 0, found["name"])


def page(detail: MirrorDetail, look: Look, wish: Wish, version: str) -> str:
    """Render the page for a reader."""
    mirror = detail.mirror
    query = {"find": wish.find, "after": wish.after, "item": wish.item, "before": str(wish.before or "")}
    query |= {"name": wish.name}
    frame = Frame(look, detail.now, version, f"{PREFIX}{mirror.name}", query, detail.front, detail.about)
    plots = plots_of(detail.days, detail.now, frame.words)
    items = items_of(detail.items, [target.name for target in mirror.targets])
    return render(
        "mirror.html",
        frame=frame,
        detail=detail,
        mirror=mirror,
        wish=wish,
        ways=ways_of(detail, items),
        troubles=troubles_of(detail, frame.words),
        waits=mirror.health == "deferred" and not mirror.problems.count,
        lacking=lacking_of(detail.behind),
        more_lacking=len(detail.behind) > BEHIND,
        plots=[(plot, Html(plot.svg)) for plot in plots],
        items=items,
        sized=any(item.size is not None for item in items),
        built=any(item.platforms for item in items),
        signed=any(item.referrers or item.signer for item in items),
        signs=_SIGNS,
        texts=_TEXTS,
        schedule=detail.schedule,
        changes=changes_of(detail.moves),
        runs=[shown(run, frame.words) for run in detail.runs],
        first=detail.now.date() - timedelta(days=DAYS - 1),
    )


def troubles_of(detail: MirrorDetail, said: Words) -> Sequence[LastError]:
    """Return the last errors: one that several targets have is one, and that of the mirror only where none has it."""
    found: dict[tuple[str, str], list[TargetStatus]] = {}
    for target in (*detail.mirror.targets, detail.mirror):
        if target.last_error and (target is not detail.mirror or not found):
            found.setdefault((target.last_error.code, target.last_error.message), []).append(target)
    return [
        LastError(
            tuple(target.name for target in targets if target is not detail.mirror),
            code,
            message,
            said.advice(code),
            max(target.consecutive_failures for target in targets),
            min((target.last_success for target in targets if target.last_success), default=None),
        )
        for (code, message), targets in found.items()
    ]
